//! Outside the channel: hello, unlock, initialisation, reset (SPEC section 10).

use core::borrow::BorrowMut;
use core::pin::pin;

use heapless::{String, Vec};
use hostchat_core::icd::link::{FromToken, Hello, Lifecycle};
use hostchat_core::icd::{
    Act, LinkError, MAX_TRIES, MAX_TRIES_PER_POWER_CYCLE, Reply, TOKEN_VERSION,
    TRIES_THAT_NEED_TOUCH, TokenUnlock, UnlockKind,
};
use hostchat_core::wire::{Bytes, codec};
use zeroize::Zeroize as _;

use super::keystore::{
    Keyring, Keys, PinPassword, PinWrap, PublicPin, open_box, put_pin, set_tries, tries,
};
use super::{App, Memory, Work, touch};
use crate::env::{Env, TouchReason};
use crate::records::RecordId;
use crate::store::{MasterKey, StoreError};

/// What `Hello` says of tries on a token that does not count them.
const UNCOUNTED: u8 = 255;

/// An unlock or initialisation whose answer has left.
pub(super) struct Run {
    kind: UnlockKind,
    unlock: TokenUnlock,
}

impl<E: Env, M: BorrowMut<Memory>> App<E, M> {
    pub(super) async fn hello(&mut self) -> Hello {
        self.pin.draw(&mut self.env);
        let (tries, tries_now) = self.tries_left().await.unwrap_or_default();
        Hello {
            version: TOKEN_VERSION,
            lifecycle: self.lifecycle(),
            token_id: self.pin.token_id,
            salt: self.pin.salt,
            tries,
            tries_now,
            firmware: String::try_from(env!("CARGO_PKG_VERSION")).unwrap_or_default(),
            board: String::try_from(self.env.board()).unwrap_or_default(),
        }
    }

    pub(super) async fn reset(&mut self) -> Result<(), LinkError> {
        let done = match touch(&mut self.env, TouchReason::Wipe).await {
            Ok(()) => self.erase().await,
            Err(error) => Err(error),
        };
        self.log.note(self.env.now().ms, Act::Wipe, done.is_ok());
        done
    }

    /// Destroys everything; the token is blank afterwards, with another id and salt.
    async fn erase(&mut self) -> Result<(), LinkError> {
        self.lock();
        self.store.wipe().await?;
        self.pin = PublicPin::load(&mut self.store, &mut self.env).await?;
        Ok(())
    }

    /// Message 1. An error says that it was not executed.
    pub(super) async fn unlock_start(
        &mut self,
        init: bool,
        sid: Bytes<16>,
        share: Bytes<32>,
        version: u8,
    ) -> Result<(), LinkError> {
        self.give_up_run();
        match version {
            TOKEN_VERSION if init => self.init_start(sid, share, version).await,
            TOKEN_VERSION => self.pin_start(sid, share, version).await,
            _ => Err(LinkError::Version),
        }
    }

    /// Forgets an unlock that was not finished. A host that sees by the answer that its PIN is wrong says no more.
    pub(super) fn give_up_run(&mut self) {
        if self
            .run
            .take()
            .is_some_and(|run| run.kind == UnlockKind::Unlock)
        {
            self.log.note(self.env.now().ms, Act::Unlock, false);
        }
    }

    async fn init_start(
        &mut self,
        sid: Bytes<16>,
        share: Bytes<32>,
        version: u8,
    ) -> Result<(), LinkError> {
        match self.lifecycle() {
            Lifecycle::Blank => {}
            Lifecycle::Ready => return Err(LinkError::NotBlank),
            Lifecycle::Damaged => return Err(LinkError::Storage),
        }
        if self.env.rng().is_none() || !self.pin.draw(&mut self.env) {
            return Err(LinkError::Random);
        }
        touch(&mut self.env, TouchReason::Init).await?;
        self.pake(UnlockKind::Init, sid, share, version)
    }

    async fn pin_start(
        &mut self,
        sid: Bytes<16>,
        share: Bytes<32>,
        version: u8,
    ) -> Result<(), LinkError> {
        match self.lifecycle() {
            Lifecycle::Ready => {}
            Lifecycle::Blank => return Err(LinkError::Blank),
            Lifecycle::Damaged => return Err(LinkError::Storage),
        }
        if self.env.rng().is_none() {
            return Err(LinkError::Random);
        }
        self.charge().await?;
        self.pake(UnlockKind::Unlock, sid, share, version)
    }

    /// Takes a try away, durably, before anything leaves that tells the caller whether it guessed right.
    async fn charge(&mut self) -> Result<(), LinkError> {
        if !self.env.wipes() {
            return Ok(());
        }
        let left = tries(&mut self.store).await?;
        if left == 0 {
            self.erase().await?;
            return Err(LinkError::TriesSpent);
        }
        if self.tries_now == 0 {
            return Err(LinkError::TriesOfPowerCycleSpent);
        }
        if left <= TRIES_THAT_NEED_TOUCH {
            touch(&mut self.env, TouchReason::LastTries).await?;
        }
        self.tries_now -= 1;
        set_tries(&mut self.store, left - 1).await?;
        Ok(())
    }

    fn pake(
        &mut self,
        kind: UnlockKind,
        sid: Bytes<16>,
        share: Bytes<32>,
        version: u8,
    ) -> Result<(), LinkError> {
        let password: &[u8] = match (kind, &self.pin.password) {
            (UnlockKind::Init, _) => &[],
            (UnlockKind::Unlock, Some(password)) => password.expose_bytes(),
            (UnlockKind::Unlock, None) => return Err(LinkError::Blank),
        };
        let rng = self.env.rng().ok_or(LinkError::Random)?;
        let (id, salt) = (&self.pin.token_id, &self.pin.salt);
        let answered = TokenUnlock::answer(kind, id, salt, password, sid, share, version, rng);
        let (unlock, answer) = answered.map_err(|_| LinkError::BadRequest)?;
        self.run = Some(Run { kind, unlock });
        self.reply(&answer);
        Ok(())
    }

    /// Message 3. An error says that it was not executed.
    pub(super) async fn unlock_finish(
        &mut self,
        tag: &Bytes<32>,
        body: &[u8],
    ) -> Result<(), LinkError> {
        let Some(Run { kind, unlock }) = self.run.take() else {
            return Err(LinkError::BadRequest);
        };
        let mut secret = Vec::<u8, 64>::new();
        let finished = unlock.finish(tag, body, &mut secret);
        let opened = match (kind, &finished) {
            (UnlockKind::Init, Ok(_)) => pin!(self.initialise(&secret)).await,
            (UnlockKind::Init, Err(_)) => Err(LinkError::BadRequest),
            (UnlockKind::Unlock, Ok(_)) => pin!(self.open(&secret)).await,
            (UnlockKind::Unlock, Err(_)) => Err(self.wrong_pin().await),
        };
        secret.zeroize();
        let unlocked = match (opened, finished) {
            (Ok(keys), Ok(channel)) => {
                self.lock();
                self.keyring = Some(Keyring::new(keys));
                self.channel = Some(channel);
                pin!(self.take_stock()).await
            }
            (Err(error), _) => Err(error),
            (Ok(_), Err(_)) => Err(LinkError::BadRequest),
        };
        let act = match kind {
            UnlockKind::Init => Act::Init,
            UnlockKind::Unlock => Act::Unlock,
        };
        self.log.note(self.env.now().ms, act, unlocked.is_ok());
        match unlocked {
            Ok(()) => {
                let reply = self.memory.borrow_mut().replies.begin();
                let _ = codec::encode_into(&Reply::Done, reply);
                self.seal_reply();
            }
            Err(error) => self.reply(&FromToken::Refused(error)),
        }
        Ok(())
    }

    /// The last step of an initialisation: new keys, the PIN record last, which makes them count.
    async fn initialise(&mut self, secret: &[u8]) -> Result<Keys, LinkError> {
        if self.lifecycle() != Lifecycle::Blank {
            return Err(LinkError::NotBlank);
        }
        let (password, wrap) = secret
            .split_first_chunk::<32>()
            .ok_or(LinkError::BadRequest)?;
        let wrap = PinWrap::from_slice(wrap).map_err(|_| LinkError::BadRequest)?;
        let password = PinPassword::from_bytes(*password);
        if RecordId::all().any(|id| self.store.has(id)) {
            // What an initialisation left behind that lost its power.
            self.store.wipe().await?;
        }
        let rng = self.env.rng().ok_or(LinkError::Random)?;
        let master = MasterKey::generate(rng);
        let keys = pin!(Keys::create(&mut self.store, rng, master)).await?;
        set_tries(&mut self.store, MAX_TRIES).await?;
        let ids = (&self.pin.token_id, &self.pin.salt);
        pin!(put_pin(
            &mut self.store,
            rng,
            ids,
            &password,
            &wrap,
            &keys.master
        ))
        .await?;
        self.reload_pin().await?;
        Ok(keys)
    }

    /// The last step of an unlock: the right W opens the box, and the tries are given back.
    async fn open(&mut self, secret: &[u8]) -> Result<Keys, LinkError> {
        let Ok(wrap) = PinWrap::from_slice(secret) else {
            return Err(self.wrong_pin().await);
        };
        let Some(master) = pin!(open_box(&mut self.store, &wrap)).await? else {
            return Err(self.wrong_pin().await);
        };
        if self.env.wipes() {
            set_tries(&mut self.store, MAX_TRIES).await?;
            self.tries_now = MAX_TRIES_PER_POWER_CYCLE;
        }
        Ok(pin!(Keys::open(&mut self.store, master)).await?)
    }

    /// The try stays charged; after the last one every key is destroyed.
    async fn wrong_pin(&mut self) -> LinkError {
        let (tries, tries_now) = match self.tries_left().await {
            Ok(left) => left,
            Err(error) => return error.into(),
        };
        if tries > 0 {
            return LinkError::WrongPin { tries, tries_now };
        }
        match self.erase().await {
            Ok(()) => LinkError::TriesSpent,
            Err(error) => error,
        }
    }

    async fn tries_left(&mut self) -> Result<(u8, u8), StoreError> {
        if !self.env.wipes() {
            return Ok((UNCOUNTED, UNCOUNTED));
        }
        if self.lifecycle() != Lifecycle::Ready {
            return Ok((MAX_TRIES, MAX_TRIES_PER_POWER_CYCLE));
        }
        let left = tries(&mut self.store).await?;
        Ok((left, self.tries_now.min(left)))
    }

    /// Reads what the keyring opens, and redoes what a power cut kept from being done.
    async fn take_stock(&mut self) -> Result<(), LinkError> {
        let Some(keyring) = self.keyring.as_mut() else {
            return Err(LinkError::Locked);
        };
        let mut work = Work {
            env: &mut self.env,
            store: &mut self.store,
            keyring,
            room: &mut self.memory.borrow_mut().room,
            log: &mut self.log,
            pressed: false,
        };
        let taken = pin!(work.take_stock()).await;
        if taken.is_err() {
            self.lock();
        }
        taken.map_err(|_| LinkError::Storage)
    }
}
