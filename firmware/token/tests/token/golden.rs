//! Flash images of earlier versions open, and what is on them goes on working.
//!
//! `HOSTCHAT_GOLDEN=write cargo test -p hostchat-token --test token golden` writes the images of a new format version;
//! those that are there are never written again.

use std::path::PathBuf;

use hostchat_core::icd::{Command, TokenError};
use hostchat_core::wire::PrekeyKind;
use hostchat_token::testing::{Bench, RamFlash, TestEnv};

use super::support::{PIN, Person, TODAY, address, exchange, failed, pair_up_to_message_3};

/// Pages of the image.
const PAGES: usize = 16;
const PAGE: usize = 4096;

fn path(version: u32, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}-{name}.flash"))
}

fn small(name: &str, seed: u64) -> Person {
    Person::on(name, RamFlash::new(PAGES), seed)
}

/// Two tokens with everything on them that a record can be.
fn make() -> [(&'static str, Bench, Vec<u8>); 2] {
    let (mut alice, mut bob) = (small("alice", 1001), small("bob", 1002));
    let hello = pair_up_to_message_3(&mut alice, &mut bob);
    bob.read(&hello).unwrap();
    exchange(&mut bob, &mut alice, b"hello alice");
    // A session of each origin, skipped keys, a moved mark, a pending answer, prekeys of both kinds.
    let mut carol = small("carol", 1003);
    let bundle = bob.bundle(false);
    carol.start(&bob.address, &bundle, false).unwrap();
    let first = carol.seal(&bob.address, b"from carol").unwrap();
    bob.read(&first).unwrap();
    let mut dave = small("dave", 1004);
    let bundle = bob.bundle(true);
    dave.start(&bob.address, &bundle, false).unwrap();
    let first = dave.seal(&bob.address, b"from dave").unwrap();
    bob.read(&first).unwrap();
    let mut erin = small("erin", 1005);
    let bundle = bob.bundle(false);
    erin.start(&bob.address, &bundle, false).unwrap();
    let used = erin.seal(&bob.address, b"from erin").unwrap();
    bob.read(&used).unwrap();
    bob.bench
        .done(&Command::Forget {
            peer: erin.address.clone(),
        })
        .unwrap();
    for _ in 0..40 {
        alice.seal(&bob.address, b"skipped").unwrap();
    }
    exchange(&mut alice, &mut bob, b"after a gap");
    bob.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    let code = alice.show_code(&bob.address, false).unwrap();
    let (offer, _) = alice.offer().unwrap();
    bob.answer(&offer, code, false).unwrap();
    [("alice", alice.bench, Vec::new()), ("bob", bob.bench, used)]
}

fn load(version: u32, name: &str) -> Person {
    let mut image = std::fs::read(path(version, name)).unwrap();
    // Trailing blank flash is not stored.
    image.resize(PAGES * PAGE, 0xFF);
    let mut bench = Bench::new(
        RamFlash::from_image(&image),
        TestEnv::new(7000 + u64::from(version)),
    );
    bench.unlock(PIN).unwrap();
    Person {
        bench,
        address: address(name),
    }
}

#[test]
fn images_of_format_1_open_and_go_on() {
    let used = std::fs::read(path(1, "used-first-message")).unwrap();
    let (mut alice, mut bob) = (load(1, "alice"), load(1, "bob"));
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
}

#[test]
fn images_are_written_once() {
    let write = std::env::var_os("HOSTCHAT_GOLDEN").is_some_and(|value| value == "write");
    for (name, bench, used) in make() {
        let image = bench.flash.snapshot().dump().to_vec();
        let blank = image.iter().rev().take_while(|byte| **byte == 0xFF).count();
        let target = path(1, name);
        if write && !target.exists() {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(&target, &image[..image.len() - blank]).unwrap();
            if !used.is_empty() {
                std::fs::write(path(1, "used-first-message"), used).unwrap();
            }
        }
        assert!(
            target.exists(),
            "{name}: no image; see the head of this file"
        );
    }
}
