//! Raspberry Pi Pico (RP2040).
//!
//! | part | stands for | file |
//! |---|---|---|
//! | serial port | USB CDC-ACM, served by an executor in an interrupt | `usb.rs`, `port.rs` |
//! | flash | upper half of the W25Q16 | `flash.rs` |
//! | random numbers | ring oscillator, health-tested; temperature sensor and serial number mixed in | `rng.rs` |
//! | button | BOOTSEL | `presence.rs` |
//! | LED, watchdog | what the token is doing, and for how long | `status.rs` |
//!
//! The RP2040 has no protected flash: whoever holds the board can read it, and what is on it is protected by the PIN's
//! Argon2id alone.

mod env;
pub mod flash;
pub mod port;
pub mod presence;
pub mod rng;
pub mod status;
pub mod usb;

pub use env::PicoEnv;
