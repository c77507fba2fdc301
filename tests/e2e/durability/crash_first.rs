//! The client dies while it writes to a stranger, or hears from one, without a code.

use super::crash_messages::SEND;
use super::stage::{Memory, On, Stage};

/// What each part of this file cuts.
pub(super) const POINTS: &[&[&str]] = &[SESSION, SEND, RECV, ACCEPT];

const SESSION: &[&str] = &["session-started"];
const RECV: &[&str] = &["delivered", "request-stored", "acknowledged"];
const ACCEPT: &[&str] = &[
    "token-opened",
    "plaintext-stored",
    "token-committed",
    "commit-marked",
    "showing-marked",
    "printed",
    "shown-marked",
    "token-sealed",
    "frame-stored",
    "relay-stored",
    "sent-marked",
];

#[test]
fn a_first_message_arrives_once_wherever_its_sender_dies() {
    for (on, memory) in [(On::Software, Memory::Good), (On::Sim, Memory::None)] {
        let stage = Stage::new(memory);
        let mut bob = stage.person("bob", on);
        let mut expected = Vec::new();
        for point in SESSION.iter().chain(SEND) {
            let mut alice = stage.person(point, on);
            let texts = [format!("first {point}"), format!("second {point}")];
            alice.crash(&["send", "bob", &texts[0], "--json"], (point, 0));
            alice.send("bob", &texts[1]);
            expected.extend(texts);
            bob.run(&["accept", point, "--json"]).ok();
            bob.recv();
            assert_eq!(bob.shown.texts(), expected, "{point}");
            assert_eq!(alice.waiting_for("bob"), 0, "{point}");
            bob.send(point, "welcome");
            alice.recv();
            assert_eq!(alice.shown.texts(), ["welcome"], "{point}");
        }
        stage.no_key_was_used_twice();
    }
}

#[test]
fn a_first_message_is_shown_once_wherever_its_receiver_dies() {
    for (on, memory) in [(On::Software, Memory::Good), (On::Sim, Memory::None)] {
        let stage = Stage::new(memory);
        let mut bob = stage.person("bob", on);
        let mut expected = Vec::new();
        let recv = RECV.iter().map(|point| (*point, true));
        for (point, in_recv) in recv.chain(ACCEPT.iter().map(|point| (*point, false))) {
            let mut alice = stage.person(point, on);
            let texts = [format!("first {point}"), format!("second {point}")];
            alice.send("bob", &texts[0]);
            if in_recv {
                bob.crash(&["recv", "--json"], (point, 0));
            } else {
                bob.crash(&["accept", point, "--json"], (point, 0));
            }
            bob.recv();
            let again = bob.run(&["accept", point, "--json"]);
            assert!([0, 15].contains(&again.code()), "{point}: {again}");
            alice.send("bob", &texts[1]);
            bob.recv();
            expected.extend(texts);
            assert_eq!(bob.shown.texts(), expected, "{point}");
            bob.send(point, "welcome");
            alice.recv();
            assert_eq!(alice.shown.texts(), ["welcome"], "{point}");
            let asking = bob.run(&["accept", "--json"]).ok();
            assert_eq!(asking.out, "", "{point}: nothing is left to accept");
        }
        stage.no_key_was_used_twice();
    }
}
