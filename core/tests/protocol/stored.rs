//! Stored forms: canonical, versioned, and no garbage is taken for a state.

use hostchat_core::error::{Decode, Error, Misuse};
use hostchat_core::handshake::pair::Pending;
use hostchat_core::handshake::{IdentityKeys, PrekeySecret};
use hostchat_core::ratchet::{MAX_STORED, Session};
use hostchat_core::wire::{EnvelopeBytes, MAX_ENVELOPE, PrekeyKind};
use rand_chacha::rand_core::Rng as _;

use crate::support::{alice_and_bob, begun, code, paired, rng, run, stored};

/// Stored sessions of every shape: each prefix, sending or waiting, with and without skipped keys.
fn sessions() -> Vec<Vec<u8>> {
    let mut states = Vec::new();
    for (mut a, mut b) in [paired(90), begun(90, true)] {
        states.push(a.stored());
        states.push(b.stored());
        a.open(&b.seal(b"x")).unwrap();
        states.push(a.stored());
        states.push(b.stored());
        for _ in 0..3 {
            a.seal(b"lost");
        }
        b.open(&a.seal(b"y")).unwrap();
        states.push(b.stored());
        for _ in 0..300 {
            a.seal(b"lost");
        }
        b.open(&a.seal(b"z")).unwrap();
        states.push(b.stored());
    }
    states
}

#[test]
fn stored_sessions_load_to_the_same_state() {
    for state in sessions() {
        let mut session = Session::empty();
        session.load(&state).unwrap();
        assert_eq!(stored(&session), state);
        assert!(state.len() <= MAX_STORED);
    }
}

#[test]
fn sessions_without_skipped_keys_are_small_once_confirmed() {
    let (mut a, mut b) = begun(91, true);
    assert!(b.stored().len() < 300);
    a.open(&b.seal(b"x")).unwrap();
    a.seal(b"y");
    assert!(a.stored().len() < 300 && b.stored().len() < 300);
}

#[test]
fn longest_state_fits_the_stated_bound() {
    // 256 skipped keys, a sending and a receiving chain.
    let (mut a, mut b) = paired(92);
    for _ in 0..300 {
        a.seal(b"lost");
    }
    b.open(&a.seal(b"x")).unwrap();
    b.seal(b"y");
    let len = b.stored().len();
    assert!(len > 11_000 && len <= MAX_STORED);
    // A buffer that is too small is an error at each length.
    let mut out = vec![0; len];
    assert_eq!(b.session.store(&mut out), Ok(len));
    for short in [0, 1, 17, 100, len - 1] {
        let refused = b.session.store(&mut out[..short]);
        assert_eq!(refused, Err(Error::ApiMisuse(Misuse::BufferTooSmall)));
    }
}

#[test]
fn altered_cut_and_extended_sessions_are_refused_or_are_other_states() {
    for state in sessions() {
        let mut session = Session::empty();
        let lengths = (0..state.len()).filter(|len| *len < 400 || len % 97 == 0);
        for len in lengths {
            assert!(session.load(&state[..len]).is_err(), "{len}");
            assert!(session.is_empty());
        }
        let mut longer = state.clone();
        longer.push(0);
        assert!(session.load(&longer).is_err());
        for at in (0..state.len()).filter(|at| *at < 400 || at % 97 == 0) {
            let mut altered = state.clone();
            altered[at] ^= 1 << (at % 8);
            // Most bytes are keys, and any key is one; what loads is stored as it was.
            match session.load(&altered) {
                Ok(()) => assert_eq!(stored(&session), altered),
                Err(_) => assert!(session.is_empty()),
            }
        }
        let mut other_version = state;
        other_version[0] = 3;
        assert_eq!(
            session.load(&other_version),
            Err(Error::Decode(Decode::Version))
        );
    }
}

#[test]
fn random_bytes_neither_panic_nor_load() {
    let mut rng = rng(93);
    let (mut session, mut bytes) = (Session::empty(), vec![0; 2_000]);
    let mut out = EnvelopeBytes::new();
    for round in 0..5_000 {
        rng.fill_bytes(&mut bytes);
        let len = round % bytes.len();
        // A right start leads deeper.
        bytes[0] = 1 + u8::from(round % 2 == 0);
        bytes[49] &= 1;
        assert!(session.load(&bytes[..len]).is_err());
        assert!(session.seal(b"x", &mut rng, &mut out).is_err());
        assert!(Pending::load(&bytes[..len.min(Pending::MAX_LEN)]).is_err());
        assert!(len == IdentityKeys::LEN || IdentityKeys::load(&bytes[..len]).is_err());
        assert!(len == PrekeySecret::LEN || PrekeySecret::load(&bytes[..len]).is_err());
    }
}

#[test]
fn two_keys_for_one_skipped_message_are_refused() {
    let (mut a, mut b) = paired(94);
    a.seal(b"lost");
    a.seal(b"lost");
    b.open(&a.seal(b"x")).unwrap();
    let mut state = b.stored();
    // Two keys, then their ages.
    let end = state.len() - 2;
    state.copy_within(end - 2 * 44..end - 44, end - 44);
    assert_eq!(
        Session::empty().load(&state),
        Err(Error::Decode(Decode::NotCanonical))
    );
}

#[test]
fn sessions_of_format_1_load_with_keys_of_age_0() {
    let (mut a, mut b) = paired(99);
    a.seal(b"lost");
    let late = a.seal(b"late");
    b.open(&a.seal(b"x")).unwrap();
    a.open(&b.seal(b"turn")).unwrap();
    b.open(&a.seal(b"y")).unwrap();
    for state in [a.stored(), b.stored()] {
        let keys = if state == b.stored() { 2 } else { 0 };
        let end = state.len() - keys;
        assert!(state[end..].iter().all(|age| *age == 2));
        let mut old = state[..end].to_vec();
        old[0] = 1;
        let mut session = Session::empty();
        session.load(&old).unwrap();
        let mut expected = state.clone();
        expected[end..].fill(0);
        assert_eq!(stored(&session), expected);
        // Neither format is taken for the other.
        let mut mixed = state.clone();
        mixed[0] = 1;
        assert_eq!(session.load(&mixed).is_err(), keys > 0);
        old[0] = 2;
        assert_eq!(session.load(&old).is_err(), keys > 0);
    }
    let mut old = b.stored();
    old.truncate(old.len() - 2);
    old[0] = 1;
    b.session.load(&old).unwrap();
    assert_eq!(b.open(&late).unwrap(), b"late");
    a.open(&b.seal(b"on")).unwrap();
}

#[test]
fn state_without_any_chain_is_refused() {
    let (_, b) = paired(98);
    let state = b.stored();
    // version, id, root, waiting with its pn; then no receiving half, a plain prefix, no skipped keys.
    let halves = [&state[..49], &[0; 5], &[0], &[1, 0, 3], &[0, 0]].concat();
    let mut session = Session::empty();
    let refused = session.load(&halves);
    assert_eq!(refused, Err(Error::Decode(Decode::Malformed)));
    let whole = [&halves[..54], &[1], &state[55..123], &halves[55..]].concat();
    assert_eq!(session.load(&whole), Ok(()));
}

#[test]
fn prefix_that_is_no_envelope_is_refused() {
    let (a, _) = paired(95);
    let state = a.stored();
    // version, id, root, sending, no receiving, then the length of the prefix.
    let at = 49 + 105 + 1;
    let len = usize::from(u16::from_le_bytes([state[at], state[at + 1]]));
    for prefix in [
        &[][..],
        &[0],
        &[2],
        &[6],
        &[3, 0],
        &[3, 1],
        &[4; 48],
        &[0; MAX_ENVELOPE],
    ] {
        let mut altered = state[..at].to_vec();
        altered.extend_from_slice(&u16::try_from(prefix.len()).unwrap().to_le_bytes());
        altered.extend_from_slice(prefix);
        altered.extend_from_slice(&state[at + 2 + len..]);
        assert!(Session::empty().load(&altered).is_err(), "{prefix:?}");
    }
    let mut message = state[..at].to_vec();
    message.extend_from_slice(&[1, 0, 3]);
    message.extend_from_slice(&state[at + 2 + len..]);
    assert_eq!(Session::empty().load(&message), Ok(()));
}

#[test]
fn altered_pending_pairings_are_refused_or_are_other_states() {
    let (mut a, mut b) = alice_and_bob(96);
    let pending = run(&mut a, &mut b, &code()).pending;
    let mut bytes = [0; Pending::MAX_LEN];
    let len = pending.store(&mut bytes).unwrap();
    let state = &bytes[..len];
    let address = 1 + 16 + 128..len - 16 - 3 * 32;
    for at in 0..len {
        assert!(Pending::load(&state[..at]).is_err());
        let mut altered = state.to_vec();
        altered[at] ^= 1 << (at % 8);
        let loaded = Pending::load(&altered);
        // Version, identity and the length of the address are checked.
        assert!(loaded.is_err() || !(at == 0 || (17..145).contains(&at) || at == address.start));
        if let Ok(loaded) = loaded {
            let mut again = [0; Pending::MAX_LEN];
            let len = loaded.store(&mut again).unwrap();
            assert_eq!(again[..len], altered);
        }
    }
}

#[test]
fn identity_and_prekey_secrets_survive_storage() {
    let (mut a, _) = alice_and_bob(97);
    let mut bytes = [0; IdentityKeys::LEN];
    assert_eq!(a.keys.store(&mut bytes), Ok(IdentityKeys::LEN));
    let loaded = IdentityKeys::load(&bytes).unwrap();
    assert_eq!(loaded.public(), a.keys.public());
    // It was put together without a check, and passes one.
    assert_eq!(loaded.public().claim().verify(), Ok(*loaded.public()));
    assert!(a.keys.store(&mut bytes[1..]).is_err());

    for (kind, issued) in [(PrekeyKind::OneTime, 0), (PrekeyKind::LastResort, u64::MAX)] {
        let prekey = PrekeySecret::generate(kind, 9, issued, &mut a.rng);
        let mut bytes = [0; PrekeySecret::LEN];
        assert_eq!(prekey.store(&mut bytes), Ok(PrekeySecret::LEN));
        let loaded = PrekeySecret::load(&bytes).unwrap();
        assert_eq!(loaded.public(&a.keys), prekey.public(&a.keys));
        assert_eq!(loaded.public(&a.keys).verify(a.keys.public()), Ok(()));
        assert_eq!(
            (loaded.kind(), loaded.id(), loaded.issued()),
            (kind, 9, issued)
        );
        for (at, value) in [(0, 2), (1, 2)] {
            let mut bad = bytes;
            bad[at] = value;
            assert!(PrekeySecret::load(&bad).is_err());
        }
        assert!(prekey.store(&mut bytes[1..]).is_err());
    }
}
