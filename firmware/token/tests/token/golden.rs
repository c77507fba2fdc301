//! Flash images of earlier versions open, and what is on them goes on working.

use alloc::format;
use alloc::vec::Vec;

use hostchat_core::icd::{Command, TokenError};
use hostchat_core::wire::Generation;
use hostchat_token::testing::{Bench, RamFlash, TestEnv};

use super::read;
use super::support::{PIN, Person, address, begin, exchange, failed, generation, session_of};

/// Pages of the images of the format that is written now; those of format 1 have 16.
pub(crate) const PAGES: usize = 24;
const PAGE: usize = 4096;

fn image(version: u32, name: &str) -> Vec<u8> {
    read(&format!(
        "firmware/token/tests/golden/v{version}-{name}.flash"
    ))
}

fn load(version: u32, name: &str) -> Person {
    let mut image = image(version, name);
    // Trailing blank flash is not stored.
    let pages = if version == 1 { 16 } else { PAGES };
    image.resize(pages * PAGE, 0xFF);
    let mut bench = Bench::new(
        RamFlash::from_image(&image),
        // Two that drew the same would take each other's frames for their own.
        TestEnv::new(7000 + 10 * u64::from(version) + name.len() as u64),
    );
    bench.unlock(PIN).unwrap();
    Person {
        bench,
        address: address(name),
    }
}

#[cfg_attr(test, test)]
pub(crate) fn images_of_format_1_open_and_go_on() {
    let used = image(1, "used-first-message");
    let (mut alice, mut bob) = (load(1, "alice"), load(1, "bob"));
    // There were no generations, and nothing is missed.
    for person in [&mut alice, &mut bob] {
        let generations = person.generations();
        assert_eq!(
            (generations.current, generations.sessions_lost),
            (Generation::NONE, 0)
        );
    }
    // The one showed the code and was answered; the other typed it.
    let [of_alice] = alice.sessions(&bob.address)[..] else {
        panic!("not one session")
    };
    assert!(of_alice.own && of_alice.answered && !of_alice.superseded && of_alice.current);
    for peer in ["alice", "carol", "dave"] {
        let [of_bob] = bob.sessions(&address(peer))[..] else {
            panic!("not one session")
        };
        assert!(!of_bob.own && of_bob.answered && !of_bob.superseded && of_bob.current);
    }
    let stock = bob.prekeys();
    assert_eq!((stock.0.len(), stock.1.len()), (1, 3));
    assert_eq!(alice.contacts(), [(bob.address.clone(), true, 1)]);
    let mut contacts = bob.contacts();
    contacts.sort();
    let expected = [
        (address("alice"), true, 1),
        (address("carol"), false, 1),
        (address("dave"), false, 1),
    ];
    assert_eq!(contacts, expected);
    let status = bob.status();
    assert_eq!(
        (status.sessions, status.one_time_prekeys, status.pending),
        (3, 1, 1)
    );
    assert_eq!(bob.open(&used, false), failed(TokenError::Replayed));
    exchange(&mut alice, &mut bob, b"years later");
    exchange(&mut bob, &mut alice, b"still the same key");
    let mut stranger = Person::new("stranger", 5);
    let bundle = bob.bundle(true);
    stranger.start(&bob.address, &bundle, false).unwrap();
    exchange(&mut stranger, &mut bob, b"new here");
    bob.restart();
    assert_eq!(bob.contacts().len(), 4);
    assert_eq!(bob.generations().sessions_lost, 0);
    // What format 1 had is superseded like anything else, and a new session goes on.
    bob.adopt(1, true);
    assert_eq!(
        bob.seal(&alice.address, b"x"),
        failed(TokenError::NoLiveSession)
    );
    let renewed = begin(&mut alice, &mut bob, true, b"renewed");
    bob.read(&renewed).unwrap();
    exchange(&mut bob, &mut alice, b"on");
    assert_eq!(alice.sessions(&bob.address).len(), 2);
}

#[cfg_attr(test, test)]
pub(crate) fn images_of_format_2_open_and_go_on() {
    let frame = |name| image(2, name);
    let (mut alice, mut bob) = (load(2, "alice"), load(2, "bob"));
    let generations = bob.generations();
    assert_eq!(generations.current, generation(3));
    assert_eq!(
        (generations.next, generations.sessions_lost),
        (Some(generation(4)), 0)
    );
    let shape = |person: &mut Person, peer: &str| -> Vec<_> {
        let sessions = person.sessions(&address(peer));
        let shape =
            |s: &hostchat_core::icd::SessionInfo| (s.own, s.answered, s.superseded, s.current);
        sessions.iter().map(shape).collect()
    };
    // Alice: her own session on its way, crossed by Bob's. Bob: the paired session below the floor, and his own.
    assert_eq!(
        shape(&mut alice, "bob"),
        [(true, false, false, false), (false, true, false, true)]
    );
    assert_eq!(
        shape(&mut bob, "alice"),
        [(false, true, true, false), (true, false, false, true)]
    );
    assert_eq!(
        shape(&mut bob, "dave"),
        [(false, true, true, false), (true, false, false, true)]
    );
    assert_eq!(shape(&mut bob, "carol"), [(false, true, true, false)]);
    assert_eq!(
        bob.seal(&address("carol"), b"x"),
        failed(TokenError::NoLiveSession)
    );
    assert_eq!(
        bob.open(&frame("used-first-message"), false),
        failed(TokenError::Replayed)
    );
    assert_eq!(bob.read(&frame("late-frame")).unwrap().content, b"late");
    // The crossing ends in one session.
    let crossing = frame("crossing-first-message");
    bob.read(&crossing).unwrap();
    exchange(&mut alice, &mut bob, b"in bob's");
    assert_eq!(shape(&mut bob, "alice").len(), 2);
    for _ in 0..2 {
        exchange(&mut bob, &mut alice, b"on");
        exchange(&mut alice, &mut bob, b"on");
    }
    let current = alice.current(&bob.address);
    assert_eq!(current, bob.current(&alice.address));
    bob.bench
        .done(&Command::AdoptGeneration {
            current: generation(4),
            supersede: false,
        })
        .unwrap();
    bob.restart();
    assert_eq!(bob.generations().current, generation(4));
    assert_eq!(bob.current(&alice.address), current);
    assert!(bob.find(session_of(&crossing)).is_some());
}
