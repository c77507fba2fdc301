//! The client: one value that holds a home, its token, its vault and its connections.
//!
//! ```text
//!  Begun::finish / Locked::unlock ─▶ send, pair, receive, accept_*, contacts, ...
//! ```
//!
//! Every method may be cut at any point, by a crash or by dropping its future, and be repeated.

mod account;
mod contact;

mod drops;
mod event;
mod generation;
mod healing;
mod held;
mod identity;
mod incoming;
mod pairing;
mod prekeys;
mod receive;
mod requests;
mod send;
mod stop;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use hostchat_core::icd::Lifecycle;
use hostchat_core::wire::relay::Reason;
use hostchat_core::wire::{Account, Address, Identity, IdentityClaim, RelayName};
use tokio::task::JoinHandle;

pub use account::{Begun, NewAccount};
pub use contact::Exported;
pub(crate) use drops::named;
pub(crate) use event::note;
pub use event::{Event, Observer, TypedCode, Unobserved, WaitingFor};
pub use identity::Change;
pub use pairing::Confirmation;
pub(crate) use receive::counted;
pub use send::{Flushed, How};
pub use stop::Stop;

use self::drops::Drops;
use crate::error::{Error, Result};
use crate::home::{Config, Home};
use crate::model::address::RelayAddress;
use crate::model::{Notice, Pin, TokenKind};
use crate::os::Os;
use crate::relay::{Connection, Dial, Dialled, Login, Network};
use crate::token::{OnNotice, Place, Token};
use crate::vault::Vault;

/// What is given besides the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The home directory; `None` for the usual place.
    pub home: Option<PathBuf>,
    /// The port of a hardware token.
    pub token: Option<PathBuf>,
    /// The relay; for an account that exists only its pin may differ.
    pub relay: Option<RelayAddress>,
    /// Keep no history.
    pub no_history: bool,
}

impl Options {
    /// Where the home is.
    ///
    /// # Errors
    /// `Usage` if no place is known.
    pub fn home(&self) -> Result<PathBuf> {
        self.home.clone().map_or_else(Home::default_path, Ok)
    }

    fn place(&self, home: &Home) -> (TokenKind, Place) {
        match &self.token {
            Some(port) => (TokenKind::Serial, Place::Serial(port.clone())),
            None => (TokenKind::Software, Place::Software(home.token_file())),
        }
    }
}

/// What a client is made of: the real ones, or those of a simulation.
pub struct Parts {
    /// The home.
    pub home: Home,
    /// Its token.
    pub token: Token,
    /// Whoever connects to relays.
    pub dial: Arc<dyn Dial>,
    /// Clock and randomness.
    pub os: Os,
    /// Keep no history.
    pub no_history: bool,
}

/// A home whose token has not been unlocked yet.
pub struct Locked {
    parts: Parts,
    config: Config,
    early: Option<Early>,
}

/// A token by itself, for what needs no account.
pub struct Bare {
    token: Token,
    kind: TokenKind,
    /// The software token's; the lock goes with it.
    _home: Option<Home>,
}

impl Bare {
    /// Opens the hardware token that the options name, or the software token of the home.
    ///
    /// # Errors
    /// `TokenAbsent`, `TokenBusy`; those of the home, if no port is named.
    pub async fn open(options: &Options, on_notice: OnNotice) -> Result<Self> {
        let Some(port) = &options.token else {
            let locked = Locked::open(options, on_notice).await?;
            return Ok(Self {
                kind: locked.kind(),
                token: locked.parts.token,
                _home: Some(locked.parts.home),
            });
        };
        Ok(Self {
            token: Token::open(Place::Serial(port.clone()), Os::default(), on_notice).await?,
            kind: TokenKind::Serial,
            _home: None,
        })
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What kind of token it is.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }
}

/// Opens the token of a home that has an account: a software token must have its keys, since nothing makes them anew.
async fn open_token(place: Place, os: Os, on_notice: OnNotice) -> Result<Token> {
    let file = match &place {
        Place::Software(file) => Some(file.clone()),
        _ => None,
    };
    let token = Token::open(place, os, on_notice).await?;
    if let Some(path) = file {
        let why = match token.hello().await?.lifecycle {
            Lifecycle::Ready => return Ok(token),
            Lifecycle::Blank => "holds no keys",
            Lifecycle::Damaged => "is damaged",
        };
        return Err(Error::NoKeys { path, why });
    }
    Ok(token)
}

/// A connection to the home relay that is made while the PIN is stretched.
type Early = JoinHandle<Result<Box<dyn Dialled>>>;

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
    /// Contacts whose identity was compared with their relay's since the program began.
    bound: HashSet<Address>,
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
    told_to_stay: HashMap<Address, String>,
    /// A code is shown: answers to it are waited for.
    pairing: bool,
    /// For whom it is shown.
    showing_to: Option<Address>,
    /// What relays said of addresses a while ago, `None` if nothing: the home relay and those of contacts of who asks,
    /// others of those that the user named.
    known_binding: HashMap<Address, Option<IdentityClaim>>,
    /// What was not taken, until it is told.
    drops: Drops,
    no_history: bool,
    stop: Stop,
}

impl Locked {
    /// Opens the home and its token.
    ///
    /// # Errors
    /// `NotInitialised`, `HomeLocked`, `Config`, `TokenKind`, `TokenAbsent`, `TokenBusy`, `NoKeys`.
    pub async fn open(options: &Options, on_notice: OnNotice) -> Result<Self> {
        let path = options.home()?;
        let home = Home::open(&path)?;
        let mut config = match home.config()? {
            Some(config) if config.registered => config,
            _ => return Err(Error::NotInitialised(path)),
        };
        if let Some(relay) = &options.relay {
            if relay.name != config.relay.name {
                return Err(Error::Usage(format!(
                    "the account of this home is at {}, not at {}: leave --relay out, or give another --home",
                    config.relay.name, relay.name
                )));
            }
            if relay.pin.is_some() && relay.pin != config.relay.pin {
                config.relay.pin = relay.pin;
                home.save(&config)?;
            }
        }
        let (kind, place) = options.place(&home);
        if kind != config.token {
            return Err(Error::TokenKind {
                serial: config.token == TokenKind::Serial,
            });
        }
        let os = Os::default();
        let token = open_token(place, os.clone(), on_notice).await?;
        let parts = Parts {
            home,
            token,
            dial: Arc::new(Network),
            os,
            no_history: options.no_history,
        };
        Ok(Self {
            parts,
            config,
            early: None,
        })
    }

    /// As [`Self::open`], with parts that somebody else has made.
    ///
    /// # Errors
    /// `NotInitialised`, `Config`.
    pub fn of(parts: Parts) -> Result<Self> {
        match parts.home.config()? {
            Some(config) if config.registered => Ok(Self {
                parts,
                config,
                early: None,
            }),
            _ => Err(Error::NotInitialised(parts.home.path().into())),
        }
    }

    /// Erases a home whose software token has no keys that can be read: its file is missing or damaged.
    ///
    /// # Errors
    /// `HomeLocked`, `Io`.
    pub fn erase_without_keys(options: &Options) -> Result<()> {
        Home::create(&options.home()?)?.erase()
    }

    /// What kind of token holds the keys.
    pub fn kind(&self) -> TokenKind {
        self.config.token
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.parts.home
    }

    /// Begins to connect to the home relay, for a command that will need it: the PIN's stretch leaves time for that.
    pub fn connect_early(&mut self) {
        let relay = self.config.relay.clone();
        let dial = &self.parts.dial;
        self.early
            .get_or_insert_with(|| tokio::spawn(dial.connect(relay)));
    }

    /// Unlocks the token and opens the vault.
    ///
    /// # Errors
    /// `WrongPin` and others of the token; those of the vault.
    pub async fn unlock(self, pin: Pin) -> Result<Client> {
        self.try_pin(pin).await?;
        self.open_vault().await
    }

    /// Unlocks the token; may be repeated with another PIN where this one is wrong.
    ///
    /// # Errors
    /// `WrongPin` and others of the token.
    pub async fn try_pin(&self, pin: Pin) -> Result<()> {
        self.parts
            .token
            .unlock(pin)
            .await
            .map(|_| ())
            .map_err(|error| match error {
                Error::TokenBlank => Error::TokenErased,
                other => other,
            })
    }

    /// Opens the vault of an unlocked token.
    ///
    /// # Errors
    /// Those of the vault.
    pub async fn open_vault(self) -> Result<Client> {
        let client = Client::assemble(self.parts, self.config).await?;
        Ok(Client {
            early: self.early,
            ..client
        })
    }

    /// Erases the token without a PIN, and the home.
    ///
    /// # Errors
    /// `NoTouch` and others of the token; `Io`.
    pub async fn erase(self) -> Result<()> {
        self.parts.token.reset().await?;
        self.parts.home.erase()
    }
}

impl Client {
    /// Puts the parts together; the token is unlocked.
    async fn assemble(parts: Parts, config: Config) -> Result<Self> {
        let Parts {
            home,
            token,
            dial,
            os,
            no_history,
        } = parts;
        let unsound = |_| Error::Internal("the token's own identity is not sound");
        let identity = token.identity().await?.verify().map_err(unsound)?;
        let vault = Vault::open(&home.vault_file(), &token.storage_key().await?, os.clone())?;
        Ok(Self {
            home,
            config,
            token,
            vault,
            identity,
            dial,
            os,
            early: None,
            connections: HashMap::new(),
            receiving: false,
            bound: HashSet::new(),
            ready: None,
            drained: false,
            heard: HashSet::new(),
            without_code: None,
            sending: None,
            blocked_by: HashSet::new(),
            told_to_stay: HashMap::new(),
            pairing: false,
            showing_to: None,
            known_binding: HashMap::new(),
            drops: Drops::default(),
            no_history,
            stop: Stop::default(),
        })
    }

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

    fn keeps_history(&self) -> bool {
        !self.no_history
    }
}
