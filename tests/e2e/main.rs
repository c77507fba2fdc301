//! Whole conversations between real processes.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod board_qemu;
mod conversation;
mod hostile_codes;
mod hostile_first;
mod hostile_pairing;
mod support;
