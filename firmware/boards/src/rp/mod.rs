//! Raspberry Pi Pico (RP2040) and Pico 2 (RP2350).
//!
//! | part | stands for | file |
//! |---|---|---|
//! | flash | upper half of the chip beside the processor | `flash.rs` |
//! | random numbers | RP2040: ring oscillator; RP2350: TRNG; health-tested; temperature sensor and serial number mixed in | `rng.rs` and `oscillator.rs` or `trng.rs` |
//! | button | BOOTSEL | `button.rs` |
//! | light, watchdog | LED on GPIO 25 | here |
//! | all of it | put together | `wiring.rs` |
//!
//! Neither protects its flash as these boards are sold: whoever holds one can read it, and what is on it is protected by
//! the PIN's Argon2id alone. (The RP2350 could be told, once and for ever, to start signed images only; nothing here does.)

mod button;
mod flash;
#[cfg(feature = "pico")]
mod oscillator;
mod rng;
#[cfg(feature = "pico2")]
mod trng;
mod wiring;

use embassy_rp::Peri;
use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{PIN_25, USB, WATCHDOG};
use embassy_rp::usb::Driver;
use embassy_rp::watchdog::Watchdog;

use crate::device::status::{PATIENCE, State};
pub use button::Button;
pub use flash::Cells;
#[cfg(feature = "pico")]
pub use oscillator::RingOscillator as Noise;
#[cfg(feature = "pico2")]
pub use trng::Trng as Noise;
pub use wiring::run;

/// The board's name on the wire.
pub const BOARD: &str = if cfg!(feature = "pico") {
    "pico"
} else {
    "pico2"
};

/// The USB port.
pub type Bus = Driver<'static, USB>;

/// The LED beside the USB socket.
pub struct Light(Output<'static>);

impl Light {
    /// Takes the pin; the LED is on.
    #[must_use]
    pub fn new(pin: Peri<'static, PIN_25>) -> Self {
        Self(Output::new(pin, Level::High))
    }

    /// Turns the LED on or off.
    pub fn show(&mut self, _state: State, lit: bool) {
        self.0.set_level(lit.into());
    }
}

/// The watchdog.
pub struct Guard(Watchdog);

impl Guard {
    /// Starts it.
    #[must_use]
    pub fn new(watchdog: Peri<'static, WATCHDOG>) -> Self {
        let mut watchdog = Watchdog::new(watchdog);
        watchdog.start(PATIENCE);
        Self(watchdog)
    }

    /// Lets the chip live for [`PATIENCE`].
    pub fn feed(&mut self) {
        self.0.feed(PATIENCE);
    }
}

/// Resets the whole chip.
pub fn reset() -> ! {
    // SAFETY: nothing else runs from here on.
    let watchdog = unsafe { WATCHDOG::steal() };
    Watchdog::new(watchdog).trigger_reset();
    loop {
        cortex_m::asm::nop();
    }
}
