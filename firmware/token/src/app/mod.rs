//! The application: one request in, one reply out.
//!
//! ```text
//!  ToToken ──▶ link: Hello, unlock (PIN), reset ──▶ FromToken
//!               └ Sealed ──channel──▶ Command ──▶ commands.rs ──▶ messages, pairing, prekeys, sessions
//!                                                                        └──▶ store: PERSIST
//! ```
//!
//! Invariant: what a reply shows is durable before the reply leaves, and a request that is refused changes nothing but
//! what it is charged for.

mod commands;
mod error;
mod fields;
mod keystore;
mod marks;
mod messages;
mod pairing;
mod prekeys;
mod sessions;
#[cfg(test)]
mod tests;
mod unlock;

use heapless::Vec;
use hostchat_core::crypto::hash::sha256;
use hostchat_core::icd::link::{FromToken, Lifecycle, MAX_LINK, ToToken};
use hostchat_core::icd::{Channel, LinkError};
use hostchat_core::ratchet::{Plaintext, Session};
use hostchat_core::wire::{EnvelopeBytes, codec};
use zeroize::Zeroize as _;

use crate::env::{Env, Touch, TouchReason};
use crate::records::RecordId;
use crate::store::{MAX_STORED, Store, StoreError};
use commands::Flow;
use keystore::{Keyring, PublicPin};

pub use error::StartError;

/// The token application on one flash.
pub struct App<E: Env> {
    env: E,
    store: Store<E::Flash>,
    pin: PublicPin,
    /// Tries left before the next power cycle.
    tries_now: u8,
    /// An unlock or initialisation between its two requests.
    run: Option<unlock::Run>,
    channel: Option<Channel>,
    keyring: Option<Keyring>,
    room: Room,
    last: LastReply,
    last_request_ms: u64,
}

/// Buffers that commands work in, too large for a stack.
struct Room {
    /// The session that a command works on.
    current: Session,
    /// The next state of the session whose open is not committed.
    next: Session,
    /// A record on its way to or from the store.
    record: [u8; MAX_STORED],
    plain: Plaintext,
    envelope: EnvelopeBytes,
}

/// The last executed request and its reply: a byte-identical repeat gets the same reply and is not executed again.
struct LastReply {
    request: Option<[u8; 32]>,
    reply: Vec<u8, MAX_LINK>,
}

/// What the commands of an unlocked token work with.
struct Work<'a, E: Env> {
    env: &'a mut E,
    store: &'a mut Store<E::Flash>,
    keyring: &'a mut Keyring,
    room: &'a mut Room,
    /// A press was given for this request.
    pressed: bool,
}

impl<E: Env> App<E> {
    /// Takes a flash into use; finishes what a power cut left half-done.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the flash fails or has sizes that do not work. A damaged flash is no error: the token says
    /// so ([`Lifecycle::Damaged`]) and can be reset.
    pub async fn new(mut env: E, flash: E::Flash) -> Result<Self, StartError> {
        let mut store = Store::mount(flash).await?;
        if store.has(RecordId::PIN) && keystore::tries(&mut store).await == Ok(0) {
            store.wipe().await?;
        }
        let pin = PublicPin::load(&mut store, &mut env).await?;
        let last_request_ms = env.now().ms;
        Ok(Self {
            env,
            store,
            pin,
            tries_now: hostchat_core::icd::MAX_TRIES_PER_POWER_CYCLE,
            run: None,
            channel: None,
            keyring: None,
            room: Room {
                current: Session::empty(),
                next: Session::empty(),
                record: [0; MAX_STORED],
                plain: Plaintext::new(),
                envelope: EnvelopeBytes::new(),
            },
            last: LastReply {
                request: None,
                reply: Vec::new(),
            },
            last_request_ms,
        })
    }

    /// Answers one request, an encoded [`ToToken`], with an encoded [`FromToken`].
    ///
    /// It never fails: errors are replies. The reply stays empty for [`ToToken::Cancel`], which the transport
    /// handles, since it concerns the request under way.
    pub async fn handle(&mut self, request: &[u8], reply: &mut Vec<u8, MAX_LINK>) {
        reply.clear();
        self.lock_if_idle();
        self.last_request_ms = self.env.now().ms;
        let Ok(message) = codec::decode::<ToToken<'_>>(request) else {
            return refuse(LinkError::BadRequest, reply);
        };
        match message {
            ToToken::Cancel => return,
            ToToken::Hello => {
                let hello = FromToken::Hello(self.hello().await);
                return put(&hello, reply);
            }
            ToToken::Reset => {
                let answer = self
                    .reset()
                    .await
                    .map_or_else(FromToken::Refused, |()| FromToken::Done);
                return put(&answer, reply);
            }
            ToToken::UnlockStart { .. } | ToToken::UnlockFinish { .. } | ToToken::Sealed { .. } => {
            }
        }
        let hash = sha256(&[request]);
        if self.last.request == Some(hash) {
            // The reply was cut to fit when it was kept; its copy fits as well.
            let _ = reply.extend_from_slice(&self.last.reply);
            return;
        }
        let executed = match message {
            ToToken::UnlockStart {
                init,
                sid,
                share,
                version,
            } => self.unlock_start(init, sid, share, version, reply).await,
            ToToken::UnlockFinish { tag, body } => self.unlock_finish(&tag, body, reply).await,
            ToToken::Sealed { counter, body } => self.sealed(counter, body, reply).await,
            ToToken::Hello | ToToken::Cancel | ToToken::Reset => Executed::No,
        };
        if executed == Executed::Yes {
            self.last.request = Some(hash);
            self.last.reply.clone_from(reply);
        }
    }

    /// Forgets all keys in RAM, the code of a pairing and the channel: at a DTR drop, reset, suspend.
    pub fn lock(&mut self) {
        self.run = None;
        self.channel = None;
        self.keyring = None;
        self.room.wipe();
        self.last.request = None;
        self.last.reply.clear();
    }

    /// Locks the token if no request came for longer than [`Env::idle_lock_ms`]; for a transport to call now and then, so
    /// that the keys do not wait for the next request.
    pub fn lock_if_idle(&mut self) {
        let idle = self.env.now().ms.saturating_sub(self.last_request_ms);
        if self.env.idle_lock_ms().is_some_and(|limit| idle > limit) {
            self.lock();
        }
    }

    /// Tells whether the token is unlocked.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.channel.is_some()
    }

    /// The surroundings.
    pub fn env(&mut self) -> &mut E {
        &mut self.env
    }

    /// The flash, to ask it what went wrong.
    pub fn flash(&mut self) -> Option<&mut E::Flash> {
        self.store.flash()
    }

    fn lifecycle(&self) -> Lifecycle {
        if self.store.is_damaged() || self.pin.is_lost() {
            Lifecycle::Damaged
        } else if self.store.has(RecordId::PIN) {
            Lifecycle::Ready
        } else {
            Lifecycle::Blank
        }
    }

    /// A command inside the channel.
    async fn sealed(
        &mut self,
        counter: u64,
        body: &[u8],
        reply: &mut Vec<u8, MAX_LINK>,
    ) -> Executed {
        let (Some(channel), Some(keyring)) = (self.channel.as_mut(), self.keyring.as_mut()) else {
            refuse(LinkError::Locked, reply);
            return Executed::No;
        };
        let mut request = Vec::<u8, MAX_LINK>::new();
        if channel.open(counter, body, &mut request).is_err() {
            refuse(LinkError::BadRequest, reply);
            return Executed::No;
        }
        let mut answer = Vec::<u8, MAX_LINK>::new();
        let mut work = Work {
            env: &mut self.env,
            store: &mut self.store,
            keyring,
            room: &mut self.room,
            pressed: false,
        };
        let flow = work.command(&request, &mut answer).await;
        request.zeroize();
        self.reply_sealed(&answer, reply);
        answer.zeroize();
        match flow {
            Flow::Stay => {}
            Flow::Lock => self.lock(),
            Flow::Wiped => {
                self.lock();
                // A token that cannot draw a new id stays without one until it can.
                let _ = self.reload_pin().await;
            }
            Flow::PinChanged => {
                let _ = self.reload_pin().await;
            }
        }
        Executed::Yes
    }

    /// Seals an encoded reply into the channel.
    fn reply_sealed(&mut self, answer: &[u8], reply: &mut Vec<u8, MAX_LINK>) {
        let mut body = Vec::<u8, MAX_LINK>::new();
        match self
            .channel
            .as_mut()
            .map(|channel| channel.seal(answer, &mut body))
        {
            Some(Ok(counter)) => put(
                &FromToken::Sealed {
                    counter,
                    body: &body,
                },
                reply,
            ),
            _ => refuse(LinkError::Locked, reply),
        }
    }

    async fn reload_pin(&mut self) -> Result<(), StoreError> {
        self.pin = PublicPin::load(&mut self.store, &mut self.env).await?;
        Ok(())
    }
}

/// Whether a request was executed, so that a repeat must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Executed {
    Yes,
    No,
}

impl Room {
    fn wipe(&mut self) {
        self.current.clear();
        self.next.clear();
        self.record.zeroize();
        self.plain.fill(0);
        self.plain.clear();
        self.envelope.clear();
    }
}

/// Asks for a press; a request needs one at most.
async fn touch<E: Env>(env: &mut E, reason: TouchReason) -> Result<(), LinkError> {
    match env.touch(reason).await {
        Touch::Pressed => Ok(()),
        Touch::Cancelled => Err(LinkError::Cancelled),
        Touch::TimedOut => Err(LinkError::NoTouch),
    }
}

fn refuse(error: LinkError, reply: &mut Vec<u8, MAX_LINK>) {
    put(&FromToken::Refused(error), reply);
}

fn put(message: &FromToken<'_>, reply: &mut Vec<u8, MAX_LINK>) {
    // Every reply fits MAX_LINK: the longest is an opened first message with the longest content.
    if codec::encode_into(message, reply).is_err() {
        let _ = codec::encode_into(&FromToken::Refused(LinkError::BadRequest), reply);
    }
}
