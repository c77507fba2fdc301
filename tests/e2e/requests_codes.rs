//! Codes that meet something else: an earlier first message, the other's own code, three wrong codes before.

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Envelope, codec};
use hostchat_tests::hostile::Mallory;
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::{Ended, Home, Running, World};
use rustix::process::Signal;

use crate::hostile_support::{Scene, contact, ended_well, outbox};
use crate::support::{code_of, events, other_code, pair, texts};
use crate::terminal::Terminal;

const FIRST: &str = "written before we had a code";

/// Everything that a person was shown by these commands, in order.
fn shown(commands: &[&Ended]) -> Vec<String> {
    commands.iter().flat_map(|ended| texts(ended)).collect()
}

/// Both are verified, and what each sends arrives at the other.
fn talk(one: &Home, other: &Home) {
    for (from, to) in [(one, other), (other, one), (one, other)] {
        let text = format!("from {} to {}", from.name, to.name);
        from.run(&["send", &to.name, &text]).ok();
        assert_eq!(texts(&to.run(&["recv", "--json"]).ok()), [text]);
    }
    for (home, name) in [(one, &other.name), (other, &one.name)] {
        let known = contact(home, name).expect("a contact");
        assert_eq!(known["status"], "verified by code", "{known}");
        assert_eq!(outbox(home, name), 0);
    }
}

#[test]
fn a_first_message_that_waited_is_shown_when_its_sender_is_paired_with() {
    let world = World::new();
    let relay = world.relay();
    let (one, two) = (world.home("one", &relay), world.home("two", &relay));
    two.run(&["send", "one", FIRST]).ok();
    let received = one.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), [""; 0]);
    assert_eq!(events(&received, "request").len(), 1);

    let sending = one.start(&["send", "two", "with a code", "--code", "print", "--json"]);
    let code = json_code(&sending);
    let accepting = ["accept", "one", "--code-file", "-", "--json"];
    let accepted = two.run_with_input(&accepting, &code).ok();
    let sent = sending.end().ok();
    assert_eq!(texts(&accepted), ["with a code"]);
    let later = one.run(&["recv", "--json"]).ok();
    assert_eq!(
        shown(&[&sent, &later]),
        [FIRST],
        "once, right after the pairing"
    );
    assert_eq!(texts(&sent), [FIRST]);
    let message = events(&sent, "message").remove(0);
    assert_eq!(message["verified"], true);
    assert_eq!(
        events(&one.run(&["accept", "--json"]).ok(), "request").len(),
        0
    );
    two.run(&["recv"]).ok();
    talk(&one, &two);
}

#[test]
fn the_other_end_shows_a_first_message_that_waited_as_well() {
    let world = World::new();
    let relay = world.relay();
    let (one, two) = (world.home("one", &relay), world.home("two", &relay));
    one.run(&["send", "two", FIRST]).ok();
    two.run(&["recv"]).ok();
    let sending = one.start(&["send", "two", "with a code", "--code", "print"]);
    let code = code_of(&sending);
    let accepting = ["accept", "one", "--code-file", "-", "--json"];
    let accepted = two.run_with_input(&accepting, &code).ok();
    sending.end().ok();
    let later = two.run(&["recv", "--json"]).ok();
    let mut all = shown(&[&accepted, &later]);
    all.sort();
    assert_eq!(all, ["with a code", FIRST]);
    one.run(&["recv"]).ok();
    talk(&one, &two);
}

/// The code in the output of a sender that prints JSON.
fn json_code(sending: &Running) -> String {
    sending.wait_out("the code", |line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event["event"] == "code").then(|| event["code"].as_str().map(str::to_owned))?
    })
}

/// Starts `send` at both ends at once; each waits until it knows of the other's code.
fn both_show_a_code(one: &Home, two: &Home) -> [(Running, String); 2] {
    let first = one.start(&["send", &two.name, "from one", "--code", "print"]);
    let first_code = code_of(&first);
    let second = two.start(&["send", &one.name, "from two", "--code", "print"]);
    let second_code = code_of(&second);
    let told = |sending: &Running, other: &str| {
        sending.wait_err("what to do", |line| {
            let told = line.contains(&format!("{other}@")) && line.contains("has made a code too");
            assert!(!line.contains("asks to pair"), "{line}");
            told.then(|| line.to_owned())
        })
    };
    // The one whose address sorts first gives way: who follows the advice does not meet somebody who does the same.
    let (types, waits) = (told(&first, &two.name), told(&second, &one.name));
    assert!(one.name < two.name);
    assert!(
        types.contains("Press Ctrl-C and run `hostchat accept two@"),
        "{types}"
    );
    assert!(types.contains("stays in the outbox"), "{types}");
    assert!(
        waits.contains("one@") && waits.contains("Let this command wait"),
        "{waits}"
    );
    assert!(!waits.contains("Ctrl-C"), "{waits}");
    [(first, first_code), (second, second_code)]
}

#[test]
fn when_both_make_a_code_and_nobody_can_be_asked_one_stops_and_types_the_others() {
    let world = World::new();
    let relay = world.relay();
    let (one, two) = (world.home("one", &relay), world.home("two", &relay));
    let [(first, _), (second, code)] = both_show_a_code(&one, &two);
    first.signal(Signal::INT);
    first.end().refused(130, "interrupted");
    assert_eq!(outbox(&one, "two"), 1);
    let accepting = ["accept", "two", "--code-file", "-", "--json"];
    let accepted = one.run_with_input(&accepting, &code).ok();
    assert_eq!(texts(&accepted), ["from two"]);
    second.end().ok();
    assert_eq!(texts(&two.run(&["recv", "--json"]).ok()), ["from one"]);
    assert_eq!(
        events(&two.run(&["accept", "--json"]).ok(), "request").len(),
        0
    );
    talk(&one, &two);
}

/// `send` with a code in a terminal, as far as the code.
fn send_in_terminal(from: &Home, to: &Home, text: &str) -> (Terminal, String) {
    let command = from.command(&["send", &to.name, text, "--code", "print"]);
    let terminal = Terminal::start(&command, false);
    let shown = terminal.wait("the code", |shown| {
        shown.contains("waiting until it is typed")
    });
    let code = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("code: "))
        .expect("a code")
        .trim()
        .to_owned();
    (terminal, code)
}

fn asked(terminal: &Terminal, times: usize) -> String {
    terminal.wait("the question", |shown| {
        shown.matches("has made a code too").count() >= times
            && shown.contains("here (Enter to wait")
    })
}

fn ended(terminal: Terminal) -> String {
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 0, "{shown}");
    shown
}

#[test]
fn when_both_make_a_code_one_types_the_others_right_there() {
    let world = World::new();
    let relay = world.relay();
    let (one, two) = (world.home("one", &relay), world.home("two", &relay));
    let (mut first, _) = send_in_terminal(&one, &two, "from one");
    let second = two.start(&["send", "one", "from two", "--code", "print", "--json"]);
    let code = json_code(&second);
    second.wait_out("the other's code", |line| {
        line.contains("\"crossed_codes\"").then(|| {
            assert!(line.contains("\"types\":false"), "{line}");
        })
    });
    asked(&first, 1);
    // A slip first: told, and asked again for the next run of the same code.
    first.type_line(&other_code(&code));
    first.wait("the wrong code", |shown| {
        shown.contains("wrong code for two@")
    });
    first.wait("the second question", |shown| {
        shown.matches("has made a code too").count() == 2
    });
    first.type_line(&code);
    let shown = ended(first);
    assert!(shown.contains("paired with two@"), "{shown}");
    assert!(shown.contains("sent to two@"), "{shown}");
    let sent = second.end().ok();
    assert_eq!(events(&sent, "paired").len(), 1, "{sent}");
    let mut all = texts(&one.run(&["recv", "--json"]).ok());
    all.extend(texts(&two.run(&["recv", "--json"]).ok()));
    all.sort();
    assert_eq!(all, ["from one", "from two"]);
    // The code that nobody needed has ended at both ends.
    for home in [&one, &two] {
        let listed = home.run(&["accept", "--json"]).ok();
        assert_eq!(events(&listed, "request").len(), 0, "{listed}");
    }
    talk(&one, &two);
}

#[test]
fn when_both_type_the_others_code_at_the_same_moment_both_texts_arrive() {
    let world = World::new();
    let relay = world.relay();
    let (one, two) = (world.home("one", &relay), world.home("two", &relay));
    let (mut first, first_code) = send_in_terminal(&one, &two, "from one");
    let (mut second, second_code) = send_in_terminal(&two, &one, "from two");
    asked(&first, 1);
    asked(&second, 1);
    first.type_line(&second_code);
    second.type_line(&first_code);
    for shown in [ended(first), ended(second)] {
        assert!(shown.contains("paired with"), "{shown}");
    }
    let mut all = texts(&one.run(&["recv", "--json"]).ok());
    all.extend(texts(&two.run(&["recv", "--json"]).ok()));
    all.extend(texts(&one.run(&["recv", "--json"]).ok()));
    all.sort();
    assert_eq!(all, ["from one", "from two"]);
    two.run(&["recv"]).ok();
    talk(&one, &two);
}

#[test]
fn after_three_wrong_codes_no_other_is_asked_for_and_both_ends_are_told() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let sending = alice.start(&["send", "bob", "kept", "--code", "print"]);
    let wrong = other_code(&code_of(&sending));
    let codes = format!("{wrong}\n{wrong}\n{wrong}\n");
    let accepting = ["accept", "alice", "--code-file", "-"];
    bob.run_with_input(&accepting, &codes)
        .refused(9, "this code is dead");
    sending.end().refused(9, "this code is dead");

    let sending = alice.start(&["send", "bob", "with a fresh code", "--code", "print"]);
    code_of(&sending);
    // The input never comes: the program does not wait for it.
    let (refused, input) = bob.start_with_pipe(&accepting);
    let refused = refused
        .end()
        .refused(9, "three codes were typed within ten minutes")
        .refused(9, "hint: wait ")
        .refused(9, "The sender has been told");
    drop(input);
    assert!(!refused.err.contains("Type it"), "{refused}");
    sending.wait_err("what the other end says", |line| {
        let told = line.contains("bob@") && line.contains("cannot type yours for about");
        told.then(|| {
            assert!(line.contains("your message stays in the outbox"), "{line}");
            let minutes = line
                .split("about ")
                .nth(1)
                .and_then(|l| l.split(' ').next());
            let minutes: u64 = minutes.and_then(|m| m.parse().ok()).expect("minutes");
            assert!((8..=10).contains(&minutes), "{line}");
        })
    });
    // On a terminal as well: told before anything is asked.
    let (shown, code) = Terminal::start(&bob.command(&["accept", "alice"]), false).end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 9, "{shown}");
    assert!(
        !shown.contains("Type it") && shown.contains("hint: wait "),
        "{shown}"
    );
    sending.signal(Signal::INT);
    sending.end().refused(130, "interrupted");
    assert_eq!(outbox(&alice, "bob"), 2);
}

#[test]
fn nobody_else_can_say_that_a_code_cannot_be_typed_or_that_a_request_is_over() {
    let scene = Scene::new();
    let bob_at = scene.relay.address_of("bob");
    let mut mallory = Mallory::new(9);
    let mallory_at = scene.relay.address_of("mallory");
    let sending = scene
        .alice
        .start(&["send", "bob", "undisturbed", "--code", "print", "--json"]);
    let code = json_code(&sending);
    let alice_at = scene.relay.address_of("alice");
    let sent = scene.sent();
    let sid = sent
        .iter()
        .find_map(|mail| match codec::decode(&mail.body) {
            Ok(Envelope::PairOffer(offer)) => Some(offer.sid),
            _ => None,
        })
        .expect("an offer");
    let ended = encode(&Envelope::PairEnded { sid, runs_left: 0 });
    for to in [&bob_at, &alice_at] {
        let mail = mallory.mail(&mallory_at, to, Kind::Pairing, ended.clone());
        scene.relay.leave(mail);
    }
    scene.bob.run(&["recv"]).ok();
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let accepted = ended_well(scene.bob.run_with_input(&accepting, &code)).ok();
    assert_eq!(texts(&accepted), ["undisturbed"]);
    let sent = ended_well(sending.end()).ok();
    assert_eq!(events(&sent, "peer_must_wait").len(), 0, "{sent}");
}

#[test]
fn codes_and_first_messages_of_contacts_are_taken_as_before() {
    let world = World::new();
    let relay = world.relay();
    let (one, two) = (world.home("one", &relay), world.home("two", &relay));
    pair(&world, &one, &two);
    // A contact makes a code again: the same identity, a new session.
    let sending = two.start(&["send", "one", "once more", "--code", "print"]);
    let code = code_of(&sending);
    let accepting = ["accept", "two", "--code-file", "-", "--json"];
    let accepted = one.run_with_input(&accepting, &code).ok();
    sending.end().ok();
    assert_eq!(texts(&accepted), ["once more"]);
    two.run(&["recv"]).ok();
    talk(&one, &two);
}
