//! The `hostchat` program: wires the command line to the library, and nothing else.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

#[cfg(feature = "simulation")]
compile_error!(
    "the feature `simulation` is for the library in tests: nobody's keys belong in such a program"
);

/// Whatever held a passphrase, a code or a text on its way is wiped when it is given back, in libraries too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    hostchat::os::harden();
    hostchat::cli::run()
}
