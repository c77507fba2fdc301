//! The token on a Raspberry Pi Pico: wiring only. `cargo xtask token --board pico` runs it in an emulator.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::pin::pin;

use cortex_m::singleton;
use cortex_m_rt::{entry, exception};
use embassy_executor::InterruptExecutor;
use embassy_futures::block_on;
use embassy_rp::adc::{self, Adc};
use embassy_rp::gpio::{Level, Output};
use embassy_rp::interrupt;
use embassy_rp::interrupt::{InterruptExt as _, Priority};
use embassy_rp::peripherals::{USB, WATCHDOG};
use embassy_rp::usb::{Driver, InterruptHandler};
use embassy_rp::watchdog::Watchdog;
use embassy_rp::{Peripherals, bind_interrupts};
use heapless::Vec;
use hostchat_boards::pico::flash::PicoFlash;
use hostchat_boards::pico::port::PORT;
use hostchat_boards::pico::presence::Button;
use hostchat_boards::pico::status::{self, Lookout};
use hostchat_boards::pico::{PicoEnv, rng, usb};
use hostchat_boards::serve::{Watch, serve};
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::app::{App, Memory};

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

type Token = App<PicoEnv, &'static mut Memory>;

#[entry]
fn main() -> ! {
    // `entry` makes these references to statics, which nobody else can have.
    static mut MEMORY: Memory = Memory::new();
    static mut REQUEST: Vec<u8, MAX_LINK> = Vec::new();

    let app = boot(embassy_rp::init(Default::default()), MEMORY);
    status::set_working(false);
    serve(app, REQUEST, &PORT, &mut Busy)
}

/// Starts the port, and then takes the flash into use. The application stays where it is put: what its making takes of
/// the stack is free again afterwards.
#[inline(never)]
fn boot(board: Peripherals, memory: &'static mut Memory) -> &'static mut Token {
    let mut flash = PicoFlash::new(board.FLASH);
    let serial_number = flash.serial_number().unwrap_or_default();
    let Some(shown) = singleton!(: [u8; 16] = [b'0'; 16]) else {
        reset()
    };
    for (digits, byte) in shown.chunks_exact_mut(2).zip(serial_number) {
        let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit & 15)];
        digits.copy_from_slice(&[hex(byte >> 4), hex(byte)]);
    }
    let lookout = Lookout::new(
        Output::new(board.PIN_25, Level::High),
        Watchdog::new(board.WATCHDOG),
    );
    interrupt::SWI_IRQ_1.set_priority(Priority::P2);
    usb::start(
        BESIDE.start(interrupt::SWI_IRQ_1),
        Driver::new(board.USB, Interrupts),
        core::str::from_utf8(shown).unwrap_or_default(),
        lookout,
    );

    let adc = Adc::new_blocking(board.ADC, adc::Config::default());
    let random = rng::start(&serial_number, adc, board.ADC_TEMP_SENSOR);
    let env = PicoEnv::new(random, Button::new(board.BOOTSEL));
    let Some(place) = singleton!(: MaybeUninit<Token> = MaybeUninit::uninit()) else {
        reset()
    };
    match block_on(pin!(App::with_memory(env, flash, memory))) {
        Ok(app) => place.write(app),
        Err(_) => {
            // Seen on the LED until the watchdog tries again.
            status::set_broken();
            loop {
                cortex_m::asm::wfe();
            }
        }
    }
}

/// Tells the LED and the watchdog when a request is under way.
struct Busy;

impl Watch for Busy {
    fn begin(&mut self) {
        status::set_working(true);
    }

    fn end(&mut self) {
        status::set_working(false);
    }
}

/// Resets the whole chip; the host sees the token go and come.
fn reset() -> ! {
    // SAFETY: nothing else runs from here on.
    let watchdog = unsafe { WATCHDOG::steal() };
    Watchdog::new(watchdog).trigger_reset();
    loop {
        cortex_m::asm::nop();
    }
}

// SAFETY: the handler is entered by the processor only, and does not return.
#[exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    reset()
}
