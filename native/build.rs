//! Links the module as Node.js loads it on each platform.

fn main() {
    napi_build::setup();
}
