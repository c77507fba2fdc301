//! A hostile peer: it has a session, or asks for one, and writes what no honest program writes.

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Bytes, Content, Envelope, FirstHeader, MAX_CONTENT, codec};
use hostchat_tests::hostile::Mallory;
use hostchat_tests::hostile::mallory::encode;

use crate::hostile_support::{Scene, ended_well, now, outbox};
use crate::support::{events, texts};

/// A scene in which bob has accepted mallory as a contact.
fn with_mallory() -> (Scene, Mallory) {
    let scene = Scene::paired();
    let mut mallory = Mallory::new(1);
    let (at, bob_at) = (
        scene.relay.address_of("mallory"),
        scene.relay.address_of("bob"),
    );
    let bundle = scene
        .relay
        .with(|state| {
            state.register(&at.name(), mallory.claim());
            state.take_bundle(&bob_at.name())
        })
        .expect("bob's prekeys");
    mallory.begin(&at, &bob_at, &bundle, now());
    deliver(&scene, &mut mallory, Kind::First, |mallory| {
        mallory.write("hello")
    });
    let accepted = ended_well(scene.bob.run(&["accept", "mallory", "--json"])).ok();
    assert_eq!(texts(&accepted), ["hello"]);
    (scene, mallory)
}

fn deliver(
    scene: &Scene,
    mallory: &mut Mallory,
    kind: Kind,
    write: impl FnOnce(&mut Mallory) -> Vec<u8>,
) {
    let (at, bob_at) = (
        scene.relay.address_of("mallory"),
        scene.relay.address_of("bob"),
    );
    let body = write(mallory);
    let mail = mallory.mail(&at, &bob_at, kind, body);
    scene.relay.leave(mail);
}

fn content(id: u8, sent_at: u64, text: &str) -> Vec<u8> {
    let content = Content::Text {
        id: Bytes([id; 16]),
        sent_at,
        text,
    };
    codec::encode_vec::<_, MAX_CONTENT>(&content)
        .expect("a content fits")
        .to_vec()
}

#[test]
fn what_a_peer_writes_is_shown_escaped_and_once_and_stops_nothing() {
    let (scene, mut mallory) = with_mallory();
    let hostile =
        "\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{8}\u{9b}31m\u{202e}txt.exe\u{2066}\u{200b}\u{0}\u{feff}";
    let long = "x".repeat(4_000);
    let mut good = vec![
        (content(1, 0, hostile), hostile),
        (
            content(2, u64::MAX, "from the end of time"),
            "from the end of time",
        ),
        (content(3, 1, &long), &long),
        (content(4, 1, ""), ""),
        (content(5, 1, "\\u{1b}[2J"), "\\u{1b}[2J"),
    ];
    // The same content again, sealed anew: shown once.
    good.push(good[0].clone());
    for (content, _) in &good {
        deliver(&scene, &mut mallory, Kind::Message, |mallory| {
            mallory.write_raw(content)
        });
    }
    // What is no content at all.
    let mut longer = content(6, 1, "and more");
    longer.push(0);
    let mut no_text = content(7, 1, "ab");
    if let Some(last) = no_text.last_mut() {
        *last = 0xff;
    }
    let bad = [
        Vec::new(),
        vec![0xff; MAX_CONTENT],
        vec![99],
        longer,
        no_text,
    ];
    for content in &bad {
        deliver(&scene, &mut mallory, Kind::Message, |mallory| {
            mallory.write_raw(content)
        });
    }
    scene.alice.run(&["send", "bob", "from a friend"]).ok();

    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    let shown = texts(&received);
    let (good_shown, rest) = shown.split_at(5);
    let expected: Vec<_> = good
        .iter()
        .take(5)
        .map(|(_, text)| (*text).to_owned())
        .collect();
    assert_eq!(good_shown, expected, "as it was written, for programs");
    let (last, unknown) = rest.split_last().expect("more");
    assert_eq!(last, "from a friend");
    assert!(unknown.len() <= bad.len());
    assert!(
        unknown.iter().all(|text| text.contains("does not know")),
        "{unknown:?}"
    );
    scene.relay.wait_emptied("bob");
    let history = ended_well(scene.bob.run(&["history", "mallory"])).ok();
    assert!(history.out.contains("\\u{1b}[2J"), "{history}");
}

#[test]
fn a_peer_that_skips_thousands_of_messages_costs_bounded_work_and_loses_only_its_own() {
    let (scene, mut mallory) = with_mallory();
    // 1,999 are missing before the next; then 2,001.
    for _ in 0..1_998 {
        mallory.write("skipped");
    }
    deliver(&scene, &mut mallory, Kind::Message, |mallory| {
        mallory.write("after a gap")
    });
    for _ in 0..2_001 {
        mallory.write("skipped");
    }
    deliver(&scene, &mut mallory, Kind::Message, |mallory| {
        mallory.write("too far")
    });
    scene.alice.run(&["send", "bob", "from a friend"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["after a gap", "from a friend"]);
    // A gap in a chain is not told: it cannot tell a crash from a loss, and a peer could claim four billion of them.
    assert!(!received.out.contains("\"kind\":\"missing\""), "{received}");
    scene.relay.wait_emptied("bob");
}

#[test]
fn a_peer_that_ends_its_sessions_is_told_of_and_harms_no_other() {
    let (scene, mut mallory) = with_mallory();
    let ended = codec::encode_vec::<_, MAX_CONTENT>(&Content::SessionEnded).expect("fits");
    for _ in 0..3 {
        deliver(&scene, &mut mallory, Kind::Message, |mallory| {
            mallory.write_raw(&ended)
        });
    }
    scene.alice.run(&["send", "bob", "from a friend"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["from a friend"]);
    scene.bob.run(&["send", "alice", "still here"]).ok();
    let received = ended_well(scene.alice.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["still here"]);
}

#[test]
fn a_flood_of_requests_is_bounded_and_blocks_nobody() {
    let scene = Scene::paired();
    let mut mallory = Mallory::new(2);
    let bob_at = scene.relay.address_of("bob");
    // Offers in the names of fifty people, and a hundred first messages of each of two.
    for n in 0..50 {
        let from = scene.relay.address_of(&format!("person{n}"));
        let (_, offer) = mallory.offer(&from, &bob_at, "111111");
        let body = encode(&Envelope::PairOffer(offer));
        let mail = mallory.mail(&from, &bob_at, Kind::Pairing, body);
        scene.relay.leave(mail);
    }
    for name in ["writer1", "writer2"] {
        let from = scene.relay.address_of(name);
        let bait = mallory.bait(now()).bundle;
        Mallory::new(3).begin(&from, &bob_at, &bait, now());
        for _ in 0..100 {
            let header = FirstHeader {
                suite: 1,
                identity: mallory.claim(),
                sender: from.clone(),
                receiver: bob_at.clone(),
                last_resort: 1,
                one_time: None,
                ephemeral: mallory.bytes(),
                kem: mallory.bytes(),
            };
            let mut other = Mallory::new(4);
            other.begin(&from, &bob_at, &bait, now());
            let sealed = other.write("never opened");
            let Ok(Envelope::First { frame, .. }) = codec::decode(&sealed) else {
                unreachable!("a first message")
            };
            let mut frame = frame.to_vec();
            let id = mallory.bytes::<16>();
            let at = frame.len() - 64 - 32;
            frame[at..at + 16].copy_from_slice(&id.0);
            let body = encode(&Envelope::First {
                header,
                frame: &frame,
            });
            let mail = mallory.mail(&from, &bob_at, Kind::First, body);
            scene.relay.leave(mail);
        }
    }
    scene.alice.run(&["send", "bob", "from a friend"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["from a friend"]);
    scene.relay.wait_emptied("bob");
    let asking = ended_well(scene.bob.run(&["accept", "--json"])).ok();
    let requests = events(&asking, "request");
    assert!(requests.len() <= 40, "{} requests", requests.len());
    // None of them is what it says: accepting opens nothing.
    let accepted = ended_well(scene.bob.run(&["accept", "writer1", "--json"]));
    assert_eq!(texts(&accepted), [""; 0]);
    assert_eq!(outbox(&scene.bob, "writer1"), 0);
    scene.alice.run(&["send", "bob", "and again"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["and again"]);
}
