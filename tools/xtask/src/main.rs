//! One command per chore: `cargo xtask demo`, `test`, `nightly`, `bench`, `ci`, `firmware`, `flash`,
//! `token`.
//!
//! Each does its own set-up on a bare Debian 12 with Rust, says what it installs, and leaves nothing running. This
//! program only starts others (cargo, rustup, apt-get); what they run lives in `tests/` and `tools/bench/`.

mod check;
mod firmware;
mod flash;
mod setup;
mod step;
mod target;
mod token;
mod uf2;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::firmware::Board;
use crate::step::{Failed, Step, cargo};
use crate::target::Emulator;
use crate::token::TokenArguments;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "One command per chore of the hostchat project"
)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Shows the main job: a relay, two people, one on a key token; pairing by code, messages both ways.
    Demo,
    /// Runs everything that must hold: format, lints, documentation, builds for the chips, all tests, the demo.
    Test {
        /// Runs only the steps whose name contains this.
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        /// Runs only what runs on a chip: the core's vectors and the token's scenarios in this emulator.
        #[arg(long, value_enum, conflicts_with = "only")]
        on: Option<Emulator>,
    },
    /// Runs the tests with large counts (kills, schedules, sequences): the same code, hours instead of minutes.
    Nightly,
    /// Measures: start, arrival, relay throughput, pairing.
    Bench {
        /// Measures only this part: start, people or relay.
        part: Option<String>,
    },
    /// What continuous integration runs: `test`.
    Ci,
    /// Builds the firmware of a board and shows its sizes.
    Firmware {
        /// The board.
        #[arg(long, value_enum)]
        board: Board,
    },
    /// Builds the firmware of a board and writes it there, by a debug probe or onto the board's boot drive.
    Flash {
        /// The board.
        #[arg(long, value_enum)]
        board: Board,
    },
    /// Runs the firmware of a board in an emulator, as a serial port for `hostchat --token`. Ends at Ctrl-C.
    Token(TokenArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Demo => demo(),
        Chore::Test {
            only: _,
            on: Some(Emulator::Qemu),
        } => test_on_qemu(),
        Chore::Test { only, on: None } => test(only.as_deref()),
        Chore::Nightly => nightly(),
        Chore::Bench { part } => bench(part.as_deref()),
        Chore::Ci => test(None),
        Chore::Firmware { board } => firmware::firmware(board),
        Chore::Flash { board } => flash::flash(board),
        Chore::Token(arguments) => token::token(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(what)) => {
            eprintln!("\nfailed: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Programs that the demo, the tests and the benchmarks start.
fn build_programs(profile: &[&str]) -> Result<(), Failed> {
    setup::c_compiler()?;
    cargo("build the programs", &["build", "--workspace", "--bins"])
        .args(profile)
        .run()
}

fn demo() -> Result<(), Failed> {
    build_programs(&[])?;
    cargo(
        "demo",
        &[
            "run",
            "--quiet",
            "--package",
            "hostchat-tests",
            "--bin",
            "hostchat-demo",
        ],
    )
    .run()
}

fn test(only: Option<&str>) -> Result<(), Failed> {
    let started = std::time::Instant::now();
    setup::c_compiler()?;
    setup::debian_packages(&setup::FOR_TESTS)?;
    let mut steps: Vec<Step> = vec![
        cargo("format", &["fmt", "--all", "--check"]),
        cargo("house rules", &[]).with(check::house),
        cargo(
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
        cargo(
            "documentation",
            &[
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ],
        )
        .env("RUSTDOCFLAGS", "-D warnings"),
    ];
    steps.extend(check::chips());
    // The tests start these images in their emulators.
    steps.push(cargo("emulators", &[]).with(emulators));
    steps.push(token::pico::test_step());
    steps.extend(target::steps());
    steps.extend([Board::Pico, Board::Qemu].map(firmware::lint_step));
    steps.push(cargo("images", &[]).with(images));
    steps.push(cargo("programs", &["build", "--workspace", "--bins"]));
    steps.push(cargo("tests", &["test", "--workspace", "--no-fail-fast"]));
    // Once more with what they print: how many vectors passed and how many invalid ones were refused.
    let vectors = [
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "public_vectors",
        "--",
        "--show-output",
    ];
    steps.push(cargo("counts of the public vectors", &vectors));
    steps.push(cargo(
        "demo",
        &[
            "run",
            "--quiet",
            "--package",
            "hostchat-tests",
            "--bin",
            "hostchat-demo",
        ],
    ));
    let mut ran = 0;
    for step in steps
        .into_iter()
        .filter(|step| only.is_none_or(|part| step.name.contains(part)))
    {
        step.run()?;
        ran += 1;
    }
    if ran == 0 {
        return Err(Failed(format!(
            "no step is called {:?}",
            only.unwrap_or_default()
        )));
    }
    println!(
        "\nall {ran} steps passed in {} s",
        started.elapsed().as_secs()
    );
    Ok(())
}

fn emulators() -> Result<(), Failed> {
    token::emulator(Board::Pico)?;
    token::emulator(Board::Qemu)
}

fn images() -> Result<(), Failed> {
    firmware::build(Board::Pico)?;
    firmware::build(Board::Qemu).map(drop)
}

fn test_on_qemu() -> Result<(), Failed> {
    token::emulator(Board::Qemu)?;
    target::steps().into_iter().try_for_each(Step::run)
}

fn nightly() -> Result<(), Failed> {
    setup::debian_packages(&setup::FOR_TESTS)?;
    emulators()?;
    images()?;
    build_programs(&[])?;
    cargo(
        "tests, large counts",
        &["test", "--workspace", "--no-fail-fast"],
    )
    .env("HOSTCHAT_SCHEDULES", "1000000")
    .env("HOSTCHAT_SEQUENCES", "100000")
    .env("HOSTCHAT_KILLS", "1000")
    .env("HOSTCHAT_CODES", "100000")
    .run()
}

fn bench(part: Option<&str>) -> Result<(), Failed> {
    build_programs(&["--release"])?;
    let part: Vec<&str> = part.into_iter().collect();
    cargo(
        "bench",
        &["run", "--quiet", "--release", "--package", "hostchat-bench"],
    )
    .args(&["--"])
    .args(&part)
    .run()
}
