//! Two relays in memory, as small as requests need them: who has which identity, and one mailbox.
//!
//! The home relay is honest: it says who was logged in and which identity that one proved. Whoever asks the other relay is
//! counted, since nobody may make a client do that.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostchat::agent::Stop;
use hostchat::model::address::RelayAddress;
use hostchat::relay::{Connection, Delivered, Dial, Dialled, Line, Login, Pushed};
use hostchat::{Error, Result};
use hostchat_core::wire::relay::{Answer, Call, Event, MAX_RELAY_MESSAGE, Reason, Refusal};
use hostchat_core::wire::{
    Address, Bytes, IdentityClaim, Name, PrekeyKind, PrekeyRef, RelayName, codec,
};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the two relays know.
#[derive(Default)]
pub(crate) struct Books {
    /// Whose mailbox there is.
    home: Option<RelayName>,
    bindings: Vec<(Address, IdentityClaim)>,
    mailbox: VecDeque<Delivered>,
    numbers: u64,
    one_time: heapless::Vec<PrekeyRef, 32>,
    last_resort: Option<PrekeyRef>,
    /// Of whom a relay was asked that is not the home relay.
    pub(crate) asked_elsewhere: Vec<Address>,
    /// Ends a command that waits for more than there is.
    pub(crate) stop: Stop,
}

/// A handle; clones share the books.
#[derive(Clone, Default)]
pub(crate) struct SmallRelay(Arc<Mutex<Books>>);

impl SmallRelay {
    pub(crate) fn new(home: RelayName) -> Self {
        let relay = Self::default();
        relay.lock().home = Some(home);
        relay
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Somebody has an account at the relay of this address.
    pub(crate) fn bind(&mut self, address: Address, identity: IdentityClaim) {
        self.bindings.push((address, identity));
    }

    /// Leaves a body in the mailbox, of whoever is logged in as `sender` and has proved this identity.
    pub(crate) fn leave(&mut self, sender: Address, proved: &IdentityClaim, body: Vec<u8>) {
        self.numbers += 1;
        self.mailbox.push_back(Delivered {
            number: self.numbers,
            sender,
            stored_at: super::who_asks::NOW_MS,
            message_id: Bytes([0; 16]),
            body,
            fingerprint: Some(Bytes(proved.fingerprint())),
        });
    }

    /// The id of the last-resort prekey, which anybody may know.
    pub(crate) fn last_resort(&self) -> u32 {
        self.last_resort.map_or(0, |key| key.id)
    }

    /// Forgets mail and accounts, for another run.
    pub(crate) fn clear(&mut self) {
        self.bindings.clear();
        self.mailbox.clear();
        self.asked_elsewhere.clear();
        self.stop = Stop::default();
    }

    fn look_up(&mut self, relay: &RelayName, name: &Name) -> Answer<'static> {
        if self.home.as_ref() != Some(relay) {
            self.asked_elsewhere.push(Address::new(name, relay));
        }
        let bound = self
            .bindings
            .iter()
            .find(|(at, _)| at.relay() == *relay && at.name() == *name);
        match bound {
            Some((_, identity)) => Answer::Binding(*identity),
            None => Answer::Refused(Refusal {
                reason: Reason::UnknownName,
                retry_after_ms: 0,
            }),
        }
    }

    fn answer(&mut self, relay: &RelayName, call: &Call<'_>) -> Answer<'static> {
        match call {
            Call::LookUp(name) => self.look_up(relay, name),
            Call::PutPrekey(prekey) => {
                let key = PrekeyRef {
                    id: prekey.id,
                    issued: prekey.issued,
                };
                match prekey.kind {
                    PrekeyKind::LastResort => self.last_resort = Some(key),
                    PrekeyKind::OneTime => {
                        let _ = self.one_time.push(key);
                    }
                }
                Answer::Done
            }
            Call::Prekeys => Answer::Prekeys {
                one_time: self.one_time.clone(),
                last_resort: self.last_resort,
            },
            Call::Policy => Answer::Policy { log_days: 0 },
            _ => Answer::Done,
        }
    }
}

impl Dial for SmallRelay {
    fn connect(&self, relay: RelayAddress) -> Boxed<'static, Result<Box<dyn Dialled>>> {
        let line = SmallLine {
            relay: self.clone(),
            name: relay.name,
            drained: false,
        };
        Box::pin(async move { Ok(Box::new(line) as Box<dyn Dialled>) })
    }
}

/// A line to one of the two.
struct SmallLine {
    relay: SmallRelay,
    name: RelayName,
    drained: bool,
}

impl SmallLine {
    fn exchange(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        let answer = self.relay.lock().answer(&self.name, call);
        let mut bytes = vec![0; MAX_RELAY_MESSAGE];
        let event = Event::Reply { id: 1, answer };
        let encoded = codec::encode(&event, &mut bytes);
        let length = encoded.map_err(|_| Error::Internal("an answer"))?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl Dialled for SmallLine {
    fn log_in<'a>(self: Box<Self>, _login: Login<'a>) -> Boxed<'a, Result<Connection>> {
        Box::pin(async move { Ok(Connection::over(self.name.clone(), self)) })
    }
}

impl Line for SmallLine {
    fn ask<'a>(&'a self, call: &'a Call<'a>) -> Boxed<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.exchange(call) })
    }

    fn tell<'a>(&'a self, call: &'a Call<'a>) -> Boxed<'a, Result<()>> {
        Box::pin(async move { self.exchange(call).map(drop) })
    }

    fn next(&mut self) -> Boxed<'_, Result<Pushed>> {
        Box::pin(async move {
            if let Some(pushed) = self.try_next() {
                return Ok(pushed);
            }
            if !std::mem::replace(&mut self.drained, true) {
                return Ok(Pushed::Drained);
            }
            self.relay.lock().stop.wish();
            std::future::pending().await
        })
    }

    fn try_next(&mut self) -> Option<Pushed> {
        let delivered = self.relay.lock().mailbox.pop_front()?;
        Some(Pushed::Deliver(Box::new(delivered)))
    }

    fn is_alive(&self) -> bool {
        true
    }
}
