//! Leaving, fetching and acknowledging messages.

use hostchat_core::wire::relay::{Call, Kind, Reason, WINDOW};
use hostchat_core::wire::{MAX_ENVELOPE, Name};

use hostchat_relay::Config;

use crate::client::{Client, Delivered, Got, Person, message};
use crate::harness::{TestRelay, also_on_nats, on_nats};

const DAY: u64 = 24 * 3_600_000;

async fn two(relay: &TestRelay) -> (Person, Person, Client, Client) {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let from = Client::register(&relay.place, &alice).await;
    let to = Client::register(&relay.place, &bob).await;
    (alice, bob, from, to)
}

also_on_nats!(
    a_message_arrives_is_acknowledged_and_does_not_come_again,
    without_an_acknowledgement_the_same_comes_again_also_after_a_restart,
    numbers_grow_even_when_the_last_message_is_gone_and_the_relay_restarts,
    a_repeat_is_stored_once_before_and_after_delivery_and_restart,
    pipelined_messages_keep_their_order_while_the_receiver_keeps_up,
    no_more_than_the_window_is_in_flight,
    a_newer_receiver_takes_over_and_the_older_is_closed,
    a_second_receive_on_one_connection_changes_nothing,
    nobody_acknowledges_for_somebody_else,
    unknown_receivers_and_oversized_bodies_are_refused,
    a_deleted_account_leaves_nothing_and_frees_its_name,
);

/// Connections stay while a test lets days pass.
fn never_idle(config: &mut Config) {
    config.limits.idle_seconds = u32::MAX;
}

fn bodies(delivered: &[Delivered]) -> Vec<String> {
    let text = |d: &Delivered| String::from_utf8(d.body.clone()).unwrap();
    delivered.iter().map(text).collect()
}

#[tokio::test]
async fn a_message_arrives_is_acknowledged_and_does_not_come_again() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob, mut from, mut to) = two(&relay).await;
    assert_eq!(to.drain(true).await, []);

    assert!(from.send(&bob, 1, b"one").await.is_stored());
    let delivery = to.next().await.delivered();
    assert_eq!(delivery.body, b"one");
    assert_eq!(delivery.message_id, 1u128.to_be_bytes());
    assert_eq!(
        delivery.sender.as_str(),
        format!("alice@{}", relay.place.name)
    );
    assert_eq!(delivery.fingerprint, alice.fingerprint());
    // On NATS it is the servers' time.
    assert_eq!(delivery.stored_at == crate::harness::WALL, !on_nats());
    let number = delivery.number;
    for _ in 0..2 {
        assert!(matches!(
            to.call(Call::Acknowledge { number }).await,
            Got::Done(_)
        ));
    }
    let mut again = Client::login(&relay.place, &bob).await;
    assert_eq!(again.drain(true).await, []);
}

#[tokio::test]
async fn without_an_acknowledgement_the_same_comes_again_also_after_a_restart() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    for id in 1..=3u8 {
        assert!(from.send(&bob, id.into(), &[b'0' + id]).await.is_stored());
    }
    let first = to.drain(false).await;
    assert_eq!(bodies(&first), ["1", "2", "3"]);
    drop(to);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(to.drain(false).await, first);
    let number = first[0].number;
    assert!(matches!(
        to.call(Call::Acknowledge { number }).await,
        Got::Done(_)
    ));
    drop((from, to));

    let clock = relay.clock.clone();
    let relay = TestRelay::start_in(relay.stop().await, clock, |_| {}).await;
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(bodies(&to.drain(true).await), ["2", "3"]);
}

#[tokio::test]
async fn numbers_grow_even_when_the_last_message_is_gone_and_the_relay_restarts() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob, mut from, mut to) = two(&relay).await;
    from.send(&bob, 1, b"1").await;
    let before = to.drain(true).await[0].number;
    drop((from, to));
    let clock = relay.clock.clone();
    let relay = TestRelay::start_in(relay.stop().await, clock, |_| {}).await;
    let mut from = Client::login(&relay.place, &alice).await;
    from.send(&bob, 2, b"2").await;
    let mut to = Client::login(&relay.place, &bob).await;
    assert!(to.drain(true).await[0].number > before);
}

#[tokio::test]
async fn a_repeat_is_stored_once_before_and_after_delivery_and_restart() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob, mut from, mut to) = two(&relay).await;
    for _ in 0..3 {
        assert!(from.send(&bob, 7, b"x").await.is_stored());
    }
    // The same id of another sender, or to another receiver, is another message.
    assert!(to.send(&bob, 7, b"own").await.is_stored());
    assert!(to.send(&alice, 7, b"back").await.is_stored());
    assert_eq!(bodies(&to.drain(true).await), ["x", "own"]);
    assert!(from.send(&bob, 7, b"x").await.is_stored());
    drop((from, to));

    let clock = relay.clock.clone();
    let relay = TestRelay::start_in(relay.stop().await, clock, |_| {}).await;
    let mut from = Client::login(&relay.place, &alice).await;
    assert!(from.send(&bob, 7, b"x").await.is_stored());
    assert_eq!(bodies(&from.drain(true).await), ["back"]);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(to.drain(true).await, []);
}

#[tokio::test]
async fn pipelined_messages_keep_their_order_while_the_receiver_keeps_up() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    const COUNT: u32 = 600;
    let sender = tokio::spawn(async move {
        let mut stored = 0;
        for n in 0..COUNT {
            from.ask(message(
                &bob,
                u128::from(n),
                Kind::Message,
                &n.to_be_bytes(),
            ))
            .await;
            if n >= 64 {
                assert!(from.next().await.is_stored());
                stored += 1;
            }
        }
        for _ in stored..COUNT {
            assert!(from.next().await.is_stored());
        }
        bob
    });
    let mut seen: Vec<u32> = Vec::new();
    to.ask(Call::Receive).await;
    let mut done = 0;
    while seen.len() < COUNT as usize || done <= COUNT {
        match to.next().await {
            Got::Deliver(d) => {
                seen.push(u32::from_be_bytes(d.body.try_into().unwrap()));
                to.ask(Call::Acknowledge { number: d.number }).await;
            }
            Got::Done(_) => done += 1,
            Got::Drained => {}
            got => panic!("{got:?}"),
        }
    }
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>());
    let bob = sender.await.unwrap();
    drop(to);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(to.drain(true).await, []);
}

#[tokio::test]
async fn no_more_than_the_window_is_in_flight() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    let count = WINDOW as u128 + 10;
    for id in 0..count {
        assert!(from.send(&bob, id, b"x").await.is_stored());
    }
    let receive = to.ask(Call::Receive).await;
    assert_eq!(to.next().await, Got::Done(receive));
    let mut numbers = Vec::new();
    for _ in 0..WINDOW {
        numbers.push(to.next().await.delivered().number);
    }
    assert!(
        matches!(to.call(Call::Ping).await, Got::Done(_)),
        "no delivery, not drained"
    );
    for (acknowledged, number) in numbers.iter().take(10).enumerate() {
        to.ask(Call::Acknowledge { number: *number }).await;
        let (mut delivered, mut done) = (false, false);
        while !(delivered && done) {
            match to.next().await {
                Got::Deliver(_) => delivered = true,
                Got::Done(_) => done = true,
                Got::Drained if acknowledged == 9 => {}
                got => panic!("{got:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_newer_receiver_takes_over_and_the_older_is_closed() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut old) = two(&relay).await;
    from.send(&bob, 1, b"1").await;
    assert_eq!(bodies(&old.drain(false).await), ["1"]);
    let mut new = Client::login(&relay.place, &bob).await;
    assert_eq!(bodies(&new.drain(false).await), ["1"]);
    assert_eq!(old.next().await.reason(), Some(Reason::TooManyConnections));
    assert_eq!(old.next().await, Got::End);
    from.send(&bob, 2, b"2").await;
    assert_eq!(new.next().await.delivered().body, b"2");
}

#[tokio::test]
async fn a_second_receive_on_one_connection_changes_nothing() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    from.send(&bob, 1, b"1").await;
    assert_eq!(bodies(&to.drain(false).await), ["1"]);
    // At rest, and several at once: deliveries go on, nothing comes twice, and there is no second `Drained`.
    assert!(matches!(to.call(Call::Receive).await, Got::Done(_)));
    from.send(&bob, 2, b"2").await;
    assert_eq!(to.next().await.delivered().body, b"2");
    let asked = [
        to.ask(Call::Receive).await,
        to.ask(Call::Receive).await,
        to.ask(Call::Ping).await,
    ];
    for id in asked {
        assert_eq!(to.next().await, Got::Done(id));
    }
    for id in 3..6 {
        let body = id.to_string();
        assert!(from.send(&bob, id, body.as_bytes()).await.is_stored());
        assert_eq!(to.next().await.delivered().body, body.as_bytes());
    }
    // Nor does it take the deliveries back from a newer connection.
    let mut new = Client::login(&relay.place, &bob).await;
    assert_eq!(bodies(&new.drain(true).await), ["1", "2", "3", "4", "5"]);
    to.ask(Call::Receive).await;
    let closed = loop {
        match to.next().await {
            Got::Done(_) => {}
            got => break got,
        }
    };
    assert_eq!(closed.reason(), Some(Reason::TooManyConnections));
    assert!(from.send(&bob, 6, b"6").await.is_stored());
    assert_eq!(new.next().await.delivered().body, b"6");
}

#[tokio::test]
async fn nobody_acknowledges_for_somebody_else() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    from.send(&bob, 1, b"1").await;
    let number = to.drain(false).await[0].number;
    assert!(matches!(
        from.call(Call::Acknowledge { number }).await,
        Got::Done(_)
    ));
    drop(to);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(bodies(&to.drain(true).await), ["1"]);
}

#[tokio::test]
async fn unknown_receivers_and_oversized_bodies_are_refused() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    let mut nobody = Person::new("nobody");
    let got = from.send(&nobody, 1, b"x").await;
    assert_eq!(got.reason(), Some(Reason::UnknownName));
    nobody.name = Name::parse("bob2").unwrap();
    let body = vec![0; MAX_ENVELOPE + 1];
    let got = from.send(&bob, 1, &body).await;
    assert_eq!(got.reason(), Some(Reason::TooLarge));
    assert!(from.send(&bob, 1, &body[1..]).await.is_stored());
    assert!(from.send(&bob, 2, b"").await.is_stored());
    let lengths: Vec<_> = to.drain(true).await.iter().map(|d| d.body.len()).collect();
    assert_eq!(lengths, [MAX_ENVELOPE, 0]);
}

#[tokio::test]
async fn pairing_messages_live_ten_minutes_and_others_thirty_days() {
    let relay = TestRelay::start(never_idle).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    let pairing = message(&bob, 1, Kind::Pairing, b"pairing");
    assert!(from.call(pairing.clone()).await.is_stored());
    assert!(from.send(&bob, 2, b"text").await.is_stored());
    relay.clock.advance(600_000 - 1);
    assert_eq!(bodies(&to.drain(false).await), ["pairing", "text"]);
    relay.clock.advance(1);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(
        bodies(&to.drain(false).await),
        ["text"],
        "expired, swept or not"
    );
    // Its id is still remembered.
    assert!(from.call(pairing).await.is_stored());

    relay.clock.advance(30 * DAY - 600_000 - 1);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(bodies(&to.drain(false).await), ["text"]);
    relay.clock.advance(1);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(to.drain(false).await, []);
}

#[tokio::test]
async fn clock_jumps_lose_nothing() {
    let relay = TestRelay::start(never_idle).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    for (id, wall) in [(1, 1), (2, u64::MAX / 4), (3, 0), (4, crate::harness::WALL)] {
        relay.clock.set_wall(wall);
        assert!(
            from.send(&bob, id, id.to_string().as_bytes())
                .await
                .is_stored()
        );
        relay.clock.advance(60_000);
    }
    assert_eq!(bodies(&to.drain(false).await), ["1", "2", "3", "4"]);
    drop((from, to));
    // Years wrong at a start: a day at most counts.
    let clock = relay.clock.clone();
    let mut folder = relay.stop().await;
    for wall in [crate::harness::WALL * 2, 5, crate::harness::WALL] {
        clock.set_wall(wall);
        let relay = TestRelay::start_in(folder, clock.clone(), |_| {}).await;
        let mut to = Client::login(&relay.place, &bob).await;
        assert_eq!(
            bodies(&to.drain(false).await),
            ["1", "2", "3", "4"],
            "at {wall}"
        );
        drop(to);
        folder = relay.stop().await;
    }
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_and_frees_its_name() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, mut to) = two(&relay).await;
    let mut other = Client::login(&relay.place, &bob).await;
    from.send(&bob, 1, b"1").await;
    assert!(matches!(to.call(Call::DeleteAccount).await, Got::Done(_)));
    for client in [&mut to, &mut other] {
        assert_eq!(client.next().await.reason(), Some(Reason::UnknownName));
    }
    let got = from.send(&bob, 2, b"2").await;
    assert_eq!(got.reason(), Some(Reason::UnknownName));
    let mut new = Client::register(&relay.place, &Person::new("bob")).await;
    assert_eq!(new.drain(true).await, []);
    assert!(
        from.send(&bob, 1, b"1").await.is_stored(),
        "nothing is remembered either"
    );
    assert_eq!(new.next().await.delivered().body, b"1");
}

/// A database that is damaged in one place: `check` finds it, and nobody waits for it.
#[tokio::test]
async fn a_damaged_message_keeps_no_other_one_back() {
    let relay = TestRelay::start(|_| {}).await;
    let (_, bob, mut from, to) = two(&relay).await;
    for id in 1..=3u8 {
        assert!(from.send(&bob, id.into(), &[b'0' + id]).await.is_stored());
    }
    drop((from, to));
    let clock = relay.clock.clone();
    let folder = relay.stop().await;
    let database = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    let spoil =
        "UPDATE message SET sender = 'nobody' WHERE number = (SELECT min(number) FROM message)";
    assert_eq!(database.execute(spoil, []).unwrap(), 1);
    database.close().unwrap();
    let relay = TestRelay::start_in(folder, clock, |_| {}).await;
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(bodies(&to.drain(true).await), ["2", "3"]);
    let mut again = Client::login(&relay.place, &bob).await;
    assert_eq!(again.drain(true).await, []);
}

/// As of a person without a DNS name, whose relay is dialled by its address.
#[tokio::test]
async fn a_guest_whose_relay_has_an_ipv6_address_is_heard() {
    let relay = TestRelay::start(|_| {}).await;
    let bob = Person::new("bob");
    let mut to = Client::register(&relay.place, &bob).await;
    assert_eq!(to.drain(true).await, []);
    let address = "carol@[2001:db8::7]:7443";
    let mut from = Client::guest(&relay.place, &Person::new("carol"), address).await;
    let first = message(&bob, 1, Kind::First, b"over six");
    assert!(from.call(first).await.is_stored());
    let delivery = to.next().await.delivered();
    assert_eq!(delivery.sender.as_str(), address);
    assert_eq!(delivery.body, b"over six");
}
