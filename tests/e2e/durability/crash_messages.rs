//! The client dies while it makes an account, sends, or receives.

use super::stage::{Memory, On, Stage};

/// What each part of this file cuts.
pub(super) const POINTS: &[&[&str]] = &[INIT, SEND, RECV];

const INIT: &[&str] = &[
    "token-initialised",
    "config-stored",
    "registered",
    "prekey-made",
    "prekey-stored",
];

/// Points of a seal, from the outbox to the history.
pub(super) const SEND: &[&str] = &[
    "outbox-stored",
    "token-sealed",
    "frame-stored",
    "relay-stored",
    "sent-marked",
];

pub(super) const RECV: &[&str] = &[
    "delivered",
    "token-opened",
    "plaintext-stored",
    "token-committed",
    "commit-marked",
    "acknowledged",
    "showing-marked",
    "printed",
    "shown-marked",
];

#[test]
fn an_account_that_was_cut_in_the_making_is_finished_later() {
    for on in [On::Software, On::Sim] {
        cut_init(on);
    }
}

fn cut_init(on: On) {
    let stage = Stage::new(Memory::Good);
    let mut friend = stage.person("friend", On::Software);
    for (point, after) in INIT
        .iter()
        .map(|point| (*point, 0))
        .chain([("prekey-made", 3), ("prekey-stored", 3)])
    {
        let name = format!("{point}-{after}");
        let mut person = stage.newcomer(&name, on);
        let relay = &stage.relay.address;
        let init = ["init", "--relay", relay, "--name", &name, "--json"];
        person.crash(&init, (point, after));
        if point.starts_with("prekey") {
            person.crash(&init, (point, 1));
        }
        person.run(&init).ok();
        person.run(&init).refused(3, "already");
        person.recv();
        friend.send(&name, "welcome");
        person.run(&["accept", "friend", "--json"]).ok();
        assert_eq!(person.shown.texts(), ["welcome"], "{point}");
        person.send("friend", "thanks");
    }
    friend.recv();
    assert_eq!(friend.shown.texts().len(), INIT.len() + 2);
    stage.no_key_was_used_twice();
}

#[test]
fn a_software_token_loses_and_repeats_nothing_at_any_point() {
    cut_messages(On::Software, Memory::Good);
}

#[test]
fn a_token_on_a_port_loses_and_repeats_nothing_even_if_the_relay_repeats_all() {
    cut_messages(On::Sim, Memory::None);
}

fn cut_messages(on: On, memory: Memory) {
    let stage = Stage::new(memory);
    let (mut alice, mut bob) = (stage.person("alice", on), stage.person("bob", on));
    alice.send("bob", "hello");
    bob.run(&["accept", "alice", "--json"]).ok();
    let mut to_bob = vec![String::from("hello")];
    let mut to_alice = Vec::new();

    for point in SEND {
        let text = format!("sent across {point}");
        alice.crash(&["send", "bob", &text, "--json"], (point, 0));
        to_bob.push(text);
        alice.recv();
        bob.recv();
        assert_eq!(bob.shown.texts(), to_bob, "{point}");
        assert_eq!(alice.waiting_for("bob"), 0, "{point}");
        let answer = format!("answer to {point}");
        bob.send("alice", &answer);
        to_alice.push(answer);
    }
    for (after, point) in [0, 1]
        .into_iter()
        .flat_map(|n| RECV.iter().map(move |p| (n, *p)))
    {
        for n in 0..2 {
            let text = format!("{n} received across {point} {after}");
            alice.send("bob", &text);
            to_bob.push(text);
        }
        bob.crash(&["recv", "--json"], (point, after));
        bob.recv();
        assert_eq!(bob.shown.texts(), to_bob, "{point} {after}");
        bob.recv();
    }
    alice.recv();
    assert_eq!(alice.shown.texts(), to_alice);

    for (receiver, from, expected, sender, to) in [
        (&bob, "alice", &to_bob, &alice, "bob"),
        (&alice, "bob", &to_alice, &bob, "alice"),
    ] {
        let (came, went) = (receiver.history(from, "in"), sender.history(to, "out"));
        assert_eq!(came, went, "ids and texts at both ends");
        let texts: Vec<String> = came.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, *expected);
    }
    let frames = stage.no_key_was_used_twice();
    println!(
        "{on:?}: {frames} frames, {} messages",
        to_bob.len() + to_alice.len()
    );
}
