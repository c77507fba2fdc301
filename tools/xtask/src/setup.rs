//! Set-up on a bare machine: says what it installs, installs it by name, and asks nothing.

use std::path::Path;

use crate::step::{Failed, cargo, program};

/// Chips that the core and the token application must build for, and the boards they stand for.
pub(crate) const CHIP_TARGETS: [&str; 3] = [
    "thumbv6m-none-eabi",
    "thumbv7em-none-eabihf",
    "thumbv8m.main-none-eabihf",
];

/// What the tests start: pairs of (program, package). Only the program of `nats-server` is used: the service that Debian
/// may start with it is not needed, and the tests' own servers take free ports.
pub(crate) const FOR_TESTS: [(&str, &str); 4] = [
    ("strace", "strace"),
    ("faketime", "faketime"),
    ("/usr/sbin/nats-server", "nats-server"),
    ("chromium-headless-shell", "chromium-headless-shell"),
];

/// How this machine builds for a chip.
pub(crate) enum ChipBuild {
    /// The target's library is installed.
    Installed,
    /// The library is built from Debian's sources by Debian's compiler, for machines where rustup has no such target.
    DebianSources,
}

/// Makes sure of a C compiler, which SQLite and ring are built with.
pub(crate) fn c_compiler() -> Result<(), Failed> {
    debian_packages(&[("cc", "gcc"), ("cc", "libc6-dev")])
}

/// Installs the Debian package behind each program that is missing: pairs of (program, package).
pub(crate) fn debian_packages(wanted: &[(&str, &str)]) -> Result<(), Failed> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(name, _)| !on_path(name))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing Debian packages: {}", missing.join(" "));
    let sudo = if on_path("sudo") && !rustix::process::geteuid().is_root() {
        Some("sudo")
    } else {
        None
    };
    let run = |arguments: &[&str]| match sudo {
        Some(sudo) => program("apt-get", sudo, &[&["apt-get"], arguments].concat()).run(),
        None => program("apt-get", "apt-get", arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run(),
    };
    run(&["update", "-q"])?;
    run(&[
        &["install", "-q", "-y", "--no-install-recommends"],
        missing.as_slice(),
    ]
    .concat())
}

/// Installs the crate behind a program that is missing.
pub(crate) fn cargo_program(name: &str, krate: &str) -> Result<(), Failed> {
    if on_path(name) {
        return Ok(());
    }
    println!("installing {krate} with cargo");
    cargo(krate, &["install", "--locked", krate]).run()
}

/// Makes sure that `target` can be built for: installed, else by rustup, else from Debian's sources.
pub(crate) fn chip_target(target: &str) -> Result<ChipBuild, Failed> {
    if target_installed(target) {
        return Ok(ChipBuild::Installed);
    }
    if on_path("rustup") {
        println!("installing the Rust target {target} with rustup");
        if program("rustup", "rustup", &["target", "add", target])
            .run()
            .is_ok()
            && target_installed(target)
        {
            return Ok(ChipBuild::Installed);
        }
    }
    println!("rustup has no {target} here: building its library from Debian's rust-web-src");
    debian_packages(&[("/usr/bin/rustc", "rustc-web"), ("ld.lld", "lld")])?;
    if !Path::new("/usr/src/rustc-web").exists() {
        debian_packages(&[("(sources)", "rust-web-src")])?;
    }
    Ok(ChipBuild::DebianSources)
}

fn target_installed(target: &str) -> bool {
    program(
        "rustc",
        "rustc",
        &["--print", "target-libdir", "--target", target],
    )
    .output()
    .is_ok_and(|path| Path::new(path.trim()).is_dir())
}

fn on_path(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(name).is_file())
}
