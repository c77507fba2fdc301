//! Flash images of earlier versions open, and what is on them goes on working.

use alloc::format;
use alloc::vec::Vec;

use hostchat_core::icd::TokenError;
use hostchat_token::testing::{Bench, RamFlash, TestEnv};

use super::read;
use super::support::{PIN, Person, address, exchange, failed};

/// Pages of the image.
pub(crate) const PAGES: usize = 16;
const PAGE: usize = 4096;

fn image(version: u32, name: &str) -> Vec<u8> {
    read(&format!(
        "firmware/token/tests/golden/v{version}-{name}.flash"
    ))
}

fn load(version: u32, name: &str) -> Person {
    let mut image = image(version, name);
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

#[cfg_attr(test, test)]
pub(crate) fn images_of_format_1_open_and_go_on() {
    let used = image(1, "used-first-message");
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
