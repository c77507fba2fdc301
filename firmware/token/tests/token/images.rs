//! Makes the flash images that `golden` opens.
//!
//! `HOSTCHAT_GOLDEN=write cargo test -p hostchat-token --test token images` writes the images of a new format version;
//! those that are there are never written again.

use std::path::PathBuf;

use hostchat_core::icd::Command;
use hostchat_core::wire::PrekeyKind;
use hostchat_token::testing::{Bench, RamFlash};

use super::golden::PAGES;
use super::support::{Person, TODAY, exchange, pair_up_to_message_3};

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
