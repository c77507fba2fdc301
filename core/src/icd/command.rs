//! Commands inside the channel, and their replies (SPEC §11). Both enums are append-only.
//!
//! Needs a touch: `ChangePin`, `Wipe`, `PairBegin` (shows a code), `PairAnswer` (answers a code), any command with
//! `accept_changed` that meets a changed key, and every command if the token is so configured.

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::wire::{
    Account, Address, Bytes, Generation, IdentityClaim, MessageId, PairAnswer, PairOffer, Prekey,
    PrekeyBundle, PrekeyKind, PrekeyRef, RelayName, SessionId,
};

/// What the host asks of an unlocked token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocator; the encoded form is what is kept"
)]
pub enum Command<'a> {
    /// Counters for people: [`Status`].
    Status,
    /// The public identity.
    Identity,
    /// Sets a new PIN; the channel stays.
    ChangePin {
        /// W of the present PIN.
        wrap: Bytes<32>,
        /// Fresh salt, drawn by the host.
        new_salt: Bytes<16>,
        /// CPace password of the new PIN.
        new_prs: Bytes<32>,
        /// W of the new PIN.
        new_wrap: Bytes<32>,
    },
    /// Forgets the unlocked keys in RAM.
    Lock,
    /// Erases all keys.
    Wipe,
    /// Signs a login; the token builds what is signed (`wire::relay::login_items`).
    Login {
        /// As whom.
        account: Account,
        /// The relay as dialled.
        dialled: RelayName,
        /// The relay's challenge.
        challenge: Bytes<32>,
        /// TLS exporter value.
        exporter: Bytes<32>,
    },
    /// Makes and keeps a prekey, returns its signed public half.
    NewPrekey {
        /// One-time (at most 16 kept) or last-resort (replaces the one in use; the old one stays 35 days).
        kind: PrekeyKind,
        /// Host's clock, seconds since 1970.
        now: u64,
    },
    /// Draws a code and holds it, three runs and ten minutes, in RAM. Ends a pairing already begun.
    PairBegin {
        /// Own address.
        own: Address,
        /// The address of the other.
        peer: Address,
        /// The user accepts that the identity behind `peer` has changed, if it has.
        accept_changed: bool,
    },
    /// Starts a run: message 1. A run still open is given up.
    PairOffer,
    /// Takes message 2 of the run.
    PairConfirm {
        /// As received.
        answer: PairAnswer,
    },
    /// Forgets the code.
    PairEnd,
    /// Answers message 1 with the code that the user typed: message 2.
    PairAnswer {
        /// Own address.
        own: Address,
        /// As received.
        offer: PairOffer,
        /// Six ASCII digits.
        code: Bytes<6>,
        /// The user accepts that the identity behind the offer's address has changed, if it has.
        accept_changed: bool,
    },
    /// Begins a session without a code. The contact is unverified.
    Start {
        /// Own address.
        own: Address,
        /// The address of the other.
        peer: Address,
        /// From the other's relay.
        bundle: PrekeyBundle,
        /// Host's clock, seconds since 1970.
        now: u64,
        /// The user accepts that the identity behind `peer` has changed, if it has.
        accept_changed: bool,
    },
    /// Seals content for a contact under its current session.
    Seal {
        /// The contact.
        peer: Address,
        /// At most `MAX_CONTENT` bytes.
        content: &'a [u8],
    },
    /// Opens an envelope that carries a frame; writes nothing. A further open takes the place of an uncommitted one.
    Open {
        /// Own address.
        own: Address,
        /// As received.
        envelope: &'a [u8],
        /// The user accepts that the identity behind the sender's address has changed, if it has.
        accept_changed: bool,
    },
    /// Makes the uncommitted open lasting.
    Commit {
        /// `Opened::hash`.
        hash: Bytes<32>,
    },
    /// Forgets the uncommitted open.
    Discard,
    /// The contact after the given one, in the token's order.
    NextContact {
        /// `None`: the first.
        after: Option<Address>,
    },
    /// Deletes all sessions of a contact.
    Forget {
        /// The contact.
        peer: Address,
    },
    /// Key that seals the host's own store: the same after each unlock, gone after a wipe.
    StorageKey,
    /// 32 random bytes from the token's generator, for the host to mix in.
    Random,
    /// What the token was asked lately: [`Log`].
    Log,
    /// The generation of these keys: [`Generations`].
    Generations,
    /// Notes a generation that is about to be asked for at the relay.
    PlanGeneration {
        /// The pair.
        next: Generation,
    },
    /// Makes a generation the current one; there is no next one then, and the count of lost sessions is 0.
    AdoptGeneration {
        /// The pair.
        current: Generation,
        /// In the same write, supersedes every session that is there: they open, and never seal again.
        supersede: bool,
    },
    /// Which prekeys are kept: [`Reply::Prekeys`].
    Prekeys,
    /// Deletes all one-time prekeys; ids go on 65,536 later, so that none is given twice by keys that went back in time.
    DropPrekeys,
    /// Deletes a one-time prekey, if it is there.
    ForgetPrekey {
        /// Its id.
        id: u32,
    },
    /// The sessions of a contact: [`Reply::Sessions`].
    Sessions {
        /// The contact.
        peer: Address,
    },
    /// The contact of a session: [`Reply::Contact`].
    FindContact {
        /// The session.
        session: SessionId,
    },
}

/// What the token answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// Done.
    Done,
    /// Not done; nothing changed unless the error says so.
    Failed(TokenError),
    /// Answer to `Status`.
    Status(Status),
    /// Answer to `Identity`.
    Identity(IdentityClaim),
    /// Answer to `Login`.
    Signature(Bytes<64>),
    /// Answer to `NewPrekey`.
    Prekey(Prekey),
    /// Answer to `PairBegin`: the six digits to give to the other by SMS or aloud.
    Code(Bytes<6>),
    /// Answer to `PairOffer`.
    Offered(Offered),
    /// Answer to `PairConfirm`, `Start`: the session that is now the contact's current one.
    Established {
        /// The contact.
        peer: IdentityClaim,
        /// The session.
        session: SessionId,
    },
    /// Answer to `PairAnswer`.
    Answered(Answered),
    /// Answer to `Seal`.
    Sealed {
        /// In clear in the frame as well.
        message_id: MessageId,
        /// An encoded envelope, ready for the mailbox.
        envelope: &'a [u8],
    },
    /// Answer to `Open`.
    Opened(#[serde(borrow)] Opened<'a>),
    /// Answer to `NextContact`; `None` after the last.
    Contact(Option<ContactInfo>),
    /// Answer to `StorageKey`.
    StorageKey(Bytes<32>),
    /// Answer to `Random`.
    Random(Bytes<32>),
    /// Answer to `Log`.
    Log(Log),
    /// Answer to `Generations`.
    Generations(Generations),
    /// Answer to `Prekeys`.
    Prekeys {
        /// One-time prekeys, by id.
        one_time: heapless::Vec<PrekeyRef, MAX_ONE_TIME>,
        /// Last-resort prekeys, by id; the newest is in use.
        last_resort: heapless::Vec<PrekeyRef, MAX_LAST_RESORT>,
    },
    /// Answer to `Sessions`, by birth.
    Sessions(heapless::Vec<SessionInfo, MAX_SESSIONS>),
}

/// One-time prekeys kept at most.
pub const MAX_ONE_TIME: usize = 16;
/// Last-resort prekeys kept at most: one in use and those of 35 days.
pub const MAX_LAST_RESORT: usize = 8;
/// Sessions of one contact at most.
pub const MAX_SESSIONS: usize = 2;

/// Which generation of keys a token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// The one in use; [`Generation::NONE`] before the first.
    pub current: Generation,
    /// The one that was about to be asked for.
    pub next: Option<Generation>,
    /// Session records that were damaged and dropped since the last `AdoptGeneration`.
    pub sessions_lost: u16,
}

/// One session of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// Whether this end began it.
    pub own: bool,
    /// Whether a frame of the peer has opened in it.
    pub answered: bool,
    /// Whether it only opens: a newer session took its place.
    pub superseded: bool,
    /// Whether `Seal` takes it.
    pub current: bool,
}

/// Most requests that a token remembers.
pub const LOG_ENTRIES: usize = 32;

/// The last requests since the power came on, the oldest first. Their kinds and times only: it stays when the token is
/// locked, so that its owner can see what a host has asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Uptime now, in milliseconds.
    pub now_ms: u64,
    /// The requests.
    pub entries: heapless::Vec<LogEntry, LOG_ENTRIES>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Uptime when it was answered, in milliseconds.
    pub at_ms: u64,
    /// What was asked.
    pub act: Act,
    /// Whether it was done.
    pub done: bool,
}

/// What a token remembers of a request: each that uses a key or changes something. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// An unlock; not done: a wrong PIN, or given up halfway.
    Unlock,
    /// The first PIN.
    Init,
    /// A new PIN.
    ChangePin,
    /// A wipe or a reset.
    Wipe,
    /// A login at a relay.
    Login,
    /// A new prekey.
    NewPrekey,
    /// A code was drawn and shown.
    ShowCode,
    /// A code was answered.
    AnswerCode,
    /// The answer to a code was checked.
    Confirm,
    /// A session without a code was begun.
    Start,
    /// A message was sealed.
    Seal,
    /// A message was opened.
    Open,
    /// A contact was deleted.
    Forget,
    /// The key of the host's store was given out.
    StorageKey,
    /// The generation went on.
    Generation,
    /// All sessions were superseded.
    Supersede,
    /// One-time prekeys were deleted.
    DropPrekeys,
}

impl Act {
    /// What carrying out `command` is; `None` for what neither uses a key nor changes anything lasting.
    #[must_use]
    pub fn of(command: &Command<'_>) -> Option<Self> {
        Some(match command {
            Command::ChangePin { .. } => Self::ChangePin,
            Command::Wipe => Self::Wipe,
            Command::Login { .. } => Self::Login,
            Command::NewPrekey { .. } => Self::NewPrekey,
            Command::PairBegin { .. } => Self::ShowCode,
            Command::PairAnswer { .. } => Self::AnswerCode,
            Command::PairConfirm { .. } => Self::Confirm,
            Command::Start { .. } => Self::Start,
            Command::Seal { .. } => Self::Seal,
            Command::Open { .. } => Self::Open,
            Command::Forget { .. } => Self::Forget,
            Command::StorageKey => Self::StorageKey,
            Command::AdoptGeneration {
                supersede: true, ..
            } => Self::Supersede,
            Command::AdoptGeneration { .. } => Self::Generation,
            Command::DropPrekeys | Command::ForgetPrekey { .. } => Self::DropPrekeys,
            Command::PlanGeneration { .. }
            | Command::Generations
            | Command::Prekeys
            | Command::Sessions { .. }
            | Command::FindContact { .. }
            | Command::Status
            | Command::Identity
            | Command::Lock
            | Command::PairOffer
            | Command::PairEnd
            | Command::Commit { .. }
            | Command::Discard
            | Command::NextContact { .. }
            | Command::Random
            | Command::Log => return None,
        })
    }
}

/// Counters for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Sessions kept.
    pub sessions: u16,
    /// Sessions that fit.
    pub sessions_max: u16,
    /// One-time prekeys kept.
    pub one_time_prekeys: u16,
    /// Id of the last-resort prekey in use, 0 if none was made.
    pub last_resort_id: u32,
    /// When it was made, seconds since 1970.
    pub last_resort_issued: u64,
    /// Answers to codes that nobody has confirmed yet.
    pub pending: u8,
    /// Slot pages erased so far: flash wear.
    pub slot_erases: u32,
}

/// A run of a pairing at the initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Message 1.
    pub offer: PairOffer,
    /// Runs left after this one.
    pub runs_left: u8,
}

/// A run of a pairing at the responder. It is charged, whatever happens to message 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Message 2.
    pub answer: PairAnswer,
    /// Unconfirmed answers left in the present ten minutes.
    pub answers_left: u8,
}

/// How an opened envelope came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenedKind {
    /// A frame of a session that exists.
    Message,
    /// It completes a pairing with a code: commit makes the session, verified.
    Paired,
    /// A first message: commit makes the session. The user has to accept the sender first.
    First,
}

/// An opened, uncommitted message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened<'a> {
    /// How it came to be.
    pub kind: OpenedKind,
    /// SHA-256 of the frame, for `Commit`.
    pub hash: Bytes<32>,
    /// Who wrote it: authenticated.
    pub peer: Address,
    /// The writer's identity: authenticated.
    pub identity: IdentityClaim,
    /// Whether the contact is (or becomes at commit) verified by a code.
    pub verified: bool,
    /// In clear in the frame as well.
    pub message_id: MessageId,
    /// Messages of this chain that are still missing before this one.
    pub missing: u32,
    /// Whether nothing has been sealed on this session yet, so that the other still waits for a first reply.
    pub reply_due: bool,
    /// The content without its padding.
    pub content: &'a [u8],
}

/// One contact of the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactInfo {
    /// Where it is.
    pub address: Address,
    /// Who it is.
    pub identity: IdentityClaim,
    /// Whether a code or a comparison verified it.
    pub verified: bool,
    /// The current session.
    pub session: SessionId,
    /// Sessions kept.
    pub sessions: u8,
    /// Text reserved for a later revision, empty.
    pub note: String<8>,
}

/// Why a token refused outside the channel. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkError {
    /// Not decodable, or not expected now.
    BadRequest,
    /// Needs an unlock first; the channel, if there was one, is gone.
    Locked,
    /// Needs an initialisation first.
    Blank,
    /// Initialised already.
    NotBlank,
    /// Wrong PIN; the try is spent.
    WrongPin {
        /// Tries left in all.
        tries: u8,
        /// Tries left in this power cycle.
        tries_now: u8,
    },
    /// No tries left in this power cycle: unplug and plug in again.
    TriesOfPowerCycleSpent,
    /// No tries left at all: keys are erased.
    TriesSpent,
    /// The touch did not come in time.
    NoTouch,
    /// The host cancelled.
    Cancelled,
    /// Protocol version not spoken.
    Version,
    /// Storage failed.
    Storage,
    /// The random generator failed its health test; no keys are made.
    Random,
    /// Another host's request is under way.
    Busy,
}

/// Why a command failed. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenError {
    /// Not decodable, or not expected now.
    BadRequest,
    /// The touch did not come in time.
    NoTouch,
    /// The host cancelled.
    Cancelled,
    /// Storage failed.
    Storage,
    /// The random generator failed its health test.
    Random,
    /// No place for another session; delete a contact.
    SessionsFull,
    /// Sixteen one-time prekeys are kept already.
    PrekeysFull,
    /// The memory of used first messages is full: make a new last-resort prekey.
    ReplayMemoryFull,
    /// No such contact.
    UnknownContact,
    /// No session for this frame.
    UnknownSession,
    /// The identity behind this address is another one than before; repeat with `accept_changed` after asking the user.
    IdentityChanged,
    /// A signature, tag or commitment does not match.
    Authentication,
    /// This frame, offer or first message was used before.
    Replayed,
    /// More than 2,000 messages of its chain are missing before this one.
    TooFarAhead,
    /// The peer broke the protocol.
    PeerMisbehaved,
    /// Not addressed to this address.
    WrongAddress,
    /// Not decodable as an envelope, frame, offer.
    Malformed,
    /// Another version or suite.
    Version,
    /// No code is held: it was never made, used up, or ten minutes are over.
    NoCode,
    /// The other typed another code, or somebody is in between.
    WrongCode {
        /// Runs left for this code; 0: it is dead.
        runs_left: u8,
    },
    /// Three unconfirmed answers within ten minutes.
    TooManyAnswers {
        /// Seconds until the next one is possible.
        seconds: u16,
    },
    /// Three answers wait for their confirmation.
    TooManyPending,
    /// The prekey is unknown, used, or too old.
    Prekey,
    /// Content longer than `MAX_CONTENT`.
    TooLong,
    /// The present PIN was not right.
    WrongPin,
    /// Nothing is uncommitted, or something else.
    NothingToCommit,
    /// An open on this session is not committed yet.
    Uncommitted,
    /// All sessions of this contact are superseded: a new one is needed.
    NoLiveSession,
}
