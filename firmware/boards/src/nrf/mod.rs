//! nRF52840 dongle (PCA10059).
//!
//! | part | stands for | file |
//! |---|---|---|
//! | flash | 384 KiB of the processor's, below the boot loader | `flash.rs` |
//! | random numbers | the chip's generator, with its bias correction; health-tested; temperature and serial number mixed in | `rng.rs` |
//! | button | P1.06 | here |
//! | light, watchdog | green LED on P0.06; the coloured one says it in colour | here |
//!
//! The first start of an image without a log closes the debug port until the whole chip is erased. The boot loader that
//! the dongle is sold with takes any image, one that reads the flash out too: without the PIN's Argon2id it protects
//! nothing at rest.

mod flash;
pub mod rng;

use embassy_nrf::Peri;
use embassy_nrf::config::{Config, Debug, HfclkSource, Reg0Voltage};
use embassy_nrf::gpio::{Input, Level, Output, OutputDrive, Pull};
use embassy_nrf::peripherals::{P0_06, P0_08, P0_12, P1_06, P1_09, WDT};
use embassy_nrf::usb::Driver;
use embassy_nrf::usb::vbus_detect::HardwareVbusDetect;
use embassy_nrf::wdt::{self, Watchdog, WatchdogHandle};

use crate::device::status::{PATIENCE, State};
pub use flash::Cells;
pub use rng::Generator as Noise;

/// The board's name on the wire.
pub const BOARD: &str = "nrf52840";
/// Ticks of the watchdog in a second.
const WATCHDOG_HZ: u64 = 32_768;

/// The USB port.
pub type Bus = Driver<'static, HardwareVbusDetect>;

/// How the chip is to be started.
#[must_use]
pub fn config() -> Config {
    let mut config = Config::default();
    // USB needs the crystal.
    config.hfclk_source = HfclkSource::ExternalXtal;
    // The LEDs need more than the 1.8 volts that a chip without this setting gives them.
    config.dcdc.reg0_voltage = Some(Reg0Voltage::_3V0);
    config.debug = if cfg!(feature = "log") {
        Debug::NotConfigured
    } else {
        Debug::Disallowed
    };
    config
}

/// The button SW1.
pub struct Button(Input<'static>);

impl Button {
    /// Takes the pin.
    #[must_use]
    pub fn new(pin: Peri<'static, P1_06>) -> Self {
        Self(Input::new(pin, Pull::Up))
    }

    pub(crate) fn is_down(&self) -> bool {
        self.0.is_low()
    }
}

/// The green LED, and the coloured one: red broken, blue waiting for a press, green else. They are on when their pin is low.
pub struct Light {
    pattern: Output<'static>,
    red: Output<'static>,
    green: Output<'static>,
    blue: Output<'static>,
}

impl Light {
    /// Takes the pins; the green LED is on.
    #[must_use]
    pub fn new(
        pattern: Peri<'static, P0_06>,
        red: Peri<'static, P0_08>,
        green: Peri<'static, P1_09>,
        blue: Peri<'static, P0_12>,
    ) -> Self {
        Self {
            pattern: Output::new(pattern, Level::Low, OutputDrive::Standard),
            red: Output::new(red, Level::High, OutputDrive::Standard),
            green: Output::new(green, Level::High, OutputDrive::Standard),
            blue: Output::new(blue, Level::High, OutputDrive::Standard),
        }
    }

    pub(crate) fn show(&mut self, state: State, lit: bool) {
        let level = |on: bool| Level::from(!(lit && on));
        self.pattern.set_level(level(true));
        self.red.set_level(level(state == State::Broken));
        self.blue.set_level(level(state == State::TouchNeeded));
        self.green
            .set_level(level(matches!(state, State::Idle | State::Working)));
    }
}

/// The watchdog.
pub struct Guard(WatchdogHandle);

impl Guard {
    /// Starts it. One that runs since before a reset goes on as it was.
    #[must_use]
    pub fn new(watchdog: Peri<'static, WDT>) -> Self {
        let mut config = wdt::Config::default();
        config.timeout_ticks = (PATIENCE.as_millis() * WATCHDOG_HZ / 1_000) as u32;
        let handle = match Watchdog::try_new::<WDT, 1>(watchdog, config) {
            Ok((_, [handle])) => handle,
            // SAFETY: it was started, by whoever it was; the first handle is the one that is always there.
            Err(_) => unsafe { WatchdogHandle::steal::<WDT>(0) },
        };
        Self(handle)
    }

    pub(crate) fn feed(&mut self) {
        self.0.pet();
    }
}

/// Resets the whole chip.
pub(crate) fn reset() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
