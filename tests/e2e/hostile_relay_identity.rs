//! Identities and prekeys with the real program over a hostile relay: swapped, forged, and logins passed on.

use hostchat_core::wire::relay::{Account, Event, Kind, Login, RELAY_VERSION, Reason};
use hostchat_core::wire::{Address, Name, PrekeyBundle, RelayName};
use hostchat_tests::Home;
use hostchat_tests::hostile::alter::{self, Foreign};
use hostchat_tests::hostile::{Caller, Frame, Mallory, event};

use crate::hostile_support::{Scene, contact, ended_well, now, outbox};
use crate::support::{events, texts};

fn export(home: &Home) -> String {
    let exported = home.run(&["whoami", "--export", "--json"]).ok();
    let exported = events(&exported, "identity");
    exported[0]["export"].as_str().expect("text").to_owned()
}

/// The relay names another identity for bob.
fn lie_about_bob(scene: &Scene) {
    let claim = Mallory::new(1).claim();
    scene.relay.attack(|adversary| {
        adversary.binding = Box::new(move |(name, honest)| {
            if name.as_str() == "bob" {
                Some(claim)
            } else {
                honest
            }
        });
    });
}

#[test]
fn a_swapped_identity_stops_sending_as_long_as_the_relay_names_it() {
    let scene = Scene::paired();
    let before = scene.sent().len();
    lie_about_bob(&scene);
    let ended = ended_well(scene.alice.run(&["send", "bob", "secret"]));
    ended.refused(11, "has changed").refused(11, "--changed");
    let known = contact(&scene.alice, "bob").expect("bob");
    assert_eq!(
        (&known["changed"], &known["outbox"]),
        (&true.into(), &1.into())
    );
    // It stays so, for new messages and for receiving.
    ended_well(scene.alice.run(&["send", "bob", "second"])).refused(11, "has changed");
    ended_well(
        scene
            .alice
            .run(&["send", "bob", "third", "--code", "print"]),
    )
    .refused(11, "has changed");
    ended_well(scene.alice.run(&["recv"])).ok();
    ended_well(
        scene
            .alice
            .run(&["contacts", "verify", "bob", "--compared"]),
    )
    .refused(11, "has changed");
    assert_eq!(scene.sent().len(), before, "something was sent");
    assert_eq!(outbox(&scene.alice, "bob"), 3);

    // When the relay names the identity that was known, nothing leaves by that alone: the user was warned.
    scene.relay.behave();
    ended_well(scene.alice.run(&["recv"])).ok();
    assert_eq!(
        (scene.sent().len(), outbox(&scene.alice, "bob")),
        (before, 3)
    );
    // The next word of the user sends it, with what that word was.
    let ended = ended_well(
        scene
            .alice
            .run(&["send", "bob", "fourth", "--code", "none"]),
    );
    assert!(ended.err.contains("messages leave as before"), "{ended}");
    assert_eq!(ended.code(), 0, "{ended}");
    let known = contact(&scene.alice, "bob").expect("bob");
    assert_eq!(
        (&known["changed"], &known["outbox"], &known["status"]),
        (&false.into(), &0.into(), &"verified by code".into())
    );
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["secret", "second", "third", "fourth"]);
}

#[test]
fn the_known_identity_is_never_accepted_as_a_new_one() {
    let scene = Scene::paired();
    let lie = || {
        lie_about_bob(&scene);
        ended_well(scene.alice.run(&["send", "bob", "secret"])).refused(11, "has changed");
        scene.relay.behave();
    };
    // Nothing was seen.
    let accept = ["accept", "bob", "--changed"];
    let ended = ended_well(scene.alice.run(&accept)).ok();
    assert!(
        ended.out.contains("nothing has changed") && !ended.out.contains("new identity"),
        "{ended}"
    );
    // Another one was seen, and is not there any more: that is no new identity, and sends nothing.
    lie();
    for _ in 0..2 {
        ended_well(scene.alice.run(&accept))
            .refused(11, "and no new one")
            .refused(11, "the relay lies, or somebody holds the old keys");
    }
    assert_eq!(outbox(&scene.alice, "bob"), 1);
    let known = contact(&scene.alice, "bob").expect("bob");
    assert_eq!(known["changed"], true);
    ended_well(scene.alice.run(&["send", "bob", "it is you"])).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["secret", "it is you"]);
}

#[test]
fn an_accepted_change_is_never_shown_as_verified_and_its_safety_number_differs() {
    let scene = Scene::paired();
    let number = |home: &Home, of: &str| {
        let shown = home.run(&["contacts", "verify", of, "--json"]).ok();
        events(&shown, "safety_number")[0]["number"].clone()
    };
    let honest = number(&scene.alice, "bob");
    assert_eq!(honest, number(&scene.bob, "alice"));

    let mut mallory = Mallory::new(2);
    let (claim, bait) = (mallory.claim(), mallory.bait(now()).bundle);
    scene.relay.attack(|adversary| {
        adversary.binding = Box::new(move |_| Some(claim));
        adversary.bundle = Box::new(move |_| Some(bait.clone()));
    });
    ended_well(scene.alice.run(&["send", "bob", "secret"])).refused(11, "has changed");
    ended_well(scene.alice.run(&["accept", "bob", "--changed"])).ok();
    let known = contact(&scene.alice, "bob").expect("bob");
    assert_eq!(known["status"], "unverified");
    assert_ne!(number(&scene.alice, "bob"), honest, "the two would see it");
    // Bob, who knows alice, is not reached by what was meant for the other identity.
    scene.relay.behave();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), [""; 0]);
}

#[test]
fn swapped_and_altered_prekeys_give_no_session_and_send_nothing() {
    let scene = Scene::new();
    let (alice_at, bob_at) = (
        scene.relay.address_of("alice"),
        scene.relay.address_of("bob"),
    );
    let foreign = Foreign::of(&mut Mallory::new(3), &alice_at, &bob_at);
    let honest = scene
        .relay
        .with(|state| state.take_bundle(&bob_at.name()))
        .expect("bob's prekeys");
    let bait = Mallory::new(4).bait(now()).bundle;
    let mixed = |identity: &PrekeyBundle, prekeys: &PrekeyBundle| PrekeyBundle {
        identity: identity.identity,
        ..prekeys.clone()
    };
    let mut attacks = vec![
        (
            "bob's identity, the relay's prekeys".to_owned(),
            mixed(&honest, &bait),
        ),
        (
            "the relay's identity, bob's prekeys".to_owned(),
            mixed(&bait, &honest),
        ),
    ];
    attacks.extend(alter::bundles(&honest, &foreign).into_iter().step_by(5));
    let mut count = 0;
    for (what, bundle) in attacks {
        count += 1;
        scene.relay.attack(|adversary| {
            adversary.bundle = Box::new(move |_| Some(bundle.clone()));
        });
        let ended = ended_well(scene.alice.run(&["send", "bob", &what]));
        assert_eq!(ended.code(), 8, "{what}: {ended}");
        assert!(
            ended
                .err
                .contains("prekeys that are not those of the receiver"),
            "{what}: {ended}"
        );
    }
    println!("bundles: {count} attacks");
    // Alice's own prekeys as bob's, and none at all.
    let own = scene
        .relay
        .with(|state| state.take_bundle(&alice_at.name()));
    for bundle in [own, None] {
        count += 1;
        scene.relay.attack(|adversary| {
            adversary.bundle = Box::new(move |_| bundle.clone());
        });
        let ended = ended_well(scene.alice.run(&["send", "bob", "x"]));
        assert_eq!(ended.code(), 8, "{ended}");
    }
    assert_eq!(scene.sent().len(), 0);
    assert_eq!(outbox(&scene.alice, "bob"), count);
    assert_eq!(
        contact(&scene.alice, "bob").expect("bob")["status"],
        "not reached"
    );
}

#[test]
fn an_imported_identity_is_not_replaced_by_the_relays() {
    let scene = Scene::new();
    scene
        .alice
        .run_with_input(&["contacts", "import", "-"], &export(&scene.bob))
        .ok();
    let mut mallory = Mallory::new(5);
    let (claim, bait) = (mallory.claim(), mallory.bait(now()).bundle);
    scene.relay.attack(|adversary| {
        adversary.binding = Box::new(move |_| Some(claim));
        adversary.bundle = Box::new(move |_| Some(bait.clone()));
    });
    ended_well(scene.alice.run(&["send", "bob", "secret"])).refused(11, "has changed");
    assert_eq!(scene.sent().len(), 0);
    scene.relay.behave();
    ended_well(scene.alice.run(&["send", "bob", "still"])).ok();
    ended_well(scene.alice.run(&["send", "bob", "now", "--changed"])).ok();
    let accepted = ended_well(scene.bob.run(&["accept", "alice", "--json"])).ok();
    let mut got = texts(&accepted);
    got.extend(texts(&ended_well(scene.bob.run(&["recv", "--json"])).ok()));
    assert_eq!(got, ["secret", "still", "now"]);
}

/// Leaves a first message for bob that claims to be alice's.
fn forge(scene: &Scene, mallory: &mut Mallory, from: &Address, text: &str) {
    let bob_at = scene.relay.address_of("bob");
    let bundle = scene
        .relay
        .with(|state| state.take_bundle(&bob_at.name()))
        .expect("bob's prekeys");
    mallory.begin(from, &bob_at, &bundle, now());
    let body = mallory.write(text);
    let mail = mallory.mail(from, &bob_at, Kind::First, body);
    scene.relay.leave(mail);
}

#[test]
fn a_first_message_forged_in_a_contacts_name_is_never_shown() {
    let scene = Scene::paired();
    let alice_at = scene.relay.address_of("alice");
    let mut mallory = Mallory::new(6);
    // The relay forgets to lie about the binding.
    forge(&scene, &mut mallory, &alice_at, "forged one");
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), [""; 0]);
    assert_eq!(
        contact(&scene.bob, "alice").expect("alice")["changed"],
        false
    );

    // The relay lies in both: bob is asked, and nothing leaves for alice until he decides.
    let claim = mallory.claim();
    scene.relay.attack(|adversary| {
        adversary.binding = Box::new(move |(name, honest)| {
            if name.as_str() == "alice" {
                Some(claim)
            } else {
                honest
            }
        });
    });
    forge(&scene, &mut mallory, &alice_at, "forged two");
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), [""; 0]);
    let known = contact(&scene.bob, "alice").expect("alice");
    assert_eq!(
        (&known["changed"], &known["status"]),
        (&true.into(), &"verified by code".into())
    );
    ended_well(scene.bob.run(&["send", "alice", "is that you?"])).refused(11, "has changed");
    ended_well(scene.bob.run(&["accept", "alice"])).refused(11, "has changed");
    // What the true alice writes on her session still arrives, as hers.
    scene.relay.behave();
    scene.alice.run(&["send", "bob", "it is me"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["it is me"]);
    // Declined, the forgery is gone; bob goes on with the alice he knows.
    ended_well(scene.bob.run(&["accept", "alice", "--decline"])).ok();
}

#[test]
fn a_relay_cannot_speak_for_people_of_another_relay() {
    let scene = Scene::new();
    let honest = scene.world.relay();
    let dave = scene.world.home("dave", &honest);
    let dave_at = Address::parse(&format!("dave@{}", honest.host_port())).expect("an address");
    let mut mallory = Mallory::new(7);
    forge(&scene, &mut mallory, &dave_at, "this is dave");
    let full = format!("dave@{}", honest.address);
    ended_well(scene.bob.run(&["accept", &full])).refused(10, "knows another identity");
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), [""; 0]);
    ended_well(scene.bob.run(&["accept", &full, "--decline"])).refused(15, "does not ask");

    // The true dave is heard.
    let bob_at = format!("bob@{}", scene.relay.address);
    dave.run(&["send", &bob_at, "the true dave"]).ok();
    let accepted = ended_well(scene.bob.run(&["accept", &full, "--json"])).ok();
    assert_eq!(texts(&accepted), ["the true dave"]);
}

#[test]
fn a_login_passed_on_to_another_relay_is_refused_there() {
    let scene = Scene::new();
    let honest = scene.world.relay();
    let mut line = Caller::connect(honest.host_port());
    // The hostile relay asks alice with the challenge of the honest one, and passes her answer on.
    let challenge = line.challenge;
    scene.relay.attack(|adversary| {
        adversary.challenge = Box::new(move |_| {
            vec![Frame::Binary(event(&Event::Challenge {
                version: RELAY_VERSION,
                challenge,
                software: "1.0.0",
            }))]
        });
    });
    ended_well(scene.alice.run(&["who"])).refused(7, "login failed");
    let login = scene.relay.with(|state| state.logins.last().cloned());
    let mut login = login.expect("a login");
    login.account = Account::Register {
        name: Name::parse("alice").expect("a name"),
        invitation: heapless::Vec::new(),
    };
    assert_eq!(line.log_in(login.clone()), Err(Reason::LoginFailed));
    login.dialled = line.relay.clone();
    let mut line = Caller::connect(honest.host_port());
    assert_eq!(line.log_in(login), Err(Reason::LoginFailed));
}

#[test]
fn a_login_counts_for_one_relay_one_challenge_one_connection_and_one_identity() {
    let world = hostchat_tests::World::new();
    let honest = world.relay();
    let (mallory, other) = (Mallory::new(8), Mallory::new(9));
    let register = || Account::Register {
        name: Name::parse("mallory").expect("a name"),
        invitation: heapless::Vec::new(),
    };
    let elsewhere = RelayName::parse("elsewhere.example:7443").expect("a relay");
    for attack in 0..6 {
        let mut line = Caller::connect(honest.host_port());
        let (relay, challenge, exporter) = (&line.relay, &line.challenge.0, &line.exporter);
        let login = match attack {
            0 => mallory.login(register(), &elsewhere, challenge, exporter),
            1 => Login {
                dialled: relay.clone(),
                ..mallory.login(register(), &elsewhere, challenge, exporter)
            },
            2 => mallory.login(register(), relay, &[1; 32], exporter),
            3 => mallory.login(register(), relay, challenge, &[1; 32]),
            4 => Login {
                identity: other.claim(),
                ..mallory.login(register(), relay, challenge, exporter)
            },
            _ => Login {
                account: Account::Guest(Address::new(
                    &Name::parse("mallory2").expect("a name"),
                    &elsewhere,
                )),
                ..mallory.login(register(), relay, challenge, exporter)
            },
        };
        assert_eq!(
            line.log_in(login),
            Err(Reason::LoginFailed),
            "attack {attack}"
        );
    }
    let mut line = Caller::connect(honest.host_port());
    let login = mallory.login(register(), &line.relay, &line.challenge.0, &line.exporter);
    assert_eq!(line.log_in(login.clone()), Ok(()), "the way is open");
    let mut line = Caller::connect(honest.host_port());
    assert_eq!(line.log_in(login), Err(Reason::LoginFailed), "replayed");
}
