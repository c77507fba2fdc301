//! Files under the relay's limits and in its stores: quotas, age, room, load, checks, moves.

use std::path::Path;

use hostchat_core::wire::relay::{BLOB_PART, Call, Reason};
use hostchat_relay::clock::ManualClock;
use hostchat_relay::limits::{IN_FLIGHT, SWEEP_MS};
use hostchat_relay::{Config, Storage};

use crate::blobs::{File, UNKNOWN, blob, done, get_from, part, people, put, refused};
use crate::client::{Client, Person};
use crate::harness::{
    Place, Process, TestRelay, WALL, also_on_nats, configure, init, nats_url, program, run_on_nats,
    servers,
};

const DAY: u64 = 24 * 3_600_000;
pub const MIB: usize = 1024 * 1024;

also_on_nats!(quotas_count_what_was_announced_and_end_and_deletion_release_them);

fn small_quota(config: &mut Config) {
    config.limits.blob_mib = 1;
    config.limits.account_blobs = 3;
    config.limits.account_blobs_mib = 2;
    config.limits.idle_seconds = u32::MAX;
}

#[tokio::test]
async fn quotas_count_what_was_announced_and_end_and_deletion_release_them() {
    let relay = TestRelay::start(small_quota).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let full = Some(Reason::QuotaFull);
    let small = |id| File::new(id, 10, 2);
    for id in 1..=3 {
        put(&mut alice, &small(id), 1).await;
    }
    assert_eq!(refused(&mut alice, small(4).announce()).await, full);
    assert_eq!(refused(&mut alice, small(3).announce()).await, None);
    assert_eq!(refused(&mut bob, small(4).announce()).await, None);
    done(&mut alice, small(1).delete()).await;
    blob(alice.call(small(4).announce()).await);
    assert_eq!(refused(&mut alice, small(5).announce()).await, full);
    done(&mut bob, small(2).end(0)).await;
    assert_eq!(refused(&mut alice, small(5).announce()).await, full);
    done(&mut bob, small(2).end(1)).await;
    blob(alice.call(small(5).announce()).await);
    for id in 3..=5 {
        done(&mut alice, small(id).delete()).await;
    }

    // Bytes count from the announcement on, so that what has begun can be finished.
    let large = |id| File::new(id, MIB, 1);
    let too_large = File::new(9, MIB + 1, 1);
    let reason = refused(&mut alice, too_large.announce()).await;
    assert_eq!(reason, Some(Reason::TooLarge));
    blob(alice.call(large(1).announce()).await);
    blob(alice.call(large(2).announce()).await);
    assert_eq!(refused(&mut alice, small(3).announce()).await, full);
    put(&mut alice, &large(1), 128).await;
    put(&mut alice, &large(2), 128).await;
    assert_eq!(refused(&mut alice, small(3).announce()).await, full);
    done(&mut bob, large(1).end(0)).await;
    blob(alice.call(small(3).announce()).await);
}

#[tokio::test]
async fn a_file_expires_by_its_age_finished_or_not_and_frees_its_quota() {
    let relay = TestRelay::start(small_quota).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let file = |id| File::new(id, BLOB_PART + 1, 1);
    for id in 1..=3 {
        put(&mut alice, &file(id), id as u32 - 1).await;
    }
    relay.clock.advance(15 * DAY);
    assert_eq!(blob(bob.call(file(3).look(0)).await).2, 15 * 86_400);
    // A wall clock that jumps is nothing, and reading does not prolong.
    relay.clock.set_wall(WALL * 2);
    put(&mut alice, &file(2), 2).await;
    relay.clock.advance(15 * DAY - 1);
    assert_eq!(blob(bob.call(file(3).look(0)).await), (8193, 2, 0));
    assert_eq!(
        refused(&mut alice, file(4).announce()).await,
        Some(Reason::QuotaFull)
    );
    relay.clock.advance(1);
    for id in 1..=3 {
        assert_eq!(refused(&mut bob, file(id).look(0)).await, UNKNOWN);
        assert_eq!(refused(&mut bob, file(id).get(0, 0)).await, UNKNOWN);
        assert_eq!(refused(&mut alice, file(id).put(1)).await, UNKNOWN);
    }
    // Announced again under the same id, before or after the sweep.
    put(&mut alice, &file(3), 1).await;
    blob(alice.call(file(4).announce()).await);
    blob(alice.call(file(5).announce()).await);
    let path = relay.folder.path().join("relay.db");
    swept(&relay).await;
    assert_eq!(count(&path, "blob"), 3);
    assert_eq!(count(&path, "blob_part"), 1);
    assert_eq!(count(&path, "blob_reader"), 3);
    assert_eq!(part(bob.call(file(3).get(0, 0)).await), file(3).part(0));
}

pub fn count(path: &Path, table: &str) -> i64 {
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    database.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Lets minutes pass until nothing is left of what was deleted.
pub async fn swept(relay: &TestRelay) {
    let path = relay.folder.path().join("relay.db");
    let left = || {
        let database = rusqlite::Connection::open(&path).unwrap();
        let sql = "SELECT (SELECT count(*) FROM blob_gone) + (SELECT count(*) FROM blob_part
                   WHERE blob NOT IN (SELECT id FROM blob))
                   + (SELECT count(*) FROM blob WHERE expires <= (SELECT age_ms FROM counter))";
        database
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    // The first one makes sure that a sweep has begun.
    relay.clock.advance(SWEEP_MS);
    let mut client = Client::guest(&relay.place, &Person::new("dave"), "dave@else.example:1").await;
    loop {
        client.call(Call::Ping).await;
        if left() == 0 {
            return;
        }
        relay.clock.advance(SWEEP_MS);
    }
}

#[tokio::test]
async fn without_room_nothing_more_comes_in_and_what_is_there_goes_out() {
    let full = Some(Reason::RelayFull);
    let relay = TestRelay::start(|config| config.limits.blobs_mib = 1).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let (file, half) = (File::new(1, BLOB_PART * 2, 1), File::new(2, MIB / 2, 1));
    put(&mut alice, &file, 1).await;
    put(&mut bob, &half, 0).await;
    let refusal = bob.call(File::new(3, MIB / 2, 1).announce()).await;
    let refusal = refusal.refusal().unwrap();
    assert_eq!(
        refusal.reason,
        Reason::RelayFull,
        "of all accounts together"
    );
    assert!(refusal.retry_after_ms > 0);
    assert!(bob.send(&Person::new("bob"), 1, b"x").await.is_stored());
    done(&mut bob, half.delete()).await;
    put(&mut alice, &File::new(3, MIB / 2, 1), 0).await;
    drop((alice, bob));

    let floor = |config: &mut Config| config.limits.disk_floor_mib = u32::MAX;
    let folder = relay.stop().await;
    let relay = TestRelay::start_in(folder, ManualClock::new(WALL), floor).await;
    let alice = Person::new("alice2");
    let mut other = Client::register(&relay.place, &alice).await;
    assert_eq!(refused(&mut other, file.announce()).await, full);
    assert_eq!(part(other.call(file.get(0, 0)).await), file.part(0));
    done(&mut other, file.end(0)).await;
    assert_eq!(refused(&mut other, file.look(0)).await, UNKNOWN);
}

#[tokio::test]
async fn an_upload_that_has_begun_waits_while_the_disk_is_full() {
    let relay = TestRelay::start(|_| {}).await;
    let alice = Person::new("alice");
    let mut from = Client::register(&relay.place, &alice).await;
    let file = File::new(1, BLOB_PART * 2, 1);
    put(&mut from, &file, 1).await;
    drop(from);
    let floor = |config: &mut Config| config.limits.disk_floor_mib = u32::MAX;
    let relay = TestRelay::start_in(relay.stop().await, ManualClock::new(WALL), floor).await;
    let mut from = Client::login(&relay.place, &alice).await;
    assert_eq!(blob(from.call(file.announce()).await).1, 1);
    assert!(from.call(file.put(0)).await.is_stored(), "a repeat");
    let got = refused(&mut from, file.put(1)).await;
    assert_eq!(got, Some(Reason::RelayFull));
    drop(from);
    let relay = TestRelay::start_in(relay.stop().await, ManualClock::new(WALL), |_| {}).await;
    let mut from = Client::login(&relay.place, &alice).await;
    put(&mut from, &file, 2).await;
    assert!(get_from(&mut from, &file, 0, 0).await == file.bytes);
}

/// Memory of a process that is in use, in bytes.
pub fn resident(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: usize = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

#[tokio::test]
async fn those_who_read_slowly_hold_little_memory_and_nobody_up() {
    const SLOW: usize = 24;
    const ASKED: u32 = 2_000;
    /// What one may hold: see `limits::IN_FLIGHT`, and a TLS connection.
    const EACH: usize = 192 * 1024;
    let folder = init();
    let calls = "calls = { burst = 1, per_minute = 0 }\nconnections_per_account = 100";
    configure(folder.path(), "", calls);
    let process = Process::start(folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&process.place, &alice).await;
    let mut to = Client::register(&process.place, &bob).await;
    let file = File::new(1, MIB, 1);
    put(&mut from, &file, file.parts()).await;
    // Caches are warm.
    for _ in 0..2 {
        assert!(get_from(&mut to, &file, 0, 0).await == file.bytes);
    }
    let before = resident(&process);
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = Client::login(&process.place, &bob).await;
        for n in 0..ASKED {
            client.ask(file.get(0, n % file.parts())).await;
        }
        slow.push(client);
    }
    // 375 MiB were asked for. The others go on, both ways, and take longer than the relay needs to read ahead.
    for id in 0..8 {
        assert!(get_from(&mut to, &file, 0, 0).await == file.bytes);
        assert!(from.send(&bob, id, b"x").await.is_stored());
        put(&mut from, &File::new(100 + id, 5 * BLOB_PART, 1), 5).await;
    }
    let grown = resident(&process).saturating_sub(before);
    println!("{} KiB for {SLOW} slow readers", grown / 1024);
    assert!(grown < SLOW * EACH + 8 * MIB, "{} KiB", grown / 1024);
    // And who begins to read gets everything that it asked for.
    let mut late = slow.pop().unwrap();
    drop(slow);
    for n in 0..ASKED {
        assert_eq!(part(late.next().await), file.part(n % file.parts()));
    }
}

#[test]
fn messages_go_on_while_a_large_file_is_put() {
    // All ends take turns on one thread: what has come in is looked at after each turn, so that a turn is all one waits.
    let mut turns = tokio::runtime::Builder::new_current_thread();
    let runtime = turns.enable_all().event_interval(1).build().unwrap();
    runtime.block_on(upload_beside_messages());
}

async fn upload_beside_messages() {
    /// Parts that become durable between a message's sending and its `Stored`. The relay takes 64 before it waits, and 64
    /// more while these are written; the rest is turns of the thread, of some 64 parts each: 130 are usual, 850 were seen
    /// on a busy machine. A message that waited for the upload would see thousands.
    const BETWEEN: u32 = 32 * IN_FLIGHT as u32;
    let relay = TestRelay::start(|config| {
        config.limits.calls.per_minute = 0;
        config.limits.sends.per_minute = 0;
    });
    let relay = relay.await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let carol = Person::new("carol");
    let mut from = Client::register(&relay.place, &carol).await;
    let file = File::new(1, 64 * MIB, 1);
    blob(alice.call(file.announce()).await);
    let path = relay.folder.path().join("relay.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    let stored = || {
        let parts = database.query_row("SELECT parts FROM blob", [], |row| row.get::<_, u32>(0));
        parts.unwrap()
    };
    let upload = tokio::spawn(async move {
        let mut asked = 0;
        for n in 0..file.parts() {
            // Far more on their way than the relay takes of one connection.
            while asked < file.parts() && asked < n + 3 * BETWEEN {
                alice.ask(file.put(asked)).await;
                asked += 1;
            }
            let got = alice.next().await;
            assert!(got.is_stored(), "{got:?}");
        }
        file
    });
    let (mut worst, mut messages) = (0, 0);
    while !upload.is_finished() {
        let before = stored();
        let got = from.send(&carol, messages, b"x").await;
        // Its mailbox is full at some time, which is an answer as well.
        assert!(got.is_stored() || got.reason() == Some(Reason::MailboxFull));
        messages += 1;
        worst = worst.max(stored() - before);
    }
    assert!(worst <= BETWEEN, "{worst} parts between two words");
    assert!(messages > 8192 / u128::from(BETWEEN), "{messages} messages");
    println!("{messages} messages, at most {worst} parts between two");
    let file = upload.await.unwrap();
    assert!(get_from(&mut bob, &file, 0, 0).await == file.bytes);
    done(&mut bob, file.end(0)).await;
    // Gone at once, however large; removed in steps afterwards.
    assert_eq!(refused(&mut bob, file.look(0)).await, UNKNOWN);
    assert_eq!(count(&path, "blob_part"), 8192);
    swept(&relay).await;
    assert_eq!(count(&path, "blob_part"), 0);
}

#[tokio::test]
async fn the_space_of_a_deleted_file_is_used_again() {
    let relay = TestRelay::start(|config| config.limits.idle_seconds = u32::MAX).await;
    let (mut alice, ..) = people(&relay).await;
    let path = relay.folder.path().join("relay.db");
    let pages = || {
        let database = rusqlite::Connection::open(&path).unwrap();
        let count = |what| database.pragma_query_value(None, what, |row| row.get::<_, i64>(0));
        count("page_count").unwrap()
    };
    let mut first = None;
    for id in 0..4 {
        let file = File::new(id, 8 * MIB, 1);
        put(&mut alice, &file, file.parts()).await;
        done(&mut alice, file.delete()).await;
        swept(&relay).await;
        let pages = pages();
        let first = *first.get_or_insert(pages);
        assert!(
            pages <= first + 64,
            "{pages} pages, {first} after the first"
        );
    }
}

#[tokio::test]
async fn a_check_finds_files_that_do_not_hold_together() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    put(&mut alice, &File::new(1, 3 * BLOB_PART + 5, 2), 4).await;
    put(&mut alice, &File::new(2, 3 * BLOB_PART + 5, 1), 2).await;
    put(&mut bob, &File::new(3, 10, 1), 1).await;
    let gone = File::new(4, BLOB_PART, 1);
    put(&mut alice, &gone, 1).await;
    done(&mut alice, gone.delete()).await;
    drop((alice, bob));
    let folder = relay.stop().await;
    let path = folder.path().join("relay.db");
    let check = || {
        let output = program(&["check", "--dir", folder.path().to_str().unwrap()]);
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, said) = check();
    let good = "files 3 (49172 bytes)";
    assert!(code == Some(0) && said.contains(good), "{said}");
    let whole = std::fs::read(&path).unwrap();
    for (says, sql) in [
        (
            "1 files of which acknowledged parts are missing",
            "DELETE FROM blob_part WHERE blob = 1 AND part = 1",
        ),
        (
            "1 files with more parts",
            "UPDATE blob SET parts = 1 WHERE id = 2",
        ),
        (
            "1 files with more parts",
            "UPDATE blob_part SET part = 9 WHERE blob = 2 AND part = 1",
        ),
        (
            "1 files whose parts do not add up",
            "UPDATE blob_part SET bytes = x'00' WHERE blob = 1 AND part = 3",
        ),
        (
            "1 files whose parts do not add up",
            "UPDATE blob SET size = size + 1 WHERE id = 3",
        ),
        (
            "2 files of accounts",
            "UPDATE blob SET owner = 99 WHERE owner = 1",
        ),
        (
            "1 files without readers",
            "DELETE FROM blob_reader WHERE blob = 3",
        ),
        (
            "2 readers of files",
            "UPDATE blob_reader SET blob = 99 WHERE blob = 1",
        ),
        ("1 parts of files", "DELETE FROM blob_gone"),
        (
            "1 deleted files that exist",
            "INSERT INTO blob_gone VALUES (1)",
        ),
        (
            "files with numbers that will be given again",
            "DELETE FROM sqlite_sequence WHERE name = 'blob'",
        ),
    ] {
        std::fs::write(&path, &whole).unwrap();
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch(sql).unwrap();
        database.close().unwrap();
        let (code, said) = check();
        assert!(code == Some(5) && said.contains(says), "{says}: {said}");
    }
}

#[test]
fn files_move_to_nats_and_back() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (alice, bob) = (Person::new("alice"), Person::new("bob"));
            let in_file = |config: &mut Config| config.store = Storage::Sqlite;
            let clock = || ManualClock::new(WALL);
            let (file, begun) = (File::new(1, 300 * BLOB_PART + 9, 2), File::new(2, MIB, 1));
            let relay = TestRelay::start_in(init(), clock(), in_file).await;
            let mut from = Client::register(&relay.place, &alice).await;
            let mut to = Client::register(&relay.place, &bob).await;
            put(&mut from, &file, file.parts()).await;
            put(&mut from, &begun, 3).await;
            done(&mut to, file.end(1)).await;
            drop((from, to));
            let folder = relay.stop().await;
            let path = folder.path().to_owned();
            let dir = path.to_str().unwrap();
            let (url, name) = (nats_url(), servers(&path, Vec::new()).name);
            let section = format!("[nats]\nservers = [\"{url}\"]\nname = \"{name}\"");
            configure(&path, &section, "");

            let moved = program(&["migrate", "--to", "nats", "--dir", dir]);
            let said = String::from_utf8(moved.stdout).unwrap();
            let files = format!("files 2 ({} bytes)", file.bytes.len() + MIB);
            assert!(said.contains(&files), "{said} {:?}", moved.stderr);
            let relay = TestRelay::start_in(folder, clock(), |_| {}).await;
            look(&relay.place, (&alice, &bob), &file, &begun, 3).await;
            let folder = relay.stop().await;

            std::fs::rename(path.join("relay.db"), path.join("before.db")).unwrap();
            let moved = program(&["migrate", "--to", "sqlite", "--dir", dir]);
            let said = String::from_utf8(moved.stdout).unwrap();
            assert!(said.contains(&files), "{said} {:?}", moved.stderr);
            let relay = TestRelay::start_in(folder, clock(), in_file).await;
            look(&relay.place, (&alice, &bob), &file, &begun, 4).await;
        });
    });
}

/// Everything that must be the same after a move; one more part of the file that was begun is put.
async fn look(
    place: &Place,
    (alice, bob): (&Person, &Person),
    file: &File,
    begun: &File,
    parts: u32,
) {
    let mut from = Client::login(place, alice).await;
    let mut to = Client::login(place, bob).await;
    assert!(get_from(&mut to, file, 0, 0).await == file.bytes);
    assert_eq!(refused(&mut to, file.look(1)).await, UNKNOWN, "ended");
    let (_, there, left) = blob(from.call(file.announce()).await);
    assert_eq!(there, file.parts(), "announced with all its readers");
    assert!(left > 29 * 86_400, "{left} seconds");
    assert_eq!(blob(from.call(begun.announce()).await).1, parts);
    put(&mut from, begun, parts + 1).await;
    assert_eq!(part(to.call(begun.get(0, parts)).await), begun.part(parts));
}
