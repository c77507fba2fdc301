//! The double ratchet: directed cases, most of them refusals.

use hostchat_core::crypto::siv::SivKey;
use hostchat_core::crypto::{kdf, label, mac};
use hostchat_core::error::{Decode, Error, Limit, Misuse, Peer};
use hostchat_core::ratchet::{MAX_JUMP, MAX_SKIPPED, Plaintext, Session};
use hostchat_core::wire::{
    Bytes, EnvelopeBytes, FRAME_VERSION, Frame, FrameHeader, MAX_CONTENT, MAX_PADDED, SUITE, codec,
};

use crate::support::{End, begun, confirmed, frame_of, paired};

/// Where things lie in the stored form of a session that is sending (SPEC section 13).
const SESSION_ID: usize = 1;
const PUBLIC: usize = 82;
const CHAIN_KEY: usize = 114;
const N: usize = 146;

/// Two ends that have both spoken; Alice is the one to speak.
pub(crate) fn settled(seed: u64) -> (End, End) {
    let (mut a, mut b) = paired(seed);
    let reply = b.seal(b"hello");
    a.open(&reply).unwrap();
    (a, b)
}

/// A header as the sender would write it next, from its stored state.
pub(crate) fn header(sender: &End) -> FrameHeader {
    let state = sender.stored();
    let bytes = |at: usize| Bytes(state[at..at + 32].try_into().unwrap());
    FrameHeader {
        version: FRAME_VERSION,
        suite: SUITE,
        session: Bytes(state[SESSION_ID..SESSION_ID + 16].try_into().unwrap()),
        ratchet_key: bytes(PUBLIC),
        pn: u32::from_le_bytes(state[N + 4..N + 8].try_into().unwrap()),
        n: u32::from_le_bytes(state[N..N + 4].try_into().unwrap()),
        extension: heapless::Vec::new(),
    }
}

/// A frame as a sender that holds the chain key, but does not keep to the rules, would seal it.
pub(crate) fn forge(sender: &End, header: &FrameHeader, padded: &[u8]) -> Vec<u8> {
    let state = sender.stored();
    let chain_key = state[CHAIN_KEY..CHAIN_KEY + 32].try_into().unwrap();
    let message_key = mac::hmac_sha256(chain_key, &[label::MESSAGE_KEY.as_bytes()]);
    let message_id = [0xa5; 16];
    let key: SivKey = kdf::hkdf(&message_id, &[&message_key], label::MESSAGE_SIV);
    let header_bytes = codec::encode_vec::<_, 128>(header).unwrap();
    let ad = [&header.session.0[..], &header_bytes, &message_id].concat();
    let mut ciphertext = padded.to_vec();
    let tag = key.seal_in_place(&[&ad], &mut ciphertext);
    [&header_bytes, &message_id[..], &tag, &ciphertext].concat()
}

/// Opens a bare frame without committing; the state must stay as it is.
pub(crate) fn peek(end: &mut End, frame: &[u8]) -> Result<Vec<u8>, Error> {
    let before = end.stored();
    let mut plain = Plaintext::new();
    let result = end.session.open(&mut end.next, frame, &mut plain);
    assert_eq!(end.stored(), before);
    result.map(|_| plain.to_vec())
}

#[test]
fn contents_of_every_length_arrive() {
    let (mut a, mut b) = settled(50);
    let text = [0x61; MAX_CONTENT];
    for len in [
        0,
        1,
        61,
        62,
        63,
        64,
        500,
        1000,
        4000,
        MAX_CONTENT - 1,
        MAX_CONTENT,
    ] {
        let frame = a.seal(&text[..len]);
        assert_eq!(b.open(&frame).unwrap(), &text[..len]);
    }
    let before = a.stored();
    let mut out = EnvelopeBytes::new();
    let refused = a.session.seal(&[0; MAX_CONTENT + 1], &mut a.rng, &mut out);
    assert_eq!(refused, Err(Error::Limit(Limit::TooLong)));
    assert_eq!(a.stored(), before);
    assert!(out.is_empty());
}

#[test]
fn short_contents_look_alike() {
    let (mut a, _) = settled(51);
    let empty = a.seal(b"").len();
    assert!((1..=62).all(|len| a.seal(&vec![0; len]).len() == empty));
    assert!(a.seal(&[0; 63]).len() > empty);
}

#[test]
fn every_stored_frame_is_refused_after_every_step() {
    let (mut a, mut b) = paired(52);
    let mut opened_by_a = Vec::new();
    let mut opened_by_b = Vec::new();
    for step in 0..60u8 {
        // A pattern with changes of direction, runs of several messages, and one that comes late.
        let from_a = step % 7 < 4;
        let (sender, receiver, log) = if from_a {
            (&mut a, &mut b, &mut opened_by_b)
        } else {
            (&mut b, &mut a, &mut opened_by_a)
        };
        let first = sender.seal(&[step, 1]);
        let second = sender.seal(&[step, 2]);
        for (frame, number) in [(second, 2), (first, 1)] {
            assert_eq!(receiver.open(&frame).unwrap(), [step, number]);
            log.push(frame);
        }
        for (end, replayed) in [(&mut a, &opened_by_a), (&mut b, &opened_by_b)] {
            for frame in replayed {
                let refused = end.peek(frame).unwrap_err();
                assert!(
                    matches!(
                        refused,
                        Error::Limit(Limit::Replayed)
                            | Error::Authentication
                            | Error::PeerMisbehaved(Peer::NoRatchetKey)
                    ),
                    "{refused:?}"
                );
            }
        }
    }
}

#[test]
fn own_frames_are_refused() {
    let (mut a, mut b) = paired(53);
    let reflected = a.seal(b"mine");
    assert_eq!(
        a.open(&reflected),
        Err(Error::PeerMisbehaved(Peer::Reflected))
    );
    let of_b = b.seal(b"mine");
    assert_eq!(b.open(&of_b), Err(Error::PeerMisbehaved(Peer::Reflected)));
    // Later, when the ratchet key is another one.
    a.open(&of_b).unwrap();
    assert_eq!(
        a.open(&reflected),
        Err(Error::PeerMisbehaved(Peer::NoRatchetKey))
    );
    let more = a.seal(b"more");
    assert_eq!(a.open(&reflected), Err(Error::Authentication));
    assert_eq!(b.open(&more).unwrap(), b"more");
    let again = b.seal(b"again");
    assert_eq!(b.open(&of_b), Err(Error::Authentication));
    assert_eq!(a.open(&again).unwrap(), b"again");
}

#[test]
fn initiator_without_a_receiving_chain_refuses_what_carries_no_new_ratchet_key() {
    // S&P 2026, attack a: on an empty chain a message without a new key must not open.
    for (mut a, mut b) in [paired(54), begun(54, true), begun(54, false)] {
        let own = a.seal(b"x");
        assert_eq!(a.open(&own), Err(Error::PeerMisbehaved(Peer::Reflected)));
        let reply = b.seal(b"reply");
        let Frame { header, .. } = Frame::parse(frame_of(&reply)).unwrap();
        let rest = &frame_of(&reply)[codec::encode_vec::<_, 128>(&header).unwrap().len()..];
        let with_key = |key: [u8; 32]| {
            let mut header = header.clone();
            header.ratchet_key = Bytes(key);
            let mut frame = codec::encode_vec::<_, 128>(&header).unwrap().to_vec();
            frame.extend_from_slice(rest);
            frame
        };
        let own_key = Frame::parse(frame_of(&own)).unwrap().header.ratchet_key.0;
        assert_eq!(
            peek(&mut a, &with_key(own_key)),
            Err(Error::PeerMisbehaved(Peer::Reflected))
        );
        let mut one = [0; 32];
        one[0] = 1;
        for small_order in [[0; 32], one] {
            let refused = peek(&mut a, &with_key(small_order));
            assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::AllZeroShared)));
        }
        assert_eq!(peek(&mut a, &with_key([9; 32])), Err(Error::Authentication));
        assert_eq!(a.open(&reply).unwrap(), b"reply");
    }
}

#[test]
fn fresh_responder_opens_nothing_but_the_chain_that_made_it() {
    let (mut a, mut b) = paired(55);
    let next = a.seal(b"next");
    let Frame { mut header, .. } = Frame::parse(frame_of(&next)).unwrap();
    header.ratchet_key.0[31] ^= 1;
    let mut frame = codec::encode_vec::<_, 128>(&header).unwrap().to_vec();
    let at = frame.len();
    frame.extend_from_slice(&frame_of(&next)[at..]);
    assert_eq!(
        peek(&mut b, &frame),
        Err(Error::PeerMisbehaved(Peer::NoRatchetKey))
    );
    assert_eq!(b.open(&next).unwrap(), b"next");
}

#[test]
fn responder_is_not_made_from_a_ratchet_key_of_small_order() {
    use crate::support::{Run, alice_and_bob, code, run};
    let (mut alice, mut bob) = alice_and_bob(56);
    let Run {
        initiator,
        pending,
        answer,
        ..
    } = run(&mut alice, &mut bob, &code());
    let mut a = End::new(alice.rng);
    initiator
        .confirm(&alice.keys, &answer, &mut a.session, &mut a.rng)
        .unwrap();
    let mut header = header(&a);
    header.ratchet_key = Bytes([0; 32]);
    let padded = [0; 64];
    let frame = forge(&a, &header, &padded);
    let third = a.seal(b"honest");
    let (confirm, honest) = confirmed(&third);
    let (mut session, mut plain) = (Session::empty(), Plaintext::new());
    let refused = pending.open(&confirm, &frame, &mut session, &mut plain);
    assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::AllZeroShared)));
    assert!(session.is_empty() && plain.is_empty());
    assert!(
        pending
            .open(&confirm, honest, &mut session, &mut plain)
            .is_ok()
    );
}

#[test]
fn jumps_beyond_the_bound_are_refused_before_any_work() {
    let (mut a, mut b) = settled(57);
    b.open(&a.seal(b"x")).unwrap();
    let at = header(&a).n;
    for (n, reason) in [
        (at, Error::Authentication),
        (at + MAX_JUMP, Error::Authentication),
        (at + MAX_JUMP + 1, Error::Limit(Limit::SkipTooFar)),
        (u32::MAX - 1, Error::Limit(Limit::SkipTooFar)),
        (u32::MAX, Error::Limit(Limit::SkipTooFar)),
        (0, Error::Limit(Limit::Replayed)),
    ] {
        let mut header = header(&a);
        header.n = n;
        let mut frame = forge(&a, &header, &[0; 64]);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert_eq!(peek(&mut b, &frame), Err(reason), "n = {n}");
    }

    // A new ratchet key with a huge pn or n. (Bob has to have spoken last.)
    b.seal(b"y");
    let previous = header(&a).n;
    for (pn, n, reason) in [
        (previous, 0, Error::Authentication),
        (0, 0, Error::Authentication),
        (previous + MAX_JUMP, MAX_JUMP, Error::Authentication),
        // Whatever an unauthenticated header says of the chain before, it is no reason to refuse.
        (previous + MAX_JUMP + 1, 0, Error::Authentication),
        (u32::MAX, MAX_JUMP, Error::Authentication),
        (previous, MAX_JUMP + 1, Error::Limit(Limit::SkipTooFar)),
        (u32::MAX, MAX_JUMP + 1, Error::Limit(Limit::SkipTooFar)),
        (0, u32::MAX, Error::Limit(Limit::SkipTooFar)),
    ] {
        let mut header = header(&a);
        header.ratchet_key = Bytes([9; 32]);
        (header.pn, header.n) = (pn, n);
        assert_eq!(
            peek(&mut b, &forge(&a, &header, &[0; 64])),
            Err(reason),
            "pn = {pn}, n = {n}"
        );
        if reason != Error::Authentication {
            // The bound comes before the step, which would refuse this key.
            header.ratchet_key = Bytes([0; 32]);
            let refused = peek(&mut b, &forge(&a, &header, &[0; 64]));
            assert_eq!(refused, Err(reason), "pn = {pn}, n = {n}");
        }
    }
}

#[test]
fn longest_jump_opens_and_the_newest_256_keys_are_kept() {
    let (mut a, mut b) = settled(58);
    let sent: Vec<_> = (0..=MAX_JUMP).map(|n| a.seal(&n.to_le_bytes())).collect();
    let count = u32::try_from(MAX_SKIPPED).unwrap();
    assert_eq!(
        b.open(&sent[sent.len() - 1]).unwrap(),
        MAX_JUMP.to_le_bytes()
    );
    assert_eq!(b.session.skipped(), MAX_SKIPPED);
    for n in (0..MAX_JUMP)
        .step_by(50)
        .chain(MAX_JUMP - count - 2..MAX_JUMP)
    {
        let result = b.open(&sent[usize::try_from(n).unwrap()]);
        if n < MAX_JUMP - count {
            assert_eq!(result, Err(Error::Limit(Limit::Replayed)), "{n}");
        } else {
            match result {
                Ok(content) => assert_eq!(content, n.to_le_bytes()),
                // Opened in the coarse walk already.
                Err(error) => assert!(
                    n % 50 == 0 && error == Error::Limit(Limit::Replayed),
                    "{n} {error:?}"
                ),
            }
        }
    }
    assert_eq!(b.session.skipped(), 0);

    // One message further than the longest jump this chain is lost; the next one is not (skipped.rs).
    for _ in 0..=MAX_JUMP {
        a.seal(b"lost");
    }
    let beyond = a.seal(b"beyond");
    assert_eq!(b.open(&beyond), Err(Error::Limit(Limit::SkipTooFar)));
}

#[test]
fn oldest_skipped_keys_make_room_across_chains() {
    let (mut a, mut b) = settled(59);
    // 200 lost messages in one chain, 100 in the next: the oldest 44 of the first go.
    let old: Vec<_> = (0..200u8).map(|i| a.seal(&[1, i])).collect();
    b.open(&a.seal(b"")).unwrap();
    a.open(&b.seal(b"")).unwrap();
    let new: Vec<_> = (0..100u8).map(|i| a.seal(&[2, i])).collect();
    b.open(&a.seal(b"")).unwrap();
    assert_eq!(b.session.skipped(), MAX_SKIPPED);
    for (i, frame) in old.iter().enumerate() {
        assert_eq!(b.open(frame).is_ok(), i >= 44, "{i}");
    }
    assert!(new.iter().all(|frame| b.open(frame).is_ok()));
}

#[test]
fn frame_tells_how_many_messages_are_missing_before_it() {
    let (mut a, mut b) = paired(70);
    assert!(b.session.reply_due() && !a.session.reply_due());
    let missing = |end: &mut End, envelope: &[u8]| {
        let opened = end
            .session
            .open(&mut end.next, frame_of(envelope), &mut Plaintext::new())
            .unwrap();
        core::mem::swap(&mut end.session, &mut end.next);
        opened.missing
    };
    let frames: Vec<_> = (0..10).map(|_| a.seal(b"x")).collect();
    assert_eq!(missing(&mut b, &frames[0]), 0);
    assert_eq!(missing(&mut b, &frames[5]), 4);
    assert_eq!(missing(&mut b, &frames[2]), 0);
    assert!(b.session.reply_due());
    let reply = b.seal(b"reply");
    assert!(!b.session.reply_due());
    assert_eq!(missing(&mut a, &reply), 0);
    a.seal(b"lost");
    // Four of the chain before, one of the new one.
    assert_eq!(missing(&mut b, &a.seal(b"y")), 5);
    assert!(!a.session.reply_due() && !b.session.reply_due());
}

#[test]
fn messages_of_the_previous_chain_that_come_after_the_turn_open() {
    let (mut a, mut b) = settled(60);
    let late: Vec<_> = (0..3u8).map(|i| a.seal(&[i])).collect();
    b.open(&late[0]).unwrap();
    a.open(&b.seal(b"turn")).unwrap();
    let newer = a.seal(b"newer");
    assert_eq!(b.open(&newer).unwrap(), b"newer");
    assert_eq!(b.open(&late[2]).unwrap(), [2]);
    assert_eq!(b.open(&late[1]).unwrap(), [1]);
    assert!(b.open(&late[1]).is_err());
}

#[test]
fn any_altered_byte_of_a_frame_is_refused() {
    let (mut a, mut b) = settled(61);
    let late = a.seal(b"late");
    b.open(&a.seal(b"x")).unwrap();
    let current = a.seal(b"current");
    a.open(&b.seal(b"turn")).unwrap();
    let turning = a.seal(b"turning");
    // By a skipped key, on the current chain, and with a new ratchet key.
    for (envelope, content) in [
        (late, &b"late"[..]),
        (current, b"current"),
        (turning, b"turning"),
    ] {
        let frame = frame_of(&envelope);
        for at in 0..frame.len() {
            let mut altered = frame.to_vec();
            altered[at] ^= 1 << (at % 8);
            assert!(peek(&mut b, &altered).is_err(), "byte {at}");
            assert!(peek(&mut b, &frame[..at]).is_err(), "{at} bytes");
        }
        let mut longer = frame.to_vec();
        longer.push(0);
        assert!(peek(&mut b, &longer).is_err());
        assert_eq!(b.open(&envelope).unwrap(), content);
    }
}

#[test]
fn foreign_versions_suites_extensions_and_sessions_are_refused() {
    let (mut a, mut b) = settled(62);
    b.open(&a.seal(b"x")).unwrap();
    let good = header(&a);
    let open = |b: &mut End, change: &dyn Fn(&mut FrameHeader)| {
        let mut header = good.clone();
        change(&mut header);
        peek(b, &forge(&a, &header, &[0; 64])).unwrap_err()
    };
    assert_eq!(
        open(&mut b, &|header| header.version = 2),
        Error::Decode(Decode::Version)
    );
    assert_eq!(
        open(&mut b, &|header| header.suite = 2),
        Error::Decode(Decode::Suite)
    );
    let extended = open(&mut b, &|header| header.extension.push(0).unwrap());
    assert_eq!(extended, Error::Decode(Decode::Malformed));
    let foreign = open(&mut b, &|header| header.session.0[0] ^= 1);
    assert_eq!(foreign, Error::PeerMisbehaved(Peer::Unknown));
    assert_eq!(peek(&mut b, &forge(&a, &good, &[0; 64])).unwrap(), b"");
    let (mut other, _) = settled(63);
    let frame = a.seal(b"x");
    assert_eq!(
        other.open(&frame),
        Err(Error::PeerMisbehaved(Peer::Unknown))
    );
}

#[test]
fn bad_padding_of_an_authentic_peer_is_refused() {
    let (mut a, mut b) = settled(64);
    b.open(&a.seal(b"x")).unwrap();
    let header = header(&a);
    let mut good = [0; 64];
    good[..5].copy_from_slice(b"\x03\x00abc");
    assert_eq!(peek(&mut b, &forge(&a, &header, &good)).unwrap(), b"abc");
    for at in 5..64 {
        let mut bad = good;
        bad[at] = 1;
        let refused = peek(&mut b, &forge(&a, &header, &bad));
        assert_eq!(refused, Err(Error::PeerMisbehaved(Peer::BadPadding)));
    }
    for (padded, reason) in [
        (&[][..], Error::Decode(Decode::Truncated)),
        (&[0], Error::Decode(Decode::Truncated)),
        (&[9, 0, 1], Error::Decode(Decode::Truncated)),
        (&good[..63], Error::PeerMisbehaved(Peer::BadPadding)),
        (&[0; 72], Error::PeerMisbehaved(Peer::BadPadding)),
        (&[0xff; MAX_PADDED], Error::Decode(Decode::TooLong)),
    ] {
        assert_eq!(peek(&mut b, &forge(&a, &header, padded)), Err(reason));
    }
}

#[test]
fn counters_do_not_wrap() {
    let (mut a, mut b) = settled(65);
    b.open(&a.seal(b"x")).unwrap();
    // Alice at the last number but one, Bob expecting it.
    let mut state = a.stored();
    state[N..N + 4].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    a.session.load(&state).unwrap();
    let mut state = b.stored();
    // Bob waits: version, id, root, tag and pn come before the receiving chain and its key.
    let at = 49 + 5 + 1 + 32 + 32;
    state[at..at + 4].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    b.session.load(&state).unwrap();

    let last = a.seal(b"last");
    assert_eq!(b.open(&last).unwrap(), b"last");
    let before = a.stored();
    let mut out = EnvelopeBytes::new();
    let refused = a.session.seal(b"one more", &mut a.rng, &mut out);
    assert_eq!(refused, Err(Error::Limit(Limit::CounterEnd)));
    assert_eq!(a.stored(), before);

    // A frame with the number that does not exist is refused as well.
    let mut header = header(&a);
    header.n = u32::MAX;
    let refused = peek(&mut b, &forge(&a, &header, &[0; 64]));
    assert_eq!(refused, Err(Error::Limit(Limit::CounterEnd)));
    // The next change of direction goes on.
    a.open(&b.seal(b"turn")).unwrap();
    assert_eq!(b.open(&a.seal(b"on")).unwrap(), b"on");
}

#[test]
fn empty_session_neither_seals_nor_opens_nor_is_stored() {
    let (mut a, _) = settled(68);
    let frame = a.seal(b"x");
    let mut empty = End::new(a.rng.clone());
    let (mut out, mut plain) = (EnvelopeBytes::new(), Plaintext::new());
    let misuse = Error::ApiMisuse(Misuse::WrongState);
    assert_eq!(
        empty.session.seal(b"x", &mut empty.rng, &mut out),
        Err(misuse)
    );
    assert_eq!(
        empty
            .session
            .open(&mut empty.next, frame_of(&frame), &mut plain),
        Err(misuse)
    );
    assert_eq!(empty.session.store(&mut [0; 20_000]), Err(misuse));
    a.session.clear();
    assert!(a.session.is_empty());
    assert_eq!(a.session.seal(b"x", &mut a.rng, &mut out), Err(misuse));
}
