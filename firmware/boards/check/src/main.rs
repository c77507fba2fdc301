//! The core's vectors and the token's scenarios on the chip: the very test files of `core/tests` and
//! `firmware/token/tests`, which read the very data, without the harness that a chip has not.
//!
//! ```text
//!  -semihosting-config arg=PART ──▶ list.rs: checks whose name begins with PART ──▶ core/tests/**, firmware/token/tests/**
//!                                                    │ files, by semihosting, from the root of the repository
//!                                                    ▼
//!                            one line per check, exit code 0; or a panic, exit code 1
//! ```
//!
//! `cargo xtask test --on qemu` runs it. The allocator, JSON and the token's feature `testing` are in this image only.
#![no_std]
#![no_main]

extern crate alloc;

/// What tests print goes to the host.
macro_rules! println {
    ($($text:tt)*) => {
        hostchat_boards::qemu::host::print(format_args!($($text)*))
    };
}

mod host;
mod list;

mod costs {
    pub(crate) mod token;
}

/// The unit tests of the two crates, which have them as functions for this image.
mod units {
    pub(crate) use hostchat_core::crypto::{hash::tests as hash, label::tests as label};
    pub(crate) use hostchat_core::icd::link::tests as link;
    pub(crate) use hostchat_core::ratchet::skipped_tests as skipped;
    pub(crate) use hostchat_core::wire::{
        address::tests as address, codec::tests as codec, pad::tests as pad,
    };
    pub(crate) use hostchat_token::app::{cards_tests as cards, tests as app};
    pub(crate) use hostchat_token::flash::tests as flash;
    pub(crate) use hostchat_token::port::tests as port;
    pub(crate) use hostchat_token::presence::tests as presence;
    pub(crate) use hostchat_token::random::tests as random;
    pub(crate) use hostchat_token::units::store;
}

#[path = "../../../../core/tests/own_vectors/main.rs"]
mod own_vectors;
#[path = "../../../../core/tests/public_vectors/main.rs"]
mod public_vectors;
#[path = "../../../token/tests/token/main.rs"]
mod token;

use core::ffi::CStr;
use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use cortex_m_semihosting::debug;
use hostchat_boards::qemu::host::{command_line, fail};
use hostchat_boards::qemu::stack;

#[entry]
fn main() -> ! {
    host::start_heap();
    let mut line = [0; 128];
    let part = match command_line(&mut line).map(|()| CStr::from_bytes_until_nul(&line)) {
        Ok(Ok(part)) => part.to_str().unwrap_or_default(),
        _ => fail(format_args!("no command line")),
    };
    let mut ran = 0;
    for (name, check) in list::ALL.iter().filter(|(name, _)| name.starts_with(part)) {
        check();
        println!("ok {name}");
        ran += 1;
    }
    if ran == 0 {
        fail(format_args!("no check is called {part}.."));
    }
    println!("{ran} checks passed");
    let (size, used) = stack::high_water();
    println!("stack: {used} of {size} bytes");
    debug::exit(debug::EXIT_SUCCESS);
    fail(format_args!("the host goes on"))
}

// SAFETY: `HardFault` is the name that cortex-m-rt puts into the vector table; it is entered by the processor only, and the
// program ends here.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    fail(format_args!("hard fault at {:#010x}", frame.pc()))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Everything here is public: what failed may be shown.
    fail(format_args!("{info}"))
}
