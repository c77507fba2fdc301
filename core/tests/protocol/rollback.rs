//! States from a backup, and states that somebody stole.

use std::collections::HashSet;

use hostchat_core::crypto::siv::SivKey;
use hostchat_core::crypto::{kdf, label, mac};
use hostchat_core::error::{Error, Limit};
use hostchat_core::wire::Frame;

use crate::support::{frame_of, paired, stored};

/// Where the sending half and its chain key lie in the stored form (SPEC section 13.4).
const SENDING: usize = 49;
const CHAIN_KEY: usize = 114;

/// The SIV key of a frame, from the sender's state before the seal.
fn siv_key(before: &[u8], frame: &Frame<'_>) -> SivKey {
    let chain_key = before[CHAIN_KEY..CHAIN_KEY + 32].try_into().unwrap();
    let message_key = mac::hmac_sha256(chain_key, &[label::MESSAGE_KEY.as_bytes()]);
    let key: SivKey = kdf::hkdf(&frame.message_id.0, &[&message_key], label::MESSAGE_SIV);
    let ad = [
        &frame.header.session.0[..],
        frame.header_bytes,
        &frame.message_id.0,
    ]
    .concat();
    let mut plain = frame.ciphertext.to_vec();
    key.open_in_place(&[&ad], &mut plain, &frame.tag).unwrap();
    key
}

#[test]
fn state_that_is_rolled_back_at_every_step_does_not_use_a_key_twice() {
    let (mut a, mut b) = paired(66);
    let (mut keys, mut ratchet_keys) = (HashSet::new(), HashSet::new());
    let (mut repeated, mut fresh) = (0, 0);
    for step in 0..60u8 {
        let (sender, receiver) = if step % 5 < 3 {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut a)
        };
        let backup = sender.stored();
        let sealed: Vec<_> = (0..3)
            .map(|_| {
                sender.session.load(&backup).unwrap();
                sender.seal(b"the same content")
            })
            .collect();
        let frames: Vec<_> = sealed
            .iter()
            .map(|envelope| Frame::parse(frame_of(envelope)).unwrap())
            .collect();
        if backup[SENDING] == 1 {
            assert!(
                frames.iter().all(|frame| frame.header == frames[0].header),
                "the rollback repeats the number"
            );
            for frame in &frames {
                assert!(
                    keys.insert(*siv_key(&backup, frame).expose_bytes()),
                    "a key was used twice"
                );
            }
            repeated += 1;
        } else {
            // The first of a chain: even the ratchet key is another one each time.
            for frame in &frames {
                assert!(ratchet_keys.insert(frame.header.ratchet_key));
            }
            fresh += 1;
        }
        // Each of them opens; what the sender goes on with is the last.
        for envelope in &sealed {
            assert_eq!(receiver.peek(envelope).unwrap(), b"the same content");
        }
        receiver.open(&sealed[2]).unwrap();
    }
    assert!(repeated > 30 && fresh > 20, "{repeated} {fresh}");
}

#[test]
fn conversation_heals_after_one_end_was_restored_from_a_backup() {
    let (mut a, mut b) = paired(67);
    a.open(&b.seal(b"hello")).unwrap();
    b.open(&a.seal(b"x")).unwrap();
    let backup = a.stored();
    for _ in 0..5 {
        b.open(&a.seal(b"y")).unwrap();
    }
    a.session.load(&backup).unwrap();
    // What Alice seals now was numbered before: it is refused, and Bob's reply turns the ratchet.
    let lost = a.seal(b"lost");
    assert_eq!(b.open(&lost), Err(Error::Limit(Limit::Replayed)));
    a.open(&b.seal(b"turn")).unwrap();
    assert_eq!(b.open(&a.seal(b"healed")).unwrap(), b"healed");
}

#[test]
fn past_and_future_keys_are_not_in_the_state() {
    // Forward secrecy, and healing: the states of a conversation share no secret across two turns.
    let (mut a, mut b) = paired(69);
    a.open(&b.seal(b"hello")).unwrap();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..10 {
        b.open(&a.seal(b"ping")).unwrap();
        a.open(&b.seal(b"pong")).unwrap();
        let state = stored(&a.session);
        for old in seen.iter().rev().skip(1) {
            for window in old[17..]
                .chunks_exact(32)
                .filter(|window| window.iter().any(|&byte| byte != 0))
            {
                assert!(state.windows(32).all(|now| now != window));
            }
        }
        seen.push(state);
    }
}

#[test]
fn ratchet_key_that_comes_again_leaves_one_key_for_each_message() {
    let (mut a, mut b) = paired(71);
    a.open(&b.seal(b"hello")).unwrap();
    // Alice's generator repeats itself, so that her next ratchet key is one that she has used before.
    let repeating = a.rng.clone();
    let lost = a.seal(b"lost");
    b.open(&a.seal(b"x")).unwrap();
    a.open(&b.seal(b"turn")).unwrap();
    b.open(&a.seal(b"y")).unwrap();
    a.open(&b.seal(b"turn")).unwrap();
    a.rng = repeating;
    let again = [a.seal(b"0"), a.seal(b"1")];
    let key = |envelope: &[u8]| Frame::parse(frame_of(envelope)).unwrap().header.ratchet_key;
    assert_eq!(key(&lost), key(&again[0]));

    // The kept key is that of the old chain: Alice's loss. The next number makes the step.
    assert_eq!(b.open(&again[0]), Err(Error::Authentication));
    assert_eq!(b.open(&again[1]).unwrap(), b"1");
    assert_eq!(b.session.skipped(), 1);
    let state = b.stored();
    b.session.load(&state).unwrap();
    assert!(b.open(&lost).is_err());
    assert_eq!(b.open(&again[0]).unwrap(), b"0");
}
