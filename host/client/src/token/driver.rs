//! The command language of a token, spoken over any [`Link`]; blocking.
//!
//! ```text
//!  hello ─▶ unlock(pin) ─▶ command, command, ..           lock by dropping the driver
//!             Argon2id here, CPace with the token; then AES-SIV frames with exact counters
//! ```
//!
//! Invariant: the PIN never leaves this process; what the token gets is only good with its own answer.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hostchat_core::crypto::stretch::{PinPrs, PinWrap, Stretched};
use hostchat_core::error::Error as CoreError;
use hostchat_core::icd::{
    Activity, Channel, Command, FromToken, Hello, HostUnlock, Lifecycle, LinkError, MAX_LINK,
    Reply, TOKEN_VERSION, ToToken, TokenError, UnlockKind,
};
use hostchat_core::wire::{Bytes, codec};
use zeroize::{Zeroize as _, Zeroizing};

use super::Notice;
use super::memory::StretchMemory;
use crate::error::{Error, Result};
use crate::model::Pin;
use crate::os::Os;
use crate::transport::{Link, LinkBuffer};

/// Called, on the token's thread, for what the user should know while a token is busy.
pub type OnNotice = Box<dyn FnMut(Notice) + Send>;

/// A token and the channel to it.
pub struct Driver {
    link: Box<dyn Link + Send>,
    channel: Option<Channel>,
    cancel: Arc<AtomicBool>,
    on_notice: OnNotice,
    /// Clock and randomness of the host.
    pub(super) os: Os,
    request: LinkBuffer,
    reply: LinkBuffer,
    plain: LinkBuffer,
    /// For the first stretch, which is soon.
    memory: Option<StretchMemory>,
}

impl Driver {
    /// Speaks to the token behind `link`; setting `cancel` gives up a touch that is waited for.
    pub fn new(link: Box<dyn Link + Send>, cancel: Arc<AtomicBool>, on_notice: OnNotice) -> Self {
        Self::with_memory(
            link,
            Some(StretchMemory::fetch()),
            Os::default(),
            cancel,
            on_notice,
        )
    }

    /// As [`Self::new`], with memory that is on its way already, and with the host's clock and randomness.
    pub(super) fn with_memory(
        link: Box<dyn Link + Send>,
        memory: Option<StretchMemory>,
        os: Os,
        cancel: Arc<AtomicBool>,
        on_notice: OnNotice,
    ) -> Self {
        let (request, reply, plain) = (LinkBuffer::new(), LinkBuffer::new(), LinkBuffer::new());
        Self {
            link,
            channel: None,
            cancel,
            on_notice,
            os,
            request,
            reply,
            plain,
            memory,
        }
    }

    /// Asks the token who it is.
    ///
    /// # Errors
    /// `TokenVersion` for another protocol version; those of the link.
    pub fn hello(&mut self) -> Result<Hello> {
        self.transmit(&ToToken::Hello)?;
        let FromToken::Hello(hello) = self.answer()? else {
            return Err(self.not_a_token());
        };
        if hello.version == TOKEN_VERSION {
            Ok(hello)
        } else {
            Err(Error::TokenVersion {
                theirs: hello.version,
            })
        }
    }

    /// Unlocks an initialised token.
    ///
    /// # Errors
    /// `WrongPin` with the tries left, `TriesSpent`, `TokenBlank`, `TokenDamaged`; those of the link.
    pub fn unlock(&mut self, pin: &Pin) -> Result<Hello> {
        let hello = self.hello()?;
        match hello.lifecycle {
            Lifecycle::Blank => return Err(Error::TokenBlank),
            Lifecycle::Damaged => return Err(Error::TokenDamaged),
            Lifecycle::Ready if hello.tries == 0 => return Err(Error::TriesSpent),
            Lifecycle::Ready if hello.tries_now == 0 => {
                return Err(Error::TriesOfPowerCycleSpent { tries: hello.tries });
            }
            Lifecycle::Ready => {}
        }
        let stretched = self.stretch(pin, &hello.salt)?;
        self.open_channel(
            UnlockKind::Unlock,
            &hello,
            stretched.prs().expose_bytes(),
            stretched.wrap().expose_bytes(),
        )?;
        Ok(hello)
    }

    /// Sets the first PIN of a blank token, which makes its keys, and unlocks it. Needs a touch.
    ///
    /// # Errors
    /// `TokenNotBlank`, `NoTouch`; those of the link.
    pub fn initialise(&mut self, pin: &Pin) -> Result<Hello> {
        let hello = self.hello()?;
        if hello.lifecycle != Lifecycle::Blank {
            return Err(Error::TokenNotBlank);
        }
        let stretched = self.stretch(pin, &hello.salt)?;
        let mut secret = Zeroizing::new([0; PinPrs::LEN + PinWrap::LEN]);
        let (prs, wrap) = secret.split_at_mut(PinPrs::LEN);
        prs.copy_from_slice(stretched.prs().expose_bytes());
        wrap.copy_from_slice(stretched.wrap().expose_bytes());
        self.open_channel(UnlockKind::Init, &hello, &[], secret.as_slice())?;
        Ok(hello)
    }

    /// Unlocks and sets a new PIN; the channel stays. Needs a touch.
    ///
    /// # Errors
    /// `WrongPin` if `old` is not the present one, `NoTouch`; those of the link.
    pub fn change_pin(&mut self, old: &Pin, new: &Pin) -> Result<()> {
        new.check_new()?;
        let hello = self.unlock(old)?;
        let present = self.stretch(old, &hello.salt)?.wrap();
        let new_salt = Bytes(self.os.random());
        let stretched = self.stretch(new, &new_salt)?;
        let command = Command::ChangePin {
            wrap: Bytes(*present.expose_bytes()),
            new_salt,
            new_prs: Bytes(*stretched.prs().expose_bytes()),
            new_wrap: Bytes(*stretched.wrap().expose_bytes()),
        };
        self.done(&command)
    }

    /// Locks the token: whatever it had in memory is gone there, and the channel here.
    ///
    /// # Errors
    /// Those of the link; the channel is gone all the same.
    pub fn lock(&mut self) -> Result<()> {
        let locked = self.done(&Command::Lock);
        self.channel = None;
        locked
    }

    /// Erases everything without a PIN. Needs a touch.
    ///
    /// # Errors
    /// `NoTouch`; those of the link.
    pub fn reset(&mut self) -> Result<()> {
        self.channel = None;
        self.transmit(&ToToken::Reset)?;
        match self.answer()? {
            FromToken::Done => Ok(()),
            FromToken::Refused(error) => Err(error.into()),
            _ => Err(self.not_a_token()),
        }
    }

    /// Runs a command of which the only good answer is "done".
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn done(&mut self, command: &Command<'_>) -> Result<()> {
        self.command(command, |reply| matches!(reply, Reply::Done).then_some(()))
    }

    /// Runs a command and lets `take` make an owned value of the reply; `None` means that it is not the expected one.
    ///
    /// # Errors
    /// What the token refuses as [`Error::Token`] or its more telling form; those of the link.
    pub fn command<T>(
        &mut self,
        command: &Command<'_>,
        take: impl FnOnce(Reply<'_>) -> Option<T>,
    ) -> Result<T> {
        let result = self.command_raw(command);
        self.request.as_mut_slice().zeroize();
        self.request.clear();
        result?;
        let taken = match codec::decode::<Reply<'_>>(&self.plain) {
            Ok(Reply::Failed(error)) => Err(error.into()),
            Ok(reply) => take(reply).ok_or_else(|| self.not_a_token()),
            Err(_) => Err(self.not_a_token()),
        };
        self.plain.as_mut_slice().zeroize();
        self.plain.clear();
        taken
    }

    fn command_raw(&mut self, command: &Command<'_>) -> Result<()> {
        let channel = self
            .channel
            .as_mut()
            .ok_or(Error::Link(LinkError::Locked))?;
        let too_long = |_| Error::Token(TokenError::TooLong);
        codec::encode_into(command, &mut self.plain).map_err(too_long)?;
        let mut body = heapless::Vec::<u8, MAX_LINK>::new();
        let counter = channel.seal(&self.plain, &mut body).map_err(too_long)?;
        self.plain.as_mut_slice().zeroize();
        self.plain.clear();
        codec::encode_into(
            &ToToken::Sealed {
                counter,
                body: &body,
            },
            &mut self.request,
        )
        .map_err(too_long)?;
        self.send()?;
        match codec::decode::<FromToken<'_>>(&self.reply) {
            Ok(FromToken::Sealed { counter, body }) => {
                let channel = self
                    .channel
                    .as_mut()
                    .ok_or(Error::Link(LinkError::Locked))?;
                let opened = channel.open(counter, body, &mut self.plain);
                opened.map_err(|_| Error::TokenAnswer {
                    path: self.link.describe().into(),
                    also: self.link.also_open(),
                })
            }
            Ok(FromToken::Refused(error)) => {
                if error == LinkError::Locked {
                    self.channel = None;
                }
                Err(error.into())
            }
            Ok(_) | Err(_) => Err(self.not_a_token()),
        }
    }

    /// Steps 1 to 4 of the unlock; `secret` is what message 3 seals.
    fn open_channel(
        &mut self,
        kind: UnlockKind,
        hello: &Hello,
        prs: &[u8],
        secret: &[u8],
    ) -> Result<()> {
        self.channel = None;
        let (unlock, start) =
            HostUnlock::start(kind, &hello.token_id, &hello.salt, prs, &mut self.os.rng())
                .map_err(|_| Error::Internal("unlock"))?;
        self.transmit(&start)?;
        let answer = self.answer()?;
        if let FromToken::Refused(error) = answer {
            return Err(match error {
                LinkError::TriesOfPowerCycleSpent => {
                    Error::TriesOfPowerCycleSpent { tries: hello.tries }
                }
                LinkError::Version => Error::TokenVersion { theirs: 0 },
                other => other.into(),
            });
        }
        let (mut channel, tag) = match unlock.finish(&answer) {
            Ok(opened) => opened,
            // The try is charged already; the token's tag says that it does not know our PIN.
            Err(CoreError::Authentication) => return Err(wrong_pin(hello)),
            Err(_) => return Err(self.not_a_token()),
        };
        let mut body = heapless::Vec::<u8, 128>::new();
        channel
            .seal(secret, &mut body)
            .map_err(|_| Error::Internal("unlock"))?;
        self.transmit(&ToToken::UnlockFinish { tag, body: &body })?;
        let opened = match self.answer()? {
            FromToken::Sealed { counter, body } => {
                let mut plain = heapless::Vec::<u8, 64>::new();
                channel.open(counter, body, &mut plain).is_ok()
                    && codec::decode(&plain) == Ok(Reply::Done)
            }
            FromToken::Refused(error) => return Err(error.into()),
            _ => false,
        };
        if !opened {
            return Err(self.not_a_token());
        }
        self.channel = Some(channel);
        Ok(())
    }

    fn stretch(&mut self, pin: &Pin, salt: &Bytes<16>) -> Result<Stretched> {
        let memory = self.memory.take();
        let stretch = || {
            let memory = memory.unwrap_or_else(StretchMemory::fetch);
            memory.stretch(pin.bytes(), &salt.0)
        };
        #[cfg(feature = "simulation")]
        return super::memory::remembered(pin.bytes(), &salt.0, stretch);
        #[cfg(not(feature = "simulation"))]
        stretch()
    }

    fn transmit(&mut self, message: &ToToken<'_>) -> Result<()> {
        codec::encode_into(message, &mut self.request)
            .map_err(|_| Error::Internal("request too long"))?;
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        let (cancel, on_notice) = (&self.cancel, &mut self.on_notice);
        let mut told = false;
        let sent = self
            .link
            .exchange(&self.request, &mut self.reply, &mut |activity| {
                if activity == Some(Activity::TouchNeeded) && !std::mem::replace(&mut told, true) {
                    on_notice(Notice::TouchNeeded);
                }
                cancel.load(Ordering::Relaxed)
            });
        if told {
            (self.on_notice)(Notice::TouchOver);
        }
        sent
    }

    /// What becomes readable when the token goes away.
    pub(super) fn port(&self) -> Option<BorrowedFd<'_>> {
        self.link.port()
    }

    /// Passes over what came while nothing was asked.
    ///
    /// # Errors
    /// `TokenUnplugged`.
    pub(super) fn idle(&mut self) -> Result<()> {
        self.link.idle()
    }

    fn answer(&self) -> Result<FromToken<'_>> {
        codec::decode(&self.reply).map_err(|_| self.not_a_token())
    }

    fn not_a_token(&self) -> Error {
        Error::NotAToken {
            path: self.link.describe().into(),
            also: self.link.also_open(),
        }
    }
}

fn wrong_pin(hello: &Hello) -> Error {
    let after = |n: u8| (n != u8::MAX).then(|| n.saturating_sub(1));
    match (after(hello.tries), after(hello.tries_now)) {
        (Some(0), _) => Error::TriesSpent,
        (tries, tries_now) => Error::WrongPin { tries, tries_now },
    }
}
