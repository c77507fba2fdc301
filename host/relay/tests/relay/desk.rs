//! What the operator decides: accounts that are suspended, invitations with a note and an end, and the last day that somebody
//! was seen. By the command, on the page, and as the user sees it.

use hostchat_core::wire::relay::{Account, Call, Reason};
use hostchat_relay::{Config, Registration};
use serde_json::{Value, json};

use crate::admin::admin;
use crate::client::{Client, Got, Person};
use crate::harness::{
    TestRelay, also_on_nats, configure, init, on_nats, program, run_on_nats, servers,
};
use crate::page::Page;

const DAY: u64 = 24 * 3_600_000;

also_on_nats!(
    a_suspended_account_is_told_so_and_comes_back_with_everything,
    the_last_day_is_kept_and_no_time,
);

async fn done(relay: &TestRelay, arguments: &[&str]) -> String {
    let output = admin(relay.folder.path(), arguments).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn value(relay: &TestRelay, arguments: &[&str]) -> Value {
    let all = [arguments, &["--json"]].concat();
    serde_json::from_str(&done(relay, &all).await).unwrap()
}

async fn enter(relay: &TestRelay, person: &Person, account: Account) -> Got {
    let mut client = Client::connect(&relay.place).await;
    let login = client.bound.login(person, account);
    let got = client.call(Call::Login(login)).await;
    if let Some(refusal) = got.refusal() {
        assert_eq!(client.next().await, Got::Closing(refusal));
        assert_eq!(client.next().await, Got::End);
    }
    got
}

#[tokio::test]
async fn a_suspended_account_is_told_so_and_comes_back_with_everything() {
    let keep_log = |config: &mut Config| config.audit.log_days = 7;
    let relay = TestRelay::start(keep_log).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&relay.place, &alice).await;
    let mut to = Client::register(&relay.place, &bob).await;
    let mut second = Client::login(&relay.place, &bob).await;
    assert!(from.send(&bob, 1, b"before").await.is_stored());

    assert_eq!(done(&relay, &["suspend", "bob"]).await, "done\n");
    assert_eq!(done(&relay, &["suspend", "bob"]).await, "done\n", "again");
    for client in [&mut to, &mut second] {
        assert_eq!(client.next().await.reason(), Some(Reason::Suspended));
        assert_eq!(client.next().await, Got::End);
    }
    for account in [bob.user(), bob.register()] {
        let got = enter(&relay, &bob, account).await;
        assert_eq!(got.reason(), Some(Reason::Suspended));
        assert_eq!(got.refusal().unwrap().retry_after_ms, 0);
    }
    // Others learn nothing of it, and lose nothing.
    let thief = Person::new("bob");
    let got = enter(&relay, &thief, thief.user()).await;
    assert_eq!(got.reason(), Some(Reason::NameTaken));
    assert!(from.send(&bob, 2, b"meanwhile").await.is_stored());
    let got = from.call(Call::LookUp(bob.name.clone())).await;
    assert!(matches!(got, Got::Binding(..)), "{got:?}");
    assert!(matches!(
        enter(&relay, &alice, alice.user()).await,
        Got::Done(_)
    ));

    // It outlives the relay.
    let clock = relay.clock.clone();
    drop((from, to, second));
    let relay = TestRelay::start_in(relay.stop().await, clock, keep_log).await;
    let got = enter(&relay, &bob, bob.user()).await;
    assert_eq!(got.reason(), Some(Reason::Suspended));
    let user = value(&relay, &["user", "bob"]).await;
    assert_eq!(
        (&user["suspended"], &user["messages"]),
        (&json!(true), &json!(2))
    );
    let table = done(&relay, &["users"]).await;
    let line = table.lines().find(|line| line.starts_with("bob")).unwrap();
    assert!(line.contains(" suspended "), "{table}");

    assert_eq!(done(&relay, &["resume", "bob"]).await, "done\n");
    let mut to = Client::login(&relay.place, &bob).await;
    let bodies: Vec<_> = to.drain(true).await.into_iter().map(|d| d.body).collect();
    assert_eq!(bodies, [&b"before"[..], b"meanwhile"]);
    for command in ["suspend", "resume"] {
        let refused = admin(relay.folder.path(), &[command, "nobody"]).await;
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(9), "{error}");
        assert!(error.contains("no account has this name"), "{error}");
    }
    // The log tells of each change once.
    let log = value(&relay, &["log", "--to", "bob"]).await;
    let lines: Vec<_> = log.as_array().unwrap().iter().collect();
    let of = |n: usize| (&lines[n]["from"], &lines[n]["kind"], &lines[n]["bytes"]);
    let operator = json!("(operator)");
    assert_eq!(of(0), (&operator, &json!("resumed"), &json!(0)), "{log}");
    assert_eq!(
        of(1),
        (&json!("alice"), &json!("message"), &json!(9)),
        "{log}"
    );
    assert_eq!(of(2), (&operator, &json!("suspended"), &json!(0)), "{log}");
    assert_eq!(lines.len(), 4, "{log}");
    drop(to);
    let folder = relay.stop().await;
    if !on_nats() {
        let checked = program(&["check", "--dir", folder.path().to_str().unwrap()]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[test]
fn an_account_suspended_at_one_nats_node_is_closed_at_the_other() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (one, other) = (init(), init());
            let name = servers(one.path(), Vec::new()).name;
            let same = move |config: &mut Config| {
                if let Some(nats) = &mut config.nats {
                    nats.name = name;
                }
            };
            let clock = || hostchat_relay::clock::ManualClock::new(crate::harness::WALL);
            let a = TestRelay::start_in(one, clock(), same.clone()).await;
            let b = TestRelay::start_in(other, clock(), same).await;
            let bob = Person::new("bob");
            let mut there = Client::register(&b.place, &bob).await;
            done(&a, &["suspend", "bob"]).await;
            assert_eq!(there.next().await.reason(), Some(Reason::Suspended));
            let got = enter(&b, &bob, bob.user()).await;
            assert_eq!(got.reason(), Some(Reason::Suspended));
            // What its owner changes besides keeps it suspended, and the day.
            done(&a, &["resume", "bob"]).await;
            let mut there = Client::login(&a.place, &bob).await;
            there.call(Call::SetVisible(false)).await;
            let user = value(&b, &["user", "bob"]).await;
            assert_eq!(user["suspended"], json!(false));
        });
    });
}

#[tokio::test]
async fn the_last_day_is_kept_and_no_time() {
    let relay = TestRelay::start(|config| config.limits.idle_seconds = u32::MAX).await;
    let bob = Person::new("bob");
    let mut last = Value::Null;
    drop(Client::register(&relay.place, &bob).await);
    for (days, expected) in [(0, "2026-09-21"), (3, "2026-09-24"), (0, "2026-09-24")] {
        relay.clock.advance(days * DAY);
        drop(Client::login(&relay.place, &bob).await);
        // A login does not wait for it.
        for _ in 0..200 {
            let user = value(&relay, &["user", "bob"]).await;
            last = user["last_seen"].clone();
            if last == json!(expected) {
                break;
            }
        }
        assert_eq!(last, json!(expected));
    }
    // A guest is nobody's account, and a refused login is none.
    relay.clock.advance(DAY);
    let thief = Person::new("bob");
    let got = enter(&relay, &thief, thief.user()).await;
    assert_eq!(got.reason(), Some(Reason::NameTaken));
    assert_eq!(value(&relay, &["user", "bob"]).await["last_seen"], last);
}

fn invited(person: &Person, words: &str) -> Account {
    Account::Register {
        name: person.name.clone(),
        invitation: words.bytes().collect(),
    }
}

#[tokio::test]
async fn an_invitation_has_a_note_and_ends_after_its_days() {
    let by_invitation = |config: &mut Config| config.registration = Registration::Invitation;
    let relay = TestRelay::start(by_invitation).await;
    let note = "for Zoë & <b>chess</b>";
    let made = value(
        &relay,
        &["invite", "--uses", "2", "--note", note, "--days", "7"],
    )
    .await;
    let ends = made["invitation"].as_str().unwrap().to_owned();
    let never = done(&relay, &["invite"]).await.trim().to_owned();
    let dir = relay.folder.path().to_str().unwrap().to_owned();
    let beside = tokio::task::spawn_blocking(move || {
        program(&["invite", "--dir", &dir, "--note", "beside", "--days", "7"])
    });
    let beside = String::from_utf8(beside.await.unwrap().stdout).unwrap();

    let listed = value(&relay, &["invitations"]).await;
    let of = |note: &str| {
        let all = listed.as_array().unwrap();
        all.iter().find(|i| i["note"] == note).unwrap().clone()
    };
    let at = crate::harness::WALL + 7 * DAY;
    assert_eq!(of(note)["expires_at"], json!(at));
    assert_eq!(of("")["expires_at"], Value::Null);
    assert!(of("beside")["expires_at"].as_u64().is_some());
    let table = done(&relay, &["invitations"]).await;
    assert!(
        table.contains("2026-09-28T14:13:20Z") && table.contains("never"),
        "{table}"
    );
    assert!(table.contains(note), "{table}");

    let (alice, bob, carol) = (
        Person::new("alice"),
        Person::new("bob"),
        Person::new("carol"),
    );
    let got = enter(&relay, &alice, invited(&alice, &ends)).await;
    assert!(matches!(got, Got::Done(_)), "{got:?}");
    relay.clock.advance(7 * DAY - 1);
    let got = enter(&relay, &bob, invited(&bob, &ends)).await;
    assert!(matches!(got, Got::Done(_)), "{got:?}");
    // Two uses were asked for; another one that ends, and one that does not.
    for words in [&ends, beside.trim()] {
        relay.clock.advance(DAY);
        let got = enter(&relay, &carol, invited(&carol, words)).await;
        assert_eq!(got.reason(), Some(Reason::RegistrationClosed));
    }
    let left = value(&relay, &["invitations"]).await;
    let notes: Vec<_> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["note"])
        .collect();
    assert_eq!(notes, [&json!("")]);
    let status = value(&relay, &["status"]).await;
    assert_eq!(status["invitations"], json!(1));
    let got = enter(&relay, &carol, invited(&carol, &never)).await;
    assert!(matches!(got, Got::Done(_)), "{got:?}");

    for wrong in [
        &["invite", "--days", "0"][..],
        &["invite", "--days", "70000"],
        &["invite", "--note", "two\nlines"],
    ] {
        let refused = admin(relay.folder.path(), wrong).await;
        assert!(!refused.status.success(), "{wrong:?}");
    }
}

#[test]
fn what_the_operator_keeps_moves_to_nats_and_back() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let sqlite = |config: &mut Config| config.store = hostchat_relay::Storage::Sqlite;
            let clock = || hostchat_relay::clock::ManualClock::new(crate::harness::WALL);
            let relay = TestRelay::start_in(init(), clock(), sqlite).await;
            let bob = Person::new("bob");
            drop(Client::register(&relay.place, &bob).await);
            done(&relay, &["suspend", "bob"]).await;
            done(&relay, &["invite", "--note", "Zoë", "--days", "9"]).await;
            let kept = async |relay: &TestRelay| {
                let user = value(relay, &["user", "bob"]).await;
                let invitations = value(relay, &["invitations"]).await;
                let left = invitations[0]["expires_at"].as_u64().unwrap();
                let status = value(relay, &["status"]).await;
                assert!(left > status["at"].as_u64().unwrap() || on_nats());
                (
                    user["suspended"].clone(),
                    user["last_seen"].clone(),
                    invitations[0]["note"].clone(),
                )
            };
            let before = kept(&relay).await;
            assert_eq!(before.0, json!(true));
            assert_eq!(before.2, json!("Zoë"));
            let folder = relay.stop().await;
            let (url, name) = (
                crate::harness::nats_url(),
                servers(folder.path(), Vec::new()).name,
            );
            configure(
                folder.path(),
                &format!("[nats]\nservers = [\"{url}\"]\nname = \"{name}\"\n"),
                "",
            );
            let migrate = |to: &str, folder: &std::path::Path| {
                let done = program(&["migrate", "--dir", folder.to_str().unwrap(), "--to", to]);
                assert!(done.status.success(), "{done:?}");
            };
            migrate("nats", folder.path());
            let relay = TestRelay::start_in(folder, clock(), |_| {}).await;
            assert_eq!(kept(&relay).await, before);
            let folder = relay.stop().await;
            let old = folder.path().join("relay.db");
            std::fs::rename(&old, folder.path().join("old.db")).unwrap();
            migrate("sqlite", folder.path());
            let relay = TestRelay::start_in(folder, clock(), sqlite).await;
            assert_eq!(kept(&relay).await, before);
        });
    });
}

#[tokio::test]
async fn the_page_tells_the_address_the_moment_and_usage_against_limits() {
    let page = Page::enter(|config| config.limits.connections = 50).await;
    let _client = Client::register(&page.relay.place, &Person::new("alice")).await;
    let body = page.get("/admin").await.body;
    let place = &page.relay.place;
    let address = format!("<code>{}#{}</code>", place.name, place.fingerprint);
    assert!(body.contains(&address), "{body}");
    for says in [
        "1 of 50 (2 %)<meter",
        " of 16.0 GiB (0 %)<meter",
        "0 B of 8.0 GiB (0 %)",
        "0 of 1,000 (0 %)",
        "no more messages below 64.0 MiB",
    ] {
        assert!(body.contains(says), "{says}: {body}");
    }
    let status = value(&page.relay, &["status"]).await;
    assert_eq!(
        status["address"],
        json!(format!("{}#{}", place.name, place.fingerprint))
    );
    let text = done(&page.relay, &["status"]).await;
    assert!(
        text.contains(&place.fingerprint) && text.contains("as of"),
        "{text}"
    );
    page.relay.clock.advance(60_000);
    for path in [
        "/admin",
        "/admin/users",
        "/admin/invitations",
        "/admin/limits",
        "/admin/user?name=alice",
    ] {
        let body = page.get(path).await.body;
        assert!(
            body.contains("As of 2026-09-21T14:14:20Z"),
            "{path}: {body}"
        );
    }
    // What is in the write-ahead log counts: it holds all of a small database at first.
    let log = std::fs::metadata(page.relay.folder.path().join("relay.db-wal"))
        .unwrap()
        .len();
    let file = std::fs::metadata(page.relay.folder.path().join("relay.db"))
        .unwrap()
        .len();
    assert!(log > 0);
    let status = value(&page.relay, &["status"]).await;
    assert!(status["database_bytes"].as_u64().unwrap() >= file + log);
}

#[tokio::test]
async fn tables_are_sorted_by_links() {
    let page = Page::enter(|config| config.limits.registrations.per_minute = 0).await;
    let people = ["carol", "alice", "bob"].map(Person::new);
    let mut from = Client::register(&page.relay.place, &people[0]).await;
    for person in &people[1..] {
        drop(Client::register(&page.relay.place, person).await);
    }
    for (to, count) in [(1, 2), (2, 5)] {
        for id in 0..count {
            assert!(from.send(&people[to], id, b"x").await.is_stored());
        }
    }
    let names = |body: &str| -> Vec<String> {
        let cells = body.split("/admin/user?name=").skip(1);
        cells
            .map(|cell| cell.split('"').next().unwrap().to_owned())
            .collect()
    };
    for (query, expected) in [
        ("", ["alice", "bob", "carol"]),
        ("?sort=name&order=up", ["alice", "bob", "carol"]),
        ("?sort=name&order=down", ["carol", "bob", "alice"]),
        ("?sort=waiting&order=up", ["carol", "alice", "bob"]),
        ("?sort=waiting&order=down", ["bob", "alice", "carol"]),
        ("?sort=files&order=up", ["alice", "bob", "carol"]),
        ("?sort=%27%3B--&order=x", ["alice", "bob", "carol"]),
    ] {
        let body = page.get(&format!("/admin/users{query}")).await.body;
        assert_eq!(names(&body), expected, "{query}");
    }
    let body = page.get("/admin/users?sort=waiting&order=up").await.body;
    assert!(
        body.contains("aria-sort=\"ascending\"") && body.contains("sort=waiting&amp;order=down"),
        "{body}"
    );

    // As many as a page has, of more, and the last ones by name among them.
    for n in 0..110 {
        drop(Client::register(&page.relay.place, &Person::new(&format!("user{n:03}"))).await);
    }
    let body = page.get("/admin/users?sort=name&order=down").await.body;
    let listed = names(&body);
    assert_eq!((listed.len(), listed[0].as_str()), (100, "user109"));
    assert!(body.contains("The first 100 of 113 accounts"), "{body}");

    let csrf = page.csrf().await;
    for (note, uses) in [("b", "3"), ("a", "7"), ("c", "5")] {
        let fields = [
            ("uses", uses),
            ("note", note),
            ("days", uses),
            ("csrf", &csrf),
        ];
        assert_eq!(page.post("/admin/invite", &fields).await.status, 200);
    }
    for (query, expected) in [
        ("?sort=note&order=up", "abc"),
        ("?sort=note&order=down", "cba"),
        ("?sort=uses&order=up", "bca"),
        ("?sort=ends&order=down", "acb"),
    ] {
        let body = page.get(&format!("/admin/invitations{query}")).await.body;
        let notes = body.split("data-label=\"Note\">").skip(1);
        let notes: String = notes.map(|rest| &rest[..1]).collect();
        assert_eq!(notes, expected, "{query}");
    }
}

#[tokio::test]
async fn the_page_suspends_and_resumes_by_forms_of_its_session() {
    let page = Page::enter(|_| {}).await;
    let bob = Person::new("bob");
    let mut to = Client::register(&page.relay.place, &bob).await;
    let csrf = page.csrf().await;
    let field = [("name", "bob")];
    assert_eq!(page.post("/admin/suspend", &field).await.status, 403);
    assert_eq!(
        page.get("/admin/suspend?name=bob").await.status,
        404,
        "not by a link"
    );
    assert!(matches!(to.call(Call::Ping).await, Got::Done(_)));
    let fields = [("name", "bob"), ("csrf", csrf.as_str())];
    let done = page.post("/admin/suspend", &fields).await;
    assert_eq!(
        (done.status, done.header("Location")),
        (303, Some("/admin/user?name=bob"))
    );
    assert_eq!(to.next().await.reason(), Some(Reason::Suspended));
    let body = page.get("/admin/user?name=bob").await.body;
    assert!(
        body.contains("suspended") && body.contains("action=\"/admin/resume\""),
        "{body}"
    );
    assert_eq!(page.post("/admin/resume", &fields).await.status, 303);
    drop(Client::login(&page.relay.place, &bob).await);
    for wrong in ["nobody", "", "'; --"] {
        let fields = [("name", wrong), ("csrf", csrf.as_str())];
        assert_eq!(
            page.post("/admin/suspend", &fields).await.status,
            404,
            "{wrong}"
        );
    }
    for days in ["0", "-1", "x", "70000"] {
        let fields = [("uses", "1"), ("days", days), ("csrf", &csrf)];
        assert_eq!(
            page.post("/admin/invite", &fields).await.status,
            400,
            "{days}"
        );
    }
}
