//! The relay's end of a line, as a client sees it.

use futures_util::future::BoxFuture;
use hostchat::error::{Error, Result};
use hostchat::model::address::RelayAddress;
use hostchat::relay::{Connection, Delivered, Dial, Dialled, Line, Login, Pushed};
use hostchat_core::wire::relay::{
    self, Answer, Call, Event, MAX_RELAY_MESSAGE, RELAY_VERSION, Reason, WINDOW, login_items,
};
use hostchat_core::wire::{Bytes, RelayName, codec};

use super::relay::refused;
use super::{Mail, SimRelay};

/// What every login signs.
const CHALLENGE: [u8; 32] = [0x5C; 32];
const EXPORTER: [u8; 32] = [0xE5; 32];

impl Dial for SimRelay {
    fn connect(&self, relay: RelayAddress) -> BoxFuture<'static, Result<Box<dyn Dialled>>> {
        let found = {
            let state = self.lock();
            state.name == relay.name && !state.down
        };
        let dialled = Fresh {
            relay: self.clone(),
            name: relay.name.clone(),
        };
        Box::pin(async move {
            if !found {
                return Err(Error::RelayUnreachable {
                    relay: relay.name.to_string(),
                    why: "it is down".into(),
                });
            }
            Ok(Box::new(dialled) as Box<dyn Dialled>)
        })
    }
}

struct Fresh {
    relay: SimRelay,
    name: RelayName,
}

impl Dialled for Fresh {
    fn log_in<'a>(self: Box<Self>, login: Login<'a>) -> BoxFuture<'a, Result<Connection>> {
        Box::pin(async move {
            let Self { relay, name } = *self;
            let (account, identity) = (login.account, login.identity);
            let signature = login
                .token
                .login(
                    account.clone(),
                    name.clone(),
                    Bytes(CHALLENGE),
                    Bytes(EXPORTER),
                )
                .await?;
            let text = account.signed_text().to_owned();
            let login = relay::Login {
                version: RELAY_VERSION,
                account,
                identity,
                dialled: name.clone(),
                signature,
                visible: login.visible,
            };
            let genuine = identity.verify().is_ok_and(|signer| {
                login_items(&text, &name, &CHALLENGE, &EXPORTER, &identity, |items| {
                    signer.verifying_key().verify(items, &login.signature.0)
                })
                .is_ok()
            });
            let seat = relay.lock().sit_down();
            let line = SimLine {
                relay: relay.clone(),
                name: name.clone(),
                seat,
            };
            let answer = match genuine {
                true => relay.lock().log_in(seat, &login),
                false => refused(Reason::LoginFailed),
            };
            match answer {
                Answer::Refused(refusal) => Err(Error::RelayRefused {
                    relay: name.to_string(),
                    refusal,
                }),
                _ => {
                    let relay_time = line.relay.lock().clock.now_ms();
                    Ok(Connection::over(name, Box::new(line)).at_time(Some(relay_time)))
                }
            }
        })
    }
}

/// A line that is logged in.
struct SimLine {
    relay: SimRelay,
    name: RelayName,
    seat: u64,
}

impl SimLine {
    fn gone(&self) -> Error {
        Error::RelayGone {
            relay: self.name.to_string(),
            why: "closed by the relay".into(),
        }
    }

    fn exchange(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        if !self.is_alive() {
            return Err(self.gone());
        }
        let answer = self.relay.lock().answer(self.seat, call);
        let mut bytes = vec![0; MAX_RELAY_MESSAGE];
        let event = Event::Reply { id: 1, answer };
        let length = codec::encode(&event, &mut bytes)
            .map_err(|_| Error::Internal("an answer that is too long"))?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }

    /// The next event, if there is one.
    fn take(&self) -> Option<Pushed> {
        let mut state = self.relay.lock();
        let seat = state.seats.get(&self.seat)?;
        let account = seat.account.as_ref()?.name();
        if !seat.receiving || seat.in_flight.len() >= WINDOW {
            return None;
        }
        let drained = seat.drained;
        if state.allowance.get(&account) == Some(&0) {
            return None;
        }
        let Some((number, mail)) = state.pick(self.seat) else {
            let seat = state.seats.get_mut(&self.seat)?;
            seat.drained = true;
            return (!drained).then_some(Pushed::Drained);
        };
        if let Some(left) = state.allowance.get_mut(&account) {
            *left -= 1;
        }
        let seat = state.seats.get_mut(&self.seat)?;
        seat.delivered.insert(number);
        seat.in_flight.insert(number);
        Some(Pushed::Deliver(Box::new(delivered(number, mail))))
    }
}

fn delivered(number: u64, mail: Mail) -> Delivered {
    Delivered {
        number,
        sender: mail.sender,
        stored_at: mail.stored_at,
        message_id: mail.message_id,
        body: mail.body,
        fingerprint: mail.fingerprint,
    }
}

impl Line for SimLine {
    fn ask<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move { self.exchange(call) })
    }

    fn tell<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.exchange(call).map(drop) })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Pushed>> {
        Box::pin(async move {
            loop {
                let news = self.relay.lock().news.clone();
                let news = news.notified();
                tokio::pin!(news);
                // Listens before it looks, so that nothing falls in between.
                news.as_mut().enable();
                if let Some(pushed) = self.try_next() {
                    return Ok(pushed);
                }
                if !self.is_alive() {
                    return Err(self.gone());
                }
                news.await;
            }
        })
    }

    fn try_next(&mut self) -> Option<Pushed> {
        self.is_alive().then(|| self.take()).flatten()
    }

    fn is_alive(&self) -> bool {
        let state = self.relay.lock();
        state.seats.get(&self.seat).is_some_and(|seat| seat.alive)
    }
}

impl Drop for SimLine {
    fn drop(&mut self) {
        self.relay.lock().seats.remove(&self.seat);
    }
}
