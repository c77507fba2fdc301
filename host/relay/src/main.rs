//! The `hostchat-relay` program: wiring only.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    hostchat_relay::harden();
    hostchat_relay::cli::Cli::parse().run()
}
