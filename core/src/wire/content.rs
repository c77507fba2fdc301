//! What is inside an opened message (SPEC §6.2).

use heapless::Vec;
use serde::{Deserialize, Deserializer, Serialize};

use crate::wire::{Bytes, MessageId};

/// Longest text of one message, in bytes of UTF-8.
pub const MAX_TEXT: usize = 4000;
/// Most receipts that a note carries.
pub const MAX_DELIVERED: usize = 16;
/// Most ids in one quiet content.
pub const MAX_IDS: usize = 64;

/// Names what people see, once: drawn when the user sent it, equal if it had to be sealed again in a new session.
pub type ContentId = Bytes<16>;

/// The content of a message, host to host. Append-only; a receiver shows an unknown kind as such and keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocator; the encoded form is what is kept"
)]
pub enum Content<'a> {
    /// Nothing to show: it confirms a pairing or a first message.
    Empty,
    /// A text of an older program.
    Text {
        /// Names it.
        id: ContentId,
        /// Milliseconds since 1970 by the sender's clock.
        sent_at: u64,
        /// The text, at most [`MAX_TEXT`] bytes.
        #[serde(deserialize_with = "bounded::<MAX_TEXT, _>")]
        text: &'a str,
    },
    /// The sender has a new identity or dropped its sessions: older ones will not be answered.
    SessionEnded,
    /// A text.
    Note {
        /// Names it.
        id: ContentId,
        /// Milliseconds since 1970 by the sender's clock: a claim.
        sent_at: u64,
        /// Counts the notes of this conversation from 1, given when the note was queued.
        number: u64,
        /// Contents that have arrived at the sender of this note.
        delivered: Vec<ContentId, MAX_DELIVERED>,
        /// The content that this one answers.
        reply_to: Option<ContentId>,
        /// After so many seconds both ends delete it.
        timer: Option<u32>,
        /// The text, at most [`MAX_TEXT`] bytes.
        #[serde(deserialize_with = "bounded::<MAX_TEXT, _>")]
        text: &'a str,
    },
    /// Something that nobody sees: an encoded [`Quiet`]. A receiver drops an unknown one without a word.
    Quiet {
        /// The encoding.
        inner: &'a [u8],
    },
}

/// What the programs at both ends tell each other. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "no allocator; the encoded form is what is kept"
)]
pub enum Quiet {
    /// Contents that have come so far.
    Receipts {
        /// How far.
        state: Receipt,
        /// Which, at least one.
        ids: Vec<ContentId, MAX_IDS>,
    },
    /// Frames that did not open: what was in them?
    Unreadable {
        /// Their message ids.
        ids: Vec<MessageId, MAX_IDS>,
        /// More than could be kept: everything that no receipt has confirmed is asked for.
        all: bool,
    },
    /// Answer to `Unreadable`.
    Told {
        /// Milliseconds since 1970: the sender of this knows every message id that it has sealed since then.
        since: u64,
        /// What became of each.
        fates: Vec<(MessageId, Fate), MAX_IDS>,
    },
}

/// How far a content has come. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// It is stored at the receiver.
    Delivered,
    /// Its receiver has seen it; only where the receiver wants this to be told.
    Read,
}

/// What was in a frame that its receiver could not open. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is sealed again.
    Again,
    /// It was delivered in another frame; of older programs, in place of `Confirmed`.
    Delivered,
    /// Nothing that people see, and nothing that has to be repeated.
    NothingToShow,
    /// A text that is not kept any more.
    Lost,
    /// The sender of this answer never sealed such a frame, as far as it knows.
    Unknown,
    /// A receipt has confirmed it.
    Confirmed {
        /// Which content it was: its receiver may have lost it since, with a home that was restored from a copy.
        content: ContentId,
    },
}

/// Reads a text of at most `MAX` bytes.
pub(super) fn bounded<'de, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<&'de str, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    if text.len() > MAX {
        return Err(serde::de::Error::invalid_length(text.len(), &"a text"));
    }
    Ok(text)
}
