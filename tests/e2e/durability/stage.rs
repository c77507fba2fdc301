//! A relay that keeps a copy of every envelope, people on either kind of token, and what each was shown.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use hostchat_core::wire::{Envelope, Frame, codec};
use hostchat_tests::{Ended, Home, Relay, Running, Sim, World};
use serde_json::Value;

use crate::support::events;

/// What a death by `kill -9` looks like in [`Ended::code`].
pub(super) const KILLED: i32 = 137;

/// What holds a person's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Software,
    Sim,
}

/// How well the relay remembers what it has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// As it should: repeats are dropped there.
    Good,
    /// Not at all: every repeat is delivered, and has to be dropped by the receiver.
    None,
}

/// A relay without rate limits, and the folder of everything.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) relay: Relay,
}

impl Stage {
    pub(super) fn new(memory: Memory) -> Self {
        let world = World::new();
        let mut relay = world.relay();
        relay.stop().ok();
        let unlimited: String = [
            "registrations",
            "calls",
            "sends",
            "pairings",
            "firsts",
            "prekeys_put",
            "prekeys_taken",
            "prekeys_given",
        ]
        .iter()
        .map(|rate| format!("{rate} = {{ burst = 1, per_minute = 0 }}\n"))
        .collect();
        std::fs::OpenOptions::new()
            .append(true)
            .open(relay.folder().join("relay.toml"))
            .and_then(|mut file| file.write_all(unlimited.as_bytes()))
            .expect("limits written");
        let forget = match memory {
            Memory::Good => "",
            Memory::None => "DELETE FROM seen;",
        };
        rusqlite::Connection::open(relay.folder().join("relay.db"))
            .and_then(|database| {
                database.execute_batch(&format!(
                    "CREATE TABLE kept (message_id BLOB NOT NULL, body BLOB NOT NULL);
                     CREATE TRIGGER keep AFTER INSERT ON message BEGIN
                         INSERT INTO kept VALUES (NEW.message_id, NEW.body); {forget}
                     END;"
                ))
            })
            .expect("the trigger is made");
        relay.start();
        Self { world, relay }
    }

    /// Somebody who has an account.
    pub(super) fn person(&self, name: &str, on: On) -> Person {
        let person = self.newcomer(name, on);
        person.home.init(&self.relay);
        person
    }

    /// Somebody who has no account yet.
    pub(super) fn newcomer(&self, name: &str, on: On) -> Person {
        let sim = (on == On::Sim).then(|| self.world.sim(&format!("{name}-token")));
        let link = sim.as_ref().map(|sim| sim.link.clone());
        Person {
            home: self.world.bare_home(name, link),
            sim,
            shown: Shown::default(),
        }
    }

    /// Looks at every envelope that the relay has ever stored: no message key and no message id may be in two that
    /// differ. Gives the number of frames.
    pub(super) fn no_key_was_used_twice(&self) -> usize {
        let path: PathBuf = self.relay.folder().join("relay.db");
        let database = rusqlite::Connection::open(path).expect("the relay's database");
        let mut statement = database
            .prepare("SELECT message_id, body FROM kept ORDER BY rowid")
            .expect("the copies");
        let kept: Vec<(Vec<u8>, Vec<u8>)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .expect("the copies");
        let (mut keys, mut ids, mut frames) = (HashMap::new(), HashMap::new(), HashSet::new());
        for (id, body) in kept {
            let envelope: Envelope<'_> = codec::decode(&body).expect("an envelope");
            let before = ids.insert(id.clone(), body.clone());
            assert!(
                before.is_none_or(|b| b == body),
                "message id {id:02x?} used twice"
            );
            let Some(bytes) = envelope.frame() else {
                continue;
            };
            let frame = Frame::parse(bytes).expect("a frame");
            assert_eq!(frame.message_id.0.as_slice(), id, "told to the relay");
            let key = (
                frame.header.session.0,
                frame.header.ratchet_key.0,
                frame.header.n,
            );
            let before = keys.insert(key, bytes.to_vec());
            assert!(
                before.is_none_or(|b| b == bytes),
                "message key {} of chain {:02x?} used twice",
                key.2,
                key.1
            );
            frames.insert(bytes.to_vec());
        }
        assert!(!frames.is_empty(), "nothing was sent at all");
        frames.len()
    }
}

/// Somebody, and what was shown to them.
pub(super) struct Person {
    pub(super) home: Home,
    pub(super) sim: Option<Sim>,
    pub(super) shown: Shown,
}

impl Person {
    /// Runs `hostchat` to its end and takes note of what it showed.
    pub(super) fn run(&mut self, arguments: &[&str]) -> Ended {
        let ended = self.home.run(arguments);
        self.shown.take(&ended);
        ended
    }

    /// `hostchat recv`.
    #[track_caller]
    pub(super) fn recv(&mut self) -> Ended {
        self.run(&["recv", "--json"]).ok()
    }

    /// `hostchat send`.
    #[track_caller]
    pub(super) fn send(&mut self, to: &str, text: &str) {
        self.run(&["send", to, text, "--json"]).ok();
    }

    /// Runs `hostchat` until it dies at the crash point `point`, which it passes `after` times first.
    #[track_caller]
    pub(super) fn crash(&mut self, arguments: &[&str], (point, after): (&str, u32)) {
        let running = Running::start(&mut self.crashing(arguments, (point, after)));
        self.dies(running, (point, after));
    }

    /// The command that dies at a crash point.
    pub(super) fn crashing(&self, arguments: &[&str], (point, after): (&str, u32)) -> Command {
        let mut command = self.home.command(arguments);
        command
            .env("HOSTCHAT_CRASH_AT", point)
            .env("HOSTCHAT_CRASH_AFTER", after.to_string());
        command
    }

    /// Waits until a program died at its crash point.
    #[track_caller]
    pub(super) fn dies(&mut self, running: Running, point: (&str, u32)) {
        let ended = running.end();
        assert_eq!(
            ended.code(),
            KILLED,
            "it did not die at {point:?}. Does hostchat have the feature crash-points? `cargo build --workspace --bins` \
             gives it\n{ended}"
        );
        self.shown.take(&ended);
    }

    /// Starts `hostchat accept` with a code on its standard input.
    pub(super) fn start_accept(&self, from: &str, code: &str, command: &mut Command) -> Running {
        command.args(["accept", from, "--code-file", "-", "--json"]);
        let (running, mut input) = Running::start_with_pipe(command);
        // A program that has died already does not read it.
        let _ = writeln!(input, "{code}");
        running
    }

    /// `hostchat accept` with a code.
    pub(super) fn accept(&mut self, from: &str, code: &str) -> Ended {
        let ended = self
            .start_accept(from, code, &mut self.home.command(&[]))
            .end();
        self.shown.take(&ended);
        ended
    }

    /// The history with somebody: message ids and texts that went the way `direction`.
    pub(super) fn history(&self, with: &str, direction: &str) -> Vec<(String, String)> {
        let shown = self
            .home
            .run(&["history", with, "--last", "100000", "--json"])
            .ok();
        events(&shown, "history")
            .iter()
            .filter(|event| event["direction"] == direction)
            .map(|event| (word(event, "message_id"), word(event, "text")))
            .collect()
    }

    /// The contact `name`.
    pub(super) fn contact(&self, name: &str) -> Option<Value> {
        events(&self.home.run(&["contacts", "--json"]).ok(), "contact")
            .into_iter()
            .find(|contact| contact["name"] == name)
    }

    /// Whether a contact is verified by a code.
    pub(super) fn has_verified(&self, name: &str) -> bool {
        self.contact(name)
            .is_some_and(|contact| contact["status"] == "verified by code")
    }

    /// Messages in the outbox for somebody.
    pub(super) fn waiting_for(&self, name: &str) -> u64 {
        self.contact(name)
            .and_then(|contact| contact["outbox"].as_u64())
            .unwrap_or_default()
    }
}

/// A member of an event.
pub(super) fn word(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}

/// What a person saw, over all programs that they ran.
#[derive(Default)]
pub(super) struct Shown {
    texts: Vec<String>,
    ids: HashSet<String>,
    sent: HashSet<String>,
}

impl Shown {
    /// Takes note of what a program showed; a message may come again only if it says so.
    #[track_caller]
    pub(super) fn take(&mut self, ended: &Ended) {
        let mut lines = ended.out.lines().peekable();
        while let Some(line) = lines.next() {
            // A killed program may have been cut in the middle of a line.
            if ended.code() == KILLED && lines.peek().is_none() && !ended.out.ends_with("}\n") {
                continue;
            }
            let event: Value = serde_json::from_str(line).expect(line);
            if event["event"] == "sent" {
                self.sent.insert(word(&event, "message_id"));
            }
            if event["event"] != "message" {
                continue;
            }
            if self.ids.insert(word(&event, "message_id")) {
                self.texts.push(word(&event, "text"));
            } else {
                assert_eq!(event["maybe_repeat"], true, "shown twice: {line}\n{ended}");
            }
        }
    }

    /// Texts in the order in which they were first seen.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Ids of the messages that were said to be sent.
    pub(super) fn sent(&self) -> &HashSet<String> {
        &self.sent
    }
}
