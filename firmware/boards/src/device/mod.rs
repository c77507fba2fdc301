//! What boards with a USB port of their own have in common.
//!
//! | part | stands for | file |
//! |---|---|---|
//! | serial port | USB CDC-ACM, served by an executor in an interrupt | `usb.rs`, `port.rs` |
//! | flash | a part of the chip's | `flash.rs` |
//! | button | a press that begins while the token waits | `presence.rs` |
//! | light, watchdog | what the token is doing, and for how long | `status.rs` |
//! | errors of the program | reset, never a hang | `fault.rs` |
//!
//! The chip's own module gives the registers behind it: `Bus`, `Cells`, `Noise`, `Button`, `Light`, `Guard`, `reset`.

mod env;
mod fault;
pub mod flash;
pub mod port;
mod presence;
pub mod status;
pub mod usb;

use core::mem::MaybeUninit;
use core::pin::pin;

use cortex_m::singleton;
use embassy_futures::block_on;
use embassy_time::Instant;
use heapless::Vec;
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::app::{App, Memory};

#[cfg(feature = "nrf52840")]
use crate::nrf as chip;
#[cfg(any(feature = "pico", feature = "pico2"))]
use crate::rp as chip;

use crate::log::{Event, log};
use crate::serve::{Watch, serve};
pub use env::DeviceEnv;
use flash::DeviceFlash;
use port::PORT;

type Token = App<DeviceEnv, &'static mut Memory>;

/// Serves the port for ever, with the parts that `start` makes.
///
/// Generic, and called with a closure of the binary, so that the application is compiled there: compiled here, where others
/// could share it, `boot` took twice as much of the stack, more than there is.
pub fn run(
    start: impl FnOnce() -> (DeviceEnv, DeviceFlash),
    memory: &'static mut Memory,
    request: &mut Vec<u8, MAX_LINK>,
) -> ! {
    let app = boot(start, memory);
    log(|| Event::Ready);
    status::set_working(false);
    serve(app, request, &PORT, &mut Busy(Instant::MIN))
}

/// Takes the flash into use. The application stays where it is put: what its making takes of the stack is free again
/// afterwards.
#[inline(never)]
fn boot(
    start: impl FnOnce() -> (DeviceEnv, DeviceFlash),
    memory: &'static mut Memory,
) -> &'static mut Token {
    let (env, flash) = start();
    let Some(place) = singleton!(: MaybeUninit<Token> = MaybeUninit::uninit()) else {
        chip::reset()
    };
    match block_on(pin!(App::with_memory(env, flash, memory))) {
        Ok(app) => place.write(app),
        Err(_) => {
            // Seen on the light until the watchdog tries again.
            log(|| Event::NoFlash);
            status::set_broken();
            loop {
                cortex_m::asm::wfe();
            }
        }
    }
}

/// Tells the light, the watchdog and the log when a request is under way, and since when.
struct Busy(Instant);

impl Watch for Busy {
    fn begin(&mut self) {
        if cfg!(feature = "log") {
            self.0 = Instant::now();
        }
        status::set_working(true);
    }

    fn end(&mut self) {
        status::set_working(false);
        log(|| Event::Answered {
            ms: self.0.elapsed().as_millis(),
        });
    }

    fn locked(&mut self) {
        log(|| Event::Locked);
    }
}
