//! Our own vectors, one file for each step of the protocol: fixed randomness in, every intermediate value and the
//! complete bytes out (`tests/vectors/own`, described in SPEC section 17).
//!
//! Each module computes everything twice: with the crate, and once more from the primitives, by the words of SPEC and
//! with its own spelling of labels and encodings. Then the values are compared with the file;
//! `HOSTCHAT_REGENERATE=1` writes the files anew. `firmware/boards/check` includes this file and does the same on a chip.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

extern crate alloc;

mod doc;
pub(crate) mod first_message;
pub(crate) mod identity;
pub(crate) mod padding;
pub(crate) mod pairing;
pub(crate) mod ratchet;
mod second;
pub(crate) mod token;

#[cfg(not(test))]
use crate::host::text;

/// Where the vector files are, seen from the root of the repository.
const FOLDER: &str = "core/tests/vectors/own";

/// Reads a text file of the repository.
#[cfg(test)]
fn text(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
