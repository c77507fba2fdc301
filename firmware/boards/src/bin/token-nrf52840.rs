//! The token on an nRF52840 dongle (PCA10059): wiring only.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use embassy_executor::InterruptExecutor;
use embassy_nrf::interrupt::{InterruptExt as _, Priority};
use embassy_nrf::peripherals::USBD;
use embassy_nrf::usb::vbus_detect::{self, HardwareVbusDetect};
use embassy_nrf::usb::{Driver, InterruptHandler};
use embassy_nrf::{bind_interrupts, interrupt};
use heapless::Vec;
use hostchat_boards::device::flash::DeviceFlash;
use hostchat_boards::device::status::Lookout;
use hostchat_boards::device::{self, DeviceEnv, usb};
use hostchat_boards::log::{Event, log};
use hostchat_boards::nrf::{self, Button, Cells, Guard, Light, rng};
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::app::Memory;

bind_interrupts!(struct Interrupts {
    USBD => InterruptHandler<USBD>;
    CLOCK_POWER => vbus_detect::InterruptHandler;
});

/// Serves the port beside the application, from an interrupt that no part of the chip uses.
static BESIDE: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
unsafe fn EGU1_SWI1() {
    // SAFETY: this is the interrupt that the executor was started with, and its only call; the interrupt is enabled by
    // that start.
    unsafe { BESIDE.on_interrupt() }
}

#[entry]
fn main() -> ! {
    // `entry` makes these references to statics, which nobody else can have.
    static mut MEMORY: Memory = Memory::new();
    static mut REQUEST: Vec<u8, MAX_LINK> = Vec::new();

    device::run(put_together, MEMORY, REQUEST)
}

fn put_together() -> (DeviceEnv, DeviceFlash) {
    let board = embassy_nrf::init(nrf::config());
    log(|| Event::Started);
    let light = Light::new(board.P0_06, board.P0_08, board.P1_09, board.P0_12);
    interrupt::EGU1_SWI1.set_priority(Priority::P2);
    usb::start(
        BESIDE.start(interrupt::EGU1_SWI1),
        Driver::new(board.USBD, Interrupts, HardwareVbusDetect::new(Interrupts)),
        rng::serial_number(),
        Lookout::new(light, Guard::new(board.WDT)),
    );

    let env = DeviceEnv::new(rng::start(), Button::new(board.P1_06));
    (env, DeviceFlash::new(Cells::new(board.NVMC)))
}
