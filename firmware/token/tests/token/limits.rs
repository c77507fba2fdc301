//! What is bounded, and what a token says when it is full.

use alloc::format;
use alloc::vec::Vec;

use hostchat_core::icd::{Command, OpenedKind, TokenError};
use hostchat_core::wire::{Bytes, PrekeyKind};
use hostchat_token::testing::RamFlash;

use super::support::{DAY, Person, TODAY, address, begin, exchange, failed, paired, two};

const MINUTE: u64 = 60 * 1000;

#[cfg_attr(test, test)]
pub(crate) fn three_unconfirmed_answers_in_ten_minutes_over_all_senders_and_restarts() {
    let (mut a, mut b) = two();
    let mut answer_a = |b: &mut Person, wrong: bool| {
        let code = a.show_code(&b.address, false).unwrap();
        let (offer, _) = a.offer().unwrap();
        let typed = if wrong { Bytes(*b"000000") } else { code };
        (b.answer(&offer, typed, false), offer, code)
    };
    assert_eq!(answer_a(&mut b, true).0.unwrap().1, 2);
    b.bench.env.control().now.ms += MINUTE;
    assert_eq!(answer_a(&mut b, true).0.unwrap().1, 1);
    b.restart();
    assert_eq!(answer_a(&mut b, true).0.unwrap().1, 0);
    let (refused, offer, code) = answer_a(&mut b, false);
    // The two of the power cycle before count as made when this one began.
    let seconds = 10 * 60;
    assert_eq!(refused, failed(TokenError::TooManyAnswers { seconds }));
    b.bench.env.control().now.ms += 10 * MINUTE - 1;
    assert_eq!(
        b.answer(&offer, code, false),
        failed(TokenError::TooManyAnswers { seconds: 1 })
    );
    b.bench.env.control().now.ms += 1;
    assert!(b.answer(&offer, code, false).is_ok());
}

#[cfg_attr(test, test)]
pub(crate) fn a_confirmed_answer_is_not_charged_any_more() {
    let (mut a, mut b) = two();
    for round in 0..6u8 {
        let code = a.show_code(&b.address, false).unwrap();
        let (offer, _) = a.offer().unwrap();
        let (answer, left) = b.answer(&offer, code, false).unwrap();
        assert_eq!(left, 2, "round {round}");
        a.confirm(&answer).unwrap();
        exchange(&mut a, &mut b, &[round]);
        exchange(&mut b, &mut a, &[round]);
    }
}

#[cfg_attr(test, test)]
pub(crate) fn three_answers_wait_at_most_and_thirty_days_at_most() {
    let mut b = Person::new("bob", 2);
    b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    let mut others: Vec<_> = (0..4u64)
        .map(|n| Person::new(&format!("other{n}"), 10 + n))
        .collect();
    let mut ask = |b: &mut Person, n: usize| {
        let other: &mut Person = &mut others[n];
        let code = other.show_code(&b.address, false).unwrap();
        let (offer, _) = other.offer().unwrap();
        b.bench.env.control().now.ms += 10 * MINUTE;
        b.answer(&offer, code, false)
            .map(|(answer, _)| other.confirm(&answer).is_ok())
    };
    for n in 0..3 {
        assert_eq!(ask(&mut b, n), Ok(true));
    }
    assert_eq!(ask(&mut b, 3), failed(TokenError::TooManyPending));
    assert_eq!(
        ask(&mut b, 2),
        Ok(true),
        "the same peer again takes the place of its first answer"
    );
    assert_eq!(b.status().pending, 3);
    b.prekey(PrekeyKind::OneTime, TODAY + 31 * DAY).unwrap();
    assert_eq!(ask(&mut b, 3), Ok(true));
    assert_eq!(b.status().pending, 1);
}

#[cfg_attr(test, test)]
pub(crate) fn a_pending_answer_is_over_after_thirty_days_of_uptime() {
    let (mut a, mut b) = two();
    let hello = super::support::pair_up_to_message_3(&mut a, &mut b);
    b.bench.env.control().now.ms += 30 * DAY * 1000;
    assert_eq!(b.open(&hello, false).unwrap().kind, OpenedKind::Paired);
    b.bench.env.control().now.ms += 1000;
    assert_eq!(b.open(&hello, false), failed(TokenError::UnknownSession));
}

#[cfg_attr(test, test)]
pub(crate) fn sixteen_one_time_prekeys_with_ids_that_never_come_twice() {
    let mut b = Person::new("bob", 2);
    let mut ids = Vec::new();
    for _ in 0..16 {
        let prekey = b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
        prekey.verify(&b.identity().verify().unwrap()).unwrap();
        ids.push(prekey.id);
    }
    assert_eq!(
        b.prekey(PrekeyKind::OneTime, TODAY),
        failed(TokenError::PrekeysFull)
    );
    assert_eq!(b.status().one_time_prekeys, 16);
    for _ in 0..60 {
        ids.push(b.prekey(PrekeyKind::LastResort, TODAY).unwrap().id);
    }
    for restart in 0..3 {
        b.restart();
        let prekey = b.prekey(PrekeyKind::LastResort, TODAY + restart).unwrap();
        assert_eq!(
            (b.status().last_resort_id, b.status().last_resort_issued),
            (prekey.id, TODAY + restart)
        );
        ids.push(prekey.id);
    }
    let given = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), given);
}

#[cfg_attr(test, test)]
pub(crate) fn the_memory_of_used_first_messages_refuses_when_full_and_a_new_prekey_makes_room() {
    let mut b = Person::on("bob", RamFlash::new(80), 2);
    let bundle = b.bundle(false);
    let first = |b: &mut Person, bundle: &_, n: u64| {
        let mut stranger = Person::on(&format!("s{n}"), RamFlash::new(16), 100 + n);
        stranger.start(&b.address, bundle, false).unwrap();
        let envelope = stranger.seal(&b.address, b"hi").unwrap();
        b.open(&envelope, false).map(|read| {
            b.commit(read.hash).unwrap();
            envelope
        })
    };
    let mut envelopes = Vec::new();
    for n in 0..32 {
        envelopes.push(first(&mut b, &bundle, n).unwrap());
        // Half of the marks are in sessions, half have moved to the memory.
        if n % 2 == 0 {
            b.bench
                .done(&Command::Forget {
                    peer: address(&format!("s{n}")),
                })
                .unwrap();
        }
    }
    assert_eq!(
        first(&mut b, &bundle, 32),
        failed(TokenError::ReplayMemoryFull)
    );
    b.restart();
    assert_eq!(
        first(&mut b, &bundle, 33),
        failed(TokenError::ReplayMemoryFull)
    );
    for envelope in &envelopes {
        assert_eq!(b.open(envelope, false), failed(TokenError::Replayed));
    }
    let fresh = b.bundle(false);
    first(&mut b, &fresh, 34).unwrap();
}

#[cfg_attr(test, test)]
pub(crate) fn a_full_token_refuses_another_contact_and_serves_those_it_has() {
    let mut b = Person::on("bob", RamFlash::new(15), 2);
    let max = b.status().sessions_max;
    let (mut friend, mut n) = (Person::new("friend", 3), 0);
    let bundle = b.bundle(false);
    friend.start(&b.address, &bundle, false).unwrap();
    let first = friend.seal(&b.address, b"hi").unwrap();
    b.read(&first).unwrap();
    let refused = loop {
        n += 1;
        assert!(n < 200, "never full");
        let mut stranger = Person::on(&format!("s{n}"), RamFlash::new(16), 100 + n);
        let bundle = stranger.bundle(true);
        if let Err(error) = b.start(&stranger.address, &bundle, false) {
            break error;
        }
    };
    assert_eq!(failed::<()>(TokenError::SessionsFull), Err(refused));
    assert!(b.status().sessions <= max);
    for round in 0..100u8 {
        exchange(&mut b, &mut friend, &[round]);
        exchange(&mut friend, &mut b, &[round; 500]);
    }
    // A conversation that needs a new session is not another contact.
    for round in 0..4u8 {
        let renewed = if round % 2 == 0 {
            begin(&mut b, &mut friend, true, &[round])
        } else {
            begin(&mut friend, &mut b, false, &[round])
        };
        let reader = if round % 2 == 0 { &mut friend } else { &mut b };
        assert_eq!(reader.read(&renewed).unwrap().content, [round]);
        exchange(&mut b, &mut friend, &[round]);
        exchange(&mut friend, &mut b, &[round; 500]);
    }
    assert_eq!(b.sessions(&friend.address).len(), 2);
    let mut late = Person::new("late", 4);
    let bundle = b.bundle(false);
    late.start(&b.address, &bundle, false).unwrap();
    let knock = late.seal(&b.address, b"me too").unwrap();
    assert_eq!(b.open(&knock, false), failed(TokenError::SessionsFull));
    for peer in ["s1", "s2"] {
        let peer = address(peer);
        b.bench.done(&Command::Forget { peer }).unwrap();
    }
    assert_eq!(b.read(&knock).unwrap().content, b"me too");
    assert_eq!(late.show_code(&b.address, false).map(|_| ()), Ok(()));
    assert_eq!(
        b.show_code(&address("nobody"), false),
        failed(TokenError::SessionsFull)
    );
}

#[cfg_attr(test, test)]
pub(crate) fn gaps_are_told_kept_within_bounds_and_too_large_ones_refused() {
    let (mut a, mut b) = paired();
    let mut envelopes = Vec::new();
    for n in 0..300u32 {
        envelopes.push(a.seal(&b.address, &n.to_be_bytes()).unwrap());
    }
    let last = envelopes.pop().unwrap();
    let read = b.read(&last).unwrap();
    assert_eq!(read.missing, 299);
    b.restart();
    // The newest 256 keys are kept.
    assert_eq!(
        b.open(&envelopes[299 - 257], false),
        failed(TokenError::Replayed)
    );
    assert_eq!(
        b.read(&envelopes[299 - 256]).unwrap().content,
        43u32.to_be_bytes()
    );
    for _ in 0..2000 {
        a.seal(&b.address, b"").unwrap();
    }
    let reachable = a.seal(&b.address, b"jump of 2000").unwrap();
    let unreachable = a.seal(&b.address, b"jump of 2001").unwrap();
    assert_eq!(b.open(&unreachable, false), failed(TokenError::TooFarAhead));
    assert_eq!(b.read(&reachable).unwrap().missing, 2000);
}
