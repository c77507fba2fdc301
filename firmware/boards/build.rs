//! Hands the board's memory map and the linker script to the linker, so that no global flags are needed.

use std::path::PathBuf;
use std::{env, fs};

/// Feature (as cargo names it to build scripts), binary, memory map, linker scripts.
const BOARDS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "CARGO_FEATURE_NRF52840",
        "token-nrf52840",
        "memory/nrf52840.x",
        &["-Tlink.x"],
    ),
    (
        "CARGO_FEATURE_PICO",
        "token-pico",
        "memory/pico.x",
        &["-Tlink.x", "-Tlink-rp.x"],
    ),
    (
        "CARGO_FEATURE_PICO2",
        "token-pico2",
        "memory/pico2.x",
        &["-Tlink.x"],
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
        let log = env::var_os("CARGO_FEATURE_LOG").map(|_| "-Tdefmt.x");
        let others = ["--nmagic"].into_iter().chain(log);
        for argument in scripts.iter().copied().chain(others) {
            println!("cargo:rustc-link-arg-bin={binary}={argument}");
        }
    }
}
