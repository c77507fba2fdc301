//! Random histories of three people who know each other: those of the model (`healing_world.py`), on the real programs.
//!
//! ```text
//!  260 events with some kinds of faults ─▶ the faults stop, users give word ─▶ texts in every direction, 3 hours
//!     ─▶ texts again, 15 minutes ─▶ (in 30 %: somebody is away for two weeks) ─▶ three quiet days ─▶ the judge
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::judge::{Judge, Text, Verdict, frame_id, inner};
use super::{Books, Forgery, Image, Lie, Outcome, Part, Template, What, World};
use hostchat::error::Error;

/// Who takes part.
pub const PEOPLE: [&str; 3] = ["a", "b", "c"];
pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;
const EVENTS: usize = 260;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Out of a million passes of a crash point, so many crash.
const CRASHES: u64 = 20_000;
const FORGERIES: [Forgery; 4] = [
    Forgery::BadTag,
    Forgery::FarAhead,
    Forgery::UnknownSession,
    Forgery::First,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Restore,
    Twin,
    Relay,
    Lie,
    Drain,
    Drop,
    Misname,
    Forge,
    Crash,
    // These happen in every history.
    RelayCopy,
    HomeCopy,
    Leave,
    Wait,
}

const FAULTS: [Fault; 9] = [
    Fault::Restore,
    Fault::Twin,
    Fault::Relay,
    Fault::Lie,
    Fault::Drain,
    Fault::Drop,
    Fault::Misname,
    Fault::Forge,
    Fault::Crash,
];

/// Lives one history and judges it. With `trace` it prints what happens.
pub fn history(seed: u64, template: &Template, trace: bool) -> Verdict {
    history_in(World::like(seed, template), trace)
}

/// As [`history`], in a world of [`PEOPLE`] that may have its own rules.
pub fn history_in(mut world: World, trace: bool) -> Verdict {
    let judge = Judge {
        first_frame: world.relay().lock().sent.len(),
        ..Judge::default()
    };
    let images = PEOPLE.map(|who| (who, vec![world.image(who)]));
    let relays = vec![world.relay_copy()];
    let printed = (world.seen().len(), judge.first_frame);
    let began = world.now_ms();
    let history = History {
        world,
        judge,
        faults: BTreeSet::new(),
        images: images.into(),
        relays,
        trace,
        printed,
        began,
    };
    history.run()
}

struct History {
    world: World,
    judge: Judge,
    faults: BTreeSet<Fault>,
    images: BTreeMap<&'static str, Vec<Image>>,
    relays: Vec<Books>,
    trace: bool,
    /// What of the things seen and of the frames sent was printed.
    printed: (usize, usize),
    began: u64,
}

impl History {
    fn run(mut self) -> Verdict {
        for fault in FAULTS {
            if self.world.draw(100) < 40 {
                self.faults.insert(fault);
            }
        }
        self.say(&format!("faults: {:?}", self.faults));
        self.world.reorder(20);
        if self.faults.contains(&Fault::Crash) {
            self.world.crash(CRASHES);
        }
        for _ in 0..EVENTS {
            self.event();
        }
        let forger = self.faults.contains(&Fault::Forge);
        self.say("the faults stop");
        self.world.crash(0);
        self.world.reorder(0);
        self.world.stop_lies();
        for who in PEOPLE {
            self.world.leave(who);
        }
        for (steps, minutes) in [(9, 20), (2, 8)] {
            let began = self.judge.texts.len();
            self.texts_everywhere();
            self.settle(steps, minutes);
            self.count_dead(began);
        }
        if self.world.draw(100) < 30 {
            let began = self.judge.texts.len();
            self.absence();
            self.settle(9, 20);
            self.count_dead(began);
        }
        self.quiet_days(forger);
        self.judge.verdict(&mut self.world)
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.world.draw(of.len() as u64);
        of[usize::try_from(at).expect("small")]
    }

    fn other(&mut self, who: &str) -> &'static str {
        let others: Vec<&str> = PEOPLE.into_iter().filter(|o| *o != who).collect();
        self.any(&others)
    }

    fn event(&mut self) {
        let (who, draw) = (self.any(&PEOPLE), self.world.draw(100));
        let open = self.world.copy(who).is_open();
        if !open && draw < 50 {
            self.act(who, "comes", |world| {
                world.follow(who, 0, Duration::from_millis(1))
            });
        } else if draw < 30 {
            let to = self.other(who);
            self.text(who, to);
        } else if draw < 80 && open && self.world.relay().waiting(who) > 0 {
            match self.world.draw(8) {
                0 => self.receive(who),
                // Receipts, questions and new sessions wait for five seconds.
                1 | 2 => self.act(who, "gets one", |world| world.follow(who, 1, MINUTE / 10)),
                _ => self.act(who, "gets one", |world| world.step(who, 1)),
            }
        } else if draw > 94 {
            self.fault(who);
        }
        let minutes = self.any(&[0, 0, 0, 1, 2]);
        self.world.wait(MINUTE * minutes);
    }

    /// Does something for somebody, under the eyes of the judge.
    fn act<T>(
        &mut self,
        who: &'static str,
        what: &str,
        work: impl FnOnce(&mut World) -> Outcome<T>,
    ) {
        let before = self.judge.before(&mut self.world, who);
        let outcome = work(&mut self.world);
        if self.trace {
            match &outcome {
                Outcome::Done(_) => self.say(&format!("{who} {what}")),
                Outcome::Failed(error) => self.say(&format!("{who} {what}: {error}")),
                Outcome::Crashed(point) => self.say(&format!("{who} {what}: CRASH at {point}")),
            }
            self.print_news();
        }
        self.judge.after(&mut self.world, who, &before, &outcome);
    }

    fn text(&mut self, from: &'static str, to: &'static str) {
        let number = self.judge.texts.len();
        let words = format!("{from}{to}{number}");
        let at = self.world.now_ms();
        self.judge.texts.insert(
            words.clone(),
            Text {
                from,
                to,
                at,
                number,
            },
        );
        self.act(from, &format!("writes {words}"), |world| {
            world.send(from, to, &words)
        });
    }

    fn texts_everywhere(&mut self) {
        for from in PEOPLE {
            for to in PEOPLE.into_iter().filter(|to| *to != from) {
                self.text(from, to);
            }
        }
    }

    /// `hostchat recv`: everything that lies there, and the program ends.
    fn receive(&mut self, who: &'static str) {
        self.world.leave(who);
        self.act(who, "receives", |world| {
            world.act(who, async |client, observer| {
                client.receive(false, observer).await
            })
        });
        self.world.leave(who);
    }

    fn is_stopped(&mut self, who: &str) -> bool {
        self.world.look(who, async |client| {
            Ok(client.vault().generations()?.is_some_and(|g| g.stopped))
        })
    }

    /// The user of a client that has stopped gives word.
    fn word(&mut self, who: &'static str) {
        if !self.is_stopped(who) {
            return;
        }
        self.judge.word = true;
        self.act(who, "gives word", |world| {
            world.act(who, async |client, _| client.resume().await)
        });
        self.judge.word = false;
    }

    /// Everybody receives, again and again, until nothing is left; and the time passes.
    fn settle(&mut self, steps: usize, minutes: u32) {
        for _ in 0..steps {
            for who in PEOPLE {
                self.word(who);
                self.receive(who);
            }
            for _ in 0..10 {
                for who in PEOPLE {
                    if self.world.relay().waiting(who) > 0 {
                        // As `recv --follow`, which acts five seconds after a delivery.
                        self.act(who, "goes on", |world| {
                            world.follow(who, usize::MAX, MINUTE / 10)
                        });
                    }
                }
            }
            self.world.wait(MINUTE * minutes);
        }
    }

    fn count_dead(&mut self, began: usize) {
        let dead = self
            .judge
            .unconfirmed(&mut self.world, |text| text.number >= began);
        for words in &dead {
            self.say(&format!("{words} IS NOT CONFIRMED"));
        }
        self.judge.found.dead.extend(dead);
    }

    /// Programs of these people run for this time.
    fn together(&mut self, who: &[&'static str], time: Duration) {
        let before: Vec<_> = who
            .iter()
            .map(|who| (*who, self.judge.before(&mut self.world, who)))
            .collect();
        let names: Vec<String> = who.iter().map(|who| (*who).to_owned()).collect();
        let mut ended = self.world.some_together(&names, time);
        self.print_news();
        for (who, before) in before {
            let outcome = match ended.remove(who) {
                Some(error) => Outcome::Failed(error),
                None => Outcome::Done(()),
            };
            self.judge.after(&mut self.world, who, &before, &outcome);
            let stopped =
                matches!(&outcome, Outcome::Failed(e) if matches!(inner(e), Error::Stopped { .. }));
            if stopped {
                self.say(&format!("{who} has stopped"));
            }
        }
    }

    fn quiet_days(&mut self, forger: bool) {
        for two_hours in 0..36 {
            if two_hours % 12 == 0 {
                for who in PEOPLE {
                    self.world.leave(who);
                    self.word(who);
                }
            }
            if forger {
                for _ in 0..4 {
                    let who = self.any(&PEOPLE);
                    self.forge(who);
                }
            }
            self.together(&PEOPLE, 2 * HOUR + MINUTE);
        }
    }

    /// One computer is off for two weeks. Another writes to it, and gets one forged frame a day in its name.
    fn absence(&mut self) {
        let away = self.any(&PEOPLE);
        let writer = self.other(away);
        self.say(&format!("{away} is away, {writer} writes"));
        self.world.leave(away);
        let before = self.world.relay().taken(writer, away);
        for _ in 0..14 {
            self.together(&[writer], 10 * HOUR);
            let how = self.any(&FORGERIES[..3]);
            self.world.forge(writer, away, how);
            self.together(&[writer], 10 * HOUR);
            self.text(writer, away);
            self.together(&[writer], 4 * HOUR);
        }
        self.judge.found.away = self.world.relay().taken(writer, away) - before;
    }

    fn forge(&mut self, to: &'static str) {
        let (from, how) = (self.other(to), self.any(&FORGERIES));
        if self.world.forge(to, from, how) {
            self.say(&format!("somebody forges {how:?} of {from} for {to}"));
        }
    }

    /// One random fault.
    fn fault(&mut self, who: &'static str) {
        let mut kinds: Vec<Fault> = self.faults.iter().copied().collect();
        let always = [
            Fault::RelayCopy,
            Fault::HomeCopy,
            Fault::Leave,
            Fault::Wait,
            Fault::Wait,
        ];
        kinds.extend(always);
        let waiting = self.world.relay().waiting(who) as u64;
        match self.any(&kinds) {
            Fault::HomeCopy => {
                self.say(&format!("{who} is copied"));
                let image = self.world.image(who);
                self.images.entry(who).or_default().push(image);
            }
            Fault::Leave => self.world.leave(who),
            Fault::Wait => {
                let minutes = self.any(&[10, 30, 70, 200, 800]);
                self.wait(MINUTE * minutes);
            }
            Fault::Restore if self.world.draw(2) == 0 => self.restore(who),
            Fault::Twin => self.twin(who),
            Fault::Relay if self.world.draw(10) < 4 => {
                self.say("the relay is restored from an older copy");
                let at = self.world.draw(self.relays.len() as u64);
                let books = self.relays[usize::try_from(at).expect("small")].clone();
                self.world.relay_restore(&books);
                PEOPLE.iter().for_each(|who| self.world.leave(who));
            }
            Fault::RelayCopy if self.world.draw(10) < 3 => {
                self.say("the relay is copied");
                self.relays.push(self.world.relay_copy());
            }
            Fault::Lie => {
                let lie = self.any(&[Lie::Higher, Lie::Lower]);
                self.say(&format!("the relay will lie to {who}: {lie:?}"));
                self.world.lie(who, lie);
            }
            Fault::Drain => self.world.drain(who),
            Fault::Drop if waiting > 0 => {
                let at = self.world.draw(waiting);
                self.say(&format!("the relay drops number {at} of {who}"));
                self.world
                    .drop_mail(who, usize::try_from(at).expect("small"));
            }
            Fault::Misname if waiting > 0 => {
                let name = self.any(&["a", "b", "c", "stranger"]);
                self.say(&format!("the relay names {name} to {who}"));
                self.world.misname(who, 0, name);
            }
            Fault::Forge => self.forge(who),
            _ => {}
        }
    }

    /// Whoever is there stays there.
    fn wait(&mut self, time: Duration) {
        self.say(&format!("{time:?} pass"));
        let mut open = Vec::new();
        for who in PEOPLE {
            if self.world.copy(who).is_open() && !self.is_stopped(who) {
                open.push(who);
            }
        }
        // In half of the cases nothing is delivered meanwhile.
        let quiet = self.world.draw(2) == 0;
        if quiet {
            self.world.hold_back(&open);
        }
        let before = self.world.now_ms();
        self.together(&open, time);
        let passed = Duration::from_millis(self.world.now_ms() - before);
        self.world.wait(time.saturating_sub(passed));
        self.world.hold_back(&[]);
    }

    fn restore(&mut self, who: &'static str) {
        let part = self.any(&[Part::Whole, Part::Whole, Part::Token, Part::Vault]);
        let images = &self.images[who];
        let newest = images.len().saturating_sub(4)..images.len();
        let count = newest.len() as u64;
        let at = newest.start + usize::try_from(self.world.draw(count)).expect("small");
        let image = self.images[who][at].clone();
        let copy = self.world.copy(who).number;
        self.say(&format!("{who} gets another home: {part:?} of copy {at}"));
        self.world.restore(who, &image, part);
        let flags = self.judge.homes.entry((who, copy)).or_default();
        flags.surprises.clear();
        flags.went_back = true;
        flags.old_keys |= part != Part::Vault;
        flags.old_vault = part != Part::Token;
        flags.cannot_know &= part == Part::Vault;
        if part != Part::Token {
            let seen = self.world.seen().len();
            self.judge.lives.push((seen, who, copy));
        }
    }

    fn twin(&mut self, who: &'static str) {
        self.say(&format!("{who} goes on with the other copy"));
        let images = &self.images[who];
        let image = images[images.len() - 1].clone();
        self.world.twin(who, &image);
        let copy = self.world.copy(who).number;
        let flags = self.judge.homes.entry((who, copy)).or_default();
        (flags.old_keys, flags.went_back) = (true, true);
    }

    fn say(&self, what: &str) {
        if self.trace {
            let minutes = (self.world.now_ms() - self.began) / 60_000;
            println!("{:3}:{:02} {what}", minutes / 60, minutes % 60);
        }
    }

    /// Prints what was seen and sent since the last time.
    fn print_news(&mut self) {
        if !self.trace {
            return;
        }
        for seen in self.world.seen().iter().skip(self.printed.0) {
            match &seen.what {
                What::Sent { .. } => {}
                what => println!("         {} sees {what:?}", seen.who),
            }
        }
        let state = self.world.relay().lock();
        for (to, mail) in state.sent.iter().skip(self.printed.1) {
            let id = frame_id(&mail.body);
            println!("         {} sends {to} {id:?}", mail.sender.name());
        }
        let sent = state.sent.len();
        drop(state);
        self.printed = (self.world.seen().len(), sent);
    }
}
