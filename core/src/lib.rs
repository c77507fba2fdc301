//! The hostchat protocol: bytes in, bytes out.
//!
//! ```text
//!            host/client          firmware/token            host/relay
//!                │                      │                       │
//!   icd ◀────────┴── commands, channel ─┘                       │
//!   handshake, ratchet ◀────────────────┘                       │
//!   wire ◀──────── envelopes, relay messages ───────────────────┘
//!   crypto: the only door to cryptographic crates
//! ```
//!
//! No IO, no clock, no global random numbers, no allocation, no logging: time, randomness and buffers are arguments.
//! One invariant holds everywhere: **an input that is refused changes no state.** `core/SPEC.md` beside this crate has the
//! exact bytes; code cites its sections.
//!
//! Features: `wire` (what a relay needs), `icd` (what the host side of a token needs), `protocol` (everything).

#![no_std]

#[cfg(any(test, feature = "units"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "wire")]
pub mod crypto;
pub mod error;
#[cfg(feature = "protocol")]
pub mod handshake;
#[cfg(feature = "icd")]
pub mod icd;
#[cfg(feature = "protocol")]
pub mod ratchet;
pub mod secret;
#[cfg(feature = "wire")]
pub mod wire;
