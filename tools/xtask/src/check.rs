//! Checks of our own: the rules of the house (who may depend on what), and builds for the chips.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::image::for_chip;
use crate::references;
use crate::setup::CHIP_TARGETS;
use crate::step::{Failed, Step, cargo, root};

/// What the relay must not contain: it cannot decrypt because it has nothing to decrypt with.
const NOT_IN_RELAY: [&str; 8] = [
    "aes",
    "ctr",
    "cmac",
    "aes-siv",
    "hkdf",
    "x25519-dalek",
    "ml-kem",
    "hostchat-token",
];

/// Crates and the folders that alone may name them.
const DOORS: [(&[&str], &[&str]); 4] = [
    (
        &[
            "aes",
            "ctr",
            "cmac",
            "cipher",
            "hmac",
            "hkdf",
            "sha2",
            "ml_kem",
            "curve25519_dalek",
            "x25519_dalek",
            "ed25519_dalek",
        ],
        &["core/src/crypto"],
    ),
    // The PIN in the core; the operator's password, which opens no message, in the relay.
    (&["argon2"], &["core/src/crypto", "host/relay/src/web"]),
    (
        &[
            "embassy_executor",
            "embassy_rp",
            "embassy_nrf",
            "cortex_m",
            "defmt",
        ],
        &["firmware/boards"],
    ),
    (
        &["tokio", "axum", "rusqlite", "async_nats"],
        &["host", "tests", "tools"],
    ),
];

/// What SQL begins with. It is constant text with bound parameters.
const SQL: [&str; 10] = [
    "SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE ", "DROP ", "ALTER ", "ATTACH ", "PRAGMA ",
    "VACUUM ",
];

/// The only place where SQL is put together: from names of tables and columns that are constants there.
const SQL_DOOR: &str = "host/client/src/vault/mod.rs";

/// What people read.
const DOCUMENTS: [&str; 5] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    references::SPEC,
    "host/relay/README.md",
];

/// Most lines of code in one file, its tests not counted.
const MAX_LINES: usize = 600;

/// The rules that `CONTRIBUTING.md` states and a program can check.
pub(crate) fn house() -> Result<(), Failed> {
    let tree = cargo(
        "dependencies of the relay",
        &[
            "tree",
            "--package",
            "hostchat-relay",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ],
    )
    .output()?;
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut wrong: Vec<String> = NOT_IN_RELAY
        .iter()
        .filter(|name| names.contains(*name))
        .map(|name| format!("hostchat-relay depends on {name}"))
        .collect();
    if names.len() < 20 {
        wrong.push(format!(
            "`cargo tree` shows only {} packages: this check sees nothing",
            names.len()
        ));
    }

    let spec = std::fs::read_to_string(root().join(references::SPEC))
        .map_err(|error| Failed(format!("{}: {error}", references::SPEC)))?;
    let sections = references::sections(&spec);
    let mut files = Vec::new();
    for folder in ["core/src", "firmware", "host", "tests", "tools"] {
        rust_files(&root().join(folder), &mut files)?;
    }
    let documents = DOCUMENTS.iter().map(|document| root().join(document));
    for file in documents.chain(files.iter().cloned()) {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Failed(format!("{}: {error}", file.display())))?;
        let folder = file.parent().unwrap_or(&file);
        let exists = |named: &Path| root().join(named).exists() || folder.join(named).exists();
        if !file.ends_with("xtask/src/references.rs") {
            let dead = references::dead(&text, &sections, exists).into_iter();
            wrong.extend(dead.map(|what| format!("{}: there is no {what}", file.display())));
        }
    }
    for file in &files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failed(format!("{}: {error}", file.display())))?;
        let place = file.strip_prefix(root()).unwrap_or(file);
        let code: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .collect();
        if code.len() > MAX_LINES {
            wrong.push(format!(
                "{}: {} lines, at most {MAX_LINES}",
                place.display(),
                code.len()
            ));
        }
        if !is_test(place) && !place.starts_with("tools") {
            let code = code.join("\n");
            if makes_sql(&code) && place != Path::new(SQL_DOOR) {
                wrong.push(format!("{}: puts SQL together", place.display()));
            }
            if code.contains("process::Command") {
                wrong.push(format!("{}: starts a program", place.display()));
            }
        }
        for (crates, doors) in DOORS {
            let inside = doors.iter().any(|door| place.starts_with(door));
            for name in crates.iter().filter(|_| !inside && !is_test(place)) {
                if code.iter().any(|line| names_crate(line, name)) {
                    wrong.push(format!(
                        "{}: names the crate {name}; only {} may",
                        place.display(),
                        doors.join(", ")
                    ));
                }
            }
        }
    }
    wrong.extend(crate::floors::check()?);
    println!(
        "{} packages in the relay, {} files looked at",
        names.len(),
        files.len()
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failed(format!("house rules:\n  {}", wrong.join("\n  "))))
    }
}

/// Tests may use the crates behind our own code as oracles.
fn is_test(place: &Path) -> bool {
    place.components().any(|part| part.as_os_str() == "tests")
}

/// Whether text that begins as SQL is formatted.
fn makes_sql(code: &str) -> bool {
    code.match_indices("format!(").any(|(at, opening)| {
        let rest = code[at + opening.len()..].trim_start();
        let text = rest.trim_start_matches(['r', '#', '"']).trim_start();
        SQL.iter().any(|word| text.starts_with(word))
    })
}

/// Whether a line of code uses the crate `name`: as the first part of a path.
fn names_crate(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with("//") {
        return false;
    }
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let path_start =
            before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.')));
        let rest = &line[at + name.len()..];
        // `hkdf::<Key>(..)` is a call of our own function of that name.
        path_start && rest.starts_with("::") && !rest.starts_with("::<")
    })
}

pub(crate) fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failed> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Failed(format!("{}: {error}", folder.display())))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name != "target" && name != "node_modules")
            {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Builds of the `no_std` crates for every chip.
pub(crate) fn chips() -> Vec<Step> {
    let mut steps = Vec::new();
    for target in CHIP_TARGETS {
        for (package, features) in [
            ("hostchat-core", "hostchat-core/protocol"),
            ("hostchat-token", ""),
        ] {
            let name = format!("{package} for {target}");
            let arguments = [
                "build",
                "--release",
                "--package",
                package,
                "--features",
                features,
                "--target",
                target,
            ];
            steps.push(for_chip(cargo(name, &arguments), target, "core"));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::makes_sql;

    #[test]
    fn sql_that_is_put_together_is_seen() {
        for wrong in [
            "let sql = format!(\"SELECT x FROM {table}\");",
            "format!(\n    r#\"DELETE FROM {table}\"#\n)",
        ] {
            assert!(makes_sql(wrong), "{wrong}");
        }
        for right in [
            "prepare(\"SELECT x FROM y WHERE z = ?1\")",
            "format!(\"{count} selected\")",
        ] {
            assert!(!makes_sql(right), "{right}");
        }
    }
}
