//! What an entry of the outbox carries, as a value, as content, and as stored.

use hostchat_core::wire::content::{ContentId, MAX_DELIVERED};
use hostchat_core::wire::{Content, Quiet, codec};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::healing::Carried;
use crate::error::{Error, Result};

/// Room for the longest quiet content in bytes: 64 message ids, each with a content id.
const MAX_INNER: usize = 3072;

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time, and the type bounds the list"
)]
pub enum Payload {
    /// A text that the user sent.
    Note {
        /// Drawn once; see `Content::Note`.
        id: ContentId,
        /// The user's clock, milliseconds since 1970.
        sent_at: u64,
        /// Its number in the conversation; 0 for one queued in format 1.
        number: u64,
        /// Receipts that leave with it, once it is sealed.
        delivered: heapless::Vec<ContentId, MAX_DELIVERED>,
        /// It was sent before, and no receipt has come.
        again: bool,
        /// It leaves only to somebody verified: it was written to leave after a code.
        with_code: bool,
        /// The text.
        text: Zeroizing<String>,
    },
    /// Nothing to show: the first reply that confirms a session.
    Empty,
    /// Our sessions with the contact end.
    SessionEnded,
    /// An answer to a code, sealed by nature; of no use after ten minutes.
    PairAnswer {
        /// When it was made.
        made_at: u64,
    },
    /// Something that nobody sees: an encoded [`Quiet`].
    Quiet {
        /// The encoding.
        inner: Vec<u8>,
    },
}

impl Payload {
    /// A quiet content.
    ///
    /// # Errors
    /// `Internal` if it is too long, which its bounds exclude.
    pub fn quiet(quiet: &Quiet) -> Result<Self> {
        let inner: heapless::Vec<u8, MAX_INNER> =
            codec::encode_vec(quiet).map_err(|_| Error::Internal("quiet content too long"))?;
        Ok(Self::Quiet {
            inner: inner.to_vec(),
        })
    }

    /// The content to seal; `None` for an answer to a code.
    pub fn content(&self) -> Option<Content<'_>> {
        Some(match self {
            Self::Note {
                id,
                sent_at,
                number,
                delivered,
                text,
                ..
            } => Content::Note {
                id: *id,
                sent_at: *sent_at,
                number: *number,
                delivered: delivered.clone(),
                reply_to: None,
                timer: None,
                text,
            },
            Self::Empty => Content::Empty,
            Self::SessionEnded => Content::SessionEnded,
            Self::Quiet { inner } => Content::Quiet { inner },
            Self::PairAnswer { .. } => return None,
        })
    }

    pub(super) fn carried(&self) -> Carried {
        match self {
            Self::Note { id, delivered, .. } => Carried::Note {
                content: *id,
                delivered: delivered.clone(),
            },
            Self::Quiet { inner } => match codec::decode::<Quiet>(inner) {
                Ok(Quiet::Receipts { ids, .. }) => Carried::Receipts { ids },
                _ => Carried::Nothing,
            },
            Self::Empty | Self::SessionEnded | Self::PairAnswer { .. } => Carried::Nothing,
        }
    }
}

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
pub(super) enum RowPayload<'a> {
    /// Of format 1.
    Text {
        id: ContentId,
        sent_at: u64,
        text: &'a str,
    },
    Empty,
    PairAnswer {
        made_at: u64,
    },
    SessionEnded,
    Note {
        id: ContentId,
        sent_at: u64,
        number: u64,
        delivered: heapless::Vec<ContentId, MAX_DELIVERED>,
        again: bool,
        text: &'a str,
    },
    Quiet {
        inner: &'a [u8],
    },
    /// A note that was written to leave after a code.
    NoteWithCode {
        id: ContentId,
        sent_at: u64,
        number: u64,
        delivered: heapless::Vec<ContentId, MAX_DELIVERED>,
        text: &'a str,
    },
}

impl<'a> From<&'a Payload> for RowPayload<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Note {
                id,
                sent_at,
                number,
                delivered,
                again: _,
                with_code: true,
                text,
            } => Self::NoteWithCode {
                id: *id,
                sent_at: *sent_at,
                number: *number,
                delivered: delivered.clone(),
                text,
            },
            Payload::Note {
                id,
                sent_at,
                number,
                delivered,
                again,
                with_code: false,
                text,
            } => Self::Note {
                id: *id,
                sent_at: *sent_at,
                number: *number,
                delivered: delivered.clone(),
                again: *again,
                text,
            },
            Payload::Empty => Self::Empty,
            Payload::SessionEnded => Self::SessionEnded,
            Payload::PairAnswer { made_at } => Self::PairAnswer { made_at: *made_at },
            Payload::Quiet { inner } => Self::Quiet { inner },
        }
    }
}

impl From<RowPayload<'_>> for Payload {
    fn from(row: RowPayload<'_>) -> Self {
        match row {
            RowPayload::Text { id, sent_at, text } => Self::Note {
                id,
                sent_at,
                number: 0,
                delivered: heapless::Vec::new(),
                again: false,
                with_code: false,
                text: Zeroizing::new(text.to_owned()),
            },
            RowPayload::Empty => Self::Empty,
            RowPayload::SessionEnded => Self::SessionEnded,
            RowPayload::PairAnswer { made_at } => Self::PairAnswer { made_at },
            RowPayload::Note {
                id,
                sent_at,
                number,
                delivered,
                again,
                text,
            } => Self::Note {
                id,
                sent_at,
                number,
                delivered,
                again,
                with_code: false,
                text: Zeroizing::new(text.to_owned()),
            },
            RowPayload::NoteWithCode {
                id,
                sent_at,
                number,
                delivered,
                text,
            } => Self::Note {
                id,
                sent_at,
                number,
                delivered,
                again: false,
                with_code: true,
                text: Zeroizing::new(text.to_owned()),
            },
            RowPayload::Quiet { inner } => Self::Quiet {
                inner: inner.to_vec(),
            },
        }
    }
}
