//! The account: made, shown, hidden, erased.

use std::sync::Arc;

use hostchat_core::icd::Lifecycle;
use hostchat_core::wire::{Account, Name};

use super::Client;
use super::event::{Observer, note};
use super::open::{Options, Parts, open_token};
use crate::crash;
use crate::error::{Error, Fault, Result};
use crate::home::{Config, Home};
use crate::model::address::RelayAddress;
use crate::model::{Note, Pin, TokenKind};
use crate::os::Os;
use crate::relay::Network;
use crate::token::{OnNotice, Place, Token};
use crate::vault::Payload;

/// What `init` needs to know.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The name wanted.
    pub name: Name,
    /// The relay.
    pub relay: RelayAddress,
    /// An invitation, empty where none is needed.
    pub invitation: Vec<u8>,
    /// Whether others may see in `who` that the account is connected.
    pub visible: bool,
}

/// An account that is being made: home and token are open, the PIN is still to be asked for.
pub struct Begun {
    parts: Parts,
    kind: TokenKind,
    lifecycle: Lifecycle,
}

impl Begun {
    /// Takes the home and the token.
    ///
    /// # Errors
    /// `AlreadyInitialised`, or `NoKeys` if that account has lost them; `HomeLocked`; those of the token.
    pub async fn open(options: &Options, on_notice: OnNotice) -> Result<Self> {
        let path = options.home()?;
        let home = Home::create(&path)?;
        let (kind, place) = options.place(&home);
        let os = Os::default();
        if let Some(config) = home.config()?.filter(|config| config.registered) {
            if (kind, config.token) == (TokenKind::Software, TokenKind::Software) {
                open_token(place, os, on_notice).await?;
            }
            let address = config.address().to_string();
            return Err(Error::AlreadyInitialised { path, address });
        }
        let place = match place {
            Place::Software(file) => Place::NewSoftware(file),
            other => other,
        };
        let token = Token::open(place, os.clone(), on_notice).await?;
        let parts = Parts {
            home,
            token,
            dial: Arc::new(Network),
            os,
            no_history: options.no_history,
        };
        Self::of(parts, kind).await
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.parts.home
    }

    /// As [`Self::open`], with parts that somebody else has made; the home has no account yet.
    ///
    /// # Errors
    /// Those of the token.
    pub async fn of(parts: Parts, kind: TokenKind) -> Result<Self> {
        let lifecycle = parts.token.hello().await?.lifecycle;
        if lifecycle == Lifecycle::Damaged {
            return Err(Error::TokenDamaged);
        }
        Ok(Self {
            parts,
            kind,
            lifecycle,
        })
    }

    /// Whether the PIN will be a new one.
    pub fn is_blank(&self) -> bool {
        self.lifecycle == Lifecycle::Blank
    }

    /// Tells, before anybody types a PIN, what is known already: that the token has an identity, and whether the relay can be
    /// reached and takes a new account. To a token with an identity its refusal is a note only, since the account may be that
    /// one's already.
    ///
    /// # Errors
    /// `RelayRefused`, and others of the relay; `Io`.
    pub async fn check(
        &self,
        name: Name,
        relay: RelayAddress,
        invited: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if !self.is_blank() {
            note(observer, Note::Token)?;
        }
        let dialled = self.parts.dial.connect(relay).await?;
        match dialled.may_register(name, invited).await {
            Err(why @ Error::RelayRefused { .. }) if !self.is_blank() => {
                let fault = Fault::from(&why);
                note(observer, Note::NoNewAccount { fault })
            }
            other => other,
        }
    }

    /// Makes the account: PIN and keys on the token, a name at the relay, prekeys there. Repeating it after a crash goes on.
    ///
    /// # Errors
    /// Those of token, relay, vault.
    pub async fn finish(
        self,
        account: NewAccount,
        pin: Pin,
        observer: &mut dyn Observer,
    ) -> Result<Client> {
        let invitation = heapless::Vec::from_slice(&account.invitation)
            .map_err(|_| Error::Usage("an invitation has at most 64 bytes".into()))?;
        if self.is_blank() {
            pin.check_new()?;
            self.parts.token.initialise(pin).await?;
        } else {
            self.parts.token.unlock(pin).await?;
        }
        crash::point("token-initialised");
        let config = Config {
            name: account.name,
            relay: account.relay,
            token: self.kind,
            registered: false,
            visible: account.visible,
        };
        self.parts.home.save(&config)?;
        crash::point("config-stored");
        let mut client = Client::assemble(self.parts, config).await?;
        let (name, relay) = (client.config.name.clone(), client.home_relay());
        client
            .connect_as(&relay, Account::Register { name, invitation })
            .await?;
        crash::point("registered");
        client.tell_policy(observer).await?;
        client.look_after_prekeys(observer).await?;
        client.config.registered = true;
        client.home.save(&client.config)?;
        Ok(client)
    }
}

impl Client {
    /// Names of those connected to the home relay now.
    ///
    /// # Errors
    /// Those of the relay.
    pub async fn who(&mut self) -> Result<Vec<Name>> {
        let home = self.home_relay();
        self.at(&home).await?.who().await
    }

    /// Tells the user if the home relay keeps who wrote to whom.
    ///
    /// # Errors
    /// Those of the relay; `Io`.
    pub async fn tell_policy(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let home = self.home_relay();
        match self.at(&home).await?.log_days().await? {
            0 => Ok(()),
            days => note(observer, Note::Log { relay: home, days }),
        }
    }

    /// Lets others see that this account is connected, or not.
    ///
    /// # Errors
    /// Those of the relay; `Io`.
    pub async fn set_visible(&mut self, visible: bool) -> Result<()> {
        self.config.visible = visible;
        self.home.save(&self.config)?;
        let home = self.home_relay();
        self.at(&home).await?.set_visible(visible).await
    }

    /// Tells the contacts that the sessions end, deletes the account at the relay, and erases keys and vault.
    ///
    /// What cannot be reached is passed over with a note: the erasing itself must not depend on others.
    ///
    /// # Errors
    /// `NoTouch` and others of the token; `Io`.
    pub async fn wipe(mut self, observer: &mut dyn Observer) -> Result<()> {
        if let Err(error) = self.take_leave(observer).await {
            let fault = Fault::from(&error);
            note(observer, Note::Wipe { fault })?;
        }
        self.token.wipe().await?;
        self.home.erase()
    }

    async fn take_leave(&mut self, observer: &mut dyn Observer) -> Result<()> {
        for contact in self
            .vault
            .contacts()?
            .into_iter()
            .filter(|c| c.identity.is_some() && c.changed.is_none())
        {
            self.vault.queue(&contact.address, Payload::SessionEnded)?;
        }
        self.flush(observer).await?;
        let home = self.home_relay();
        self.at(&home).await?.delete_account().await
    }
}
