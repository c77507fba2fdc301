//! `cargo xtask bench`: what the README and the design promise, measured on this machine in one run.
//!
//! Parts, to run one alone: `start`, `people`, `relay`, `token`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that fails ends the run with its reason"
)]

mod load;
mod peers;
mod relay;
mod token;

use std::cmp::Ordering;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostchat_core::crypto::stretch::{Block, STRETCH_BLOCKS, stretch};
use hostchat_tests::{Home, Running, World, program};
use nix::sys::resource::{UsageWho, getrusage};

fn main() {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("on {cores} cores; each figure with its unit; medians unless it says otherwise\n");
    let part = std::env::args().nth(1);
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let world = World::new();
    if wanted("start") {
        start();
    }
    if wanted("people") {
        people(&world);
    }
    if wanted("relay") {
        load::load(&world);
    }
    if wanted("token") {
        token::token(&world);
    }
}

fn start() {
    let version = || {
        let began = Instant::now();
        let status = Command::new(program("hostchat"))
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "hostchat --version failed"
        );
        began.elapsed()
    };
    let time = median((0..50).map(|_| version()).collect());
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage of children");
    println!(
        "hostchat --version       {:8.2} ms   (aim: under 10)",
        ms(time)
    );
    println!("  most memory resident   {:8} KiB", usage.max_rss());
}

fn people(world: &World) {
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let began = Instant::now();
    pair(world, &alice, &bob);
    let pairing = began.elapsed();

    let following = bob.start(&["recv", "--follow"]);
    let (mut fetches, mut works, mut arrivals) = (Vec::new(), Vec::new(), Vec::new());
    // Of pairs that were measured one after the other: the machine's own pace changes.
    let (mut beyond, mut beyond_work) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let stretch = one_stretch();
        let text = format!("message number {n}");
        let began = Instant::now();
        let sending = alice.start(&["send", "bob", &text]);
        following.wait_out("the message", |line| line.ends_with(&text).then_some(()));
        let arrival = began.elapsed();
        sending.end().ok();
        fetches.push(stretch.fetch);
        works.push(stretch.work);
        arrivals.push(arrival);
        beyond.push(ms(arrival) - ms(stretch.fetch + stretch.work));
        beyond_work.push(ms(arrival) - ms(stretch.work));
    }
    println!(
        "passphrase stretch       {:8.2} ms   (Argon2id, t = 3; and {:.2} ms to fetch its 64 MiB)",
        ms(median(works)),
        ms(median(fetches))
    );
    println!(
        "send to recv --follow    {:8.2} ms   (program start to the line at the other end)",
        ms(median(arrivals))
    );
    println!(
        "  beyond the stretch     {:8.2} ms   (aim: under 20)",
        median(beyond)
    );
    println!(
        "  beyond its Argon2id    {:8.2} ms   (as if the memory came for nothing)",
        median(beyond_work)
    );
    println!(
        "pairing with a code      {:8.2} ms   (two programs, two stretches, three messages)",
        ms(pairing)
    );
    println!("  recv --follow resident {:8} KiB", resident(&following));
    println!(
        "  relay resident         {:8} KiB",
        resident(relay.process())
    );
    following.stop();
}

fn pair(world: &World, alice: &Home, bob: &Home) {
    let sending = alice.start(&["send", "bob", "hello", "--code", "print"]);
    let code = sending.wait_err("the code", |line| {
        Some(line.trim().strip_prefix("code:")?.trim().to_owned())
    });
    let file = world.path("code");
    std::fs::write(&file, code).expect("code written");
    bob.run(&["accept", "alice", "--code-file", &file.to_string_lossy()])
        .ok();
    sending.end().ok();
}

/// One stretch, as a program does it that has just started.
struct Stretch {
    /// Until the system has found the memory.
    fetch: Duration,
    /// Argon2id, and the wiping of the memory.
    work: Duration,
}

fn one_stretch() -> Stretch {
    let began = Instant::now();
    let mut memory = vec![Block::default(); STRETCH_BLOCKS];
    let fetch = began.elapsed();
    assert!(
        stretch(b"a passphrase", &[7; 16], &mut memory).is_ok(),
        "the stretch failed"
    );
    Stretch {
        fetch,
        work: began.elapsed().saturating_sub(fetch),
    }
}

/// Memory resident now, in KiB.
fn resident(running: &Running) -> u64 {
    memory(running, "VmRSS:")
}

/// The most that a process was resident since its start, in KiB.
fn resident_most(running: &Running) -> u64 {
    memory(running, "VmHWM:")
}

fn memory(running: &Running, what: &str) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("a figure in KiB")
}

fn median<T: Copy + PartialOrd + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
