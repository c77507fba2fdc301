//! The first message without a code.

use hostchat_core::error::{Decode, Error, Limit, Misuse, Peer};
use hostchat_core::handshake::{IdentityKeys, PrekeySecret, first};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{Address, Envelope, FirstHeader, Frame, PrekeyBundle, codec};

use crate::support::{
    End, NOW, Person, Prekeys, alice_and_bob, begun, first_parts, frame_of, stored,
};

const DAY: u64 = 24 * 60 * 60;

fn start(a: &mut Person, b: &Person, bundle: &PrekeyBundle, now: u64) -> Result<End, Error> {
    let mut end = End::new(a.rng.clone());
    let peer = b.keys.public();
    first::start(
        &a.keys,
        &a.address,
        &b.address,
        peer,
        bundle,
        now,
        &mut end.session,
        &mut end.rng,
    )?;
    a.rng = end.rng.clone();
    Ok(end)
}

fn accept(
    b: &Person,
    prekeys: &Prekeys,
    envelope: &[u8],
) -> Result<(End, first::Accepted, Vec<u8>), Error> {
    let (header, frame) = first_parts(envelope);
    let mut end = End::new(b.rng.clone());
    let mut plain = Plaintext::new();
    let accepted = first::accept(
        &b.keys,
        &b.address,
        &header,
        &prekeys.last_resort,
        prekeys.one_time.as_ref(),
        frame,
        &mut end.session,
        &mut plain,
    )?;
    Ok((end, accepted, plain.to_vec()))
}

#[test]
fn ends_that_began_without_a_code_talk_in_both_directions() {
    for with_one_time in [true, false] {
        let (mut a, mut b) = begun(1, with_one_time);
        assert_eq!(a.session.id(), b.session.id());
        let reply = b.seal(b"reply");
        assert_eq!(a.open(&reply).unwrap(), b"reply");
        let more = a.seal(b"more");
        assert_eq!(b.open(&more).unwrap(), b"more");
    }
}

#[test]
fn header_repeats_until_a_reply_opens() {
    let (mut a, mut b) = alice_and_bob(30);
    let prekeys = b.prekeys(true);
    let mut end_a = start(&mut a, &b, &prekeys.bundle, NOW).unwrap();
    let sent: Vec<_> = (0..4).map(|i| end_a.seal(&[i])).collect();
    let (mut end_b, accepted, plain) = accept(&b, &prekeys, &sent[2]).unwrap();
    assert_eq!(plain, [2]);
    for i in [0, 3, 1] {
        let (header, _) = first_parts(&sent[i]);
        assert_eq!(
            first::mark(&header),
            Ok(accepted.mark),
            "one first message, one mark"
        );
        assert_eq!(end_b.open(&sent[i]).unwrap(), [u8::try_from(i).unwrap()]);
    }
    let reply = end_b.seal(b"");
    assert!(matches!(
        codec::decode(&reply),
        Ok(Envelope::Message { .. })
    ));
    end_a.open(&reply).unwrap();
    let next = end_a.seal(b"x");
    assert!(matches!(codec::decode(&next), Ok(Envelope::Message { .. })));
    assert_eq!(end_b.open(&next).unwrap(), b"x");
}

#[test]
fn replayed_first_message_is_known_by_its_mark_and_by_its_spent_prekey() {
    // S&P 2026, attack b: two sessions from one secret. The mark goes to the caller, who writes it together with
    // the session, and a consumed one-time prekey leaves nothing to accept the replay with.
    let (mut a, mut b) = alice_and_bob(31);
    let mut prekeys = b.prekeys(true);
    let mut end = start(&mut a, &b, &prekeys.bundle, NOW).unwrap();
    let envelope = end.seal(b"once");
    let (_, accepted, _) = accept(&b, &prekeys, &envelope).unwrap();
    let (header, _) = first_parts(&envelope);
    assert_eq!(first::mark(&header), Ok(accepted.mark));

    let other = start(&mut a, &b, &prekeys.bundle, NOW)
        .unwrap()
        .seal(b"once");
    assert_ne!(first::mark(&first_parts(&other).0), Ok(accepted.mark));

    prekeys.one_time = None;
    let refused = accept(&b, &prekeys, &envelope).map(|_| ());
    assert_eq!(refused, Err(Error::ApiMisuse(Misuse::BadArgument)));
    // Nor does the header pass without its one-time prekey: it is in the transcript.
    let (mut header, frame) = first_parts(&envelope);
    header.one_time = None;
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    let refused = first::accept(
        &b.keys,
        &b.address,
        &header,
        &prekeys.last_resort,
        None,
        frame,
        &mut session,
        &mut plain,
    );
    assert!(refused.is_err() && session.is_empty());
}

#[test]
fn any_change_of_a_header_changes_keys_so_that_one_secret_has_one_mark() {
    let (mut a, mut b) = alice_and_bob(32);
    let prekeys = b.prekeys(false);
    let envelope = start(&mut a, &b, &prekeys.bundle, NOW).unwrap().seal(b"x");
    let (header, _) = first_parts(&envelope);
    let mark = first::mark(&header).unwrap();
    let changes: [fn(&mut FirstHeader); 6] = [
        |header| header.suite = 2,
        |header| header.sender = Address::parse("eve@relay.example:7443").unwrap(),
        |header| header.receiver = Address::parse("eve@relay.example:7443").unwrap(),
        |header| header.one_time = Some(0),
        |header| header.ephemeral.0[0] ^= 1,
        |header| header.kem.0[0] ^= 1,
    ];
    for change in changes {
        let mut changed = header.clone();
        change(&mut changed);
        assert_ne!(first::mark(&changed).unwrap(), mark);
    }
}

#[test]
fn ratchet_key_of_the_responder_is_not_its_prekey() {
    // S&P 2026, attack c: leaking the ratchet must not leak the prekey.
    let (mut a, mut b) = alice_and_bob(33);
    let prekeys = b.prekeys(true);
    let envelope = start(&mut a, &b, &prekeys.bundle, NOW).unwrap().seal(b"x");
    let (mut end, ..) = accept(&b, &prekeys, &envelope).unwrap();
    let reply = end.seal(b"y");
    let ratchet_key = Frame::parse(frame_of(&reply)).unwrap().header.ratchet_key;
    assert_ne!(ratchet_key, prekeys.bundle.last_resort.dh);
    assert_ne!(ratchet_key, prekeys.bundle.one_time.unwrap().dh);

    let state = stored(&end.session);
    for secret in [&prekeys.last_resort, prekeys.one_time.as_ref().unwrap()] {
        let mut bytes = [0; PrekeySecret::LEN];
        secret.store(&mut bytes).unwrap();
        for part in [&bytes[14..46], &bytes[46..78], &bytes[78..110]] {
            assert!(
                state.windows(32).all(|window| window != part),
                "a prekey is in the session's state"
            );
        }
    }
    let mut keys = [0; IdentityKeys::LEN];
    b.keys.store(&mut keys).unwrap();
    assert!(
        state
            .windows(32)
            .all(|window| window != &keys[..32] && window != &keys[32..])
    );
}

#[test]
fn crossing_first_messages_give_two_working_sessions() {
    let (mut a, mut b) = alice_and_bob(34);
    let (of_a, of_b) = (a.prekeys(true), b.prekeys(true));
    let mut a_out = start(&mut a, &b, &of_b.bundle, NOW).unwrap();
    let mut b_out = start(&mut b, &a, &of_a.bundle, NOW).unwrap();
    let (from_a, from_b) = (a_out.seal(b"from a"), b_out.seal(b"from b"));
    let (mut b_in, _, plain) = accept(&b, &of_b, &from_a).unwrap();
    assert_eq!(plain, b"from a");
    let (mut a_in, _, plain) = accept(&a, &of_a, &from_b).unwrap();
    assert_eq!(plain, b"from b");
    assert_ne!(a_out.session.id(), a_in.session.id());
    for (one, other) in [(&mut a_out, &mut b_in), (&mut b_out, &mut a_in)] {
        let reply = other.seal(b"reply");
        assert_eq!(one.open(&reply).unwrap(), b"reply");
        let more = one.seal(b"more");
        assert_eq!(other.open(&more).unwrap(), b"more");
    }
    // A frame of one session is no frame of the other.
    let frame = a_out.seal(b"x");
    assert_eq!(a_in.open(&frame), Err(Error::PeerMisbehaved(Peer::Unknown)));
}

#[test]
fn senders_refuse_an_old_last_resort_prekey() {
    let (mut a, mut b) = alice_and_bob(35);
    let prekeys = b.prekeys(true);
    for (age, good) in [
        (0, true),
        (45 * DAY, true),
        (45 * DAY + 1, false),
        (u64::MAX - NOW, false),
    ] {
        let result = start(&mut a, &b, &prekeys.bundle, NOW + age).map(|_| ());
        assert_eq!(
            result,
            if good {
                Ok(())
            } else {
                Err(Error::Limit(Limit::Expired))
            },
            "{age}"
        );
    }
    // A clock that is behind the owner's is no reason to refuse.
    assert!(start(&mut a, &b, &prekeys.bundle, 0).is_ok());
}

#[test]
fn bundles_of_somebody_else_and_prekeys_of_the_wrong_kind_are_refused() {
    let (mut a, mut b) = alice_and_bob(36);
    let mut m = Person::new("mallory", 1000);
    let (of_b, of_m) = (b.prekeys(true), m.prekeys(true));
    let refused = |a: &mut Person, b: &Person, bundle: &PrekeyBundle| {
        start(a, b, bundle, NOW).map(|_| ()).unwrap_err()
    };

    assert_eq!(
        refused(&mut a, &b, &of_m.bundle),
        Error::PeerMisbehaved(Peer::IdentityChanged)
    );
    let mut bundle = of_m.bundle.clone();
    bundle.identity = of_b.bundle.identity;
    assert_eq!(refused(&mut a, &b, &bundle), Error::Authentication);
    let mut bundle = of_b.bundle.clone();
    bundle.one_time = of_m.bundle.one_time;
    assert_eq!(refused(&mut a, &b, &bundle), Error::Authentication);

    let mut bundle = of_b.bundle.clone();
    bundle.one_time = Some(bundle.last_resort);
    assert_eq!(
        refused(&mut a, &b, &bundle),
        Error::PeerMisbehaved(Peer::Unexpected)
    );
    let mut bundle = of_b.bundle.clone();
    bundle.last_resort = bundle.one_time.unwrap();
    assert_eq!(
        refused(&mut a, &b, &bundle),
        Error::PeerMisbehaved(Peer::Unexpected)
    );

    // Our own bundle, under another address and under our own.
    let own = a.prekeys(true).bundle;
    let twin = Person {
        keys: twin(&a),
        address: b.address.clone(),
        rng: b.rng.clone(),
    };
    assert_eq!(
        refused(&mut a, &twin, &own),
        Error::PeerMisbehaved(Peer::OwnIdentity)
    );
    b.address = a.address.clone();
    assert_eq!(
        refused(&mut a, &b, &of_b.bundle),
        Error::PeerMisbehaved(Peer::WrongAddress)
    );
}

/// The same identity once more.
fn twin(person: &Person) -> IdentityKeys {
    let mut bytes = [0; IdentityKeys::LEN];
    person.keys.store(&mut bytes).unwrap();
    IdentityKeys::load(&bytes).unwrap()
}

#[test]
fn first_messages_for_others_from_oneself_or_of_another_suite_are_refused() {
    let (mut a, mut b) = alice_and_bob(37);
    let prekeys = b.prekeys(false);
    let envelope = start(&mut a, &b, &prekeys.bundle, NOW).unwrap().seal(b"x");
    let (header, _) = first_parts(&envelope);
    assert_eq!(
        first::check_header(&b.keys, &b.address, &header),
        Ok(*a.keys.public())
    );

    let elsewhere = Address::parse("bob@other.example:7443").unwrap();
    let refused = first::check_header(&b.keys, &elsewhere, &header);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
    let refused = first::check_header(&a.keys, &b.address, &header);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::OwnIdentity)));
    let mut foreign = header.clone();
    foreign.suite = 2;
    assert_eq!(
        first::check_header(&b.keys, &b.address, &foreign),
        Err(Error::Decode(Decode::Suite))
    );
    let mut own = header;
    own.sender = b.address.clone();
    let refused = first::check_header(&b.keys, &b.address, &own);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::WrongAddress)));
}

#[test]
fn other_prekeys_than_the_header_names_are_refused() {
    let (mut a, mut b) = alice_and_bob(38);
    let prekeys = b.prekeys(true);
    let envelope = start(&mut a, &b, &prekeys.bundle, NOW).unwrap().seal(b"x");
    let misuse = Err(Error::ApiMisuse(Misuse::BadArgument));
    let one_time = prekeys.one_time.as_ref();
    let (header, frame) = first_parts(&envelope);
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    let mut accept = |last_resort: &PrekeySecret, one_time: Option<&PrekeySecret>| {
        first::accept(
            &b.keys,
            &b.address,
            &header,
            last_resort,
            one_time,
            frame,
            &mut session,
            &mut plain,
        )
        .map(|_| ())
    };
    assert_eq!(accept(&prekeys.last_resort, None), misuse);
    assert_eq!(accept(one_time.unwrap(), one_time), misuse);
    assert_eq!(
        accept(&prekeys.last_resort, Some(&prekeys.last_resort)),
        misuse
    );
    assert_eq!(accept(&prekeys.last_resort, one_time), Ok(()));
}
