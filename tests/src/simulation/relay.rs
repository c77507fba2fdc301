//! The relay in memory: what lies on its disk, how it answers, and what it does when it is told to be wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::relay::{
    Account, Answer, Call, Kind, Login, PREKEY_STOCK, Reason, Refusal,
};
use hostchat_core::wire::{
    Address, Bytes, Envelope, Frame, Generation, IdentityClaim, MessageId, Name, Prekey,
    PrekeyBundle, PrekeyKind, RelayName, codec,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::sync::Notify;

use super::Clock;
use super::ledger::{Ledger, Moved};

/// Unfetched messages expire after 30 days.
const MESSAGE_MS: u64 = 30 * 24 * 3600 * 1000;
/// Steps of a pairing expire after ten minutes.
const PAIRING_MS: u64 = 10 * 60 * 1000;
/// First messages that one mailbox takes of one sender, as a real relay with its usual limits.
const FIRSTS: usize = 64;

/// A body in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Who the receiver is told has sent it.
    pub sender: Address,
    /// As the receiver is told.
    pub message_id: MessageId,
    /// As the sender said.
    pub kind: Kind,
    /// When it came, in milliseconds since 1970.
    pub stored_at: u64,
    /// An encoded envelope, if it is honest.
    pub body: Vec<u8>,
    /// Of the identity that the sender proved, as the receiver is told.
    pub fingerprint: Option<Bytes<32>>,
}

#[derive(Clone, Default)]
struct Record {
    identity: Option<IdentityClaim>,
    last_resort: Option<Prekey>,
    one_time: VecDeque<Prekey>,
    generation: Option<Generation>,
    /// How often it has moved on.
    advances: i64,
    mailbox: BTreeMap<u64, Mail>,
    last: u64,
    known: BTreeSet<(Address, [u8; 16])>,
}

/// What lies on the relay's disk; a clone is a backup.
#[derive(Clone, Default)]
pub struct Books {
    accounts: BTreeMap<Name, Record>,
}

/// What a relay answers to the next compare-and-set of an account, in place of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// That somebody else is far ahead.
    Higher,
    /// That it knows of no generation.
    Lower,
}

/// A line to a client.
#[derive(Default)]
pub(super) struct Seat {
    pub(super) account: Option<Address>,
    identity: Option<IdentityClaim>,
    pub(super) receiving: bool,
    pub(super) delivered: BTreeSet<u64>,
    pub(super) in_flight: BTreeSet<u64>,
    pub(super) drained: bool,
    pub(super) alive: bool,
}

pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) name: RelayName,
    pub(super) books: Books,
    pub(super) seats: HashMap<u64, Seat>,
    next_seat: u64,
    pub(super) news: Arc<Notify>,
    pub(super) rng: ChaCha20Rng,
    /// It cannot be reached.
    pub(super) down: bool,
    /// It moves every generation on, whatever is there.
    pub(super) gullible: bool,
    /// Out of 100 deliveries, so many are any of the mailbox and not the oldest.
    pub(super) reordered: u64,
    /// How many deliveries an account may still get; all, if it is not named.
    pub(super) allowance: BTreeMap<Name, usize>,
    pub(super) lies: BTreeMap<Name, Lie>,
    /// Every body that was ever sent, with its receiver.
    pub(super) sent: Vec<(Name, Mail)>,
    /// Session, ratchet key and number of every frame, with the hash of what follows: one key seals one frame.
    keys: HashMap<(Bytes<16>, Bytes<32>, u32), [u8; 32]>,
    pub(super) ledger: Ledger,
}

/// A handle to the relay; clones share it.
#[derive(Clone)]
pub struct SimRelay(Arc<Mutex<State>>);

impl SimRelay {
    /// An empty relay.
    pub fn new(name: RelayName, clock: Clock, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock,
            name,
            books: Books::default(),
            seats: HashMap::new(),
            next_seat: 0,
            news: Arc::new(Notify::new()),
            rng: ChaCha20Rng::seed_from_u64(seed),
            down: false,
            gullible: false,
            reordered: 0,
            allowance: BTreeMap::new(),
            lies: BTreeMap::new(),
            sent: Vec::new(),
            keys: HashMap::new(),
            ledger: Ledger::default(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backup of its disk.
    pub fn books(&self) -> Books {
        self.lock().books.clone()
    }

    /// Puts a backup in place of its disk; every line ends.
    pub fn restore(&self, books: &Books) {
        let mut state = self.lock();
        state.books = books.clone();
        state.cut_all();
    }

    /// Makes it unreachable, which ends every line, or reachable again.
    pub fn set_down(&self, down: bool) {
        let mut state = self.lock();
        state.down = down;
        if down {
            state.cut_all();
        }
    }

    /// Delivers so many more to an account, and does not say that its mailbox is empty.
    pub fn allow(&self, name: &str, deliveries: usize) {
        self.lock().allowance.insert(parse(name), deliveries);
    }

    /// What lies in a mailbox, the oldest first.
    pub fn mailbox(&self, name: &str) -> Vec<Mail> {
        let state = self.lock();
        let record = state.books.accounts.get(&parse(name));
        record.map_or_else(Vec::new, |r| r.mailbox.values().cloned().collect())
    }

    /// How many mails lie in a mailbox.
    pub fn waiting(&self, name: &str) -> usize {
        let state = self.lock();
        let record = state.books.accounts.get(&parse(name));
        record.map_or(0, |r| r.mailbox.len())
    }

    /// One-time prekeys that lie there.
    pub fn prekeys(&self, name: &str) -> usize {
        let state = self.lock();
        let record = state.books.accounts.get(&parse(name));
        record.map_or(0, |r| r.one_time.len())
    }

    /// The generation that lies there.
    pub fn generation(&self, name: &str) -> Option<Generation> {
        self.lock().books.accounts.get(&parse(name))?.generation
    }

    /// How often one message key sealed two frames that reached the relay.
    pub fn reused(&self) -> u64 {
        self.lock().ledger.reused.len() as u64
    }

    /// How often the generation of an account has moved on, as far as its disk knows.
    pub fn advances(&self, name: &str) -> i64 {
        let state = self.lock();
        let record = state.books.accounts.get(&parse(name));
        record.map_or(0, |r| r.advances)
    }

    /// Every body that was ever sent to `to` under the name of `from`, as it came.
    pub fn sent(&self, from: &str, to: &str) -> Vec<Mail> {
        let (from, to, state) = (parse(from), parse(to), self.lock());
        let of = |(at, mail): &&(Name, Mail)| *at == to && mail.sender.name() == from;
        state.sent.iter().filter(of).map(|m| m.1.clone()).collect()
    }

    /// Changes the `position`-th mail of a mailbox, or takes it out if `change` says `false`; `false` if there is none.
    pub fn with_mail(
        &self,
        name: &str,
        position: usize,
        change: impl FnOnce(&mut Mail) -> bool,
    ) -> bool {
        let mut state = self.lock();
        let Some(record) = state.books.accounts.get_mut(&parse(name)) else {
            return false;
        };
        let Some(number) = record.mailbox.keys().nth(position).copied() else {
            return false;
        };
        if !record.mailbox.get_mut(&number).is_none_or(change) {
            record.mailbox.remove(&number);
        }
        true
    }

    /// Puts mail into a mailbox, whoever is said to have sent it.
    pub fn leave(&self, to: &str, mail: Mail) {
        self.lock().leave(&parse(to), mail);
    }

    /// How often `by` has taken prekeys of `of`, with which a session begins.
    pub fn taken(&self, by: &str, of: &str) -> usize {
        let (by, of, state) = (parse(by), parse(of), self.lock());
        let taken = state.ledger.taken.iter();
        taken.filter(|t| t.1 == by && t.2 == of).count()
    }

    /// What anybody can know of an account: its identity, and the ids of prekeys that lie there.
    ///
    /// # Panics
    /// If there is no such account, or it has left no prekeys.
    pub(super) fn public(&self, name: &str) -> (IdentityClaim, u32, Option<u32>) {
        let state = self.lock();
        let record = state.books.accounts.get(&parse(name));
        let record = record.expect("an account");
        (
            record.identity.expect("an identity"),
            record.last_resort.expect("prekeys").id,
            record.one_time.front().map(|key| key.id),
        )
    }

    /// Takes all one-time prekeys of an account away.
    pub fn drain(&self, name: &str) {
        if let Some(record) = self.lock().books.accounts.get_mut(&parse(name)) {
            record.one_time.clear();
        }
    }
}

/// A name of an account.
///
/// # Panics
/// If it is none.
pub(super) fn parse(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

pub(super) fn refused(reason: Reason) -> Answer<'static> {
    Answer::Refused(Refusal {
        reason,
        retry_after_ms: 0,
    })
}

impl State {
    pub(super) fn sit_down(&mut self) -> u64 {
        self.next_seat += 1;
        let alive = true;
        let seat = Seat {
            alive,
            ..Seat::default()
        };
        self.seats.insert(self.next_seat, seat);
        self.next_seat
    }

    fn cut_all(&mut self) {
        for seat in self.seats.values_mut() {
            seat.alive = false;
        }
        self.news.notify_waiters();
    }

    fn record(&mut self, account: &Address) -> &mut Record {
        self.books.accounts.entry(account.name()).or_default()
    }

    pub(super) fn log_in(&mut self, seat: u64, login: &Login) -> Answer<'static> {
        let account = match &login.account {
            Account::Guest(address) => address.clone(),
            Account::User(name) | Account::Register { name, .. } => {
                let address = Address::new(name, &self.name);
                if matches!(login.account, Account::User(_))
                    && !self.books.accounts.contains_key(name)
                {
                    return refused(Reason::UnknownName);
                }
                let record = self.record(&address);
                if *record.identity.get_or_insert(login.identity) != login.identity {
                    return refused(Reason::NameTaken);
                }
                address
            }
        };
        if let Some(seat) = self.seats.get_mut(&seat) {
            seat.account = Some(account);
            seat.identity = Some(login.identity);
        }
        Answer::Done
    }

    /// Answers a call; a bundle is lent to the answer.
    pub(super) fn answer(&mut self, from: u64, call: &Call<'_>) -> Answer<'static> {
        let Some(own) = self.seats.get(&from).and_then(|seat| seat.account.clone()) else {
            return refused(Reason::BadRequest);
        };
        match call {
            Call::PutPrekey(prekey) => self.put_prekey(&own, prekey),
            Call::PrekeyStock => {
                let record = self.record(&own);
                Answer::PrekeyStock {
                    one_time: u16::try_from(record.one_time.len()).unwrap_or(u16::MAX),
                    last_resort_issued: record.last_resort.map_or(0, |key| key.issued),
                    last_resort_id: record.last_resort.map_or(0, |key| key.id),
                }
            }
            Call::Prekeys => {
                let record = self.record(&own);
                let one_time = record.one_time.iter().map(Prekey::reference).collect();
                let last_resort = record.last_resort.map(|key| key.reference());
                Answer::Prekeys {
                    one_time,
                    last_resort,
                }
            }
            Call::DropPrekeys => {
                self.record(&own).one_time.clear();
                Answer::Done
            }
            Call::LookUp(name) => {
                let record = self.books.accounts.get(name);
                record
                    .and_then(|record| record.identity)
                    .map_or(refused(Reason::UnknownName), Answer::Binding)
            }
            Call::TakePrekeys(name) => self.bundle(&own, name, true),
            Call::TakeLastResort(name) => self.bundle(&own, name, false),
            Call::Send {
                to,
                message_id,
                kind,
                body,
            } => {
                let proved = self.seats.get(&from).and_then(|seat| seat.identity);
                let fingerprint = proved.map(|identity| Bytes(identity.fingerprint()));
                let mail = Mail {
                    sender: own,
                    message_id: *message_id,
                    kind: *kind,
                    stored_at: self.clock.now_ms(),
                    body: body.to_vec(),
                    fingerprint,
                };
                self.send(to, mail)
            }
            Call::Acknowledge { number } => {
                self.acknowledge(from, &own, *number);
                Answer::Done
            }
            Call::Receive => {
                if let Some(seat) = self.seats.get_mut(&from) {
                    seat.receiving = true;
                }
                self.news.notify_waiters();
                Answer::Done
            }
            Call::Generation { from, to } => self.compare_and_set(&own, *from, *to),
            Call::DeleteAccount => {
                self.books.accounts.remove(&own.name());
                Answer::Done
            }
            Call::Policy => Answer::Policy { log_days: 0 },
            Call::Ping | Call::SetVisible(_) | Call::SetBlocked { .. } => Answer::Done,
            Call::Blocked { .. } => Answer::Blocked {
                addresses: heapless::Vec::new(),
                more: false,
            },
            _ => refused(Reason::BadRequest),
        }
    }

    fn put_prekey(&mut self, own: &Address, prekey: &Prekey) -> Answer<'static> {
        let record = self.record(own);
        match prekey.kind {
            PrekeyKind::OneTime if record.one_time.len() >= PREKEY_STOCK => {
                return refused(Reason::BadRequest);
            }
            PrekeyKind::OneTime => record.one_time.push_back(*prekey),
            PrekeyKind::LastResort => record.last_resort = Some(*prekey),
        }
        Answer::Done
    }

    fn bundle(&mut self, own: &Address, name: &Name, with_one_time: bool) -> Answer<'static> {
        let taken = (self.clock.now_ms(), own.name(), name.clone());
        self.ledger.taken.push(taken);
        let Some(record) = self.books.accounts.get_mut(name) else {
            return refused(Reason::UnknownName);
        };
        let (Some(identity), Some(last_resort)) = (record.identity, record.last_resort) else {
            return refused(Reason::NoPrekeys);
        };
        let one_time = with_one_time.then(|| record.one_time.pop_front()).flatten();
        Answer::Bundle(PrekeyBundle {
            identity,
            last_resort,
            one_time,
        })
    }

    fn compare_and_set(
        &mut self,
        own: &Address,
        from: Generation,
        to: Generation,
    ) -> Answer<'static> {
        let lie = self.lies.remove(&own.name());
        let there = match lie {
            Some(Lie::Higher) => {
                let mut random = [0; 16];
                self.rng.fill_bytes(&mut random);
                Some(Generation {
                    number: to.number + 50,
                    random: Bytes(random),
                })
            }
            Some(Lie::Lower) => Some(Generation::NONE),
            None => self.set_generation(own, from, to),
        };
        let moved = Moved {
            at: self.clock.now_ms(),
            from,
            to,
            there,
            lie: lie.is_some(),
        };
        self.ledger.moved.push((own.name(), moved));
        there.map_or(Answer::Done, Answer::Generation)
    }

    /// `None` if it moved on, else what is there.
    fn set_generation(
        &mut self,
        own: &Address,
        from: Generation,
        to: Generation,
    ) -> Option<Generation> {
        let gullible = self.gullible;
        let record = self.record(own);
        let there = record.generation.unwrap_or(Generation::NONE);
        if there != from && there != to && !gullible {
            return Some(there);
        }
        record.advances += i64::from(there != to);
        record.generation = Some(to);
        let advances = record.advances;
        self.ledger.advances.insert((own.name(), to), advances);
        None
    }

    fn send(&mut self, to: &Name, new: Mail) -> Answer<'static> {
        let Some(record) = self.books.accounts.get(to) else {
            return refused(Reason::UnknownName);
        };
        let same = |mail: &&Mail| mail.kind == Kind::First && mail.sender == new.sender;
        if new.kind == Kind::First && record.mailbox.values().filter(same).count() >= FIRSTS {
            return refused(Reason::MailboxFull);
        }
        self.watch_keys(&new.sender, &new.body);
        self.sent.push((to.clone(), new.clone()));
        self.leave(to, new);
        Answer::Stored
    }

    fn leave(&mut self, to: &Name, mail: Mail) {
        let record = self.books.accounts.entry(to.clone()).or_default();
        if !record
            .known
            .insert((mail.sender.clone(), mail.message_id.0))
        {
            return;
        }
        record.last += 1;
        record.mailbox.insert(record.last, mail);
        self.news.notify_waiters();
    }

    /// Looks whether a message key was used before, for another frame.
    fn watch_keys(&mut self, sender: &Address, body: &[u8]) {
        let Ok(envelope) = codec::decode::<Envelope<'_>>(body) else {
            return;
        };
        let Some(Ok(frame)) = envelope.frame().map(Frame::parse) else {
            return;
        };
        let key = (
            frame.header.session,
            frame.header.ratchet_key,
            frame.header.n,
        );
        let hash = sha256(&[&frame.message_id.0, &frame.tag, frame.ciphertext]);
        let before = *self.keys.entry(key).or_insert(hash);
        if before != hash {
            self.ledger.reused.push(sender.name());
        }
    }

    fn acknowledge(&mut self, from: u64, own: &Address, number: u64) {
        self.record(own).mailbox.remove(&number);
        if let Some(seat) = self.seats.get_mut(&from) {
            seat.in_flight.remove(&number);
        }
        self.news.notify_waiters();
    }

    /// What is delivered next on a line: a number of a mailbox and its mail, or `None` if nothing is there.
    pub(super) fn pick(&mut self, from: u64) -> Option<(u64, Mail)> {
        let now = self.clock.now_ms();
        let seat = self.seats.get(&from)?;
        let record = self
            .books
            .accounts
            .get_mut(&seat.account.as_ref()?.name())?;
        record.mailbox.retain(|_, mail| {
            let life = match mail.kind {
                Kind::Pairing => PAIRING_MS,
                _ => MESSAGE_MS,
            };
            mail.stored_at + life > now
        });
        let fresh: Vec<u64> = record
            .mailbox
            .keys()
            .filter(|number| !seat.delivered.contains(number))
            .copied()
            .collect();
        let mut number = *fresh.first()?;
        if self.reordered > 0 && self.rng.next_u64() % 100 < self.reordered {
            let at = self.rng.next_u64() % fresh.len() as u64;
            number = fresh[usize::try_from(at).unwrap_or_default()];
        }
        Some((number, record.mailbox.get(&number)?.clone()))
    }
}
