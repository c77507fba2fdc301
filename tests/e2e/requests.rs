//! First messages of strangers and offers that are not in order: refused before the user acts, and nothing misreported.

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Address, Bytes, Content, Envelope, MAX_CONTENT, codec};
use hostchat_tests::World;
use hostchat_tests::hostile::Mallory;
use hostchat_tests::hostile::mallory::encode;

use crate::hostile_support::{Scene, contact, ended_well, now};
use crate::support::{code_of, events, texts};

/// A scene in which mallory has an account of its own.
fn with_mallory(seed: u64) -> (Scene, Mallory, Address, Address) {
    let scene = Scene::new();
    let mallory = Mallory::new(seed);
    let (at, bob_at) = (
        scene.relay.address_of("mallory"),
        scene.relay.address_of("bob"),
    );
    scene
        .relay
        .with(|state| state.register(&at.name(), mallory.claim()));
    (scene, mallory, at, bob_at)
}

/// Begins a session with bob from prekeys that he left.
fn begin(scene: &Scene, mallory: &mut Mallory, at: &Address, bob_at: &Address) {
    let bundle = scene
        .relay
        .with(|state| state.take_bundle(&bob_at.name()))
        .expect("bob's prekeys");
    mallory.begin(at, bob_at, &bundle, now());
}

#[test]
fn offers_of_another_suite_or_role_are_refused_before_anybody_is_asked() {
    let (scene, mut mallory, at, bob_at) = with_mallory(1);
    let own = scene
        .relay
        .with(|state| state.identity("bob"))
        .expect("bob");
    let alter: [fn(&mut hostchat_core::wire::PairOffer); 4] = [
        |offer| offer.public.suite = 2,
        |offer| offer.public.role = 2,
        |offer| offer.public.role = 0,
        |offer| offer.public.identity.signature.0[0] ^= 1,
    ];
    let leave = |mallory: &mut Mallory, offer, sender: &Address| {
        let body = encode(&Envelope::PairOffer(offer));
        let mail = mallory.mail(sender, &bob_at, Kind::Pairing, body);
        scene.relay.leave(mail);
    };
    for alter in alter {
        let (_, mut offer) = mallory.offer(&at, &bob_at, "111111");
        alter(&mut offer);
        leave(&mut mallory, offer, &at);
    }
    // With one of bob's own keys, in bob's own name, and for somebody else.
    let (_, mut offer) = mallory.offer(&at, &bob_at, "111111");
    offer.public.identity = own;
    leave(&mut mallory, offer, &at);
    let (_, mut offer) = mallory.offer(&at, &bob_at, "111111");
    offer.public.initiator = bob_at.clone();
    leave(&mut mallory, offer, &bob_at);
    let (_, offer) = mallory.offer(&at, &scene.relay.address_of("alice"), "111111");
    leave(&mut mallory, offer, &at);

    let received = ended_well(scene.bob.run(&["recv"])).ok();
    scene.relay.wait_emptied("bob");
    let notes: Vec<_> = received.err.lines().collect();
    assert_eq!(
        notes,
        [format!(
            "note: dropped 7 messages that your relay attributes to {bob_at} and {at}: not a valid request to pair"
        )]
    );
    let listed = ended_well(scene.bob.run(&["accept", "--json"])).ok();
    assert_eq!(events(&listed, "request").len(), 0, "{listed}");
    // The same without an alteration is listed.
    let (_, offer) = mallory.offer(&at, &bob_at, "111111");
    leave(&mut mallory, offer, &at);
    let listed = ended_well(scene.bob.run(&["accept", "--json"])).ok();
    assert_eq!(events(&listed, "request").len(), 1, "{listed}");
}

#[test]
fn first_messages_that_cannot_be_in_order_are_refused_before_anybody_is_asked() {
    let (scene, mut mallory, at, bob_at) = with_mallory(2);
    begin(&scene, &mut mallory, &at, &bob_at);
    let own = scene
        .relay
        .with(|state| state.identity("bob"))
        .expect("bob");
    let sealed = mallory.write("never shown");
    let Ok(Envelope::First { header, frame }) = codec::decode(&sealed) else {
        unreachable!("a first message")
    };
    let mut forms = Vec::new();
    for n in 0..5 {
        let mut header = header.clone();
        let mut sender = at.clone();
        match n {
            0 => header.suite = 2,
            1 => (header.sender, sender) = (bob_at.clone(), bob_at.clone()),
            2 => header.receiver = at.clone(),
            3 => header.identity = own,
            _ => header.identity.dh = own.dh,
        }
        forms.push((header, sender));
    }
    for (header, sender) in forms {
        let body = encode(&Envelope::First { header, frame });
        let mail = mallory.mail(&sender, &bob_at, Kind::First, body);
        scene.relay.leave(mail);
    }
    let received = ended_well(scene.bob.run(&["recv"])).ok();
    scene.relay.wait_emptied("bob");
    let notes: Vec<_> = received.err.lines().collect();
    assert_eq!(
        notes,
        [format!(
            "note: dropped 5 messages that your relay attributes to {bob_at} and {at}: not a valid first message"
        )]
    );
    let listed = ended_well(scene.bob.run(&["accept", "--json"])).ok();
    assert_eq!(events(&listed, "request").len(), 0, "{listed}");

    // In the name of somebody else, who has not written.
    let mail = mallory.mail(
        &scene.relay.address_of("alice"),
        &bob_at,
        Kind::First,
        sealed.clone(),
    );
    scene.relay.leave(mail);
    let received = ended_well(scene.bob.run(&["recv"])).ok();
    assert!(
        received
            .err
            .contains("dropped 1 request in the name of mallory@"),
        "{received}"
    );
    let mail = mallory.mail(&at, &bob_at, Kind::First, sealed);
    scene.relay.leave(mail);
    let accepted = ended_well(scene.bob.run(&["accept", "mallory", "--json"])).ok();
    assert_eq!(texts(&accepted), ["never shown"], "the way is open");
}

#[test]
fn a_first_message_that_no_key_opens_is_an_error_of_its_own() {
    let (scene, mut mallory, at, bob_at) = with_mallory(3);
    begin(&scene, &mut mallory, &at, &bob_at);
    // The header is whole, and what it carries is not.
    let mut sealed = mallory.write("altered on its way");
    if let Some(last) = sealed.last_mut() {
        *last ^= 1;
    }
    let mail = mallory.mail(&at, &bob_at, Kind::First, sealed);
    scene.relay.leave(mail);
    let received = ended_well(scene.bob.run(&["recv"])).ok();
    assert!(
        received.err.contains("writes for the first time"),
        "{received}"
    );
    let accepted = ended_well(scene.bob.run(&["accept", "mallory"]))
        .refused(16, "error: what mallory@")
        .refused(
            16,
            "wrote to you cannot be opened: a signature or tag does not match",
        )
        .refused(16, "it was deleted; ask the sender to write again");
    assert_eq!(accepted.out, "");
    ended_well(scene.bob.run(&["accept", "mallory"])).refused(15, "does not ask");
    assert!(contact(&scene.bob, "mallory").is_none());

    // One that opens beside one that does not: shown, and the other is told.
    let good = mallory.write("this one is whole");
    let mut bad = mallory.write("this one is not");
    if let Some(last) = bad.last_mut() {
        *last ^= 1;
    }
    for body in [bad, good] {
        let mail = mallory.mail(&at, &bob_at, Kind::First, body);
        scene.relay.leave(mail);
    }
    let accepted = ended_well(scene.bob.run(&["accept", "mallory"])).ok();
    assert!(accepted.out.contains("mallory (unverified"), "{accepted}");
    assert!(accepted.out.contains("this one is whole"), "{accepted}");
    assert!(
        accepted
            .err
            .contains("dropped 1 message that your relay attributes to mallory@"),
        "{accepted}"
    );
}

#[test]
fn a_first_message_for_keys_that_the_token_does_not_have_is_never_opened_and_never_a_success() {
    let (scene, mut mallory, at, bob_at) = with_mallory(4);
    // A last-resort prekey of another token, for bob's address.
    let mut bundle = Mallory::new(5).bait(now()).bundle;
    bundle.one_time = None;
    mallory.begin(&at, &bob_at, &bundle, now());
    let sealed = mallory.write("for another token");
    let Ok(Envelope::First { mut header, frame }) = codec::decode(&sealed) else {
        unreachable!("a first message")
    };
    header.last_resort = 4_000_000;
    let body = encode(&Envelope::First { header, frame });
    let mail = mallory.mail(&at, &bob_at, Kind::First, body);
    scene.relay.leave(mail);
    let received = ended_well(scene.bob.run(&["recv"])).ok();
    let refused_at_once = received
        .err
        .contains("written for keys that your token does not have");
    let accepted = ended_well(scene.bob.run(&["accept", "mallory"]));
    if refused_at_once {
        assert!(!received.err.contains("writes for the first time"));
        accepted.refused(15, "does not ask");
    } else {
        // A token that does not say which prekeys it has.
        accepted.refused(16, "cannot be opened");
    }
}

#[test]
fn what_waits_is_listed_with_the_contacts() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let carol = world.home("carol", &relay);
    carol.run(&["send", "bob", "hello from carol"]).ok();
    let sending = alice.start(&["send", "bob", "with a code", "--code", "print"]);
    let code = code_of(&sending);
    bob.run(&["recv"]).ok();
    let listed = bob.run(&["contacts"]).ok();
    let lines: Vec<_> = listed.out.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("carol@") && lines[0].contains("writes for the first time"));
    assert!(lines[1].starts_with("alice@") && lines[1].contains("asks to pair with a code"));
    let json = bob.run(&["contacts", "--json"]).ok();
    let kinds: Vec<_> = events(&json, "request")
        .iter()
        .map(|request| (request["kind"].clone(), request["checked"].clone()))
        .collect();
    assert_eq!(
        kinds,
        [("first".into(), true.into()), ("code".into(), true.into())]
    );
    bob.run_with_input(&["accept", "alice", "--code-file", "-"], &code)
        .ok();
    sending.end().ok();
    bob.run(&["accept", "carol"]).ok();
    let json = bob.run(&["contacts", "--json"]).ok();
    assert_eq!(events(&json, "request").len(), 0, "{json}");
    assert_eq!(events(&json, "contact").len(), 2, "{json}");
}

#[test]
fn a_text_that_is_too_long_or_of_an_unknown_kind_is_marked_so_and_no_text_can_imitate_it() {
    let (scene, mut mallory, at, bob_at) = with_mallory(6);
    begin(&scene, &mut mallory, &at, &bob_at);
    let content = |id: u8, text: &str| {
        let content = Content::Text {
            id: Bytes([id; 16]),
            sent_at: 1_800_000_000_000,
            text,
        };
        codec::encode_vec::<_, MAX_CONTENT>(&content)
            .expect("a content fits")
            .to_vec()
    };
    let words = "sent a message of a kind that this version does not know";
    let contents = [
        content(1, &"x".repeat(4_000)),
        content(2, &"?".repeat(4_001)),
        vec![99, 1, 2, 3],
        content(4, words),
    ];
    for content in &contents {
        let body = mallory.write_raw(content);
        let mail = mallory.mail(&at, &bob_at, Kind::First, body);
        scene.relay.leave(mail);
    }
    scene.bob.run(&["recv"]).ok();
    let accepted = ended_well(scene.bob.run(&["accept", "mallory", "--json"])).ok();
    let marked: Vec<_> = events(&accepted, "message")
        .iter()
        .map(|message| message["unknown"].as_bool().unwrap_or_default())
        .collect();
    assert_eq!(marked, [false, true, true, false], "{accepted}");
    assert_eq!(texts(&accepted)[1..], [words; 3]);
    let history = scene.bob.run(&["history", "mallory"]).ok();
    let real = format!("mallory {words}");
    let forged = format!("mallory: {words}");
    let ends = |end: &str| history.out.lines().filter(|l| l.ends_with(end)).count();
    assert_eq!((ends(&real), ends(&forged)), (2, 1), "{history}");
    let history = events(&scene.bob.run(&["history", "--json"]).ok(), "history");
    let marked: Vec<_> = history.iter().map(|m| m["unknown"].clone()).collect();
    assert_eq!(marked, [false, true, true, false]);
}
