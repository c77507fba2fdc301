//! Generations: compared and set, so that of two copies of a home one finds out.

use hostchat_core::wire::relay::{Call, Reason};
use hostchat_core::wire::{Bytes, Generation, PrekeyKind};
use hostchat_relay::{Config, Rate};

use crate::client::{Client, Got, Person};
use crate::harness::{TestRelay, also_on_nats, on_nats, program};

also_on_nats!(
    a_generation_is_set_only_from_the_one_that_is_there,
    of_those_who_advance_at_once_one_wins,
    a_generation_goes_with_its_account,
    a_generation_survives_a_restart,
    guests_have_no_generation_and_no_prekeys_of_their_own,
);

/// A generation that is like no other.
pub fn generation(number: u64, random: u8) -> Generation {
    Generation {
        number,
        random: Bytes([random; 16]),
    }
}

/// Advances; what is there instead, if it is not the one expected.
pub async fn advance(
    client: &mut Client,
    from: Generation,
    to: Generation,
) -> Result<(), Generation> {
    outcome(client.call(Call::Generation { from, to }).await)
}

fn outcome(got: Got) -> Result<(), Generation> {
    match got {
        Got::Done(_) => Ok(()),
        Got::Generation(_, there) => Err(there),
        got => panic!("{got:?}"),
    }
}

/// What is there: told to whoever expects something else.
pub async fn there(client: &mut Client) -> Generation {
    let wrong = generation(u64::MAX - 1, 0xee);
    let refused = advance(client, wrong, generation(u64::MAX, 0xee)).await;
    refused.unwrap_err()
}

#[tokio::test]
async fn a_generation_is_set_only_from_the_one_that_is_there() {
    let relay = TestRelay::start(|_| {}).await;
    let mut bob = Client::register(&relay.place, &Person::new("bob")).await;
    let mut alice = Client::register(&relay.place, &Person::new("alice")).await;
    let none = Generation::NONE;
    assert_eq!(there(&mut bob).await, none);
    let (one, two) = (generation(1, 1), generation(2, 2));
    let early = advance(&mut bob, one, two).await;
    assert_eq!(early, Err(none), "nothing is there yet");
    let odd = generation(0, 7);
    assert_eq!(advance(&mut bob, odd, one).await, Err(none));

    // A repeat is done already, also of an advance that was interrupted.
    for _ in 0..2 {
        assert_eq!(advance(&mut bob, none, one).await, Ok(()));
        assert_eq!(there(&mut bob).await, one);
    }
    assert_eq!(advance(&mut bob, generation(0, 9), one).await, Ok(()));
    // Number and random part both count.
    for (from, to) in [
        (none, two),
        (none, generation(1, 2)),
        (generation(1, 2), two),
    ] {
        assert_eq!(advance(&mut bob, from, to).await, Err(one));
    }
    assert_eq!(advance(&mut bob, one, two).await, Ok(()));
    assert_eq!(advance(&mut bob, none, one).await, Err(two), "not back");
    // Numbers may be left out, and have 64 bits.
    let (far, last) = (generation(1 << 40, 3), generation(u64::MAX, 4));
    assert_eq!(advance(&mut bob, two, far).await, Ok(()));
    assert_eq!(advance(&mut bob, far, last).await, Ok(()));
    assert_eq!(advance(&mut bob, far, last).await, Ok(()));
    assert_eq!(advance(&mut bob, none, one).await, Err(last));
    assert_eq!(there(&mut alice).await, none, "each has its own");
}

#[tokio::test]
async fn a_generation_that_does_not_advance_is_no_request() {
    let relay = TestRelay::start(|_| {}).await;
    let mut bob = Client::register(&relay.place, &Person::new("bob")).await;
    let (none, one, two) = (Generation::NONE, generation(1, 1), generation(2, 2));
    assert_eq!(advance(&mut bob, none, one).await, Ok(()));
    for (from, to) in [
        (none, none),
        (none, generation(0, 1)),
        (one, none),
        (one, one),
        (one, generation(1, 2)),
        (two, one),
        (generation(u64::MAX, 1), generation(u64::MAX, 2)),
    ] {
        let got = bob.call(Call::Generation { from, to }).await;
        assert_eq!(got.reason(), Some(Reason::BadRequest), "{from:?} {to:?}");
    }
    assert_eq!(there(&mut bob).await, one);
}

#[tokio::test]
async fn of_those_who_advance_at_once_one_wins() {
    let relay = TestRelay::start(|_| {}).await;
    let bob = Person::new("bob");
    drop(Client::register(&relay.place, &bob).await);
    let mut copies = Vec::new();
    for _ in 0..4 {
        copies.push(Client::login(&relay.place, &bob).await);
    }
    let mut from = Generation::NONE;
    for number in 1..=10 {
        for (copy, random) in copies.iter_mut().zip(1..) {
            let to = generation(number, random);
            copy.ask(Call::Generation { from, to }).await;
        }
        let mut outcomes = Vec::new();
        for (copy, random) in copies.iter_mut().zip(1..) {
            outcomes.push((generation(number, random), outcome(copy.next().await)));
        }
        let won = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
        let winners: Vec<Generation> = won.map(|(to, _)| *to).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        from = winners[0];
        let lost = outcomes.iter().filter_map(|(_, outcome)| outcome.err());
        assert!(lost.clone().all(|there| there == from), "{outcomes:?}");
        assert_eq!(lost.count(), 3);
    }
}

#[tokio::test]
async fn a_generation_goes_with_its_account() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut other = Client::register(&relay.place, &alice).await;
    let mut client = Client::register(&relay.place, &bob).await;
    for client in [&mut other, &mut client] {
        let done = advance(client, Generation::NONE, generation(5, 5)).await;
        assert_eq!(done, Ok(()));
    }
    assert!(matches!(
        client.call(Call::DeleteAccount).await,
        Got::Done(_)
    ));
    client = Client::register(&relay.place, &bob).await;
    assert_eq!(there(&mut client).await, Generation::NONE);
    assert_eq!(there(&mut other).await, generation(5, 5));
    drop((client, other));
    let folder = relay.stop().await;
    if !on_nats() {
        let checked = program(&["check", "--dir", folder.path().to_str().unwrap()]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[tokio::test]
async fn a_generation_survives_a_restart() {
    let relay = TestRelay::start(|_| {}).await;
    let bob = Person::new("bob");
    let mut client = Client::register(&relay.place, &bob).await;
    let (one, two) = (generation(1, 1), generation(2, 2));
    assert_eq!(advance(&mut client, Generation::NONE, one).await, Ok(()));
    assert_eq!(advance(&mut client, one, two).await, Ok(()));
    drop(client);
    let clock = relay.clock.clone();
    let relay = TestRelay::start_in(relay.stop().await, clock, |_| {}).await;
    let mut client = Client::login(&relay.place, &bob).await;
    let copy = advance(&mut client, one, generation(2, 3)).await;
    assert_eq!(copy, Err(two));
    assert_eq!(advance(&mut client, one, two).await, Ok(()), "a repeat");
}

#[tokio::test]
async fn guests_have_no_generation_and_no_prekeys_of_their_own() {
    let relay = TestRelay::start(|_| {}).await;
    let (bob, carol) = (Person::new("bob"), Person::new("carol"));
    let mut owner = Client::register(&relay.place, &bob).await;
    let last = bob.prekey(PrekeyKind::LastResort, 9);
    owner.call(Call::PutPrekey(last)).await;
    let mut guest = Client::guest(&relay.place, &carol, "carol@elsewhere.example:1").await;
    for call in [
        Call::Generation {
            from: Generation::NONE,
            to: generation(1, 1),
        },
        Call::Prekeys,
        Call::DropPrekeys,
    ] {
        let got = guest.call(call).await;
        assert_eq!(got.reason(), Some(Reason::GuestsRefused));
    }
    // What they may take of others, they may take this way as well.
    match guest.call(Call::TakeLastResort(bob.name.clone())).await {
        Got::Bundle(_, bundle) => assert_eq!(bundle.last_resort, last),
        got => panic!("{got:?}"),
    }
}

#[tokio::test]
async fn advances_have_a_rate_of_their_own() {
    let generations = Rate {
        burst: 3,
        per_minute: 6,
    };
    let set_rate = |config: &mut Config| config.limits.generations = generations;
    let relay = TestRelay::start(set_rate).await;
    let mut alice = Client::register(&relay.place, &Person::new("alice")).await;
    let mut bob = Client::register(&relay.place, &Person::new("bob")).await;
    let all: Vec<Generation> = (1..=5).map(|n| generation(n, 1)).collect();
    assert_eq!(advance(&mut bob, Generation::NONE, all[0]).await, Ok(()));
    assert_eq!(advance(&mut bob, all[0], all[1]).await, Ok(()));
    assert_eq!(there(&mut bob).await, all[1], "a look counts as well");
    let (from, to) = (all[1], all[2]);
    let refused = bob.call(Call::Generation { from, to }).await.refusal();
    let refusal = refused.unwrap();
    assert_eq!(
        (refusal.reason, refusal.retry_after_ms),
        (Reason::RateLimited, 10_000)
    );
    assert_eq!(advance(&mut alice, Generation::NONE, all[0]).await, Ok(()));
    relay.clock.advance(10_000);
    assert_eq!(advance(&mut bob, from, to).await, Ok(()));
}

#[tokio::test]
async fn a_busy_client_is_not_slowed_down() {
    // A full mailbox opened and a burst of messages sealed right after a login, at one advance for each 64 of them.
    let limits = hostchat_relay::Limits::default();
    let messages = limits.mailbox_messages + limits.sends.burst;
    let relay = TestRelay::start(|_| {}).await;
    let mut bob = Client::register(&relay.place, &Person::new("bob")).await;
    let mut from = Generation::NONE;
    for number in 1..=u64::from(messages.div_ceil(64)) + 1 {
        let to = generation(number, 1);
        assert_eq!(advance(&mut bob, from, to).await, Ok(()));
        from = to;
    }
    assert!(limits.generations.per_minute * 64 >= limits.sends.per_minute);
}
