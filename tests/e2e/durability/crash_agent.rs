//! The agent dies while commands use it: a follower, and one that sends.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World, program};

use super::crash_messages::{RECV, SEND};
use crate::support::{events, pair, texts};

fn start(home: &Home, arguments: &[&str], crash_at: Option<&str>) -> Running {
    let mut command = Command::new(program("hostchat"));
    command.arg("--home").arg(&home.folder).args(arguments);
    if let Some(point) = crash_at {
        command.env("HOSTCHAT_CRASH_AT", point);
    }
    Running::start(command.stdin(Stdio::null()))
}

/// Texts that were shown, each with how often, and how often it said that it may be a repeat.
#[derive(Default)]
struct Shown(HashMap<String, (usize, usize)>);

impl Shown {
    fn take(&mut self, ended: &Ended) {
        for message in events(ended, "message") {
            let text = message["text"].as_str().expect("a text").to_owned();
            let count = self.0.entry(text).or_default();
            count.0 += 1;
            count.1 += usize::from(message["maybe_repeat"] == true);
        }
    }
}

#[test]
fn wherever_an_agent_dies_nothing_is_lost_and_whatever_is_shown_again_says_so() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let mut shown = Shown::default();
    let mut expected = Vec::new();
    let mut arrived = Vec::new();
    for point in SEND.iter().chain(RECV) {
        let agent = start(&bob, &["agent", "run"], Some(point));
        agent.wait_out("that it holds the account", |line| {
            line.contains("this agent holds the account").then_some(())
        });
        // It may die before it answers: its mailbox may have something.
        let unlocked = bob.run(&["unlock"]);
        assert!([0, 18].contains(&unlocked.code()), "{point}: {unlocked}");
        let follower = start(&bob, &["recv", "--follow", "--json"], None);
        let (to_bob, to_alice) = (format!("to bob, {point}"), format!("to alice, {point}"));
        alice.run(&["send", "bob", &to_bob]).ok();
        let sent = start(&bob, &["send", "alice", &to_alice], None).end();
        // Whoever finds no agent any more would have to ask for the passphrase.
        assert!([0, 2, 18].contains(&sent.code()), "{point}: {sent}");
        assert_eq!(agent.end().code(), 137, "{point}");
        let follower = follower.end();
        assert!([2, 18].contains(&follower.code()), "{point}: {follower}");
        shown.take(&follower);

        let recovered = bob.run(&["recv", "--json"]).ok();
        shown.take(&recovered);
        expected.push(to_bob);
        let came = texts(&alice.run(&["recv", "--json"]).ok());
        let has_come = came.contains(&to_alice);
        assert!(has_come || sent.code() != 0, "{point}: lost: {sent}");
        assert!(
            events(&bob.run(&["outbox", "--json"]).ok(), "outbox")
                .iter()
                .all(|text| text["state"] == "unconfirmed"),
            "{point}"
        );
        arrived.extend(came);
    }
    for text in &expected {
        let (times, repeats) = shown.0.remove(text).unwrap_or_default();
        assert!(times > 0, "lost: {text}");
        assert!(repeats >= times - 1, "shown again without a word: {text}");
    }
    assert!(shown.0.is_empty(), "{:?}", shown.0);
    let mut once = arrived.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), arrived.len(), "twice: {arrived:?}");
}
