//! Bits that turned over in the files of a store, as on a bad disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::relay::Call;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::client::{Client, Got, Person};
use crate::harness::{Process, init, program, rounds};

/// Messages in the store: some in the database itself, the others in its log.
const MESSAGES: u128 = 40;
/// Of each: they fill several pages.
const BODY: usize = 700;

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

const PAGE: usize = 4096;
/// Of a log.
const HEADER: usize = 32;

fn body(id: u128) -> Vec<u8> {
    sha256(&[&id.to_be_bytes()]).repeat(BODY / 32)
}

/// How the relay ended that left a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The second half of the messages is in the log alone.
    Killed,
    /// Everything is in the database.
    InOrder,
}

/// The folder of a relay that has ended, and who receives what is there.
async fn left_behind(ended: Ended) -> (TempDir, Person) {
    let folder = init();
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    for (half, ids) in [0..MESSAGES / 2, MESSAGES / 2..MESSAGES]
        .into_iter()
        .enumerate()
    {
        let mut process = Process::start(folder.path());
        drop(Client::register(&process.place, &bob).await);
        let mut from = Client::register(&process.place, &alice).await;
        for id in ids {
            assert!(from.send(&bob, id, &body(id)).await.is_stored());
        }
        if half == 0 || ended == Ended::InOrder {
            kill_process(Pid::from_child(&process.child), Signal::TERM).unwrap();
        } else {
            process.child.kill().unwrap();
        }
        process.child.wait().unwrap();
    }
    (folder, bob)
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap().flatten() {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// Turns one bit over, at a place that the round says, and returns the place.
fn flip(path: &Path, round: u32, of: u32) -> usize {
    let mut bytes = std::fs::read(path).unwrap();
    let noise = sha256(&[&round.to_be_bytes()]);
    let stretch = bytes.len() / of as usize;
    let offset = usize::from(u16::from_be_bytes([noise[0], noise[1]])) % stretch.max(1);
    let (mut at, bit) = (stretch * round as usize + offset, noise[2] % 8);
    if path.ends_with("relay.db-wal") && round == 0 {
        at %= HEADER;
    }
    if path.ends_with("relay.db") && round % 2 == 1 {
        // Most of a small database is bodies and empty space: every other flip is in the header of a page.
        at = at / PAGE * PAGE + usize::from(noise[3] % 12);
    }
    bytes[at] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
    at
}

/// What the relay hands out: nothing, too, if it does not let its user in any more.
async fn handed_out(process: &Process, bob: &Person) -> Vec<(u128, Vec<u8>)> {
    let mut client = Client::connect(&process.place).await;
    let login = client.bound.login(bob, bob.user());
    let mut got = Vec::new();
    if client.call(Call::Login(login)).await == Got::End {
        return got;
    }
    client.ask(Call::Receive).await;
    loop {
        match client.next().await {
            Got::Deliver(d) => got.push((u128::from_be_bytes(d.message_id), d.body)),
            Got::Done(_) => {}
            _ => return got,
        }
    }
}

/// What becomes of a store with one bit turned over.
struct Flipped {
    name: String,
    at: usize,
    /// Whether `check` finds it.
    found: bool,
    /// `None` if the relay refuses to start.
    messages: Option<Vec<(u128, Vec<u8>)>>,
}

/// Flips a bit in a copy of the store, which the relay must refuse as it is, or serve.
async fn flipped(good: &Path, file: &str, bob: &Person, round: u32, of: u32) -> Flipped {
    let folder = tempfile::tempdir().unwrap();
    copy_files(good, folder.path());
    let path = folder.path().join(file);
    let at = flip(&path, round, of);
    let name = format!("{file}, byte {at}, round {round} of {of}");
    let flipped = std::fs::read(&path).unwrap();
    // No panic and no signal, but what the README lists.
    let known = |code| assert!(matches!(code, Some(0 | 3 | 5 | 6)), "{name}: {code:?}");

    let check = program(&["check", "--dir", folder.path().to_str().unwrap()]);
    known(check.status.code());
    assert!(std::fs::read(&path).unwrap() == flipped, "{name}: changed");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::null());
    let messages = match Process::try_start(command, folder.path(), "error") {
        Err(code) => {
            known(code);
            assert!(std::fs::read(&path).unwrap() == flipped, "{name}: changed");
            None
        }
        Ok(mut process) => {
            let handed_out = timeout(PATIENCE, handed_out(&process, bob)).await;
            assert_eq!(process.child.try_wait().unwrap(), None, "{name}: it ended");
            Some(handed_out.expect("an answer"))
        }
    };
    let found = !check.status.success();
    Flipped {
        name,
        at,
        found,
        messages,
    }
}

/// The log has checksums: it is recovered up to the first bad record, and no further. With a bad header there would be no
/// record at all, and nothing to say so: it is refused.
#[tokio::test]
async fn of_a_log_with_a_flipped_bit_what_lies_before_is_recovered() {
    let (good, bob) = left_behind(Ended::Killed).await;
    let flips = rounds("HOSTCHAT_FLIPS", 24);
    let mut counts = Vec::new();
    for round in 0..flips {
        let flipped = flipped(good.path(), "relay.db-wal", &bob, round, flips).await;
        let name = flipped.name;
        let Some(messages) = flipped.messages else {
            assert!(flipped.found && flipped.at < HEADER, "{name}: refused");
            continue;
        };
        assert!(flipped.at >= HEADER, "{name}: served");
        let before = (0..messages.len() as u128).map(|id| (id, body(id)));
        assert!(before.eq(messages.iter().cloned()), "{name}");
        assert!(
            messages.len() as u128 >= MESSAGES / 2,
            "{name}: the database's"
        );
        counts.push(messages.len() as u128);
    }
    println!("{flips} flips; handed out were {counts:?} of {MESSAGES}");
    assert!(
        counts.iter().any(|count| *count < MESSAGES),
        "no flip did anything"
    );
}

/// The database has none: what is not found makes no message of nothing, and none come twice. That a body is another one is
/// found by its receiver, who cannot open it.
#[tokio::test]
async fn of_a_database_with_a_flipped_bit_nothing_is_made_up() {
    let (good, bob) = left_behind(Ended::InOrder).await;
    let flips = rounds("HOSTCHAT_FLIPS", 24);
    let (mut found, mut refused, mut altered, mut hidden) = (0, 0, 0, 0);
    for round in 0..flips {
        let flipped = flipped(good.path(), "relay.db", &bob, round, flips).await;
        let name = flipped.name;
        found += usize::from(flipped.found);
        let Some(messages) = flipped.messages else {
            assert!(
                flipped.found,
                "{name}: refused, and the check finds nothing"
            );
            refused += 1;
            continue;
        };
        let ids: BTreeSet<u128> = messages.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), messages.len(), "{name}: twice");
        assert!(messages.len() as u128 <= MESSAGES, "{name}: more");
        let others = messages.iter().filter(|(id, bytes)| body(*id) != *bytes);
        let others = others.count();
        assert!(others <= 1, "{name}: {others} altered");
        altered += others;
        let missing = (messages.len() as u128) < MESSAGES;
        assert!(
            !missing || flipped.found,
            "{name}: hidden, and the check finds nothing"
        );
        hidden += usize::from(missing);
    }
    println!(
        "{flips} flips: {found} found by a check, {refused} refused at the start, {altered} altered a body or an id, {hidden} hid messages"
    );
    assert!(found > 0, "no flip was found");
}

/// As when the power goes in the first moments of a database.
#[tokio::test]
async fn a_log_of_which_only_the_beginning_is_there_is_no_damage() {
    let (good, _) = left_behind(Ended::Killed).await;
    let log = std::fs::read(good.path().join("relay.db-wal")).unwrap();
    for length in [0, 1, HEADER, HEADER + 1, HEADER + 24 + 100] {
        let folder = init();
        std::fs::write(folder.path().join("relay.db"), b"").unwrap();
        std::fs::write(folder.path().join("relay.db-wal"), &log[..length]).unwrap();
        let process = Process::start(folder.path());
        drop(Client::register(&process.place, &Person::new("carol")).await);
    }
}

#[tokio::test]
async fn a_flipped_bit_in_another_file_is_refused_or_harmless() {
    let (good, bob) = left_behind(Ended::InOrder).await;
    let flips = rounds("HOSTCHAT_FLIPS", 24) / 3;
    for file in ["relay.toml", "cert.pem", "key.pem"] {
        for round in 0..flips {
            let flipped = flipped(good.path(), file, &bob, round, flips).await;
            if let Some(messages) = flipped.messages {
                assert_eq!(messages.len() as u128, MESSAGES, "{}", flipped.name);
            }
        }
    }
}
