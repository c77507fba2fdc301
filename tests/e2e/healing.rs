//! Keys that go back in time: what both people see when a home, a token's file, a vault or a relay is restored, copied or
//! forged at. Each test reads both ends' output, exit codes and stores.

use std::path::Path;

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Bytes, Envelope, Frame, FrameHeader, codec};
use hostchat_tests::hostile::Mail;
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::{Ended, Home, Relay, World};

use crate::hostile_support::{Scene, ended_well};
use crate::support::{events, pair, texts};

/// Two people who have paired and have said something to each other.
struct Pair {
    world: World,
    relay: Relay,
    alice: Home,
    bob: Home,
}

impl Pair {
    fn new() -> Self {
        let world = World::new();
        let relay = world.relay();
        let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
        pair(&world, &alice, &bob);
        let pair = Self {
            world,
            relay,
            alice,
            bob,
        };
        pair.round_trip("before");
        pair
    }

    fn round_trip(&self, text: &str) {
        self.bob.run(&["send", "alice", text]).ok();
        assert_eq!(texts(&self.alice.run(&["recv", "--json"]).ok()), [text]);
        self.alice.run(&["send", "bob", text]).ok();
        assert_eq!(texts(&self.bob.run(&["recv", "--json"]).ok()), [text]);
        self.alice.run(&["recv"]).ok();
    }

    /// Everybody looks into the mailbox until questions, answers and receipts have come to rest.
    fn settle(&self) -> (Vec<String>, Vec<String>) {
        let (mut alice, mut bob) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            alice.extend(texts(&self.alice.run(&["recv", "--json"]).ok()));
            bob.extend(texts(&self.bob.run(&["recv", "--json"]).ok()));
        }
        (alice, bob)
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a home").flatten() {
        let kind = entry.file_type().expect("a file");
        if kind.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

pub(crate) fn replace(home: &Path, by: &Path) {
    std::fs::remove_dir_all(home).expect("deleted");
    copy(by, home);
}

/// Kinds of the notes that a command printed.
pub(crate) fn notes(ended: &Ended) -> Vec<String> {
    let notes = events(ended, "note").into_iter();
    notes
        .filter_map(|note| note["kind"].as_str().map(str::to_owned))
        .collect()
}

/// Contents of the outbox, and what of it waits only for its receipt.
pub(crate) fn unconfirmed(home: &Home) -> Vec<String> {
    events(&home.run(&["outbox", "--json"]).ok(), "outbox")
        .iter()
        .filter_map(|entry| entry["text"].as_str().map(str::to_owned))
        .collect()
}

fn assert_conversation_lives(pair: &Pair) {
    pair.alice.run(&["send", "bob", "alive to bob"]).ok();
    pair.bob.run(&["send", "alice", "alive to alice"]).ok();
    let (alice, bob) = pair.settle();
    assert!(alice.contains(&"alive to alice".to_owned()), "{alice:?}");
    assert!(bob.contains(&"alive to bob".to_owned()), "{bob:?}");
    assert_eq!(unconfirmed(&pair.alice), [""; 0]);
    assert_eq!(unconfirmed(&pair.bob), [""; 0]);
}

#[test]
fn a_home_restored_from_a_copy_says_so_and_what_it_sends_arrives() {
    let pair = Pair::new();
    let copied = pair.world.path("copy");
    copy(&pair.bob.folder, &copied);
    pair.bob.run(&["send", "alice", "one"]).ok();
    pair.bob.run(&["send", "alice", "two"]).ok();
    assert_eq!(
        texts(&pair.alice.run(&["recv", "--json"]).ok()),
        ["one", "two"]
    );
    replace(&pair.bob.folder, &copied);
    let sent = pair.bob.run(&["send", "alice", "three", "--json"]).ok();
    assert_eq!(notes(&sent), ["keys_old"], "{sent}");
    assert_eq!(events(&sent, "sent")[0]["confirmed"], false);
    pair.bob.run(&["send", "alice", "four"]).ok();
    pair.bob.run(&["send", "alice", "five"]).ok();
    let received = pair.alice.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["three", "four", "five"]);
    assert_eq!(notes(&received), [""; 0], "alice lacks nothing");
    let (alice, bob) = pair.settle();
    assert_eq!((alice.len(), bob.len()), (0, 0), "nothing is shown twice");
    let contacts = pair.alice.run(&["contacts", "--json"]).ok();
    assert_eq!(
        events(&contacts, "contact")[0]["status"],
        "verified by code",
        "the identity is the same"
    );
    assert_conversation_lives(&pair);
}

#[test]
fn a_home_restored_after_a_round_trip_hears_and_is_heard_again() {
    let pair = Pair::new();
    let copied = pair.world.path("copy");
    copy(&pair.bob.folder, &copied);
    pair.round_trip("after the copy");
    replace(&pair.bob.folder, &copied);
    // Sealed for sessions that the restored home does not have.
    pair.alice.run(&["send", "bob", "in flight"]).ok();
    assert_eq!(unconfirmed(&pair.alice), ["in flight"]);
    let received = pair.bob.run(&["recv", "--json"]).ok();
    assert_eq!(notes(&received), ["keys_old"], "{received}");
    let (alice, bob) = pair.settle();
    assert_eq!(alice, [""; 0]);
    assert_eq!(
        bob,
        ["in flight"],
        "what was in flight is sealed again, once"
    );
    assert_conversation_lives(&pair);
}

#[test]
fn of_two_copies_in_use_one_stops_and_goes_on_at_its_users_word() {
    let pair = Pair::new();
    let mut twin = pair.bob.clone();
    twin.folder = pair.world.path("twin");
    copy(&pair.bob.folder, &twin.folder);
    pair.bob.run(&["send", "alice", "from the first"]).ok();
    let sent = twin.run(&["send", "alice", "from the twin", "--json"]).ok();
    assert_eq!(notes(&sent), ["keys_old"], "{sent}");
    let sent = pair
        .bob
        .run(&["send", "alice", "the first again", "--json"]);
    assert_eq!(notes(&sent.ok()), ["keys_old"]);
    let stopped = twin.run(&["send", "alice", "the twin again"]);
    let stopped = stopped.refused(17, "hostchat account resume");
    assert_eq!(
        stopped.err.matches("second copy").count(),
        1,
        "once is enough: {stopped}"
    );
    assert!(
        stopped.err.contains("the message waits in the outbox"),
        "{stopped}"
    );
    assert_eq!(
        unconfirmed(&twin).last().map(String::as_str),
        Some("the twin again"),
        "it waits in the outbox"
    );
    twin.run(&["recv"]).refused(17, "second copy");
    let status = twin.run(&["status", "--json"]).ok();
    let status = &events(&status, "status")[0];
    assert_eq!(status["stopped"], true);
    let at = |key: &str| status[key].as_u64().expect("milliseconds");
    assert!(at("goes_back_to") < at("stopped_at"), "{status}");
    let said = twin.run(&["status"]).ok();
    assert!(said.out.contains("\nstopped at "), "{said}");
    // Only this one is used from now on.
    twin.run(&["account", "resume"]).ok();
    let (mut alice, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        alice.extend(texts(&pair.alice.run(&["recv", "--json"]).ok()));
        shown.extend(texts(&twin.run(&["recv", "--json"]).ok()));
    }
    alice.sort();
    assert_eq!(
        alice,
        [
            "from the first",
            "from the twin",
            "the first again",
            "the twin again"
        ]
    );
    assert_eq!(unconfirmed(&twin), [""; 0]);
    twin.run(&["account", "resume"])
        .refused(15, "has not stopped");
}

#[test]
fn a_tokens_file_alone_that_is_restored_is_found() {
    let pair = Pair::new();
    let copied = pair.world.path("copy");
    copy(&pair.bob.folder, &copied);
    pair.round_trip("after the copy");
    std::fs::copy(
        copied.join("token.flash"),
        pair.bob.folder.join("token.flash"),
    )
    .expect("restored");
    pair.alice.run(&["send", "bob", "in flight"]).ok();
    let received = pair.bob.run(&["recv", "--json"]).ok();
    assert_eq!(notes(&received), ["keys_old"], "{received}");
    let (alice, bob) = pair.settle();
    assert_eq!((alice.len(), bob), (0, vec!["in flight".to_owned()]));
    assert_conversation_lives(&pair);
}

#[test]
fn a_vault_alone_that_is_restored_loses_its_history_and_says_since_when() {
    let pair = Pair::new();
    let copied = pair.world.path("copy");
    copy(&pair.bob.folder, &copied);
    pair.round_trip("after the copy");
    for file in ["vault.db", "vault.db-wal", "vault.db-shm"] {
        let _ = std::fs::remove_file(pair.bob.folder.join(file));
        let _ = std::fs::copy(copied.join(file), pair.bob.folder.join(file));
    }
    let sent = pair
        .bob
        .run(&["send", "alice", "the keys are new", "--json"]);
    assert_eq!(notes(&sent.ok()), ["history_old"]);
    let received = pair.alice.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["the keys are new"]);
    assert_conversation_lives(&pair);
}

#[test]
fn a_vault_that_is_gone_is_told_with_what_waited_in_it() {
    let mut pair = Pair::new();
    pair.relay.kill();
    let lost = pair.bob.run(&["send", "alice", "never sealed"]);
    lost.refused(8, "kept in the outbox");
    for file in ["vault.db", "vault.db-wal", "vault.db-shm"] {
        let _ = std::fs::remove_file(pair.bob.folder.join(file));
    }
    // Without the relay too.
    let told = pair.bob.run(&["outbox"]).ok().err;
    pair.relay.start();
    let words = "note: this home has no history before now: what was shown before, and what waited in the outbox, is not here";
    assert!(told.contains(words), "{told}");
    // Once.
    let again = pair.bob.run(&["recv"]).ok().err;
    assert!(!again.contains("no history before now"), "{again}");
    assert_conversation_lives(&pair);
}

#[test]
fn a_home_restored_beside_its_hardware_token_gets_its_contacts_back() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.home("alice", &relay);
    let bob = world.home_on("bob", &relay, &sim);
    let copied = world.path("copy");
    copy(&bob.folder, &copied);
    pair(&world, &alice, &bob);
    bob.run(&["send", "alice", "hello"]).ok();
    alice.run(&["recv"]).ok();
    let config = bob.folder.join("vault.db");
    replace(&bob.folder, &copied);
    assert!(config.exists());
    // The generation moves on at a login only a quarter of an hour after the last one: what differs is the contact.
    let contacts = bob.run(&["recv", "--json"]).ok();
    assert!(!contacts.err.contains("error"), "{contacts}");
    alice.run(&["send", "bob", "do you know me?"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["do you know me?"]
    );
    let contacts = bob.run(&["contacts", "--json"]).ok();
    let contact = &events(&contacts, "contact")[0];
    assert_eq!(contact["name"], "alice");
    assert_eq!(contact["status"], "verified by code");
}

#[test]
fn a_send_that_was_killed_after_its_seal_leaves_no_gap_that_anybody_sees() {
    let pair = Pair::new();
    let mut command = pair.bob.command(&["send", "alice", "sealed, then killed"]);
    command.env("HOSTCHAT_CRASH_AT", "token-sealed");
    let killed = hostchat_tests::Running::start(&mut command).end();
    assert_ne!(killed.code(), 0);
    pair.bob.run(&["send", "alice", "after the kill"]).ok();
    let received = pair.alice.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["sealed, then killed", "after the kill"]);
    assert_eq!(notes(&received), [""; 0], "nothing is missing: {received}");
    let shown = pair.alice.run(&["history", "bob"]).ok();
    assert!(!shown.out.contains("missing"), "{shown}");
}

#[test]
fn texts_that_a_relay_dropped_are_told_as_missing_and_stay_unconfirmed() {
    let scene = Scene::paired();
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(|_| Vec::new());
    });
    scene.alice.run(&["send", "bob", "dropped one"]).ok();
    scene.alice.run(&["send", "bob", "dropped two"]).ok();
    scene.relay.behave();
    scene.alice.run(&["send", "bob", "arrives"]).ok();
    let received = scene.bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["arrives"]);
    let missing = events(&received, "note");
    let missing = missing.iter().find(|note| note["kind"] == "missing");
    assert_eq!(missing.expect("a note")["count"], 2, "{received}");
    scene.alice.run(&["recv"]).ok();
    assert_eq!(unconfirmed(&scene.alice), ["dropped one", "dropped two"]);
    let history = scene.alice.run(&["history", "bob"]).ok();
    assert_eq!(
        history.out.matches("(not confirmed)").count(),
        2,
        "{history}"
    );
}

/// A genuine frame's header with another number, a random id and body: what anybody can forge.
fn forged(genuine: &Mail, n: u32, salt: u8) -> Mail {
    let Ok(envelope) = codec::decode::<Envelope<'_>>(&genuine.body) else {
        unreachable!("an envelope")
    };
    let frame = Frame::parse(envelope.frame().expect("a frame")).expect("a frame");
    let header = FrameHeader {
        n,
        pn: u32::MAX,
        ..frame.header.clone()
    };
    let mut bytes = codec::encode_vec::<_, 256>(&header).expect("fits").to_vec();
    let id = [salt; 16];
    bytes.extend_from_slice(&id);
    bytes.extend_from_slice(&[salt; 16 + 64]);
    Mail {
        message_id: Bytes(id),
        kind: Kind::Message,
        body: encode(&Envelope::Message { frame: &bytes }),
        ..genuine.clone()
    }
}

#[test]
fn forged_frames_begin_no_session_evict_none_and_lose_nothing_in_flight() {
    let scene = Scene::paired();
    scene.alice.run(&["send", "bob", "genuine"]).ok();
    let genuine = scene.sent().pop().expect("mail");
    scene.bob.run(&["recv"]).ok();
    // What is in flight while the forgeries come in.
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = std::sync::Arc::clone(&kept);
    scene.relay.attack(move |adversary| {
        adversary.mail = Box::new(move |mail| {
            keep.lock().expect("kept").push(mail);
            Vec::new()
        });
    });
    scene.alice.run(&["send", "bob", "in flight"]).ok();
    scene.relay.behave();
    let stranger = scene.join("mallory");
    let prekeys = |name: &str| {
        scene
            .relay
            .with(|state| state.called(name, hostchat_tests::hostile::Call::TakePrekeys))
    };
    let before = prekeys("bob");
    for salt in 0..4 {
        scene.relay.leave(forged(&genuine, 5000, salt));
        let mut from_a_stranger = forged(&genuine, 5000 + u32::from(salt), 100 + salt);
        from_a_stranger.sender = scene.relay.address_of("mallory");
        scene.relay.leave(from_a_stranger);
    }
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), [""; 0]);
    assert_eq!(
        notes(&received),
        [""; 0],
        "a forger moves nobody: {received}"
    );
    assert_eq!(prekeys("bob"), before, "no session was begun");
    for mail in kept.lock().expect("kept").drain(..) {
        scene.relay.leave(mail);
    }
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(
        texts(&received),
        ["in flight"],
        "it opens as if nothing was"
    );
    // Alice is asked, and knows of none of them.
    scene.alice.run(&["recv"]).ok();
    ended_well(scene.bob.run(&["recv"])).ok();
    let status = scene.bob.run(&["status", "--json"]).ok();
    assert_eq!(events(&status, "status")[0]["unopened"], 0, "{status}");
    assert_eq!(texts(&stranger.run(&["recv", "--json"]).ok()), [""; 0]);
}
