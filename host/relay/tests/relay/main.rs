//! The relay from outside: real TLS, real WebSockets, a real database, and clients that do not always behave.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

mod client;
mod harness;

mod mailbox;
