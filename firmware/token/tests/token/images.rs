//! Makes the flash images that `golden` opens.
//!
//! `HOSTCHAT_GOLDEN=write cargo test -p hostchat-token --test token images` writes the images of a new format version;
//! those that are there are never written again.

use std::path::PathBuf;

use hostchat_core::icd::Command;
use hostchat_core::wire::PrekeyKind;
use hostchat_token::testing::{Bench, RamFlash};

use super::golden::PAGES;
use super::support::{Person, TODAY, begin, exchange, generation, pair_up_to_message_3};

/// The format that is written now.
const VERSION: u32 = 2;

fn path(version: u32, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}-{name}.flash"))
}

fn small(name: &str, seed: u64) -> Person {
    Person::on(name, RamFlash::new(PAGES), seed)
}

/// A token, and frames that go with it.
type Image = (&'static str, Bench, Vec<(&'static str, Vec<u8>)>);

/// Two tokens with everything on them that a record can be.
fn make() -> [Image; 2] {
    let (mut alice, mut bob) = (small("alice", 1001), small("bob", 1002));
    let hello = pair_up_to_message_3(&mut alice, &mut bob);
    bob.read(&hello).unwrap();
    exchange(&mut bob, &mut alice, b"hello alice");
    // A session of each origin, skipped keys of two ages, a moved mark, a pending answer, prekeys of both kinds.
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
    let late = alice.seal(&bob.address, b"late").unwrap();
    exchange(&mut alice, &mut bob, b"after a gap");
    exchange(&mut bob, &mut alice, b"turn");
    for _ in 0..40 {
        alice.seal(&bob.address, b"skipped").unwrap();
    }
    exchange(&mut alice, &mut bob, b"after another gap");
    // Everything is superseded. Then Alice's new session takes the place of the paired one, and Bob's crosses it; Dave's
    // stays where it is, below one of Bob's own.
    bob.adopt(3, true);
    begin(&mut bob, &mut dave, true, b"no answer");
    let crossing = begin(&mut alice, &mut bob, true, b"from alice, on its way");
    let from_bob = begin(&mut bob, &mut alice, true, b"from bob");
    alice.read(&from_bob).unwrap();
    let next = generation(4);
    bob.bench.done(&Command::PlanGeneration { next }).unwrap();
    bob.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    let code = alice.show_code(&bob.address, false).unwrap();
    let (offer, _) = alice.offer().unwrap();
    bob.answer(&offer, code, false).unwrap();
    let frames = vec![
        ("used-first-message", used),
        ("late-frame", late),
        ("crossing-first-message", crossing),
    ];
    [
        ("alice", alice.bench, Vec::new()),
        ("bob", bob.bench, frames),
    ]
}

#[test]
fn images_are_written_once() {
    let write = std::env::var_os("HOSTCHAT_GOLDEN").is_some_and(|value| value == "write");
    for (name, bench, frames) in make() {
        let image = bench.flash.snapshot().dump().to_vec();
        let blank = image.iter().rev().take_while(|byte| **byte == 0xFF).count();
        let target = path(VERSION, name);
        if write && !target.exists() {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(&target, &image[..image.len() - blank]).unwrap();
            for (name, frame) in frames {
                std::fs::write(path(VERSION, name), frame).unwrap();
            }
        }
        assert!(
            target.exists(),
            "{name}: no image; see the head of this file"
        );
    }
}
