//! Whole conversations between real processes.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod codes;
mod conversation;
mod errors_home;
mod errors_token;
mod hostile_codes;
mod hostile_first;
mod hostile_pairing;
mod hostile_peer;
mod hostile_relay_identity;
mod hostile_relay_messages;
mod hostile_relay_pairing;
mod hostile_support;
mod support;
