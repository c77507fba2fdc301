//! A token application in memory with the host's end of its channel, so that an attack costs microseconds.
//!
//! The PIN stretch is left out: to the token its result is a password like any other. Time stands still until a test
//! moves it.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hostchat_core::icd::{
    Channel, Command, ContactInfo, FromToken, Hello, HostUnlock, MAX_LINK, Offered, OpenedKind,
    Reply, ToToken, TokenError, UnlockKind,
};
use hostchat_core::wire::{
    Address, Bytes, IdentityClaim, MessageId, PairAnswer, PairOffer, Prekey, PrekeyBundle,
    PrekeyKind, codec,
};
use hostchat_token::testing::RamFlash;
use hostchat_token::{App, Env, Touch, TouchReason, Uptime};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// The host's clock in these tests, seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

const PRS: [u8; 32] = [1; 32];
const WRAP: [u8; 32] = [2; 32];
const PAGES: usize = 64;

type Buffer = heapless::Vec<u8, MAX_LINK>;

/// A token whose button is always pressed.
pub struct Surroundings {
    rng: ChaCha20Rng,
    clock: Rc<Cell<Uptime>>,
}

impl Env for Surroundings {
    type Rng = ChaCha20Rng;
    type Flash = RamFlash;

    fn rng(&mut self) -> Option<&mut Self::Rng> {
        Some(&mut self.rng)
    }

    fn now(&self) -> Uptime {
        self.clock.get()
    }

    async fn touch(&mut self, _: TouchReason) -> Touch {
        Touch::Pressed
    }

    fn board(&self) -> &str {
        "test"
    }
}

/// A token and the host that unlocked it.
pub struct Device {
    /// The account that this token is for.
    pub address: Address,
    app: Box<App<Surroundings>>,
    channel: Channel,
    clock: Rc<Cell<Uptime>>,
    rng: ChaCha20Rng,
}

/// An opened message, not committed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// How it came to be.
    pub kind: OpenedKind,
    /// For the commit.
    pub hash: Bytes<32>,
    /// Who wrote it.
    pub peer: Address,
    /// The writer's identity.
    pub identity: IdentityClaim,
    /// Whether a code verified the writer.
    pub verified: bool,
    /// Its id.
    pub message_id: MessageId,
    /// What it says.
    pub content: Vec<u8>,
}

impl Device {
    /// A new token, initialised and unlocked.
    ///
    /// # Panics
    /// If `address` is none, or the token refuses.
    pub fn new(address: &str, seed: u64) -> Self {
        let clock = Rc::new(Cell::new(Uptime {
            epoch: 1,
            ms: 3_600_000,
        }));
        let address = Address::parse(address).expect("an address");
        Self::start(address, RamFlash::new(PAGES), clock, seed, UnlockKind::Init)
    }

    /// Another token, started from a copy of what is on the flash of this one: RAM is lost.
    ///
    /// # Panics
    /// If the copy does not start.
    pub fn restarted(&mut self, seed: u64) -> Self {
        let flash = self.app.flash().expect("a flash").clone();
        let clock = Rc::new(Cell::new(self.clock.get()));
        Self::start(self.address.clone(), flash, clock, seed, UnlockKind::Unlock)
    }

    fn start(
        address: Address,
        flash: RamFlash,
        clock: Rc<Cell<Uptime>>,
        seed: u64,
        kind: UnlockKind,
    ) -> Self {
        let rng = ChaCha20Rng::seed_from_u64(seed);
        let env = Surroundings {
            rng: ChaCha20Rng::seed_from_u64(seed ^ 0xdead),
            clock: Rc::clone(&clock),
        };
        let mut app = Box::new(run(App::new(env, flash)).expect("the token starts"));
        let mut rng = rng;
        let channel = unlock(&mut app, kind, &mut rng);
        Self {
            address,
            app,
            channel,
            clock,
            rng,
        }
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        let Uptime { epoch, ms: before } = self.clock.get();
        self.clock.set(Uptime {
            epoch,
            ms: before + ms,
        });
    }

    /// The power was off: the uptime begins anew.
    pub fn power_cycle(&self) {
        let Uptime { epoch, .. } = self.clock.get();
        self.clock.set(Uptime {
            epoch: epoch + 1,
            ms: 0,
        });
    }

    /// Locks and unlocks: a new channel, and what was in RAM is gone.
    ///
    /// # Panics
    /// If it cannot be unlocked.
    pub fn relock(&mut self) {
        self.app.lock();
        self.channel = unlock(&mut self.app, UnlockKind::Unlock, &mut self.rng);
    }

    /// Everything on the flash, as a thief would read it.
    ///
    /// # Panics
    /// If there is none.
    pub fn dump(&mut self) -> Vec<u8> {
        self.app.flash().expect("a flash").dump().to_vec()
    }

    /// Carries out a command and looks at the reply.
    ///
    /// # Errors
    /// What the token refuses.
    ///
    /// # Panics
    /// If the channel breaks, or `take` finds another reply than the expected one.
    #[track_caller]
    pub fn ask<T>(
        &mut self,
        command: &Command<'_>,
        take: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, TokenError> {
        let plain: Buffer = codec::encode_vec(command).expect("a command fits");
        let mut body = Buffer::new();
        let counter = self.channel.seal(&plain, &mut body).expect("sealed");
        let reply = exchange(
            &mut self.app,
            &ToToken::Sealed {
                counter,
                body: &body,
            },
        );
        let Ok(FromToken::Sealed { counter, body }) = codec::decode(&reply) else {
            panic!("no reply in the channel")
        };
        let mut plain = Buffer::new();
        self.channel
            .open(counter, body, &mut plain)
            .expect("a sealed reply");
        match codec::decode::<Reply<'_>>(&plain).expect("a reply") {
            Reply::Failed(error) => Err(error),
            reply => Ok(take(&reply).unwrap_or_else(|| panic!("another reply: {reply:?}"))),
        }
    }

    /// Carries out a command whose reply says no more than "done".
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn done(&mut self, command: &Command<'_>) -> Result<(), TokenError> {
        self.ask(command, |reply| matches!(reply, Reply::Done).then_some(()))
    }

    /// The identity of this token.
    #[track_caller]
    pub fn identity(&mut self) -> IdentityClaim {
        self.ask(&Command::Identity, |reply| match reply {
            Reply::Identity(claim) => Some(*claim),
            _ => None,
        })
        .unwrap_or_else(|error| panic!("no identity: {error:?}"))
    }

    /// All contacts.
    #[track_caller]
    pub fn contacts(&mut self) -> Vec<ContactInfo> {
        let mut all: Vec<ContactInfo> = Vec::new();
        loop {
            let after = all.last().map(|contact| contact.address.clone());
            let next = self.ask(&Command::NextContact { after }, |reply| match reply {
                Reply::Contact(contact) => Some(contact.clone()),
                _ => None,
            });
            match next.unwrap_or_else(|error| panic!("no contacts: {error:?}")) {
                Some(contact) => all.push(contact),
                None => return all,
            }
        }
    }

    /// Draws a code for `peer`.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn begin(&mut self, peer: &Address) -> Result<String, TokenError> {
        let (own, peer) = (self.address.clone(), peer.clone());
        let command = Command::PairBegin {
            own,
            peer,
            accept_changed: false,
        };
        self.ask(&command, |reply| match reply {
            Reply::Code(digits) => String::from_utf8(digits.0.to_vec()).ok(),
            _ => None,
        })
    }

    /// Starts a run.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn offer(&mut self) -> Result<Offered, TokenError> {
        self.ask(&Command::PairOffer, |reply| match reply {
            Reply::Offered(offered) => Some(offered.clone()),
            _ => None,
        })
    }

    /// Gives message 2 to the run.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn confirm(&mut self, answer: &PairAnswer) -> Result<IdentityClaim, TokenError> {
        let answer = answer.clone();
        self.ask(&Command::PairConfirm { answer }, established)
    }

    /// Answers an offer under a typed code; the second value is what is left.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn answer(
        &mut self,
        offer: &PairOffer,
        code: &str,
    ) -> Result<(PairAnswer, u8), TokenError> {
        let mut digits = [0; 6];
        digits.copy_from_slice(code.as_bytes());
        let command = Command::PairAnswer {
            own: self.address.clone(),
            offer: offer.clone(),
            code: Bytes(digits),
            accept_changed: false,
        };
        self.ask(&command, |reply| match reply {
            Reply::Answered(answered) => Some((answered.answer.clone(), answered.answers_left)),
            _ => None,
        })
    }

    /// Makes prekeys.
    ///
    /// # Panics
    /// If the token refuses.
    #[track_caller]
    pub fn prekey(&mut self, kind: PrekeyKind) -> Prekey {
        self.ask(
            &Command::NewPrekey { kind, now: NOW },
            |reply| match reply {
                Reply::Prekey(prekey) => Some(*prekey),
                _ => None,
            },
        )
        .expect("a prekey")
    }

    /// A fresh bundle of this token's prekeys.
    #[track_caller]
    pub fn bundle(&mut self, with_one_time: bool) -> PrekeyBundle {
        PrekeyBundle {
            identity: self.identity(),
            last_resort: self.prekey(PrekeyKind::LastResort),
            one_time: with_one_time.then(|| self.prekey(PrekeyKind::OneTime)),
        }
    }

    /// Begins a session without a code.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn begin_session(
        &mut self,
        peer: &Address,
        bundle: &PrekeyBundle,
        accept_changed: bool,
    ) -> Result<IdentityClaim, TokenError> {
        let command = Command::Start {
            own: self.address.clone(),
            peer: peer.clone(),
            bundle: bundle.clone(),
            now: NOW,
            accept_changed,
        };
        self.ask(&command, established)
    }

    /// Seals a content for a contact.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn seal(&mut self, peer: &Address, content: &[u8]) -> Result<Vec<u8>, TokenError> {
        let peer = peer.clone();
        self.ask(&Command::Seal { peer, content }, |reply| match reply {
            Reply::Sealed { envelope, .. } => Some(envelope.to_vec()),
            _ => None,
        })
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn open(&mut self, envelope: &[u8]) -> Result<Received, TokenError> {
        self.open_with(envelope, false)
    }

    /// As [`Device::open`]; the user may have accepted a changed identity.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn open_with(
        &mut self,
        envelope: &[u8],
        accept_changed: bool,
    ) -> Result<Received, TokenError> {
        let command = Command::Open {
            own: self.address.clone(),
            envelope,
            accept_changed,
        };
        self.ask(&command, |reply| match reply {
            Reply::Opened(opened) => Some(Received {
                kind: opened.kind,
                hash: opened.hash,
                peer: opened.peer.clone(),
                identity: opened.identity,
                verified: opened.verified,
                message_id: opened.message_id,
                content: opened.content.to_vec(),
            }),
            _ => None,
        })
    }

    /// Opens an envelope and makes that lasting.
    ///
    /// # Errors
    /// What the token refuses.
    #[track_caller]
    pub fn take(&mut self, envelope: &[u8]) -> Result<Received, TokenError> {
        let received = self.open(envelope)?;
        self.done(&Command::Commit {
            hash: received.hash,
        })?;
        Ok(received)
    }
}

fn established(reply: &Reply<'_>) -> Option<IdentityClaim> {
    match reply {
        Reply::Established { peer, .. } => Some(*peer),
        _ => None,
    }
}

/// Runs a future that never waits for anything outside this program.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn exchange(app: &mut App<Surroundings>, message: &ToToken<'_>) -> Buffer {
    let request: Buffer = codec::encode_vec(message).expect("a request fits");
    let mut reply = Buffer::new();
    run(app.handle(&request, &mut reply));
    reply
}

fn unlock(app: &mut App<Surroundings>, kind: UnlockKind, rng: &mut ChaCha20Rng) -> Channel {
    let reply = exchange(app, &ToToken::Hello);
    let Ok(FromToken::Hello(Hello { token_id, salt, .. })) = codec::decode(&reply) else {
        panic!("no hello")
    };
    let (prs, secret) = match kind {
        UnlockKind::Init => (Vec::new(), [PRS, WRAP].concat()),
        UnlockKind::Unlock => (PRS.to_vec(), WRAP.to_vec()),
    };
    let (host, start) = HostUnlock::start(kind, &token_id, &salt, &prs, rng).expect("an unlock");
    let reply = exchange(app, &start);
    let answer = codec::decode(&reply).expect("an answer");
    let (mut channel, tag) = host.finish(&answer).expect("the right PIN");
    let mut body = Buffer::new();
    channel.seal(&secret, &mut body).expect("sealed");
    let reply = exchange(app, &ToToken::UnlockFinish { tag, body: &body });
    let Ok(FromToken::Sealed { counter, body }) = codec::decode(&reply) else {
        panic!("not unlocked: {:?}", codec::decode::<FromToken<'_>>(&reply))
    };
    let mut plain = Buffer::new();
    channel.open(counter, body, &mut plain).expect("message 4");
    channel
}
