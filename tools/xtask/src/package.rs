//! `cargo xtask package`: what an operator installs a relay from, in `target/package`.
//!
//! ```text
//!   hostchat-relay_VERSION_ARCH.deb             with user, folder and service
//!   hostchat-relay-VERSION-ARCH-linux.tar.gz    the program, its README, the unit, sample alerts, licences
//!   Containerfile                               an image made of the tarball beside it: podman build .
//!   SHA256SUMS
//! ```

use std::fs;
use std::path::Path;

use crate::setup;
use crate::step::{Failed, cargo, program, root};

/// What the tarball has: where it stands, with its mode.
const FILES: [(&str, u32); 6] = [
    ("target/release/hostchat-relay", 0o755),
    ("host/relay/README.md", 0o644),
    ("host/relay/packaging/hostchat-relay.service", 0o644),
    ("host/relay/packaging/alerts.yml", 0o644),
    ("LICENSE-MIT", 0o644),
    ("LICENSE-APACHE", 0o644),
];
/// Where `cargo-deb` is put if the machine has none.
const TOOLS: &str = "target/tools";
/// Known to work here.
const CARGO_DEB: &str = "^3";

/// Builds everything anew and looks at what came out.
pub(crate) fn package() -> Result<(), Failed> {
    setup::c_compiler()?;
    cargo(
        "the relay",
        &["build", "--release", "--package", "hostchat-relay"],
    )
    .run()?;
    let version = version()?;
    let folder = root().join("target/package");
    // Nothing of an earlier version is taken for this one.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(failed("target/package"))?;
    debian(&folder)?;
    let tarball = tarball(&folder, &version)?;
    container(&folder, &tarball)?;
    sums(&folder)?;
    println!("\nin target/package:");
    for name in names(&folder)? {
        println!("  {name}");
    }
    Ok(())
}

/// The version that the program itself tells.
fn version() -> Result<String, Failed> {
    let relay = root().join("target/release/hostchat-relay");
    let relay = relay.to_string_lossy().into_owned();
    let text = program("version", &relay, &["--version"]).output()?;
    let version = text.trim().strip_prefix("hostchat-relay ");
    version
        .map(str::to_owned)
        .ok_or_else(|| Failed(format!("the relay says {text:?} to --version")))
}

fn debian(folder: &Path) -> Result<(), Failed> {
    let own = root().join(TOOLS).join("bin/cargo-deb");
    let there = setup::on_path("cargo-deb") || own.exists();
    if !there {
        println!("installing cargo-deb in {TOOLS}");
        cargo(
            "cargo-deb",
            &[
                "install",
                "--locked",
                "--root",
                TOOLS,
                "--version",
                CARGO_DEB,
                "cargo-deb",
            ],
        )
        .run()?;
    }
    let deb = if own.exists() {
        own.to_string_lossy().into_owned()
    } else {
        "cargo-deb".to_owned()
    };
    let folder = folder.to_string_lossy().into_owned();
    program(
        "Debian package",
        &deb,
        &[
            "--package",
            "hostchat-relay",
            "--no-build",
            "--output",
            &folder,
        ],
    )
    .run()
}

/// Packs the files under one folder, the same bytes from the same files, and looks whether it can be unpacked and run.
fn tarball(folder: &Path, version: &str) -> Result<String, Failed> {
    let arch = std::env::consts::ARCH;
    let name = format!("hostchat-relay-{version}-{arch}-linux");
    let staged = folder.join(&name);
    fs::create_dir_all(&staged).map_err(failed(&name))?;
    for (file, mode) in FILES {
        let from = root().join(file);
        let to = staged.join(from.file_name().unwrap_or_default());
        fs::copy(&from, &to).map_err(failed(file))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&to, mode).map_err(failed(file))?;
    }
    let packed = format!("{name}.tar.gz");
    program(
        "tarball",
        "tar",
        &[
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
            "--use-compress-program=gzip -9 -n",
            "-cf",
            &packed,
            &name,
        ],
    )
    .at(folder)
    .run()?;
    fs::remove_dir_all(&staged).map_err(failed(&name))?;
    let scratch = tempfile::tempdir().map_err(failed("a folder to try the tarball in"))?;
    program("unpack the tarball", "tar", &["-xf"])
        .args(&[&folder.join(&packed).to_string_lossy()])
        .at(scratch.path())
        .run()?;
    let relay = scratch.path().join(&name).join("hostchat-relay");
    program(
        "run from the tarball",
        &relay.to_string_lossy(),
        &["--help"],
    )
    .output()?;
    let there = names(&scratch.path().join(&name))?.len();
    if there == FILES.len() {
        Ok(packed)
    } else {
        Err(Failed(format!("the tarball has {there} files")))
    }
}

/// The container file, which names the tarball of this version.
fn container(folder: &Path, tarball: &str) -> Result<(), Failed> {
    let template = root().join("host/relay/packaging/Containerfile");
    let text = fs::read_to_string(&template).map_err(failed("Containerfile"))?;
    let line = "ARG TARBALL=hostchat-relay.tar.gz";
    if !text.contains(line) {
        return Err(Failed(format!("Containerfile has no line {line:?}")));
    }
    let text = text.replace(line, &format!("ARG TARBALL={tarball}"));
    fs::write(folder.join("Containerfile"), text).map_err(failed("Containerfile"))
}

fn sums(folder: &Path) -> Result<(), Failed> {
    let names = names(folder)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sums = program("checksums", "sha256sum", &names)
        .at(folder)
        .output()?;
    fs::write(folder.join("SHA256SUMS"), sums).map_err(failed("SHA256SUMS"))
}

fn names(folder: &Path) -> Result<Vec<String>, Failed> {
    let what = folder.display().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(&what))? {
        let entry = entry.map_err(failed(&what))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Failed + use<> {
    let what = what.to_owned();
    move |error| Failed(format!("{what}: {error}"))
}
