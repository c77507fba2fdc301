//! Two-peer tests of the handshakes and the ratchet, without IO, in virtual time.
//!
//! Everything random comes from a seed that is printed when a test fails. `HOSTCHAT_SCHEDULES` sets how many
//! schedules the property test runs.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

mod alteration;
mod first_message;
mod forger;
mod guessing;
mod impersonation;
mod link;
mod misbinding;
mod pairing;
mod ratchet;
mod rollback;
mod schedules;
mod skipped;
mod stored;
mod support;
