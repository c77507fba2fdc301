//! Puts the parts together, for both boards: they have the same pins.

use embassy_executor::InterruptExecutor;
use embassy_rp::adc::{self, Adc};
use embassy_rp::interrupt::{InterruptExt as _, Priority};
use embassy_rp::peripherals::USB;
use embassy_rp::usb::{Driver, InterruptHandler};
use embassy_rp::{Peripherals, bind_interrupts, interrupt};
use heapless::Vec;
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::app::Memory;

use super::{Button, Cells, Guard, Light, rng};
use crate::device::flash::DeviceFlash;
use crate::device::status::Lookout;
use crate::device::{self, DeviceEnv, usb};
use crate::log::{Event, log};

bind_interrupts!(struct Interrupts {
    USBCTRL_IRQ => InterruptHandler<USB>;
});

/// Serves the port beside the application, from an interrupt that no part of the chip uses.
static BESIDE: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
unsafe fn SWI_IRQ_1() {
    // SAFETY: this is the interrupt that the executor was started with, and its only call; the interrupt is enabled by
    // that start.
    unsafe { BESIDE.on_interrupt() }
}

/// Runs the token on the board that `start` gives: BOOTSEL is its button, GPIO 25 its light. The closure is one of the
/// binary's ([`device::run`]).
pub fn run(
    start: impl FnOnce() -> Peripherals,
    memory: &'static mut Memory,
    request: &'static mut Vec<u8, MAX_LINK>,
) -> ! {
    let parts = || put_together(start());
    device::run(parts, memory, request)
}

fn put_together(board: Peripherals) -> (DeviceEnv, DeviceFlash) {
    log(|| Event::Started);
    let mut cells = Cells::new(board.FLASH);
    let serial_number = cells.serial_number().unwrap_or_default();
    interrupt::SWI_IRQ_1.set_priority(Priority::P2);
    usb::start(
        BESIDE.start(interrupt::SWI_IRQ_1),
        Driver::new(board.USB, Interrupts),
        serial_number,
        Lookout::new(Light::new(board.PIN_25), Guard::new(board.WATCHDOG)),
    );

    let adc = Adc::new_blocking(board.ADC, adc::Config::default());
    let random = rng::start(&serial_number, adc, board.ADC_TEMP_SENSOR);
    let env = DeviceEnv::new(random, Button::new(board.BOOTSEL));
    (env, DeviceFlash::new(cells))
}
