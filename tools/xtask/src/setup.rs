//! Set-up on a bare machine: says what it installs, installs it by name, and asks nothing.

use std::path::Path;

use crate::step::{Failed, cargo, program, root};

/// Chips that the core and the token application must build for, and the boards they stand for.
pub(crate) const CHIP_TARGETS: [&str; 3] = [
    "thumbv6m-none-eabi",
    "thumbv7em-none-eabihf",
    "thumbv8m.main-none-eabihf",
];

/// What the tests start: pairs of (program, package). Only the program of `nats-server` is used: the service that Debian
/// may start with it is not needed, and the tests' own servers take free ports.
pub(crate) const FOR_TESTS: [(&str, &str); 6] = [
    ("strace", "strace"),
    ("faketime", "faketime"),
    ("microsocks", "microsocks"),
    ("/usr/sbin/ip", "iproute2"),
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

/// Makes sure of `target/nats-server/usr/sbin/nats-server`, 2.10 or later: earlier ones lose what they have acknowledged when
/// one of several is cut off, and cannot sync before. Where this Debian has an older one, that of Debian 13 is unpacked
/// there, from the same mirror, and not installed; where it is not to be had, the tests that need it say that they are left
/// out.
pub(crate) fn newer_nats_server() {
    let own = "/usr/sbin/nats-server";
    let folder = root().join("target/nats-server");
    let program_there = folder.join("usr/sbin/nats-server");
    if program_there.is_file() {
        return;
    }
    let version = program("version", own, &["--version"]).output();
    let minor = version.ok().and_then(|text| {
        let (minor, _) = text
            .trim()
            .strip_prefix("nats-server: v2.")?
            .split_once('.')?;
        minor.parse::<u32>().ok()
    });
    let done = if minor.is_some_and(|minor| minor >= 10) {
        std::fs::create_dir_all(folder.join("usr/sbin"))
            .and_then(|()| std::os::unix::fs::symlink(own, &program_there))
            .map_err(|error| Failed(error.to_string()))
    } else {
        println!("unpacking nats-server of Debian 13 in target/nats-server");
        unpack_from_debian_13("nats-server", &folder)
    };
    if let Err(Failed(why)) = done {
        println!("not to be had, so that tests which need it are left out: {why}");
    }
}

fn unpack_from_debian_13(package: &str, folder: &Path) -> Result<(), Failed> {
    let wrong = |error: std::io::Error| Failed(format!("{}: {error}", folder.display()));
    let form = [
        "indextargets",
        "--format",
        "$(LABEL)|$(COMPONENT)|$(SITE)",
        "Created-By: Packages",
    ];
    let indexes = program("apt's sources", "apt-get", &form).output()?;
    let mut sites = indexes.lines();
    let site = sites
        .find_map(|line| line.strip_prefix("Debian|main|"))
        .ok_or_else(|| Failed("this is no Debian".to_owned()))?;
    let apt = folder.join("apt");
    std::fs::create_dir_all(apt.join("lists/partial")).map_err(wrong)?;
    let here = std::fs::canonicalize(&apt).map_err(wrong)?;
    let at = here.display();
    // Of the machine's own, only the keys of Debian's archive are used, and nothing is changed.
    let settings = format!(
        "Dir::Etc::SourceList \"{at}/sources\";\nDir::Etc::SourceParts \"/dev/null\";\n\
         Dir::State::Lists \"{at}/lists\";\nDir::Cache \"{at}\";\nAPT::Sandbox::User \"root\";\n"
    );
    let sources = format!("deb {site} trixie main\n");
    for (name, text) in [("settings", settings), ("sources", sources)] {
        std::fs::write(here.join(name), text).map_err(wrong)?;
    }
    let settings = here.join("settings").display().to_string();
    for arguments in [["-q", "update"], ["download", package]] {
        let step = program("apt-get", "apt-get", &arguments).env("APT_CONFIG", &settings);
        step.at(&here).run()?;
    }
    let mut files = std::fs::read_dir(&here).map_err(wrong)?.flatten();
    let file = files
        .find(|file| file.path().extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| Failed(format!("no {package} was downloaded")))?;
    program("dpkg", "dpkg", &["-x"])
        .args(&[&file.path().display().to_string(), ".."])
        .at(&here)
        .run()
}

/// Installs the crate behind a program that is missing.
pub(crate) fn cargo_program(name: &str, krate: &str) -> Result<(), Failed> {
    if on_path(name) {
        return Ok(());
    }
    println!("installing {krate} with cargo");
    cargo(krate, &["install", "--locked", krate]).run()
}

/// Makes sure of nightly Rust, which cargo-fuzz needs.
pub(crate) fn nightly_rust() -> Result<(), Failed> {
    let there = program("nightly", "rustc", &["+nightly", "--version"]).output();
    if there.is_ok() {
        return Ok(());
    }
    println!("installing nightly Rust with rustup");
    let install = ["toolchain", "install", "nightly", "--profile", "minimal"];
    program("rustup", "rustup", &install).run()
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

pub(crate) fn on_path(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(name).is_file())
}
