//! A relay that was restored from a backup gives one-time prekeys twice. The receiver's token refuses the second first message
//! for one; its sender learns of it, and the text arrives.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Bytes, Envelope, PrekeyBundle, codec};
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{Call, Mallory};
use hostchat_tests::{Ended, Home, Relay, Running, World, program};

use crate::clock::with_clock;
use crate::healing::{copy, notes, replace, unconfirmed};
use crate::hostile_support::{Scene, ended_well, now};
use crate::support::{all, events, history, pair, texts};

const NONE: [&str; 0] = [];

pub(crate) fn relay_command(relay: &Relay, arguments: &[&str], file: &Path) -> Ended {
    let mut command = Command::new(program("hostchat-relay"));
    command.args(&arguments[..1]);
    command.arg("--dir").arg(relay.folder());
    command.args(&arguments[1..]).arg(file).stdin(Stdio::null());
    Running::start(&mut command).end()
}

/// Puts the relay back to what `backup` has.
pub(crate) fn restore(relay: &mut Relay, backup: &Path) {
    relay.stop().ok();
    relay_command(relay, &["restore", "--force", "--from"], backup).ok();
    relay.start();
}

/// Peers of the requests that a program told of.
fn requests(ended: &Ended) -> Vec<String> {
    let requests = events(ended, "request").into_iter();
    requests
        .map(|request| {
            let peer = request["peer"].as_str().unwrap_or_default();
            peer.split('@').next().unwrap_or_default().to_owned()
        })
        .collect()
}

fn receive(home: &Home) -> Ended {
    ended_well(home.run(&["recv", "--json"])).ok()
}

#[test]
fn a_strangers_text_for_a_prekey_that_a_restored_relay_gave_twice_arrives_when_it_is_accepted() {
    let world = World::new();
    let mut relay = world.relay();
    let (bob, xavier) = (world.home("bob", &relay), world.home("xavier", &relay));
    let backup = world.path("backup.db");
    relay_command(&relay, &["backup", "--to"], &backup).ok();
    xavier.run(&["send", "bob", "the key is mine"]).ok();
    let accepted = bob.run(&["accept", "xavier", "--json"]).ok();
    assert_eq!(texts(&accepted), ["the key is mine"]);
    receive(&xavier);
    assert_eq!(unconfirmed(&xavier), NONE);
    restore(&mut relay, &backup);

    // Nobody has seen Yvonne before. The relay gives her what Xavier had.
    let yvonne = world.home("yvonne", &relay);
    for text in ["one", "two"] {
        let sent = yvonne.run(&["send", "bob", text, "--json"]).ok();
        assert_eq!(events(&sent, "sent")[0]["confirmed"], false, "{sent}");
    }
    let received = receive(&bob);
    assert_eq!((texts(&received), notes(&received)), (vec![], vec![]));
    assert_eq!(requests(&received), ["yvonne"], "{received}");
    receive(&yvonne);
    assert_eq!(unconfirmed(&yvonne), ["one", "two"]);
    assert_eq!(
        history(&yvonne, "bob"),
        all("not confirmed", &["one", "two"])
    );

    let accepted =
        ended_well(bob.run(&["accept", "yvonne", "--json"])).refused(16, "can be read yet");
    assert_eq!(texts(&accepted), NONE);
    assert_eq!(notes(&accepted), ["asked_again"], "{accepted}");
    ended_well(bob.run(&["accept", "yvonne"])).refused(15, "does not ask");
    let received = receive(&yvonne);
    assert_eq!((texts(&received), notes(&received)), (vec![], vec![]));
    let received = receive(&bob);
    assert_eq!(texts(&received), ["one", "two"], "{received}");
    assert_eq!(notes(&received), NONE);
    receive(&yvonne);
    assert_eq!(unconfirmed(&yvonne), NONE);
    assert_eq!(history(&yvonne, "bob"), all("confirmed", &["one", "two"]));
    assert_eq!(history(&bob, "yvonne"), all("in", &["one", "two"]));
    let status = bob.run(&["status", "--json"]).ok();
    let status = &events(&status, "status")[0];
    assert_eq!(
        (&status["unopened"], &status["forged"]),
        (&0.into(), &0.into())
    );

    // Everybody goes on, with prekeys that were given once.
    bob.run(&["send", "yvonne", "got it"]).ok();
    xavier.run(&["send", "bob", "still here"]).ok();
    let zoe = world.home("zoe", &relay);
    zoe.run(&["send", "bob", "me too"]).ok();
    assert_eq!(texts(&receive(&yvonne)), ["got it"]);
    let accepted = bob.run(&["accept", "zoe", "--json"]).ok();
    let mut got = texts(&accepted);
    got.extend(texts(&receive(&bob)));
    got.sort();
    assert_eq!(got, ["me too", "still here"], "{accepted}");
}

#[test]
fn a_contact_whose_new_session_gets_a_prekey_twice_is_heard_after_an_hour() {
    let world = World::new();
    let mut relay = world.relay();
    let (bob, yvonne) = (world.home("bob", &relay), world.home("yvonne", &relay));
    let xavier = world.home("xavier", &relay);
    pair(&world, &yvonne, &bob);
    receive(&bob);
    receive(&yvonne);
    let copied = world.path("copy");
    copy(&yvonne.folder, &copied);
    bob.run(&["send", "yvonne", "after the copy"]).ok();
    assert_eq!(texts(&receive(&yvonne)), ["after the copy"]);
    yvonne.run(&["send", "bob", "and back"]).ok();
    assert_eq!(texts(&receive(&bob)), ["and back"]);
    receive(&yvonne);
    let backup = world.path("backup.db");
    relay_command(&relay, &["backup", "--to"], &backup).ok();
    xavier.run(&["send", "bob", "the key is mine"]).ok();
    bob.run(&["accept", "xavier"]).ok();
    restore(&mut relay, &backup);

    // Her keys went back in time as well, so she begins a new session: with the key that Xavier had.
    replace(&yvonne.folder, &copied);
    let sent = yvonne
        .run(&["send", "bob", "do you read me?", "--json"])
        .ok();
    assert_eq!(notes(&sent), ["keys_old"], "{sent}");
    let received = receive(&bob);
    assert_eq!(texts(&received), NONE);
    assert_eq!(notes(&received), NONE, "he asks first: {received}");
    for home in [&yvonne, &bob, &yvonne, &bob] {
        assert_eq!(
            texts(&receive(home)),
            NONE,
            "the old session is not hers any more"
        );
    }
    assert_eq!(unconfirmed(&yvonne), ["do you read me?"]);

    // An hour later he begins a session himself, for her last-resort prekey alone.
    with_clock("+90m", &bob, &["recv"]).ok();
    let received = receive(&yvonne);
    assert_eq!((texts(&received), notes(&received)), (vec![], vec![]));
    assert_eq!(texts(&receive(&bob)), ["do you read me?"]);
    receive(&yvonne);
    assert_eq!(unconfirmed(&yvonne), NONE);
    assert_eq!(unconfirmed(&bob), NONE);
    assert_eq!(
        history(&yvonne, "bob").last(),
        Some(&("do you read me?".into(), "confirmed".into()))
    );
    assert_eq!(
        history(&bob, "yvonne").last(),
        Some(&("do you read me?".into(), "in".into()))
    );
    bob.run(&["send", "yvonne", "yes"]).ok();
    assert_eq!(texts(&receive(&yvonne)), ["yes"]);
}

/// Bundles that an account has asked for.
fn taken(scene: &Scene, name: &str) -> (usize, usize) {
    scene.relay.with(|state| {
        (
            state.called(name, Call::TakePrekeys),
            state.called(name, Call::TakeLastResort),
        )
    })
}

#[test]
fn a_stranger_whose_prekey_is_gone_has_nothing_sent_or_taken_until_the_user_accepts() {
    let scene = Scene::new();
    let carol = scene.join("carol");
    let bundle: Arc<Mutex<Option<PrekeyBundle>>> = Arc::default();
    scene.relay.attack(|adversary| {
        // Bob's first bundle is given again and again.
        adversary.bundle = Box::new(move |(name, honest)| {
            if name.as_str() != "bob" {
                return honest;
            }
            let mut bundle = bundle.lock().expect("the bundle");
            bundle.get_or_insert(honest?);
            bundle.clone()
        });
    });
    scene.alice.run(&["send", "bob", "the key is mine"]).ok();
    scene.bob.run(&["accept", "alice"]).ok();
    carol.run(&["send", "bob", "one"]).ok();
    let (frames, before) = (scene.frames(), taken(&scene, "bob"));
    assert_eq!(requests(&receive(&scene.bob)), ["carol"]);
    ended_well(scene.bob.run(&["accept", "carol", "--decline"])).ok();
    carol.run(&["send", "bob", "two"]).ok();
    assert_eq!(requests(&receive(&scene.bob)), ["carol"]);
    assert_eq!(taken(&scene, "bob"), before);
    assert_eq!(scene.frames(), frames + 1, "carol's alone");
    receive(&carol);
    assert_eq!(unconfirmed(&carol), ["one", "two"]);

    // The relay's own keys in carol's name: what waits goes on waiting.
    let bait = Mallory::new(7).bait(now()).bundle;
    scene.relay.attack(|adversary| {
        adversary.bundle = Box::new(move |_| Some(bait.clone()));
    });
    let refused = ended_well(scene.bob.run(&["accept", "carol"]));
    assert_ne!(refused.code(), 0, "{refused}");
    assert_eq!(scene.frames(), frames + 1);
    scene.relay.behave();

    let before = taken(&scene, "bob");
    let accepted =
        ended_well(scene.bob.run(&["accept", "carol", "--json"])).refused(16, "can be read yet");
    assert_eq!(notes(&accepted), ["asked_again"], "{accepted}");
    assert_eq!(taken(&scene, "bob"), (before.0, before.1 + 1));
    receive(&carol);
    let mut got = texts(&receive(&scene.bob));
    got.sort();
    assert_eq!(got, ["one", "two"], "also what was declined before");
    receive(&carol);
    assert_eq!(unconfirmed(&carol), NONE);
}

#[test]
fn a_first_message_that_no_sender_knows_of_is_accepted_without_an_end_of_questions() {
    let scene = Scene::new();
    let carol = scene.join("carol");
    let mut mallory = Mallory::new(8);
    let (carol_at, bob_at) = (
        scene.relay.address_of("carol"),
        scene.relay.address_of("bob"),
    );
    // Anybody can write this header: carol's identity, and a one-time prekey that never was. The relay says that it is hers.
    let bundle = scene
        .relay
        .with(|state| state.take_bundle(&bob_at.name()))
        .expect("bob's prekeys");
    mallory.begin(&carol_at, &bob_at, &bundle, now());
    let sealed = mallory.write("forged");
    let Ok(Envelope::First { mut header, frame }) = codec::decode(&sealed) else {
        unreachable!("a first message")
    };
    let identity = scene.relay.with(|state| state.identity("carol"));
    header.identity = identity.expect("carol");
    let fingerprint = header.identity.fingerprint();
    header.one_time = Some(4_000_000);
    let body = encode(&Envelope::First { header, frame });
    let mut mail = mallory.mail(&carol_at, &bob_at, Kind::First, body);
    mail.fingerprint = Some(Bytes(fingerprint));
    scene.relay.leave(mail);
    assert_eq!(requests(&receive(&scene.bob)), ["carol"]);
    let accepted =
        ended_well(scene.bob.run(&["accept", "carol", "--json"])).refused(16, "can be read yet");
    assert_eq!(notes(&accepted), ["asked_again"], "{accepted}");
    // Carol, whom bob has asked, is asked whether she wants to hear him.
    let asked = ended_well(carol.run(&["accept", "bob", "--json"])).ok();
    assert_eq!(texts(&asked), NONE);
    for _ in 0..2 {
        assert_eq!(texts(&receive(&scene.bob)), NONE);
        receive(&carol);
    }
    let status = scene.bob.run(&["status", "--json"]).ok();
    let status = &events(&status, "status")[0];
    assert_eq!(
        (&status["unopened"], &status["forged"]),
        (&0.into(), &1.into())
    );
    carol.run(&["send", "bob", "what was that?"]).ok();
    assert_eq!(texts(&receive(&scene.bob)), ["what was that?"]);
}

fn set_registration(relay: &mut Relay, registration: &str) {
    relay.stop().ok();
    let path = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let lines = text.lines().map(|line| {
        if line.starts_with("registration = ") {
            format!("registration = \"{registration}\"\n")
        } else {
            format!("{line}\n")
        }
    });
    std::fs::write(&path, lines.collect::<String>()).expect("written");
    relay.start();
}

#[test]
fn accounts_that_a_relay_has_forgotten_are_registered_again_and_what_is_written_then_arrives() {
    let world = World::new();
    let mut relay = world.relay();
    let backup = world.path("backup.db");
    relay_command(&relay, &["backup", "--to"], &backup).ok();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    receive(&alice);
    receive(&bob);
    alice.run(&["send", "bob", "of before"]).ok();
    restore(&mut relay, &backup);

    set_registration(&mut relay, "closed");
    for home in [&alice, &bob] {
        let refused = ended_well(home.run(&["recv"]));
        refused.refused(7, "has forgotten your account: registration is closed");
    }
    let kept = ended_well(alice.run(&["send", "bob", "of now"]));
    kept.refused(8, "has forgotten your account");
    set_registration(&mut relay, "open");

    let first = receive(&alice);
    assert_eq!(notes(&first), ["registered_again", "outbox"], "{first}");
    // Bob has no account yet: what is for him waits.
    let bobs = receive(&bob);
    assert_eq!(notes(&bobs), ["registered_again"], "{bobs}");
    alice.run(&["recv"]).ok();
    let bobs = receive(&bob);
    assert_eq!(texts(&bobs), ["of now"], "{bobs}");
    assert_eq!(notes(&bobs), ["missing"], "{bobs}");
    // The receipt of the later text shows that the earlier one went with the relay's database.
    let again = receive(&alice);
    assert_eq!(notes(&again), NONE, "{again}");
    assert_eq!(events(&again, "sent").len(), 1, "{again}");
    let bobs = receive(&bob);
    assert_eq!(texts(&bobs), ["of before"], "{bobs}");
    assert_eq!(notes(&bobs), NONE, "{bobs}");
    assert_eq!(notes(&receive(&alice)), NONE);
    assert!(unconfirmed(&alice).is_empty());
    // Strangers find their keys again as well.
    let carol = world.home("carol", &relay);
    carol.run(&["send", "bob", "hello"]).ok();
    let accepted = bob.run(&["accept", "carol", "--json"]).ok();
    assert_eq!(texts(&accepted), ["hello"]);
}
