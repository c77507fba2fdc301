//! The application: one request in, one reply out.
//!
//! ```text
//!  ToToken ──▶ link: Hello, unlock (PIN), reset ──▶ FromToken
//!               └ Sealed ──channel──▶ Command ──▶ commands.rs ──▶ messages, pairing, prekeys, sessions, generation
//!                                                                        ├──▶ cards: the rules between sessions
//!                                                                        └──▶ store: PERSIST
//! ```
//!
//! ML-KEM leaves little room on a board's stack. So futures are pinned where they are made (`pin!`): a moved one lies on
//! the stack twice. Each command is polled in a frame of its own (`apart`), and what computes without awaiting is
//! never inlined.
//!
//! Invariant: what a reply shows is durable before the reply leaves, and a request that is refused changes nothing but
//! what it is charged for.

mod answers;
mod cards;
mod commands;
mod error;
mod fields;
mod generation;
mod keystore;
mod log;
mod marks;
mod messages;
mod pairing;
mod prekeys;
mod session_record;
mod sessions;
#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests;
mod unlock;

use core::borrow::BorrowMut;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

use heapless::{Vec, VecView};
use hostchat_core::crypto::hash::sha256;
use hostchat_core::crypto::siv::TAG_LEN;
use hostchat_core::error::{Error, Misuse};
use hostchat_core::icd::link::{FromToken, Lifecycle, MAX_LINK, ToToken};
use hostchat_core::icd::{Channel, LinkError};
use hostchat_core::ratchet::Session;
use hostchat_core::wire::codec;
use zeroize::Zeroize as _;

use crate::env::{Env, Touch, TouchReason};
use crate::records::RecordId;
use crate::store::{MAX_STORED, Store, StoreError};
use answers::Answers;
use cards::Cards;
use commands::Flow;
use keystore::{Keyring, PublicPin};
use log::Requests;
use marks::Marks;

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
pub use cards::tests as cards_tests;
pub use error::StartError;

/// The token application on one flash.
///
/// Its large buffers are part of it, or lent to it: a board puts its [`Memory`] into a static place, which the stack
/// would be too small to move it to.
pub struct App<E: Env, M = Memory> {
    env: E,
    store: Store<E::Flash>,
    pin: PublicPin,
    /// Tries left before the next power cycle.
    tries_now: u8,
    /// An unlock or initialisation between its two requests.
    run: Option<unlock::Run>,
    channel: Option<Channel>,
    keyring: Option<Keyring>,
    memory: M,
    log: Requests,
    last_request_ms: u64,
}

/// The large buffers of an [`App`]. Empty it is all zeros, so that a static one takes no space in an image.
pub struct Memory {
    room: Room,
    replies: Replies,
}

/// Buffers and tables that commands work in, too large for a stack.
struct Room {
    /// The session that a command works on.
    current: Session,
    /// The next state of the session whose open is not committed.
    next: Session,
    /// A record on its way to or from the store.
    record: [u8; MAX_STORED],
    cards: Cards,
    marks: Marks,
    /// The pairing record, while a command works on it.
    answers: Answers,
}

/// The reply to the last executed request, which a byte-identical repeat gets again without being executed again.
struct Replies {
    /// Hash of the last executed request.
    request: Option<[u8; 32]>,
    /// Its reply; a command's answer is put together and sealed here.
    last: Vec<u8, MAX_LINK>,
    /// A reply to a request that was not executed, which leaves the last one as it is.
    short: Vec<u8, SHORT>,
}

/// Longest reply outside the channel: a [`FromToken::Hello`].
const SHORT: usize = 96;

/// What the commands of an unlocked token work with.
struct Work<'a, E: Env> {
    env: &'a mut E,
    store: &'a mut Store<E::Flash>,
    keyring: &'a mut Keyring,
    room: &'a mut Room,
    log: &'a mut Requests,
    /// A press was given for this request.
    pressed: bool,
}

impl Memory {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            room: Room {
                current: Session::empty(),
                next: Session::empty(),
                record: [0; MAX_STORED],
                cards: Cards::new(),
                marks: Marks::new(),
                answers: Answers::new(),
            },
            replies: Replies {
                request: None,
                last: Vec::new(),
                short: Vec::new(),
            },
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Env> App<E> {
    /// As [`App::with_memory`], with buffers of its own.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn new(env: E, flash: E::Flash) -> Result<Self, StartError> {
        Self::with_memory(env, flash, Memory::new()).await
    }
}

impl<E: Env, M: BorrowMut<Memory>> App<E, M> {
    /// Takes a flash into use; finishes what a power cut left half-done.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the flash fails or has sizes that do not work. A damaged flash is no error: the token says
    /// so ([`Lifecycle::Damaged`]) and can be reset.
    pub async fn with_memory(mut env: E, flash: E::Flash, memory: M) -> Result<Self, StartError> {
        let mut store = pin!(Store::mount(flash)).await?;
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
            memory,
            log: Requests::new(),
            last_request_ms,
        })
    }

    /// Answers one request, an encoded [`ToToken`], with an encoded [`FromToken`].
    ///
    /// It never fails: errors are replies. The reply stays empty for [`ToToken::Cancel`], which the transport
    /// handles, since it concerns the request under way.
    pub async fn handle(&mut self, request: &[u8], reply: &mut Vec<u8, MAX_LINK>) {
        reply.clear();
        match Vec::<u8, MAX_LINK>::from_slice(request) {
            Ok(mut request) => {
                let answer = self.answer(&mut request).await;
                // It fits: it lies in a buffer that is no larger.
                let _ = reply.extend_from_slice(answer);
            }
            Err(_) => put(&FromToken::Refused(LinkError::BadRequest), reply),
        }
    }

    /// As [`App::handle`], without copies: the request is decrypted where it stands, and wiped, and the reply stays where
    /// it was made, until the next request.
    pub async fn answer<'a>(&'a mut self, request: &mut [u8]) -> &'a [u8] {
        self.lock_if_idle();
        self.last_request_ms = self.env.now().ms;
        let hash = sha256(&[request]);
        let Ok(message) = codec::decode::<ToToken<'_>>(request) else {
            return self.show(&FromToken::Refused(LinkError::BadRequest));
        };
        let executed = match message {
            ToToken::Cancel => return &[],
            ToToken::Hello => {
                let hello = apart(pin!(self.hello())).await;
                return self.show(&FromToken::Hello(hello));
            }
            ToToken::Reset => {
                let reset = apart(pin!(self.reset())).await;
                return self.show(&reset.map_or_else(FromToken::Refused, |()| FromToken::Done));
            }
            ToToken::UnlockStart { .. } | ToToken::UnlockFinish { .. } | ToToken::Sealed { .. }
                if self.memory.borrow().replies.request == Some(hash) =>
            {
                return &self.memory.borrow().replies.last;
            }
            ToToken::UnlockStart {
                init,
                sid,
                share,
                version,
            } => apart(pin!(self.unlock_start(init, sid, share, version))).await,
            ToToken::UnlockFinish { tag, body } => {
                apart(pin!(self.unlock_finish(&tag, body))).await
            }
            ToToken::Sealed { counter, body } => {
                let front = request.len() - body.len();
                let body = request.get_mut(front..).unwrap_or_default();
                apart(pin!(self.sealed(counter, body))).await
            }
        };
        match executed {
            Ok(()) => {
                let replies = &mut self.memory.borrow_mut().replies;
                replies.request = Some(hash);
                &replies.last
            }
            Err(error) => self.show(&FromToken::Refused(error)),
        }
    }

    /// Shows a reply that is not the one to an executed request.
    fn show(&mut self, reply: &FromToken<'_>) -> &[u8] {
        let short = &mut self.memory.borrow_mut().replies.short;
        put(reply, short);
        short
    }

    /// Makes the reply to an executed request.
    fn reply(&mut self, reply: &FromToken<'_>) {
        put(reply, self.memory.borrow_mut().replies.begin());
    }

    /// Forgets all keys in RAM, the code of a pairing and the channel: at a DTR drop, reset, suspend.
    pub fn lock(&mut self) {
        self.forget_keys();
        self.memory.borrow_mut().replies.begin();
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

    /// All of a lock but the last reply: a repeat of the request that locked gets it again.
    fn forget_keys(&mut self) {
        self.give_up_run();
        self.channel = None;
        self.keyring = None;
        self.memory.borrow_mut().room.wipe();
    }

    /// A command inside the channel. An error says that it was not executed.
    async fn sealed(&mut self, counter: u64, body: &mut [u8]) -> Result<(), LinkError> {
        let (Some(channel), Some(keyring)) = (self.channel.as_mut(), self.keyring.as_mut()) else {
            return Err(LinkError::Locked);
        };
        let Ok(request) = channel.open_in_place(counter, body) else {
            return Err(LinkError::BadRequest);
        };
        let Memory { room, replies } = self.memory.borrow_mut();
        let mut work = Work {
            env: &mut self.env,
            store: &mut self.store,
            keyring,
            room,
            log: &mut self.log,
            pressed: false,
        };
        let flow = pin!(work.command(request, replies.begin())).await;
        request.zeroize();
        self.seal_reply();
        match flow {
            Flow::Stay => {}
            Flow::Lock => self.forget_keys(),
            Flow::Wiped => {
                self.forget_keys();
                // A token that cannot draw a new id stays without one until it can.
                let _ = self.reload_pin().await;
            }
            Flow::PinChanged => {
                let _ = self.reload_pin().await;
            }
        }
        Ok(())
    }

    /// Seals the last reply, where it stands, into the channel.
    fn seal_reply(&mut self) {
        let reply = &mut self.memory.borrow_mut().replies.last;
        let channel = self.channel.as_mut();
        if channel.is_none_or(|channel| seal(channel, reply).is_err()) {
            reply.fill(0);
            put(&FromToken::Refused(LinkError::Locked), reply);
        }
    }

    async fn reload_pin(&mut self) -> Result<(), StoreError> {
        self.pin = PublicPin::load(&mut self.store, &mut self.env).await?;
        Ok(())
    }
}

impl Room {
    fn wipe(&mut self) {
        self.current.clear();
        self.next.clear();
        self.record.zeroize();
        self.cards.clear();
        self.marks.clear();
        self.answers.clear();
    }
}

impl Replies {
    /// Makes room for the reply to a request that is executed: there is no repeat of the one before it any more.
    fn begin(&mut self) -> &mut VecView<u8> {
        self.request = None;
        self.last.clear();
        &mut self.last
    }
}

/// Awaits `future` in a stack frame of its own, so that what one command needs of the stack does not lie below ML-KEM in
/// another. It is to be pinned where it is made (`pin!`), else it would lie in two frames.
async fn apart<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    poll_fn(|context| poll_apart(future.as_mut(), context)).await
}

#[inline(never)]
fn poll_apart<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(context)
}

/// Asks for a press; a request needs one at most.
async fn touch<E: Env>(env: &mut E, reason: TouchReason) -> Result<(), LinkError> {
    match env.touch(reason).await {
        Touch::Pressed => Ok(()),
        Touch::Cancelled => Err(LinkError::Cancelled),
        Touch::TimedOut => Err(LinkError::NoTouch),
    }
}

fn put(message: &FromToken<'_>, reply: &mut VecView<u8>) {
    // Every reply fits its buffer: the longest is an opened first message with the longest content.
    if codec::encode_into(message, reply).is_err() {
        let _ = codec::encode_into(&FromToken::Refused(LinkError::BadRequest), reply);
    }
}

/// Makes an answer a [`FromToken::Sealed`].
fn seal(channel: &mut Channel, reply: &mut VecView<u8>) -> Result<(), Error> {
    let length = reply.len();
    reply
        .resize(TAG_LEN + length, 0)
        .map_err(|_| Misuse::BufferTooSmall)?;
    reply.copy_within(..length, TAG_LEN);
    let counter = channel.seal_in_place(reply)?;
    codec::encode_around(&FromToken::Sealed { counter, body: &[] }, reply)
}
