//! Several nodes on one store: what they know of each other.

use hostchat_core::wire::relay::{BLOB_PART, Call, Kind, Reason};
use hostchat_core::wire::{Generation, PrekeyKind};
use hostchat_relay::Config;
use hostchat_relay::clock::ManualClock;

use crate::blobs::{File, blob, part};
use crate::blocks;
use crate::client::{Client, Got, Person, message, take_one_time};
use crate::generations::{advance, generation, there};
use crate::harness::{TestRelay, WALL, init, run_on_nats, servers};

/// Two nodes in this process, whose clocks differ by decades.
async fn two_nodes() -> (TestRelay, TestRelay) {
    let (one, other) = (init(), init());
    let name = servers(one.path(), Vec::new()).name;
    let same = move |config: &mut Config| {
        if let Some(nats) = &mut config.nats {
            nats.name = name;
        }
    };
    let a = TestRelay::start_in(one, ManualClock::new(WALL), same.clone()).await;
    let b = TestRelay::start_in(other, ManualClock::new(WALL * 2), same).await;
    (a, b)
}

fn on_two_nodes<F: Future<Output = ()>>(test: impl FnOnce(TestRelay, TestRelay) -> F) {
    run_on_nats(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (a, b) = two_nodes().await;
            test(a, b).await;
        });
    });
}

#[test]
fn what_one_nats_node_was_told_the_other_knows() {
    on_two_nodes(|a, b| async move {
        // Whole, or what is not named here would be dropped, and the relay with it.
        let (a, b) = (&a, &b);
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        let mut from = Client::register(&a.place, &alice).await;
        drop(Client::register(&a.place, &bob).await);
        // At once, and live in both directions of time.
        let mut to = Client::login(&b.place, &bob).await;
        assert_eq!(to.drain(true).await, []);
        for kind in [Kind::Pairing, Kind::Message] {
            let got = from.call(message(&bob, kind as u128, kind, b"live")).await;
            assert!(got.is_stored());
            let number = to.next().await.delivered().number;
            let got = to.call(Call::Acknowledge { number }).await;
            assert!(matches!(got, Got::Done(_)));
        }
        // Acknowledged at the other node: gone, and the id remembered.
        let mut here = Client::login(&a.place, &bob).await;
        assert_eq!(here.drain(true).await, []);
        assert_eq!(to.next().await.reason(), Some(Reason::TooManyConnections));
        let mut again = Client::login(&b.place, &alice).await;
        assert!(
            again
                .send(&bob, Kind::Message as u128, b"live")
                .await
                .is_stored()
        );
        assert!(again.send(&bob, 77, b"next").await.is_stored());
        assert_eq!(here.next().await.delivered().body, b"next");

        let who = async |client: &mut Client| match client.call(Call::Who { after: "" }).await {
            Got::Online(_, names, _) => names,
            got => panic!("{got:?}"),
        };
        drop(here);
        let carol = Client::register(&b.place, &Person::new("carol")).await;
        while who(&mut from).await != ["alice", "carol"] {
            a.clock.advance(2_000);
            b.clock.advance(2_000);
            tokio::task::yield_now().await;
        }
        drop(carol);

        let mut there = Client::login(&b.place, &bob).await;
        let mut here = Client::login(&a.place, &bob).await;
        let got = here.call(Call::DeleteAccount).await;
        assert!(matches!(got, Got::Done(_)));
        assert_eq!(there.next().await.reason(), Some(Reason::UnknownName));
        let got = again.send(&bob, 78, b"late").await;
        assert_eq!(got.reason(), Some(Reason::UnknownName));
    });
}

#[test]
fn a_block_holds_at_every_nats_node_and_no_change_of_a_list_is_lost() {
    on_two_nodes(|a, b| async move {
        let (a, b) = (&a, &b);
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        let mut here = Client::register(&a.place, &bob).await;
        let mut from = Client::register(&b.place, &alice).await;
        assert!(from.send(&bob, 1, b"before").await.is_stored());
        let at_alice = format!("alice@{}", a.place.name);
        assert_eq!(blocks::set(&mut here, &at_alice, true).await, None);
        // From when the other node has seen it.
        let mut id = 2;
        while from.send(&bob, id, b"x").await.is_stored() {
            id += 1;
        }
        let refused = from.send(&bob, id, b"x").await.reason();
        assert_eq!(refused, Some(Reason::Blocked));

        // Both at once: each change is compared with the list that it changes.
        let mut there = Client::login(&b.place, &bob).await;
        let many = async |client: &mut Client, node: &str| {
            for n in 0..20 {
                let who = format!("n{n}@{node}:1");
                assert_eq!(blocks::set(client, &who, true).await, None);
            }
        };
        tokio::join!(many(&mut here, "a"), many(&mut there, "b"));
        let lists = [
            blocks::list(&mut here).await,
            blocks::list(&mut there).await,
        ];
        assert_eq!(lists.map(|list| list.len()), [41, 41]);
        let at_alice = format!("alice@{}", b.place.name);
        assert_eq!(blocks::set(&mut there, &at_alice, false).await, None);
        assert_eq!(blocks::list(&mut here).await.len(), 40);
    });
}

#[test]
fn a_file_that_one_nats_node_takes_the_other_goes_on_with_and_hands_out() {
    on_two_nodes(|a, b| async move {
        // Whole, or what is not named here would be dropped, and the relay with it.
        let (a, b) = (&a, &b);
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        let mut here = Client::register(&a.place, &alice).await;
        let mut there = Client::login(&b.place, &alice).await;
        let mut to = Client::register(&b.place, &bob).await;
        let file = File::new(1, 9 * BLOB_PART + 1, 2);
        assert_eq!(blob(here.call(file.announce()).await).1, 0);
        // Each part at the other node, right after the one before was answered.
        for index in 0..file.parts() {
            let client = if index % 2 == 0 {
                &mut there
            } else {
                &mut here
            };
            assert!(client.call(file.put(index)).await.is_stored());
            let got = to.call(file.get(0, index)).await;
            assert_eq!(part(got), file.part(index));
        }
        assert_eq!(blob(there.call(file.announce()).await).1, file.parts());
        // Two readers end at the same time at two nodes: neither is forgotten, and the file goes with the last.
        here.ask(file.end(0)).await;
        to.ask(file.end(1)).await;
        assert!(matches!(here.next().await, Got::Done(_)));
        assert!(matches!(to.next().await, Got::Done(_)));
        // Written by then, so that a look at either node ends with what is written.
        for client in [&mut here, &mut to] {
            while blob_is_known(client, &file).await {}
        }
        let got = here.call(file.put(0)).await;
        assert_eq!(got.reason(), Some(Reason::UnknownBlob));
        // Announced anew at one node, nothing of before is in it at the other.
        assert_eq!(blob(there.call(file.announce()).await).1, 0);
        let got = here.call(file.put(1)).await;
        assert_eq!(got.reason(), Some(Reason::BadRequest));
        // A removal of the account reaches both.
        assert!(matches!(
            there.call(Call::DeleteAccount).await,
            Got::Done(_)
        ));
        while blob_is_known(&mut to, &file).await {}
    });
}

async fn blob_is_known(client: &mut Client, file: &File) -> bool {
    client.call(file.look(0)).await.reason() != Some(Reason::UnknownBlob)
}

#[test]
fn on_nats_a_pairing_message_expires_by_the_servers_clock() {
    run_on_nats(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let relay = TestRelay::start(|config| config.limits.pairing_minutes = 0).await;
            let (alice, bob) = (Person::new("alice"), Person::new("bob"));
            let mut from = Client::register(&relay.place, &alice).await;
            drop(Client::register(&relay.place, &bob).await);
            let pairing = message(&bob, 1, Kind::Pairing, b"pairing");
            assert!(from.call(pairing.clone()).await.is_stored());
            assert!(from.send(&bob, 2, b"text").await.is_stored());
            for _ in 0..2 {
                let mut to = Client::login(&relay.place, &bob).await;
                let waiting = to.drain(false).await;
                assert_eq!(waiting.len(), 1, "{waiting:?}");
                assert_eq!(waiting[0].body, b"text");
                // Swept now, and its id remembered.
                relay.clock.advance(60_000);
                assert!(from.call(pairing.clone()).await.is_stored());
            }
        });
    });
}

#[test]
fn a_rate_counts_over_all_nats_nodes() {
    on_two_nodes(|a, b| async move {
        let (a, b) = (&a, &b);
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        let mut here = Client::register(&a.place, &alice).await;
        drop(Client::register(&a.place, &bob).await);
        let mut there = Client::login(&b.place, &alice).await;
        let firsts = hostchat_relay::Limits::default().firsts;
        let mut id = 0;
        let mut first = || {
            id += 1;
            message(&bob, id, Kind::First, b"x")
        };
        for _ in 0..firsts.burst {
            assert!(here.call(first()).await.is_stored());
        }
        // After what was taken, its node says whom it sees.
        let carol = Client::register(&a.place, &Person::new("carol")).await;
        a.clock.advance(2_000);
        let carol_is_seen = |got| match got {
            Got::Online(_, names, _) => names.contains(&"carol".to_owned()),
            got => panic!("{got:?}"),
        };
        while !carol_is_seen(there.call(Call::Who { after: "" }).await) {
            a.clock.advance(2_000);
        }
        drop(carol);
        let refused = there.call(first()).await;
        assert_eq!(refused.reason(), Some(Reason::RateLimited), "{refused:?}");
        // As long as at the other node; what was told is not told back.
        b.clock.advance(60_000);
        for _ in 0..firsts.per_minute {
            assert!(there.call(first()).await.is_stored());
        }
        assert!(there.call(first()).await.reason().is_some());
    });
}

#[test]
fn a_one_time_key_is_given_once_over_all_nats_nodes() {
    on_two_nodes(|a, b| async move {
        // Whole, or what is not named here would be dropped, and the relay with it.
        let (a, b) = (&a, &b);
        let bob = Person::new("bob");
        let mut owner = Client::register(&a.place, &bob).await;
        owner
            .call(Call::PutPrekey(bob.prekey(PrekeyKind::LastResort, 100)))
            .await;
        for id in 0..16 {
            owner
                .call(Call::PutPrekey(bob.prekey(PrekeyKind::OneTime, id)))
                .await;
        }
        let mut takers = Vec::new();
        for n in 0..8 {
            let place = if n % 2 == 0 { &a.place } else { &b.place };
            let person = Person::new(&format!("taker{n}"));
            let mut client = Client::register(place, &person).await;
            let name = bob.name.clone();
            takers.push(tokio::spawn(async move {
                take_one_time(&mut client, &name, 3).await
            }));
        }
        let mut given = Vec::new();
        for taker in takers {
            given.extend(taker.await.unwrap());
        }
        given.sort_unstable();
        assert_eq!(given, (0..16).collect::<Vec<u32>>());
    });
}

#[test]
fn of_two_nats_nodes_that_advance_at_once_exactly_one_wins() {
    on_two_nodes(|a, b| async move {
        // Whole, or what is not named here would be dropped, and the relay with it.
        let (a, b) = (&a, &b);
        let bob = Person::new("bob");
        let mut here = Client::register(&a.place, &bob).await;
        let mut there_too = Client::login(&b.place, &bob).await;
        let mut from = Generation::NONE;
        for number in (1..100).step_by(2) {
            let (one, other) = (generation(number, 1), generation(number, 2));
            let outcomes = tokio::join!(
                advance(&mut here, from, one),
                advance(&mut there_too, from, other),
            );
            from = match outcomes {
                (Ok(()), Err(there)) if there == one => one,
                (Err(there), Ok(())) if there == other => other,
                _ => panic!("{number}: {outcomes:?}"),
            };
            // What one node was told, the other knows at once.
            for client in [&mut here, &mut there_too] {
                assert_eq!(there(client).await, from);
            }
            // The same at both: a repeat after an answer that was lost.
            let to = generation(number + 1, 0);
            let both = tokio::join!(
                advance(&mut here, from, to),
                advance(&mut there_too, from, to),
            );
            assert_eq!(both, (Ok(()), Ok(())));
            from = to;
        }
        // A removal reaches both.
        let got = here.call(Call::DeleteAccount).await;
        assert!(matches!(got, Got::Done(_)));
        assert_eq!(there_too.next().await.reason(), Some(Reason::UnknownName));
        let mut anew = Client::register(&b.place, &bob).await;
        assert_eq!(there(&mut anew).await, Generation::NONE);
    });
}

#[test]
fn a_prekey_that_was_dropped_at_one_nats_node_is_not_given_at_another() {
    on_two_nodes(|a, b| async move {
        let (a, b) = (&a, &b);
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        let mut owner = Client::register(&a.place, &bob).await;
        let mut there_too = Client::login(&b.place, &bob).await;
        let mut taker = Client::register(&b.place, &alice).await;
        let last = bob.prekey(PrekeyKind::LastResort, 100);
        owner.call(Call::PutPrekey(last)).await;
        for issued in 1..=8 {
            let keys = [1, 2, 3].map(|id| bob.prekey_of(PrekeyKind::OneTime, id, issued));
            for key in keys {
                owner.call(Call::PutPrekey(key)).await;
            }
            match there_too.call(Call::Prekeys).await {
                Got::Prekeys(_, one_time, _) => {
                    assert_eq!(one_time, keys.map(|key| key.reference()));
                }
                got => panic!("{got:?}"),
            }
            let got = owner.call(Call::DropPrekeys).await;
            assert!(matches!(got, Got::Done(_)), "{got:?}");
            assert_eq!(take_one_time(&mut taker, &bob.name, 1).await, [0; 0]);
        }
    });
}
