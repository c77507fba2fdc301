//! The client: one value that holds a home, its token, its vault and its connections.
//!
//! ```text
//!  Begun::finish / Locked::unlock ─▶ send, pair, receive, accept_*, contacts, ...
//! ```
//!
//! Every method may be cut at any point, by a crash or by dropping its future, and be repeated.

mod account;
mod calls;
mod contact;
mod drops;
mod event;
mod generation;
mod healing;
mod held;
mod identity;
mod incoming;
mod open;
mod pairing;
mod prekeys;
mod receive;
mod receiving;
mod requests;
mod send;
mod stop;
mod turn;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hostchat_core::wire::relay::Reason;
use hostchat_core::wire::{Account, Address, Identity, IdentityClaim, RelayName};

pub use account::{Begun, NewAccount};
pub use contact::Exported;
pub use event::{Observer, TypedCode, Unobserved};
pub use open::{Bare, Locked, Options, Parts};
pub use pairing::Confirmation;
pub use send::Flushed;
pub use stop::Stop;
pub(super) use turn::Engine;

use self::drops::Drops;
use self::open::Early;
use crate::error::{Error, Result};
use crate::home::{Config, Home};
use crate::model::address::RelayAddress;
use crate::model::{Notice, Stays};
use crate::os::Os;
use crate::relay::{Connection, Dial, Dialled, Login};
use crate::token::Token;
use crate::vault::Vault;

/// An unlocked client.
pub struct Client {
    home: Home,
    config: Config,
    token: Token,
    vault: Vault,
    identity: Identity,
    dial: Arc<dyn Dial>,
    os: Os,
    early: Option<Early>,
    connections: HashMap<RelayName, Connection>,
    /// Deliveries were asked for on the present connection to the home relay.
    receiving: bool,
    /// On that connection, everything that had waited has come.
    emptied: bool,
    /// Contacts whose identity was compared with their relay's since the program began.
    bound: HashSet<Address>,
    /// The newest message that whoever shows them was told of.
    told: i64,
    /// The keys may be used: the home relay has answered since the last login.
    ready: Option<generation::Ready>,
    /// The mailbox was empty once since the program began.
    drained: bool,
    /// Contacts of whom something came since the user was last told what is missing.
    heard: HashSet<Address>,
    /// Contacts that block us, as their relay said a while ago: not asked again for every message that comes in.
    blocked_by: HashSet<Address>,
    /// Whose texts leave without the code that they were written for: the user said so in this command.
    without_code: Option<Address>,
    /// The entry of the outbox that the running command has made.
    sending: Option<i64>,
    /// For whom texts stay in the outbox, and what the user was told of it in this run.
    told_to_stay: HashMap<Address, Stays>,
    /// For whom a code is shown: answers to it are waited for.
    showing_to: Option<Address>,
    /// What relays said of addresses a while ago, `None` if nothing: the home relay and those of contacts of who asks,
    /// others of those that the user named.
    known_binding: HashMap<Address, Option<IdentityClaim>>,
    /// What was not taken, until it is told.
    drops: Drops,
    no_history: bool,
    stop: Stop,
}

impl Client {
    /// The own address.
    pub fn address(&self) -> Address {
        self.config.address()
    }

    /// The own identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The home relay, with its pin.
    pub fn relay(&self) -> &RelayAddress {
        &self.config.relay
    }

    /// Whether others may see in `who` that the account is connected.
    pub fn is_visible(&self) -> bool {
        self.config.visible
    }

    /// The vault.
    pub fn vault(&mut self) -> &mut Vault {
        &mut self.vault
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What ends a waiting command.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Lets `stop` end a waiting command.
    pub fn with_stop(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// Connects to a relay if there is no living connection: to the home relay as its user, to others as a guest.
    async fn connect(&mut self, relay: &RelayName) -> Result<()> {
        if self
            .connections
            .get(relay)
            .is_some_and(Connection::is_alive)
        {
            return Ok(());
        }
        let is_home = *relay == self.config.relay.name;
        let account = if is_home {
            Account::User(self.config.name.clone())
        } else {
            Account::Guest(self.address())
        };
        match self.connect_as(relay, account).await {
            Err(Error::RelayRefused { refusal, .. })
                if is_home && self.config.registered && refusal.reason == Reason::UnknownName =>
            {
                self.register_again(relay).await
            }
            other => other,
        }
    }

    /// Registers an account that the home relay has forgotten: it was restored from a copy, or its operator made a mistake.
    async fn register_again(&mut self, relay: &RelayName) -> Result<()> {
        let account = Account::Register {
            name: self.config.name.clone(),
            invitation: heapless::Vec::new(),
        };
        match self.connect_as(relay, account).await {
            Err(Error::RelayRefused { relay, refusal }) => {
                Err(Error::AccountForgotten { relay, refusal })
            }
            Ok(()) => self.vault.add_notice(&Notice::RegisteredAgain),
            other => other,
        }
    }

    async fn connect_as(&mut self, relay: &RelayName, account: Account) -> Result<()> {
        let is_home = *relay == self.config.relay.name;
        self.connections.remove(relay);
        if is_home {
            self.receiving = false;
            self.ready = None;
        }
        if let Some(early) = self.early.take_if(|_| is_home)
            && let Ok(Ok(dialled)) = early.await
        {
            match self.log_in(relay, account.clone(), dialled).await {
                // It may have become too old while somebody typed.
                Err(Error::RelayGone { .. }) => {}
                other => return other,
            }
        }
        let pin = if is_home {
            self.config.relay.pin
        } else {
            self.vault.relay_pin(relay)?
        };
        let address = RelayAddress {
            name: relay.clone(),
            pin,
        };
        let dialled = self.dial.connect(address).await?;
        self.log_in(relay, account, dialled).await
    }

    async fn log_in(
        &mut self,
        relay: &RelayName,
        account: Account,
        dialled: Box<dyn Dialled>,
    ) -> Result<()> {
        let identity = *self.identity.claim();
        let visible = self.config.visible;
        let login = Login {
            token: &self.token,
            account,
            identity,
            visible,
        };
        let connection = dialled.log_in(login).await?;
        if *relay == self.config.relay.name
            && let Some(relay_time) = connection.relay_time()
        {
            self.vault.set_relay_clock(relay_time);
        }
        self.connections.insert(relay.clone(), connection);
        Ok(())
    }

    /// The living connection to a relay.
    async fn at(&mut self, relay: &RelayName) -> Result<&Connection> {
        self.connect(relay).await?;
        self.connections
            .get(relay)
            .ok_or(Error::Internal("no connection"))
    }

    fn home_relay(&self) -> RelayName {
        self.config.relay.name.clone()
    }

    /// Refuses to go on in a home that was deleted.
    fn still_has_home(&self) -> Result<()> {
        if self.home.is_there() {
            Ok(())
        } else {
            Err(Error::NotInitialised(self.home.path().into()))
        }
    }

    fn keeps_history(&self) -> bool {
        !self.no_history
    }
}
