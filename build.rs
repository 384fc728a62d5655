//! Links the Node.js binding where it is built; nothing else happens at build time.

fn main() {
    #[cfg(feature = "binding")]
    napi_build::setup();
}
