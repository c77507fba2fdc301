//! The relay under load, beside its peers, in one run on one machine.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hostchat_tests::{Relay, Running, World};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::peers::Peer;
use crate::relay::{self, BODY, Load, PIPELINE, attack};
use crate::{median, ms, resident, resident_most};

/// Connections and messages of each load, with the pipeline always full.
const LOADS: [(usize, usize); 4] = [(1, 20_000), (16, 60_000), (64, 60_000), (256, 60_000)];

/// The same where each message is written to three servers, all of them on this machine.
const CLUSTER_LOADS: [(usize, usize); 4] = [(1, 2_000), (16, 10_000), (64, 20_000), (256, 20_000)];

/// Messages in a full mailbox.
const FULL: usize = 1_000_000;

/// Connections that are kept open.
const IDLE: usize = 10_000;

/// Bytes of the file that each of them leaves afterwards, and of one that fills the relay's cache of the database.
const FILE: usize = 64 << 10;
const CACHE: usize = 64 << 20;

/// Limits that would slow the load down: the benchmark is one address and a few very busy accounts.
const LIMITS: &str = "
connections = 12000
memory_mib = 4096
idle_seconds = 3600
connections_per_address = 12000
connects = { burst = 1, per_minute = 0 }
registrations = { burst = 1, per_minute = 0 }
calls = { burst = 1, per_minute = 0 }
sends = { burst = 1, per_minute = 0 }
mailbox_messages = 4000000
sender_percent = 100
mailbox_mib = 4096
";

pub(crate) fn load(world: &World) {
    let relay = unlimited(world, "loaded");
    let address = relay.host_port().to_owned();
    let (nats, mosquitto) = (
        Peer::nats(world, &relay),
        Peer::mosquitto(world, "mosquitto", &relay),
    );

    let sync = median(fdatasyncs(relay.folder(), 500));
    println!(
        "\nfdatasync of 4 KiB       {:8.3} ms   (the disk of the relay's folder)",
        ms(sync)
    );
    println!(
        "over TLS, {BODY} bytes each, {PIPELINE} in flight per connection; the load runs on the same cores:"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("runtime");
    for (connections, messages) in LOADS {
        println!(
            "  {connections:3} connections         messages/s    p50 ms    p99 ms   server CPU us each"
        );
        let ours = measured(relay.process(), || {
            runtime.block_on(relay::load(&address, connections, messages))
        });
        row("hostchat-relay", &ours, "synced before it is acknowledged");
        let theirs = measured(nats.process(), || {
            runtime.block_on(nats.nats_load(connections, messages))
        });
        row(
            "NATS JetStream",
            &theirs,
            "in files, one node, acknowledged before the sync",
        );
        let theirs = measured(mosquitto.process(), || {
            runtime.block_on(mosquitto.mqtt_load(connections, messages))
        });
        row(
            "mosquitto QoS 1",
            &theirs,
            "persistence by snapshots, acknowledged from memory",
        );
        println!(
            "    {:.1} messages of ours per fdatasync",
            ours.0.per_second() * sync.as_secs_f64()
        );
    }
    println!(
        "  (aim: 10000 or more at 16 and 64 connections on 2 cores; no less than mosquitto, half of JetStream)"
    );
    println!(
        "  resident afterwards    {:8} KiB hostchat-relay, {} nats-server, {} mosquitto",
        resident(relay.process()),
        resident(nats.process()),
        resident(mosquitto.process())
    );
    drop((nats, mosquitto));
    cluster(world, &runtime);
    attack(world, &runtime);
    full_mailbox(world, &runtime);
    idle(world, &runtime);
}

/// One node over three NATS servers, which share the cores with it and with the load.
fn cluster(world: &World, runtime: &tokio::runtime::Runtime) {
    let (servers, urls) = Peer::nats_cluster(world);
    let store = format!("[nats]\nservers = {urls:?}\nreplicas = 3\n");
    let relay = configured(world, "clustered", "store = \"nats\"\n", &store, LIMITS);
    println!("\none node over three NATS servers, three copies of each message:");
    for (connections, messages) in CLUSTER_LOADS {
        println!(
            "  {connections:3} connections         messages/s    p50 ms    p99 ms   CPU us each"
        );
        let before: Duration = servers.iter().map(|s| processor_time(s.process())).sum();
        let ours = measured(relay.process(), || {
            runtime.block_on(relay::load(relay.host_port(), connections, messages))
        });
        row(
            "hostchat-relay",
            &ours,
            "kept by two of three before it is acknowledged",
        );
        let after: Duration = servers.iter().map(|s| processor_time(s.process())).sum();
        println!(
            "    {:16} {:45.1}",
            "the servers",
            after.saturating_sub(before).as_secs_f64() * 1e6 / ours.0.messages as f64
        );
    }
    let resident_of = |server: &Peer| resident(server.process()).to_string();
    println!(
        "  resident afterwards    {:8} KiB hostchat-relay, {} each server",
        resident(relay.process()),
        servers
            .iter()
            .map(resident_of)
            .collect::<Vec<_>>()
            .join(", ")
    );
}

/// A mailbox that nobody has looked into for long.
fn full_mailbox(world: &World, runtime: &tokio::runtime::Runtime) {
    let relay = unlimited(world, "full");
    let size = || {
        let files = ["relay.db", "relay.db-wal"].map(|name| relay.folder().join(name));
        let sizes = files.map(|file| std::fs::metadata(file).map_or(0, |data| data.len()));
        sizes.iter().sum::<u64>() as f64 / f64::from(1 << 20)
    };
    let before = size();
    let (mut owner, load) = runtime.block_on(relay::fill(relay.host_port(), 16, FULL));
    println!("\nmailbox with {} messages of {BODY} bytes:", load.messages);
    println!(
        "  filled                 {:8.0} messages/s; the store grew by {:.0} MiB, {:.0} bytes each",
        load.per_second(),
        size() - before,
        (size() - before) * f64::from(1 << 20) / load.messages as f64
    );
    let (first, all) = runtime.block_on(owner.drain(load.messages));
    println!(
        "  delivered              {:8.0} messages/s, each acknowledged; the first after {:.2} ms",
        load.messages as f64 / all.as_secs_f64(),
        ms(first)
    );
    println!(
        "  relay resident         {:8} KiB",
        resident(relay.process())
    );
}

/// Messages of somebody who behaves, in peace and under attack.
const VICTIM: usize = 1_500;

/// Limits that let everybody in, since all come from one address; what one account may do is the default.
const OPEN_DOOR: &str = "
connections = 12000
memory_mib = 4096
connections_per_address = 12000
connects = { burst = 1, per_minute = 0 }
registrations = { burst = 1, per_minute = 0 }
";

/// What one who behaves notices of those who do not, and how much memory they cost.
fn attack(world: &World, runtime: &tokio::runtime::Runtime) {
    let relay = limited(world, "attacked", OPEN_DOOR);
    let address = relay.host_port();
    println!("\n{VICTIM} messages one after the other, the attackers on the same cores:");
    let (calm, _) = measured(relay.process(), || {
        runtime.block_on(attack::victim(address, "calm", VICTIM))
    });
    let rest = resident(relay.process());
    let (hit, done) = runtime.block_on(attack::under_attack(
        address,
        attack::victim(address, "hit", VICTIM),
    ));
    let most = resident_most(relay.process());
    for (name, load) in [("in peace", &calm), ("under attack", &hit)] {
        println!(
            "    {name:16} p50 {:8.2} ms   p99 {:8.2} ms",
            ms(load.percentile(0.50)),
            ms(load.percentile(0.99))
        );
    }
    println!(
        "    {:.1} times the p99; {} sends beyond the quota refused, {} malformed requests, each with a handshake",
        hit.percentile(0.99).as_secs_f64() / calm.percentile(0.99).as_secs_f64(),
        done.refused.load(std::sync::atomic::Ordering::Relaxed),
        done.malformed.load(std::sync::atomic::Ordering::Relaxed)
    );
    println!("    resident {rest} KiB before, {most} KiB at most");
}

/// What connections hold that do nothing any more: each was logged in and sent one message.
fn idle(world: &World, runtime: &tokio::runtime::Runtime) {
    raise_descriptors();
    let relay = unlimited(world, "idle");
    let mosquitto = Peer::mosquitto(world, "mosquitto-idle", &relay);
    println!("\n{IDLE} idle TLS connections, each logged in, after one message of {BODY} bytes:");
    let address = relay.host_port();
    // The database's cache is full before, so that it is not counted.
    let mut warm = runtime.block_on(relay::Connection::login(address, "warm", 1 << 40));
    runtime.block_on(warm.put_file(CACHE));
    let kept = held("hostchat-relay", relay.process(), || {
        runtime.block_on(relay::idle(address, IDLE))
    });
    let kept = held("  and a file", relay.process(), || {
        runtime.block_on(relay::files(kept, FILE))
    });
    println!(
        "    (that is what a file of {} KiB, put by each, has added)",
        FILE >> 10
    );
    drop((kept, warm));
    let kept = held("mosquitto", mosquitto.process(), || {
        runtime.block_on(mosquitto.mqtt_idle(IDLE))
    });
    drop(kept);
    println!("  (aim: under 14 KiB)");
}

fn held<T>(name: &str, server: &Running, connect: impl FnOnce() -> T) -> T {
    let before = resident(server);
    let connections = connect();
    let grown = resident(server).saturating_sub(before);
    println!(
        "    {name:16} {:8.2} KiB each   ({before} KiB at rest)",
        grown as f64 / IDLE as f64
    );
    connections
}

/// As many descriptors as the system allows, for this process and the servers that it starts.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("descriptors");
}

fn row(name: &str, (load, cpu): &(Load, Duration), how: &str) {
    println!(
        "    {name:16} {:14.0} {:9.2} {:9.2} {:10.1}   {how}",
        load.per_second(),
        ms(load.percentile(0.50)),
        ms(load.percentile(0.99)),
        cpu.as_secs_f64() * 1e6 / load.messages as f64,
    );
}

/// Runs a load, and says what processor time it cost the server.
fn measured(server: &Running, load: impl FnOnce() -> Load) -> (Load, Duration) {
    let before = processor_time(server);
    let load = load();
    (load, processor_time(server).saturating_sub(before))
}

/// User and system time of a process since its start.
fn processor_time(server: &Running) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
    // The name, which may hold anything, stands in parentheses; 11 and 12 fields after it are the two times.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs(ticks)
        / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// A relay that holds nobody up.
fn unlimited(world: &World, name: &str) -> Relay {
    limited(world, name, LIMITS)
}

/// A relay with these limits.
fn limited(world: &World, name: &str, limits: &str) -> Relay {
    configured(world, name, "", "", limits)
}

/// A relay with these keys at the top of its configuration, these tables in it, and these limits.
fn configured(world: &World, name: &str, keys: &str, tables: &str, limits: &str) -> Relay {
    let mut relay = world.relay_with(name, &[]);
    relay.stop().ok();
    let path = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("relay.toml");
    let (before, after) = text.split_once("[limits]").unwrap_or((&text, ""));
    let text = format!("{keys}{before}{tables}[limits]{limits}{after}");
    std::fs::write(&path, text).expect("relay.toml written");
    relay.start();
    relay
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
