//! One command per chore: `cargo xtask demo`, `test`, `nightly`, `fuzz`, `bench`, `ci`, `firmware`, `flash`,
//! `token`.
//!
//! Each does its own set-up on a bare Debian 12 with Rust, says what it installs, and leaves nothing running. This
//! program only starts others (cargo, rustup, apt-get); what they run lives in `tests/` and `tools/bench/`.

mod check;
mod costs;
mod firmware;
mod flash;
mod floors;
mod fuzz;
mod image;
mod package;
mod references;
mod setup;
mod step;
mod target;
mod token;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

use crate::firmware::{Board, Log};
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
    /// Runs the tests with large counts (kills, schedules, sequences, histories): the same code, hours instead of minutes. Then fuzzes
    /// each target for a minute.
    Nightly,
    /// Fuzzes one target, or each, for so long. Installs nightly Rust and cargo-fuzz if they are missing.
    Fuzz {
        /// Only this target; `cargo run -p hostchat-fuzz list` names them.
        target: Option<String>,
        /// Seconds for each.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measures: start, arrival, relay throughput, pairing, the token on its boards.
    Bench {
        /// Measures only this part: start, people, relay or token.
        part: Option<String>,
    },
    /// Checks the rules of the house: who may name which crate and folder, and how long a file may be.
    Check,
    /// What continuous integration runs: `test`.
    Ci,
    /// Makes what an operator installs a relay from, in target/package: a Debian package, a tarball, a container file.
    Package,
    /// Builds the firmware of a board and shows its sizes.
    Firmware {
        /// The board.
        #[arg(long, value_enum)]
        board: Board,
        /// An image that logs what it does and why it resets, for a debug probe (defmt over RTT); not for use. It has no
        /// contents of commands in its log, and stands beside the other, in the folder firmware-log.
        #[arg(long)]
        log: bool,
    },
    /// Builds the firmware of a board and writes it there, by a debug probe or onto the board's boot drive; says how where
    /// another program has to.
    Flash {
        /// The board.
        #[arg(long, value_enum)]
        board: Board,
        /// An image with a log, as of `firmware`; shows the log until Ctrl-C. Needs a debug probe.
        #[arg(long)]
        log: bool,
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
        Chore::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Chore::Bench { part } => bench(part.as_deref()),
        Chore::Check => check::house(),
        Chore::Ci => test(None),
        Chore::Package => package::package(),
        Chore::Firmware { board, log } => firmware::firmware(board, Log::from_flag(log)),
        Chore::Flash { board, log } => flash::flash(board, Log::from_flag(log)),
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

/// Real clients in one process. The programs are built without the feature, so it has a run and a profile of its own.
const SIMULATION: &[&str] = &[
    "test",
    "--profile",
    "simulation",
    "--package",
    "hostchat-tests",
    "--features",
    "simulation",
    "--test",
    "simulation",
    "--",
    // The table of the histories.
    "--show-output",
];

fn test(only: Option<&str>) -> Result<(), Failed> {
    let started = std::time::Instant::now();
    setup::c_compiler()?;
    setup::debian_packages(&setup::FOR_TESTS)?;
    setup::newer_nats_server();
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
    steps.push(cargo(
        "lints of the simulation",
        &[
            "clippy",
            "--package",
            "hostchat-tests",
            "--features",
            "simulation",
            "--lib",
            "--test",
            "simulation",
            "--",
            "-D",
            "warnings",
        ],
    ));
    steps.extend(check::chips());
    // The tests start these images in their emulators.
    steps.push(cargo("emulators", &[]).with(emulators));
    steps.push(token::pico::test_step());
    steps.extend(target::steps());
    steps.extend(firmware::lint_steps());
    steps.push(cargo("images", &[]).with(images));
    steps.push(cargo("programs", &["build", "--workspace", "--bins"]));
    steps.push(cargo("tests", &["test", "--workspace", "--no-fail-fast"]));
    steps.push(cargo("simulation", SIMULATION));
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
    Board::ALL
        .into_iter()
        .try_for_each(|board| firmware::build(board, Log::None).map(drop))
}

fn test_on_qemu() -> Result<(), Failed> {
    token::emulator(Board::Qemu)?;
    target::steps().into_iter().try_for_each(Step::run)
}

fn nightly() -> Result<(), Failed> {
    setup::debian_packages(&setup::FOR_TESTS)?;
    setup::newer_nats_server();
    emulators()?;
    images()?;
    build_programs(&[])?;
    cargo(
        "tests, large counts",
        &["test", "--workspace", "--no-fail-fast"],
    )
    .env("HOSTCHAT_SCHEDULES", "1000000")
    .env("HOSTCHAT_SEQUENCES", "100000")
    .env("HOSTCHAT_FRAMES", "1000000")
    .env("HOSTCHAT_CROSSINGS", "100000")
    .env("HOSTCHAT_KILLS", "1000")
    .env("HOSTCHAT_FLIPS", "3000")
    .env("HOSTCHAT_CODES", "100000")
    .env("HOSTCHAT_GUESSES", "1000000")
    .env("HOSTCHAT_REQUESTS", "100000")
    .env("HOSTCHAT_INPUTS", "100")
    .run()?;
    // Other histories each night.
    let day = SystemTime::now().duration_since(UNIX_EPOCH);
    let day = day.unwrap_or_default().as_secs() / 86_400;
    cargo("simulation, large counts", SIMULATION)
        .env("HOSTCHAT_HISTORIES", "10000")
        .env("HOSTCHAT_FIRST", &(day * 10_000).to_string())
        .run()?;
    fuzz::fuzz(None, 60)
}

fn bench(part: Option<&str>) -> Result<(), Failed> {
    build_programs(&["--release"])?;
    if part.is_none_or(|part| part == "relay") {
        setup::debian_packages(&[
            ("/usr/sbin/nats-server", "nats-server"),
            ("/usr/sbin/mosquitto", "mosquitto"),
        ])?;
    }
    if part.is_none_or(|part| part == "token") {
        setup::debian_packages(&[("size", "binutils")])?;
        emulators()?;
        images()?;
    }
    let parts: Vec<&str> = part.into_iter().collect();
    cargo(
        "bench",
        &["run", "--quiet", "--release", "--package", "hostchat-bench"],
    )
    .args(&["--"])
    .args(&parts)
    .run()?;
    if part.is_none_or(|part| part == "token") {
        target::show_costs()?;
    }
    Ok(())
}
