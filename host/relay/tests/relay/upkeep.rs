//! The store under the operator's hands: checked, saved, put back, and recovered after a crash.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hostchat_core::wire::relay::Call;
use hostchat_core::wire::{Generation, PrekeyKind};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, Got, Person, take_one_time};
use crate::generations::{advance, generation};
use crate::harness::{Process, init, program};

fn on(folder: &Path, command: &str, more: &[&str]) -> Output {
    let mut arguments = vec![command, "--dir", folder.to_str().unwrap()];
    arguments.extend(more);
    program(&arguments)
}

#[track_caller]
fn said(output: &Output, code: i32, says: &str) {
    let (out, error) = (&output.stdout, &output.stderr);
    let text = String::from_utf8_lossy(out) + String::from_utf8_lossy(error);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says}: {text}");
}

fn terminate(mut process: Process) -> String {
    kill_process(Pid::from_child(&process.child), Signal::TERM).unwrap();
    let mut log = String::new();
    if let Some(mut stderr) = process.child.stderr.take() {
        stderr.read_to_string(&mut log).unwrap();
    }
    assert!(process.child.wait().unwrap().success(), "{log}");
    log
}

fn start_logging(folder: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    Process::start_logging(command, folder, "info")
}

/// Registers both if they are not, and sends bodies to bob.
async fn store(process: &Process, (alice, bob): (&Person, &Person), bodies: &[&str]) {
    drop(Client::register(&process.place, bob).await);
    let mut from = Client::register(&process.place, alice).await;
    for body in bodies {
        let id = Person::new("x").key.expose_bytes()[..16].try_into();
        let id = u128::from_be_bytes(id.unwrap());
        assert!(from.send(bob, id, body.as_bytes()).await.is_stored());
    }
}

async fn bodies(process: &Process, bob: &Person) -> Vec<String> {
    let mut to = Client::login(&process.place, bob).await;
    let delivered = to.drain(false).await.into_iter();
    delivered
        .map(|d| String::from_utf8(d.body).unwrap())
        .collect()
}

/// A stopped relay that holds "one" and "two" for bob.
async fn stopped() -> (TempDir, Person, Person) {
    let folder = init();
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let process = Process::start(folder.path());
    store(&process, (&alice, &bob), &["one", "two"]).await;
    terminate(process);
    (folder, alice, bob)
}

#[tokio::test]
async fn a_backup_of_the_running_relay_is_restored() {
    let folder = init();
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let process = Process::start(folder.path());
    store(&process, (&alice, &bob), &["one", "two"]).await;
    let copy = folder.path().join("copy.db");
    let to = ["--to", copy.to_str().unwrap()];
    said(&on(folder.path(), "backup", &to), 0, "accounts 2");
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    store(&process, (&alice, &bob), &["three"]).await;
    let before = std::fs::read(&copy).unwrap();
    said(&on(folder.path(), "backup", &to), 3, "exists already");
    assert!(std::fs::read(&copy).unwrap() == before, "overwritten");

    let from = ["--from", copy.to_str().unwrap()];
    said(&on(folder.path(), "restore", &from), 7, "another relay");
    terminate(process);
    said(&on(folder.path(), "restore", &from), 3, "--force");
    let force = ["--from", copy.to_str().unwrap(), "--force"];
    let output = on(folder.path(), "restore", &force);
    said(&output, 0, "relay.db.before-1");
    said(&output, 0, "messages 2 (6 bytes) in 1 mailboxes");
    // It was copied beside a running relay, and is no relic of a crash.
    let checked = on(folder.path(), "check", &[]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!text.contains("did not end in order"), "{text}");
    let process = Process::start(folder.path());
    assert_eq!(bodies(&process, &bob).await, ["one", "two"]);
    terminate(process);

    // What was moved aside is a whole store, and goes back the same way.
    let aside = folder.path().join("relay.db.before-1");
    let force = ["--from", aside.to_str().unwrap(), "--force"];
    said(
        &on(folder.path(), "restore", &force),
        0,
        "relay.db.before-2",
    );
    let process = Process::start(folder.path());
    assert_eq!(bodies(&process, &bob).await, ["one", "two", "three"]);
    let left = std::fs::read_dir(folder.path()).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("partial")));
}

/// What a client has to live with (SPEC §12.6): the relay cannot know what it gave since, and the owner's token refuses the
/// second message for such a prekey. The generation that went back tells the owner.
#[tokio::test]
async fn a_relay_restored_from_an_older_backup_gives_a_prekey_twice_and_its_generations_went_back()
{
    let folder = init();
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let process = Process::start(folder.path());
    let mut from = Client::register(&process.place, &alice).await;
    let mut owner = Client::register(&process.place, &bob).await;
    for (kind, id) in [
        (PrekeyKind::LastResort, 100),
        (PrekeyKind::OneTime, 1),
        (PrekeyKind::OneTime, 2),
    ] {
        owner.call(Call::PutPrekey(bob.prekey(kind, id))).await;
    }
    let (one, two) = (generation(1, 1), generation(2, 2));
    let (none, three) = (Generation::NONE, generation(3, 3));
    assert_eq!(advance(&mut owner, none, one).await, Ok(()));
    let copy = folder.path().join("copy.db");
    let copy = copy.to_str().unwrap();
    said(
        &on(folder.path(), "backup", &["--to", copy]),
        0,
        "accounts 2",
    );

    let first = take_one_time(&mut from, &bob.name, 1).await;
    assert_eq!(advance(&mut owner, one, two).await, Ok(()));
    drop((from, owner));
    terminate(process);
    let restored = on(folder.path(), "restore", &["--from", copy, "--force"]);
    said(&restored, 0, "restored");

    let process = Process::start(folder.path());
    let mut from = Client::login(&process.place, &alice).await;
    let again = take_one_time(&mut from, &bob.name, 1).await;
    assert_eq!((first, again), (vec![1], vec![1]), "the same prekey");
    // After a refusal the sender takes what cannot have been given before.
    let name = bob.name.clone();
    let got = from.call(Call::TakeLastResort(name)).await;
    assert!(
        matches!(&got, Got::Bundle(_, bundle) if bundle.one_time.is_none()),
        "{got:?}"
    );
    let mut owner = Client::login(&process.place, &bob).await;
    let went_back = advance(&mut owner, two, three).await;
    assert_eq!(went_back, Err(one));
    assert_eq!(advance(&mut owner, one, three).await, Ok(()), "set anew");
    drop((from, owner));
    terminate(process);
}

#[tokio::test]
async fn what_is_no_good_backup_is_not_restored() {
    let (folder, ..) = stopped().await;
    let good = std::fs::read(folder.path().join("relay.db")).unwrap();
    let bad = folder.path().join("bad.db");
    let force = ["--from", bad.to_str().unwrap(), "--force"];

    said(&on(folder.path(), "restore", &force), 1, "bad.db");
    let mut damaged = good.clone();
    for at in (4096..damaged.len()).step_by(512) {
        damaged[at] ^= 0xff;
    }
    for wrong in [damaged, vec![], b"no database at all".repeat(300)] {
        std::fs::write(&bad, wrong).unwrap();
        said(&on(folder.path(), "restore", &force), 5, "bad.db");
    }
    // A store in use, copied with its log: the copy alone would lack what is in the log.
    std::fs::write(&bad, &good).unwrap();
    let log = folder.path().join("bad.db-wal");
    std::fs::write(&log, "log").unwrap();
    said(&on(folder.path(), "restore", &force), 5, "take a backup");
    std::fs::remove_file(&log).unwrap();

    let store = std::fs::read(folder.path().join("relay.db")).unwrap();
    assert!(store == good, "nothing of it touched the store");
    said(&on(folder.path(), "restore", &force), 0, "restored");
}

#[tokio::test]
async fn a_check_finds_what_does_not_hold_together() {
    let (folder, ..) = stopped().await;
    let path = folder.path().join("relay.db");
    let good = std::fs::read(&path).unwrap();
    said(&on(folder.path(), "check", &[]), 0, "good: format 7");
    assert!(
        std::fs::read(&path).unwrap() == good,
        "a check changes nothing"
    );
    let process = Process::start(folder.path());
    said(&on(folder.path(), "check", &[]), 0, "a relay runs on it");
    terminate(process);
    let good = std::fs::read(&path).unwrap();

    for (says, sql) in [
        (
            "2 messages of accounts that",
            "DELETE FROM account WHERE name = 'bob'",
        ),
        (
            "1 messages with numbers",
            "UPDATE counter SET next_number = 2",
        ),
        (
            "1 messages that a repeat",
            "DELETE FROM seen WHERE rowid_of_one",
        ),
        (
            "1 accounts whose name",
            "UPDATE account SET name = 'NOT A NAME' WHERE name = 'bob'",
        ),
        (
            "2 accounts whose name",
            "UPDATE account SET identity = zeroblob(128)",
        ),
        (
            "2 messages that cannot be read",
            "UPDATE message SET sender = 'nobody'",
        ),
        (
            "1 prekeys that cannot",
            "INSERT INTO prekey VALUES (1, 0, 1, 1, 1, x'00')",
        ),
        (
            "1 prekeys of accounts",
            "INSERT INTO prekey VALUES (99, 0, 1, 1, 1, NULL)",
        ),
        (
            "1 block list entries of accounts",
            "INSERT INTO blocked VALUES (99, 'alice')",
        ),
        (
            "1 block list entries that cannot",
            "INSERT INTO blocked VALUES (1, 'NOT A NAME'), (1, 'alice'), (1, 'a@h:1')",
        ),
        (
            "1 generations of accounts",
            "INSERT INTO generation VALUES (99, 1, zeroblob(16))",
        ),
        (
            "CHECK constraint failed in message",
            "PRAGMA ignore_check_constraints = 1; UPDATE message SET fingerprint = x'00'",
        ),
        ("1 missing or surplus", "DELETE FROM counter"),
        ("accounts with numbers", "DELETE FROM sqlite_sequence"),
    ] {
        std::fs::write(&path, &good).unwrap();
        let database = rusqlite::Connection::open(&path).unwrap();
        let one = "message_id = (SELECT min(message_id) FROM seen)";
        let sql = sql.replace("rowid_of_one", one);
        database.execute_batch(&sql).unwrap();
        database.close().unwrap();
        said(&on(folder.path(), "check", &[]), 5, says);
    }
    // A bit flip in a page of the middle.
    let mut flipped = good.clone();
    let middle = flipped.len() / 2 / 4096 * 4096;
    flipped[middle] ^= 0xff;
    std::fs::write(&path, &flipped).unwrap();
    said(&on(folder.path(), "check", &[]), 5, "damaged");
    assert!(std::fs::read(&path).unwrap() == flipped, "changed");
}

#[tokio::test]
async fn a_crash_is_recovered_from_and_said_and_an_end_in_order_is_not() {
    let folder = init();
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut process = start_logging(folder.path());
    store(&process, (&alice, &bob), &["one"]).await;
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    drop(process);

    let process = start_logging(folder.path());
    assert_eq!(bodies(&process, &bob).await, ["one"]);
    let log = terminate(process);
    assert!(log.contains("did not end in order"), "{log}");
    assert!(log.contains("\"messages\":1"), "{log}");

    let log = terminate(start_logging(folder.path()));
    assert!(!log.contains("did not end in order"), "{log}");
    assert!(!log.contains("is whole"), "the file is not read: {log}");
}

#[tokio::test]
async fn only_after_a_crash_is_the_whole_file_read() {
    let (folder, ..) = stopped().await;
    let path = folder.path().join("relay.db");
    // A page that nothing reads while registration is open.
    let database = rusqlite::Connection::open(&path).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'invitation'";
    let page: usize = database
        .query_row(root, [], |row| row.get(0).map(|page: u32| page as usize))
        .unwrap();
    database.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(page - 1) * 4096] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    said(&on(folder.path(), "check", &[]), 5, "damaged");
    let mut process = Process::start(folder.path());
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    said(&on(folder.path(), "run", &[]), 5, "damaged");
}
