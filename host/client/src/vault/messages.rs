//! Received and sent messages: what is still to be shown, and history.
//!
//! ```text
//!  take_in (plaintext + seen, one transaction) ─▶ (token commits) ─▶ mark_committed ─▶ (relay: acknowledge)
//!  next_to_show ─▶ mark_showing ─▶ (printed) ─▶ mark_shown
//! ```
//!
//! Invariant: a message id is stored at most once, however often it is delivered.

use hostchat_core::wire::{Address, Bytes, MessageId};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::outbox::Payload;
use super::{Column, Tx, Vault};
use crate::error::Result;

const BODY: Column = Column {
    table: "messages",
    column: "body",
};

/// Days for which ids of what has come are kept: longer than a relay keeps messages and prekeys live.
const SEEN_DAYS: u64 = 90;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From the contact.
    In,
    /// To the contact.
    Out,
}

/// How far a received message has come towards the user's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not yet.
    New,
    /// It was being shown when the program ended.
    Perhaps,
}

/// A message of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the order.
    pub id: i64,
    /// Which way.
    pub direction: Direction,
    /// The contact.
    pub peer: Address,
    /// The id of its frame.
    pub message_id: MessageId,
    /// By the sender's clock, milliseconds since 1970.
    pub sent_at: u64,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// Messages that were missing before it.
    pub missing: u32,
    /// Whether its sender was verified when it came.
    pub verified: bool,
    /// The text; anything, from the sender.
    pub text: Zeroizing<String>,
}

/// A received message on its way into the vault.
pub struct Incoming<'a> {
    /// The sender.
    pub peer: &'a Address,
    /// The id of its frame.
    pub message_id: MessageId,
    /// Messages missing before it.
    pub missing: u32,
    /// Whether its sender is verified.
    pub verified: bool,
    /// Content id, sender's time and text, if there is something to show.
    pub text: Option<(Bytes<16>, u64, &'a str)>,
    /// Whether the sender waits for a first reply.
    pub reply_due: bool,
}

/// How far a message id has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Plaintext on disk; the token may not have committed.
    Stored,
    /// Committed.
    Committed,
}

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    direction: Direction,
    peer: Address,
    message_id: MessageId,
    sent_at: u64,
    received_at: u64,
    missing: u32,
    verified: bool,
    text: &'a str,
}

impl Vault {
    /// How far a message id has come; `None` if it was never stored.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn seen(&mut self, id: &MessageId) -> Result<Option<Stored>> {
        self.read(|tx| tx.seen(&id.0))
    }

    /// Stores a received message and its id in one step; gives whether there is something new to show.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn take_in(&mut self, message: &Incoming<'_>) -> Result<bool> {
        self.write(|tx| {
            if tx.seen(&message.message_id.0)?.is_some() {
                return Ok(false);
            }
            tx.mark_seen(&message.message_id.0, 0)?;
            if message.reply_due && !tx.has_outgoing(message.peer)? {
                tx.queue(message.peer, Payload::Empty)?;
            }
            let Some((content_id, sent_at, text)) = message.text else {
                return Ok(false);
            };
            // The same text may come twice under different keys, if its sender had to seal it again.
            let content =
                tx.sealer
                    .mark(&[b"content", message.peer.as_str().as_bytes(), &content_id.0]);
            if tx.seen(&content)?.is_some() {
                return Ok(false);
            }
            tx.mark_seen(&content, 1)?;
            let now = tx.os.now_ms();
            let (id, missing, verified) = (message.message_id, message.missing, message.verified);
            insert(
                tx,
                0,
                Direction::In,
                message.peer,
                id,
                sent_at,
                now,
                missing,
                verified,
                text,
            )?;
            Ok(true)
        })
    }

    /// Notes that the token has committed a message id.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn mark_committed(&mut self, id: &MessageId) -> Result<()> {
        // A lost mark is made again: the token then says that it has committed already.
        self.write_relaxed(|tx| tx.mark_seen(&id.0, 1))
    }

    /// The oldest message that is still to be shown.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn next_to_show(&mut self) -> Result<Option<(Message, Shown)>> {
        self.read(|tx| {
            let sql = "SELECT id, state, body FROM messages WHERE state < 2 ORDER BY id LIMIT 1";
            let row: Option<(i64, i64, Vec<u8>)> = tx
                .transaction
                .prepare_cached(sql)?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            row.map(|(id, state, sealed)| {
                let shown = if state == 1 {
                    Shown::Perhaps
                } else {
                    Shown::New
                };
                Ok((open(tx, id, &sealed)?, shown))
            })
            .transpose()
        })
    }

    /// Notes that a message is about to be shown.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn mark_showing(&mut self, id: i64) -> Result<()> {
        self.set_state(id, 1)
    }

    /// Notes that a message was shown; without `history` its text goes.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn mark_shown(&mut self, message: &Message, history: bool) -> Result<()> {
        self.write(|tx| {
            let sender = tx
                .sealer
                .seal(LAST_SENDER, 0, message.peer.as_str().as_bytes());
            tx.transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES ('last sender', ?1)",
                )?
                .execute(params![sender])?;
            let sql = if history {
                "UPDATE messages SET state = 2 WHERE id = ?1"
            } else {
                "DELETE FROM messages WHERE id = ?1"
            };
            tx.transaction
                .prepare_cached(sql)?
                .execute(params![message.id])?;
            Ok(())
        })
    }

    /// Who wrote the message that was shown last.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn last_sender(&mut self) -> Result<Option<Address>> {
        self.read(|tx| {
            let sql = "SELECT value FROM meta WHERE key = 'last sender'";
            let sealed: Option<Vec<u8>> = tx
                .transaction
                .query_row(sql, [], |row| row.get(0))
                .optional()?;
            let Some(sealed) = sealed else {
                return Ok(None);
            };
            let plain = tx.open(0, LAST_SENDER, &sealed)?;
            let text = std::str::from_utf8(&plain)
                .ok()
                .and_then(|text| Address::parse(text).ok());
            text.map(Some)
                .ok_or_else(|| tx.damaged("a value cannot be decoded"))
        })
    }

    /// The newest `last` messages, of one contact or of all, the oldest of them first. What was not shown yet is left out.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn history(&mut self, peer: Option<&Address>, last: usize) -> Result<Vec<Message>> {
        self.read(|tx| {
            let rows = tx.rows(
                "SELECT id, body FROM messages WHERE state >= 2 ORDER BY id DESC",
                [],
            )?;
            let mut messages = Vec::new();
            for (id, sealed) in rows {
                if messages.len() == last {
                    break;
                }
                let message = open(tx, id, &sealed)?;
                if peer.is_none_or(|peer| message.peer == *peer) {
                    messages.push(message);
                }
            }
            messages.reverse();
            Ok(messages)
        })
    }

    /// Drops ids of what came long ago.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn prune_seen(&mut self) -> Result<()> {
        self.write(|tx| {
            let before = tx
                .day()
                .saturating_sub(i64::try_from(SEEN_DAYS).unwrap_or(i64::MAX));
            tx.transaction.execute(
                "DELETE FROM seen WHERE state = 1 AND day < ?1",
                params![before],
            )?;
            Ok(())
        })
    }

    fn set_state(&mut self, id: i64, state: i64) -> Result<()> {
        self.write(|tx| {
            let sql = "UPDATE messages SET state = ?2 WHERE id = ?1";
            tx.transaction
                .prepare_cached(sql)?
                .execute(params![id, state])?;
            Ok(())
        })
    }
}

const LAST_SENDER: Column = Column {
    table: "meta",
    column: "last sender",
};

impl Tx<'_> {
    pub(super) fn seen(&self, id: &[u8; 16]) -> Result<Option<Stored>> {
        let sql = "SELECT state FROM seen WHERE id = ?1";
        let state: Option<i64> = self
            .transaction
            .prepare_cached(sql)?
            .query_row(params![id.as_slice()], |row| row.get(0))
            .optional()?;
        Ok(state.map(|state| {
            if state == 0 {
                Stored::Stored
            } else {
                Stored::Committed
            }
        }))
    }

    pub(super) fn mark_seen(&self, id: &[u8; 16], state: i64) -> Result<()> {
        let sql = "INSERT INTO seen (id, state, day) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET state = max(state, ?2)";
        self.transaction
            .prepare_cached(sql)?
            .execute(params![id.as_slice(), state, self.day()])?;
        Ok(())
    }

    fn day(&self) -> i64 {
        i64::try_from(self.os.now_s() / 86_400).unwrap_or(i64::MAX)
    }

    /// Deletes all messages from and to `peer`.
    pub(super) fn delete_messages(&self, peer: &Address) -> Result<()> {
        for (id, sealed) in self.rows("SELECT id, body FROM messages", [])? {
            if open(self, id, &sealed)?.peer == *peer {
                self.transaction
                    .execute("DELETE FROM messages WHERE id = ?1", params![id])?;
            }
        }
        Ok(())
    }
}

/// Appends a message.
#[expect(clippy::too_many_arguments, reason = "one for each field of a row")]
pub(super) fn insert(
    tx: &Tx<'_>,
    state: i64,
    direction: Direction,
    peer: &Address,
    message_id: MessageId,
    sent_at: u64,
    received_at: u64,
    missing: u32,
    verified: bool,
    text: &str,
) -> Result<i64> {
    let row = Row {
        direction,
        peer: peer.clone(),
        message_id,
        sent_at,
        received_at,
        missing,
        verified,
        text,
    };
    tx.insert(
        "INSERT INTO messages (state, body) VALUES (?1, zeroblob(0))",
        params![state],
        BODY,
        &row,
    )
}

fn open(tx: &Tx<'_>, id: i64, sealed: &[u8]) -> Result<Message> {
    let body = tx.open(id, BODY, sealed)?;
    let row: Row<'_> = tx.open_body(&body)?;
    Ok(Message {
        id,
        direction: row.direction,
        peer: row.peer,
        message_id: row.message_id,
        sent_at: row.sent_at,
        received_at: row.received_at,
        missing: row.missing,
        verified: row.verified,
        text: Zeroizing::new(row.text.into()),
    })
}
