//! The token on QEMU's `mps2-an386`: wiring only. `cargo xtask token --board qemu` runs it.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::pin::pin;

use cortex_m::singleton;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use embassy_futures::block_on;
use heapless::Vec;
use hostchat_boards::qemu::{QemuEnv, clock, flash::HostFlash, host, stack, uart};
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::app::{App, Memory};
use hostchat_token::port::{Port, Work};

type Token = App<QemuEnv, &'static mut Memory>;

#[entry]
fn main() -> ! {
    // `entry` makes these references to statics, which nobody else can have.
    static mut MEMORY: Memory = Memory::new();
    static mut REQUEST: Vec<u8, MAX_LINK> = Vec::new();

    let Some(core) = cortex_m::Peripherals::take() else {
        host::fail(format_args!("started twice"));
    };
    let app = boot(MEMORY);
    uart::start();
    clock::start(core.SYST);

    let mut deepest = 0;
    loop {
        match uart::wait_for_work(REQUEST) {
            Work::HangUp => {
                app.lock();
                let (size, used) = stack::high_water();
                if used > deepest {
                    deepest = used;
                    host::print(format_args!("stack: {used} of {size} bytes"));
                }
            }
            Work::Request(_) => {
                let reply = block_on(pin!(app.answer(REQUEST)));
                uart::finish(reply);
            }
        }
    }
}

/// Takes the flash into use. The application stays where it is put: what its making takes of the stack is free again
/// afterwards.
#[inline(never)]
fn boot(memory: &'static mut Memory) -> &'static mut Token {
    let Some(place) = singleton!(: MaybeUninit<Token> = MaybeUninit::uninit()) else {
        host::fail(format_args!("started twice"));
    };
    let Ok(flash) = HostFlash::open() else {
        host::fail(format_args!(
            "the file token.flash is missing or has another size"
        ));
    };
    match block_on(pin!(App::with_memory(QemuEnv::new(), flash, memory))) {
        Ok(app) => place.write(app),
        Err(error) => host::fail(format_args!("{error}")),
    }
}

#[exception]
fn SysTick() {
    uart::with_port(Port::handle_tick);
}

// SAFETY: `DefaultHandler` is the name that cortex-m-rt puts into the vector table for every interrupt; it is entered by
// the processor only, and what it does is safe.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    uart::handle_interrupt(number);
}

// SAFETY: as above; the frame is not used beyond the program counter in it, and the program ends here.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    host::fail(format_args!("hard fault at {:#010x}", frame.pc()))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // The place only: a message could hold a value.
    match info.location() {
        Some(place) => host::fail(format_args!("panic at {}:{}", place.file(), place.line())),
        None => host::fail(format_args!("panic")),
    }
}
