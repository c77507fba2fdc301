//! Our own vectors, one file for each step of the protocol: fixed randomness in, every intermediate value and the
//! complete bytes out (`tests/vectors/own`, described in SPEC section 17).
//!
//! Each module computes everything twice: with the crate, and once more from the primitives, by the words of SPEC and
//! with its own spelling of labels and encodings. Then the values are compared with the file;
//! `HOSTCHAT_REGENERATE=1` writes the files anew.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

mod doc;
mod first_message;
mod identity;
mod padding;
mod pairing;
mod ratchet;
mod second;
mod token;
