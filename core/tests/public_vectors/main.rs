//! The public test vectors of suite 1, one module per algorithm; the data and its sources are in `tests/vectors/public`.
//!
//! Each test prints how many vectors were valid and passed, invalid and refused, or skipped and why, and
//! checks these counts, so that a vector cannot be lost unnoticed. What runs on a chip too, `firmware/boards/check` lists: it
//! includes this file, and reads the same data.
#![expect(
    clippy::expect_used,
    reason = "a test that meets something unexpected should stop there"
)]

extern crate alloc;

pub(crate) mod argon2id;
pub(crate) mod cmac;
pub(crate) mod cpace;
pub(crate) mod ed25519;
pub(crate) mod hkdf;
pub(crate) mod hmac;
pub(crate) mod mlkem;
pub(crate) mod ristretto;
#[cfg(test)]
mod secrets;
pub(crate) mod siv;
#[cfg(test)]
mod siv_oracle;
#[cfg(test)]
mod stretch;
pub(crate) mod x25519;

use alloc::format;
use alloc::vec::Vec;

use serde_json::Value;

#[cfg(not(test))]
use crate::host::text;

/// Reads a text file of the repository.
#[cfg(test)]
fn text(path: &str) -> String {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads a JSON vector file.
fn json(path: &str) -> Value {
    let text = text(&format!("core/tests/vectors/public/{path}"));
    serde_json::from_str(&text).expect("vector file is JSON")
}

/// Gives the group and the test of each case of a Wycheproof file.
fn wycheproof(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let groups = file["testGroups"].as_array().expect("groups");
    groups.iter().flat_map(|group| {
        let tests = group["tests"].as_array().expect("tests");
        tests.iter().map(move |test| (group, test))
    })
}

/// Decodes a hex field.
fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex field")).expect("hex")
}

/// Decodes a hex field of known length.
fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().expect("length")
}

/// What became of the vectors of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    valid: usize,
    invalid: usize,
    skipped: usize,
}

impl Counts {
    /// Records a vector that should be accepted, or refused.
    fn record(&mut self, test: &Value, should_pass: bool, passed: bool) {
        assert_eq!(passed, should_pass, "{test}");
        if should_pass {
            self.valid += 1;
        } else {
            self.invalid += 1;
        }
    }

    /// Prints the counts and compares them with what the file is known to hold.
    fn finish(self, name: &str, why_skipped: &str, valid: usize, invalid: usize, skipped: usize) {
        println!(
            "{name}: {} valid passed, {} invalid refused, {} skipped{}{why_skipped}",
            self.valid,
            self.invalid,
            self.skipped,
            if why_skipped.is_empty() { "" } else { ": " },
        );
        assert_eq!(
            self,
            Self {
                valid,
                invalid,
                skipped
            },
            "{name}"
        );
    }
}
