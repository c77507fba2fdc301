//! The log of who wrote to whom: off by default, complete when on, filtered, and gone after its time.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hostchat_core::wire::relay::{Kind, Reason};
use hostchat_relay::Config;
use hostchat_relay::clock::ManualClock;
use serde_json::{Value, json};

use crate::admin::admin;
use crate::blobs::File;
use crate::client::{Client, Person, message};
use crate::harness::{TestRelay, WALL, also_on_nats, nats_url, on_nats, run_on_nats, servers};

const DAY: u64 = 24 * 3_600_000;

fn week(config: &mut Config) {
    config.audit.log_days = 7;
    config.limits.idle_seconds = 3600;
}

async fn log(relay: &TestRelay, arguments: &[&str]) -> Vec<Value> {
    let mut all = vec!["log", "--json"];
    all.extend(arguments);
    let output = admin(relay.folder.path(), &all).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The numbers of the entries.
async fn numbers(relay: &TestRelay, arguments: &[&str]) -> Vec<u64> {
    let entries = log(relay, arguments).await;
    entries
        .iter()
        .map(|entry| entry["number"].as_u64().unwrap())
        .collect()
}

/// The value of `--since` and `--until` for this time.
fn moment(at: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at)).to_string()
}

/// Lets the clock go on by a minute; on NATS, where it is the server's, by a little.
async fn later(relay: &TestRelay) {
    relay.clock.advance(60_000);
    if on_nats() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

also_on_nats!(
    nothing_is_kept_unless_the_operator_says_so,
    what_was_stored_is_logged_once_and_found_by_sender_receiver_and_time,
    a_fetched_file_is_logged_once_for_each_reader_and_found_like_a_message,
    a_long_log_comes_in_pages_each_entry_once,
);

fn rows(folder: &Path) -> i64 {
    let db = rusqlite::Connection::open(folder.join("relay.db")).unwrap();
    db.query_row("SELECT count(*) FROM log", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn nothing_is_kept_unless_the_operator_says_so() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&relay.place, &bob).await);
    let mut from = Client::register(&relay.place, &alice).await;
    assert!(from.send(&bob, 1, b"x").await.is_stored());
    let output = admin(relay.folder.path(), &["log"]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(9), "{error}");
    assert!(
        error.contains("keeps no log") && error.contains("log_days"),
        "{error}"
    );
    if !on_nats() {
        assert_eq!(rows(relay.folder.path()), 0);
    }
    let status = admin(relay.folder.path(), &["status"]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains("log of who wrote to whom  off\n"),
        "{status}"
    );
}

#[tokio::test]
async fn what_was_stored_is_logged_once_and_found_by_sender_receiver_and_time() {
    let relay = TestRelay::start(week).await;
    let (alice, bob, carol) = (
        Person::new("alice"),
        Person::new("bob"),
        Person::new("carol"),
    );
    let mut from_alice = Client::register(&relay.place, &alice).await;
    let mut from_bob = Client::register(&relay.place, &bob).await;
    drop(Client::register(&relay.place, &carol).await);
    let guest_address = "alice@elsewhere.example:1";
    let mut guest = Client::guest(&relay.place, &Person::new("alice"), guest_address).await;

    assert!(from_alice.send(&bob, 1, b"canary-31").await.is_stored());
    assert!(
        from_alice.send(&bob, 1, b"canary-31").await.is_stored(),
        "a repeat"
    );
    let refused = from_alice.send(&Person::new("nobody"), 9, b"x").await;
    assert_eq!(refused.reason(), Some(Reason::UnknownName));
    later(&relay).await;
    let first = message(&carol, 2, Kind::First, b"12");
    assert!(from_alice.call(first).await.is_stored());
    let pairing = message(&bob, 3, Kind::Pairing, b"123");
    assert!(guest.call(pairing).await.is_stored());
    later(&relay).await;
    assert!(from_bob.send(&alice, 4, b"1234").await.is_stored());

    let entries = log(&relay, &[]).await;
    let at: Vec<u64> = entries.iter().map(|e| e["at"].as_u64().unwrap()).collect();
    if !on_nats() {
        let minute = |n: u64| WALL + n * 60_000;
        assert_eq!(at, [minute(2), minute(1), minute(1), minute(0)]);
    }
    let entry = |n: usize, number: u64, from: &str, to: &str, kind: &str, bytes: u64| json!({"at": at[n], "number": number, "from": from, "to": to, "kind": kind, "bytes": bytes});
    assert_eq!(
        entries,
        [
            entry(0, 4, "bob", "alice", "message", 4),
            entry(1, 3, guest_address, "bob", "pairing", 3),
            entry(2, 2, "alice", "carol", "first", 2),
            entry(3, 1, "alice", "bob", "message", 9),
        ]
    );
    let (second, last) = (moment(at[2]), moment(at[0]));
    let (second, last) = (second.as_str(), last.as_str());
    let own = format!("alice@{}", relay.place.name);
    for (arguments, expected) in [
        (&["--from", "alice"][..], &[2, 1][..]),
        (&["--from", &own], &[2, 1]),
        (&["--from", guest_address], &[3]),
        (&["--from", "carol"], &[]),
        (&["--to", "bob"], &[3, 1]),
        (&["--from", "alice", "--to", "bob"], &[1]),
        (&["--since", second], &[4, 3, 2]),
        (&["--until", second], &[1]),
        (&["--from", "alice", "--since", second], &[2]),
        (&["--since", second, "--until", last], &[3, 2]),
        (&["--until", "1999-01-01T00:00:00Z"], &[]),
        (&["--since", "9999-01-01T00:00:00Z"], &[]),
        (&["--count", "2"], &[4, 3]),
    ] {
        assert_eq!(numbers(&relay, arguments).await, expected, "{arguments:?}");
    }
    for (arguments, code) in [
        (&["log", "--from", "' OR 1=1"][..], 9),
        (&["log", "--from", ""], 9),
        (&["log", "--to", "%"], 2),
        (&["log", "--since", "yesterday"], 2),
    ] {
        let output = admin(relay.folder.path(), arguments).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let table = admin(relay.folder.path(), &["log"]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    let time = &moment(at[1])[..19];
    assert!(
        table.contains(&format!("{time}Z  alice@elsewhere.example:1  bob")),
        "{table}"
    );
    assert!(!table.contains("canary"));
}

#[tokio::test]
async fn a_fetched_file_is_logged_once_for_each_reader_and_found_like_a_message() {
    let relay = TestRelay::start(week).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut owner = Client::register(&relay.place, &alice).await;
    let mut user = Client::register(&relay.place, &bob).await;
    let guest_address = "carol@elsewhere.example:1";
    let mut guest = Client::guest(&relay.place, &Person::new("carol"), guest_address).await;
    let file = File::new(1, 5, 2);
    owner.call(file.announce()).await;
    assert!(owner.call(file.put(0)).await.is_stored());
    assert_eq!(
        log(&relay, &[]).await,
        [] as [Value; 0],
        "not by being left"
    );
    for _ in 0..2 {
        user.call(file.end(0)).await;
    }
    assert!(owner.send(&bob, 1, b"x").await.is_stored());
    relay.clock.advance(1);
    guest.call(file.end(1)).await;
    let entries = log(&relay, &[]).await;
    if !on_nats() {
        let at: Vec<_> = entries.iter().map(|e| e["at"].as_u64()).collect();
        assert_eq!(at, [WALL + 1, WALL, WALL].map(Some));
    }
    let entry = |n: usize, number: u64, to: &str, kind: &str, bytes: u64| json!({"at": entries[n]["at"], "number": number, "from": "alice", "to": to, "kind": kind, "bytes": bytes});
    assert_eq!(
        entries,
        [
            entry(0, 3, guest_address, "file", 5),
            entry(1, 2, "bob", "message", 1),
            entry(2, 1, "bob", "file", 5),
        ]
    );
    assert_eq!(numbers(&relay, &["--to", "bob"]).await, [2, 1]);
    assert_eq!(numbers(&relay, &["--to", guest_address]).await, [3]);
    assert_eq!(numbers(&relay, &["--from", "alice"]).await, [3, 2, 1]);
    drop((owner, user, guest));
    let folder = relay.stop().await;
    if on_nats() {
        return;
    }
    let dir = folder.path().to_str().unwrap();
    let checked = crate::harness::program(&["check", "--dir", dir]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("log entries 3"), "{said}");
    let db = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    db.execute("UPDATE log SET kind = 4 WHERE number = 1", [])
        .unwrap();
    drop(db);
    let checked = crate::harness::program(&["check", "--dir", dir]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("1 log entries that cannot be read"), "{said}");
}

#[tokio::test]
async fn a_long_log_comes_in_pages_each_entry_once() {
    let relay = TestRelay::start(week).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&relay.place, &bob).await);
    let mut seldom = Client::register(&relay.place, &Person::new("carol")).await;
    assert!(seldom.send(&bob, 0, b"x").await.is_stored());
    let mut from = Client::register(&relay.place, &alice).await;
    for id in 0..250 {
        assert!(from.send(&bob, id, b"x").await.is_stored());
        // Several in one millisecond, and a wall clock that is set back meanwhile.
        match id {
            120 => relay.clock.set_wall(WALL - 5_000),
            id if id % 4 == 0 => relay.clock.advance(1),
            _ => {}
        }
    }
    for (filter, first) in [
        (&[][..], 1),
        (&["--from", "alice"], 2),
        (&["--to", "bob"], 1),
    ] {
        let mut arguments = vec!["--count", "1000"];
        arguments.extend(filter);
        let entries = log(&relay, &arguments).await;
        let key = |entry: &Value| {
            (
                entry["at"].as_u64().unwrap(),
                entry["number"].as_u64().unwrap(),
            )
        };
        assert!(entries.is_sorted_by(|a, b| key(a) > key(b)), "{filter:?}");
        let mut numbers: Vec<u64> = entries.iter().map(|entry| key(entry).1).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (first..=251).collect::<Vec<_>>(), "{filter:?}");
    }
    assert_eq!(numbers(&relay, &["--from", "carol"]).await, [1]);
}

#[tokio::test]
async fn entries_go_after_their_time_and_at_once_when_the_log_is_turned_off() {
    let relay = TestRelay::start(week).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&relay.place, &bob).await);
    let mut from = Client::register(&relay.place, &alice).await;
    assert!(from.send(&bob, 1, b"x").await.is_stored());
    relay.clock.advance(4 * DAY);
    drop(from);
    let mut from = Client::login(&relay.place, &alice).await;
    assert!(from.send(&bob, 2, b"x").await.is_stored());
    assert_eq!(numbers(&relay, &[]).await, [2, 1]);
    // A wall clock that jumps deletes nothing.
    relay.clock.set_wall(WALL + 900 * DAY);
    relay.clock.advance(2 * 3_600_000);
    drop(from);
    drop(Client::login(&relay.place, &alice).await);
    assert_eq!(numbers(&relay, &[]).await.len(), 2);
    relay.clock.advance(3 * DAY);
    while numbers(&relay, &[]).await != [2] {
        relay.clock.advance(61_000);
    }

    let folder = relay.stop().await;
    assert_eq!(rows(folder.path()), 1);
    let relay = TestRelay::start_in(folder, ManualClock::new(WALL + 8 * DAY), |_| {}).await;
    while rows(relay.folder.path()) != 0 {
        tokio::task::yield_now().await;
    }
    let folder = relay.stop().await;
    let checked = crate::harness::program(&["check", "--dir", folder.path().to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn on_nats_entries_go_by_the_servers_clock_and_at_once_when_the_log_is_turned_off() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let relay = TestRelay::start(week).await;
            let (alice, bob) = (Person::new("alice"), Person::new("bob"));
            drop(Client::register(&relay.place, &bob).await);
            let mut from = Client::register(&relay.place, &alice).await;
            assert!(from.send(&bob, 1, b"x").await.is_stored());
            drop(from);
            let folder = relay.stop().await;

            let client = async_nats::connect(nats_url()).await.unwrap();
            let context = async_nats::jetstream::new(client);
            let name = format!("{}-log", servers(folder.path(), Vec::new()).name);
            let log = async || {
                let stream = context.get_stream(&name).await.unwrap();
                let info = stream.cached_info();
                (info.config.max_age.as_secs(), info.state.messages)
            };
            assert_eq!(log().await, (7 * 86_400, 1));
            let start = |folder, change: fn(&mut Config)| {
                TestRelay::start_in(folder, ManualClock::new(WALL), change)
            };
            let folder = start(folder, |config| config.audit.log_days = 3)
                .await
                .stop()
                .await;
            assert_eq!(log().await, (3 * 86_400, 1), "kept, and sooner over");
            let relay = start(folder, |_| {}).await;
            assert_eq!(log().await.1, 0);
            let mut from = Client::login(&relay.place, &alice).await;
            assert!(from.send(&bob, 2, b"x").await.is_stored());
            assert_eq!(log().await.1, 0);
        });
    });
}

#[tokio::test]
async fn check_reads_the_log_too() {
    let relay = TestRelay::start(week).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&relay.place, &bob).await);
    let mut from = Client::register(&relay.place, &alice).await;
    assert!(from.send(&bob, 1, b"x").await.is_stored());
    drop(from);
    let folder = relay.stop().await;
    let check = || {
        let output = crate::harness::program(&["check", "--dir", folder.path().to_str().unwrap()]);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("log entries 1"), "{said}");
    for (spoil, says) in [
        (
            "UPDATE log SET sender = 'a b'",
            "1 log entries that cannot be read",
        ),
        (
            "UPDATE log SET sender = 'alice', number = 99",
            "1 log entries with numbers",
        ),
    ] {
        let db = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
        db.execute(spoil, []).unwrap();
        drop(db);
        let (code, said) = check();
        assert!(code == Some(5) && said.contains(says), "{said}");
    }
}
