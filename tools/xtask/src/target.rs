//! `cargo xtask test --on qemu`: the core's vectors and the token's scenarios on an emulated Cortex-M4.
//!
//! The image is `firmware/boards/check`: the test files of the host, compiled for the chip. What it prints must be what the
//! committed snapshots say, with the counts of the host's own run; and it must fail when its data is falsified. What the
//! token's operations cost in instructions must be near what the snapshot says: `costs.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use clap::ValueEnum;

use crate::costs;
use crate::image::Image;
use crate::step::{Failed, Step, cargo, root};

/// What tests can run on, apart from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emulator {
    /// QEMU's mps2-an386 (Cortex-M4).
    Qemu,
}

pub(crate) const SNAPSHOTS: &str = "firmware/boards/check/snapshots";
/// The folders of tests, and the emulators that share them: about as long each.
const PARTS: [&[&str]; 2] = [&["public_vectors", "own_vectors", "units"], &["token"]];
/// Seconds after which an image hangs.
const PATIENCE: &str = "900";

/// A record that is made wrong: check, file, text before the letter that changes.
const FALSIFIED: [(&str, &str, &str); 4] = [
    (
        "public_vectors::x25519::wycheproof_x25519",
        "core/tests/vectors/public/wycheproof/x25519_test.json",
        "\"shared\": \"",
    ),
    // A record that is no longer called valid must be refused, and is not.
    (
        "public_vectors::hmac::wycheproof_hmac",
        "core/tests/vectors/public/wycheproof/hmac_sha256_test.json",
        "\"result\": \"",
    ),
    (
        "public_vectors::mlkem::wycheproof_mlkem_768",
        "core/tests/vectors/public/wycheproof/mlkem_768_test.json",
        "\"K\": \"",
    ),
    (
        "own_vectors::ratchet::conversation",
        "core/tests/vectors/own/ratchet.json",
        "\"frame\": \"",
    ),
];

/// The steps, for a machine that has the emulator.
pub(crate) fn steps() -> [Step; 3] {
    let image = image();
    [
        image.build_step(),
        image.lint_step(),
        cargo("vectors and token on qemu", &[]).with(run),
    ]
}

fn image() -> Image {
    Image {
        name: "image of tests for qemu".into(),
        package: "hostchat-check",
        features: "qemu".into(),
        binary: "check-qemu",
        target: "thumbv7em-none-eabihf",
        profile: "firmware",
        libraries: "core,alloc",
    }
}

fn run() -> Result<(), Failed> {
    let image = built()?;
    let mut shown = String::new();
    std::thread::scope(|scope| {
        let parts = PARTS.map(|parts| scope.spawn(|| passes(&image, parts)));
        for part in parts {
            let part = part
                .join()
                .map_err(|_| Failed("a thread panicked".into()))??;
            shown.push_str(&part);
        }
        Ok(())
    })?;
    compare_with_host(&shown)?;
    costs::compare(&costs::measure(&image)?)?;
    for (check, file, before) in FALSIFIED {
        fails(&image, check, file, before)?;
    }
    println!("{} falsified records: each was seen", FALSIFIED.len());
    Ok(())
}

/// Builds the image of tests and shows what the token's operations cost.
pub(crate) fn show_costs() -> Result<(), Failed> {
    image().build_step().run()?;
    let image = built()?;
    print!("\nqemu, by -icount:\n{}", costs::measure(&image)?);
    Ok(())
}

fn built() -> Result<PathBuf, Failed> {
    let path = image().path();
    path.canonicalize()
        .map_err(failed("find the image of tests"))
}

pub(crate) fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failed {
    move |error| Failed(format!("cannot {what}: {error}"))
}

/// Runs the checks whose name begins with `part`, on the data below `folder`, with further arguments of the emulator.
pub(crate) fn emulate(
    image: &Path,
    part: &str,
    folder: &Path,
    arguments: &[&str],
) -> Result<(Output, String), Failed> {
    let output = Command::new("timeout")
        .args([PATIENCE, "qemu-system-arm", "-M", "mps2-an386"])
        .args(["-display", "none", "-monitor", "none", "-nodefaults"])
        .args(["-nic", "none", "-semihosting-config"])
        .arg(format!("enable=on,target=native,arg={part}"))
        .args(arguments)
        .arg("-kernel")
        .arg(image)
        .current_dir(folder)
        .output()
        .map_err(failed("start the emulator"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output, text))
}

/// Runs folders of tests, which must pass and print what their snapshots say; gives what they print.
fn passes(image: &Path, parts: &[&str]) -> Result<String, Failed> {
    let mut all = String::new();
    for part in parts {
        let started = Instant::now();
        let (output, text) = emulate(image, part, &root(), &[])?;
        if !output.status.success() {
            return Err(Failed(format!(
                "{part} on qemu ({}):\n{text}",
                output.status
            )));
        }
        // The stack depends on the compiler, and the emulator has remarks of its own.
        let (shown, remarks): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| {
            !line.starts_with("stack: ") && !line.starts_with("qemu-system-arm: ")
        });
        let shown = shown.join("\n") + "\n";
        compare_with_snapshot(part, &shown)?;
        println!(
            "{part}: {}, {}; {} s",
            shown.lines().last().unwrap_or_default(),
            remarks.last().unwrap_or(&""),
            started.elapsed().as_secs()
        );
        all.push_str(&shown);
    }
    Ok(all)
}

/// Whether the snapshots are to be written anew.
pub(crate) fn is_regenerating() -> bool {
    std::env::var_os("HOSTCHAT_REGENERATE").is_some_and(|value| value == "1")
}

fn compare_with_snapshot(part: &str, shown: &str) -> Result<(), Failed> {
    let path = root().join(SNAPSHOTS).join(format!("{part}.txt"));
    if is_regenerating() {
        fs::write(&path, shown).map_err(failed("write the snapshot"))?;
    }
    let snapshot = fs::read_to_string(&path).map_err(failed("read the snapshot"))?;
    if snapshot == shown {
        return Ok(());
    }
    let (was, is) = snapshot
        .lines()
        .chain(std::iter::repeat("(end)"))
        .zip(shown.lines().chain(["(end)"]))
        .find(|(was, is)| was != is)
        .unwrap_or(("more", "(end)"));
    Err(Failed(format!(
        "{part} on qemu differs from its snapshot in {SNAPSHOTS}:\n  was: {was}\n  is:  {is}\n\
         HOSTCHAT_REGENERATE=1 cargo xtask test --on qemu writes the snapshots anew"
    )))
}

/// The host's run of the public vectors must have counted the same.
fn compare_with_host(shown: &str) -> Result<(), Failed> {
    let host = cargo(
        "public vectors on the host",
        &[
            "test",
            "--quiet",
            "--workspace",
            "--test",
            "public_vectors",
            "--",
            "--show-output",
        ],
    )
    .output()?;
    let counts = |text: &str| {
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.contains(" valid passed, "))
            .map(|line| line.trim().to_owned())
            .collect();
        lines.sort();
        lines
    };
    let (host, chip) = (counts(&host), counts(shown));
    if host != chip || chip.is_empty() {
        return Err(Failed(format!(
            "the counts differ: on the host\n{}\non the chip\n{}",
            host.join("\n"),
            chip.join("\n")
        )));
    }
    println!("{} counts of public vectors: as on the host", chip.len());
    Ok(())
}

/// Runs one check on a copy of its file with one letter changed; it must fail, and by itself.
fn fails(image: &Path, check: &str, file: &str, before: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir().map_err(failed("make a folder"))?;
    let copy = folder.path().join(file);
    let mut data = fs::read(root().join(file)).map_err(failed("read the vectors"))?;
    let found = data
        .windows(before.len())
        .position(|window| window == before.as_bytes());
    let Some(letter) = found.and_then(|at| data.get_mut(at + before.len())) else {
        return Err(Failed(format!("{file} has no {before}")));
    };
    *letter = if *letter == b'0' { b'1' } else { b'0' };
    fs::create_dir_all(copy.parent().unwrap_or(folder.path())).map_err(failed("make a folder"))?;
    fs::write(&copy, &data).map_err(failed("copy the vectors"))?;
    let (output, text) = emulate(image, check, folder.path(), &[])?;
    if output.status.code() == Some(1) && text.contains("panicked at") {
        return Ok(());
    }
    Err(Failed(format!(
        "{check} did not see a falsified record ({}):\n{text}",
        output.status
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::step::root;

    /// The names of the unit tests below a folder; one that the image cannot have is an error.
    fn units(folder: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("sources") {
            let path = entry.expect("an entry").path();
            // What runs on a host only: files, system calls.
            if path.ends_with("firmware/token/src/host") {
                continue;
            }
            if path.is_dir() {
                units(&path, names);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                assert_ne!(line, "#[test]", "{}: not for the chip", path.display());
                if line == "#[cfg_attr(test, test)]" {
                    let name = lines.next().and_then(|line| line.strip_prefix("pub fn "));
                    let name = name.and_then(|line| line.split('(').next());
                    names.push(name.expect("a function").to_owned());
                }
            }
        }
    }

    #[test]
    fn every_unit_test_of_core_and_token_is_in_the_list_of_the_image() {
        let list = fs::read_to_string(root().join("firmware/boards/check/src/list.rs"));
        let list = list.expect("the list");
        let mut names = Vec::new();
        for folder in ["core/src", "firmware/token/src"] {
            units(&root().join(folder), &mut names);
        }
        assert!(names.len() > 50, "{}", names.len());
        for name in names {
            let listed = |line: &str| line.trim().trim_end_matches(';') == name;
            assert!(list.lines().any(listed), "{name} is not listed");
        }
    }
}
