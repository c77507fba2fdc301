//! Prekeys: signed by their owner, handed out once.

use std::collections::BTreeSet;

use hostchat_core::wire::relay::{Call, Reason};
use hostchat_core::wire::{Prekey, PrekeyBundle, PrekeyKind};
use hostchat_relay::Rate;

use crate::client::{Client, Got, Person, take_one_time};
use crate::harness::{TestRelay, also_on_nats};

also_on_nats!(
    a_one_time_key_is_given_to_one_sender_however_many_ask_at_once,
    a_given_key_does_not_come_back_by_a_repeated_upload,
    bundles_carry_what_the_owner_signed,
    the_number_of_one_time_keys_is_bounded,
    nobody_drains_the_one_time_keys_of_an_owner,
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
