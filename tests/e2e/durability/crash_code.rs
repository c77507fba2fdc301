//! The client dies while it pairs with a code, at either end.

use hostchat_tests::Running;
use rustix::process::Signal;

use super::stage::{Memory, On, Person, Stage};

/// What each part of this file cuts.
pub(super) const POINTS: &[&[&str]] = &[
    BEFORE_CODE,
    LOST_RUN,
    CONFIRMED,
    BEFORE_ANSWER,
    LOST_ANSWER,
    ANSWERED,
];

/// At the end that shows the code: before it is shown.
const BEFORE_CODE: &[&str] = &["outbox-stored", "code-drawn", "offer-sent"];
/// After it was typed, before the token has confirmed: the code dies with the program.
const LOST_RUN: &[&str] = &["delivered"];
/// The token has confirmed: what is left is done by any command.
const CONFIRMED: &[&str] = &[
    "pair-confirmed",
    "acknowledged",
    "contact-stored",
    "token-sealed",
    "frame-stored",
    "relay-stored",
    "sent-marked",
];
/// At the end where the code is typed: the token has not seen it yet.
const BEFORE_ANSWER: &[&str] = &["delivered", "request-stored", "acknowledged"];
/// The token's answer is lost, and it gives no other to the same offer.
const LOST_ANSWER: &[&str] = &["code-answered"];
/// The answer is in the outbox: what is left is done by any command.
const ANSWERED: &[&str] = &[
    "answer-stored",
    "relay-stored",
    "sent-marked",
    "answer-sent",
    "token-opened",
    "plaintext-stored",
    "token-committed",
    "commit-marked",
    "showing-marked",
    "printed",
    "shown-marked",
    "token-sealed",
    "frame-stored",
];

/// Two people who pair, again and again.
struct Pair {
    alice: Person,
    bob: Person,
    expected: Vec<String>,
}

impl Pair {
    fn new(stage: &Stage, suffix: &str, on: On) -> Self {
        Self {
            alice: stage.person(&format!("alice{suffix}"), on),
            bob: stage.person(&format!("bob{suffix}"), on),
            expected: Vec::new(),
        }
    }

    /// Alice sends `text` with a code.
    fn start(&mut self, text: &str, crash: Option<(&str, u32)>) -> Running {
        self.expected.push(text.to_owned());
        let arguments = [
            "send",
            &self.bob.home.name,
            text,
            "--code",
            "print",
            "--json",
        ];
        Running::start(&mut match crash {
            Some(point) => self.alice.crashing(&arguments, point),
            None => self.alice.home.command(&arguments),
        })
    }

    /// A new code, that nothing disturbs.
    fn pair(&mut self, text: &str) {
        let sending = self.start(text, None);
        let code = code_in(&sending);
        let from = self.alice.home.name.clone();
        self.bob.accept(&from, &code).ok();
        let ended = sending.end().ok();
        self.alice.shown.take(&ended);
    }

    /// Both are verified, everything has arrived once, and messages go both ways.
    fn is_complete(&mut self, point: (&str, u32)) {
        self.bob.recv();
        assert_eq!(self.bob.shown.texts(), self.expected, "{point:?}");
        let (alice, bob) = (self.alice.home.name.clone(), self.bob.home.name.clone());
        assert!(self.alice.has_verified(&bob), "{point:?}");
        assert!(self.bob.has_verified(&alice), "{point:?}");
        assert_eq!(self.alice.waiting_for(&bob), 0, "{point:?}");
        let count = self.alice.shown.texts().len();
        self.bob.send(&alice, &format!("answer {point:?}"));
        self.alice.recv();
        assert_eq!(self.alice.shown.texts().len(), count + 1, "{point:?}");
        let text = format!("and on {point:?}");
        self.alice.send(&bob, &text);
        self.expected.push(text);
        self.bob.recv();
        assert_eq!(self.bob.shown.texts(), self.expected, "{point:?}");
        let asking = self.bob.run(&["accept", "--json"]).ok();
        assert_eq!(asking.out, "", "{point:?}: nothing is left to accept");
        // Receipts that still wait would be what the next cut meets.
        self.alice.recv();
        self.bob.recv();
    }

    /// Alice dies at `point`.
    fn cut_the_end_that_shows_the_code(&mut self, point: (&str, u32)) {
        let sending = self.start(&format!("with a code {point:?}"), Some(point));
        if BEFORE_CODE.contains(&point.0) {
            self.alice.dies(sending, point);
        } else {
            let code = code_in(&sending);
            let from = self.alice.home.name.clone();
            let accepting = self
                .bob
                .start_accept(&from, &code, &mut self.bob.home.command(&[]));
            self.alice.dies(sending, point);
            let confirmed = CONFIRMED.contains(&point.0);
            if confirmed {
                self.alice.recv();
            } else {
                accepting.signal(Signal::TERM);
            }
            let accepted = accepting.end();
            self.bob.shown.take(&accepted);
            assert_eq!(
                accepted.status.success(),
                confirmed,
                "{point:?}: {accepted}"
            );
        }
        if !CONFIRMED.contains(&point.0) {
            self.pair(&format!("with another code {point:?}"));
        }
        self.is_complete(point);
    }

    /// Bob dies at `point`.
    fn cut_the_end_that_types_the_code(&mut self, point: (&str, u32)) {
        let sending = self.start(&format!("with a code {point:?}"), None);
        let code = code_in(&sending);
        let from = self.alice.home.name.clone();
        let accepting = self
            .bob
            .start_accept(&from, &code, &mut self.bob.crashing(&[], point));
        self.bob.dies(accepting, point);
        self.bob.recv();
        if LOST_ANSWER.contains(&point.0) {
            self.bob.accept(&from, &code).refused(9, "answered already");
            sending.signal(Signal::INT);
            let ended = sending.end();
            assert_eq!(ended.code(), 130, "{point:?}: {ended}");
            self.pair(&format!("with another code {point:?}"));
        } else {
            if BEFORE_ANSWER.contains(&point.0) && point.1 == 0 {
                self.bob.accept(&from, &code).ok();
            }
            let ended = sending.end().ok();
            self.alice.shown.take(&ended);
        }
        self.is_complete(point);
    }
}

/// The code that `send --code print --json` shows.
fn code_in(sending: &Running) -> String {
    sending.wait_out("the code", |line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event["event"] == "code").then(|| event["code"].as_str().unwrap_or_default().to_owned())
    })
}

fn once(points: &[&'static str]) -> impl Iterator<Item = (&'static str, u32)> {
    points.iter().map(|point| (*point, 0))
}

fn shows_the_code() -> Vec<(&'static str, u32)> {
    once(BEFORE_CODE)
        .chain(once(LOST_RUN))
        .chain(once(CONFIRMED))
        .collect()
}

fn types_the_code() -> Vec<(&'static str, u32)> {
    once(BEFORE_ANSWER)
        .chain(once(LOST_ANSWER))
        .chain(once(ANSWERED))
        // The second delivery carries the message, the second frame is the empty reply to it.
        .chain([
            ("delivered", 1),
            ("acknowledged", 1),
            ("relay-stored", 1),
            ("sent-marked", 1),
        ])
        .collect()
}

#[test]
fn strangers_pair_wherever_the_end_that_shows_the_code_dies() {
    let stage = Stage::new(Memory::Good);
    for (n, point) in shows_the_code().into_iter().enumerate() {
        Pair::new(&stage, &n.to_string(), On::Software).cut_the_end_that_shows_the_code(point);
    }
    stage.no_key_was_used_twice();
}

#[test]
fn strangers_pair_wherever_the_end_that_types_the_code_dies() {
    let stage = Stage::new(Memory::Good);
    for (n, point) in types_the_code().into_iter().enumerate() {
        Pair::new(&stage, &n.to_string(), On::Software).cut_the_end_that_types_the_code(point);
    }
    stage.no_key_was_used_twice();
}

#[test]
fn two_with_tokens_on_ports_pair_again_and_again_wherever_either_end_dies() {
    let stage = Stage::new(Memory::None);
    let mut pair = Pair::new(&stage, "", On::Sim);
    for point in shows_the_code() {
        pair.cut_the_end_that_shows_the_code(point);
    }
    for point in types_the_code() {
        pair.cut_the_end_that_types_the_code(point);
    }
    let frames = stage.no_key_was_used_twice();
    println!("{frames} frames, {} messages", pair.expected.len());
}
