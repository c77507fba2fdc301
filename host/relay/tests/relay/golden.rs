//! Databases of released versions, kept as files: this version opens each, brings it up to date and serves from it.
//!
//! A new schema gets its golden file once, before its release, by the test `make_a_golden_database`.

use std::path::Path;

use hostchat_core::wire::relay::{Account, BLOB_PART, Call, Kind, Reason};
use hostchat_core::wire::{Bytes, Generation, PrekeyKind};
use hostchat_relay::Registration;
use hostchat_relay::clock::ManualClock;

use crate::blobs::{self, File};
use crate::blocks;
use crate::client::{Client, Got, Person, message};
use crate::generations::{advance, generation};
use crate::harness::{TestRelay, WALL, init, program};

/// What `make_a_golden_database` spent one use of.
const INVITATION: &str = "golden0invitation000";

/// Whom bob blocks.
const BLOCKED: &str = "eve@elsewhere.example:1";

/// Of bob's keys.
const GENERATION: Generation = Generation {
    number: 7,
    random: Bytes([0xa5; 16]),
};

/// What alice left for bob to fetch.
fn file() -> File {
    File::new(1, BLOB_PART + 5, 2)
}

fn people() -> (Person, Person, Person) {
    (
        Person::with_seed("alice", [1; 32]),
        Person::with_seed("bob", [2; 32]),
        Person::with_seed("carol", [3; 32]),
    )
}

fn invited(person: &Person) -> Account {
    Account::Register {
        name: person.name.clone(),
        invitation: INVITATION.bytes().collect(),
    }
}

/// Makes a file of the schema that this version writes: `HOSTCHAT_GOLDEN=FILE cargo test … make_a_golden -- --ignored`.
#[tokio::test]
#[ignore = "writes a file that is kept in the tree"]
async fn make_a_golden_database() {
    let target = std::env::var("HOSTCHAT_GOLDEN").expect("HOSTCHAT_GOLDEN names the file");
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob, _) = people();
    let mut from = Client::register(&relay.place, &alice).await;
    let mut to = Client::register(&relay.place, &bob).await;
    for prekey in [
        bob.prekey(PrekeyKind::LastResort, 9),
        bob.prekey(PrekeyKind::OneTime, 1),
        bob.prekey(PrekeyKind::OneTime, 2),
    ] {
        let put = to.call(Call::PutPrekey(prekey)).await;
        assert!(matches!(put, Got::Done(_)), "{put:?}");
    }
    let taken = from.call(Call::TakePrekeys(bob.name.clone())).await;
    assert!(matches!(taken, Got::Bundle(..)), "{taken:?}");
    let hidden = from.call(Call::SetVisible(false)).await;
    assert!(matches!(hidden, Got::Done(_)), "{hidden:?}");
    for id in 1..=5 {
        let body = format!("golden {id}");
        assert!(from.send(&bob, id, body.as_bytes()).await.is_stored());
    }
    let stranger = Person::with_seed("mallory", [4; 32]);
    let mut guest = Client::guest(&relay.place, &stranger, "mallory@elsewhere.example:1").await;
    let first = message(&bob, 6, Kind::First, b"golden 6");
    assert!(guest.call(first).await.is_stored());
    // The first one was delivered and acknowledged: only its id is remembered.
    to.ask(Call::Receive).await;
    assert!(matches!(to.next().await, Got::Done(_)));
    let number = to.next().await.delivered().number;
    to.ask(Call::Acknowledge { number }).await;
    while !matches!(to.next().await, Got::Done(_)) {}
    assert_eq!(blocks::set(&mut to, BLOCKED, true).await, None);
    blobs::put(&mut from, &file(), file().parts()).await;
    assert_eq!(advance(&mut to, Generation::NONE, GENERATION).await, Ok(()));
    drop((from, to, guest));
    let folder = relay.stop().await;
    let path = folder.path().join("relay.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    let hash = hostchat_core::crypto::hash::sha256(&[INVITATION.as_bytes()]);
    database
        .execute(
            "INSERT INTO invitation (hash, created_at, uses_left) VALUES (?1, 0, 1)",
            [hash],
        )
        .unwrap();
    database.close().unwrap();
    std::fs::copy(path, target).unwrap();
}

#[tokio::test]
async fn every_golden_database_is_opened_and_served_from() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut schemas = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        serves(&entry.unwrap().path()).await;
        schemas += 1;
    }
    assert_eq!(schemas, 5, "one file for each schema that is kept");
}

async fn serves(golden: &Path) {
    let schema = golden.file_stem().and_then(|name| name.to_str());
    let schema = schema.and_then(|name| name.strip_prefix("schema-"));
    let schema: u32 = schema.and_then(|number| number.parse().ok()).unwrap();
    let folder = init();
    std::fs::copy(golden, folder.path().join("relay.db")).unwrap();
    let clock = ManualClock::new(WALL + 3_600_000);
    let by_invitation = |config: &mut hostchat_relay::Config| {
        config.registration = Registration::Invitation;
    };
    let relay = TestRelay::start_in(folder, clock, by_invitation).await;
    let (alice, bob, carol) = people();

    // The accounts are bound to the same keys as before.
    let mut to = Client::login(&relay.place, &bob).await;
    let mut thief = Client::connect(&relay.place).await;
    let login = thief.bound.login(&carol, alice.user());
    let refused = thief.call(Call::Login(login)).await;
    assert_eq!(refused.reason(), Some(Reason::NameTaken));
    let mut from = Client::login(&relay.place, &alice).await;
    let Got::Online(_, names, false) = to.call(Call::Who { after: "" }).await else {
        panic!("no names");
    };
    assert_eq!(names, ["bob"], "alice stays hidden");

    // What was stored is remembered, delivered in order, and new messages come after it.
    assert!(from.send(&bob, 1, b"again").await.is_stored());
    assert!(from.send(&bob, 7, b"golden 7").await.is_stored());
    let delivered = to.drain(true).await;
    let bodies: Vec<_> = delivered.iter().map(|d| d.body.as_slice()).collect();
    let expected: Vec<_> = (2..=7).map(|id| format!("golden {id}")).collect();
    let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
    assert_eq!(bodies, expected);
    assert!(delivered.is_sorted_by_key(|d| d.number));
    assert_eq!(delivered[4].sender.as_str(), "mallory@elsewhere.example:1");
    // Who has proved what came with 6; of what was stored before it is not known.
    let known = |person: &Person| person.fingerprint().filter(|_| schema >= 6);
    let stranger = Person::with_seed("mallory", [4; 32]);
    assert_eq!(delivered[0].fingerprint, known(&alice));
    assert_eq!(delivered[4].fingerprint, known(&stranger));
    assert_eq!(delivered[5].fingerprint, alice.fingerprint());

    // A one-time prekey that was given is not given again.
    let stock = to.call(Call::PrekeyStock).await;
    assert!(matches!(stock, Got::Stock(_, 1, _, 9)), "{stock:?}");
    let Got::Bundle(_, bundle) = from.call(Call::TakePrekeys(bob.name.clone())).await else {
        panic!("no bundle");
    };
    assert_eq!(bundle.one_time.unwrap().id, 2);

    // Blocks came with 4, files with 5.
    let blocked = blocks::list(&mut to).await;
    assert_eq!(blocked, [BLOCKED][..usize::from(schema >= 4)]);
    if schema >= 5 {
        let bytes = blobs::get_from(&mut to, &file(), 0, 0).await;
        assert_eq!(bytes, file().bytes);
    }

    // Generations came with 6.
    let there = match schema {
        ..6 => Generation::NONE,
        _ => GENERATION,
    };
    let next = generation(8, 1);
    assert_eq!(advance(&mut to, generation(6, 1), next).await, Err(there));
    assert_eq!(advance(&mut to, there, next).await, Ok(()));

    let mut newcomer = Client::connect(&relay.place).await;
    let login = newcomer.bound.login(&carol, invited(&carol));
    let done = newcomer.call(Call::Login(login)).await;
    assert!(matches!(done, Got::Done(_)), "{done:?}");
    drop((from, to, thief, newcomer));
    let folder = relay.stop().await;
    let dir = folder.path().to_str().unwrap();
    let checked = program(&["check", "--dir", dir]);
    assert!(checked.status.success(), "{checked:?}");
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("format 7, accounts 3"), "{said}");
}
