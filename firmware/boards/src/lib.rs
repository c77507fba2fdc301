//! What boards have of their own behind the token's `Env`: serial port, flash, random numbers, button, clock.
//!
//! ```text
//!  src/bin/token-<board>.rs ── wiring ──▶ src/<board>/* (registers) + hostchat-token (everything else)
//! ```
//!
//! One feature per board, and they exclude each other; without one this library is empty, so that builds of the whole
//! workspace for the host pass it by. Build an image with `cargo xtask firmware --board <board>`.
#![no_std]

#[cfg(feature = "pico")]
pub mod pico;
#[cfg(feature = "qemu")]
pub mod qemu;
#[cfg(any(feature = "pico", feature = "qemu"))]
pub mod serve;
