//! Homes that go back to before they knew somebody: what both people are told, and what to do so that nothing is lost.

use hostchat_tests::{Ended, Home, Relay, World};
use serde_json::Value;

use crate::healing::{copy, notes, replace, unconfirmed};
use crate::healing_relay::{relay_command, restore};
use crate::support::{events, pair, texts};

const NONE: [&str; 0] = [];

fn address_of(home: &Home, relay: &Relay) -> String {
    let place = relay.address.split('#').next().unwrap_or_default();
    format!("{}@{place}", home.name)
}

fn receive(home: &Home) -> Ended {
    home.run(&["recv", "--json"]).ok()
}

/// Both look into their mailboxes until nothing goes back and forth.
fn settle(one: &Home, other: &Home) -> (Vec<String>, Vec<String>) {
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        of_one.extend(texts(&receive(one)));
        of_other.extend(texts(&receive(other)));
    }
    (of_one, of_other)
}

#[test]
fn a_first_message_shown_before_a_restore_is_told_as_gone_with_whom_to_ask() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    alice.run(&["send", "bob", "the first one"]).ok();
    receive(&bob);
    let copied = world.path("copy");
    copy(&bob.folder, &copied);
    let accepted = bob.run(&["accept", "alice", "--json"]).ok();
    assert_eq!(texts(&accepted), ["the first one"]);
    receive(&alice);
    assert_eq!(unconfirmed(&alice), NONE);

    replace(&bob.folder, &copied);
    bob.run(&["accept", "alice"])
        .refused(16, "can be read yet")
        .refused(16, "is asked to send it again");
    assert_eq!(notes(&receive(&alice)), NONE, "alice has lost nothing");
    let told = bob.run(&["recv"]).ok();
    let wanted = format!("1 message from {} is not here", address_of(&alice, &relay));
    assert!(told.err.contains(&wanted), "{told}");
    let wanted = format!("Ask {} to repeat it", address_of(&alice, &relay));
    assert!(told.err.contains(&wanted), "{told}");
    assert_eq!(notes(&receive(&bob)), NONE, "once");
    alice.run(&["send", "bob", "once more"]).ok();
    assert_eq!(texts(&receive(&bob)), ["once more"]);
}

#[test]
fn texts_of_somebody_whom_a_restored_home_does_not_know_come_when_its_user_writes() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let copied = world.path("copy");
    copy(&bob.folder, &copied);
    pair(&world, &alice, &bob);
    settle(&alice, &bob);
    replace(&bob.folder, &copied);
    alice.run(&["send", "bob", "one"]).ok();
    alice.run(&["send", "bob", "two"]).ok();
    let told = bob.run(&["recv"]).ok();
    assert!(told.out.is_empty(), "{told}");
    let name = address_of(&alice, &relay);
    for words in [
        format!("messages or receipts that your relay attributes to {name} could not be opened"),
        format!("`hostchat send {name}`"),
    ] {
        assert!(told.err.contains(&words), "{words}: {told}");
    }
    assert_eq!(unconfirmed(&alice), ["one", "two"], "and they stay");
    bob.run(&["send", &name, "who are you"]).ok();
    let (alices, bobs) = settle(&alice, &bob);
    assert_eq!(alices, ["who are you"]);
    assert_eq!(bobs, ["one", "two"]);
    assert_eq!(unconfirmed(&alice), NONE);
    assert_eq!(unconfirmed(&bob), NONE);
}

#[test]
fn what_leaves_while_somebody_receives_says_which_text_it_is_and_whether_it_was_sent_before() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    settle(&alice, &bob);
    relay.stop();
    let kept = alice.run(&["send", "bob", "waits\u{1b}[2J for the relay"]);
    kept.refused(8, "stays in the outbox");
    relay.start();
    let sent = alice.run(&["recv"]).ok();
    let name = address_of(&bob, &relay);
    let line = format!("sent to {name}, not confirmed yet: waits");
    assert!(sent.out.contains(&line), "{sent}");
    assert!(!sent.out.contains('\u{1b}'), "{sent}");

    receive(&bob);

    // A relay loses a text: when a later one is confirmed it leaves again, under its own id.
    let backup = world.path("backup.db");
    relay_command(&relay, &["backup", "--to"], &backup).ok();
    let first = alice.run(&["send", "bob", "lost", "--json"]).ok();
    let lost = sent_ids(&first);
    assert!(matches!(lost[..], [(false, _)]), "{first}");
    restore(&mut relay, &backup);
    alice.run(&["send", "bob", "later"]).ok();
    assert_eq!(texts(&receive(&bob)), ["later"]);
    let again = sent_ids(&receive(&alice));
    assert_eq!(again, [(true, lost[0].1.clone())]);
    assert_eq!(texts(&receive(&bob)), ["lost"]);
    receive(&alice);
    assert_eq!(unconfirmed(&alice), NONE);
}

/// Of each text that left: whether it had left before, and its id.
fn sent_ids(ended: &Ended) -> Vec<(bool, Value)> {
    let sent = events(ended, "sent");
    let sent = sent.iter();
    sent.map(|event| (event["again"] == true, event["content"].clone()))
        .collect()
}
