//! Block lists: whom a mailbox refuses, and that nothing else changes.

use hostchat_core::wire::address::MAX_ADDRESS;
use hostchat_core::wire::relay::{BLOCKED_PAGE, Call, Kind, Reason};
use hostchat_core::wire::{Address, PrekeyKind, RelayName};
use hostchat_relay::limits::BLOCKED;
use hostchat_relay::{Config, Rate};

use crate::client::{Client, Got, Person, message, take_one_time};
use crate::harness::{Place, TestRelay, also_on_nats, on_nats, program};

also_on_nats!(
    a_blocked_sender_is_refused_and_nobody_else,
    what_was_stored_before_the_block_arrives_and_its_repeat_is_no_error,
    the_block_is_told_before_any_quota,
    who_is_blocked_gets_no_prekeys_and_takes_none_from_others,
    a_guest_is_blocked_by_the_whole_address_and_blocks_nobody,
    by_whatever_name_the_relay_is_dialled_the_block_holds,
    the_list_comes_in_pages_in_order_and_is_bounded,
    a_list_goes_with_its_account_and_a_blocked_name_stays_blocked,
    a_block_survives_a_restart,
);

/// Registers people by these names, in order.
async fn people<const N: usize>(relay: &TestRelay, names: [&str; N]) -> [(Person, Client); N] {
    let people = names.map(Person::new);
    let mut clients = Vec::new();
    for person in people {
        let client = Client::register(&relay.place, &person).await;
        clients.push((person, client));
    }
    clients.try_into().ok().unwrap()
}

/// Blocks or takes again; why not, if it is refused.
pub async fn set(client: &mut Client, who: &str, blocked: bool) -> Option<Reason> {
    let who = Address::parse(who).unwrap();
    match client.call(Call::SetBlocked { who, blocked }).await {
        Got::Done(_) => None,
        got => Some(got.refusal().unwrap().reason),
    }
}

/// One page of a block list.
async fn page(client: &mut Client, after: &str) -> (Vec<String>, bool) {
    match client.call(Call::Blocked { after }).await {
        Got::Blocked(_, addresses, more) => (addresses, more),
        got => panic!("{got:?}"),
    }
}

/// A block list of one page.
pub async fn list(client: &mut Client) -> Vec<String> {
    let (addresses, more) = page(client, "").await;
    assert!(!more);
    addresses
}

fn bodies(delivered: &[crate::client::Delivered]) -> Vec<&[u8]> {
    delivered.iter().map(|d| &d.body[..]).collect()
}

#[tokio::test]
async fn a_blocked_sender_is_refused_and_nobody_else() {
    let relay = TestRelay::start(|_| {}).await;
    let [(_, mut alice), (bob, mut to), (carol, mut other)] =
        people(&relay, ["alice", "bob", "carol"]).await;
    let at_alice = format!("alice@{}", relay.place.name);
    // The store has seen that nobody is blocked.
    assert!(alice.send(&bob, 1, b"before").await.is_stored());
    assert_eq!(to.drain(true).await.len(), 1);
    for _ in 0..2 {
        assert_eq!(set(&mut to, &at_alice, true).await, None);
        assert_eq!(list(&mut to).await, [at_alice.as_str()]);
    }
    for kind in [Kind::Message, Kind::First, Kind::Pairing] {
        // Twice: what was refused is not remembered.
        for _ in 0..2 {
            let refusal = alice.call(message(&bob, 2, kind, b"x")).await.refusal();
            let refusal = refusal.unwrap();
            assert_eq!(
                (refusal.reason, refusal.retry_after_ms),
                (Reason::Blocked, 0)
            );
        }
    }
    assert!(other.send(&bob, 2, b"from carol").await.is_stored());
    assert_eq!(to.next().await.delivered().body, b"from carol");
    assert!(alice.send(&carol, 2, b"to carol").await.is_stored());
    assert_eq!(
        list(&mut other).await,
        [""; 0],
        "each has a list of its own"
    );

    for _ in 0..2 {
        assert_eq!(set(&mut to, &at_alice, false).await, None);
        assert_eq!(list(&mut to).await, [""; 0]);
    }
    assert!(alice.send(&bob, 2, b"after").await.is_stored());
    assert_eq!(to.next().await.delivered().body, b"after");
}

#[tokio::test]
async fn what_was_stored_before_the_block_arrives_and_its_repeat_is_no_error() {
    let relay = TestRelay::start(|_| {}).await;
    let [(_, mut alice), (bob, mut to)] = people(&relay, ["alice", "bob"]).await;
    assert!(alice.send(&bob, 1, b"before").await.is_stored());
    let at_alice = format!("alice@{}", relay.place.name);
    assert_eq!(set(&mut to, &at_alice, true).await, None);
    assert!(alice.send(&bob, 1, b"before").await.is_stored());
    let refused = alice.send(&bob, 2, b"too late").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    assert_eq!(bodies(&to.drain(true).await), [b"before"]);
    assert!(alice.send(&bob, 1, b"before").await.is_stored());
    drop(to);
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(to.drain(true).await, []);
}

#[tokio::test]
async fn the_block_is_told_before_any_quota() {
    let relay = TestRelay::start(|config| {
        config.limits.mailbox_messages = 1;
        config.limits.sender_percent = 100;
    });
    let relay = relay.await;
    let [(_, mut alice), (bob, mut to), (_, mut carol)] =
        people(&relay, ["alice", "bob", "carol"]).await;
    let at_alice = format!("alice@{}", relay.place.name);
    assert_eq!(set(&mut to, &at_alice, true).await, None);
    let refused = alice.send(&bob, 1, b"x").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    assert!(carol.send(&bob, 1, b"x").await.is_stored(), "no room taken");
    let refused = alice.send(&bob, 1, b"x").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    let refused = carol.send(&bob, 2, b"x").await.reason();
    assert_eq!(refused, Some(Reason::MailboxFull));
}

#[tokio::test]
async fn who_is_blocked_gets_no_prekeys_and_takes_none_from_others() {
    let given = Rate {
        burst: 2,
        per_minute: 1,
    };
    let relay = TestRelay::start(|config| config.limits.prekeys_given = given).await;
    let [(_, mut alice), (bob, mut to), (_, mut carol)] =
        people(&relay, ["alice", "bob", "carol"]).await;
    for (kind, id) in [
        (PrekeyKind::LastResort, 100),
        (PrekeyKind::OneTime, 1),
        (PrekeyKind::OneTime, 2),
    ] {
        let put = to.call(Call::PutPrekey(bob.prekey(kind, id))).await;
        assert_eq!(put.reason(), None);
    }
    let at_alice = format!("alice@{}", relay.place.name);
    assert_eq!(set(&mut to, &at_alice, true).await, None);
    for _ in 0..5 {
        let name = bob.name.clone();
        let got = alice.call(Call::TakePrekeys(name.clone())).await;
        assert_eq!(got.reason(), Some(Reason::Blocked));
        let got = alice.call(Call::TakeLastResort(name)).await;
        assert_eq!(got.reason(), Some(Reason::Blocked));
    }
    let stock = to.call(Call::PrekeyStock).await;
    assert!(matches!(stock, Got::Stock(_, 2, _, 100)), "{stock:?}");
    // Nor has alice used up how many are given to others.
    let mut taken = take_one_time(&mut carol, &bob.name, 2).await;
    taken.sort_unstable();
    assert_eq!(taken, [1, 2]);
    assert_eq!(set(&mut to, &at_alice, false).await, None);
    let got = alice.call(Call::TakePrekeys(bob.name.clone())).await;
    assert!(matches!(got, Got::Bundle(..)), "{got:?}");
}

#[tokio::test]
async fn a_guest_is_blocked_by_the_whole_address_and_blocks_nobody() {
    let relay = TestRelay::start(|_| {}).await;
    let [(bob, mut to), (_, mut namesake)] = people(&relay, ["bob", "mallory"]).await;
    let mallory = Person::new("mallory");
    let (here, there) = ("mallory@elsewhere.example:1", "mallory@elsewhere.example:2");
    let mut guest = Client::guest(&relay.place, &mallory, here).await;
    let mut again = Client::guest(&relay.place, &mallory, there).await;
    assert_eq!(set(&mut to, here, true).await, None);
    assert_eq!(list(&mut to).await, [here]);
    let refused = guest.send(&bob, 1, b"x").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    let refused = guest.call(Call::TakePrekeys(bob.name.clone())).await;
    assert_eq!(refused.reason(), Some(Reason::Blocked));
    assert!(again.send(&bob, 1, b"x").await.is_stored());
    assert!(namesake.send(&bob, 1, b"x").await.is_stored());
    // And the other way round: the account's name is not the guest's address.
    let own = format!("mallory@{}", relay.place.name);
    assert_eq!(set(&mut to, &own, true).await, None);
    assert_eq!(set(&mut to, here, false).await, None);
    assert!(guest.send(&bob, 2, b"x").await.is_stored());
    let refused = namesake.send(&bob, 2, b"x").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));

    let refused = set(&mut guest, &own, true).await;
    assert_eq!(refused, Some(Reason::GuestsRefused));
    let got = guest.call(Call::Blocked { after: "" }).await;
    assert_eq!(got.reason(), Some(Reason::GuestsRefused));
}

#[tokio::test]
async fn by_whatever_name_the_relay_is_dialled_the_block_holds() {
    let names = ["first.example:7443", "second.example:7443"];
    let names = names.map(|name| RelayName::parse(name).unwrap());
    let both = names.to_vec();
    let relay = TestRelay::start(|config| config.names = both).await;
    let [first, second] = names.map(|name| Place {
        name,
        ..relay.place.clone()
    });
    let [(alice, mut by_first), (bob, mut to)] = people(&relay, ["alice", "bob"]).await;
    assert_eq!(relay.place.name, first.name);
    let mut by_second = Client::login(&second, &alice).await;
    // Blocked by one name, taken again by the other, and the other way round.
    for (id, block, unblock) in [(1, &second, &first), (2, &first, &second)] {
        let address = format!("alice@{}", block.name);
        assert_eq!(set(&mut to, &address, true).await, None);
        assert_eq!(list(&mut to).await, ["alice@first.example:7443"]);
        for from in [&mut by_first, &mut by_second] {
            let refused = from.send(&bob, id, b"x").await.reason();
            assert_eq!(refused, Some(Reason::Blocked));
        }
        let address = format!("alice@{}", unblock.name);
        assert_eq!(set(&mut to, &address, false).await, None);
        assert_eq!(list(&mut to).await, [""; 0]);
        assert!(by_second.send(&bob, id, b"x").await.is_stored());
    }

    // Whom it knew as a guest before it took over that relay's name is still found, and can be taken off.
    assert_eq!(set(&mut to, "carol@third.example:1", true).await, None);
    drop((by_first, by_second, to));
    let clock = relay.clock.clone();
    let third = RelayName::parse("third.example:1").unwrap();
    let all = vec![first.name, second.name, third];
    let relay = TestRelay::start_in(relay.stop().await, clock, |config| config.names = all).await;
    let mut to = Client::login(&relay.place, &bob).await;
    assert_eq!(list(&mut to).await, ["carol@third.example:1"]);
    assert_eq!(set(&mut to, "carol@third.example:1", false).await, None);
    assert_eq!(list(&mut to).await, [""; 0]);
}

#[tokio::test]
async fn the_list_comes_in_pages_in_order_and_is_bounded() {
    let relay = TestRelay::start(|_| {}).await;
    let [(_, mut to)] = people(&relay, ["bob"]).await;
    let own = relay.place.name.clone();
    // As keys `a` stands before `a-1` and `a.1`, as addresses after both.
    let mut all: Vec<String> = ["a", "a-1", "a.1", "z"]
        .map(|name| format!("{name}@{own}"))
        .into();
    all.push("a@elsewhere.example:1".to_owned());
    // The longest that there are: they have to fit into a page, and all of them into a header on NATS.
    let host = format!("{}.{}", "h".repeat(63), "h".repeat(32));
    let long = |letter, n| format!("{letter}{n:031}@{host}:65535");
    all.extend((all.len()..BLOCKED_PAGE * 2 + 5).map(|n| long('m', n)));
    assert_eq!(all.last().map(String::len), Some(MAX_ADDRESS));
    for who in &all {
        assert_eq!(set(&mut to, who, true).await, None);
    }
    all.sort();
    let (mut got, mut pages) = (Vec::new(), Vec::new());
    loop {
        let after = got.last().map_or("", String::as_str);
        let (addresses, more) = page(&mut to, after).await;
        pages.push(addresses.len());
        got.extend(addresses);
        if !more {
            break;
        }
    }
    assert_eq!(got, all);
    assert_eq!(pages, [BLOCKED_PAGE, BLOCKED_PAGE, 5]);
    assert_eq!(
        page(&mut to, &all[BLOCKED_PAGE + 4]).await,
        (all[BLOCKED_PAGE + 5..].to_vec(), false)
    );
    assert_eq!(page(&mut to, "zz@z:1").await, (Vec::new(), false));
    for wrong in ["bob", "Bob@h:1", "b@h", "'; DROP TABLE blocked; --"] {
        let got = to.call(Call::Blocked { after: wrong }).await;
        assert_eq!(got.reason(), Some(Reason::BadRequest), "{wrong}");
    }

    for n in all.len()..BLOCKED {
        assert_eq!(set(&mut to, &long('n', n), true).await, None);
    }
    for _ in 0..2 {
        let refused = set(&mut to, "one-more@h:1", true).await;
        assert_eq!(refused, Some(Reason::QuotaFull));
    }
    assert_eq!(set(&mut to, &all[3], true).await, None, "blocked already");
    assert_eq!(set(&mut to, &all[3], false).await, None);
    assert_eq!(set(&mut to, "one-more@h:1", true).await, None);
    let (last, more) = page(&mut to, "n999@h:1").await;
    assert_eq!(
        (last.first().map(String::as_str), more),
        (Some("one-more@h:1"), false)
    );
}

#[tokio::test]
async fn a_list_goes_with_its_account_and_a_blocked_name_stays_blocked() {
    let relay = TestRelay::start(|_| {}).await;
    let [(_, mut alice), (bob, mut to), (carol, mut other)] =
        people(&relay, ["alice", "bob", "carol"]).await;
    let at_alice = format!("alice@{}", relay.place.name);
    for client in [&mut to, &mut other] {
        assert_eq!(set(client, &at_alice, true).await, None);
    }
    assert!(matches!(to.call(Call::DeleteAccount).await, Got::Done(_)));
    // Not a new variable: a connection that nobody reads would hold the relay's end up.
    to = Client::register(&relay.place, &Person::new("bob")).await;
    assert_eq!(list(&mut to).await, [""; 0]);
    assert!(alice.send(&bob, 1, b"x").await.is_stored());

    assert!(matches!(
        alice.call(Call::DeleteAccount).await,
        Got::Done(_)
    ));
    alice = Client::register(&relay.place, &Person::new("alice")).await;
    assert_eq!(list(&mut other).await, [at_alice]);
    let refused = alice.send(&carol, 1, b"x").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    drop((alice, to, other));
    let folder = relay.stop().await;
    if !on_nats() {
        let checked = program(&["check", "--dir", folder.path().to_str().unwrap()]);
        assert!(checked.status.success(), "{checked:?}");
    }
}

#[tokio::test]
async fn a_block_survives_a_restart() {
    let relay = TestRelay::start(|_| {}).await;
    let [(alice, from), (bob, mut to)] = people(&relay, ["alice", "bob"]).await;
    let at_alice = format!("alice@{}", relay.place.name);
    assert_eq!(set(&mut to, &at_alice, true).await, None);
    assert_eq!(set(&mut to, "carol@h:1", true).await, None);
    assert_eq!(set(&mut to, "carol@h:1", false).await, None);
    drop((from, to));
    let clock = relay.clock.clone();
    let relay = TestRelay::start_in(relay.stop().await, clock, |_| {}).await;
    let mut from = Client::login(&relay.place, &alice).await;
    let refused = from.send(&bob, 1, b"x").await.reason();
    assert_eq!(refused, Some(Reason::Blocked));
    let mut to = Client::login(&relay.place, &bob).await;
    let at_alice = format!("alice@{}", relay.place.name);
    assert_eq!(list(&mut to).await, [at_alice.as_str()]);
    assert_eq!(set(&mut to, &at_alice, false).await, None);
    assert!(from.send(&bob, 1, b"x").await.is_stored());
}

#[tokio::test]
async fn changes_of_the_list_have_a_rate_of_their_own() {
    let blocks = Rate {
        burst: 3,
        per_minute: 6,
    };
    let set_rate = |config: &mut Config| config.limits.blocks = blocks;
    let relay = TestRelay::start(set_rate).await;
    let [(_, mut alice), (_, mut bob)] = people(&relay, ["alice", "bob"]).await;
    for (n, blocked) in [true, false, true].into_iter().enumerate() {
        assert_eq!(set(&mut bob, "carol@h:1", blocked).await, None, "{n}");
    }
    let who = Address::parse("carol@h:1").unwrap();
    for blocked in [true, false] {
        let who = who.clone();
        let refused = bob.call(Call::SetBlocked { who, blocked }).await.refusal();
        let refusal = refused.unwrap();
        assert_eq!(
            (refusal.reason, refusal.retry_after_ms),
            (Reason::RateLimited, 10_000)
        );
    }
    assert_eq!(list(&mut bob).await, ["carol@h:1"]);
    assert_eq!(set(&mut alice, "carol@h:1", true).await, None);
    relay.clock.advance(10_000);
    assert_eq!(set(&mut bob, "carol@h:1", false).await, None);
}
