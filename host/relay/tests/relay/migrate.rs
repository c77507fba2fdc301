//! From a database to NATS servers and back, by the program, and what its other commands do there.

use std::path::Path;
use std::process::Output;

use hostchat_core::wire::relay::{Call, Reason};
use hostchat_core::wire::{Generation, PrekeyKind};
use hostchat_relay::clock::ManualClock;
use hostchat_relay::store::nats::Servers;
use hostchat_relay::{Config, Registration, Storage};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::blocks;
use crate::client::{Client, Delivered, Got, Person};
use crate::generations::{advance, generation, there};
use crate::harness::{Place, TestRelay, WALL, configure, init, program, run_on_nats, servers};
use crate::nats::NatsServer;

fn in_file(config: &mut Config) {
    config.store = Storage::Sqlite;
}

async fn start(folder: TempDir, change: impl FnOnce(&mut Config)) -> TestRelay {
    TestRelay::start_in(folder, ManualClock::new(WALL), change).await
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let dir = folder.to_str().unwrap();
    program(&[arguments, &["--dir", dir]].concat())
}

#[track_caller]
fn says(output: &Output, code: i32, what: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(what), "{what}: {text}");
}

fn bodies(delivered: &[Delivered]) -> Vec<&[u8]> {
    delivered.iter().map(|d| &d.body[..]).collect()
}

async fn one_time(client: &mut Client, owner: &Person) -> Option<u32> {
    match client.call(Call::TakePrekeys(owner.name.clone())).await {
        Got::Bundle(_, bundle) => bundle.one_time.map(|prekey| prekey.id),
        got => panic!("{got:?}"),
    }
}

/// Everything that must be the same after a move: what waits, what was delivered, what was given, who is blocked.
async fn look(place: &Place, after: u64) -> u64 {
    let (alice, bob) = people();
    let mut from = Client::login(place, &alice).await;
    assert!(from.send(&bob, 1, b"delivered").await.is_stored(), "known");
    let mut to = Client::login(place, &bob).await;
    let waiting = to.drain(false).await;
    assert_eq!(bodies(&waiting), [&b"waits"[..], b"from afar"]);
    assert_eq!(waiting[0].stored_at, WALL);
    assert_eq!(waiting[1].sender.as_str(), "carol@else.example:1");
    assert_eq!(waiting[0].fingerprint, alice.fingerprint());
    assert_eq!(waiting[1].fingerprint, carol().fingerprint());
    // A given key is known as given; the others are there.
    to.call(Call::PutPrekey(bob.prekey(PrekeyKind::OneTime, 1)))
        .await;
    let stock = to.call(Call::PrekeyStock).await;
    assert!(matches!(stock, Got::Stock(_, 1, _, 9)), "{stock:?}");
    let listed = to.call(Call::Prekeys).await;
    let key = |kind, id| bob.prekey(kind, id).reference();
    assert!(
        matches!(&listed, Got::Prekeys(_, one_time, last)
            if *one_time == [key(PrekeyKind::OneTime, 2)]
                && *last == Some(key(PrekeyKind::LastResort, 9))),
        "{listed:?}"
    );
    assert_eq!(there(&mut to).await, generation(u64::MAX - 7, 0xa5));
    assert_eq!(there(&mut from).await, Generation::NONE);
    let at_mallory = format!("mallory@{}", place.name);
    assert_eq!(
        blocks::list(&mut to).await,
        ["dave@else.example:1", at_mallory.as_str()]
    );
    let dave = Person::new("dave");
    let mut guest = Client::guest(place, &dave, "dave@else.example:1").await;
    let refused = guest.send(&bob, 1, b"blocked").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    // Numbers are not given again.
    let id = 1_000 + u128::from(after);
    assert!(from.send(&bob, id, b"new").await.is_stored());
    let new = to.next().await.delivered();
    assert!(new.number > after, "{} after {after}", new.number);
    let number = new.number;
    to.call(Call::Acknowledge { number }).await;
    number
}

/// The guest.
fn carol() -> Person {
    Person::with_seed("carol", [3; 32])
}

fn people() -> (Person, Person) {
    (
        Person::with_seed("alice.b", [1; 32]),
        Person::with_seed("bob", [2; 32]),
    )
}

#[test]
fn a_store_moves_to_nats_and_back() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (alice, bob) = people();
            let relay = start(init(), in_file).await;
            let mut from = Client::register(&relay.place, &alice).await;
            let mut to = Client::register(&relay.place, &bob).await;
            for (kind, id) in [
                (PrekeyKind::LastResort, 9),
                (PrekeyKind::OneTime, 1),
                (PrekeyKind::OneTime, 2),
            ] {
                to.call(Call::PutPrekey(bob.prekey(kind, id))).await;
            }
            assert_eq!(one_time(&mut from, &bob).await, Some(1));
            let far = generation(u64::MAX - 7, 0xa5);
            assert_eq!(advance(&mut to, Generation::NONE, far).await, Ok(()));
            let at_mallory = format!("mallory@{}", relay.place.name);
            for who in ["dave@else.example:1", &at_mallory] {
                assert_eq!(blocks::set(&mut to, who, true).await, None);
            }
            from.send(&bob, 1, b"delivered").await;
            let last = to.drain(true).await[0].number;
            from.send(&bob, 2, b"waits").await;
            let carol = carol();
            let mut guest = Client::guest(&relay.place, &carol, "carol@else.example:1").await;
            guest.send(&bob, 1, b"from afar").await;
            drop((from, to, guest));
            let folder = relay.stop().await;
            let path = folder.path().to_owned();

            says(&run(&path, &["migrate", "--to", "nats"]), 2, "[nats]");
            let url = crate::harness::nats_url();
            let name = servers(&path, Vec::new()).name;
            let section = format!("[nats]\nservers = [\"{url}\"]\nname = \"{name}\"");
            configure(&path, &section, "");
            says(
                &run(&path, &["migrate", "--to", "nats"]),
                0,
                "accounts 2, messages 2",
            );
            says(&run(&path, &["migrate", "--to", "nats"]), 10, "already");

            let relay = start(folder, |_| {}).await;
            let last = look(&relay.place, last).await;
            let folder = relay.stop().await;

            says(
                &run(&path, &["migrate", "--to", "sqlite"]),
                3,
                "exists already",
            );
            std::fs::rename(path.join("relay.db"), path.join("before.db")).unwrap();
            let moved = run(&path, &["migrate", "--to", "sqlite"]);
            says(&moved, 0, "accounts 2");
            says(&run(&path, &["check"]), 0, "good");
            let relay = start(folder, in_file).await;
            look(&relay.place, last).await;
            // Of the key that was given both stores know which it was: another one with its id is new.
            let mut to = Client::login(&relay.place, &bob).await;
            let new = bob.prekey_of(PrekeyKind::OneTime, 1, 7);
            to.call(Call::PutPrekey(new)).await;
            let stock = to.call(Call::PrekeyStock).await;
            assert!(matches!(stock, Got::Stock(_, 2, _, 9)), "{stock:?}");
        });
    });
}

/// What alice sends to bob meanwhile: each is acknowledged, and from time to time a prekey is given.
async fn traffic(place: Place, mut stop: oneshot::Receiver<()>) -> u128 {
    let (alice, bob) = people();
    let mut from = Client::login(&place, &alice).await;
    let mut to = Client::login(&place, &bob).await;
    to.drain(true).await;
    for id in 0.. {
        if stop.try_recv().is_ok() {
            return id;
        }
        assert!(from.send(&bob, id, &id.to_be_bytes()).await.is_stored());
        let number = to.next().await.delivered().number;
        to.call(Call::Acknowledge { number }).await;
        if id % 16 == 0 {
            let key = u32::try_from(id).unwrap();
            to.call(Call::PutPrekey(bob.prekey(PrekeyKind::OneTime, key)))
                .await;
            one_time(&mut from, &bob).await;
        }
    }
    unreachable!("it is told to stop")
}

#[test]
fn a_backup_beside_a_running_node_is_a_whole_store() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let folder = init();
            let path = folder.path().to_owned();
            let (url, name) = (crate::harness::nats_url(), servers(&path, Vec::new()).name);
            let section =
                format!("store = \"nats\"\n[nats]\nservers = [\"{url}\"]\nname = \"{name}\"");
            configure(&path, &section, "");
            let unlimited = |config: &mut Config| {
                let none = hostchat_relay::limits::Rate {
                    burst: 1,
                    per_minute: 0,
                };
                let limits = &mut config.limits;
                for rate in [
                    &mut limits.sends,
                    &mut limits.prekeys_put,
                    &mut limits.prekeys_taken,
                    &mut limits.prekeys_given,
                ] {
                    *rate = none;
                }
            };
            let relay = start(folder, unlimited).await;
            let (alice, bob) = people();
            let carol = Person::new("carol");
            let mut from = Client::register(&relay.place, &alice).await;
            let mut owner = Client::register(&relay.place, &bob).await;
            owner
                .call(Call::PutPrekey(bob.prekey(PrekeyKind::LastResort, 1)))
                .await;
            drop(Client::register(&relay.place, &carol).await);
            let (stop, stopped) = oneshot::channel();
            let busy = tokio::spawn(traffic(relay.place.clone(), stopped));
            let copy = |n: u128| path.join(format!("{n}.db"));
            const COPIES: u128 = 4;
            for n in 0..COPIES {
                let body = n.to_be_bytes();
                assert!(from.send(&carol, 1 << 64 | n, &body).await.is_stored());
                let number = u64::try_from(n).unwrap();
                let before = there(&mut owner).await;
                let to = generation(number + 1, 1);
                let advanced = advance(&mut owner, before, to).await;
                assert_eq!(advanced, Ok(()));
                let (path, to) = (path.clone(), copy(n));
                let made = move || run(&path, &["backup", "--to", to.to_str().unwrap()]);
                let made = tokio::task::spawn_blocking(made).await.unwrap();
                says(&made, 0, "saved: format");
            }
            stop.send(()).unwrap();
            let sent = busy.await.unwrap();
            println!("{sent} messages beside {COPIES} copies");
            assert!(sent > 16);
            drop((from, owner));
            let folder = relay.stop().await;
            let last = copy(COPIES - 1);
            let restore = || run(&path, &["restore", "--from", last.to_str().unwrap()]);
            says(&restore(), 10, "another `name`");

            let text = std::fs::read_to_string(path.join("relay.toml")).unwrap();
            let text = text.replace(&format!("name = \"{name}\""), "name = \"other\"");
            std::fs::write(path.join("relay.toml"), text).unwrap();
            says(&restore(), 0, "restored: accounts 3");
            let relay = start(folder, |config| {
                config.nats = config.nats.take().map(|nats| Servers {
                    name: "other".to_owned(),
                    ..nats
                });
            })
            .await;
            let mut to = Client::login(&relay.place, &carol).await;
            let waiting = to.drain(false).await;
            let all: Vec<_> = (0..COPIES).map(u128::to_be_bytes).collect();
            let all: Vec<&[u8]> = all.iter().map(|body| &body[..]).collect();
            assert_eq!(bodies(&waiting), all);
            // What was acknowledged before stays so; the last one may have been on its way.
            let mut from = Client::login(&relay.place, &alice).await;
            let mut to = Client::login(&relay.place, &bob).await;
            let waiting = to.drain(true).await;
            assert!(waiting.len() <= 1, "{waiting:?}");
            assert!(from.send(&bob, 0, &0u128.to_be_bytes()).await.is_stored());
            let mut to = Client::login(&relay.place, &bob).await;
            assert_eq!(to.drain(false).await, []);
            assert_eq!(there(&mut to).await, generation(COPIES as u64, 1));
            let key = one_time(&mut from, &bob).await;
            assert!(key.is_none_or(|key| key > 0), "given before: {key:?}");
        });
    });
}

#[test]
fn commands_say_what_they_do_on_nats() {
    let folder = init();
    let path = folder.path();
    let server = NatsServer::start();
    let url = server.url();
    configure(
        path,
        &format!("store = \"nats\"\n[nats]\nservers = [\"{url}\"]"),
        "",
    );
    let checked = run(path, &["check"]);
    says(&checked, 0, "accounts 0, messages 0");
    // Debian's server cannot sync before it answers, and nothing is claimed.
    says(&checked, 0, "stored means that one server has written it");
    let copy = path.join("copy.db");
    let copy = copy.to_str().unwrap();
    says(&run(path, &["backup", "--to", copy]), 0, "saved: format");
    says(&run(path, &["backup", "--to", copy]), 3, "exists");
    says(
        &run(path, &["restore", "--from", copy]),
        0,
        "restored: accounts 0",
    );
    std::fs::write(path.join("no.db"), "no database").unwrap();
    let other = path.join("no.db");
    let other = run(path, &["restore", "--from", other.to_str().unwrap()]);
    says(&other, 5, "database");

    let invited = run(path, &["invite", "--uses", "1"]);
    let invitation = String::from_utf8(invited.stdout).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let by_invitation = |config: &mut Config| config.registration = Registration::Invitation;
        let relay = start(folder, by_invitation).await;
        for (name, invitation, good) in [
            ("alice", "", false),
            ("alice", invitation.trim(), true),
            ("bob", invitation.trim(), false),
        ] {
            let person = Person::new(name);
            let mut client = Client::connect(&relay.place).await;
            let login = client.bound.login(
                &person,
                hostchat_core::wire::relay::Account::Register {
                    name: person.name.clone(),
                    invitation: heapless::Vec::from_slice(invitation.as_bytes()).unwrap(),
                },
            );
            let got = client.call(Call::Login(login)).await;
            assert_eq!(matches!(got, Got::Done(_)), good, "{name}: {got:?}");
        }
        let folder = relay.stop().await;
        drop(server);
        let checked = run(folder.path(), &["check"]);
        says(&checked, 10, "NATS does not answer");
        says(&checked, 10, "hint: check that the servers");
    });
}
