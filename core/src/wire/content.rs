//! What is inside an opened message (SPEC §6.2).

use serde::{Deserialize, Serialize};

use crate::wire::Bytes;

/// Longest text of one message, in bytes of UTF-8.
pub const MAX_TEXT: usize = 4000;

/// The content of a message, host to host. Append-only; a receiver shows an unknown kind as such and keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content<'a> {
    /// Nothing to show: it confirms a pairing or a first message.
    Empty,
    /// A text.
    Text {
        /// Drawn once when the user sent it; equal if the same text had to be sealed again in a new session.
        id: Bytes<16>,
        /// Milliseconds since 1970 by the sender's clock.
        sent_at: u64,
        /// The text, at most [`MAX_TEXT`] bytes.
        text: &'a str,
    },
    /// The sender has a new identity or dropped its sessions: older ones will not be answered.
    SessionEnded,
}
