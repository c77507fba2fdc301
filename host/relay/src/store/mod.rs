//! What the relay keeps, behind one trait: accounts, prekeys, mailboxes, blobs.
//!
//! ```text
//!  caller ── queue (waits for room) ──▶ Pending ── resolves after the write is durable ──▶ outcome
//! ```
//!
//! Invariants that every implementation keeps:
//! - a write has resolved with `Ok` only if it is durable; with `Err`, nothing of it happened;
//! - writes take effect in the order in which they were queued;
//! - a stored message reaches the [`Outlet`] after it is durable, in the order of its number.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hostchat_core::wire::relay::{BlobId, Kind};
use hostchat_core::wire::{
    Address, Bytes, Generation, IdentityClaim, MessageId, Name, Prekey, PrekeyBundle, PrekeyRef,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::limits::MESSAGE_OVERHEAD;
use crate::rates::Spent;

pub mod check;
pub mod copy;
pub mod nats;
pub mod sqlite;

mod age;
mod blobs;
mod block;
mod generation;
mod log;
mod ops;
mod readers;
mod roster;
mod schema;
mod tx;
mod usage;
mod wal;
mod writer;

pub use blobs::{Announced, BlobKey, BlobState, NewBlob, PutPart, ReaderHash};
pub use log::{Filter, LogEntry, Logged, Position};
pub use nats::Nats;
pub use roster::{AccountRow, Invitation, Invited, NewInvitation, Totals};
pub use sqlite::Sqlite;

/// Number of an account, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountId(pub i64);

/// What somebody leaves in a mailbox.
#[derive(Debug)]
pub struct NewMessage {
    /// The receiver.
    pub to: Name,
    /// Who sends it, as the receiver will see it.
    pub sender: Address,
    /// For whom repeats are found, and whom a receiver blocks: the account name of a user, the whole address of a guest.
    pub sender_key: String,
    /// Whether the sender is an account of another relay.
    pub guest: bool,
    /// Fingerprint (SPEC §5.2) of the identity that the sender proved; `None` for a message that a version before stored.
    pub fingerprint: Option<Bytes<32>>,
    /// Drawn by the sender.
    pub message_id: MessageId,
    /// For limits and expiry.
    pub kind: Kind,
    /// An encoded envelope, opaque here.
    pub body: Arc<[u8]>,
}

/// A message in a mailbox.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Number, growing over the whole store.
    pub number: u64,
    /// Who left it.
    pub sender: Address,
    /// As in [`NewMessage`].
    pub fingerprint: Option<Bytes<32>>,
    /// Wall time of the storing, milliseconds since 1970.
    pub stored_at: u64,
    /// As sent.
    pub message_id: MessageId,
    /// As sent.
    pub body: Arc<[u8]>,
}

impl Message {
    /// What it takes in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.body.len() + MESSAGE_OVERHEAD
    }
}

/// Where messages go once they are durable.
pub trait Outlet: Send + Sync + 'static {
    /// Takes one message of `mailbox`; must not block.
    fn stored(&self, mailbox: AccountId, message: Arc<Message>);
    /// Learns that an account was deleted, perhaps by another node; nothing to do where there is one node.
    fn deleted(&self, _account: AccountId) {}
    /// Learns that the operator has suspended an account, perhaps at another node.
    fn suspended(&self, _account: AccountId) {}
    /// Learns that an account has a newer receiver at another node.
    fn taken_over(&self, _account: AccountId) {}
    /// Learns what was taken of rates at another node.
    fn spent_elsewhere(&self, _spent: Spent) {}
    /// Learns whom another node sees now.
    fn seen_elsewhere(&self, _node: &str, _names: Vec<Name>) {}
}

/// Outcome of [`Store::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored now.
    Stored,
    /// Was stored before; nothing was done.
    Repeat,
    /// No such receiver.
    UnknownName,
    /// The receiver blocks this sender.
    Blocked,
    /// The mailbox, or its share for this kind, is full.
    MailboxFull,
    /// The disk is nearly full, or the database has reached its size.
    RelayFull,
}

/// Outcome of [`Store::register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The name is bound to this identity, now or before.
    Account(AccountId),
    /// The name belongs to another identity.
    NameTaken,
    /// Registration needs an invitation, and this is none that can still be used.
    NotInvited,
}

/// Who may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Anybody.
    Open,
    /// Who holds this invitation.
    Invitation(Vec<u8>),
    /// Nobody who is not registered already.
    Closed,
}

/// Outcome of [`Store::put_prekey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutPrekey {
    /// Kept, or known already: the same key lies here, or was given.
    Done,
    /// The account has as many one-time prekeys as allowed.
    TooMany,
    /// The account was deleted meanwhile.
    UnknownName,
}

/// Outcome of [`Store::take_prekeys`].
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Here they are; a one-time key among them is given to nobody else.
    Bundle(Box<PrekeyBundle>),
    /// No such account.
    UnknownName,
    /// The account blocks who asks.
    Blocked,
    /// The account left no last-resort prekey.
    NoPrekeys,
}

/// Outcome of [`Store::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// It is the one wanted, now or before.
    Done,
    /// This one is there; nothing was changed.
    Other(Generation),
    /// The account was deleted meanwhile.
    UnknownName,
}

impl Advanced {
    /// The outcome where `there` is not to be replaced.
    fn without_a_write(there: Generation, from: Generation, to: Generation) -> Option<Self> {
        if there == to {
            Some(Self::Done)
        } else if there != from {
            Some(Self::Other(there))
        } else {
            None
        }
    }
}

/// Outcome of [`Store::block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Blocked, now or before.
    Done,
    /// The account blocks as many as one may.
    TooMany,
    /// The account was deleted meanwhile.
    UnknownName,
}

/// What is known of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// The identity that its name is bound to.
    pub identity: IdentityClaim,
    /// Whether its owner lets others see it.
    pub visible: bool,
    /// Whether the operator lets nobody log in to it.
    pub suspended: bool,
    /// The last day on which its owner logged in, in days since 1970, if that is known.
    pub seen_day: Option<u32>,
}

/// How many prekeys an account has left here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// One-time prekeys.
    pub one_time: u16,
    /// `issued` of the last-resort key, 0 if there is none.
    pub last_resort_issued: u64,
    /// Id of the last-resort key, 0 if there is none.
    pub last_resort_id: u32,
}

/// Which prekeys of an account lie here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrekeyList {
    /// One-time prekeys that nobody has, in the order in which they will be given: no more than
    /// [`PREKEY_STOCK`](hostchat_core::wire::relay::PREKEY_STOCK).
    pub one_time: Vec<PrekeyRef>,
    /// The last-resort prekey.
    pub last_resort: Option<PrekeyRef>,
}

/// What one step of [`Store::sweep`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Messages that nobody fetched in time.
    pub messages: usize,
    /// Blobs whose time was over.
    pub blobs: usize,
    /// Everything: these, remembered ids, given prekeys, entries of the log, parts of deleted blobs.
    pub rows: usize,
}

/// How a store is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Writes that wait.
    pub waiting: usize,
    /// Free bytes where it keeps its files, if it can tell.
    pub disk_free: Option<u64>,
    /// Bytes that it takes, if it can tell.
    pub bytes: Option<u64>,
}

/// A future that a store returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// Waits for room in the queue of writes; then the write is queued, and [`Pending`] tells its outcome.
pub type Queued<'a, T> = StoreFuture<'a, Pending<T>>;
/// Reads what is durable.
pub type Read<'a, T> = StoreFuture<'a, Result<T, StoreError>>;

/// What a relay keeps its accounts, prekeys and messages in.
pub trait Store: Send + Sync + 'static {
    /// Binds `name` to `identity` if it is free and `admission` allows it; `visible` is the wish of a new account.
    fn register(
        &self,
        name: Name,
        identity: IdentityClaim,
        admission: Admission,
        visible: bool,
    ) -> Queued<'_, Registered>;
    /// Stores a message, once for each (sender, receiver, message id), unless its receiver blocks the sender.
    fn append(&self, message: NewMessage) -> Queued<'_, Appended>;
    /// Deletes a delivered message; unknown numbers are ignored.
    fn acknowledge(&self, mailbox: AccountId, number: u64) -> Queued<'_, ()>;
    /// Keeps one more one-time prekey, also in place of another key with its id, or replaces the last-resort prekey.
    fn put_prekey(&self, account: AccountId, prekey: Box<Prekey>) -> Queued<'_, PutPrekey>;
    /// Hands out prekeys of `name` to `taker` (as `sender_key`); with `one_time`, also one that nobody else will get.
    fn take_prekeys(&self, name: Name, taker: String, one_time: bool) -> Queued<'_, Taken>;
    /// Deletes all one-time prekeys of this account. Of those that were given it is remembered that they were.
    fn drop_prekeys(&self, account: AccountId) -> Queued<'_, ()>;
    /// Makes `to` the generation of this account if it is `from`: compared and set in one step, over all nodes.
    fn advance(&self, account: AccountId, from: Generation, to: Generation)
    -> Queued<'_, Advanced>;
    /// Takes nothing more from `sender` (as `sender_key`) for this account; what lies in its mailbox stays.
    fn block(&self, account: AccountId, sender: String) -> Queued<'_, Block>;
    /// Takes from these senders again.
    fn unblock(&self, account: AccountId, senders: Vec<String>) -> Queued<'_, ()>;
    /// Keeps whether others may see the account.
    fn set_visible(&self, account: AccountId, visible: bool) -> Queued<'_, ()>;
    /// Keeps that nobody may log in to this account, or that its owner may again, and a line of the log where one is kept.
    /// Its mailbox takes messages as before.
    fn suspend(&self, account: AccountId, suspended: bool) -> Queued<'_, ()>;
    /// Keeps on which day, in days since 1970, its owner logged in last.
    fn saw(&self, account: AccountId, day: u32) -> Queued<'_, ()>;
    /// Deletes an account with everything that belongs to it.
    fn delete_account(&self, account: AccountId) -> Queued<'_, ()>;
    /// Deletes some of what has expired and says how much went; no rows when nothing is left to do.
    fn sweep(&self) -> Queued<'_, Swept>;
    /// Writes nothing, durably: resolves when the writer works.
    fn probe(&self) -> Queued<'_, ()>;
    /// The account of a name.
    fn account(&self, name: Name) -> Read<'_, Option<Account>>;
    /// Up to `count` messages of a mailbox with numbers above `after`, in order, of no more than
    /// [`RECEIVER_BYTES`](crate::limits::RECEIVER_BYTES) but for the last of them; none if there is none.
    fn page(&self, mailbox: AccountId, after: u64, count: usize) -> Read<'_, Vec<Arc<Message>>>;
    /// Whom an account blocks, as `sender_key`, in no order that means anything.
    fn blocked(&self, account: AccountId) -> Read<'_, Vec<String>>;
    /// How many prekeys an account has here.
    fn prekey_stock(&self, account: AccountId) -> Read<'_, Stock>;
    /// Which prekeys of an account lie here.
    fn prekeys(&self, account: AccountId) -> Read<'_, PrekeyList>;
    /// Up to `count` accounts with names after `after`, in order, with what they use.
    fn accounts(&self, after: Option<Name>, count: usize) -> Read<'_, Vec<AccountRow>>;
    /// One account with what it uses.
    fn account_row(&self, name: Name) -> Read<'_, Option<AccountRow>>;
    /// Keeps an invitation, unless `most` can still be used.
    fn invite(&self, new: NewInvitation, most: usize) -> Queued<'_, Invited>;
    /// The invitations that can still be used, newest first.
    fn invitations(&self) -> Read<'_, Vec<Invitation>>;
    /// Makes an invitation useless; `false` if there is none with this id.
    fn withdraw(&self, id: String) -> Queued<'_, bool>;
    /// Up to `count` entries of the log of who wrote to whom, newest first.
    fn log(&self, filter: Filter, count: usize) -> Read<'_, Vec<LogEntry>>;
    /// Announces a blob, or says how far one has come that was announced with the same size and readers.
    fn put_blob(&self, new: NewBlob) -> Queued<'_, Announced>;
    /// Stores the next part of a blob; those of one blob are stored in the order in which they were queued.
    fn put_part(
        &self,
        owner: AccountId,
        blob: BlobId,
        index: u32,
        bytes: Arc<[u8]>,
    ) -> Queued<'_, PutPart>;
    /// How far a blob has come, for one of its readers.
    fn blob(&self, key: BlobKey) -> Read<'_, Option<BlobState>>;
    /// A part of a blob, for one of its readers, if it is there.
    fn blob_part(&self, key: BlobKey, index: u32) -> Read<'_, Option<Vec<u8>>>;
    /// Takes a reader off its blob, and deletes the blob with the last one; unknown ones are ignored. `who` is for the log:
    /// the name of a user, the whole address of a guest.
    fn end_blob(&self, key: BlobKey, who: String) -> Queued<'_, ()>;
    /// Deletes a blob of this account; unknown ones are ignored.
    fn delete_blob(&self, owner: AccountId, blob: BlobId) -> Queued<'_, ()>;
    /// How much there is in all.
    fn totals(&self) -> Read<'_, Totals>;
    /// How the store is doing, for the operator.
    fn state(&self) -> State;
    /// Finishes the queued writes, brings the files into order and closes them.
    fn close(&self) -> StoreFuture<'_, ()>;
}

/// A queued write on its way to the disk.
#[must_use = "the outcome is known only after the write is durable"]
pub struct Pending<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    /// Makes a write and the end that tells its outcome.
    pub fn new() -> (oneshot::Sender<Result<T, StoreError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|result| result.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// No space: the disk, a quota, or the largest size of the database.
    Full,
    /// The disk takes no writes: read-only, failing, or full beyond a quota.
    Unwritable,
    /// The files are damaged.
    Damaged(String),
    /// The files belong to a newer version of this program.
    Newer {
        /// Version of the files.
        found: i64,
        /// Version that this program knows.
        known: i64,
    },
    /// The file is a database, but not of a relay.
    NotOurs,
    /// Closed, or its thread has ended.
    Closed,
    /// The servers do not answer; what was asked may have happened, and may be asked again.
    Unavailable(String),
    /// Anything else.
    Other(String),
}

impl StoreError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Full => "free some disk space, or raise database_mib in relay.toml",
            Self::Unwritable => {
                "see what the kernel says of the disk (`dmesg`), whether it is mounted read-only, and the quota of the relay's user"
            }
            Self::Damaged(_) => {
                "restore relay.db from a backup, or move it (with its -wal and -shm files) away and start empty"
            }
            Self::Newer { .. } => {
                "install the version of hostchat-relay that wrote it, or a later one"
            }
            Self::NotOurs => "point `database` in relay.toml to a file of its own",
            Self::Unavailable(_) => {
                "check that the servers in [nats] of relay.toml run, with JetStream, and that most of them reach each other"
            }
            Self::Closed | Self::Other(_) => "check the disk and the permissions of the folder",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no space left"),
            Self::Unwritable => f.write_str("the disk takes no writes"),
            Self::Damaged(how) => write!(f, "the database is damaged: {how}"),
            Self::Newer { found, known } => write!(
                f,
                "the database has format {found}, this program knows up to {known}"
            ),
            Self::NotOurs => f.write_str("not the database of a hostchat relay"),
            Self::Closed => f.write_str("the store is closed"),
            Self::Unavailable(why) => write!(f, "NATS does not answer: {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match error.sqlite_error_code() {
            Some(Code::DiskFull) => Self::Full,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => Self::Damaged(error.to_string()),
            Some(Code::ReadOnly) => Self::Unwritable,
            Some(Code::SystemIoFailure) if is_write(&error) => Self::Unwritable,
            _ => Self::Other(error.to_string()),
        }
    }
}

fn is_write(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE)
}
