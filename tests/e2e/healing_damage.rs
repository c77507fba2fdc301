//! A record of a session that a token cannot read any more: both people are told what it cost, what was in flight arrives,
//! and what opened before opens nothing again.

use std::collections::BTreeMap;
use std::path::Path;

use hostchat_tests::hostile::Mail;
use hostchat_tests::{Ended, Home, World};

use crate::healing::{notes, unconfirmed};
use crate::hostile_support::{Scene, contact, ended_well};
use crate::support::{all, events, history, pair, texts};

const NONE: [&str; 0] = [];

/// Of `firmware/token/src/slots`: pages of slots, each with the key of one version of one record.
const PAGE: usize = 4096;
const MAGIC: &[u8] = b"hS\x01";
const HEADER: usize = 16;
const SLOT: usize = 40;
/// Records of sessions (`firmware/token/src/records.rs`).
const SESSIONS: std::ops::Range<u16> = 40..172;

/// Where the keys of the sessions in a token's file lie, by record.
fn session_keys(home: &Home) -> BTreeMap<u16, usize> {
    let flash = std::fs::read(home.folder.join("token.flash")).expect("a token");
    let mut keys = BTreeMap::new();
    let pages = flash.chunks(PAGE).enumerate();
    for (page, bytes) in pages.filter(|(_, bytes)| bytes.starts_with(MAGIC)) {
        for (slot, bytes) in bytes[HEADER..].chunks_exact(SLOT).enumerate() {
            let owner = u16::from_le_bytes([bytes[0], bytes[1]]);
            if SESSIONS.contains(&owner) {
                let before = keys.insert(owner, page * PAGE + HEADER + slot * SLOT + 6);
                assert_eq!(before, None, "one key for each record");
            }
        }
    }
    keys
}

/// The record that was not there before.
fn new_one(before: &BTreeMap<u16, usize>, now: &BTreeMap<u16, usize>) -> u16 {
    let mut new = now.keys().filter(|record| !before.contains_key(record));
    let first = new.next().expect("a new session");
    assert_eq!(new.next(), None);
    *first
}

/// Turns one bit over in the key of a session's record.
fn damage(home: &Home, record: u16) {
    let path = home.folder.join("token.flash");
    flip(&path, session_keys(home)[&record]);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("written");
}

fn receive(home: &Home) -> Ended {
    ended_well(home.run(&["recv", "--json"])).ok()
}

/// What a program said of lost sessions.
fn lost(ended: &Ended) -> Vec<u64> {
    let notes = events(ended, "note").into_iter();
    notes
        .filter(|note| note["kind"] == "sessions_lost")
        .filter_map(|note| note["count"].as_u64())
        .collect()
}

fn two() -> (World, hostchat_tests::Relay, Home, Home) {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    bob.run(&["send", "alice", "before"]).ok();
    receive(&alice);
    receive(&bob);
    (world, relay, alice, bob)
}

#[test]
fn texts_in_flight_in_a_session_whose_record_is_damaged_are_asked_for_and_arrive() {
    let (_world, _relay, alice, bob) = two();
    for text in ["to bob 1", "to bob 2"] {
        alice.run(&["send", "bob", text]).ok();
    }
    bob.run(&["send", "alice", "to alice"]).ok();
    let keys = session_keys(&bob);
    assert_eq!(keys.len(), 1);
    damage(&bob, *keys.keys().next().expect("one"));

    let received = receive(&bob);
    assert_eq!(lost(&received), [1], "{received}");
    assert_eq!(notes(&received), ["sessions_lost"]);
    assert_eq!(texts(&received), NONE);
    let received = receive(&alice);
    assert_eq!(texts(&received), ["to alice"], "it was sealed before");
    assert_eq!(notes(&received), NONE);
    let received = receive(&bob);
    assert_eq!(texts(&received), ["to bob 1", "to bob 2"], "{received}");
    assert_eq!(notes(&received), NONE, "it is told once");
    for home in [&alice, &bob, &alice, &bob] {
        let received = receive(home);
        assert_eq!((texts(&received), notes(&received)), (vec![], vec![]));
    }
    assert_eq!(unconfirmed(&alice), NONE);
    assert_eq!(unconfirmed(&bob), NONE);
    let [of_alice, of_bob] = [history(&alice, "bob"), history(&bob, "alice")];
    let sent = all("confirmed", &["to bob 1", "to bob 2"]);
    assert!(
        sent.iter().all(|text| of_alice.contains(text)),
        "{of_alice:?}"
    );
    assert!(
        of_bob.contains(&("to alice".into(), "confirmed".into())),
        "{of_bob:?}"
    );
    let got: Vec<_> = of_bob
        .iter()
        .filter(|text| text.0.starts_with("to bob"))
        .collect();
    assert_eq!(got.len(), 2, "{of_bob:?}");
    for (home, name) in [(&alice, "bob"), (&bob, "alice")] {
        let contact = contact(home, name).expect("a contact");
        assert_eq!(
            contact["status"], "verified by code",
            "the identity is the same"
        );
    }
    // The token does not say that what the user has verified is not.
    let listed = bob.run(&["token", "sessions"]).ok();
    assert!(!listed.out.contains("verified"), "{listed}");
    assert!(
        listed.out.contains("its keys came without a code"),
        "{listed}"
    );
    let listed = bob.run(&["token", "sessions", "--json"]).ok();
    let session = &events(&listed, "session")[0];
    assert_eq!(session["by_code"], false, "{listed}");
    assert!(session.get("verified").is_none(), "{listed}");
    let status = bob.run(&["status", "--json"]).ok();
    assert_eq!(events(&status, "status")[0]["unopened"], 0, "{status}");
    alice.run(&["send", "bob", "alive"]).ok();
    assert_eq!(texts(&receive(&bob)), ["alive"]);
}

#[test]
fn a_damaged_session_is_found_by_whoever_writes_first_and_nothing_is_lost() {
    let (_world, _relay, alice, bob) = two();
    alice.run(&["send", "bob", "in flight"]).ok();
    let keys = session_keys(&bob);
    damage(&bob, *keys.keys().next().expect("one"));
    let sent = ended_well(bob.run(&["send", "alice", "after the damage", "--json"])).ok();
    assert_eq!(lost(&sent), [1], "{sent}");
    assert_eq!(events(&sent, "sent").len(), 1);
    let received = receive(&alice);
    assert_eq!(
        (texts(&received), notes(&received)),
        (vec!["after the damage".to_owned()], vec![])
    );
    let mut got = Vec::new();
    for _ in 0..3 {
        got.extend(texts(&receive(&bob)));
        receive(&alice);
    }
    assert_eq!(got, ["in flight"]);
    assert_eq!(unconfirmed(&alice), NONE);
    assert_eq!(unconfirmed(&bob), NONE);
}

#[test]
fn a_relay_cannot_use_a_damaged_session_to_swap_the_identity_of_a_contact() {
    let scene = Scene::paired();
    let before = contact(&scene.bob, "alice").expect("alice");
    assert_eq!(before["status"], "verified by code");
    let keys = session_keys(&scene.bob);
    damage(&scene.bob, *keys.keys().next().expect("one"));
    // It shows the identity of alice when it is asked for that, and gives its own prekeys.
    let mut mallory = hostchat_tests::hostile::Mallory::new(9);
    let bait = mallory.bait(crate::hostile_support::now()).bundle;
    scene.relay.attack(|adversary| {
        adversary.bundle = Box::new(move |_| Some(bait.clone()));
    });
    let frames = scene.frames();
    let sent = ended_well(scene.bob.run(&["send", "alice", "secret"]));
    sent.refused(11, "has changed");
    assert_eq!(scene.frames(), frames, "nothing is sealed for the relay");
    let shown = contact(&scene.bob, "alice").expect("alice");
    assert_eq!(
        (&shown["verified"], &shown["changed"]),
        (&false.into(), &true.into())
    );
    // What the relay did is not the user's wish: with the right prekeys nothing has changed.
    assert_eq!(shown["fingerprint"], before["fingerprint"]);
}

/// The mail of a first message that somebody has sent.
fn first_of(scene: &Scene, name: &str) -> Mail {
    let sent = scene.sent().into_iter();
    let mut of =
        sent.filter(|mail| mail.sender.name().as_str() == name && mail.to.as_str() == "bob");
    of.next().expect("a first message")
}

#[test]
fn damage_retires_the_last_resort_prekey_and_first_messages_of_the_past_open_nothing() {
    let scene = Scene::new();
    let (carol, erin) = (scene.join("carol"), scene.join("erin"));
    // Without one-time prekeys, so that only a mark in the session's record keeps a first message from opening twice.
    scene.relay.attack(|adversary| {
        adversary.bundle = Box::new(|(_, bundle)| {
            bundle.map(|bundle| hostchat_core::wire::PrekeyBundle {
                one_time: None,
                ..bundle
            })
        });
    });
    scene.alice.run(&["send", "bob", "hello from alice"]).ok();
    scene.bob.run(&["accept", "alice"]).ok();
    let before = session_keys(&scene.bob);
    carol.run(&["send", "bob", "hello from carol"]).ok();
    scene.bob.run(&["accept", "carol"]).ok();
    let record = new_one(&before, &session_keys(&scene.bob));
    for home in [&scene.alice, &carol] {
        receive(home);
    }
    let last_resort = |scene: &Scene| {
        let name = scene.relay.address_of("bob").name();
        let bundle = scene.relay.with(|state| state.take_bundle(&name));
        bundle.expect("prekeys").last_resort.id
    };
    let before = last_resort(&scene);
    // In flight: of a contact, and of somebody whom bob has never heard of.
    carol.run(&["send", "bob", "carol in flight"]).ok();
    erin.run(&["send", "bob", "erin in flight"]).ok();
    damage(&scene.bob, record);

    let received = receive(&scene.bob);
    assert_eq!(lost(&received), [1], "{received}");
    assert_eq!(texts(&received), NONE);
    assert_eq!(events(&received, "request").len(), 0, "{received}");
    let told = events(&received, "note").into_iter();
    let told: Vec<_> = told.filter(|note| note["kind"] == "dropped").collect();
    let about_erin = told[0]["text"].as_str().unwrap_or_default();
    assert!(about_erin.contains("erin@"), "{received}");
    assert!(about_erin.contains("write there"), "{received}");
    assert!(last_resort(&scene) > before, "a new one lies at the relay");

    receive(&carol);
    assert_eq!(texts(&receive(&scene.bob)), ["carol in flight"]);
    receive(&carol);
    assert_eq!(unconfirmed(&carol), NONE);
    // As bob was told: he writes to erin, and has what she wrote.
    assert_eq!(unconfirmed(&erin), ["erin in flight"]);
    scene.bob.run(&["send", "erin", "did you write?"]).ok();
    assert_eq!(texts(&receive(&erin)), ["did you write?"]);
    assert_eq!(texts(&receive(&scene.bob)), ["erin in flight"]);
    receive(&erin);
    assert_eq!(unconfirmed(&erin), NONE);

    // The relay delivers the first messages of the past once more, also to a home whose vault is not that of before.
    let contacts = |home: &Home| events(&home.run(&["contacts", "--json"]).ok(), "contact").len();
    let there = contacts(&scene.bob);
    for name in ["alice", "carol", "erin"] {
        scene.relay.leave(first_of(&scene, name));
    }
    let received = receive(&scene.bob);
    assert_eq!(texts(&received), NONE);
    assert_eq!(events(&received, "request").len(), 0, "{received}");
    assert_eq!(contacts(&scene.bob), there);
    for home in [&scene.alice, &carol, &erin] {
        receive(home);
        home.run(&["send", "bob", "still the same"]).ok();
    }
    assert_eq!(texts(&receive(&scene.bob)), ["still the same"; 3]);
}
