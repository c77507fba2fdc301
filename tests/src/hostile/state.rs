//! What the relay knows: accounts, prekeys, mailboxes, who is connected, and everything that ever passed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use hostchat_core::wire::relay::{
    Account, Answer, Call as Ask, Delivery, Event, Login, ONLINE_PAGE, PREKEY_STOCK, Reason,
    Refusal, Request, WINDOW,
};
use hostchat_core::wire::{
    Address, Bytes, Generation, IdentityClaim, Name, Prekey, PrekeyBundle, PrekeyKind, RelayName,
};
use tokio::sync::mpsc::UnboundedSender;

use super::hooks::{Adversary, Call, Frame, Mail, Outgoing, event};

/// One account.
#[derive(Default)]
struct Record {
    identity: Option<IdentityClaim>,
    last_resort: Option<Prekey>,
    one_time: VecDeque<Prekey>,
    generation: Option<Generation>,
    mailbox: VecDeque<(u64, Mail)>,
    /// Number of the last mail that was left here.
    last: u64,
}

/// One connection.
struct Connection {
    account: Option<Address>,
    /// As proved by the login.
    identity: Option<IdentityClaim>,
    out: UnboundedSender<Frame>,
    /// Number of the last mail that was delivered on it, if it asked for deliveries.
    delivered: Option<u64>,
    in_flight: usize,
    drained: bool,
}

/// Everything in the relay's memory.
pub struct State {
    relay: RelayName,
    accounts: BTreeMap<Name, Record>,
    connections: HashMap<u64, Connection>,
    next_connection: u64,
    /// The adversary's decisions.
    pub(super) adversary: Adversary,
    /// Every mail as its sender left it, in order.
    pub sent: Vec<Mail>,
    /// Every call, in order, with who made it.
    pub calls: Vec<(Option<Address>, Call)>,
    /// Every login, as it came.
    pub logins: Vec<Login>,
}

impl State {
    pub(super) fn new(relay: RelayName) -> Self {
        Self {
            relay,
            accounts: BTreeMap::new(),
            connections: HashMap::new(),
            next_connection: 0,
            adversary: Adversary::default(),
            sent: Vec::new(),
            calls: Vec::new(),
            logins: Vec::new(),
        }
    }

    /// How many mails lie in a mailbox, delivered or not.
    pub fn waiting(&self, name: &str) -> usize {
        self.record(name).map_or(0, |record| record.mailbox.len())
    }

    /// The identity that registered a name.
    pub fn identity(&self, name: &str) -> Option<IdentityClaim> {
        self.record(name)?.identity
    }

    /// How many connections of an account ask for deliveries.
    pub fn receiving(&self, name: &str) -> usize {
        let listens =
            |connection: &&Connection| connection.delivered.is_some() && connection.is_of(name);
        self.connections.values().filter(listens).count()
    }

    /// How often an account made a call.
    pub fn called(&self, name: &str, call: Call) -> usize {
        let by =
            |account: &Option<Address>| account.as_ref().is_some_and(|a| a.name().as_str() == name);
        let same = self.calls.iter().filter(|(a, c)| by(a) && *c == call);
        same.count()
    }

    /// Makes an account without anybody who logs in to it: the adversary's own.
    pub fn register(&mut self, name: &Name, identity: IdentityClaim) {
        let record = self.accounts.entry(name.clone()).or_default();
        record.identity = Some(identity);
    }

    /// What a name left for first messages; takes a one-time key away, as a look by a sender does.
    pub fn take_bundle(&mut self, name: &Name) -> Option<PrekeyBundle> {
        let record = self.accounts.get_mut(name)?;
        Some(PrekeyBundle {
            identity: record.identity?,
            last_resort: record.last_resort?,
            one_time: record.one_time.pop_front(),
        })
    }

    fn last_resort_bundle(&self, name: &Name) -> Option<PrekeyBundle> {
        let record = self.accounts.get(name)?;
        Some(PrekeyBundle {
            identity: record.identity?,
            last_resort: record.last_resort?,
            one_time: None,
        })
    }

    /// Leaves mail in a mailbox, past the hooks, and delivers it where somebody listens.
    pub fn leave(&mut self, mail: Mail) {
        let to = mail.to.clone();
        let record = self.accounts.entry(to.clone()).or_default();
        record.last += 1;
        record.mailbox.push_back((record.last, mail));
        self.pump(&to);
    }

    /// Puts something on every connection of an account.
    pub fn push(&self, name: &str, frame: &Frame) {
        for connection in self.connections.values().filter(|c| c.is_of(name)) {
            // A connection that has gone takes nothing any more.
            let _ = connection.out.send(frame.clone());
        }
    }

    /// Ends every connection.
    pub fn cut_all(&self) {
        for connection in self.connections.values() {
            let _ = connection.out.send(Frame::Cut);
        }
    }

    fn record(&self, name: &str) -> Option<&Record> {
        self.accounts
            .iter()
            .find(|(known, _)| known.as_str() == name)
            .map(|(_, record)| record)
    }

    /// Takes a new connection in; its first frames are already in `out`.
    pub(super) fn connect(&mut self, out: UnboundedSender<Frame>, challenge: Vec<u8>) -> u64 {
        for frame in (self.adversary.challenge)(challenge) {
            let _ = out.send(frame);
        }
        self.next_connection += 1;
        let connection = Connection {
            account: None,
            identity: None,
            out,
            delivered: None,
            in_flight: 0,
            drained: false,
        };
        self.connections.insert(self.next_connection, connection);
        self.next_connection
    }

    pub(super) fn disconnect(&mut self, id: u64) {
        self.connections.remove(&id);
    }

    /// Carries out one request and answers it; `genuine` says whether the signature of a login is right.
    pub(super) fn request(
        &mut self,
        from: u64,
        request: &Request<'_>,
        genuine: impl Fn(&Login) -> bool,
    ) {
        let account = self.connections.get(&from).and_then(|c| c.account.clone());
        let call = Call::of(&request.call);
        self.calls.push((account.clone(), call));
        let mut bundle = None;
        let mut names = Vec::new();
        let answer = match (&request.call, &account) {
            (Ask::Login(login), None) => self.log_in(from, login, genuine(login)),
            // A registration that is asked about is answered as by a relay that does not know the question.
            (_, None) | (Ask::Login(_) | Ask::MayRegister { .. }, _) => refused(Reason::BadRequest),
            (Ask::PutPrekey(prekey), Some(account)) => self.put_prekey(&account.name(), prekey),
            (Ask::PrekeyStock, Some(account)) => self.stock(&account.name()),
            (Ask::LookUp(name), _) => self.look_up(name),
            (Ask::TakePrekeys(name) | Ask::TakeLastResort(name), _) => {
                let honest = match &request.call {
                    Ask::TakePrekeys(_) => self.take_bundle(name),
                    _ => self.last_resort_bundle(name),
                };
                bundle = (self.adversary.bundle)((name.clone(), honest));
                match &bundle {
                    Some(bundle) => Answer::Bundle(bundle.clone()),
                    None => refused(Reason::NoPrekeys),
                }
            }
            (
                Ask::Send {
                    to,
                    message_id,
                    kind,
                    body,
                },
                Some(account),
            ) => self.send(Mail {
                to: to.clone(),
                sender: account.clone(),
                message_id: *message_id,
                kind: *kind,
                body: body.to_vec(),
                fingerprint: self
                    .connections
                    .get(&from)
                    .and_then(|connection| connection.identity)
                    .map(|identity| Bytes(identity.fingerprint())),
            }),
            (Ask::Acknowledge { number }, Some(account)) => {
                self.acknowledge(from, &account.name(), *number)
            }
            (Ask::Who { .. }, _) => {
                names = self.online();
                Answer::Online {
                    names: names.iter().map(Name::as_str).take(ONLINE_PAGE).collect(),
                    more: false,
                }
            }
            (Ask::DeleteAccount, Some(account)) => {
                self.accounts.remove(&account.name());
                Answer::Done
            }
            (Ask::Generation { from, to }, Some(account)) => {
                self.advance(&account.name(), from, to)
            }
            (Ask::Prekeys, Some(account)) => self.prekeys(&account.name()),
            (Ask::DropPrekeys, Some(account)) => {
                self.accounts
                    .entry(account.name())
                    .or_default()
                    .one_time
                    .clear();
                Answer::Done
            }
            (Ask::Policy, _) => Answer::Policy { log_days: 0 },
            (Ask::Blocked { .. }, _) => Answer::Blocked {
                addresses: heapless::Vec::new(),
                more: false,
            },
            (Ask::Receive | Ask::SetVisible(_) | Ask::SetBlocked { .. } | Ask::Ping, _) => {
                Answer::Done
            }
            (
                Ask::PutBlob { .. }
                | Ask::PutPart { .. }
                | Ask::GetBlob { .. }
                | Ask::GetPart { .. }
                | Ask::EndBlob { .. }
                | Ask::DeleteBlob { .. },
                _,
            ) => refused(Reason::BadRequest),
        };
        let encoded = event(&Event::Reply {
            id: request.id,
            answer,
        });
        drop((bundle, names));
        self.answer(from, call, request.id, encoded);
        if matches!(request.call, Ask::Receive) {
            self.start_deliveries(from);
        }
        if let Some(account) = account {
            self.pump(&account.name());
        }
    }

    fn answer(&mut self, to: u64, call: Call, id: u32, encoded: Vec<u8>) {
        let Some(connection) = self.connections.get(&to) else {
            return;
        };
        let frames = (self.adversary.reply)(Outgoing {
            account: connection.account.clone(),
            call,
            id,
            encoded,
        });
        for frame in frames {
            let _ = connection.out.send(frame);
        }
    }

    fn log_in(&mut self, from: u64, login: &Login, genuine: bool) -> Answer<'static> {
        self.logins.push(login.clone());
        if !genuine {
            return refused(Reason::LoginFailed);
        }
        let account = match &login.account {
            Account::Guest(address) => address.clone(),
            Account::User(name) | Account::Register { name, .. } => {
                let record = self.accounts.entry(name.clone()).or_default();
                if *record.identity.get_or_insert(login.identity) != login.identity {
                    return refused(Reason::NameTaken);
                }
                Address::new(name, &self.relay)
            }
        };
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.account = Some(account);
            connection.identity = Some(login.identity);
        }
        Answer::Done
    }

    fn put_prekey(&mut self, name: &Name, prekey: &Prekey) -> Answer<'static> {
        let record = self.accounts.entry(name.clone()).or_default();
        match prekey.kind {
            PrekeyKind::OneTime => record.one_time.push_back(*prekey),
            PrekeyKind::LastResort => record.last_resort = Some(*prekey),
        }
        Answer::Done
    }

    /// Compare and set, as an honest relay does it.
    fn advance(&mut self, name: &Name, from: &Generation, to: &Generation) -> Answer<'static> {
        let record = self.accounts.entry(name.clone()).or_default();
        let there = record.generation.unwrap_or(Generation::NONE);
        if there != *to && there != *from {
            return Answer::Generation(there);
        }
        record.generation = Some(*to);
        Answer::Done
    }

    fn prekeys(&self, name: &Name) -> Answer<'static> {
        let record = self.accounts.get(name);
        Answer::Prekeys {
            one_time: record
                .into_iter()
                .flat_map(|record| &record.one_time)
                .take(PREKEY_STOCK)
                .map(Prekey::reference)
                .collect(),
            last_resort: record
                .and_then(|record| record.last_resort)
                .map(|prekey| prekey.reference()),
        }
    }

    fn stock(&self, name: &Name) -> Answer<'static> {
        let record = self.accounts.get(name);
        let last_resort = record.and_then(|record| record.last_resort);
        let one_time = record.map_or(0, |record| record.one_time.len());
        Answer::PrekeyStock {
            one_time: u16::try_from(one_time).unwrap_or(u16::MAX),
            last_resort_issued: last_resort.map_or(0, |prekey| prekey.issued),
            last_resort_id: last_resort.map_or(0, |prekey| prekey.id),
        }
    }

    fn look_up(&mut self, name: &Name) -> Answer<'static> {
        let honest = self.accounts.get(name).and_then(|record| record.identity);
        match (self.adversary.binding)((name.clone(), honest)) {
            Some(claim) => Answer::Binding(claim),
            None => refused(Reason::UnknownName),
        }
    }

    fn send(&mut self, mail: Mail) -> Answer<'static> {
        if !self.accounts.contains_key(&mail.to) {
            return refused(Reason::UnknownName);
        }
        self.sent.push(mail.clone());
        for mail in (self.adversary.mail)(mail) {
            self.leave(mail);
        }
        Answer::Stored
    }

    fn acknowledge(&mut self, from: u64, name: &Name, number: u64) -> Answer<'static> {
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.in_flight = connection.in_flight.saturating_sub(1);
        }
        if self.adversary.deletes
            && let Some(record) = self.accounts.get_mut(name)
        {
            record.mailbox.retain(|(n, _)| *n != number);
        }
        Answer::Done
    }

    fn online(&self) -> Vec<Name> {
        let mut names: Vec<_> = self
            .connections
            .values()
            .filter_map(|connection| Some(connection.account.as_ref()?.name()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn start_deliveries(&mut self, from: u64) {
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.delivered.get_or_insert(0);
        }
    }

    /// Delivers what an account has not got yet on the connections that ask for it.
    fn pump(&mut self, name: &Name) {
        let Some(record) = self.accounts.get(name) else {
            return;
        };
        for connection in self.connections.values_mut() {
            if !connection.is_of(name.as_str()) {
                continue;
            }
            let Some(delivered) = &mut connection.delivered else {
                continue;
            };
            for (number, mail) in &record.mailbox {
                if connection.in_flight >= WINDOW {
                    break;
                }
                if number <= delivered {
                    continue;
                }
                *delivered = *number;
                connection.in_flight += 1;
                let _ = connection.out.send(Frame::Binary(mail.delivery(*number)));
            }
            if connection.in_flight < WINDOW && !std::mem::replace(&mut connection.drained, true) {
                let _ = connection.out.send(Frame::Binary(event(&Event::Drained)));
            }
        }
    }
}

impl Connection {
    fn is_of(&self, name: &str) -> bool {
        self.account
            .as_ref()
            .is_some_and(|account| account.name().as_str() == name)
    }
}

impl Mail {
    /// The event that delivers this mail.
    pub fn delivery(&self, number: u64) -> Vec<u8> {
        event(&Event::Deliver(Delivery {
            number,
            sender: self.sender.clone(),
            stored_at: 1_800_000_000_000,
            message_id: self.message_id,
            body: &self.body,
            fingerprint: self.fingerprint,
        }))
    }
}

impl Call {
    fn of(ask: &Ask<'_>) -> Self {
        match ask {
            Ask::Login(_) => Self::Login,
            Ask::PutPrekey(_) => Self::PutPrekey,
            Ask::PrekeyStock => Self::PrekeyStock,
            Ask::LookUp(_) => Self::LookUp,
            Ask::TakePrekeys(_) => Self::TakePrekeys,
            Ask::Send { .. } => Self::Send,
            Ask::Receive => Self::Receive,
            Ask::Acknowledge { .. } => Self::Acknowledge,
            Ask::Who { .. } => Self::Who,
            Ask::SetVisible(_) => Self::SetVisible,
            Ask::DeleteAccount => Self::DeleteAccount,
            Ask::Ping => Self::Ping,
            Ask::Policy => Self::Policy,
            Ask::SetBlocked { .. } => Self::SetBlocked,
            Ask::Blocked { .. } => Self::Blocked,
            Ask::PutBlob { .. } => Self::PutBlob,
            Ask::PutPart { .. } => Self::PutPart,
            Ask::GetBlob { .. } => Self::GetBlob,
            Ask::GetPart { .. } => Self::GetPart,
            Ask::EndBlob { .. } => Self::EndBlob,
            Ask::DeleteBlob { .. } => Self::DeleteBlob,
            Ask::Generation { .. } => Self::Generation,
            Ask::TakeLastResort(_) => Self::TakeLastResort,
            Ask::Prekeys => Self::Prekeys,
            Ask::DropPrekeys => Self::DropPrekeys,
            Ask::MayRegister { .. } => Self::MayRegister,
        }
    }
}

fn refused(reason: Reason) -> Answer<'static> {
    Answer::Refused(Refusal {
        reason,
        retry_after_ms: 0,
    })
}
