//! `kill -9` at random instants, of everything that runs, under traffic both ways.

use std::time::{Duration, Instant};

use hostchat_tests::{Ended, Running};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::support::number;

use super::stage::{KILLED, Memory, On, Person, Stage};

/// Kills, if `HOSTCHAT_KILLS` says nothing.
const KILLS: u64 = 24;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Alice,
    Bob,
    Relay,
    Token,
}

const VICTIMS: [Victim; 6] = [
    Victim::Alice,
    Victim::Bob,
    Victim::Alice,
    Victim::Bob,
    Victim::Relay,
    Victim::Token,
];

/// One of the two, and what they have sent.
struct Writer {
    person: Person,
    peer: &'static str,
    tried: Vec<String>,
    acknowledged: Vec<String>,
}

/// A command that runs.
struct Job {
    running: Running,
    text: Option<String>,
    follows: bool,
}

impl Job {
    /// Lets it end, which one that follows does not by itself.
    fn end(self) -> (Ended, Option<String>) {
        let ended = if self.follows {
            self.running.kill()
        } else {
            self.running.end()
        };
        (ended, self.text)
    }
}

impl Writer {
    /// Starts the next command: mostly something to send.
    fn start(&mut self, random: u32) -> Job {
        let home = &self.person.home;
        let text = (random % 8 > 2).then(|| format!("{} {}", home.name, self.tried.len()));
        let follows = random % 8 == 2;
        let running = match &text {
            Some(text) => {
                self.tried.push(text.clone());
                home.start(&["send", self.peer, text, "--json"])
            }
            None if follows => home.start(&["recv", "--follow", "--json"]),
            None => home.start(&["recv", "--json"]),
        };
        Job {
            running,
            text,
            follows,
        }
    }

    /// Takes note of how it ended.
    fn ended(&mut self, (ended, text): (Ended, Option<String>), victim: Victim, context: &str) {
        let allowed: &[i32] = match victim {
            Victim::Alice | Victim::Bob => &[0, KILLED],
            // Not reached, broken off, or kept in the outbox.
            Victim::Relay => &[0, 6, 8, KILLED],
            Victim::Token => &[0, 5, KILLED],
        };
        assert!(allowed.contains(&ended.code()), "{context}: {ended}");
        self.person.shown.take(&ended);
        if let (Some(text), true) = (text, ended.status.success()) {
            self.acknowledged.push(text);
        }
    }

    /// Everything that was said to be sent has come to `other`, once and in order, and was shown.
    fn has_reached(&self, other: &Self, context: &str) {
        let came = other.person.history(&self.person.home.name, "in");
        assert_eq!(came, self.person.history(self.peer, "out"), "{context}");
        let texts: Vec<&String> = came.iter().map(|(_, text)| text).collect();
        let mut rest = self.tried.iter();
        for text in &texts {
            assert!(
                rest.any(|tried| tried == *text),
                "{context}: {text:?} came twice, or late, or was never sent: {texts:?}"
            );
        }
        for text in &self.acknowledged {
            assert!(
                texts.contains(&text),
                "{context}: {text:?} is lost: {texts:?}"
            );
        }
        for id in self.person.shown.sent() {
            assert!(
                came.iter().any(|(came, _)| came == id),
                "{context}: message {id} is lost"
            );
        }
        let shown: Vec<&String> = other.person.shown.texts().iter().collect();
        assert_eq!(shown, texts, "{context}: shown, and received");
    }
}

/// Waits until `running` ends, for so long at most: an instant that the test's random numbers name.
fn wait_for_the_end(running: &Running, at_most: Duration) {
    let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
    let file = pidfd_open(pid.expect("a process id"), PidfdFlags::empty()).expect("a process");
    let limit = Timespec::try_from(at_most).expect("a short time");
    poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&limit)).expect("poll");
}

#[test]
fn kills_at_random_instants_lose_and_repeat_nothing() {
    let (kills, seed) = (number("HOSTCHAT_KILLS", KILLS), number("HOSTCHAT_SEED", 1));
    println!("{kills} kills, HOSTCHAT_SEED={seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let memory = if seed.is_multiple_of(2) {
        Memory::Good
    } else {
        Memory::None
    };
    let mut stage = Stage::new(memory);
    let writer = |name, on, peer| Writer {
        person: stage.person(name, on),
        peer,
        tried: Vec::new(),
        acknowledged: Vec::new(),
    };
    let (mut alice, mut bob) = (
        writer("alice", On::Software, "bob"),
        writer("bob", On::Sim, "alice"),
    );
    alice.tried.push("hello".into());
    alice.person.send("bob", "hello");
    bob.person.run(&["accept", "alice", "--json"]).ok();
    let begin = Instant::now();
    alice.person.recv();
    let usual = begin.elapsed();

    let mut tally = [0_usize; 4];
    for round in 0..kills {
        let victim = VICTIMS[rng.next_u32() as usize % VICTIMS.len()];
        let context = format!("HOSTCHAT_SEED={seed}, kill {round}: {victim:?}");
        tally[victim as usize] += 1;
        let (job, other) = (alice.start(rng.next_u32()), bob.start(rng.next_u32()));
        let instant = usual.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX) * 1.2);
        let first = if victim == Victim::Bob { &other } else { &job };
        wait_for_the_end(&first.running, instant);
        match victim {
            Victim::Alice => job.running.signal(Signal::KILL),
            Victim::Bob => other.running.signal(Signal::KILL),
            Victim::Relay => {
                stage.relay.kill();
                stage.relay.start();
            }
            Victim::Token => {
                let token = bob.person.sim.as_mut().expect("bob has a token");
                token.unplug();
                token.start_with("always");
            }
        }
        alice.ended(job.end(), victim, &context);
        bob.ended(other.end(), victim, &context);
    }

    let context = format!("HOSTCHAT_SEED={seed}");
    for _ in 0..3 {
        alice.person.recv();
        bob.person.recv();
    }
    assert_eq!(
        alice.person.waiting_for("bob") + bob.person.waiting_for("alice"),
        0,
        "{context}"
    );
    alice.has_reached(&bob, &context);
    bob.has_reached(&alice, &context);
    let frames = stage.no_key_was_used_twice();
    println!(
        "killed alice {}, bob {}, relay {}, token {}; {} + {} texts tried, {} + {} acknowledged, {frames} frames",
        tally[0],
        tally[1],
        tally[2],
        tally[3],
        alice.tried.len(),
        bob.tried.len(),
        alice.acknowledged.len(),
        bob.acknowledged.len()
    );
}
