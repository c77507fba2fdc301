//! What was acknowledged is there: after kills, with a full disk, and only because of a sync.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hostchat_core::wire::Generation;
use hostchat_core::wire::relay::{BLOB_PART, Call, Kind, Reason};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::blobs::File;
use crate::client::{Client, Got, Person, message};
use crate::harness::{Process, configure, init, rounds};

/// Limits out of the way of a load.
const OPEN: &str = "
connects = { burst = 1, per_minute = 0 }
calls = { burst = 1, per_minute = 0 }
sends = { burst = 1, per_minute = 0 }
mailbox_messages = 1000000
mailbox_mib = 1024
sender_percent = 100
";

/// How many times the relay is killed.
fn kills() -> u32 {
    rounds("HOSTCHAT_KILLS", 6)
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills_under_load() {
    survives_kills("").await;
}

#[tokio::test]
async fn the_log_survives_kills_and_has_exactly_what_was_stored() {
    let (folder, mut numbers) = survives_kills("[audit]\nlog_days = 7\n").await;
    numbers.sort_unstable();
    let database = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    let mut log = database
        .prepare("SELECT number FROM log ORDER BY number")
        .unwrap();
    let logged = log.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    let logged: Vec<u64> = logged.map(|n| n.unwrap().cast_unsigned()).collect();
    assert!(logged == numbers, "{} and {}", logged.len(), numbers.len());
}

/// Kills a relay with this configuration under load; returns its folder and the numbers of all that was delivered.
async fn survives_kills(before: &str) -> (TempDir, Vec<u64>) {
    let folder = init();
    configure(folder.path(), before, OPEN);
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut acknowledged = BTreeSet::new();
    let mut next = 0u128;
    for round in 0..kills() {
        let mut process = Process::start(folder.path());
        drop(Client::register(&process.place, &bob).await);
        let mut from = Client::register(&process.place, &alice).await;
        // Killed after so many acknowledgements, with a full pipeline: a different moment each round.
        let enough = acknowledged.len() + 50 + 37 * (round % 12) as usize;
        let mut open = Vec::new();
        loop {
            while open.len() < 32 {
                let body = next.to_be_bytes();
                let call = message(&bob, next, Kind::Message, &body);
                open.push((from.ask(call).await, next));
                next += 1;
            }
            match from.next().await {
                Got::Stored(id) => {
                    let at = open.iter().position(|(asked, _)| *asked == id).unwrap();
                    acknowledged.insert(open.swap_remove(at).1);
                }
                Got::End => break,
                got => panic!("{got:?}"),
            }
            if acknowledged.len() == enough {
                process.child.kill().unwrap();
                process.child.wait().unwrap();
            }
        }
    }
    let process = Process::start(folder.path());
    let mut to = Client::login(&process.place, &bob).await;
    let (mut delivered, mut numbers) = (Vec::new(), Vec::new());
    for delivery in to.drain(true).await {
        assert_eq!(delivery.body, delivery.message_id, "whole");
        delivered.push(u128::from_be_bytes(delivery.message_id));
        numbers.push(delivery.number);
    }
    let found: BTreeSet<u128> = delivered.iter().copied().collect();
    assert_eq!(found.len(), delivered.len(), "nothing twice");
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    assert!(
        found.iter().all(|id| *id < next),
        "nothing that was never sent"
    );
    println!(
        "{} kills, {} acknowledged, none lost",
        kills(),
        acknowledged.len()
    );
    (folder, numbers)
}

#[tokio::test]
async fn acknowledged_deletions_survive_kills_as_well() {
    let folder = init();
    configure(folder.path(), "", OPEN);
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut process = Process::start(folder.path());
    let mut to = Client::register(&process.place, &bob).await;
    let mut from = Client::register(&process.place, &alice).await;
    for id in 0..20 {
        from.send(&bob, id, b"x").await;
    }
    assert_eq!(to.drain(true).await.len(), 20);
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let process = Process::start(folder.path());
    let mut to = Client::login(&process.place, &bob).await;
    assert_eq!(to.drain(true).await, []);
}

/// Runs the relay under strace, sends messages, parts of a file or generations one by one and returns the trace, and the sender's end of
/// the connection.
async fn traced(before: &str, what: What) -> (String, String) {
    let folder = init();
    configure(folder.path(), before, OPEN);
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-yy", "-s", "0", "-o", trace.to_str().unwrap()])
        .args([
            "-e",
            "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg",
        ])
        .arg(env!("CARGO_BIN_EXE_hostchat-relay"))
        // The relay is a child of strace: it has to go with it.
        .process_group(0);
    let mut process = Process::start_as(command, folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    // By then the first sweep, which answers nobody, is over.
    drop(Client::register(&process.place, &bob).await);
    let mut from = Client::register(&process.place, &alice).await;
    let end = from.ws.get_ref().get_ref().0.local_addr().unwrap();
    let file = File::new(1, ONE_BY_ONE as usize * BLOB_PART, 1);
    if what == What::Parts {
        from.call(file.announce()).await;
    }
    for id in 0..ONE_BY_ONE {
        let got = match what {
            What::Messages => from.send(&bob, id, b"x").await,
            What::Parts => from.call(file.put(id as u32)).await,
            What::Generations => {
                let [from_now, to] = [id as u64, id as u64 + 1].map(|number| Generation {
                    number,
                    ..Generation::NONE
                });
                from.call(Call::Generation { from: from_now, to }).await
            }
        };
        match what {
            What::Generations => assert!(matches!(got, Got::Done(_)), "{got:?}"),
            What::Messages | What::Parts => assert!(got.is_stored(), "{got:?}"),
        }
    }
    drop(from);
    let group = Pid::from_child(&process.child);
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    process.child.wait().unwrap();
    (std::fs::read_to_string(trace).unwrap(), format!("->{end}]"))
}

const ONE_BY_ONE: u128 = 20;

/// What is sent one by one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Messages,
    Parts,
    Generations,
}

/// Follows a trace: how often the log was synced, and how often something went to the sender while written log pages
/// were not synced yet.
fn syncs_and_violations((trace, sender): &(String, String)) -> (u32, u32) {
    let (mut syncs, mut violations, mut dirty) = (0, 0, false);
    let mut syncing = BTreeSet::new();
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        let of_log = call.contains("relay.db-wal");
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.starts_with("pwrite64(") && of_log {
            dirty = true;
        } else if is_sync && of_log && call.contains("unfinished") {
            syncing.insert(pid);
        } else if (is_sync && of_log && call.ends_with("= 0"))
            || (call.contains("sync resumed>") && syncing.remove(pid))
        {
            dirty = false;
            syncs += 1;
        } else if call.contains(sender) && dirty {
            violations += 1;
        }
    }
    (syncs, violations)
}

#[tokio::test]
async fn every_answer_to_a_write_follows_a_sync_and_would_not_without() {
    for what in [What::Messages, What::Parts, What::Generations] {
        let traced_relay = traced("", what).await;
        assert!(
            traced_relay.0.contains("fdatasync("),
            "SQLite was built without the flag in .cargo/config.toml"
        );
        let (syncs, violations) = syncs_and_violations(&traced_relay);
        assert!(u128::from(syncs) >= ONE_BY_ONE, "{syncs} syncs");
        assert_eq!(violations, 0, "answered before the sync");

        let unsynced = traced("danger_synchronous_off = true", what).await;
        let (_, violations) = syncs_and_violations(&unsynced);
        assert!(
            u128::from(violations) >= ONE_BY_ONE,
            "the check itself must be able to fail"
        );
    }
}

/// Messages of the test below; it cuts the store back when a half of them is acknowledged.
const PIPELINED: u128 = 400;

/// A store as it is when the machine went down.
struct CutBack {
    folder: TempDir,
    bob: Person,
    acknowledged: BTreeSet<u128>,
    found: BTreeSet<u128>,
}

/// Kills a relay under load and leaves of its store what was synced.
async fn cut_back(before: &str) -> CutBack {
    let folder = init();
    configure(folder.path(), before, OPEN);
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-xx", "-s", "70000", "-o"])
        .args([
            trace.to_str().unwrap(),
            "-e",
            "trace=pwrite64,fdatasync,fsync",
        ])
        .arg(env!("CARGO_BIN_EXE_hostchat-relay"));
    let mut process = Process::start_as(command, folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&process.place, &bob).await);
    let mut from = Client::register(&process.place, &alice).await;
    let mut asked = BTreeMap::new();
    for id in 0..PIPELINED {
        let call = message(&bob, id, Kind::Message, b"x");
        asked.insert(from.ask(call).await, id);
    }
    let mut acknowledged = BTreeSet::new();
    while acknowledged.len() < PIPELINED as usize / 2 {
        match from.next().await {
            Got::Stored(id) => acknowledged.insert(asked[&id]),
            got => panic!("{got:?}"),
        };
    }
    // strace itself ends in order, with everything in its file.
    let strace = process.child.id();
    let children = std::fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"));
    let relay = Pid::from_raw(children.unwrap().trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(relay, rustix::process::Signal::KILL).unwrap();
    process.child.wait().unwrap();

    let trace = std::fs::read_to_string(trace).unwrap();
    for name in ["relay.db", "relay.db-wal"] {
        std::fs::write(folder.path().join(name), synced(&trace, name)).unwrap();
    }
    std::fs::remove_file(folder.path().join("relay.db-shm")).unwrap();
    let database = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    let mut found = BTreeSet::new();
    // Without syncs there may be no table.
    if let Ok(mut ids) = database.prepare("SELECT message_id FROM message") {
        let ids = ids.query_map([], |row| Ok(u128::from_be_bytes(row.get(0)?)));
        found.extend(ids.unwrap().map(Result::unwrap));
    }
    CutBack {
        folder,
        bob,
        acknowledged,
        found,
    }
}

/// A file of the store with what was written to it before the start of a sync that was done, and nothing else.
fn synced(trace: &str, name: &str) -> Vec<u8> {
    let of_file: String = name.bytes().map(|b| format!("\\x{b:02x}")).collect();
    let of_file = format!("\\x2f{of_file}>");
    let (mut image, mut written, mut syncing) = (Vec::new(), Vec::new(), BTreeMap::new());
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        let of_file = call.contains(&of_file);
        let done = if call.starts_with("pwrite64(") && of_file {
            written.push(write_of(call));
            None
        } else if is_sync && of_file && call.contains("unfinished") {
            syncing.insert(pid, written.len());
            None
        } else if is_sync && of_file && call.ends_with("= 0") {
            Some(written.len())
        } else if call.contains("sync resumed>") {
            syncing.remove(pid)
        } else {
            None
        };
        for (offset, bytes) in written.drain(..done.unwrap_or(0)) {
            let end = offset + bytes.len();
            image.resize(end.max(image.len()), 0);
            image[offset..end].copy_from_slice(&bytes);
        }
    }
    image
}

/// Where a write went and what it wrote, of a line like `pwrite64(3<\x2f..>, "\x00\x1f..", 24, 4096) = 24`.
fn write_of(call: &str) -> (usize, Vec<u8>) {
    let parts: Vec<_> = call.split('"').collect();
    let digits = parts[1].split("\\x").skip(1);
    let bytes: Vec<_> = digits.map(|d| u8::from_str_radix(d, 16).unwrap()).collect();
    let numbers = parts[2].split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.filter(|number| !number.is_empty());
    let length: usize = numbers.next().unwrap().parse().unwrap();
    assert_eq!(bytes.len(), length, "whole");
    (numbers.next().unwrap().parse().unwrap(), bytes)
}

#[tokio::test]
async fn what_was_acknowledged_is_in_a_store_cut_back_to_what_was_synced() {
    let store = cut_back("").await;
    let lost: Vec<_> = store.acknowledged.difference(&store.found).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    // A relay recovers it, and hands out what is there.
    let process = Process::start(store.folder.path());
    let mut to = Client::login(&process.place, &store.bob).await;
    let delivered = to.drain(true).await;
    let ids = delivered.iter().map(|d| u128::from_be_bytes(d.message_id));
    assert_eq!(ids.collect::<BTreeSet<_>>(), store.found);
    assert_eq!(delivered.len(), store.found.len(), "each once");

    let store = cut_back("danger_synchronous_off = true").await;
    assert!(
        store.acknowledged.difference(&store.found).count() > 0,
        "the check itself must be able to fail"
    );
}

#[tokio::test]
async fn a_full_database_refuses_and_recovers_when_space_returns() {
    let folder = init();
    configure(folder.path(), "", &format!("{OPEN}\ndatabase_mib = 1"));
    let process = Process::start(folder.path());
    fill_and_recover(&process, |_| {}).await;
}

#[tokio::test]
async fn a_failing_disk_refuses_and_recovers_when_space_returns() {
    let folder = init();
    configure(folder.path(), "", OPEN);
    let process = limited_to(folder.path(), 2 << 20);
    fill_and_recover(&process, |process| {
        let pid = Pid::from_child(&process.child);
        prlimit(
            Some(pid),
            Resource::Fsize,
            Rlimit {
                current: None,
                maximum: None,
            },
        )
        .unwrap();
    })
    .await;
}

/// The disk becomes read-only for a while, after so many writes of a thread and for so many.
#[tokio::test]
async fn a_disk_that_is_read_only_refuses_and_recovers_when_it_is_not() {
    let folder = init();
    configure(folder.path(), "", OPEN);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e", "trace=pwrite64", "-e"])
        .arg("inject=pwrite64:error=EROFS:when=200..260")
        .arg(env!("CARGO_BIN_EXE_hostchat-relay"))
        // The relay is a child of strace: it has to go with it.
        .process_group(0);
    let mut process = Process::start_as(command, folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&process.place, &bob).await;
    let mut from = Client::register(&process.place, &alice).await;
    let (mut stored, mut refused) = (0u128, 0);
    // Each message again until it is taken, and some more.
    while refused == 0 || stored < 150 {
        match from.send(&bob, stored, b"x").await {
            Got::Stored(_) => stored += 1,
            got => {
                assert_eq!(got.reason(), Some(Reason::RelayFull), "{got:?}");
                refused += 1;
            }
        }
        assert!(stored < 10_000, "no write failed");
        assert!(refused < 100, "does not recover");
    }
    assert_eq!(to.drain(true).await.len() as u128, stored);
    let group = Pid::from_child(&process.child);
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    process.child.wait().unwrap();
}

/// Starts a relay whose files cannot grow beyond `bytes`: writes fail as on a full disk.
fn limited_to(folder: &Path, bytes: u64) -> Process {
    let mut command = Command::new("sh");
    // The signal that comes with the limit is ignored, so that the write itself fails.
    let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_hostchat-relay")]);
    let process = Process::start_as(command, folder);
    let limit = Rlimit {
        current: Some(bytes),
        maximum: None,
    };
    let pid = Pid::from_child(&process.child);
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    process
}

async fn fill_and_recover(process: &Process, make_room: impl FnOnce(&Process)) {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&process.place, &bob).await;
    let mut from = Client::register(&process.place, &alice).await;
    let body = vec![7; 4096];
    let mut stored = 0u128;
    let refusal = loop {
        match from.send(&bob, stored, &body).await {
            Got::Stored(_) => stored += 1,
            got => break got.refusal().unwrap(),
        }
        assert!(stored < 10_000, "never full");
    };
    assert_eq!(refusal.reason, Reason::RelayFull);
    assert!(refusal.retry_after_ms > 0);
    assert!(stored > 50, "{stored}");
    let again = from.send(&bob, stored, &body).await;
    assert_eq!(
        again.reason(),
        Some(Reason::RelayFull),
        "still, and the relay lives"
    );

    make_room(process);
    let delivered = to.drain(true).await;
    assert_eq!(
        delivered.len() as u128,
        stored,
        "everything acknowledged is there"
    );
    assert!(delivered.iter().all(|d| d.body == body));
    assert!(
        from.send(&bob, stored, &body).await.is_stored(),
        "there is room again"
    );
}

#[tokio::test]
async fn the_disk_floor_keeps_room_for_acknowledgements() {
    let folder = init();
    configure(folder.path(), "", "disk_floor_mib = 4294967295");
    let process = Process::start(folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&process.place, &bob).await);
    let mut from = Client::register(&process.place, &alice).await;
    assert_eq!(
        from.send(&bob, 1, b"x").await.reason(),
        Some(Reason::RelayFull)
    );
}

#[test]
fn a_relay_takes_as_many_descriptors_as_it_may() {
    let folder = init();
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64:", env!("CARGO_BIN_EXE_hostchat-relay")]);
    let process = Process::start_as(command, folder.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<&str> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{limits}");
    assert_ne!(numbers[0], "64");
}

#[tokio::test]
async fn without_descriptors_those_who_are_in_go_on_and_others_come_in_later() {
    let folder = init();
    let process = Process::start(folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&process.place, &bob).await;
    let mut from = Client::register(&process.place, &alice).await;
    let pid = Pid::from_child(&process.child);
    let fds = std::fs::read_dir(format!("/proc/{}/fd", process.child.id()))
        .unwrap()
        .count();
    let limit = Rlimit {
        current: Some(fds as u64 + 5),
        ..getrlimit(Resource::Nofile)
    };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(TcpStream::connect(process.place.dial).await.unwrap());
    }
    assert!(from.send(&bob, 1, b"x").await.is_stored());
    assert_eq!(to.drain(true).await.len(), 1);
    drop(crowd);
    let mut late = Client::connect(&process.place).await;
    let login = late.bound.login(&alice, alice.user());
    assert!(matches!(late.call(Call::Login(login)).await, Got::Done(_)));
}
