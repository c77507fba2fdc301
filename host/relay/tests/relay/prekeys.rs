//! Prekeys: signed by their owner, handed out once.

use std::collections::BTreeSet;

use hostchat_core::wire::relay::{Call, PREKEY_STOCK, Reason};
use hostchat_core::wire::{Name, Prekey, PrekeyBundle, PrekeyKind, PrekeyRef};
use hostchat_relay::Rate;

use crate::client::{Client, Got, Person, take_one_time};
use crate::harness::{TestRelay, also_on_nats, nats_url, run_on_nats, servers};

also_on_nats!(
    a_one_time_key_is_given_to_one_sender_however_many_ask_at_once,
    a_given_key_does_not_come_back_by_a_repeated_upload,
    bundles_carry_what_the_owner_signed,
    the_number_of_one_time_keys_is_bounded,
    nobody_drains_the_one_time_keys_of_an_owner,
    the_list_names_what_lies_here,
    another_key_with_the_same_id_takes_its_place,
    dropped_keys_are_not_given_and_may_be_left_again,
    the_last_resort_key_alone_spends_nothing,
);

async fn take(client: &mut Client, owner: &Person) -> PrekeyBundle {
    match client.call(Call::TakePrekeys(owner.name.clone())).await {
        Got::Bundle(_, bundle) => *bundle,
        got => panic!("{got:?}"),
    }
}

async fn put(client: &mut Client, prekey: Prekey) -> Option<Reason> {
    client.call(Call::PutPrekey(prekey)).await.reason()
}

async fn stock(client: &mut Client) -> (u16, u64, u32) {
    match client.call(Call::PrekeyStock).await {
        Got::Stock(_, one_time, issued, id) => (one_time, issued, id),
        got => panic!("{got:?}"),
    }
}

/// What lies at the relay: one-time and last-resort.
async fn listed(client: &mut Client) -> (Vec<PrekeyRef>, Option<PrekeyRef>) {
    match client.call(Call::Prekeys).await {
        Got::Prekeys(_, one_time, last_resort) => (one_time, last_resort),
        got => panic!("{got:?}"),
    }
}

async fn drop_all(client: &mut Client) {
    let got = client.call(Call::DropPrekeys).await;
    assert!(matches!(got, Got::Done(_)), "{got:?}");
}

#[tokio::test]
async fn a_one_time_key_is_given_to_one_sender_however_many_ask_at_once() {
    let unlimited = Rate {
        burst: 1,
        per_minute: 0,
    };
    let relay = TestRelay::start(|config| {
        config.limits.prekeys_given = unlimited;
        config.limits.prekeys_taken = unlimited;
    });
    let relay = relay.await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    assert_eq!(
        put(&mut owner, bob.prekey(PrekeyKind::LastResort, 100)).await,
        None
    );
    for id in 0..16 {
        assert_eq!(
            put(&mut owner, bob.prekey(PrekeyKind::OneTime, id)).await,
            None
        );
    }
    let mut takers = Vec::new();
    for n in 0..8 {
        let person = Person::new(&format!("taker{n}"));
        let mut client = Client::register(&relay.place, &person).await;
        let name = bob.name.clone();
        takers.push(tokio::spawn(async move {
            take_one_time(&mut client, &name, 5).await
        }));
    }
    let mut given = Vec::new();
    for taker in takers {
        given.extend(taker.await.unwrap());
    }
    given.sort_unstable();
    assert_eq!(
        given,
        (0..16).collect::<Vec<u32>>(),
        "each once, none twice"
    );
    assert_eq!(stock(&mut owner).await.0, 0);
}

#[tokio::test]
async fn a_given_key_does_not_come_back_by_a_repeated_upload() {
    let relay = TestRelay::start(|_| {}).await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    let one_time = bob.prekey(PrekeyKind::OneTime, 5);
    put(&mut owner, bob.prekey(PrekeyKind::LastResort, 1)).await;
    for _ in 0..2 {
        assert_eq!(put(&mut owner, one_time).await, None);
        assert_eq!(stock(&mut owner).await.0, 1);
    }
    assert_eq!(take(&mut owner, &bob).await.one_time, Some(one_time));
    assert_eq!(put(&mut owner, one_time).await, None);
    assert_eq!(stock(&mut owner).await.0, 0);
    assert_eq!(take(&mut owner, &bob).await.one_time, None);
}

#[tokio::test]
async fn bundles_carry_what_the_owner_signed() {
    let relay = TestRelay::start(|_| {}).await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    let name = bob.name.clone();
    let got = owner.call(Call::TakePrekeys(name)).await;
    assert_eq!(got.reason(), Some(Reason::NoPrekeys));
    let nobody = Person::new("nobody").name;
    let got = owner.call(Call::TakePrekeys(nobody)).await;
    assert_eq!(got.reason(), Some(Reason::UnknownName));
    assert_eq!(stock(&mut owner).await, (0, 0, 0));

    for id in [1, 2] {
        let last_resort = bob.prekey(PrekeyKind::LastResort, id);
        assert_eq!(put(&mut owner, last_resort).await, None);
        assert_eq!(stock(&mut owner).await, (0, last_resort.issued, id));
        let bundle = take(&mut owner, &bob).await;
        assert_eq!(bundle.identity, bob.claim);
        assert_eq!(bundle.last_resort, last_resort);
        let identity = bundle.identity.verify().unwrap();
        bundle.last_resort.verify(&identity).unwrap();
    }
}

#[tokio::test]
async fn what_the_owner_did_not_sign_is_refused() {
    let relay = TestRelay::start(|_| {}).await;
    let (bob, mallory) = (Person::new("bob"), Person::new("mallory"));
    let mut owner = Client::register(&relay.place, &bob).await;
    let good = bob.prekey(PrekeyKind::OneTime, 1);
    let mut wrong = vec![mallory.prekey(PrekeyKind::OneTime, 1)];
    type Change = fn(&mut Prekey);
    let changes: [Change; 6] = [
        |p| p.kind = PrekeyKind::LastResort,
        |p| p.id += 1,
        |p| p.issued += 1,
        |p| p.dh.0[0] ^= 1,
        |p| p.kem.0[1183] ^= 1,
        |p| p.signature.0[63] ^= 0x80,
    ];
    for change in changes {
        let mut prekey = good;
        change(&mut prekey);
        wrong.push(prekey);
    }
    for prekey in wrong {
        assert_eq!(put(&mut owner, prekey).await, Some(Reason::BadRequest));
    }
    assert_eq!(stock(&mut owner).await, (0, 0, 0));
}

#[tokio::test]
async fn the_number_of_one_time_keys_is_bounded() {
    let relay = TestRelay::start(|config| config.limits.one_time_prekeys = 3).await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    put(&mut owner, bob.prekey(PrekeyKind::LastResort, 9)).await;
    for id in 0..3 {
        assert_eq!(
            put(&mut owner, bob.prekey(PrekeyKind::OneTime, id)).await,
            None
        );
    }
    let fourth = bob.prekey(PrekeyKind::OneTime, 3);
    assert_eq!(put(&mut owner, fourth).await, Some(Reason::MailboxFull));
    take(&mut owner, &bob).await;
    assert_eq!(put(&mut owner, fourth).await, None);
}

#[tokio::test]
async fn nobody_drains_the_one_time_keys_of_an_owner() {
    let given = Rate {
        burst: 2,
        per_minute: 1,
    };
    let relay = TestRelay::start(|config| config.limits.prekeys_given = given).await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    put(&mut owner, bob.prekey(PrekeyKind::LastResort, 9)).await;
    for id in 0..8 {
        put(&mut owner, bob.prekey(PrekeyKind::OneTime, id)).await;
    }
    let mut ids = BTreeSet::new();
    for n in 0..6 {
        let eve = Person::new(&format!("eve{n}"));
        let mut client = Client::register(&relay.place, &eve).await;
        let bundle = take(&mut client, &bob).await;
        ids.extend(bundle.one_time.map(|prekey| prekey.id));
    }
    assert_eq!(ids.len(), 2, "beyond that only the last-resort key");
    relay.clock.advance(60_000);
    assert!(take(&mut owner, &bob).await.one_time.is_some());
}

#[tokio::test]
async fn tens_of_thousands_of_other_names_do_not_bring_a_spent_rate_back() {
    /// More than the relay counts at once.
    const OTHERS: usize = 70_000;
    const IN_FLIGHT: usize = 64;
    let relay = TestRelay::start(|config| {
        let unlimited = Rate {
            burst: 1,
            per_minute: 0,
        };
        config.limits.calls = unlimited;
        config.limits.prekeys_taken = unlimited;
        config.limits.prekeys_given = Rate {
            burst: 2,
            per_minute: 1,
        };
    })
    .await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    assert_eq!(
        put(&mut owner, bob.prekey(PrekeyKind::LastResort, 100)).await,
        None
    );
    for id in 1..=4 {
        assert_eq!(
            put(&mut owner, bob.prekey(PrekeyKind::OneTime, id)).await,
            None
        );
    }
    let mut taker = Client::register(&relay.place, &Person::new("mallory")).await;
    assert_eq!(take_one_time(&mut taker, &bob.name, 4).await, [1, 2]);
    for n in 0..OTHERS + IN_FLIGHT {
        if n < OTHERS {
            let name = Name::parse(&format!("nobody-{n}")).unwrap();
            taker.ask(Call::TakePrekeys(name)).await;
        }
        if n >= IN_FLIGHT {
            assert_eq!(taker.next().await.reason(), Some(Reason::UnknownName));
        }
    }
    let taken = take_one_time(&mut taker, &bob.name, 2).await;
    assert!(taken.is_empty(), "still spent: {taken:?}");
    drop(owner);
    relay.clock.advance(60_000);
    let mut later = Client::register(&relay.place, &Person::new("carol")).await;
    assert_eq!(take_one_time(&mut later, &bob.name, 2).await, [3]);
}

#[tokio::test]
async fn the_list_names_what_lies_here() {
    let unlimited = Rate {
        burst: 1,
        per_minute: 0,
    };
    let relay = TestRelay::start(|config| {
        // More than one answer holds: the relay keeps no more than that.
        config.limits.one_time_prekeys = 1000;
        config.limits.prekeys_given = unlimited;
    });
    let relay = relay.await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut other = Client::register(&relay.place, &alice).await;
    let mut owner = Client::register(&relay.place, &bob).await;
    assert_eq!(listed(&mut owner).await, (vec![], None));
    // Left in no order; id 0 is an id, and the last-resort key may have any.
    let last = bob.prekey_of(PrekeyKind::LastResort, 0, 0);
    let most = PREKEY_STOCK as u32;
    for id in (0..most).rev() {
        let key = bob.prekey(PrekeyKind::OneTime, id * 7);
        assert_eq!(put(&mut owner, key).await, None);
    }
    assert_eq!(put(&mut owner, last).await, None);
    let too_many = bob.prekey(PrekeyKind::OneTime, 1);
    assert_eq!(
        put(&mut owner, too_many).await,
        Some(Reason::MailboxFull),
        "more would not fit into the answer"
    );
    let reference = |n: u32| bob.prekey(PrekeyKind::OneTime, n * 7).reference();
    let mut expected: Vec<PrekeyRef> = (0..most).map(reference).collect();
    let last = Some(last.reference());
    assert_eq!(listed(&mut owner).await, (expected.clone(), last));
    // In the order in which they are given.
    for _ in 0..3 {
        let taken = take(&mut other, &bob).await.one_time.unwrap();
        assert_eq!(expected.remove(0), taken.reference());
        assert_eq!(listed(&mut owner).await, (expected.clone(), last));
    }
    assert_eq!(listed(&mut other).await, (vec![], None), "only the own");
}

#[tokio::test]
async fn another_key_with_the_same_id_takes_its_place() {
    let relay = TestRelay::start(|config| config.limits.one_time_prekeys = 2).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut other = Client::register(&relay.place, &alice).await;
    let mut owner = Client::register(&relay.place, &bob).await;
    put(&mut owner, bob.prekey(PrekeyKind::LastResort, 9)).await;
    let first = bob.prekey(PrekeyKind::OneTime, 5);
    let neighbour = bob.prekey(PrekeyKind::OneTime, 6);
    for key in [first, neighbour] {
        assert_eq!(put(&mut owner, key).await, None);
    }
    // The token was restored, and gave the id to another key: also by a clock that went back with it, and also where the
    // stock is full, since there are no more of them.
    for issued in [first.issued + 1, first.issued - 1] {
        let key = bob.prekey_of(PrekeyKind::OneTime, 5, issued);
        for _ in 0..2 {
            assert_eq!(put(&mut owner, key).await, None);
            let expected = vec![key.reference(), neighbour.reference()];
            assert_eq!(listed(&mut owner).await.0, expected);
        }
    }
    let there = bob.prekey_of(PrekeyKind::OneTime, 5, first.issued - 1);
    assert_eq!(take(&mut other, &bob).await.one_time, Some(there));

    // The same of one that was given: that one does not come back, another one does.
    assert_eq!(put(&mut owner, there).await, None);
    assert_eq!(listed(&mut owner).await.0, [neighbour.reference()]);
    let third = bob.prekey_of(PrekeyKind::OneTime, 5, first.issued + 7);
    assert_eq!(put(&mut owner, third).await, None);
    let expected = vec![third.reference(), neighbour.reference()];
    assert_eq!(listed(&mut owner).await.0, expected);
    assert_eq!(stock(&mut owner).await.0, 2);
    assert_eq!(take(&mut other, &bob).await.one_time, Some(third));
    assert_eq!(put(&mut owner, third).await, None);
    assert_eq!(listed(&mut owner).await.0, [neighbour.reference()]);

    // A stock that is full stays so: what was given takes room again.
    let fourth = bob.prekey(PrekeyKind::OneTime, 7);
    assert_eq!(put(&mut owner, fourth).await, None);
    let back = bob.prekey_of(PrekeyKind::OneTime, 5, first.issued + 8);
    assert_eq!(put(&mut owner, back).await, Some(Reason::MailboxFull));
}

#[tokio::test]
async fn dropped_keys_are_not_given_and_may_be_left_again() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut other = Client::register(&relay.place, &alice).await;
    let mut owner = Client::register(&relay.place, &bob).await;
    let last = bob.prekey(PrekeyKind::LastResort, 9);
    put(&mut owner, last).await;
    put(&mut other, alice.prekey(PrekeyKind::OneTime, 1)).await;
    let keys = [1, 2, 3].map(|id| bob.prekey(PrekeyKind::OneTime, id));
    for key in keys {
        assert_eq!(put(&mut owner, key).await, None);
    }
    assert_eq!(take(&mut other, &bob).await.one_time, Some(keys[0]));
    for _ in 0..2 {
        drop_all(&mut owner).await;
        let left = (vec![], Some(last.reference()));
        assert_eq!(listed(&mut owner).await, left, "the last-resort key stays");
    }
    assert_eq!(stock(&mut owner).await, (0, last.issued, last.id));
    assert_eq!(take(&mut other, &bob).await.one_time, None);
    assert_eq!(stock(&mut other).await.0, 1, "only the own");

    // Pipelined, as a client does that replaces its stock. What was given is still known as given.
    owner.ask(Call::DropPrekeys).await;
    for key in keys {
        owner.ask(Call::PutPrekey(key)).await;
    }
    for _ in 0..4 {
        let got = owner.next().await;
        assert!(matches!(got, Got::Done(_)), "{got:?}");
    }
    let expected = vec![keys[1].reference(), keys[2].reference()];
    assert_eq!(listed(&mut owner).await.0, expected);
    drop_all(&mut owner).await;
    let new = bob.prekey_of(PrekeyKind::OneTime, 1, 5);
    assert_eq!(put(&mut owner, new).await, None);
    assert_eq!(take(&mut other, &bob).await.one_time, Some(new));
}

#[tokio::test]
async fn the_last_resort_key_alone_spends_nothing() {
    let (given, taken) = (
        Rate {
            burst: 1,
            per_minute: 1,
        },
        Rate {
            burst: 4,
            per_minute: 6,
        },
    );
    let relay = TestRelay::start(|config| {
        config.limits.prekeys_given = given;
        config.limits.prekeys_taken = taken;
    });
    let relay = relay.await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut other = Client::register(&relay.place, &alice).await;
    let mut owner = Client::register(&relay.place, &bob).await;
    let call = || Call::TakeLastResort(bob.name.clone());
    let got = other.call(call()).await;
    assert_eq!(got.reason(), Some(Reason::NoPrekeys));
    let nobody = Person::new("nobody").name;
    let got = owner.call(Call::TakeLastResort(nobody)).await;
    assert_eq!(got.reason(), Some(Reason::UnknownName));
    let last = bob.prekey(PrekeyKind::LastResort, 9);
    put(&mut owner, last).await;
    put(&mut owner, bob.prekey(PrekeyKind::OneTime, 1)).await;
    for _ in 0..3 {
        match other.call(call()).await {
            Got::Bundle(_, bundle) => {
                let expected = PrekeyBundle {
                    identity: bob.claim,
                    last_resort: last,
                    one_time: None,
                };
                assert_eq!(*bundle, expected);
            }
            got => panic!("{got:?}"),
        }
    }
    let refusal = other.call(call()).await.refusal().unwrap();
    assert_eq!(
        (refusal.reason, refusal.retry_after_ms),
        (Reason::RateLimited, 10_000)
    );
    assert_eq!(stock(&mut owner).await.0, 1);
    // Nor did it count as a one-time key that was given.
    let mut third = Client::register(&relay.place, &Person::new("carol")).await;
    assert!(take(&mut third, &bob).await.one_time.is_some());
}

/// Earlier versions took 64: a database may have more than an answer holds.
#[tokio::test]
async fn a_stock_of_an_earlier_version_is_listed_as_far_as_an_answer_goes() {
    let relay = TestRelay::start(|_| {}).await;
    let bob = Person::new("bob");
    let mut owner = Client::register(&relay.place, &bob).await;
    put(&mut owner, bob.prekey(PrekeyKind::LastResort, 9)).await;
    put(&mut owner, bob.prekey(PrekeyKind::OneTime, 0)).await;
    drop(owner);
    let clock = relay.clock.clone();
    let folder = relay.stop().await;
    let database = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    for id in 1..64 {
        let key = bob.prekey(PrekeyKind::OneTime, id);
        let mut buf = vec![0; 1400];
        let body: &[u8] = hostchat_core::wire::codec::encode(&key, &mut buf).unwrap();
        let row = (id, key.issued.cast_signed(), i64::MAX, body);
        let insert = "INSERT INTO prekey VALUES (1, 0, ?1, ?2, ?3, ?4)";
        database.execute(insert, row).unwrap();
    }
    database.close().unwrap();
    let relay = TestRelay::start_in(folder, clock, |_| {}).await;
    let mut owner = Client::login(&relay.place, &bob).await;
    assert_eq!(stock(&mut owner).await.0, 64);
    let ids: Vec<u32> = listed(&mut owner)
        .await
        .0
        .iter()
        .map(|key| key.id)
        .collect();
    assert_eq!(ids, (0..PREKEY_STOCK as u32).collect::<Vec<_>>());
    let more = bob.prekey(PrekeyKind::OneTime, 64);
    assert_eq!(put(&mut owner, more).await, Some(Reason::MailboxFull));
    // Those that are not named go as well.
    drop_all(&mut owner).await;
    assert_eq!(stock(&mut owner).await.0, 0);
    assert_eq!(put(&mut owner, more).await, None);
}

/// Earlier versions wrote no `Issued` beside a prekey on NATS: then it is read from the prekey, and of one that was given
/// it is not known.
#[test]
fn what_earlier_versions_left_on_nats_is_listed_and_compared() {
    run_on_nats(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let relay = TestRelay::start(|_| {}).await;
            let (alice, bob) = (Person::new("alice"), Person::new("bob"));
            let mut other = Client::register(&relay.place, &alice).await;
            let mut owner = Client::register(&relay.place, &bob).await;
            put(&mut owner, bob.prekey(PrekeyKind::LastResort, 9)).await;
            let keys = [1, 2].map(|id| bob.prekey(PrekeyKind::OneTime, id));
            for key in keys {
                put(&mut owner, key).await;
            }
            let taken = take(&mut other, &bob).await.one_time;
            assert_eq!(taken, Some(keys[0]));
            without_issued(&relay, [1, 2]).await;
            let expected = (vec![keys[1].reference()], 9);
            let (one_time, last) = listed(&mut owner).await;
            assert_eq!((one_time, last.unwrap().id), expected);
            // Both are the same as far as anybody can tell, and nothing is given twice.
            for key in keys {
                assert_eq!(put(&mut owner, key).await, None);
            }
            assert_eq!(listed(&mut owner).await.0, expected.0);
            let same_id = bob.prekey_of(PrekeyKind::OneTime, 1, 7);
            assert_eq!(put(&mut owner, same_id).await, None);
            assert_eq!(listed(&mut owner).await.0, expected.0);
            let same_id = bob.prekey_of(PrekeyKind::OneTime, 2, 7);
            assert_eq!(put(&mut owner, same_id).await, None);
            assert_eq!(listed(&mut owner).await.0, [same_id.reference()]);
            assert_eq!(take(&mut other, &bob).await.one_time, Some(same_id));
        });
    });
}

/// Writes the records of these one-time prekeys as earlier versions did.
async fn without_issued(relay: &TestRelay, ids: [u32; 2]) {
    let name = servers(relay.folder.path(), vec![]).name;
    let client = async_nats::connect(nats_url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream(format!("KV_{name}-book")).await.unwrap();
    for id in ids {
        let subject = format!("$KV.{name}-book.prekey.*.{id}");
        let last = stream.get_last_raw_message_by_subject(&subject).await;
        let last = last.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        if let Some(gone) = last.headers.get("Gone") {
            headers.insert("Gone", gone.as_str());
        }
        assert!(last.headers.get("Issued").is_some(), "{:?}", last.headers);
        let sent = context.publish_with_headers(last.subject, headers, last.payload);
        sent.await.unwrap().await.unwrap();
    }
}
