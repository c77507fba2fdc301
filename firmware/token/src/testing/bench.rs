//! A token on the bench: the host's half of its language, and its power switch.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hostchat_core::icd::link::{FromToken, Hello, MAX_LINK, ToToken};
use hostchat_core::icd::{Channel, Command, HostUnlock, LinkError, Reply, TokenError, UnlockKind};
use hostchat_core::wire::codec;

use super::env::{TestEnv, TestRng};
use super::flash::RamFlash;
use super::now;
use super::shared::SharedFlash;
use crate::app::App;

/// What Argon2id would make of a PIN: CPace password and wrapping key. Tests of the token skip the stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestPin {
    /// CPace password.
    pub prs: [u8; 32],
    /// Wrapping key.
    pub wrap: [u8; 32],
}

impl TestPin {
    /// A PIN by number.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self {
            prs: [number; 32],
            wrap: [number ^ 0x5A; 32],
        }
    }
}

/// A token, its flash, its surroundings, and the host's end of its channel.
pub struct Bench {
    /// The flash; it keeps what it has when the power goes.
    pub flash: SharedFlash,
    /// The surroundings.
    pub env: TestEnv,
    app: Option<Box<App<TestEnv>>>,
    channel: Option<Channel>,
    host_rng: TestRng,
    answer: heapless::Vec<u8, MAX_LINK>,
    first_cut: Option<RamFlash>,
}

/// Why a token on the bench gave no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It does not start: its flash failed.
    Dead,
    /// It refused outside the channel.
    Refused(LinkError),
    /// It answered something else than was asked, or not authentically.
    Nonsense,
}

impl Bench {
    /// Puts a token on the bench and turns it on.
    #[must_use]
    pub fn new(flash: RamFlash, env: TestEnv) -> Self {
        let mut bench = Self::off(flash, env);
        bench.power_on();
        bench
    }

    /// Puts a token on the bench, with the power off.
    #[must_use]
    pub fn off(flash: RamFlash, env: TestEnv) -> Self {
        Self {
            flash: SharedFlash::new(flash),
            env,
            app: None,
            channel: None,
            host_rng: TestRng::default(),
            answer: heapless::Vec::new(),
            first_cut: None,
        }
    }

    /// Notes what is on the flash now that the power was cut, for a test that cuts it a second time.
    pub fn note_first_cut(&mut self) {
        self.first_cut = Some(self.flash.snapshot());
    }

    /// What was on the flash at the last [`Bench::note_first_cut`], else what is there now.
    pub fn take_first_cut(&mut self) -> RamFlash {
        self.first_cut
            .take()
            .unwrap_or_else(|| self.flash.snapshot())
    }

    /// A blank token with a flash of 40 pages.
    #[must_use]
    pub fn blank(seed: u64) -> Self {
        Self::new(RamFlash::new(40), TestEnv::new(seed))
    }

    /// A copy of this token as it lies there, with the power cycled.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.flash.snapshot(), self.env.fork())
    }

    /// The application itself.
    #[cfg(any(test, feature = "units"))]
    pub(crate) fn app(&mut self) -> Option<&mut App<TestEnv>> {
        self.app.as_deref_mut()
    }

    /// Turns the power off and on again; tells whether the token starts.
    pub fn power_cycle(&mut self) -> bool {
        self.power_off();
        self.flash.lock().restart();
        {
            let mut control = self.env.control();
            control.now.epoch += 1;
            control.now.ms = 0;
        }
        self.power_on()
    }

    /// Turns the power off.
    pub fn power_off(&mut self) {
        self.app = None;
        self.channel = None;
    }

    /// Starts the token; tells whether it does.
    pub fn power_on(&mut self) -> bool {
        self.app = now(App::new(self.env.clone(), self.flash.clone()))
            .ok()
            .map(Box::new);
        self.app.is_some()
    }

    /// The host went away and came again.
    pub fn lock(&mut self) {
        self.channel = None;
        if let Some(app) = &mut self.app {
            app.lock();
        }
    }

    /// What a transport does now and then.
    pub fn look_at_the_clock(&mut self) {
        if let Some(app) = &mut self.app {
            app.lock_if_idle();
        }
    }

    /// Tells whether the token is unlocked.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.app.as_ref().is_some_and(|app| app.is_unlocked())
    }

    /// Sends raw bytes and gives the raw reply; empty for a token that does not start.
    pub fn send_raw(&mut self, request: &[u8]) -> Vec<u8> {
        let mut reply = heapless::Vec::new();
        if let Some(app) = &mut self.app {
            now(app.handle(request, &mut reply));
        }
        reply.to_vec()
    }

    /// Sends a message outside the channel.
    pub fn send(&mut self, message: &ToToken<'_>) -> Vec<u8> {
        let request = codec::encode_vec::<_, MAX_LINK>(message).unwrap_or_default();
        self.send_raw(&request)
    }

    /// Asks who it is.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub fn hello(&mut self) -> Result<Hello, Silence> {
        let reply = self.send(&ToToken::Hello);
        match codec::decode::<FromToken<'_>>(&reply) {
            Ok(FromToken::Hello(hello)) => Ok(hello),
            _ => Err(if reply.is_empty() {
                Silence::Dead
            } else {
                Silence::Nonsense
            }),
        }
    }

    /// Erases everything, with a press.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub fn reset(&mut self) -> Result<(), Silence> {
        let reply = self.send(&ToToken::Reset);
        match codec::decode::<FromToken<'_>>(&reply) {
            Ok(FromToken::Done) => Ok(()),
            Ok(FromToken::Refused(error)) => Err(Silence::Refused(error)),
            _ => Err(Silence::Nonsense),
        }
    }

    /// Sets the first PIN.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub fn init(&mut self, pin: TestPin) -> Result<(), Silence> {
        self.open_channel(UnlockKind::Init, pin)
    }

    /// Unlocks with a PIN.
    ///
    /// # Errors
    ///
    /// [`Silence`]; a wrong PIN shows to the host already at message 2, and to the token at message 3.
    pub fn unlock(&mut self, pin: TestPin) -> Result<(), Silence> {
        self.open_channel(UnlockKind::Unlock, pin)
    }

    /// Message 1 and 2 of an unlock; gives the host's state between them.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub fn begin_unlock(
        &mut self,
        kind: UnlockKind,
        pin: TestPin,
    ) -> Result<(HostUnlock, Vec<u8>), Silence> {
        let hello = self.hello()?;
        let prs: &[u8] = if kind == UnlockKind::Init {
            &[]
        } else {
            &pin.prs
        };
        let started =
            HostUnlock::start(kind, &hello.token_id, &hello.salt, prs, &mut self.host_rng);
        let (unlock, message) = started.map_err(|_| Silence::Nonsense)?;
        let reply = self.send(&message);
        match codec::decode::<FromToken<'_>>(&reply) {
            Ok(FromToken::Refused(error)) => Err(Silence::Refused(error)),
            Ok(_) => Ok((unlock, reply)),
            Err(_) => Err(Silence::Dead),
        }
    }

    fn open_channel(&mut self, kind: UnlockKind, pin: TestPin) -> Result<(), Silence> {
        let (unlock, reply) = self.begin_unlock(kind, pin)?;
        let answer = codec::decode::<FromToken<'_>>(&reply).map_err(|_| Silence::Nonsense)?;
        let Ok((mut channel, tag)) = unlock.finish(&answer) else {
            // The host knows; an attacker would go on all the same.
            let reply = self.send(&ToToken::UnlockFinish {
                tag: [0; 32].into(),
                body: &[0; 48],
            });
            return match codec::decode::<FromToken<'_>>(&reply) {
                Ok(FromToken::Refused(error)) => Err(Silence::Refused(error)),
                Ok(_) => Err(Silence::Nonsense),
                Err(_) => Err(Silence::Dead),
            };
        };
        let secret = [&pin.prs[..], &pin.wrap].concat();
        let secret = if kind == UnlockKind::Init {
            &secret[..]
        } else {
            &pin.wrap
        };
        let mut body = heapless::Vec::<u8, 128>::new();
        let _ = channel.seal(secret, &mut body);
        let reply = self.send(&ToToken::UnlockFinish { tag, body: &body });
        match codec::decode::<FromToken<'_>>(&reply) {
            Ok(FromToken::Sealed { counter: 0, body }) => {
                let mut plain = heapless::Vec::<u8, 64>::new();
                channel
                    .open(0, body, &mut plain)
                    .map_err(|_| Silence::Nonsense)?;
                self.channel = Some(channel);
                Ok(())
            }
            Ok(FromToken::Refused(error)) => Err(Silence::Refused(error)),
            Ok(_) => Err(Silence::Nonsense),
            Err(_) => Err(Silence::Dead),
        }
    }

    /// Encodes and seals a command for the channel, without sending it.
    pub fn seal_command(&mut self, command: &Command<'_>) -> Vec<u8> {
        let plain = codec::encode_vec::<_, MAX_LINK>(command).unwrap_or_default();
        self.seal_bytes(&plain)
    }

    /// Seals bytes for the channel that need not be a command.
    pub fn seal_bytes(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut body = heapless::Vec::<u8, MAX_LINK>::new();
        let counter = self
            .channel
            .as_mut()
            .and_then(|channel| channel.seal(plain, &mut body).ok());
        let sealed = ToToken::Sealed {
            counter: counter.unwrap_or(0),
            body: &body,
        };
        codec::encode_vec::<_, MAX_LINK>(&sealed)
            .unwrap_or_default()
            .to_vec()
    }

    /// Opens a reply of the channel.
    ///
    /// # Errors
    ///
    /// [`Silence`].
    pub fn open_reply(&mut self, reply: &[u8]) -> Result<Reply<'_>, Silence> {
        match codec::decode::<FromToken<'_>>(reply) {
            Ok(FromToken::Sealed { counter, body }) => {
                let channel = self.channel.as_mut().ok_or(Silence::Nonsense)?;
                channel
                    .open(counter, body, &mut self.answer)
                    .map_err(|_| Silence::Nonsense)?;
                codec::decode(&self.answer).map_err(|_| Silence::Nonsense)
            }
            Ok(FromToken::Refused(error)) => Err(Silence::Refused(error)),
            Ok(_) => Err(Silence::Nonsense),
            Err(_) => Err(Silence::Dead),
        }
    }

    /// Carries out a command of the unlocked token.
    ///
    /// # Errors
    ///
    /// [`Silence`]; a failed command is a reply.
    pub fn call(&mut self, command: &Command<'_>) -> Result<Reply<'_>, Silence> {
        let request = self.seal_command(command);
        let reply = self.send_raw(&request);
        self.open_reply(&reply)
    }

    /// As [`Bench::call`], for commands that answer `Done`.
    ///
    /// # Errors
    ///
    /// What the token said.
    pub fn done(&mut self, command: &Command<'_>) -> Result<(), Refusal> {
        match self.call(command) {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Failed(error)) => Err(Refusal::Failed(error)),
            Ok(_) => Err(Refusal::Silence(Silence::Nonsense)),
            Err(silence) => Err(Refusal::Silence(silence)),
        }
    }
}

/// Why a command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token said so in the channel.
    Failed(TokenError),
    /// There was no reply in the channel.
    Silence(Silence),
}
