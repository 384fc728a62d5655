//! Compiles the binding anew when `napi build` collects the types that it exports, and does nothing else.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=NAPI_FORCE_BUILD_PROVISION_VM");
}
