//! What an error of the program ends in: a log in images that have one, and a reset of the whole chip; the host sees the
//! token go and come.

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};

use super::chip;
use crate::log::{Event, flush, log};

/// Ends the program. Interrupts are off from here on: nobody feeds the watchdog any more.
fn end(event: Event<'_>) -> ! {
    cortex_m::interrupt::disable();
    log(|| event);
    flush();
    chip::reset()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info
        .location()
        .map_or(("", 0), |place| (place.file(), place.line()));
    end(Event::Panicked { file, line })
}

// SAFETY: the handler is entered by the processor only, and does not return.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    end(Event::Fault { at: frame.pc() })
}
