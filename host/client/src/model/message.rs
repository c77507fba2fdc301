//! Messages of the history.

use hostchat_core::wire::content::ContentId;
use hostchat_core::wire::{Address, Bytes, MessageId, SessionId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A short name of an identity: what was sealed for one is never answered to another.
pub type IdentityTag = Bytes<16>;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From the contact.
    In,
    /// To the contact.
    Out,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A text of its sender.
    Text,
    /// A content that this version does not know; the text is ours.
    Unknown,
}

/// How far a sent message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sent {
    /// No receipt yet.
    Unconfirmed,
    /// Its receiver has it.
    Confirmed,
    /// No receipt came within 45 days.
    Never,
}

/// What became of a text that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removed {
    /// It had not been sealed: nobody gets it.
    Unsent,
    /// It had been sealed, and perhaps sent: it is not sent again.
    NotAgain,
}

/// A message of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number in this vault.
    pub id: i64,
    /// Which way.
    pub direction: Direction,
    /// The contact.
    pub peer: Address,
    /// The id of its frame.
    pub message_id: MessageId,
    /// By the sender's clock, milliseconds since 1970: a claim.
    pub sent_at: u64,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// When a relay stored it: by the relay's clock if it came in, by ours if it went out; 0 if that is not known.
    pub stored_at: u64,
    /// Messages that were missing before it, in vaults of format 1.
    pub missing: u32,
    /// Whether its sender was verified when it came.
    pub verified: bool,
    /// Its content's id; zeros from format 1.
    pub content: ContentId,
    /// Its number in the conversation; 0 if it has none.
    pub number: u64,
    /// The session in which it was sealed last.
    pub session: Option<SessionId>,
    /// For whom it was sealed.
    pub identity: Option<IdentityTag>,
    /// What it is.
    pub what: What,
    /// How far it has come, if it went out.
    pub sent: Option<Sent>,
    /// The text; anything, from the sender.
    pub text: Zeroizing<String>,
}

impl Message {
    /// The time by which messages are ordered, milliseconds since 1970.
    #[must_use]
    pub fn ordered_at(&self) -> u64 {
        match self.stored_at {
            0 => self.received_at,
            stored_at => stored_at,
        }
    }
}
