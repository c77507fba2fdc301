//! What a session keeps of messages that have not come: after a long gap, and for how long.

use hostchat_core::error::{Error, Limit, Peer};
use hostchat_core::ratchet::{MAX_JUMP, MAX_SKIPPED, MAX_SKIPPED_STEPS};
use proptest::prelude::*;

use crate::ratchet::{forge, header, peek, settled};
use crate::support::{End, frame_of, paired};

/// What a frame shows to be missing; commits.
fn missing(end: &mut End, envelope: &[u8]) -> u32 {
    let mut plain = hostchat_core::ratchet::Plaintext::new();
    let opened = end
        .session
        .open(&mut end.next, frame_of(envelope), &mut plain)
        .unwrap();
    core::mem::swap(&mut end.session, &mut end.next);
    opened.missing
}

#[test]
fn new_chain_opens_however_long_the_one_before_was() {
    let kept = u32::try_from(MAX_SKIPPED).unwrap();
    for (seed, lost) in [(110, MAX_JUMP), (111, MAX_JUMP + 1), (112, 2 * MAX_JUMP)] {
        let (mut a, mut b) = settled(seed);
        b.open(&a.seal(b"x")).unwrap();
        let gap: Vec<_> = (0..lost).map(|n| a.seal(&n.to_le_bytes())).collect();
        a.open(&b.seal(b"turn")).unwrap();
        let newer = [a.seal(b"0"), a.seal(b"1")];
        assert_eq!(missing(&mut b, &newer[1]), lost + 1);
        assert_eq!(b.session.skipped(), MAX_SKIPPED);
        assert_eq!(b.open(&newer[0]).unwrap(), b"0");
        // Of a jump the newest keys are kept; of a longer rest the next ones, and no others are even computed. One of them
        // made room for the new chain's.
        let open = if lost > MAX_JUMP {
            1..kept
        } else {
            lost - kept + 1..lost
        };
        for n in (0..lost).step_by(97).chain(open.clone()) {
            let result = b.peek(&gap[usize::try_from(n).unwrap()]);
            if open.contains(&n) {
                assert_eq!(result.unwrap(), n.to_le_bytes(), "{n} of {lost}");
            } else {
                // The session has turned: the old chain's key is one that it does not know.
                assert_eq!(result, Err(Error::PeerMisbehaved(Peer::NoRatchetKey)));
            }
        }
        // The conversation goes on.
        a.open(&b.seal(b"turn")).unwrap();
        assert_eq!(b.open(&a.seal(b"on")).unwrap(), b"on");
    }
}

#[test]
fn lengths_that_a_peer_claims_neither_overflow_nor_end_the_session() {
    let (mut a, mut b) = settled(113);
    b.open(&a.seal(b"x")).unwrap();
    a.open(&b.seal(b"turn")).unwrap();
    a.seal(b"starts the chain");
    for n in 0..8 {
        a.seal(&[n]);
    }
    let mut claim = header(&a);
    assert_eq!(claim.n, 9);
    claim.pn = u32::MAX;
    let frame = forge(&a, &claim, &[0; 64]);
    let message = hostchat_core::wire::Envelope::Message { frame: &frame };
    let envelope = hostchat_core::wire::codec::encode_vec::<_, 6000>(&message).unwrap();
    // One of the old chain is known; the rest and the nine of the new one are more than a number holds.
    assert_eq!(missing(&mut b, &envelope), u32::MAX);
    assert_eq!(b.session.skipped(), MAX_SKIPPED);
    a.open(&b.seal(b"turn")).unwrap();
    assert_eq!(b.open(&a.seal(b"on")).unwrap(), b"on");
}

#[test]
fn jump_within_the_new_chain_stays_bounded() {
    let (mut a, mut b) = settled(114);
    b.open(&a.seal(b"x")).unwrap();
    for _ in 0..=MAX_JUMP {
        a.seal(b"lost");
    }
    a.open(&b.seal(b"turn")).unwrap();
    for _ in 0..MAX_JUMP {
        a.seal(b"lost");
    }
    let (reachable, beyond) = (a.seal(b"reachable"), a.seal(b"beyond"));
    let too_far = Err(Error::Limit(Limit::SkipTooFar));
    assert_eq!(b.peek(&beyond), too_far);
    let gap = MAX_JUMP + 1 + MAX_JUMP;
    assert_eq!(missing(&mut b, &reachable), gap);
}

#[test]
fn without_a_receiving_chain_pn_says_nothing() {
    let (mut a, mut b) = paired(115);
    b.seal(b"starts the chain");
    let mut claim = header(&b);
    claim.pn = u32::MAX;
    let frame = forge(&b, &claim, &[0; 64]);
    assert_eq!(peek(&mut a, &frame).unwrap(), b"");
    let message = hostchat_core::wire::Envelope::Message { frame: &frame };
    let envelope = hostchat_core::wire::codec::encode_vec::<_, 6000>(&message).unwrap();
    assert_eq!(missing(&mut a, &envelope), 1, "the frame before, no other");
}

/// Takes `count` steps of the root chain at `b`, alternately with its own seal and with a frame of `a`.
fn step(a: &mut End, b: &mut End, count: u32) {
    for _ in 0..count {
        if b.stored()[49] == 0 {
            a.open(&b.seal(b"step")).unwrap();
        } else {
            b.open(&a.seal(b"step")).unwrap();
        }
    }
}

#[test]
fn key_of_a_skipped_message_opens_after_29_steps_and_is_gone_after_30() {
    let steps = u32::from(MAX_SKIPPED_STEPS);
    assert_eq!(steps, 30);
    // Kept while it waits, so that the first step is its own; and kept at a turn, which is a step already.
    for at_a_turn in [false, true] {
        let (mut a, mut b) = settled(116);
        b.open(&a.seal(b"x")).unwrap();
        let late = [a.seal(b"one"), a.seal(b"two"), a.seal(b"three")];
        let mut taken = 0;
        if at_a_turn {
            a.open(&b.seal(b"turn")).unwrap();
            b.open(&a.seal(b"newer")).unwrap();
            taken = 1;
        } else {
            b.open(&a.seal(b"same chain")).unwrap();
        }
        step(&mut a, &mut b, steps - 2 - taken);
        assert_eq!(b.open(&late[0]).unwrap(), b"one", "28 steps");
        step(&mut a, &mut b, 1);
        assert_eq!(b.open(&late[1]).unwrap(), b"two", "29 steps");
        let before = b.stored();
        let key = before[before.len() - 1 - 32..before.len() - 1].to_vec();
        step(&mut a, &mut b, 1);
        assert_eq!(b.session.skipped(), 0);
        let refused = b.peek(&late[2]).unwrap_err();
        assert!(matches!(
            refused,
            Error::Authentication | Error::PeerMisbehaved(Peer::NoRatchetKey)
        ));
        let state = b.stored();
        assert!(state.windows(32).all(|window| window != key));
    }
}

#[test]
fn frame_that_does_not_open_makes_no_key_older() {
    let (mut a, mut b) = settled(117);
    b.open(&a.seal(b"x")).unwrap();
    let late = a.seal(b"late");
    b.open(&a.seal(b"y")).unwrap();
    step(&mut a, &mut b, 29);
    // A turn, but not authentic: it would be the thirtieth step.
    let turning = a.seal(b"turning");
    for at in [60, frame_of(&turning).len() - 1] {
        let mut forged = frame_of(&turning).to_vec();
        forged[at] ^= 1;
        assert!(peek(&mut b, &forged).is_err());
    }
    assert_eq!(b.open(&late).unwrap(), b"late");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// For each message of Alice: whether it comes at once or late, and how often the two change direction before it does.
    #[test]
    fn late_message_opens_exactly_if_its_key_is_younger_than_30_steps(
        rounds in proptest::collection::vec((0..4_u8, 0..2_u8), 40..90),
        late_by in proptest::collection::vec(0..80_usize, 90),
    ) {
        let (mut a, mut b) = settled(118);
        // A late message: its number, when it is tried, and the steps since Bob could keep its key.
        let mut late: Vec<(Vec<u8>, usize, Option<u32>)> = Vec::new();
        for (round, (lost, turns)) in rounds.iter().enumerate() {
            for n in 0..*lost {
                let due = round + late_by[(round + usize::from(n)) % late_by.len()];
                late.push((a.seal(&[n]), due, None));
            }
            let turned = b.stored()[49] == 1;
            b.open(&a.seal(b"comes")).unwrap();
            for (_, _, steps) in &mut late {
                // Those of this round are of the chain that the turn began.
                *steps = Some(steps.map_or(0, |steps| steps + u32::from(turned)));
            }
            if *turns > 0 {
                a.open(&b.seal(b"turn")).unwrap();
                late.iter_mut().for_each(|(_, _, steps)| *steps = steps.map(|steps| steps + 1));
            }
            let mut kept = Vec::new();
            for (envelope, due, steps) in late.drain(..) {
                if due > round {
                    kept.push((envelope, due, steps));
                    continue;
                }
                let opened = b.open(&envelope).is_ok();
                prop_assert_eq!(opened, steps.is_some_and(|steps| steps < 30), "{:?}", steps);
            }
            late = kept;
        }
    }
}
