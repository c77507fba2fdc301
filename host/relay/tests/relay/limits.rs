//! Quotas and rates: whoever exceeds them is told, waits, and nobody else notices.

use hostchat_core::wire::relay::{Call, Kind, Reason};
use hostchat_relay::{Config, Rate};

use crate::blobs::File;
use crate::client::{Client, Got, Person, message};
use crate::harness::{Place, TestRelay, also_on_nats};

async fn people(relay: &TestRelay, names: [&str; 3]) -> [(Person, Client); 3] {
    let [a, b, c] = names.map(Person::new);
    [
        (Client::register(&relay.place, &a).await, a),
        (Client::register(&relay.place, &b).await, b),
        (Client::register(&relay.place, &c).await, c),
    ]
    .map(|(client, person)| (person, client))
}

const fn rate(burst: u32, per_minute: u32) -> Rate {
    Rate { burst, per_minute }
}

also_on_nats!(
    a_full_mailbox_is_the_senders_error_and_nobody_elses,
    bytes_count_as_well,
    one_sender_or_all_guests_cannot_fill_a_mailbox_alone,
    pairing_and_first_messages_have_their_own_quota,
    a_guest_under_the_address_of_another_fills_only_its_own_share,
    guests_of_one_network_leave_others_room_whatever_identities_they_make,
);

#[tokio::test]
async fn a_full_mailbox_is_the_senders_error_and_nobody_elses() {
    let relay = TestRelay::start(|config| {
        config.limits.mailbox_messages = 4;
        config.limits.sender_percent = 100;
    });
    let relay = relay.await;
    let [(alice, mut from), (bob, mut to), (_, mut carol)] =
        people(&relay, ["alice", "bob", "carol"]).await;
    for id in 0..4 {
        assert!(from.send(&bob, id, b"x").await.is_stored());
    }
    let refusal = from.send(&bob, 4, b"x").await.refusal().unwrap();
    assert_eq!(refusal.reason, Reason::MailboxFull);
    assert!(refusal.retry_after_ms > 0);
    assert_eq!(
        carol.send(&bob, 1, b"x").await.reason(),
        Some(Reason::MailboxFull)
    );
    assert!(
        from.send(&bob, 2, b"x").await.is_stored(),
        "a repeat of what is stored"
    );
    assert!(
        carol.send(&alice, 1, b"x").await.is_stored(),
        "another mailbox"
    );

    assert_eq!(to.drain(true).await.len(), 4);
    assert!(
        from.send(&bob, 4, b"x").await.is_stored(),
        "refused is not remembered"
    );
    assert_eq!(to.next().await.delivered().message_id, 4u128.to_be_bytes());
}

#[tokio::test]
async fn bytes_count_as_well() {
    let relay = TestRelay::start(|config| {
        config.limits.mailbox_mib = 1;
        config.limits.sender_percent = 100;
    });
    let relay = relay.await;
    let [(_, mut from), (bob, mut to), _] = people(&relay, ["alice", "bob", "carol"]).await;
    let body = vec![7; 4096];
    for id in 0..256 {
        assert!(from.send(&bob, id, &body).await.is_stored());
    }
    assert_eq!(
        from.send(&bob, 256, &body).await.reason(),
        Some(Reason::MailboxFull)
    );
    assert!(from.send(&bob, 257, b"").await.is_stored());
    assert_eq!(to.drain(true).await.len(), 257);
    assert!(from.send(&bob, 256, &body).await.is_stored());
}

#[tokio::test]
async fn one_sender_or_all_guests_cannot_fill_a_mailbox_alone() {
    let relay = TestRelay::start(|config| config.limits.mailbox_messages = 8).await;
    let [(_, mut alice), (bob, _), (_, mut carol)] =
        people(&relay, ["alice", "bob", "carol"]).await;
    for id in 0..2 {
        assert!(alice.send(&bob, id, b"x").await.is_stored());
    }
    assert_eq!(
        alice.send(&bob, 2, b"x").await.reason(),
        Some(Reason::MailboxFull)
    );
    for (others, most) in [
        (0, 2), // one identity, whatever addresses it claims
        (1, 4), // half of the mailbox, whatever identities guests make
    ] {
        let mut stored = 0;
        for n in 0..6 {
            let eve = Person::with_seed("eve", [100 + n * others; 32]);
            let address = format!("eve{n}@elsewhere.example:1");
            let mut guest = Client::guest(&relay.place, &eve, &address).await;
            stored += u32::from(guest.send(&bob, 1, b"x").await.is_stored());
        }
        assert_eq!(stored, most);
    }
    assert!(carol.send(&bob, 1, b"x").await.is_stored());
}

const CAROL: &str = "carol@elsewhere.example:1";

/// Offers to a mailbox under carol's address, from whoever proves to be `person`; how many were stored, and the last word.
async fn flood(place: &Place, person: &Person, bob: &Person, count: u128) -> (u32, Option<Reason>) {
    let mut guest = Client::guest(place, person, CAROL).await;
    let (mut stored, mut last) = (0, None);
    for _ in 0..count {
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        let offer = message(bob, u128::from_be_bytes(id), Kind::Pairing, b"an offer");
        let got = guest.call(offer).await;
        stored += u32::from(got.is_stored());
        last = got.reason();
    }
    (stored, last)
}

#[tokio::test]
async fn a_guest_under_the_address_of_another_fills_only_its_own_share() {
    let change = |config: &mut Config| {
        config.limits.pairings = rate(1, 0);
        config.limits.guest_pairings = rate(1, 0);
    };
    let relay = TestRelay::start(change).await;
    let [_, (bob, to), _] = people(&relay, ["alice", "bob", "dave"]).await;
    let (carol, forger) = (Person::new("carol"), Person::new("forger"));
    let full = Some(Reason::MailboxFull);
    assert_eq!(flood(&relay.place, &forger, &bob, 100).await, (16, full));
    assert_eq!(flood(&relay.place, &carol, &bob, 1).await, (1, None));
    drop(to);
    // It is counted anew from what is kept.
    let clock = relay.clock.clone();
    let relay = TestRelay::start_in(relay.stop().await, clock, change).await;
    assert_eq!(flood(&relay.place, &forger, &bob, 2).await, (0, full));
    assert_eq!(flood(&relay.place, &carol, &bob, 14).await, (14, None));
    // Carol has a share as well, and whoever makes another identity another one, until it is that of all guests.
    let another = Person::new("another");
    assert_eq!(flood(&relay.place, &another, &bob, 20).await, (1, full));
    assert_eq!(flood(&relay.place, &carol, &bob, 1).await, (0, full));

    let mut to = Client::login(&relay.place, &bob).await;
    let delivered = to.drain(true).await;
    assert!(delivered.iter().all(|d| d.sender.as_str() == CAROL));
    for (person, count) in [(&forger, 16), (&carol, 15), (&another, 1)] {
        let of = delivered.iter();
        let of = of.filter(|d| d.fingerprint == person.fingerprint());
        assert_eq!(of.count(), count, "{}", person.name);
    }
    // What was fetched makes room in the share that it was of.
    assert_eq!(flood(&relay.place, &forger, &bob, 17).await, (16, full));
    assert_eq!(flood(&relay.place, &carol, &bob, 1).await, (1, None));
}

#[tokio::test]
async fn guests_of_one_network_leave_others_room_whatever_identities_they_make() {
    let relay = TestRelay::start(|config| {
        config.limits.pairings = rate(1, 0);
        config.limits.idle_seconds = u32::MAX;
    });
    let relay = relay.await;
    let [(alice, _), (bob, mut to), _] = people(&relay, ["alice", "bob", "dave"]).await;
    let forgers = relay.place.from(2);
    let mut stored = 0;
    let mut last = None;
    for seed in 0..40 {
        let forger = Person::with_seed("forger", [100 + seed; 32]);
        let (more, word) = flood(&forgers, &forger, &bob, 1).await;
        (stored, last) = (stored + more, word);
    }
    assert_eq!((stored, last), (16, Some(Reason::RateLimited)));
    // Another mailbox, and another network.
    let forger = Person::new("forger");
    assert_eq!(flood(&forgers, &forger, &alice, 1).await, (1, None));
    let carol = Person::new("carol");
    assert_eq!(flood(&relay.place, &carol, &bob, 1).await, (1, None));
    // As long as offers lie there, the forgers never have the share of all guests.
    let mut also = 0;
    for minute in 0..9 {
        relay.clock.advance(60_000);
        let forger = Person::with_seed("forger", [150 + minute; 32]);
        also += flood(&forgers, &forger, &bob, 3).await.0;
    }
    assert_eq!(also, 9);
    assert_eq!(flood(&relay.place, &carol, &bob, 1).await, (1, None));
    assert_eq!(to.drain(true).await.len(), 16 + 9 + 2);
    // Users are no guests.
    let mut from = Client::login(&forgers, &alice).await;
    for id in 0..16 {
        let offer = message(&bob, id, Kind::Pairing, b"x");
        assert!(from.call(offer).await.is_stored());
    }
}

#[tokio::test]
async fn pairing_and_first_messages_have_their_own_quota() {
    let relay = TestRelay::start(|config| {
        config.limits.mailbox_pairings = 2;
        config.limits.mailbox_firsts = 3;
        config.limits.sender_percent = 100;
        config.limits.idle_seconds = u32::MAX;
    });
    let relay = relay.await;
    let [(_, mut from), (bob, mut to), _] = people(&relay, ["alice", "bob", "carol"]).await;
    let mut id = 0;
    let mut leave = async |from: &mut Client, kind| {
        id += 1;
        from.call(message(&bob, id, kind, b"x")).await.reason()
    };
    for (kind, most) in [(Kind::Pairing, 2), (Kind::First, 3)] {
        for _ in 0..most {
            assert_eq!(leave(&mut from, kind).await, None);
        }
        assert_eq!(leave(&mut from, kind).await, Some(Reason::MailboxFull));
    }
    assert_eq!(leave(&mut from, Kind::Message).await, None);
    // Pairing messages make room by expiry, first messages by acknowledgement.
    relay
        .clock
        .advance(600_000 + hostchat_relay::limits::SWEEP_MS);
    while leave(&mut from, Kind::Pairing).await.is_some() {}
    assert_eq!(
        leave(&mut from, Kind::First).await,
        Some(Reason::MailboxFull)
    );
    to.drain(true).await;
    assert_eq!(leave(&mut from, Kind::First).await, None);
}

/// Sends until refused; returns how many were taken and the refusal's wait.
async fn until_limited(client: &mut Client, call: impl Fn(u128) -> Call<'static>) -> (u32, u32) {
    for n in 0.. {
        match client.call(call(n.into())).await {
            Got::Refused(_, refusal) => {
                assert_eq!(refusal.reason, Reason::RateLimited);
                return (n, refusal.retry_after_ms);
            }
            got => assert_eq!(got.reason(), None),
        }
    }
    unreachable!("a loop without end ends by return")
}

#[tokio::test]
async fn every_rate_is_kept_and_names_the_wait() {
    type Set = fn(&mut Config);
    type Make = fn(&Person, u128) -> Call<'static>;
    let cases: [(&str, Set, Make); 6] = [
        ("calls", |c| c.limits.calls = rate(5, 6), |_, _| Call::Ping),
        (
            "sends",
            |c| c.limits.sends = rate(5, 6),
            |to, id| message(to, id, Kind::Message, b"x"),
        ),
        (
            "pairings",
            |c| c.limits.pairings = rate(5, 6),
            |to, id| message(to, id, Kind::Pairing, b"x"),
        ),
        (
            "firsts",
            |c| c.limits.firsts = rate(5, 6),
            |to, id| message(to, id, Kind::First, b"x"),
        ),
        (
            "prekeys",
            |c| c.limits.prekeys_taken = rate(5, 6),
            |to, _| Call::TakePrekeys(to.name.clone()),
        ),
        (
            "files",
            |c| c.limits.blobs_put = rate(5, 6),
            |_, id| File::new(id, 1, 1).announce(),
        ),
    ];
    for (what, set, make) in cases {
        let relay = TestRelay::start(set).await;
        let [(_, mut alice), (bob, _), (_, mut carol)] =
            people(&relay, ["alice", "bob", "carol"]).await;
        bob_has_prekeys(&relay, &bob).await;
        let (taken, wait) = until_limited(&mut alice, |id| make(&bob, id)).await;
        assert_eq!((taken, wait), (5, 10_000), "{what}");
        assert_eq!(
            carol.call(make(&bob, 1)).await.reason(),
            None,
            "{what}: others go on"
        );
        relay.clock.advance(9_999);
        assert_eq!(
            alice
                .call(make(&bob, 100))
                .await
                .refusal()
                .map(|r| r.retry_after_ms),
            Some(1),
            "{what}"
        );
        relay.clock.advance(1);
        assert_eq!(
            alice.call(make(&bob, 100)).await.reason(),
            None,
            "{what}: after the wait"
        );
    }
}

async fn bob_has_prekeys(relay: &TestRelay, bob: &Person) {
    let mut owner = Client::login(&relay.place, bob).await;
    let prekey = bob.prekey(hostchat_core::wire::PrekeyKind::LastResort, 1);
    assert_eq!(owner.call(Call::PutPrekey(prekey)).await.reason(), None);
}

#[tokio::test]
async fn acknowledgements_of_deliveries_are_free() {
    let relay = TestRelay::start(|config| config.limits.calls = rate(60, 1)).await;
    let [(_, mut from), (bob, mut to), _] = people(&relay, ["alice", "bob", "carol"]).await;
    for id in 0..50 {
        assert!(from.send(&bob, id, b"x").await.is_stored());
    }
    // 58 of 60 calls, then as many acknowledgements as there are deliveries.
    for _ in 0..58 {
        to.call(Call::Ping).await;
    }
    assert_eq!(to.drain(true).await.len(), 50);
    assert_eq!(
        to.call(Call::Acknowledge { number: 1 }).await.reason(),
        None
    );
    assert_eq!(
        to.call(Call::Acknowledge { number: 1 }).await.reason(),
        Some(Reason::RateLimited)
    );
}

#[tokio::test]
async fn the_silent_are_pinged_and_then_closed() {
    let relay = TestRelay::start(|config| config.limits.idle_seconds = 90).await;
    let [(_, mut alive), (_, mut silent), _] = people(&relay, ["alice", "bob", "carol"]).await;
    for _ in 0..3 {
        relay.clock.advance(30_000);
        assert!(matches!(alive.call(Call::Ping).await, Got::Done(_)));
    }
    // Not reading means not answering pings either.
    assert_eq!(silent.next().await.reason(), Some(Reason::Timeout));
    assert_eq!(silent.next().await, Got::End);
    assert!(matches!(alive.call(Call::Ping).await, Got::Done(_)));
}

#[tokio::test]
async fn whoever_does_not_log_in_is_closed() {
    let relay = TestRelay::start(|config| config.limits.login_seconds = 45).await;
    let mut client = Client::connect(&relay.place).await;
    relay.clock.advance(45_000);
    assert_eq!(client.next().await.reason(), Some(Reason::Timeout));
    assert_eq!(client.next().await, Got::End);
}

#[tokio::test]
async fn a_flood_is_refused_and_the_others_go_on() {
    let relay = TestRelay::start(|config| {
        config.limits.sends = rate(100, 60);
        config.limits.mailbox_messages = 600;
    });
    let relay = relay.await;
    let [(_, mut alice), (bob, mut to), _] = people(&relay, ["alice", "bob", "carol"]).await;
    to.ask(Call::Receive).await;
    let mut floods = Vec::new();
    for n in 0..4 {
        let eve = Person::new(&format!("eve{n}"));
        let mut client = Client::register(&relay.place, &eve).await;
        let target = Person::new("bob");
        floods.push(tokio::spawn(async move {
            let mut refused = 0;
            for burst in 0..10u128 {
                for id in 0..100 {
                    client
                        .ask(message(
                            &target,
                            burst * 100 + id,
                            Kind::Message,
                            &[0; 2048],
                        ))
                        .await;
                }
                for _ in 0..100 {
                    refused += u32::from(client.next().await.reason().is_some());
                }
            }
            refused
        }));
    }
    for id in 0..50 {
        assert!(alice.send(&bob, id, b"x").await.is_stored());
    }
    for flood in floods {
        assert_eq!(flood.await.unwrap(), 900, "all but the burst");
    }
    let mut arrived = 0;
    while arrived < 50 {
        if let Got::Deliver(delivery) = to.next().await {
            arrived += u32::from(delivery.body == b"x");
            to.ask(Call::Acknowledge {
                number: delivery.number,
            })
            .await;
        }
    }
}
