//! Pairing, first messages, sealing, opening, committing between two tokens.

use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::icd::{Command, OpenedKind, Reply, TokenError};
use hostchat_core::wire::{Bytes, Envelope, MAX_CONTENT, MAX_ENVELOPE, PrekeyKind, codec};

use super::support::{Person, TODAY, exchange, failed, pair_up_to_message_3, paired, two};

fn envelope(message: &Envelope<'_>) -> Vec<u8> {
    codec::encode_vec::<_, MAX_ENVELOPE>(message)
        .unwrap()
        .to_vec()
}

#[cfg_attr(test, test)]
pub(crate) fn a_code_makes_both_verified_and_the_first_message_arrives() {
    let (mut a, mut b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    assert!(code.0.iter().all(u8::is_ascii_digit));
    let (offer, runs_left) = a.offer().unwrap();
    assert_eq!(runs_left, 2);
    let (answer, answers_left) = b.answer(&offer, code, false).unwrap();
    assert_eq!(answers_left, 2);
    assert_eq!(b.status().pending, 1);
    let (peer, _) = a.confirm(&answer).unwrap();
    assert_eq!(peer, b.identity());
    let hello = a.seal(&b.address, b"meet at nine").unwrap();
    let read = b.open(&hello, false).unwrap();
    assert_eq!(
        (read.kind, read.verified, read.reply_due),
        (OpenedKind::Paired, true, true)
    );
    assert_eq!(
        (read.peer, read.identity),
        (a.address.clone(), a.identity())
    );
    assert_eq!(read.content, b"meet at nine");
    assert_eq!(b.contacts(), [], "not before the commit");
    b.commit(read.hash).unwrap();
    assert_eq!(b.status().pending, 0);
    assert_eq!(b.contacts(), [(a.address.clone(), true, 1)]);
    assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);
    // Message 3 repeats until a reply opens; the second one is an ordinary message.
    let again = a.seal(&b.address, b"still there?").unwrap();
    assert!(matches!(
        codec::decode::<Envelope<'_>>(&again).unwrap(),
        Envelope::Confirmed { .. }
    ));
    assert_eq!(b.read(&again).unwrap().kind, OpenedKind::Message);
    let reply = exchange(&mut b, &mut a, b"here");
    assert!(reply.verified && !reply.reply_due);
    let plain = a.seal(&b.address, b"good").unwrap();
    assert!(matches!(
        codec::decode::<Envelope<'_>>(&plain).unwrap(),
        Envelope::Message { .. }
    ));
    assert!(!b.read(&plain).unwrap().reply_due);
}

#[cfg_attr(test, test)]
pub(crate) fn a_wrong_code_costs_a_run_and_three_kill_the_code() {
    let (mut a, mut b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    let wrong = Bytes(
        code.0
            .map(|digit| if digit == b'9' { b'0' } else { digit + 1 }),
    );
    for runs_left in [2, 1, 0] {
        let (offer, left) = a.offer().unwrap();
        assert_eq!(left, runs_left);
        let (answer, _) = b.answer(&offer, wrong, false).unwrap();
        assert_eq!(
            a.confirm(&answer),
            failed(TokenError::WrongCode { runs_left })
        );
        assert_eq!(
            a.confirm(&answer),
            failed(TokenError::NoCode),
            "the first answer ends the run"
        );
    }
    assert_eq!(a.offer(), failed(TokenError::NoCode));
    assert_eq!((a.contacts(), b.contacts()), (vec![], vec![]));
    let (mut c, mut d) = (Person::new("carol", 3), Person::new("dave", 4));
    let code = c.show_code(&d.address, false).unwrap();
    let (offer, _) = c.offer().unwrap();
    // Three unconfirmed answers within ten minutes, whoever asks.
    assert!(b.answer(&offer, code, false).is_err());
    assert_eq!(d.answer(&offer, code, false).unwrap().1, 2);
}

#[cfg_attr(test, test)]
pub(crate) fn an_answer_to_another_run_does_not_end_this_one() {
    let (mut a, mut b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    let (first, _) = a.offer().unwrap();
    let (late, _) = b.answer(&first, code, false).unwrap();
    let (second, _) = a.offer().unwrap();
    assert_eq!(a.confirm(&late), failed(TokenError::UnknownSession));
    let (answer, _) = b.answer(&second, code, false).unwrap();
    a.confirm(&answer).unwrap();
    let hello = a.seal(&b.address, b"x").unwrap();
    assert_eq!(b.read(&hello).unwrap().content, b"x");
}

#[cfg_attr(test, test)]
pub(crate) fn an_offer_is_answered_once_and_only_by_whom_it_names() {
    let (mut a, mut b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    let (offer, _) = a.offer().unwrap();
    let mut eve = Person::new("eve", 9);
    assert_eq!(
        eve.answer(&offer, code, false),
        failed(TokenError::WrongAddress)
    );
    assert!(a.answer(&offer, code, false).is_err(), "reflected");
    let asked = b.bench.env.control().asked.len();
    assert!(b.answer(&offer, Bytes(*b"12345x"), false).is_err());
    assert_eq!(
        b.bench.env.control().asked.len(),
        asked,
        "no press for what cannot be a code"
    );
    b.answer(&offer, code, false).unwrap();
    assert_eq!(b.answer(&offer, code, false), failed(TokenError::Replayed));
    b.restart();
    assert_eq!(b.answer(&offer, code, false), failed(TokenError::Replayed));
}

#[cfg_attr(test, test)]
pub(crate) fn a_restart_or_ten_minutes_kill_the_code() {
    let (mut a, b) = two();
    a.show_code(&b.address, false).unwrap();
    a.bench.env.control().now.ms += 10 * 60 * 1000;
    a.offer().unwrap();
    a.bench.env.control().now.ms += 1;
    assert_eq!(a.offer(), failed(TokenError::NoCode));
    a.show_code(&b.address, false).unwrap();
    a.restart();
    assert_eq!(a.offer(), failed(TokenError::NoCode));
    a.show_code(&b.address, false).unwrap();
    a.bench.done(&Command::PairEnd).unwrap();
    assert_eq!(a.offer(), failed(TokenError::NoCode));
}

#[cfg_attr(test, test)]
pub(crate) fn a_first_message_without_a_code_is_unverified_and_uses_its_prekey_once() {
    let (mut a, mut b) = two();
    let bundle = b.bundle(true);
    a.start(&b.address, &bundle, false).unwrap();
    let first = a.seal(&b.address, b"we have not met").unwrap();
    let second = a.seal(&b.address, b"really").unwrap();
    let read = b.open(&first, false).unwrap();
    assert_eq!(
        (read.kind, read.verified, read.reply_due),
        (OpenedKind::First, false, true)
    );
    assert_eq!(b.status().one_time_prekeys, 1, "an open writes nothing");
    b.commit(read.hash).unwrap();
    assert_eq!(b.status().one_time_prekeys, 0);
    assert_eq!(b.read(&second).unwrap().content, b"really");
    assert_eq!(b.open(&first, false), failed(TokenError::Replayed));
    b.bench
        .done(&Command::Forget {
            peer: a.address.clone(),
        })
        .unwrap();
    assert_eq!(
        b.open(&first, false),
        failed(TokenError::Prekey),
        "the prekey is gone"
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_replayed_first_message_makes_no_second_session() {
    let (mut a, mut b) = two();
    let bundle = b.bundle(false);
    a.start(&b.address, &bundle, false).unwrap();
    let first = a.seal(&b.address, b"hi").unwrap();
    b.read(&first).unwrap();
    assert_eq!(b.open(&first, false), failed(TokenError::Replayed));
    b.bench
        .done(&Command::Forget {
            peer: a.address.clone(),
        })
        .unwrap();
    assert_eq!(b.contacts(), []);
    assert_eq!(
        b.open(&first, false),
        failed(TokenError::Replayed),
        "the mark outlives the session"
    );
    b.restart();
    assert_eq!(b.open(&first, false), failed(TokenError::Replayed));
}

#[cfg_attr(test, test)]
pub(crate) fn an_uncommitted_open_is_repeated_and_blocks_sealing_on_its_session() {
    let (mut a, mut b) = paired();
    let envelope = a.seal(&b.address, b"once").unwrap();
    let read = b.open(&envelope, false).unwrap();
    assert_eq!(b.seal(&a.address, b"no"), failed(TokenError::Uncommitted));
    assert_eq!(
        b.commit(Bytes([7; 32])),
        failed(TokenError::NothingToCommit)
    );
    b.restart();
    assert_eq!(b.commit(read.hash), failed(TokenError::NothingToCommit));
    assert_eq!(
        b.open(&envelope, false).unwrap(),
        read,
        "a restart before the commit repeats the open"
    );
    b.bench.done(&Command::Discard).unwrap();
    b.seal(&a.address, b"now it goes").unwrap();
    assert_eq!(b.read(&envelope).unwrap(), read);
    assert_eq!(b.commit(read.hash), failed(TokenError::NothingToCommit));
    assert_eq!(b.open(&envelope, false), failed(TokenError::Replayed));
}

#[cfg_attr(test, test)]
pub(crate) fn a_further_open_takes_the_place_of_the_uncommitted_one() {
    let (mut a, mut b) = paired();
    let (one, two) = (
        a.seal(&b.address, b"one").unwrap(),
        a.seal(&b.address, b"two").unwrap(),
    );
    let first = b.open(&one, false).unwrap();
    let second = b.open(&two, false).unwrap();
    assert_eq!(second.missing, 1);
    assert_eq!(b.commit(first.hash), failed(TokenError::NothingToCommit));
    b.commit(second.hash).unwrap();
    assert_eq!(b.read(&one).unwrap().content, b"one");
}

#[cfg_attr(test, test)]
pub(crate) fn messages_in_any_order_arrive_once_each() {
    let (mut a, mut b) = paired();
    let mut envelopes: Vec<_> = (0..20u8)
        .map(|n| (n, a.seal(&b.address, &[n; 40]).unwrap()))
        .collect();
    envelopes.rotate_left(7);
    envelopes.reverse();
    for (n, envelope) in &envelopes {
        assert_eq!(b.read(envelope).unwrap().content, [*n; 40]);
        exchange(&mut b, &mut a, b"ack");
    }
    for (_, envelope) in &envelopes {
        assert_eq!(b.open(envelope, false), failed(TokenError::Replayed));
    }
}

#[cfg_attr(test, test)]
pub(crate) fn a_refused_envelope_changes_nothing() {
    let (mut a, mut b) = paired();
    let good = a.seal(&b.address, b"good").unwrap();
    let before = b.bench.flash.snapshot().dump().to_vec();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(b.open(&bad, false).is_err(), "byte {at}");
    }
    assert!(b.open(&good[..good.len() - 1], false).is_err());
    assert!(b.open(&[], false).is_err());
    let ended = Envelope::PairEnded {
        sid: Bytes([1; 16]),
        runs_left: 0,
    };
    assert_eq!(
        b.open(&envelope(&ended), false),
        failed(TokenError::Malformed)
    );
    assert_eq!(
        before,
        b.bench.flash.snapshot().dump(),
        "nothing was written"
    );
    assert_eq!(b.read(&good).unwrap().content, b"good");
}

#[cfg_attr(test, test)]
pub(crate) fn content_up_to_the_limit_goes_through_with_every_prefix() {
    let (mut a, mut b) = two();
    let long = vec![0x5A; MAX_CONTENT];
    let bundle = b.bundle(true);
    a.start(&b.address, &bundle, false).unwrap();
    let first = a.seal(&b.address, &long).unwrap();
    assert_eq!(b.read(&first).unwrap().content, long);
    exchange(&mut b, &mut a, &long);
    exchange(&mut a, &mut b, &[]);
    assert_eq!(
        a.seal(&b.address, &[0; MAX_CONTENT + 1]),
        failed(TokenError::TooLong)
    );
    assert_eq!(
        a.seal(&a.address.clone(), b"me"),
        failed(TokenError::UnknownContact)
    );
}

#[cfg_attr(test, test)]
pub(crate) fn crossing_first_messages_end_in_one_conversation() {
    let (mut a, mut b) = two();
    let (of_a, of_b) = (a.bundle(true), b.bundle(true));
    a.start(&b.address, &of_b, false).unwrap();
    b.start(&a.address, &of_a, false).unwrap();
    let (from_a, from_b) = (
        a.seal(&b.address, b"a1").unwrap(),
        b.seal(&a.address, b"b1").unwrap(),
    );
    assert_eq!(a.read(&from_b).unwrap().content, b"b1");
    assert_eq!(b.read(&from_a).unwrap().content, b"a1");
    for round in 0..6u8 {
        exchange(&mut a, &mut b, &[round]);
        exchange(&mut b, &mut a, &[round]);
    }
    assert_eq!(a.contacts(), [(b.address.clone(), false, 2)]);
    assert_eq!(b.contacts(), [(a.address.clone(), false, 2)]);
}

#[cfg_attr(test, test)]
pub(crate) fn crossing_pairings_end_in_one_conversation() {
    let (mut a, mut b) = two();
    let (code_a, code_b) = (
        a.show_code(&b.address, false).unwrap(),
        b.show_code(&a.address, false).unwrap(),
    );
    let ((offer_a, _), (offer_b, _)) = (a.offer().unwrap(), b.offer().unwrap());
    let (answer_b, _) = b.answer(&offer_a, code_a, false).unwrap();
    let (answer_a, _) = a.answer(&offer_b, code_b, false).unwrap();
    a.confirm(&answer_b).unwrap();
    b.confirm(&answer_a).unwrap();
    let (from_a, from_b) = (
        a.seal(&b.address, b"a1").unwrap(),
        b.seal(&a.address, b"b1").unwrap(),
    );
    assert_eq!(a.read(&from_b).unwrap().content, b"b1");
    assert_eq!(b.read(&from_a).unwrap().content, b"a1");
    for round in 0..6u8 {
        exchange(&mut a, &mut b, &[round]);
        exchange(&mut b, &mut a, &[round]);
    }
}

#[cfg_attr(test, test)]
pub(crate) fn a_new_session_with_a_verified_contact_is_verified_and_two_are_kept() {
    let (mut a, mut b) = paired();
    for round in 0..4u8 {
        let bundle = b.bundle(true);
        a.start(&b.address, &bundle, false).unwrap();
        let first = a.seal(&b.address, &[round]).unwrap();
        let read = b.read(&first).unwrap();
        assert_eq!((read.kind, read.verified), (OpenedKind::First, true));
        exchange(&mut b, &mut a, &[round]);
    }
    assert_eq!(a.contacts(), [(b.address.clone(), true, 2)]);
    assert_eq!(b.contacts(), [(a.address.clone(), true, 2)]);
}

#[cfg_attr(test, test)]
pub(crate) fn a_byte_identical_repeat_gets_the_same_reply_and_is_executed_once() {
    let (mut a, mut b) = paired();
    let request = a.bench.seal_command(&Command::Seal {
        peer: b.address.clone(),
        content: b"once",
    });
    let reply = a.bench.send_raw(&request);
    let operations = a.bench.flash.lock().operations();
    for _ in 0..3 {
        assert_eq!(a.bench.send_raw(&request), reply);
    }
    assert_eq!(a.bench.flash.lock().operations(), operations);
    let Reply::Sealed { envelope, .. } = a.bench.open_reply(&reply).unwrap() else {
        panic!("not sealed")
    };
    let envelope = envelope.to_vec();
    assert_eq!(b.read(&envelope).unwrap().content, b"once");
    let next = a.bench.seal_command(&Command::Random);
    a.bench.send_raw(&next);
    let stale = a.bench.send_raw(&request);
    assert!(
        a.bench.open_reply(&stale).is_err(),
        "only the last request may be repeated"
    );
}

#[cfg_attr(test, test)]
pub(crate) fn message_3_survives_the_responders_restart_and_its_loss() {
    let (mut a, mut b) = two();
    let lost = pair_up_to_message_3(&mut a, &mut b);
    b.restart();
    a.restart();
    let hello = a.seal(&b.address, b"second try").unwrap();
    assert_ne!(lost, hello);
    let read = b.read(&hello).unwrap();
    assert_eq!((read.kind, read.missing), (OpenedKind::Paired, 1));
    assert_eq!(b.read(&lost).unwrap().kind, OpenedKind::Message);
    exchange(&mut b, &mut a, b"fine");
}

#[cfg_attr(test, test)]
pub(crate) fn an_old_last_resort_prekey_works_until_its_time_is_over() {
    let (mut a, mut b) = two();
    let bundle = b.bundle(false);
    a.start(&b.address, &bundle, false).unwrap();
    let first = a.seal(&b.address, b"slow mail").unwrap();
    for week in 1..=5 {
        b.prekey(
            PrekeyKind::LastResort,
            TODAY + week * 7 * super::support::DAY,
        )
        .unwrap();
    }
    assert_eq!(b.open(&first, false).unwrap().content, b"slow mail");
    b.prekey(PrekeyKind::LastResort, TODAY + 36 * super::support::DAY)
        .unwrap();
    assert_eq!(b.open(&first, false), failed(TokenError::Prekey));
}
