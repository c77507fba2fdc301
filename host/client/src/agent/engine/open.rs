//! Opening: from the options of a program to an unlocked client.
//!
//! ```text
//!  Options ─▶ Locked::open (home, token) ─▶ unlock (PIN) ─▶ Client        Begun (account.rs): a new account
//! ```

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use hostchat_core::icd::Lifecycle;
use tokio::task::JoinHandle;

use super::Client;
use super::drops::Drops;
use super::stop::Stop;
use crate::error::{Error, Result};
use crate::home::{Config, Home};
use crate::model::address::RelayAddress;
use crate::model::{Pin, TokenKind};
use crate::os::Os;
use crate::relay::{Dial, Dialled, Network};
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

    pub(super) fn place(&self, home: &Home) -> (TokenKind, Place) {
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
    /// The token did not answer when it was locked: it has to be opened again.
    stale: bool,
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
pub(super) async fn open_token(place: Place, os: Os, on_notice: OnNotice) -> Result<Token> {
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
pub(super) type Early = JoinHandle<Result<Box<dyn Dialled>>>;

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
            stale: false,
        })
    }

    /// Opens the token again, if it did not answer any more when it was locked.
    ///
    /// # Errors
    /// `TokenAbsent`, `TokenBusy`, `NoKeys`.
    pub(super) async fn revive(&mut self, options: &Options, on_notice: OnNotice) -> Result<()> {
        if self.stale {
            let (_, place) = options.place(&self.parts.home);
            self.parts.token = open_token(place, self.parts.os.clone(), on_notice).await?;
            self.stale = false;
        }
        Ok(())
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
                stale: false,
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
    /// Locks the token, and lets go of everything that its keys have opened. The token is locked by its end where it does not
    /// answer any more.
    pub(super) async fn lock(self) -> Locked {
        let Self {
            home,
            config,
            token,
            vault,
            dial,
            os,
            no_history,
            ..
        } = self;
        drop(vault);
        let stale = token.lock().await.is_err();
        let parts = Parts {
            home,
            token,
            dial,
            os,
            no_history,
        };
        Locked {
            parts,
            config,
            early: None,
            stale,
        }
    }

    /// Puts the parts together; the token is unlocked.
    pub(super) async fn assemble(parts: Parts, config: Config) -> Result<Self> {
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
            emptied: false,
            bound: HashSet::new(),
            told: 0,
            ready: None,
            drained: false,
            heard: HashSet::new(),
            without_code: None,
            sending: None,
            blocked_by: HashSet::new(),
            told_to_stay: HashMap::new(),
            showing_to: None,
            known_binding: HashMap::new(),
            drops: Drops::default(),
            no_history,
            stop: Stop::default(),
        })
    }
}
