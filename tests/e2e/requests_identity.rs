//! Requests of guests under the address of somebody else, with an identity of their own or with that person's, which is public:
//! what both users see.

use hostchat_core::wire::relay::{Account, Answer, Call, Event, Kind};
use hostchat_core::wire::{Address, Envelope, IdentityClaim, PrekeyBundle, codec};
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{Caller, Mallory};
use hostchat_tests::{Ended, Home, Relay, World};
use serde_json::Value;

use crate::hostile_support::{Scene, ended_well, now};
use crate::requests_flood::{FLOODER, Flood, address, with_limits};
use crate::support::{code_of, events, texts};

/// Somebody's line to a relay, as a guest under this address.
fn guest(mallory: &Mallory, relay: &Relay, claimed: &Address) -> Caller {
    let mut line = Caller::connect(relay.host_port());
    let account = Account::Guest(claimed.clone());
    let signed = mallory.login(account, &line.relay, &line.challenge.0, &line.exporter);
    line.log_in(signed).expect("logged in");
    line
}

/// The identity of an account, as its relay tells anybody.
fn public_identity(of: &Address, relay: &Relay) -> IdentityClaim {
    let curious = Address::parse("curious@elsewhere.example:1").expect("an address");
    let mut line = guest(&Mallory::new(1), relay, &curious);
    let answer = line.call(&Call::LookUp(of.name()));
    match codec::decode::<Event<'_>>(&answer) {
        Ok(Event::Reply {
            answer: Answer::Binding(claim),
            ..
        }) => claim,
        other => unreachable!("no identity: {other:?}"),
    }
}

fn prekeys(line: &mut Caller, of: &Address) -> PrekeyBundle {
    let answer = line.call(&Call::TakePrekeys(of.name()));
    match codec::decode::<Event<'_>>(&answer) {
        Ok(Event::Reply {
            answer: Answer::Bundle(bundle),
            ..
        }) => bundle,
        other => unreachable!("no prekeys: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The requests that bob's `accept` lists, and how many it says were in somebody else's name.
fn listed(bob: &Home) -> (Vec<Value>, u64) {
    let listed = ended_well(bob.run(&["accept", "--json"])).ok();
    (events(&listed, "request"), forged(&listed))
}

/// How many requests a program dropped since they came in carol's name.
fn forged(ended: &Ended) -> u64 {
    let notes = events(ended, "note");
    let notes = notes.iter().filter(|note| note["kind"] == "forged");
    notes
        .map(|note| {
            let text = note["text"].as_str().unwrap_or_default();
            assert!(text.contains("in the name of carol@"), "{text}");
            note["count"].as_u64().expect("a count")
        })
        .sum()
}

/// As many offers as a mailbox takes of one guest.
const SHARE: u64 = 16;

/// Carol, at her own relay, pairs with bob by a code while a guest under her address leaves hundreds of offers in bob's mailbox.
fn pairs_while_a_guest_claims_her_address(copies_her_identity: bool) {
    let world = World::new();
    let (here, there) = (
        with_limits(&world, "here", ""),
        world.relay_with("there", &[]),
    );
    let (bob, carol) = (world.home("bob", &here), world.home("carol", &there));
    let (bob_at, carol_at) = (address("bob", &here), address("carol", &there));
    let identity = public_identity(&carol_at, &there);
    let own = Mallory::new(FLOODER).claim().fingerprint();
    let (own, hers) = (hex(&own), hex(&identity.fingerprint()));
    let login = Account::Guest(carol_at.clone());
    let copied = copies_her_identity.then_some(identity);
    let flood = Flood::start_with(&here, login, &carol_at, &bob_at, copied);
    flood.leave(100);

    // Before hers: nothing that bears her identity, and of the others one that is not checked.
    let fingerprints = |requests: &[Value]| {
        requests
            .iter()
            .map(|r| r["fingerprint"].clone())
            .collect::<Vec<_>>()
    };
    let (requests, dropped) = listed(&bob);
    if copies_her_identity {
        assert!(requests.is_empty(), "{requests:?}");
        assert_eq!(dropped, SHARE);
    } else {
        assert_eq!(fingerprints(&requests), [own.as_str()]);
        assert_eq!(requests[0]["checked"], false);
        assert_eq!(dropped, 0);
    }

    // The guest's share is full again when hers comes, and there are newer ones.
    flood.leave(100);
    let to = format!("bob@{}", here.address);
    let sending = carol.start(&["send", &to, "through the flood", "--code", "print"]);
    let code = code_of(&sending);
    flood.leave(100);
    let (requests, dropped) = listed(&bob);
    assert!(requests.iter().all(|r| r["peer"] == carol_at.as_str()));
    let mut found = fingerprints(&requests);
    found.retain(|fingerprint| *fingerprint != own.as_str());
    assert_eq!(found, [hers.as_str()], "carol's own, once: {requests:?}");
    assert_eq!(requests.len(), if copies_her_identity { 1 } else { 2 });
    assert_eq!(dropped > 0, copies_her_identity);

    // And while bob types. Her code is right at the first try, and no other one is asked for.
    flood.leave(100);
    let from = format!("carol@{}", there.address);
    let accepting = [
        "accept",
        &from,
        "--wait",
        "60",
        "--code-file",
        "-",
        "--json",
    ];
    let accepted = ended_well(bob.run_with_input(&accepting, &code)).ok();
    assert_eq!(texts(&accepted), ["through the flood"], "{accepted}");
    assert_eq!(events(&accepted, "paired").len(), 1, "{accepted}");
    assert_eq!(events(&accepted, "wrong_code").len(), 0, "{accepted}");
    let sent = ended_well(sending.end()).ok();
    assert!(sent.out.contains("sent to bob@"), "{sent}");
    assert!(!sent.err.contains("wrong code"), "{sent}");
    let offers = flood.end();
    assert!(offers >= 425, "{offers}");

    ended_well(bob.run(&["recv"])).ok();
    assert!(listed(&bob).0.is_empty(), "nothing is left to accept");
    carol.run(&["send", &to, "and on"]).ok();
    bob.run(&["send", &from, "and back"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["and on"]);
    assert_eq!(texts(&carol.run(&["recv", "--json"]).ok()), ["and back"]);
}

#[test]
fn a_guest_with_an_identity_of_its_own_cannot_fill_the_share_of_whose_address_it_claims() {
    pairs_while_a_guest_claims_her_address(false);
}

#[test]
fn a_guest_that_copies_an_identity_cannot_take_the_place_of_whose_it_is() {
    pairs_while_a_guest_claims_her_address(true);
}

#[test]
fn a_first_message_with_a_copied_identity_is_dropped_from_a_stranger_and_from_a_contact() {
    let world = World::new();
    let (here, there) = (
        world.relay_with("here", &[]),
        world.relay_with("there", &[]),
    );
    let (bob, carol) = (world.home("bob", &here), world.home("carol", &there));
    let (bob_at, carol_at) = (address("bob", &here), address("carol", &there));
    let identity = public_identity(&carol_at, &there);
    let mut mallory = Mallory::new(9);
    let mut line = guest(&mallory, &here, &carol_at);
    let bundle = prekeys(&mut line, &bob_at);
    mallory.begin(&carol_at, &bob_at, &bundle, now());
    let mut forge = || {
        let sealed = mallory.write("not from carol");
        let Ok(Envelope::First { mut header, frame }) = codec::decode(&sealed) else {
            unreachable!("a first message")
        };
        header.identity = identity;
        let answer = line.call(&Call::Send {
            to: bob_at.name(),
            message_id: mallory.bytes(),
            kind: Kind::First,
            body: &encode(&Envelope::First { header, frame }),
        });
        let answer = codec::decode::<Event<'_>>(&answer);
        let stored = matches!(
            answer,
            Ok(Event::Reply {
                answer: Answer::Stored,
                ..
            })
        );
        assert!(stored, "{answer:?}");
    };
    let seen_by = |home: &Home| {
        let received = ended_well(home.run(&["recv", "--json"])).ok();
        let asked = events(&received, "request").len();
        (texts(&received), asked, forged(&received))
    };

    forge();
    assert_eq!(seen_by(&bob), (vec![], 0, 1));
    assert!(listed(&bob).0.is_empty());
    // Hers is listed, alone, and taken.
    let to = format!("bob@{}", here.address);
    let from = format!("carol@{}", there.address);
    carol.run(&["send", &to, "from carol"]).ok();
    forge();
    assert_eq!(seen_by(&bob), (vec![], 1, 1));
    let accepted = ended_well(bob.run(&["accept", &from, "--json"])).ok();
    assert_eq!(texts(&accepted), ["from carol"], "{accepted}");

    // Of a contact it is not even opened, so that nobody is asked about it.
    forge();
    bob.run(&["send", &from, "heard"]).ok();
    assert_eq!(seen_by(&bob), (vec![], 0, 1));
    assert_eq!(seen_by(&carol), (vec!["heard".to_owned()], 0, 0));
    carol.run(&["send", &to, "and on"]).ok();
    forge();
    assert_eq!(seen_by(&bob), (vec!["and on".to_owned()], 0, 1));
}

#[test]
fn what_the_relay_does_not_say_of_a_sender_is_not_held_against_it() {
    let scene = Scene::new();
    let carol = scene.join("carol");
    let (carol_at, bob_at) = (
        scene.relay.address_of("carol"),
        scene.relay.address_of("bob"),
    );
    let identity = scene.relay.with(|state| state.identity("carol"));
    let identity = identity.expect("carol is known");
    let mut mallory = Mallory::new(10);
    let mut leave = |says: bool| {
        let (_, mut offer) = mallory.offer(&carol_at, &bob_at, "111111");
        offer.public.identity = identity;
        let body = encode(&Envelope::PairOffer(offer));
        let mut mail = mallory.mail(&carol_at, &bob_at, Kind::Pairing, body);
        mail.fingerprint = mail.fingerprint.filter(|_| says);
        scene.relay.leave(mail);
    };
    leave(true);
    assert_eq!(listed(&scene.bob), (vec![], 1));
    // Stored before the relay knew: as it always was.
    leave(false);
    let (requests, dropped) = listed(&scene.bob);
    assert_eq!((requests.len(), dropped), (1, 0));
    assert_eq!(requests[0]["fingerprint"], hex(&identity.fingerprint()));
    drop(carol);
}
