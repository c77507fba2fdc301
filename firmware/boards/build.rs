//! Hands the board's memory map and the linker script to the linker, so that no global flags are needed.

use std::path::PathBuf;
use std::{env, fs};

/// Feature (as cargo names it to build scripts), binary, memory map, linker scripts.
const BOARDS: [(&str, &str, &str, &[&str]); 2] = [
    (
        "CARGO_FEATURE_PICO",
        "token-pico",
        "memory/pico.x",
        &["-Tlink.x", "-Tlink-rp.x"],
    ),
    (
        "CARGO_FEATURE_QEMU",
        "token-qemu",
        "memory/qemu.x",
        &["-Tlink.x"],
    ),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let chip = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    for (feature, binary, memory, scripts) in BOARDS {
        println!("cargo:rerun-if-changed={memory}");
        if !chip || env::var_os(feature).is_none() {
            continue;
        }
        if let Err(error) = fs::copy(memory, out.join("memory.x")) {
            println!("cargo:error={memory}: {error}");
        }
        println!("cargo:rustc-link-search={}", out.display());
        for argument in scripts.iter().chain(&["--nmagic"]) {
            println!("cargo:rustc-link-arg-bin={binary}={argument}");
        }
    }
}
