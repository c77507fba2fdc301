//! Every byte and every field of every handshake message is altered in turn: never a session.

use hostchat_core::error::Error;
use hostchat_core::handshake::first;
use hostchat_core::handshake::pair::{Initiator, Pending, respond};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{
    Address, Bytes, Envelope, FirstHeader, IdentityClaim, MAX_ENVELOPE, PairAnswer, PairOffer,
    Prekey, PrekeyBundle, codec,
};

use crate::support::{End, NOW, Person, Prekeys, Run, alice_and_bob, code, first_parts, run};

/// The bytes of a value with one bit altered, for each byte in turn.
fn altered(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|at| {
        let mut altered = bytes.to_vec();
        altered[at] ^= 1 << (at % 8);
        altered
    })
}

fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    codec::encode_vec::<_, MAX_ENVELOPE>(envelope)
        .unwrap()
        .to_vec()
}

/// Alice's offer; the same random numbers give the same run each time.
fn offer(a: &Person, b: &Person) -> (Initiator, PairOffer) {
    Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng.clone()).unwrap()
}

/// Bob gets `altered`; whatever he answers gives Alice no session. Says whether he answered.
fn offer_gives_no_session(a: &Person, b: &mut Person, altered: &PairOffer) -> bool {
    let Ok((_, answer)) = respond(&b.keys, &b.address, &code(), altered, &mut b.rng) else {
        return false;
    };
    // The relay may repair what Bob repeats of the alteration.
    for repair in [false, true] {
        let (initiator, original) = offer(a, b);
        let mut answer = answer.clone();
        if repair {
            answer.sid = original.sid;
            answer.public.initiator = original.public.initiator;
            answer.public.responder = original.public.responder;
        }
        let mut session = Session::empty();
        assert!(
            initiator
                .confirm(&a.keys, &answer, &mut session, &mut a.rng.clone())
                .is_err(),
            "{altered:?}"
        );
        assert!(session.is_empty());
    }
    true
}

/// Alice gets `altered`, and has no session.
fn answer_gives_no_session(a: &Person, b: &Person, altered: &PairAnswer) {
    let (initiator, _) = offer(a, b);
    let mut session = Session::empty();
    assert!(
        initiator
            .confirm(&a.keys, altered, &mut session, &mut a.rng.clone())
            .is_err(),
        "{altered:?}"
    );
    assert!(session.is_empty());
}

#[test]
fn any_altered_byte_of_an_identity_is_refused() {
    let (a, b) = alice_and_bob(19);
    let bytes = codec::encode_vec::<_, 128>(a.keys.public().claim()).unwrap();
    assert_eq!(bytes.len(), 128);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << bit;
            let claim = codec::decode::<IdentityClaim>(&altered).unwrap();
            assert!(claim.verify().is_err(), "byte {at}, bit {bit}");
        }
    }
    // Halves of two sound identities are no identity.
    let mut mixed = *a.keys.public().claim();
    mixed.dh = b.keys.public().claim().dh;
    assert_eq!(mixed.verify(), Err(Error::Authentication));
    mixed.signature = b.keys.public().claim().signature;
    assert_eq!(mixed.verify(), Err(Error::Authentication));
}

#[test]
fn whatever_decodes_has_one_encoding() {
    let (mut a, mut b) = alice_and_bob(18);
    let prekeys = b.prekeys(true);
    let Run { offer, answer, .. } = run(&mut a, &mut b, &code());
    let (_, first) = first_envelope(a, &b, &prekeys.bundle).unwrap();
    let (mut decoded, mut refused) = (0, 0);
    for envelope in [
        encode(&Envelope::PairOffer(offer)),
        encode(&Envelope::PairAnswer(answer)),
        first,
    ] {
        let cut = (0..envelope.len()).map(|len| envelope[..len].to_vec());
        for bytes in altered(&envelope).chain(cut) {
            match codec::decode::<Envelope<'_>>(&bytes) {
                Ok(value) => {
                    assert_eq!(encode(&value), bytes);
                    decoded += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        decoded > 4_000 && refused > 4_000,
        "{decoded} decoded, {refused} refused"
    );
}

#[test]
fn any_altered_byte_of_an_offer_gives_no_session() {
    let (a, mut b) = alice_and_bob(20);
    let (_, offer) = offer(&a, &b);
    let bytes = encode(&Envelope::PairOffer(offer));
    let (mut refused, mut answered) = (0, 0);
    for altered in altered(&bytes) {
        match codec::decode(&altered) {
            Ok(Envelope::PairOffer(altered)) if offer_gives_no_session(&a, &mut b, &altered) => {
                answered += 1
            }
            _ => refused += 1,
        }
    }
    assert_eq!(refused + answered, bytes.len());
    // The sid, shares that decode, the ephemeral key, most of the encapsulation key: only the tag shows these.
    assert!(
        answered > 1_000 && refused > 200,
        "{answered} answered, {refused} refused"
    );
}

#[test]
fn any_altered_byte_of_an_answer_gives_no_session() {
    let (a, mut b) = alice_and_bob(21);
    let (_, offer) = offer(&a, &b);
    let (_, answer) = respond(&b.keys, &b.address, &code(), &offer, &mut b.rng).unwrap();
    for altered in altered(&encode(&Envelope::PairAnswer(answer))) {
        if let Ok(Envelope::PairAnswer(altered)) = codec::decode(&altered) {
            answer_gives_no_session(&a, &b, &altered);
        }
    }
}

#[test]
fn any_field_of_an_offer_from_another_offer_gives_no_session() {
    let (a, mut b) = alice_and_bob(22);
    let (_, original) = offer(&a, &b);
    let mut c = Person::new("carol", 77);
    let (_, other) =
        Initiator::offer(&c.keys, &c.address, &b.address, &code(), &mut c.rng).unwrap();
    let swaps: [fn(&mut PairOffer, &PairOffer); 8] = [
        |offer, other| offer.sid = other.sid,
        |offer, other| offer.share = other.share,
        |offer, _| offer.public.role = 2,
        |offer, _| offer.public.suite = 2,
        |offer, other| offer.public.initiator = other.public.initiator.clone(),
        |offer, other| offer.public.identity = other.public.identity,
        |offer, other| offer.public.ephemeral = other.public.ephemeral,
        |offer, other| offer.public.kem = other.public.kem,
    ];
    for swap in swaps {
        let mut altered = original.clone();
        swap(&mut altered, &other);
        assert_ne!(altered, original);
        offer_gives_no_session(&a, &mut b, &altered);
    }
    let mut altered = original;
    altered.public.responder = c.address;
    assert!(
        !offer_gives_no_session(&a, &mut b, &altered),
        "Bob refuses what is not for him"
    );
}

#[test]
fn any_field_of_an_answer_from_another_answer_gives_no_session() {
    let (a, mut b) = alice_and_bob(23);
    let (_, original_offer) = offer(&a, &b);
    let (_, original) = respond(&b.keys, &b.address, &code(), &original_offer, &mut b.rng).unwrap();
    // Another answer of Bob to the very same offer, and one of Carol in his place.
    let (_, again) = respond(&b.keys, &b.address, &code(), &original_offer, &mut b.rng).unwrap();
    let mut c = Person::new("carol", 78);
    let (_, carol) = respond(&c.keys, &b.address, &code(), &original_offer, &mut c.rng).unwrap();
    let swaps: [fn(&mut PairAnswer, &PairAnswer); 9] = [
        |answer, _| answer.sid = Bytes([9; 16]),
        |answer, other| answer.share = other.share,
        |answer, _| answer.public.role = 1,
        |answer, _| answer.public.suite = 0,
        |answer, _| answer.public.responder = Address::parse("carol@relay.example:7443").unwrap(),
        |answer, _| answer.public.initiator = Address::parse("carol@relay.example:7443").unwrap(),
        |answer, other| answer.public.ephemeral = other.public.ephemeral,
        |answer, other| answer.public.kem = other.public.kem,
        |answer, other| answer.tag = other.tag,
    ];
    for other in [&again, &carol] {
        for swap in swaps {
            let mut altered = original.clone();
            swap(&mut altered, other);
            answer_gives_no_session(&a, &b, &altered);
        }
    }
    let mut altered = original;
    altered.public.identity = carol.public.identity;
    answer_gives_no_session(&a, &b, &altered);
}

#[test]
fn any_altered_byte_of_message_3_gives_no_session_and_changes_nothing() {
    let (mut a, mut b) = alice_and_bob(24);
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
    let third = end.seal(b"the message that was kept");
    let stored = |pending: &Pending| {
        let mut bytes = [0; Pending::MAX_LEN];
        let len = pending.store(&mut bytes).unwrap();
        bytes[..len].to_vec()
    };
    let before = stored(&pending);
    let open = |bytes: &[u8]| -> Result<Vec<u8>, Error> {
        let Ok(Envelope::Confirmed { confirm, frame }) = codec::decode(bytes) else {
            return Err(Error::Authentication);
        };
        let (mut session, mut plain) = (Session::empty(), Plaintext::new());
        let result = pending.open(&confirm, frame, &mut session, &mut plain);
        assert_eq!(session.is_empty(), result.is_err());
        assert_eq!(stored(&pending), before);
        result.map(|_| plain.to_vec())
    };
    for altered in altered(&third) {
        assert!(open(&altered).is_err());
    }
    for len in 0..third.len() {
        assert!(open(&third[..len]).is_err());
    }
    assert_eq!(open(&third).unwrap(), b"the message that was kept");
}

/// Begins a session with Bob on Alice's side and gives her first envelope.
fn first_envelope(a: Person, b: &Person, bundle: &PrekeyBundle) -> Result<(End, Vec<u8>), Error> {
    let mut end = End::new(a.rng);
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
    )?;
    let envelope = end.seal(b"hello");
    Ok((end, envelope))
}

fn accept(
    b: &Person,
    prekeys: &Prekeys,
    header: &FirstHeader,
    frame: &[u8],
) -> Result<Vec<u8>, Error> {
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    let result = first::accept(
        &b.keys,
        &b.address,
        header,
        &prekeys.last_resort,
        prekeys.one_time.as_ref(),
        frame,
        &mut session,
        &mut plain,
    );
    assert_eq!(session.is_empty(), result.is_err());
    result.map(|_| plain.to_vec())
}

#[test]
fn any_altered_byte_of_a_first_message_gives_no_session() {
    for with_one_time in [true, false] {
        let (a, mut b) = alice_and_bob(25);
        let prekeys = b.prekeys(with_one_time);
        let (_, envelope) = first_envelope(a, &b, &prekeys.bundle).unwrap();
        for altered in altered(&envelope) {
            if let Ok(Envelope::First { header, frame }) = codec::decode(&altered) {
                assert!(accept(&b, &prekeys, &header, frame).is_err());
            }
        }
        let (header, frame) = first_parts(&envelope);
        assert_eq!(accept(&b, &prekeys, &header, frame).unwrap(), b"hello");
    }
}

#[test]
fn any_altered_byte_of_a_prekey_bundle_is_refused() {
    for with_one_time in [true, false] {
        let (_, mut b) = alice_and_bob(26);
        let prekeys = b.prekeys(with_one_time);
        let bytes = codec::encode_vec::<_, 4096>(&prekeys.bundle).unwrap();
        for altered in altered(&bytes) {
            if let Ok(bundle) = codec::decode::<PrekeyBundle>(&altered) {
                let (a, _) = alice_and_bob(26);
                let refused = first_envelope(a, &b, &bundle).map(|_| ());
                assert!(refused.is_err(), "{bundle:?}");
            }
        }
    }
}

#[test]
fn any_field_of_a_prekey_from_another_prekey_is_refused() {
    let (_, mut b) = alice_and_bob(27);
    let prekeys = b.prekeys(true);
    let other = b.prekeys(true).bundle.one_time.unwrap();
    let swaps: [fn(&mut Prekey, &Prekey); 6] = [
        |prekey, _| prekey.id += 1,
        |prekey, _| prekey.issued += 1,
        |prekey, other| prekey.dh = other.dh,
        |prekey, other| prekey.kem = other.kem,
        |prekey, other| prekey.signature = other.signature,
        |prekey, _| prekey.signature = Bytes([0; 64]),
    ];
    for swap in swaps {
        for last_resort in [true, false] {
            let mut bundle = prekeys.bundle.clone();
            let prekey = if last_resort {
                &mut bundle.last_resort
            } else {
                bundle.one_time.as_mut().unwrap()
            };
            swap(prekey, &other);
            let (a, _) = alice_and_bob(27);
            assert_eq!(
                first_envelope(a, &b, &bundle).map(|_| ()),
                Err(Error::Authentication)
            );
        }
    }
    // A whole one-time prekey from another bundle is an honest one: the relay chooses which of them it shows.
    let mut bundle = prekeys.bundle;
    bundle.one_time = Some(other);
    let (a, _) = alice_and_bob(27);
    assert!(first_envelope(a, &b, &bundle).is_ok());
}
