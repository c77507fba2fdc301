//! The world: people, their homes, the relay, time and chance.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hostchat::agent::{Client, Confirmation, Observer};
use hostchat::crash::simulated;
use hostchat::error::{Error, Result};
use hostchat::model::Asked;
use hostchat::model::Event;
use hostchat::model::call::How;
use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::{Address, Generation, Name, RelayName};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::copy::Around;
use super::relay::parse;
use super::watch::Watcher;
use super::{Books, Clock, Copy, Image, Mail, Seen, SimRelay, What};

const RELAY: &str = "relay.example:7443";

/// How something that somebody did has ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// Done.
    Done(T),
    /// Refused, or not possible now.
    Failed(Error),
    /// The power failed at this crash point.
    Crashed(String),
}

impl<T> Outcome<T> {
    /// What came of it.
    ///
    /// # Panics
    /// If it failed or crashed.
    pub fn unwrap(self) -> T {
        match self {
            Self::Done(value) => value,
            Self::Failed(error) => panic!("it failed: {error}"),
            Self::Crashed(point) => panic!("it crashed at {point}"),
        }
    }

    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// When power fails.
#[derive(Clone, Debug)]
pub(super) enum Power {
    Stays,
    /// At each crash point with this many in a million.
    Fails(u64),
    /// At this point, after it was passed so many times; once.
    FailsAt(String, Arc<AtomicUsize>),
}

/// A world as it is now, to begin others with: who made what accounts, and what they have said.
#[derive(Clone)]
pub struct Template {
    people: Vec<(String, Image)>,
    books: Books,
    sent: Vec<(Name, Mail)>,
    /// For the judge: which generations are how old.
    advances: HashMap<(Name, Generation), i64>,
    age: Duration,
}

struct Person {
    copies: Vec<Copy>,
    active: usize,
}

/// People, a relay, time.
pub struct World {
    runtime: Runtime,
    clock: Clock,
    rng: ChaCha20Rng,
    relay: SimRelay,
    people: BTreeMap<String, Person>,
    pub(super) power: Power,
    pub(super) ahead_ms: i64,
    seen: Vec<Seen>,
}

impl World {
    /// A relay and nobody yet.
    ///
    /// # Panics
    /// If there can be no runtime.
    pub fn new(seed: u64) -> Self {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let clock = runtime.block_on(async { Clock::start() });
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let name = RelayName::parse(RELAY).expect("a relay name");
        let relay = SimRelay::new(name, clock, rng.next_u64());
        Self {
            runtime,
            clock,
            rng,
            relay,
            people: BTreeMap::new(),
            power: Power::Stays,
            ahead_ms: 0,
            seen: Vec::new(),
        }
    }

    /// A world of some people who know each other by first messages.
    ///
    /// # Panics
    /// If they do not come to know each other.
    pub fn of(seed: u64, names: &[&str]) -> Self {
        let mut world = Self::new(seed);
        for name in names {
            world.join(name);
        }
        for (n, one) in names.iter().enumerate() {
            for other in names.iter().skip(n + 1) {
                world.befriend(one, other);
            }
        }
        world
    }

    /// Everything as it is now, of everybody's present copy; their programs end.
    pub fn template(&mut self) -> Template {
        let names: Vec<String> = self.people.keys().cloned().collect();
        let people = names.into_iter().map(|name| {
            self.leave(&name);
            let image = self.image(&name);
            (name, image)
        });
        let people = people.collect();
        let (sent, advances) = {
            let state = self.relay.lock();
            (state.sent.clone(), state.ledger.advances.clone())
        };
        Template {
            people,
            books: self.relay.books(),
            sent,
            advances,
            age: {
                let _inside = self.runtime.enter();
                Duration::from_millis(self.clock.uptime_ms())
            },
        }
    }

    /// A world that begins as another one was, and goes on by its own seed: to make accounts costs more than a history.
    pub fn like(seed: u64, template: &Template) -> Self {
        let mut world = Self::new(seed);
        world.wait(template.age);
        world.relay.restore(&template.books);
        world.relay.lock().sent.clone_from(&template.sent);
        let advances = template.advances.clone();
        world.relay.lock().ledger.advances = advances;
        for (name, image) in &template.people {
            let person = Person {
                copies: vec![Copy::of(0, image)],
                active: 0,
            };
            world.people.insert(name.clone(), person);
        }
        world
    }

    /// Somebody makes an account.
    ///
    /// # Panics
    /// If that fails.
    pub fn join(&mut self, name: &str) {
        // The token's salt is the same in every world, so that the passphrase is stretched once for each name.
        let hash = sha256(&[name.as_bytes()]);
        let seed = u64::from_le_bytes(*hash.first_chunk().expect("32 bytes"));
        let around = Around {
            clock: self.clock,
            relay: self.relay.clone(),
            seed,
        };
        let mut copy = Copy::blank(0);
        let relay = RelayName::parse(RELAY).expect("a relay name");
        let made = self
            .runtime
            .block_on(copy.init(&around, &parse(name), &relay));
        made.expect("an account");
        copy.close();
        let person = Person {
            copies: vec![copy],
            active: 0,
        };
        self.people.insert(name.into(), person);
    }

    /// Two people come to know each other by a first message and an answer.
    ///
    /// # Panics
    /// If that fails.
    pub fn befriend(&mut self, one: &str, other: &str) {
        self.send(one, other, &format!("{one} says hello")).unwrap();
        self.receive(other).unwrap();
        self.accept_first(other, one).unwrap();
        self.send(other, one, &format!("{other} says hello"))
            .unwrap();
        self.receive(one).unwrap();
        self.receive(other).unwrap();
    }

    /// The relay.
    pub fn relay(&self) -> &SimRelay {
        &self.relay
    }

    /// Everything that anybody was told.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The texts that were shown to somebody, in order, with whom they are from.
    pub fn texts(&self, who: &str) -> Vec<(&str, &str)> {
        let of = |seen: &&Seen| seen.who == who;
        let texts = self.seen.iter().filter(of).filter_map(|s| match &s.what {
            What::Text { from, text, .. } => Some((from.as_str(), text.as_str())),
            _ => None,
        });
        texts.collect()
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let _inside = self.runtime.enter();
        self.clock.now_ms()
    }

    /// A number below `bound`, from the seed.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    /// Time passes; programs that are open do nothing meanwhile.
    pub fn wait(&self, time: Duration) {
        self.runtime.block_on(tokio::time::advance(time));
    }

    /// The copy of a home that somebody works with.
    pub fn copy(&mut self, who: &str) -> &mut Copy {
        let person = self.person(who);
        &mut person.copies[person.active]
    }

    /// Works with this copy of a home from now on.
    pub fn use_copy(&mut self, who: &str, number: usize) {
        let person = self.person(who);
        person.copies[person.active].close();
        person.active = number;
    }

    /// How many copies of their home somebody has.
    pub fn copies(&mut self, who: &str) -> usize {
        self.person(who).copies.len()
    }

    /// Adds a copy of a home and works with that from now on.
    pub(super) fn add_copy(&mut self, who: &str, image: &Image) {
        let person = self.person(who);
        person.copies.push(Copy::of(person.copies.len(), image));
        person.active = person.copies.len() - 1;
    }

    /// Works with the next copy of a home from now on.
    pub(super) fn next_copy(&mut self, who: &str) {
        let person = self.person(who);
        let next = (person.active + 1) % person.copies.len();
        self.use_copy(who, next);
    }

    fn person(&mut self, who: &str) -> &mut Person {
        self.people.get_mut(who).expect("somebody of that name")
    }

    /// The address of somebody.
    pub fn address(who: &str) -> Address {
        Address::new(&parse(who), &RelayName::parse(RELAY).expect("a relay name"))
    }

    fn around(&mut self) -> Around {
        Around {
            clock: self.clock.ahead(self.ahead_ms),
            relay: self.relay.clone(),
            seed: self.rng.next_u64(),
        }
    }

    /// Looks into somebody's client, which is started if it does not run; it does not crash meanwhile.
    ///
    /// # Panics
    /// If that fails.
    pub fn look<T>(&mut self, who: &str, work: impl AsyncFnOnce(&mut Client) -> Result<T>) -> T {
        let power = std::mem::replace(&mut self.power, Power::Stays);
        let outcome = self.act(who, async |client, _| work(client).await);
        self.power = power;
        outcome.unwrap()
    }

    /// Does something with somebody's client, which is started if it does not run, and left open. It may crash.
    pub fn act<T>(
        &mut self,
        who: &str,
        work: impl AsyncFnOnce(&mut Client, &mut dyn Observer) -> Result<T>,
    ) -> Outcome<T> {
        let around = self.around();
        let decide = self.decide();
        let mut watcher = Watcher::default();
        let person = self.people.get_mut(who).expect("somebody of that name");
        let copy = &mut person.copies[person.active];
        let runtime = &self.runtime;
        let result = simulated::run(decide, || {
            runtime.block_on(async {
                let client = copy.client(&around).await?;
                work(client, &mut watcher).await
            })
        });
        let number = copy.number;
        let outcome = match result {
            Ok(Ok(value)) => Outcome::Done(value),
            Ok(Err(error)) => Outcome::Failed(error),
            Err(point) => {
                copy.crash();
                if let Power::FailsAt(..) = self.power {
                    self.power = Power::Stays;
                }
                Outcome::Crashed(point)
            }
        };
        self.note(who, number, watcher);
        outcome
    }

    fn note(&mut self, who: &str, copy: usize, watcher: Watcher) {
        let at = self.now_ms();
        self.seen.extend(watcher.0.into_iter().map(|what| Seen {
            at,
            who: who.into(),
            copy,
            what,
        }));
    }

    fn decide(&mut self) -> simulated::Decide {
        match self.power.clone() {
            Power::Stays => Box::new(|_| false),
            Power::Fails(in_a_million) => {
                let mut rng = ChaCha20Rng::seed_from_u64(self.rng.next_u64());
                Box::new(move |_| rng.next_u64() % 1_000_000 < in_a_million)
            }
            Power::FailsAt(at, after) => Box::new(move |point| {
                let pass = |left: usize| left.checked_sub(1);
                point == at
                    && after
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pass)
                        .is_err()
            }),
        }
    }

    /// Ends somebody's program.
    pub fn leave(&mut self, who: &str) {
        self.copy(who).close();
    }

    /// Queues a text and sends what can leave, as `hostchat send` does; the program stays open. A text that stays in the
    /// outbox is no failure.
    pub fn send(&mut self, who: &str, to: &str, text: &str) -> Outcome<()> {
        let to = Self::address(to);
        self.act(who, async |client, observer| {
            match client.send(&to, text, How::default(), observer).await {
                Err(Error::Queued(_)) => Ok(()),
                other => other,
            }
        })
    }

    /// `hostchat recv`, a program of its own: takes in and shows everything that lies in the mailbox, and ends.
    pub fn receive(&mut self, who: &str) -> Outcome<()> {
        // A relay says only once on a line that everything was delivered.
        self.leave(who);
        let outcome = self.act(who, async |client, observer| {
            client.receive(false, observer).await
        });
        self.leave(who);
        outcome
    }

    /// A program that goes on receiving gets at most `deliveries` and does what it does then, until it waits.
    pub fn step(&mut self, who: &str, deliveries: usize) -> Outcome<()> {
        // Time passes only when nobody can go on, so this is over when the client waits.
        self.follow(who, deliveries, Duration::from_millis(1))
    }

    /// A program that goes on receiving gets at most `deliveries` in this time, while nobody else does anything.
    pub fn follow(&mut self, who: &str, deliveries: usize, time: Duration) -> Outcome<()> {
        let name = parse(who);
        self.relay.lock().allowance.insert(name.clone(), deliveries);
        let outcome = self.act(who, async |client, observer| {
            tokio::select! {
                biased;
                result = client.receive(true, observer) => result,
                () = tokio::time::sleep(time) => Ok(()),
            }
        });
        self.relay.lock().allowance.remove(&name);
        outcome
    }

    /// Everybody's program runs and receives for this time, all at once; nobody crashes. Gives why a program ended before.
    pub fn together(&mut self, time: Duration) -> BTreeMap<String, Error> {
        let names: Vec<String> = self.people.keys().cloned().collect();
        self.some_together(&names, time)
    }

    /// As [`Self::together`], of these people only.
    pub fn some_together(&mut self, names: &[String], time: Duration) -> BTreeMap<String, Error> {
        let around: Vec<Around> = names.iter().map(|_| self.around()).collect();
        let people = self.people.iter_mut().filter(|(n, _)| names.contains(n));
        let programs = people.zip(&around).map(async |((name, person), around)| {
            let copy = &mut person.copies[person.active];
            let mut watcher = Watcher::default();
            let run = async {
                let client = copy.client(around).await?;
                tokio::select! {
                    biased;
                    result = client.receive(true, &mut watcher) => result,
                    () = tokio::time::sleep(time) => Ok(()),
                }
            };
            let result = run.await;
            (name.clone(), copy.number, watcher, result)
        });
        let ended = self.runtime.block_on(join_all(programs));
        let mut errors = BTreeMap::new();
        for (name, copy, watcher, result) in ended {
            self.note(&name, copy, watcher);
            if let Err(error) = result {
                errors.insert(name, error);
            }
        }
        errors
    }

    /// Hears a first message, as `hostchat accept` does; the program stays open.
    pub fn accept_first(&mut self, who: &str, from: &str) -> Outcome<()> {
        let from = Self::address(from);
        self.act(who, async |client, observer| {
            client.accept_first(&from, true, observer).await?;
            client.show_new(observer)?;
            client.settle(observer).await
        })
    }

    /// Pairs two people with a code, with a text along.
    ///
    /// # Panics
    /// If it fails.
    pub fn pair(&mut self, one: &str, other: &str, text: &str) {
        let (to, from) = (Self::address(other), Self::address(one));
        let around = [self.around(), self.around()];
        let code = RefCell::new(None);
        let mut seen = [(); 2].map(|()| CodeWatcher {
            inner: Watcher::default(),
            code: &code,
        });
        let [mut a, mut b] = [one, other].map(|who| {
            let person = self.people.get_mut(who).expect("somebody of that name");
            person.copies.remove(person.active)
        });
        let how = How {
            with_code: true,
            without_code: false,
            accept_changed: true,
        };
        let [sees, types] = &mut seen;
        let (sent, typed): (Result<()>, Result<Confirmation>) = self.runtime.block_on(async {
            let shows = async {
                let client = a.client(&around[0]).await?;
                client.send(&to, text, how, sees).await
            };
            let types = async {
                let client = b.client(&around[1]).await?;
                client.await_request(Some(&from), 600, types).await?;
                let requests = client.vault().requests()?;
                let mine = requests
                    .into_iter()
                    .find(|r| r.from == from && r.asked != Asked::First);
                let request = mine.ok_or(Error::Internal("no request"))?;
                let digits = loop {
                    if let Some(digits) = *code.borrow() {
                        break digits;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                };
                let sid = client
                    .answer_code(&request, Zeroizing::new(digits), true, types)
                    .await?;
                let end = client.await_confirmation(&request, sid, types).await?;
                client.show_new(types)?;
                client.settle(types).await?;
                Ok(end)
            };
            tokio::join!(shows, types)
        });
        sent.expect("sent");
        assert_eq!(typed.expect("answered"), Confirmation::Paired);
        let [sees, types] = seen.map(|watcher| watcher.inner);
        for (who, copy, watcher) in [(one, a, sees), (other, b, types)] {
            self.note(who, copy.number, watcher);
            let person = self.person(who);
            person.copies.insert(person.active, copy);
        }
    }
}

/// A watcher that passes a code on, as a telephone does.
struct CodeWatcher<'c> {
    inner: Watcher,
    code: &'c RefCell<Option<[u8; 6]>>,
}

impl Observer for CodeWatcher<'_> {
    fn event(&mut self, event: Event) -> io::Result<()> {
        if let Event::Code { code, .. } = &event {
            *self.code.borrow_mut() = code.as_bytes().try_into().ok();
        }
        self.inner.event(event)
    }
}
