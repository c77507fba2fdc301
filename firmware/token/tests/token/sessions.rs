//! The two sessions of a contact: which one the next seal takes, which one goes, and what a forger can do to them.

use alloc::vec::Vec;

use hostchat_core::icd::{Command, OpenedKind, SessionInfo, TokenError};
use hostchat_core::wire::{Bytes, Envelope, Frame, MAX_ENVELOPE, codec};

use super::support::{
    Person, begin, exchange, failed, generation, pair_up_to_message_3, paired, session_of, two,
};

/// What a listing says besides the id: own, answered, superseded, current.
fn shape(sessions: &[SessionInfo]) -> Vec<(bool, bool, bool, bool)> {
    let shape = |s: &SessionInfo| (s.own, s.answered, s.superseded, s.current);
    sessions.iter().map(shape).collect()
}

/// Alice and Bob after both have begun a session with the other; the two first frames.
fn crossing() -> (Person, Person, Vec<u8>, Vec<u8>) {
    let (mut a, mut b) = two();
    let (of_a, of_b) = (a.bundle(true), b.bundle(true));
    a.start(&b.address, &of_b, false).unwrap();
    b.start(&a.address, &of_a, false).unwrap();
    let from_a = a.seal(&b.address, b"a1").unwrap();
    let from_b = b.seal(&a.address, b"b1").unwrap();
    (a, b, from_a, from_b)
}

#[cfg_attr(test, test)]
pub(crate) fn a_superseded_session_opens_what_arrives_and_is_never_current_again() {
    let (mut a, mut b) = paired();
    let old = a.current(&b.address).unwrap();
    let late: Vec<_> = (0..3u8)
        .map(|n| a.seal(&b.address, &[n]).unwrap())
        .collect();
    let first = begin(&mut b, &mut a, true, b"new");
    let new = session_of(&first);
    assert_eq!(
        shape(&b.sessions(&a.address)),
        [(false, true, true, false), (true, false, false, true)],
        "by birth; the new one without an answer is current"
    );
    b.read(&late[0]).unwrap();
    assert_eq!(session_of(&b.seal(&a.address, b"x").unwrap()), new);
    a.read(&first).unwrap();
    b.read(&late[1]).unwrap();
    assert_eq!(session_of(&b.seal(&a.address, b"y").unwrap()), new);
    assert_eq!(session_of(&a.seal(&b.address, b"z").unwrap()), new);
    b.restart();
    assert_eq!(b.read(&late[2]).unwrap().kind, OpenedKind::Message);
    assert_eq!(b.current(&a.address), Some(new));
    assert_eq!(b.find(old).unwrap().session, new);
    exchange(&mut a, &mut b, b"on");
}

#[cfg_attr(test, test)]
pub(crate) fn an_own_session_without_an_answer_crosses_one_that_comes_in_and_both_take_the_smaller_id()
 {
    let (mut a, mut b, from_a, from_b) = crossing();
    let (own, incoming) = (session_of(&from_a), session_of(&from_b));
    a.read(&from_b).unwrap();
    assert_eq!(
        shape(&a.sessions(&b.address)),
        [(true, false, false, false), (false, true, false, true)],
        "the own one is live; Bob has answered only in his"
    );
    // Each has an answer only in the other's, until the other answers there.
    b.read(&from_a).unwrap();
    assert_eq!(b.current(&a.address), Some(own));
    let smaller = core::cmp::min(own, incoming);
    let to_b = a.seal(&b.address, b"in yours").unwrap();
    let to_a = b.seal(&a.address, b"in yours").unwrap();
    a.read(&to_a).unwrap();
    b.read(&to_b).unwrap();
    for _ in 0..3 {
        assert_eq!(a.current(&b.address), Some(smaller));
        assert_eq!(b.current(&a.address), Some(smaller));
        exchange(&mut a, &mut b, b"on");
        exchange(&mut b, &mut a, b"on");
    }
    a.restart();
    assert_eq!(a.current(&b.address), Some(smaller));
}

#[cfg_attr(test, test)]
pub(crate) fn a_crossing_session_that_comes_after_its_answer_leaves_both_readable() {
    // A relay holds Alice's first frame back until Bob has her answer in his session: for him hers is a renewal.
    let (mut a, mut b, from_a, from_b) = crossing();
    a.read(&from_b).unwrap();
    exchange(&mut a, &mut b, b"in yours");
    b.read(&from_a).unwrap();
    assert_eq!(b.current(&a.address), Some(session_of(&from_a)));
    for round in 0..4u8 {
        exchange(&mut b, &mut a, &[round]);
        exchange(&mut a, &mut b, &[round]);
    }
}

#[cfg_attr(test, test)]
pub(crate) fn crossing_sessions_end_in_one_whatever_comes_first() {
    for schedule in 0..64u32 {
        let (mut a, mut b, from_a, from_b) = crossing();
        let (mut to_a, mut to_b) = (alloc::vec![from_b], alloc::vec![from_a]);
        for step in 0..6 {
            let side = schedule >> step & 1 == 0;
            let (who, other, inbox, outbox) = if side {
                (&mut a, &mut b, &mut to_a, &mut to_b)
            } else {
                (&mut b, &mut a, &mut to_b, &mut to_a)
            };
            if !inbox.is_empty() {
                who.read(&inbox.remove(0)).unwrap();
            }
            outbox.push(who.seal(&other.address, b"x").unwrap());
        }
        to_a.iter().for_each(|frame| drop(a.read(frame).unwrap()));
        to_b.iter().for_each(|frame| drop(b.read(frame).unwrap()));
        for _ in 0..2 {
            exchange(&mut a, &mut b, b"on");
            exchange(&mut b, &mut a, b"on");
        }
        let current = a.current(&b.address);
        assert_eq!(current, b.current(&a.address), "schedule {schedule}");
        let sessions = a.sessions(&b.address);
        assert!(sessions.iter().all(|session| !session.superseded));
    }
}

#[cfg_attr(test, test)]
pub(crate) fn an_own_session_that_was_answered_is_superseded_by_one_that_comes_in() {
    let (mut a, mut b) = two();
    let first = begin(&mut a, &mut b, true, b"one");
    b.read(&first).unwrap();
    exchange(&mut b, &mut a, b"answer");
    let first = begin(&mut b, &mut a, true, b"two");
    a.read(&first).unwrap();
    assert_eq!(
        shape(&a.sessions(&b.address)),
        [(true, true, true, false), (false, true, false, true)]
    );
}

#[cfg_attr(test, test)]
pub(crate) fn an_own_session_without_an_answer_goes_before_the_last_one_that_was_answered() {
    let (mut a, mut b) = paired();
    let answered = a.current(&b.address).unwrap();
    let late = b.seal(&a.address, b"late").unwrap();
    for round in 0..4 {
        begin(&mut a, &mut b, round % 2 == 0, b"nobody answers");
        let sessions = a.sessions(&b.address);
        assert_eq!(sessions[0].session, answered, "round {round}");
        assert_eq!(
            shape(&sessions),
            [(true, true, true, false), (true, false, false, true)]
        );
    }
    assert_eq!(a.read(&late).unwrap().content, b"late");
    // Then one is answered, and the other goes before it.
    let first = begin(&mut a, &mut b, true, b"hello?");
    b.read(&first).unwrap();
    exchange(&mut b, &mut a, b"here");
    let next = a.current(&b.address).unwrap();
    begin(&mut a, &mut b, true, b"again");
    let sessions = a.sessions(&b.address);
    assert_eq!(sessions[0].session, next);
    assert!(a.find(answered).is_none());
}

#[cfg_attr(test, test)]
pub(crate) fn a_session_that_comes_in_takes_the_place_of_the_superseded_one() {
    let (mut a, mut b) = paired();
    let own = session_of(&begin(&mut a, &mut b, true, b"on its way"));
    let first = begin(&mut b, &mut a, true, b"crossing");
    a.read(&first).unwrap();
    let left: Vec<_> = a.sessions(&b.address).iter().map(|s| s.session).collect();
    assert_eq!(
        left,
        [own, session_of(&first)],
        "the paired one went, not the own one that crosses"
    );
}

#[cfg_attr(test, test)]
pub(crate) fn frames_that_do_not_open_evict_nothing_and_spend_nothing() {
    let (mut a, mut b) = paired();
    let first = begin(&mut b, &mut a, true, b"second session");
    a.read(&first).unwrap();
    let in_flight = b.seal(&a.address, b"in flight").unwrap();
    a.bundle(true);
    let (sessions, prekeys) = (a.sessions(&b.address), a.prekeys());
    let before = a.bench.flash.snapshot().dump().to_vec();

    // What stands in clear in a genuine frame, with another number, and bytes of the forger's own.
    let envelope = codec::decode::<Envelope<'_>>(&in_flight).unwrap();
    let genuine = Frame::parse(envelope.frame().unwrap()).unwrap();
    let forge = |change: &dyn Fn(&mut hostchat_core::wire::FrameHeader)| {
        let mut header = genuine.header.clone();
        change(&mut header);
        let mut frame = codec::encode_vec::<_, 128>(&header).unwrap().to_vec();
        frame.extend_from_slice(&[0xEE; 16 + 16 + 64]);
        let message = Envelope::Message { frame: &frame };
        codec::encode_vec::<_, MAX_ENVELOPE>(&message)
            .unwrap()
            .to_vec()
    };
    for (what, forged) in [
        ("n = 5000", forge(&|header| header.n = 5000)),
        ("n = 1999", forge(&|header| header.n = 1999)),
        ("the same n", forge(&|_| ())),
        (
            "another ratchet key",
            forge(&|header| (header.ratchet_key, header.pn) = (Bytes([9; 32]), 4_000_000_000)),
        ),
        (
            "an unknown session",
            forge(&|header| header.session = Bytes([7; 16])),
        ),
    ] {
        for _ in 0..3 {
            assert!(a.open(&forged, false).is_err(), "{what}");
            assert_eq!(
                a.commit(Bytes([0; 32])),
                failed(TokenError::NothingToCommit)
            );
        }
    }
    // A first message under Bob's identity, with a key that he never drew.
    let bundle = a.bundle(true);
    let before = if a.bench.flash.snapshot().dump() == before {
        before
    } else {
        a.bench.flash.snapshot().dump().to_vec()
    };
    let mut eve = b.fork();
    eve.start(&a.address, &bundle, false).unwrap();
    let mut forged = eve.seal(&a.address, b"forged").unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(a.open(&forged, false), failed(TokenError::Authentication));

    assert_eq!(a.bench.flash.snapshot().dump(), before, "nothing written");
    assert_eq!(a.sessions(&b.address), sessions);
    assert_eq!(a.prekeys().0.len(), prekeys.0.len() + 1);
    assert_eq!(a.read(&in_flight).unwrap().content, b"in flight");
}

#[cfg_attr(test, test)]
pub(crate) fn sessions_are_listed_and_found_also_when_there_are_none() {
    let (mut a, mut b) = two();
    assert_eq!(a.sessions(&b.address), []);
    assert_eq!(a.find(Bytes([3; 16])), None);
    let hello = pair_up_to_message_3(&mut a, &mut b);
    let session = session_of(&hello);
    assert_eq!(shape(&a.sessions(&b.address)), [(true, false, false, true)]);
    assert_eq!(b.find(session), None, "not before the commit");
    b.read(&hello).unwrap();
    assert_eq!(shape(&b.sessions(&a.address)), [(false, true, false, true)]);
    let found = b.find(session).unwrap();
    assert_eq!(
        (found.address, found.identity, found.verified),
        (a.address.clone(), a.identity(), true)
    );
    assert_eq!((found.session, found.sessions), (session, 1));
    exchange(&mut b, &mut a, b"answer");
    a.restart();
    assert_eq!(shape(&a.sessions(&b.address)), [(true, true, false, true)]);
}

#[cfg_attr(test, test)]
pub(crate) fn without_a_live_session_a_seal_is_refused_and_frames_still_open() {
    let (mut a, mut b) = paired();
    let late = [b"one", b"two"].map(|content| b.seal(&a.address, content).unwrap());
    let old = a.current(&b.address).unwrap();
    a.adopt(1, true);
    assert_eq!(a.seal(&b.address, b"x"), failed(TokenError::NoLiveSession));
    assert_eq!(shape(&a.sessions(&b.address)), [(true, true, true, false)]);
    assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);
    assert_eq!(a.find(old).unwrap().session, old);
    a.read(&late[0]).unwrap();
    assert_eq!(a.seal(&b.address, b"x"), failed(TokenError::NoLiveSession));
    a.restart();
    assert_eq!(a.seal(&b.address, b"x"), failed(TokenError::NoLiveSession));
    assert_eq!(
        a.seal(&a.address.clone(), b"x"),
        failed(TokenError::UnknownContact)
    );
    // An own new session is live, and so is one that comes in; the floor does not move by itself.
    let mut other = a.fork();
    let first = begin(&mut a, &mut b, true, b"renewed");
    assert_eq!(a.current(&b.address), Some(session_of(&first)));
    b.read(&first).unwrap();
    exchange(&mut b, &mut a, b"on");
    a.restart();
    exchange(&mut a, &mut b, b"after a restart");
    assert_eq!(a.read(&late[1]).unwrap().content, b"two");
    let mut bob = b.fork();
    let first = begin(&mut bob, &mut other, true, b"renewed by bob");
    other.read(&first).unwrap();
    exchange(&mut other, &mut bob, b"answer");
}

#[cfg_attr(test, test)]
pub(crate) fn births_go_on_above_the_floor_after_every_session_is_gone() {
    let (mut a, mut b) = paired();
    a.adopt(1, true);
    a.bench
        .done(&Command::Forget {
            peer: b.address.clone(),
        })
        .unwrap();
    a.restart();
    let first = begin(&mut b, &mut a, true, b"from the start");
    a.read(&first).unwrap();
    exchange(&mut a, &mut b, b"live");
    assert_eq!(a.generations().current, generation(1));
}
