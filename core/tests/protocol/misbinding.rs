//! Unknown key share: Charlie, a real person with an identity of his own, stands between Alice and Bob and sends their
//! messages on as his, or his as theirs. Whoever ends with equal keys agrees on who is at each end, and under which address.
//!
//! Nobody proves that it has the private half of an X25519 key in its identity or in its prekeys. So Charlie may also sign
//! Alice's or Bob's keys as his own; then every Diffie-Hellman value is the right one, and only the transcript is not.

use hostchat_core::error::{Error, Peer};
use hostchat_core::handshake::first;
use hostchat_core::handshake::pair::{Initiator, respond};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{
    Address, Envelope, FirstHeader, Identity, IdentityClaim, PairAnswer, PairOffer, PrekeyBundle,
    PrekeyKind, codec,
};

use crate::forger::{Stolen, identity_with, prekey_as_own};
use crate::support::{
    End, NOW, Person, Prekeys, alice_and_bob, code, confirmed, first_parts, frame_of,
};

/// An end of a session, and what its user is told of it.
struct Told {
    end: End,
    own: (Identity, Address),
    peer: (Identity, Address),
}

impl Told {
    fn new(end: End, person: &Person, peer: Identity, peer_address: &Address) -> Self {
        Self {
            end,
            own: (*person.keys.public(), person.address.clone()),
            peer: (peer, peer_address.clone()),
        }
    }
}

/// Says whether two ends have equal keys, by what one seals and the other opens, both ways.
fn have_equal_keys(one: &mut Told, other: &mut Told) -> bool {
    let there = one.end.seal(b"who am I?");
    let opened = other.end.open(&there).is_ok();
    let back = other.end.seal(b"and I?");
    assert_eq!(opened, one.end.open(&back).is_ok());
    opened
}

/// The one thing that matters: equal keys, equal views. Gives whether the keys are equal.
fn agree(one: &mut Told, other: &mut Told) -> bool {
    let equal = have_equal_keys(one, other);
    if equal {
        assert_eq!(one.own, other.peer, "one end takes the other for another");
        assert_eq!(other.own, one.peer, "one end takes the other for another");
    }
    equal
}

/// The three of them.
fn three(seed: u64) -> (Person, Person, Person) {
    let (a, b) = alice_and_bob(seed);
    (a, b, Person::new("charlie", 1_000 + seed))
}

/// Charlie's identities: his own one, and one with somebody's X25519 key in it.
fn identities_of(charlie: &Person, victim: &Person) -> [IdentityClaim; 2] {
    let sign = Stolen::from(charlie).sign;
    let borrowed = identity_with(&sign, &victim.keys.public().claim().dh);
    assert!(borrowed.verify().is_ok(), "it is as sound as any");
    [*charlie.keys.public().claim(), borrowed]
}

fn start(a: &mut Person, peer: &Address, bundle: &PrekeyBundle) -> Result<Told, Error> {
    let mut end = End::new(a.rng.clone());
    let identity = bundle.identity.verify()?;
    let (keys, own) = (&a.keys, &a.address);
    let session = &mut end.session;
    first::start(
        keys,
        own,
        peer,
        &identity,
        bundle,
        NOW,
        session,
        &mut end.rng,
    )?;
    a.rng = end.rng.clone();
    Ok(Told::new(end, a, identity, peer))
}

fn accept(
    b: &Person,
    prekeys: &Prekeys,
    header: &FirstHeader,
    frame: &[u8],
) -> Result<Told, Error> {
    let mut end = End::new(b.rng.clone());
    let mut plain = Plaintext::new();
    let accepted = first::accept(
        &b.keys,
        &b.address,
        header,
        &prekeys.last_resort,
        header.one_time.and(prekeys.one_time.as_ref()),
        frame,
        &mut end.session,
        &mut plain,
    )?;
    Ok(Told::new(end, b, accepted.peer, &header.sender))
}

#[test]
fn a_first_message_that_is_sent_on_under_another_name_is_refused() {
    for with_one_time in [true, false] {
        let (mut a, mut b, c) = three(100);
        let prekeys = b.prekeys(with_one_time);
        let mut told_a = start(&mut a, &b.address, &prekeys.bundle).unwrap();
        let envelope = told_a.end.seal(b"from alice");
        let (honest, frame) = first_parts(&envelope);
        let [own, with_alices_key] = identities_of(&c, &a);
        let mut refused = 0;
        for identity in [honest.identity, own, with_alices_key] {
            for sender in [&a.address, &c.address] {
                let mut header = honest.clone();
                (header.identity, header.sender) = (identity, sender.clone());
                if header == honest {
                    continue;
                }
                assert!(
                    first::check_header(&b.keys, &b.address, &header).is_ok(),
                    "nothing shows before the keys are derived"
                );
                let result = accept(&b, &prekeys, &header, frame).map(|_| ());
                assert_eq!(result, Err(Error::PeerMisbehaved(Peer::Unknown)));
                refused += 1;
            }
        }
        assert_eq!(refused, 5);
        // As Alice sent it, it opens, and both know with whom.
        let mut told_b = accept(&b, &prekeys, &honest, frame).unwrap();
        assert!(agree(&mut told_b, &mut told_a));
    }
}

#[test]
fn a_first_message_to_somebody_who_gives_bobs_prekeys_as_his_own_does_not_open_at_bob() {
    for with_one_time in [true, false] {
        let (mut a, mut b, c) = three(101);
        let prekeys = b.prekeys(with_one_time);
        let sign = Stolen::from(&c).sign;
        let mut borrowed = 0;
        for identity in identities_of(&c, &b) {
            // Alice may know Charlie under his own address, or be told by the relay that he is at Bob's.
            for at in [&c.address, &b.address] {
                let as_own = |prekey| prekey_as_own(prekey, &identity, &sign);
                let bundle = PrekeyBundle {
                    identity,
                    last_resort: as_own(&prekeys.bundle.last_resort),
                    one_time: prekeys.bundle.one_time.as_ref().map(as_own),
                };
                let mut told_a = start(&mut a, at, &bundle).unwrap();
                let envelope = told_a.end.seal(b"to charlie");
                let (mut header, frame) = first_parts(&envelope);
                header.receiver = b.address.clone();
                // With his address in it, not a byte of what Bob gets is Charlie's.
                if *at == b.address {
                    assert_eq!(header, first_parts(&envelope).0);
                    borrowed += 1;
                }
                for sender in [&a.address, &c.address] {
                    header.sender = sender.clone();
                    let result = accept(&b, &prekeys, &header, frame).map(|_| ());
                    assert_eq!(result, Err(Error::PeerMisbehaved(Peer::Unknown)));
                }
            }
        }
        assert_eq!(borrowed, 2);
        // The same, with nobody in between.
        let mut told_a = start(&mut a, &b.address, &prekeys.bundle).unwrap();
        let envelope = told_a.end.seal(b"to bob");
        let (header, frame) = first_parts(&envelope);
        let mut told_b = accept(&b, &prekeys, &header, frame).unwrap();
        assert!(agree(&mut told_b, &mut told_a));
    }
}

#[test]
fn one_identity_at_two_addresses_is_taken_for_no_other_than_the_one_that_was_meant() {
    let (mut a, mut b, _) = three(102);
    let prekeys = b.prekeys(true);
    let elsewhere = |name: &str| Address::parse(&format!("{name}@other.example:7443")).unwrap();
    let mut told_a = start(&mut a, &b.address, &prekeys.bundle).unwrap();
    let envelope = told_a.end.seal(b"to bob at the first");
    let (honest, frame) = first_parts(&envelope);
    // Bob's other home gets it, as it is and with the address that it has.
    let mut other_b = Person::new("bob", 205);
    std::mem::swap(&mut other_b.keys, &mut b.keys);
    other_b.address = elsewhere("bob");
    let result = accept(&other_b, &prekeys, &honest, frame).map(|_| ());
    assert_eq!(result, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
    let mut header = honest.clone();
    header.receiver = other_b.address.clone();
    let result = accept(&other_b, &prekeys, &header, frame).map(|_| ());
    assert_eq!(result, Err(Error::PeerMisbehaved(Peer::Unknown)));
    std::mem::swap(&mut other_b.keys, &mut b.keys);
    // Bob gets it as from Alice's other address.
    let mut header = honest.clone();
    header.sender = elsewhere("alice");
    let result = accept(&b, &prekeys, &header, frame).map(|_| ());
    assert_eq!(result, Err(Error::PeerMisbehaved(Peer::Unknown)));
    let mut told_b = accept(&b, &prekeys, &honest, frame).unwrap();
    assert!(agree(&mut told_b, &mut told_a));
}

/// One pairing with Charlie in between, who knows the code: both told it to him, or he told it to both.
struct Middle<'a> {
    target: &'a Address,
    offer: &'a dyn Fn(&mut PairOffer),
    answer: &'a dyn Fn(&mut PairAnswer),
}

/// Gives the two ends if both have a session.
fn pair(a: &mut Person, b: &mut Person, middle: &Middle<'_>) -> Option<(Told, Told)> {
    let (initiator, offer) =
        Initiator::offer(&a.keys, &a.address, middle.target, &code(), &mut a.rng).unwrap();
    let mut altered = offer.clone();
    (middle.offer)(&mut altered);
    altered.public.responder = b.address.clone();
    let (pending, answer) = respond(&b.keys, &b.address, &code(), &altered, &mut b.rng).unwrap();
    let mut to_a = answer;
    (middle.answer)(&mut to_a);
    to_a.public.initiator = offer.public.initiator.clone();
    to_a.public.responder = offer.public.responder.clone();
    let mut end = End::new(a.rng.clone());
    let peer = initiator.confirm(&a.keys, &to_a, &mut end.session, &mut end.rng);
    let peer = match peer {
        Ok(peer) => peer,
        Err(error) => {
            assert_eq!(error, Error::Authentication);
            assert!(end.session.is_empty());
            return None;
        }
    };
    let mut told_a = Told::new(end, a, peer, middle.target);
    let third = told_a.end.seal(b"hello");
    let (confirm, frame) = confirmed(&third);
    let mut end = End::new(b.rng.clone());
    let mut plain = Plaintext::new();
    pending
        .open(&confirm, frame, &mut end.session, &mut plain)
        .unwrap();
    let (peer, address) = (*pending.peer(), pending.peer_address().clone());
    Some((told_a, Told::new(end, b, peer, &address)))
}

#[test]
fn a_pairing_that_a_third_one_passes_on_under_his_own_name_gives_nobody_a_session() {
    let (mut a, mut b, c) = three(103);
    let [own, with_alices_key] = identities_of(&c, &a);
    let [_, with_bobs_key] = identities_of(&c, &b);
    let (of_a, of_b) = (*a.keys.public().claim(), *b.keys.public().claim());
    let (mut sessions, mut refused) = (0, 0);
    for target in [b.address.clone(), c.address.clone()] {
        for initiator in [a.address.clone(), c.address.clone()] {
            for offered in [of_a, own, with_alices_key] {
                for answered in [of_b, own, with_bobs_key] {
                    let middle = Middle {
                        target: &target,
                        offer: &|offer| {
                            offer.public.identity = offered;
                            offer.public.initiator = initiator.clone();
                        },
                        answer: &|answer| answer.public.identity = answered,
                    };
                    match pair(&mut a, &mut b, &middle) {
                        Some((mut told_a, mut told_b)) => {
                            assert!(agree(&mut told_b, &mut told_a));
                            sessions += 1;
                        }
                        None => refused += 1,
                    }
                }
            }
        }
    }
    assert_eq!(
        (sessions, refused),
        (1, 35),
        "only the run in which nothing was altered gives a session"
    );
}

#[test]
fn whoever_types_a_code_for_charlie_is_not_shown_as_bob() {
    // Alice shows a code for Charlie, and Charlie honestly types it: both know with whom they are. His identity may hold
    // Bob's X25519 key; then he cannot even end the run, for lack of the other half.
    let (mut a, mut b, mut c) = three(104);
    let (initiator, offer) =
        Initiator::offer(&a.keys, &a.address, &c.address, &code(), &mut a.rng).unwrap();
    let refused = respond(&b.keys, &b.address, &code(), &offer, &mut b.rng).map(|_| ());
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
    let (pending, answer) = respond(&c.keys, &c.address, &code(), &offer, &mut c.rng).unwrap();
    let mut borrowed = answer.clone();
    borrowed.public.identity = identities_of(&c, &b)[1];
    let (again, second) =
        Initiator::offer(&a.keys, &a.address, &c.address, &code(), &mut a.rng).unwrap();
    borrowed.sid = second.sid;
    let mut session = Session::empty();
    let result = again.confirm(&a.keys, &borrowed, &mut session, &mut a.rng);
    assert_eq!(result, Err(Error::Authentication));

    let mut end = End::new(a.rng.clone());
    let peer = initiator
        .confirm(&a.keys, &answer, &mut end.session, &mut end.rng)
        .unwrap();
    assert_eq!(peer, *c.keys.public());
    let mut told_a = Told::new(end, &a, peer, &c.address);
    let third = told_a.end.seal(b"hello");
    let (confirm, frame) = confirmed(&third);
    let (mut end, mut plain) = (End::new(c.rng.clone()), Plaintext::new());
    pending
        .open(&confirm, frame, &mut end.session, &mut plain)
        .unwrap();
    let mut told_c = Told::new(end, &c, *pending.peer(), pending.peer_address());
    assert!(agree(&mut told_c, &mut told_a));
}

#[test]
fn two_who_show_each_other_the_same_code_are_not_paired_by_their_offers_in_exchanged_roles() {
    let (mut a, mut b, _) = three(105);
    let offered = |from: &mut Person, to: &Address| {
        Initiator::offer(&from.keys, &from.address, to, &code(), &mut from.rng).unwrap()
    };
    let (to_b, to_a) = (b.address.clone(), a.address.clone());
    let (mut run_a, mut offer_a) = offered(&mut a, &to_b);
    for role in [1, 2] {
        let (_, offer_b) = offered(&mut b, &to_a);
        // The ciphertext and the tag of a true answer, everything else out of Bob's offer.
        let (_, mut turned) = respond(&b.keys, &b.address, &code(), &offer_a, &mut b.rng).unwrap();
        turned.share = offer_b.share;
        turned.public.ephemeral = offer_b.public.ephemeral;
        turned.public.identity = offer_b.public.identity;
        turned.public.role = role;
        let mut session = Session::empty();
        let result = run_a.confirm(&a.keys, &turned, &mut session, &mut a.rng);
        let expected = match role {
            1 => Error::PeerMisbehaved(Peer::Unexpected),
            _ => Error::Authentication,
        };
        assert_eq!(result, Err(expected));
        (run_a, offer_a) = offered(&mut a, &to_b);
    }
    // The last offer is answered in the right role.
    let (pending, answer) = respond(&b.keys, &b.address, &code(), &offer_a, &mut b.rng).unwrap();
    let mut session = Session::empty();
    let peer = run_a.confirm(&a.keys, &answer, &mut session, &mut a.rng);
    assert_eq!(peer, Ok(*b.keys.public()));
    assert_eq!(session.id(), pending.session_id());
}

#[test]
fn what_alice_says_to_charlie_opens_in_no_session_that_she_has_with_bob() {
    let (mut a, mut b, mut c) = three(106);
    let (of_b, of_c) = (b.prekeys(true), c.prekeys(true));
    assert_eq!(of_b.bundle.last_resort.kind, PrekeyKind::LastResort);
    let mut with_b = start(&mut a, &b.address, &of_b.bundle).unwrap();
    let mut with_c = start(&mut a, &c.address, &of_c.bundle).unwrap();
    let to_b = with_b.end.seal(b"to bob");
    let (header_b, frame_b) = first_parts(&to_b);
    let to_c = with_c.end.seal(b"to charlie");
    let (header_c, frame_c) = first_parts(&to_c);
    // Each header with the other's frame, at each receiver who has the prekeys.
    for (person, prekeys, header, frame) in [
        (&b, &of_b, &header_b, frame_c),
        (&c, &of_c, &header_c, frame_b),
    ] {
        let result = accept(person, prekeys, header, frame).map(|_| ());
        assert_eq!(result, Err(Error::PeerMisbehaved(Peer::Unknown)));
    }
    let mut told_b = accept(&b, &of_b, &header_b, frame_b).unwrap();
    let mut told_c = accept(&c, &of_c, &header_c, frame_c).unwrap();
    assert!(agree(&mut told_b, &mut with_b));
    assert!(agree(&mut told_c, &mut with_c));
    // Nor does Charlie pass for Bob by the session's id, which is no secret.
    let from_c = told_c.end.seal(b"from charlie");
    let mut renamed = frame_of(&from_c).to_vec();
    renamed[2..18].copy_from_slice(&with_b.end.session.id().0);
    let renamed = codec::encode_vec::<_, 5000>(&Envelope::Message { frame: &renamed }).unwrap();
    assert_eq!(with_b.end.open(&renamed), Err(Error::Authentication));
    assert!(with_c.end.open(&from_c).is_ok());
}
