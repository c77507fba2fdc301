//! The `hostchat` program: wires the command line to the library, and nothing else.

use std::process::ExitCode;

#[cfg(feature = "simulation")]
compile_error!(
    "the feature `simulation` is for the library in tests: nobody's keys belong in such a program"
);

fn main() -> ExitCode {
    hostchat::os::harden();
    hostchat::cli::run()
}
