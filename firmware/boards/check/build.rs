//! Hands the memory map and the linker script to the linker.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=check.x");
    let chip = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    if !chip {
        return;
    }
    // A package's own folder is searched before those of its dependencies: this map comes before the token's.
    if let Err(error) = fs::copy("check.x", out.join("memory.x")) {
        println!("cargo:error=check.x: {error}");
    }
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["-Tlink.x", "--nmagic"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
