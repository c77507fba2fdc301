//! Pairing with a code: what succeeds, and who is refused.

use hostchat_core::error::{Decode, Error, Peer};
use hostchat_core::handshake::pair::{Initiator, Pending, check_offer, respond};
use hostchat_core::handshake::{Code, IdentityKeys};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{Bytes, Confirm};
use rand_chacha::rand_core::{TryCryptoRng, TryRng};

use crate::support::{End, Person, Run, alice_and_bob, code, confirmed, paired, run};

#[test]
fn paired_ends_talk_in_both_directions() {
    let (mut a, mut b) = paired(1);
    assert!(!a.session.is_confirmed() && b.session.is_confirmed());
    assert_eq!(a.session.id(), b.session.id());
    let reply = b.seal(b"reply");
    assert_eq!(a.open(&reply).unwrap(), b"reply");
    assert!(a.session.is_confirmed());
    let more = a.seal(b"more");
    assert_eq!(b.open(&more).unwrap(), b"more");
}

#[test]
fn wrong_code_gives_the_initiator_no_session() {
    let (mut a, mut b) = alice_and_bob(2);
    for typed in [b"493026", b"000000", b"593027"] {
        let Run {
            initiator, answer, ..
        } = run(&mut a, &mut b, &Code::from_digits(typed).unwrap());
        let mut end = End::new(a.rng.clone());
        let refused = initiator.confirm(&a.keys, &answer, &mut end.session, &mut end.rng);
        assert_eq!(refused, Err(Error::Authentication));
        assert!(end.session.is_empty());
    }
}

#[test]
fn initiator_without_the_code_gets_no_session_out_of_the_responder() {
    // Mallory offers under her own guess, and keeps everything that she can compute herself.
    let (mut m, mut b) = alice_and_bob(3);
    let guess = Code::from_digits(b"111111").unwrap();
    let (initiator, offer) =
        Initiator::offer(&m.keys, &m.address, &b.address, &guess, &mut m.rng).unwrap();
    let (pending, answer) = respond(&b.keys, &b.address, &code(), &offer, &mut b.rng).unwrap();
    let mut end = End::new(m.rng);
    let refused = initiator.confirm(&m.keys, &answer, &mut end.session, &mut end.rng);
    assert_eq!(refused, Err(Error::Authentication));

    // The responder's own tag does not pass for the initiator's.
    for tag in [answer.tag, Bytes([0; 32])] {
        let (mut session, mut plain) = (Session::empty(), Plaintext::new());
        let confirm = Confirm {
            sid: offer.sid,
            tag,
        };
        let opened = pending.open(&confirm, &[0; 200], &mut session, &mut plain);
        assert_eq!(opened, Err(Error::Authentication));
        assert!(session.is_empty());
    }
}

#[test]
fn right_tag_with_a_frame_of_other_keys_is_refused_and_the_pending_pairing_still_opens() {
    let (mut a, mut b) = alice_and_bob(4);
    let Run {
        initiator,
        pending,
        answer,
        ..
    } = run(&mut a, &mut b, &code());
    let mut end = End::new(a.rng);
    initiator
        .confirm(&a.keys, &answer, &mut end.session, &mut end.rng)
        .unwrap();
    let third = end.seal(b"hello");
    let (confirm, frame) = confirmed(&third);

    let (mut other, _) = paired(5);
    let foreign = other.seal(b"hello");
    let (_, foreign) = confirmed(&foreign);
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    let refused = pending.open(&confirm, foreign, &mut session, &mut plain);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::Unknown)));
    assert!(session.is_empty() && plain.is_empty());

    // Before the commit, the same message opens as often as need be, and always to the same content.
    for _ in 0..3 {
        pending
            .open(&confirm, frame, &mut session, &mut plain)
            .unwrap();
        assert_eq!(plain, b"hello");
    }
}

#[test]
fn message_3_repeats_before_every_frame_until_a_frame_of_the_peer_opens() {
    let (mut a, mut b) = alice_and_bob(6);
    let Run {
        initiator,
        pending,
        answer,
        ..
    } = run(&mut a, &mut b, &code());
    let (mut end_a, mut end_b) = (End::new(a.rng), End::new(b.rng));
    initiator
        .confirm(&a.keys, &answer, &mut end_a.session, &mut end_a.rng)
        .unwrap();
    let sent: Vec<_> = (0..5).map(|i| end_a.seal(&[i])).collect();

    // Any of them makes the session; here the others are late.
    let (confirm, frame) = confirmed(&sent[3]);
    let mut plain = Plaintext::new();
    pending
        .open(&confirm, frame, &mut end_b.session, &mut plain)
        .unwrap();
    assert_eq!(plain, [3]);
    for i in [4, 0, 2, 1] {
        assert_eq!(confirmed(&sent[i]).0, confirm);
        assert_eq!(end_b.open(&sent[i]).unwrap(), [u8::try_from(i).unwrap()]);
    }
    let reply = end_b.seal(b"");
    end_a.open(&reply).unwrap();
    let next = end_a.seal(b"x");
    assert!(next.len() < sent[0].len(), "no prefix any more");
    end_b.open(&next).unwrap();
}

#[test]
fn reflected_messages_are_refused() {
    let (mut a, mut b) = alice_and_bob(7);
    let Run {
        initiator,
        offer,
        answer,
        ..
    } = run(&mut a, &mut b, &code());

    // The offer comes back to its sender, as it is and with the addresses exchanged.
    let refused = check_offer(&a.keys, &a.address, &offer);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
    let mut turned = offer.clone();
    (turned.public.initiator, turned.public.responder) = (b.address.clone(), a.address.clone());
    let refused = respond(&a.keys, &a.address, &code(), &turned, &mut a.rng).map(|_| ());
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::OwnIdentity)));

    // The answer carries the initiator's own share.
    let mut echo = answer;
    echo.share = offer.share;
    let mut session = Session::empty();
    let refused = initiator.confirm(&a.keys, &echo, &mut session, &mut a.rng);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::Reflected)));
    assert!(session.is_empty());
}

#[test]
fn everything_that_the_initiator_said_comes_back_as_the_answer_and_is_refused() {
    let (mut a, mut b) = alice_and_bob(8);
    for step in 0..4 {
        let Run {
            initiator,
            offer,
            mut answer,
            ..
        } = run(&mut a, &mut b, &code());
        let own = &offer.public;
        answer.public.identity = own.identity;
        if step > 0 {
            // A mirror that replaces as much as it can.
            answer.share = offer.share;
        }
        if step > 1 {
            answer.public.ephemeral = own.ephemeral;
        }
        if step > 2 {
            answer.public.role = own.role;
        }
        let mut session = Session::empty();
        let refused = initiator.confirm(&a.keys, &answer, &mut session, &mut a.rng);
        let reason = if step > 2 {
            Peer::Unexpected
        } else {
            Peer::OwnIdentity
        };
        assert_eq!(refused, Err(Error::PeerMisbehaved(reason)));
    }
}

#[test]
fn half_of_our_own_identity_is_our_own_identity() {
    let (mut a, mut b) = alice_and_bob(9);
    let (_, offer) =
        Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng).unwrap();
    for half in [true, false] {
        let mut offer = offer.clone();
        let own = b.keys.public().claim();
        if half {
            offer.public.identity.sign = own.sign;
        } else {
            offer.public.identity.dh = own.dh;
        }
        let refused = respond(&b.keys, &b.address, &code(), &offer, &mut b.rng).map(|_| ());
        assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::OwnIdentity)));
    }
}

#[test]
fn offers_for_somebody_else_are_refused() {
    let (mut a, b) = alice_and_bob(10);
    let mut c = Person::new("carol", 99);
    let (_, offer) =
        Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng).unwrap();
    let refused = respond(&c.keys, &c.address, &code(), &offer, &mut c.rng).map(|_| ());
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
    let refused =
        Initiator::offer(&a.keys, &a.address, &a.address, &code(), &mut a.rng).map(|_| ());
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
}

#[test]
fn man_in_the_middle_without_the_code_gets_no_session_with_either_end() {
    // Mallory runs the protocol with both ends, under one guess each.
    let (mut a, mut b) = alice_and_bob(11);
    let m = IdentityKeys::generate(&mut a.rng).unwrap();
    let guess = Code::from_digits(b"314159").unwrap();
    let (initiator, offer) =
        Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng).unwrap();
    let (_, to_a) = respond(&m, &b.address, &guess, &offer, &mut b.rng).unwrap();
    let mut session = Session::empty();
    let refused = initiator.confirm(&a.keys, &to_a, &mut session, &mut a.rng);
    assert_eq!(refused, Err(Error::Authentication));

    let (m_initiator, m_offer) =
        Initiator::offer(&m, &a.address, &b.address, &guess, &mut b.rng).unwrap();
    let (_, to_m) = respond(&b.keys, &b.address, &code(), &m_offer, &mut b.rng).unwrap();
    let refused = m_initiator.confirm(&m, &to_m, &mut session, &mut b.rng);
    assert_eq!(refused, Err(Error::Authentication));

    // The same with the right code: it is the code that makes the difference.
    let (initiator, offer) =
        Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng).unwrap();
    let (_, to_a) = respond(&m, &b.address, &code(), &offer, &mut b.rng).unwrap();
    let peer = initiator.confirm(&a.keys, &to_a, &mut session, &mut a.rng);
    assert_eq!(peer, Ok(*m.public()));
}

#[test]
fn answer_of_another_run_is_refused() {
    let (mut a, mut b) = alice_and_bob(12);
    let first = run(&mut a, &mut b, &code());
    let second = run(&mut a, &mut b, &code());
    let mut session = Session::empty();
    let refused = first
        .initiator
        .confirm(&a.keys, &second.answer, &mut session, &mut a.rng);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::Unknown)));

    // Not even under the first run's id.
    let mut renamed = first.answer;
    renamed.sid = second.offer.sid;
    let refused = second
        .initiator
        .confirm(&a.keys, &renamed, &mut session, &mut a.rng);
    assert_eq!(refused, Err(Error::Authentication));
    assert!(session.is_empty());
}

#[test]
fn answer_that_names_other_addresses_is_refused_before_its_tag_is_looked_at() {
    let (mut a, mut b) = alice_and_bob(15);
    let carol = Person::new("carol", 98).address;
    for responder in [true, false] {
        let Run {
            initiator,
            mut answer,
            ..
        } = run(&mut a, &mut b, &code());
        let place = if responder {
            &mut answer.public.responder
        } else {
            &mut answer.public.initiator
        };
        *place = carol.clone();
        let mut session = Session::empty();
        let refused = initiator.confirm(&a.keys, &answer, &mut session, &mut a.rng);
        assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
    }
}

#[test]
fn pending_pairing_survives_storage() {
    let (mut a, mut b) = alice_and_bob(13);
    let Run {
        initiator,
        pending,
        answer,
        ..
    } = run(&mut a, &mut b, &code());
    let mut end = End::new(a.rng);
    initiator
        .confirm(&a.keys, &answer, &mut end.session, &mut end.rng)
        .unwrap();
    let third = end.seal(b"hello");
    let (confirm, frame) = confirmed(&third);

    let mut bytes = [0; Pending::MAX_LEN];
    let len = pending.store(&mut bytes).unwrap();
    let loaded = Pending::load(&bytes[..len]).unwrap();
    assert_eq!(loaded.sid(), pending.sid());
    assert_eq!(loaded.peer(), a.keys.public());
    assert_eq!(loaded.peer_address(), &a.address);
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    loaded
        .open(&confirm, frame, &mut session, &mut plain)
        .unwrap();
    assert_eq!(plain, b"hello");
    assert_eq!(session.id(), loaded.session_id());
    assert!(pending.store(&mut bytes[..len - 1]).is_err());
}

#[test]
fn codes_are_six_digits() {
    for bad in [
        "", "12345", "1234567", "12345a", "12 456", "１23456", "-12345",
    ] {
        assert_eq!(
            Code::from_digits(bad.as_bytes()).map(|_| ()),
            Err(Error::Decode(Decode::Malformed)),
            "{bad}"
        );
    }
    let mut rng = crate::support::rng(14);
    let mut counts = [0u32; 10];
    for _ in 0..10_000 {
        let code = Code::generate(&mut rng);
        assert!(
            Code::from_digits(code.expose_digits())
                .unwrap()
                .ct_eq(&code)
        );
        for digit in code.expose_digits() {
            counts[usize::from(digit - b'0')] += 1;
        }
    }
    // 60,000 digits: 6,000 of each, standard deviation 73; six of them are 441.
    assert!(
        counts.iter().all(|count| (5_559..=6_441).contains(count)),
        "{counts:?}"
    );
}

/// Gives the bytes of a list, again and again.
struct Listed(std::iter::Cycle<std::vec::IntoIter<u8>>);

impl TryRng for Listed {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from(self.0.next().unwrap()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from(self.0.next().unwrap()))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        dst.fill_with(|| self.0.next().unwrap());
        Ok(())
    }
}

impl TryCryptoRng for Listed {}

#[test]
fn byte_values_that_would_favour_some_digits_are_drawn_again() {
    let mut listed = Listed(
        vec![250, 255, 249, 251, 0, 254, 10, 253, 123]
            .into_iter()
            .cycle(),
    );
    assert_eq!(Code::generate(&mut listed).expose_digits(), b"900390");
}
