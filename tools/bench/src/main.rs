//! `cargo xtask bench`: what the README and the design promise, measured on this machine in one run.
//!
//! Parts, to run one alone: `start`, `people`, `relay`, `token`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that fails ends the run with its reason"
)]

mod relay;
mod token;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostchat_core::crypto::stretch::{Block, STRETCH_BLOCKS, stretch};
use hostchat_tests::{Home, Relay, Running, World, program};
use nix::sys::resource::{UsageWho, getrusage};

/// Connections and messages of each load, with the pipeline always full.
const LOADS: [(usize, usize); 3] = [(1, 20_000), (16, 60_000), (64, 60_000)];

/// Limits that would slow the load down: the benchmark is one address and a few very busy accounts.
const LIMITS: &str = "
connects = { burst = 1, per_minute = 0 }
registrations = { burst = 1, per_minute = 0 }
calls = { burst = 1, per_minute = 0 }
sends = { burst = 1, per_minute = 0 }
mailbox_messages = 1000000
mailbox_mib = 4096
";

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
        load(&world);
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
    let (mut stretches, mut arrivals) = (Vec::new(), Vec::new());
    for n in 0..20 {
        stretches.push(one_stretch());
        let text = format!("message number {n}");
        let began = Instant::now();
        let sending = alice.start(&["send", "bob", &text]);
        following.wait_out("the message", |line| line.ends_with(&text).then_some(()));
        arrivals.push(began.elapsed());
        sending.end().ok();
    }
    let (stretching, arrival) = (median(stretches), median(arrivals));
    println!(
        "passphrase stretch       {:8.2} ms   (Argon2id, t = 3, with its 64 MiB fetched and wiped)",
        ms(stretching)
    );
    println!(
        "send to recv --follow    {:8.2} ms   (program start to the line at the other end)",
        ms(arrival)
    );
    println!(
        "  beyond the stretch     {:8.2} ms   (aim: under 20)",
        ms(arrival.saturating_sub(stretching))
    );
    println!(
        "  in stretches           {:8.2}",
        arrival.as_secs_f64() / stretching.as_secs_f64()
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

/// As a program does it that has just started: with memory that the system has yet to find, and takes back.
fn one_stretch() -> Duration {
    let began = Instant::now();
    let mut memory = vec![Block::default(); STRETCH_BLOCKS];
    assert!(
        stretch(b"a passphrase", &[7; 16], &mut memory).is_ok(),
        "the stretch failed"
    );
    drop(memory);
    began.elapsed()
}

fn load(world: &World) {
    let mut relay = world.relay_with("loaded", &[]);
    relay.stop().ok();
    raise_limits(&relay);
    relay.start();
    let address = relay.host_port().to_owned();

    let sync = median(fdatasyncs(relay.folder(), 500));
    println!(
        "\nfdatasync of 4 KiB       {:8.3} ms   (the disk of the relay's folder)",
        ms(sync)
    );
    println!("relay, synced sends of 256 bytes, 64 in flight per connection:");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("runtime");
    for (connections, messages) in LOADS {
        let load = runtime.block_on(relay::load(&address, connections, messages));
        println!(
            "  {:3} connections        {:8.0} messages/s   p50 {:7.2} ms   p99 {:7.2} ms   {:6.1} messages per fdatasync",
            load.connections,
            load.per_second(),
            ms(load.percentile(0.50)),
            ms(load.percentile(0.99)),
            load.per_second() * sync.as_secs_f64(),
        );
    }
    println!(
        "  (aim: 10000 or more at 16 and 64 connections on 2 cores; the load runs on the same cores)"
    );
    println!(
        "  relay resident         {:8} KiB",
        resident(relay.process())
    );
}

fn raise_limits(relay: &Relay) {
    let path = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("relay.toml");
    let (before, after) = text.split_once("[limits]").unwrap_or((&text, ""));
    std::fs::write(&path, format!("{before}[limits]{LIMITS}{after}")).expect("relay.toml written");
}

fn fdatasyncs(folder: &Path, count: u64) -> Vec<Duration> {
    let path = folder.join("fdatasync-probe");
    let file: File = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)
        .expect("probe");
    let times = (0..count)
        .map(|n| {
            file.write_all_at(&[n as u8; 4096], n * 4096)
                .expect("written");
            let began = Instant::now();
            file.sync_data().expect("synced");
            began.elapsed()
        })
        .collect();
    std::fs::remove_file(&path).expect("probe removed");
    times
}

/// Memory resident now, in KiB.
fn resident(running: &Running) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("VmRSS")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
