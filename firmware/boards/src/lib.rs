//! What boards have of their own behind the token's `Env`: serial port, flash, random numbers, button, clock.
//!
//! ```text
//!  src/bin/token-<board>.rs ── wiring ──▶ device/* (what boards with a USB port share) ──▶ hostchat-token (everything else)
//!                                └──────▶ rp/*, nrf/*, qemu/* (registers)
//! ```
//!
//! One feature per board, and they exclude each other; without one this library is empty, so that builds of the whole
//! workspace for the host pass it by. Build an image with `cargo xtask firmware --board <board>`.
#![no_std]

#[cfg(feature = "device")]
pub mod device;
#[cfg(feature = "device")]
pub mod log;
#[cfg(feature = "nrf52840")]
pub mod nrf;
#[cfg(feature = "qemu")]
pub mod qemu;
#[cfg(any(feature = "pico", feature = "pico2"))]
pub mod rp;
#[cfg(any(feature = "device", feature = "qemu"))]
pub mod serve;

#[cfg(any(
    all(feature = "pico", feature = "pico2"),
    all(feature = "pico", feature = "nrf52840"),
    all(feature = "pico2", feature = "nrf52840"),
))]
compile_error!("one board at a time");
