//! The `hostchat` program: wires the command line to the library, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    hostchat::os::harden();
    hostchat::cli::run()
}
