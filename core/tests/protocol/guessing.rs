//! Guessing a code offline: nothing that passed, or that an attacker drew out of an end, tells one code from another.
//!
//! `HOSTCHAT_GUESSES` sets how many codes are tried against each transcript (400 if unset; a million are all).

use hostchat_core::error::Error;
use hostchat_core::handshake::Code;
use hostchat_core::handshake::pair::{Initiator, respond};
use hostchat_core::ratchet::Session;
use hostchat_core::wire::{Envelope, codec};

use crate::support::{End, Run, alice_and_bob, code, rng, run};

/// Codes to try: the right one, and others from the whole range.
fn codes() -> impl Iterator<Item = Code> {
    let count: u32 = std::env::var("HOSTCHAT_GUESSES").map_or(400, |n| n.parse().unwrap());
    let step = 1_000_000 / count.clamp(1, 1_000_000);
    let all = (0..1_000_000).step_by(step as usize);
    let all = all.map(|n| Code::from_digits(format!("{n:06}").as_bytes()).unwrap());
    std::iter::once(code()).chain(all)
}

/// Whether `bytes` stand in an encoded envelope.
fn stands_in(envelope: &Envelope<'_>, bytes: &[u8]) -> bool {
    let mut encoded = [0; 4096];
    let encoded = codec::encode(envelope, &mut encoded).unwrap();
    encoded.windows(bytes.len()).any(|window| window == bytes)
}

/// What passed between two people: whoever repeats one side's computation with a guess gets nothing that stands in it, with
/// the right code either.
#[test]
fn no_code_is_told_from_another_by_what_has_passed() {
    let (mut a, mut b) = alice_and_bob(71);
    let Run { offer, answer, .. } = run(&mut a, &mut b, &code());
    let (mut eve, mut draws) = (alice_and_bob(72).1, rng(73));
    eve.address = b.address.clone();
    let offered = Envelope::PairOffer(offer.clone());
    let answered = Envelope::PairAnswer(answer.clone());
    let mut tried = 0;
    for guess in codes() {
        // Every code is as good as any other for answering: none is refused.
        let (_, made) = respond(&eve.keys, &eve.address, &guess, &offer, &mut draws).unwrap();
        for bytes in [&made.tag.0[..], &made.share.0[..]] {
            assert!(!stands_in(&offered, bytes) && !stands_in(&answered, bytes));
        }
        tried += 1;
    }
    assert!(tried > 100, "{tried}");
}

/// A relay in between spends one run on a guess, and keeps all of its own secrets and the tag that came of it. No other code
/// can be checked against that tag afterwards, the right one neither.
#[test]
fn a_run_that_was_spent_on_a_wrong_guess_checks_no_other_code() {
    let (m, mut b) = alice_and_bob(74);
    let own = rng(75);
    let offer_under = |guess: &Code| {
        // The same sid, scalar and keys each time: all that may differ is the code.
        let mut draws = own.clone();
        Initiator::offer(&m.keys, &m.address, &b.address, guess, &mut draws).unwrap()
    };
    let wrong = Code::from_digits(b"000001").unwrap();
    let (_, offer) = offer_under(&wrong);
    let (_, answer) = respond(&b.keys, &b.address, &code(), &offer, &mut b.rng).unwrap();
    for guess in codes() {
        let (run, made) = offer_under(&guess);
        assert_eq!(made.sid, offer.sid);
        let mut end = End::new(rng(76));
        let opened = run.confirm(&m.keys, &answer, &mut end.session, &mut end.rng);
        assert!(
            matches!(
                opened,
                Err(Error::Authentication | Error::PeerMisbehaved(_))
            ),
            "{opened:?}"
        );
        assert!(end.session.is_empty());
    }
    // The check would have found it: a run under the right code opens.
    let (right, offer) = offer_under(&code());
    let (_, answer) = respond(&b.keys, &b.address, &code(), &offer, &mut b.rng).unwrap();
    let mut session = Session::empty();
    right
        .confirm(&m.keys, &answer, &mut session, &mut rng(77))
        .unwrap();
}
