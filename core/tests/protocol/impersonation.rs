//! Key-compromise impersonation: whoever has Alice's long-term secrets still cannot be Bob to her.
//!
//! Each test ends with the same attacker and the one secret that it lacked: then it succeeds.

use hostchat_core::crypto::dh::DhSecret;
use hostchat_core::crypto::kdf::Prk;
use hostchat_core::crypto::kem;
use hostchat_core::error::{Error, Peer};
use hostchat_core::handshake::pair::{Initiator, respond};
use hostchat_core::handshake::{Code, PrekeySecret, first};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{
    Bytes, EnvelopeBytes, FirstHeader, Frame, Identity, PrekeyBundle, SUITE,
};
use rand_chacha::ChaCha20Rng;

use crate::forger::{
    Pairing, Stolen, agree, answer, first_session, prekey_as_own, sending, sending_under,
};
use crate::support::{
    End, NOW, Person, Prekeys, alice_and_bob, code, confirmed, first_parts, frame_of, paired, rng,
};

fn seal(session: &mut Session, rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut out = EnvelopeBytes::new();
    session.seal(b"it is me, Bob", rng, &mut out).unwrap();
    out.to_vec()
}

/// Alice takes a first message.
fn accept(a: &Person, prekeys: &Prekeys, envelope: &[u8]) -> Result<first::Accepted, Error> {
    let (header, frame) = first_parts(envelope);
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    let accepted = first::accept(
        &a.keys,
        &a.address,
        &header,
        &prekeys.last_resort,
        prekeys.one_time.as_ref(),
        frame,
        &mut session,
        &mut plain,
    );
    assert_eq!(accepted.is_err(), session.is_empty() && plain.is_empty());
    accepted
}

/// What a thief of Alice's identity has for a first message in Bob's name; `dh1` gets its ephemeral secret and gives what it
/// takes for X(identity of Bob, prekey of Alice).
fn first_message_as_bob(
    (alice, a): (&Stolen, &Person),
    b: &Person,
    bundle: &PrekeyBundle,
    dh1: impl FnOnce(&DhSecret) -> [u8; 32],
    rng: &mut ChaCha20Rng,
) -> Vec<u8> {
    let ephemeral = DhSecret::generate(rng);
    let one_time = bundle.one_time.as_ref();
    let encapsulation_key = &one_time.unwrap_or(&bundle.last_resort).kem.0;
    let (ciphertext, ss) = kem::encapsulate(encapsulation_key, rng).unwrap();
    let header = FirstHeader {
        suite: SUITE,
        identity: *b.keys.public().claim(),
        sender: b.address.clone(),
        receiver: a.address.clone(),
        last_resort: bundle.last_resort.id,
        one_time: one_time.map(|prekey| prekey.id),
        ephemeral: Bytes(ephemeral.public().0),
        kem: Bytes(ciphertext),
    };
    let dh1 = dh1(&ephemeral);
    let dh2 = agree(&alice.dh, &header.ephemeral.0);
    assert_eq!(dh2, agree(&ephemeral, a.keys.public().dh()));
    let dh3 = agree(&ephemeral, &bundle.last_resort.dh.0);
    let dh4 = one_time.map(|prekey| agree(&ephemeral, &prekey.dh.0));
    let dh4: &[u8] = dh4.as_ref().map_or(&[], |dh4| dh4);
    let ikm: [&[u8]; 5] = [&dh1, &dh2, &dh3, dh4, ss.expose_bytes()];
    seal(&mut first_session(&header, bundle, &ikm, rng), rng)
}

/// What a thief computes with its ephemeral secret in place of a Diffie-Hellman value of Bob.
type StandIn<'a> = &'a dyn Fn(&DhSecret) -> [u8; 32];

#[test]
fn a_thief_of_alices_identity_writes_her_no_first_message_as_bob() {
    for with_one_time in [true, false] {
        let (mut a, b) = alice_and_bob(80);
        let prekeys = a.prekeys(with_one_time);
        let (alice, bob) = (Stolen::from(&a), Stolen::from(&b));
        let mut draws = rng(81);
        let signed = &prekeys.bundle.last_resort.dh.0;
        let (of_alice, of_bob) = (a.keys.public().dh(), b.keys.public().dh());
        // Everything that can be computed with Alice's secret, public keys and fresh ones stands in for DH1 once.
        let stand_ins: [StandIn<'_>; 8] = [
            &|_| agree(&alice.dh, signed),
            &|_| agree(&alice.dh, of_bob),
            &|own| agree(own, signed),
            &|own| agree(own, of_bob),
            &|own| agree(own, of_alice),
            &|own| *own.expose_bytes(),
            &|_| *of_bob,
            &|_| [0; 32],
        ];
        for (at, stand_in) in stand_ins.into_iter().enumerate() {
            let thief = (&alice, &a);
            let forged = first_message_as_bob(thief, &b, &prekeys.bundle, stand_in, &mut draws);
            let (header, _) = first_parts(&forged);
            // Nothing is wrong with what it claims.
            assert_eq!(
                first::check_header(&a.keys, &a.address, &header),
                Ok(*b.keys.public())
            );
            assert_eq!(
                accept(&a, &prekeys, &forged).map(|_| ()),
                Err(Error::PeerMisbehaved(Peer::Unknown)),
                "stand-in {at}"
            );
        }
        let with_bobs = |_: &DhSecret| agree(&bob.dh, signed);
        let forged = first_message_as_bob((&alice, &a), &b, &prekeys.bundle, with_bobs, &mut draws);
        let accepted = accept(&a, &prekeys, &forged).unwrap();
        assert_eq!(accepted.peer, *b.keys.public());
    }
}

/// The limit of it: DH1 can be computed from the other end as well. So a thief who took the last-resort prekey along is
/// anybody to Alice in a first message, until that prekey is gone. A code still tells (below).
#[test]
fn a_thief_of_the_last_resort_prekey_needs_no_secret_of_bob_for_a_first_message() {
    let (mut a, b) = alice_and_bob(82);
    let prekeys = a.prekeys(true);
    let mut stored = [0; PrekeySecret::LEN];
    prekeys.last_resort.store(&mut stored).unwrap();
    let prekey = DhSecret::from_slice(&stored[14..46]).unwrap();
    let dh1 = |_: &DhSecret| agree(&prekey, b.keys.public().dh());
    let thief = (&Stolen::from(&a), &a);
    let forged = first_message_as_bob(thief, &b, &prekeys.bundle, dh1, &mut rng(83));
    let accepted = accept(&a, &prekeys, &forged).unwrap();
    assert_eq!(accepted.peer, *b.keys.public());
    // With the next prekeys it is over, although the thief still has the old one.
    let next = a.prekeys(true);
    let thief = (&Stolen::from(&a), &a);
    let forged = first_message_as_bob(thief, &b, &next.bundle, dh1, &mut rng(84));
    assert!(accept(&a, &next, &forged).is_err());
}

#[test]
fn a_thief_of_alices_identity_gives_her_no_prekeys_of_bob_and_answers_no_first_message_to_him() {
    let (a, mut b) = alice_and_bob(85);
    let prekeys = b.prekeys(true);
    let (alice, bob) = (Stolen::from(&a), Stolen::from(&b));
    let mut end = End::new(a.rng.clone());
    let mut start = |bundle: &PrekeyBundle| {
        let peer = b.keys.public();
        first::start(
            &a.keys,
            &a.address,
            &b.address,
            peer,
            bundle,
            NOW,
            &mut end.session,
            &mut end.rng,
        )
        .map(|()| seal(&mut end.session, &mut end.rng))
    };
    // Prekeys whose secrets the thief has, under the only signature that it can make.
    let own = Person::new("mallory", 86).prekeys(true);
    let claimed = *b.keys.public().claim();
    let forged = |sign| PrekeyBundle {
        identity: claimed,
        last_resort: prekey_as_own(&own.bundle.last_resort, &claimed, sign),
        one_time: None,
    };
    assert_eq!(start(&forged(&alice.sign)), Err(Error::Authentication));
    assert!(start(&forged(&bob.sign)).is_ok());

    // Alice writes to Bob's real prekeys; the thief answers in his name with what it can compute of DH1 to DH4 and ss.
    let envelope = start(&prekeys.bundle).unwrap();
    let (header, frame) = first_parts(&envelope);
    let header_of_frame = Frame::parse(frame).unwrap().header;
    let dh1 = agree(&alice.dh, &prekeys.bundle.last_resort.dh.0);
    let guess = agree(&alice.dh, &header.ephemeral.0);
    let ikm: [&[u8]; 5] = [&dh1, &guess, &guess, &guess, &guess];
    let mut draws = rng(87);
    let root = *Prk::extract(&[], &ikm).expose_bytes();
    let mut forged = sending(&header_of_frame.session.0, &root, &root, &[3], &mut draws);
    let forged = seal(&mut forged, &mut draws);
    assert_eq!(end.open(&forged), Err(Error::Authentication));

    // Bob's own answer opens.
    let mut end_b = End::new(b.rng.clone());
    let mut plain = Plaintext::new();
    first::accept(
        &b.keys,
        &b.address,
        &header,
        &prekeys.last_resort,
        prekeys.one_time.as_ref(),
        frame,
        &mut end_b.session,
        &mut plain,
    )
    .unwrap();
    let answer = end_b.seal(b"really me");
    assert_eq!(end.open(&answer).unwrap(), b"really me");
}

/// What a thief of Alice's identity may take for a Diffie-Hellman value of Bob's identity and a key of hers.
fn stand_ins(alice: &Stolen, b: &Person, hers: &[u8; 32], own: &DhSecret) -> Vec<[u8; 32]> {
    vec![
        agree(&alice.dh, b.keys.public().dh()),
        agree(&alice.dh, hers),
        agree(own, b.keys.public().dh()),
        agree(own, hers),
        [0; 32],
    ]
}

/// Tries a pairing with the code and with a guess, and in place of Bob's secret with each stand-in: only both right ones pair.
fn only_bob_with_the_code(
    b: &Person,
    mut attempt: impl FnMut(&Code, Option<usize>) -> Result<Identity, Error>,
) {
    let guessed = Code::from_digits(b"271828").unwrap();
    for which in 0..5 {
        for code in [&guessed, &code()] {
            let paired = attempt(code, Some(which));
            assert_eq!(paired, Err(Error::Authentication), "stand-in {which}");
        }
    }
    assert_eq!(
        attempt(&guessed, None),
        Err(Error::Authentication),
        "without the code not even Bob's own secret helps"
    );
    assert_eq!(attempt(&code(), None), Ok(*b.keys.public()));
}

#[test]
fn a_thief_of_alices_identity_answers_her_code_not_as_bob_even_if_it_has_seen_the_code() {
    let (mut a, b) = alice_and_bob(88);
    let (alice, bob) = (Stolen::from(&a), Stolen::from(&b));
    let mut draws = rng(89);
    let claimed = *b.keys.public().claim();
    let attempt = |typed: &Code, which: Option<usize>| {
        let (initiator, offer) =
            Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng).unwrap();
        let hers = offer.public.ephemeral.0;
        let secrets = |own: &DhSecret| {
            let with_bobs = agree(&bob.dh, &hers);
            let responder = which.map_or(with_bobs, |at| stand_ins(&alice, &b, &hers, own)[at]);
            [agree(own, a.keys.public().dh()), responder]
        };
        let answer = answer(&offer, &claimed, typed, secrets, &mut draws);
        let mut session = Session::empty();
        let confirmed = initiator.confirm(&a.keys, &answer, &mut session, &mut a.rng);
        assert_eq!(confirmed.is_err(), session.is_empty());
        confirmed
    };
    only_bob_with_the_code(&b, attempt);
}

#[test]
fn a_thief_of_alices_identity_has_her_type_no_code_for_it_as_bob() {
    let (mut a, b) = alice_and_bob(90);
    let (alice, bob) = (Stolen::from(&a), Stolen::from(&b));
    let mut draws = rng(91);
    let claimed = *b.keys.public().claim();
    let attempt = |offered: &Code, which: Option<usize>| {
        let addresses = (&b.address, &a.address);
        let (run, offer) = Pairing::offer(addresses, &claimed, offered, &mut draws);
        // Alice types the code that the real Bob told her.
        let (pending, answer) = respond(&a.keys, &a.address, &code(), &offer, &mut a.rng).unwrap();
        let hers = answer.public.ephemeral.0;
        let with_bobs = agree(&bob.dh, &hers);
        let initiator = which.map_or(with_bobs, |at| {
            stand_ins(&alice, &b, &hers, &run.ephemeral)[at]
        });
        let responder = agree(&alice.dh, &offer.public.ephemeral.0);
        let mut session = run.confirm(&answer, [&initiator, &responder], &mut draws);
        let third = seal(&mut session, &mut draws);
        let (confirm, frame) = confirmed(&third);
        let (mut session, mut plain) = (Session::empty(), Plaintext::new());
        let opened = pending.open(&confirm, frame, &mut session, &mut plain);
        assert_eq!(opened.is_err(), session.is_empty() && plain.is_empty());
        assert_eq!(pending.peer(), b.keys.public());
        opened.map(|_| *pending.peer())
    };
    only_bob_with_the_code(&b, attempt);
}

#[test]
fn a_thief_of_alices_identity_puts_no_frame_into_her_session_with_bob() {
    let (mut end_a, mut end_b) = paired(92);
    let reply = end_b.seal(b"reply");
    end_a.open(&reply).unwrap();
    let seen_of_a = end_a.seal(b"seen");
    end_b.open(&seen_of_a).unwrap();
    let (a, b) = alice_and_bob(92);
    let alice = Stolen::from(&a);
    let of_a = Frame::parse(frame_of(&seen_of_a)).unwrap().header;
    let of_b = Frame::parse(frame_of(&reply)).unwrap().header;
    let session = of_a.session.0;
    let mut draws = rng(93);

    // Her own frame comes back to her.
    assert_eq!(
        end_a.open(&seen_of_a),
        Err(Error::PeerMisbehaved(Peer::Reflected))
    );
    let between = agree(&alice.dh, b.keys.public().dh());
    let roots = [
        between,
        agree(&alice.dh, &of_b.ratchet_key.0),
        agree(&alice.dh, &of_a.ratchet_key.0),
        [0; 32],
    ];
    for root in roots {
        // On the chain that Bob has, and on a new one of a fresh ratchet key.
        let own = DhSecret::generate(&mut draws);
        for shown in [of_b.ratchet_key.0, own.public().0] {
            let stepped = Prk::extract(&root, &[&agree(&own, &of_a.ratchet_key.0)]);
            let mut chain = [0; 32];
            stepped
                .danger_expand_bytes(b"hostchat/1 chain key", &mut chain)
                .unwrap();
            for chain in [chain, root] {
                let keys = (&own, &shown);
                let mut forged = sending_under(&session, &root, keys, &chain, &[3]);
                // Past the numbers that Bob has used.
                for _ in 0..3 {
                    let envelope = seal(&mut forged, &mut draws);
                    let refused = end_a.open(&envelope);
                    assert!(
                        matches!(refused, Err(Error::Authentication | Error::Limit(_))),
                        "{refused:?}"
                    );
                }
            }
        }
    }
    // With the root key it is Bob: the same forger on a fresh ratchet key, stepped as Bob would.
    let stored = end_a.stored();
    let root: [u8; 32] = *stored[17..].first_chunk().unwrap();
    let own = DhSecret::generate(&mut draws);
    let stepped = Prk::extract(&root, &[&agree(&own, &of_a.ratchet_key.0)]);
    let mut chain = [0; 32];
    stepped
        .danger_expand_bytes(b"hostchat/1 chain key", &mut chain)
        .unwrap();
    let keys = (&own, &own.public().0);
    let mut forged = sending_under(&session, &root, keys, &chain, &[3]);
    let forged = seal(&mut forged, &mut draws);
    assert_eq!(end_a.peek(&forged).unwrap(), b"it is me, Bob");
    // The session is as good as before: Bob goes on in it.
    let next = end_b.seal(b"unharmed");
    assert_eq!(end_a.open(&next).unwrap(), b"unharmed");
}
