//! The operator's command line on a running relay: what it shows, what it does, and who cannot use it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use hostchat_core::wire::PrekeyKind;
use hostchat_core::wire::relay::{Account, Call, Reason};
use hostchat_relay::Registration;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::client::{Client, Got, Person};
use crate::harness::{TestRelay, WALL, also_on_nats, init, program};

/// Runs `hostchat-relay admin` while the relay of this test goes on.
pub async fn admin(folder: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["admin".to_owned(), "--dir".to_owned()];
    all.push(folder.to_str().unwrap().to_owned());
    all.extend(arguments.iter().map(|a| (*a).to_owned()));
    let run = move || program(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn text(relay: &TestRelay, arguments: &[&str]) -> String {
    let output = admin(relay.folder.path(), arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn value(relay: &TestRelay, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&text(relay, &all).await).unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(says) && error.contains("hint: "), "{error}");
}

fn socket(relay: &TestRelay) -> PathBuf {
    relay.folder.path().join("admin.sock")
}

/// Sends bytes to the socket and returns all that comes back.
async fn raw(relay: &TestRelay, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(relay)).await.unwrap();
    // It may be closed before everything is taken.
    let _ = stream.write_all(bytes).await;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

also_on_nats!(
    users_are_shown_with_presence_and_usage_and_without_contents,
    many_users_come_in_pages_and_all_are_listed_once,
    invitations_are_made_listed_without_their_words_and_withdrawn,
);

#[tokio::test]
async fn users_are_shown_with_presence_and_usage_and_without_contents() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob, carol) = (
        Person::new("alice"),
        Person::new("bob"),
        Person::new("carol"),
    );
    let mut from = Client::register(&relay.place, &alice).await;
    let mut to = Client::register(&relay.place, &bob).await;
    let second = Client::login(&relay.place, &bob).await;
    drop(Client::register(&relay.place, &carol).await);
    to.call(Call::SetVisible(false)).await;
    to.call(Call::PutPrekey(bob.prekey(PrekeyKind::OneTime, 1)))
        .await;
    for id in 0..3 {
        let body = b"canary-77aa01 and more";
        assert!(from.send(&bob, id, body).await.is_stored());
    }
    let expected = |connections: u64| {
        json!([
            {"name": "alice", "connections": 1, "visible": true, "registered_at": WALL,
             "messages": 0, "bytes": 0, "one_time_prekeys": 0,
             "files": 0, "file_bytes": 0, "suspended": false, "last_seen": "2026-09-21"},
            {"name": "bob", "connections": 2, "visible": false, "registered_at": WALL,
             "messages": 3, "bytes": 66, "one_time_prekeys": 1,
             "files": 0, "file_bytes": 0, "suspended": false, "last_seen": "2026-09-21"},
            {"name": "carol", "connections": connections, "visible": true, "registered_at": WALL,
             "messages": 0, "bytes": 0, "one_time_prekeys": 0,
             "files": 0, "file_bytes": 0, "suspended": false, "last_seen": "2026-09-21"},
        ])
    };
    // The relay notices soon that carol has gone, and keeps the day of a login without waiting for it.
    let mut users = value(&relay, &["users"]).await;
    for _ in 0..200 {
        if users == expected(0) {
            break;
        }
        users = value(&relay, &["users"]).await;
    }
    assert_eq!(users, expected(0));
    assert_eq!(value(&relay, &["user", "bob"]).await, users[1]);

    let table = text(&relay, &["users"]).await;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let bobs = [
        "bob",
        "hidden",
        "2",
        "2026-09-21",
        "2026-09-21",
        "3,",
        "66",
        "B",
        "1",
        "0",
    ];
    assert_eq!(lines[2], bobs);
    let one = text(&relay, &["user", "bob"]).await;
    for said in ["shown to others   no", "2026-09-21T14:13:20Z", "3, 66 B"] {
        assert!(one.contains(said), "{one}");
    }
    let status = value(&relay, &["status"]).await;
    for (key, expected) in [
        ("accounts", 3),
        ("messages", 3),
        ("stored", 3),
        ("stored_bytes", 66),
        ("delivered", 0),
        ("logged_in", 3),
    ] {
        assert_eq!(status[key], json!(expected), "{key}");
    }
    assert_eq!(status["names"], json!([relay.place.name.as_str()]));
    assert_eq!(value(&relay, &["limits"]).await["connections"], json!(4096));
    let limits = text(&relay, &["limits"]).await;
    assert!(
        limits.contains("600 at once, then 600 a minute"),
        "{limits}"
    );

    for command in [&["users"][..], &["user", "bob"], &["status"]] {
        for shown in [
            text(&relay, command).await,
            value(&relay, command).await.to_string(),
        ] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
    drop((from, to, second));
}

#[tokio::test]
async fn an_empty_list_is_told_beside_the_output() {
    let relay = TestRelay::start(|config| config.audit.log_days = 7).await;
    for (list, said) in [
        ("users", "note: no accounts yet"),
        ("invitations", "note: no invitation can be used now"),
        ("log", "note: no entries"),
    ] {
        let shown = admin(relay.folder.path(), &[list]).await;
        assert!(
            shown.status.success() && shown.stdout.is_empty(),
            "{shown:?}"
        );
        let told = String::from_utf8_lossy(&shown.stderr);
        assert!(told.starts_with(said), "{told}");
        let shown = admin(relay.folder.path(), &[list, "--json"]).await;
        assert_eq!((&*shown.stdout, &*shown.stderr), (&b"[]\n"[..], &b""[..]));
    }
}

#[tokio::test]
async fn many_users_come_in_pages_and_all_are_listed_once() {
    let relay = TestRelay::start(|config| config.limits.registrations.per_minute = 0).await;
    let names: Vec<String> = (0..230).map(|n| format!("user{n:03}")).collect();
    for name in &names {
        drop(Client::register(&relay.place, &Person::new(name)).await);
    }
    let users = value(&relay, &["users"]).await;
    let listed: Vec<&str> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, names);
    let page = raw(
        &relay,
        b"{\"version\":1,\"call\":{\"users\":{\"after\":null}}}\n",
    )
    .await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        page["answer"]["users"]["users"].as_array().unwrap().len(),
        100
    );
    assert_eq!(page["answer"]["users"]["more"], json!(true));
}

#[tokio::test]
async fn a_removed_user_is_gone_with_everything_and_others_are_not() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&relay.place, &alice).await;
    let mut to = Client::register(&relay.place, &bob).await;
    let mut second = Client::login(&relay.place, &bob).await;
    for kind in [PrekeyKind::LastResort, PrekeyKind::OneTime] {
        let put = to.call(Call::PutPrekey(bob.prekey(kind, 1))).await;
        assert!(matches!(put, Got::Done(_)), "{put:?}");
    }
    assert!(from.send(&bob, 1, b"one").await.is_stored());
    assert!(from.send(&alice, 2, b"two").await.is_stored());
    let folder = relay.folder.path();

    fails(&admin(folder, &["remove", "bob"]).await, 2, "--yes");
    fails(
        &admin(folder, &["remove", "bo", "--yes"]).await,
        9,
        "no account",
    );
    let wrong = admin(folder, &["remove", "Bob; --", "--yes"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(matches!(to.call(Call::Ping).await, Got::Done(_)), "not yet");

    assert_eq!(text(&relay, &["remove", "bob", "--yes"]).await, "done\n");
    for client in [&mut to, &mut second] {
        assert_eq!(client.next().await.reason(), Some(Reason::UnknownName));
        assert_eq!(client.next().await, Got::End);
    }
    fails(&admin(folder, &["user", "bob"]).await, 9, "no account");
    let refused = from.send(&bob, 3, b"three").await;
    assert_eq!(refused.reason(), Some(Reason::UnknownName));
    let db = rusqlite::Connection::open(folder.join("relay.db")).unwrap();
    for (table, left) in [("message", 1), ("prekey", 0), ("account", 1), ("seen", 1)] {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: i64 = db.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, left, "{table}");
    }
    drop(db);
    // The name is free, and whoever takes it inherits nothing.
    let mut heir = Client::register(&relay.place, &Person::new("bob")).await;
    assert_eq!(heir.drain(true).await, []);
    assert_eq!(from.drain(true).await[0].body, b"two");
}

#[tokio::test]
async fn invitations_are_made_listed_without_their_words_and_withdrawn() {
    let by_invitation =
        |config: &mut hostchat_relay::Config| config.registration = Registration::Invitation;
    let relay = TestRelay::start(by_invitation).await;
    let made = value(&relay, &["invite", "--uses", "2"]).await;
    let words = made["invitation"].as_str().unwrap().to_owned();
    let listed = value(&relay, &["invitations"]).await;
    assert_eq!(listed[0]["uses_left"], json!(2));
    assert_eq!(listed[0]["created_at"], json!(WALL));
    assert!(!listed.to_string().contains(&words[..8]));

    let register = async |name: &str| {
        let person = Person::new(name);
        let mut client = Client::connect(&relay.place).await;
        let account = Account::Register {
            name: person.name.clone(),
            invitation: words.bytes().collect(),
        };
        let login = client.bound.login(&person, account);
        client.call(Call::Login(login)).await
    };
    assert!(matches!(register("alice").await, Got::Done(_)));
    let listed = value(&relay, &["invitations"]).await;
    assert_eq!(listed[0]["uses_left"], json!(1));
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(text(&relay, &["withdraw", id]).await, "done\n");
    assert_eq!(value(&relay, &["invitations"]).await, json!([]));
    let refused = register("bob").await;
    assert_eq!(refused.reason(), Some(Reason::RegistrationClosed));
    let folder = relay.folder.path();
    for nothing in [id, "", "%", "' OR 1=1 --"] {
        fails(
            &admin(folder, &["withdraw", "--", nothing]).await,
            9,
            "no invitation",
        );
    }
    let none = admin(folder, &["invite", "--uses", "0"]).await;
    assert_eq!(none.status.code(), Some(2));
    for note in ["two\nlines", &"long ".repeat(600)] {
        fails(
            &admin(folder, &["invite", "--note", note]).await,
            2,
            "a note is one line of at most 100 characters",
        );
    }
}

#[tokio::test]
async fn the_socket_is_private_bounded_and_answers_nonsense_with_a_refusal() {
    let relay = TestRelay::start(|_| {}).await;
    let mode = std::fs::metadata(socket(&relay))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let refusal = |why| format!("{{\"version\":1,\"answer\":{{\"refused\":\"{why}\"}}}}\n");
    for (line, why) in [
        ("\n".to_owned(), "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "bad_request"),
        (
            "{\"version\":2,\"call\":\"status\"}\n".to_owned(),
            "version",
        ),
        (
            "{\"version\":1,\"call\":\"shutdown\"}\n".to_owned(),
            "bad_request",
        ),
        (
            "{\"version\":1,\"call\":{\"invite\":{\"uses\":0}}}\n".to_owned(),
            "bad_request",
        ),
        (
            "{\"version\":1,\"call\":{\"user\":{\"name\":\"..\\u001b[2J\"}}}\n".to_owned(),
            "bad_request",
        ),
        (format!("{}\n", "[".repeat(2000)), "bad_request"),
        ("x".repeat(100_000), "bad_request"),
    ] {
        let answer = raw(&relay, line.as_bytes()).await;
        // Bytes beyond the longest request are not read, so that the answer may be lost with them.
        assert!(
            answer == refusal(why) || (line.len() > 2048 && answer.is_empty()),
            "{line:.40}: {answer}"
        );
    }
    let mut half = UnixStream::connect(socket(&relay)).await.unwrap();
    half.write_all(b"{\"version\":1,\"call\":\"status\"}")
        .await
        .unwrap();
    half.shutdown().await.unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "", "a line without its end");

    // Those who say nothing hold the few seats only for a while.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(UnixStream::connect(socket(&relay)).await.unwrap());
    }
    loop {
        relay.clock.advance(16_000);
        let answer = raw(&relay, b"{\"version\":1,\"call\":\"status\"}\n").await;
        if answer.starts_with("{\"version\":1,\"answer\":{\"status\":{") {
            break;
        }
    }
}

#[tokio::test]
async fn without_a_relay_the_command_says_so_and_a_left_socket_is_taken_over() {
    let folder = init();
    fails(
        &admin(folder.path(), &["status"]).await,
        9,
        "no relay answers",
    );
    let clock = hostchat_relay::clock::ManualClock::new(WALL);
    let relay = TestRelay::start_in(folder, clock.clone(), |_| {}).await;
    text(&relay, &["status"]).await;
    let folder = relay.stop().await;
    fails(
        &admin(folder.path(), &["status"]).await,
        9,
        "no relay answers",
    );
    let relay = TestRelay::start_in(folder, clock, |_| {}).await;
    text(&relay, &["status"]).await;
}
