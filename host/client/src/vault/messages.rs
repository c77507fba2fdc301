//! Received and sent messages: what is still to be shown, what no receipt has confirmed, and history.
//!
//! ```text
//!  in   take_in (plaintext + arrived, one transaction) ─▶ (token commits) ─▶ mark_committed ─▶ (relay: acknowledge)
//!       next_to_show ─▶ mark_showing ─▶ (printed) ─▶ mark_shown
//!  out  (outbox: sent) ─▶ unconfirmed ─▶ confirm        or after 45 days: never confirmed
//! ```
//!
//! Invariant: a content is stored at most once, however often and in however many frames it is delivered, and a sent one
//! stays until a receipt names it or its time is over.

use hostchat_core::wire::content::ContentId;
use hostchat_core::wire::{Address, Bytes, MessageId, SessionId};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::asking::Arrived;
use super::healing::{Conversation, row_of};
use super::payload::Payload;
use super::{Column, Tx, Vault};
use crate::error::Result;
use crate::model::{Direction, IdentityTag, Message, Sent, What};

pub(super) const BODY: Column = Column {
    table: "messages",
    column: "body",
};
const ARRIVED: Column = Column {
    table: "arrived",
    column: "body",
};

/// Days for which marks of what has come are kept: longer than a relay keeps messages and prekeys live.
const ARRIVED_DAYS: u32 = 90;

/// `messages.state` of a received message that is to be shown.
const NEW: i64 = 0;
/// Of a sent one with a receipt, or from before format 2.
pub(super) const CONFIRMED: i64 = 3;
/// Of a sent one without.
pub(super) const UNCONFIRMED: i64 = 4;
/// Of one for which none will come.
pub(super) const NEVER: i64 = 5;
/// As [`UNCONFIRMED`], where no history is kept.
pub(super) const KEPT: i64 = 6;

/// How far a received message has come towards the user's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not yet.
    New,
    /// It was being shown when the program ended.
    Perhaps,
}

/// What there is to show of a received message.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The content's id.
    pub content: ContentId,
    /// By the sender's clock, milliseconds since 1970.
    pub sent_at: u64,
    /// Its number in the conversation; 0 if it has none.
    pub number: u64,
    /// What it is.
    pub what: What,
    /// The text.
    pub text: &'a str,
}

/// A received message on its way into the vault.
pub struct Incoming<'a> {
    /// The sender.
    pub peer: &'a Address,
    /// The id of its frame.
    pub message_id: MessageId,
    /// By the relay's clock, milliseconds since 1970.
    pub stored_at: u64,
    /// Whether its sender is verified.
    pub verified: bool,
    /// What there is to show.
    pub arrival: Option<Arrival<'a>>,
    /// Contents of ours that the sender has, by receipts inside.
    pub delivered: &'a [ContentId],
    /// For whom these contents must have been sealed.
    pub identity: IdentityTag,
    /// A question or an answer inside.
    pub quiet: Option<Arrived>,
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

/// As stored; append-only from format 2 on.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    direction: Direction,
    peer: Address,
    message_id: MessageId,
    sent_at: u64,
    received_at: u64,
    stored_at: u64,
    missing: u32,
    verified: bool,
    content: ContentId,
    number: u64,
    session: Option<SessionId>,
    identity: Option<IdentityTag>,
    what: What,
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

    /// Stores a received message, its id and what its receipts say, in one step; gives whether there is something new to
    /// show. A receipt for it is queued in the same step.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn take_in(&mut self, message: &Incoming<'_>, history: bool) -> Result<bool> {
        self.write(|tx| {
            if tx.seen(&message.message_id.0)?.is_some() {
                return Ok(false);
            }
            tx.mark_seen(&message.message_id.0, 0)?;
            tx.confirm(message.peer, &message.identity, message.delivered, history)?;
            if let Some(quiet) = &message.quiet {
                tx.take_quiet(message.peer, &message.identity, quiet, tx.now())?;
            }
            let Some(arrival) = message.arrival else {
                if message.reply_due && !tx.has_outgoing(message.peer)? {
                    tx.queue(message.peer, Payload::Empty)?;
                }
                return Ok(false);
            };
            // What the user sees is confirmed each time it comes: the receipt may have been lost, not the content.
            if arrival.what == What::Text {
                tx.add_receipt(message.peer, arrival.content)?;
            } else if message.reply_due && !tx.has_outgoing(message.peer)? {
                tx.queue(message.peer, Payload::Empty)?;
            }
            // The same content may come twice under different keys, if its sender had to seal it again.
            let content = tx.content_mark(message.peer, arrival.content);
            if tx.seen(&content)?.is_some() {
                return Ok(false);
            }
            tx.mark_seen(&content, 1)?;
            if arrival.number > 0 {
                tx.change_conversation(message.peer, |c| c.arrived(arrival.number))?;
            }
            let stored = Message {
                id: 0,
                direction: Direction::In,
                peer: message.peer.clone(),
                message_id: message.message_id,
                sent_at: arrival.sent_at,
                received_at: tx.os.now_ms(),
                stored_at: message.stored_at,
                missing: 0,
                verified: message.verified,
                content: arrival.content,
                number: arrival.number,
                session: None,
                identity: None,
                what: arrival.what,
                sent: None,
                text: Zeroizing::new(arrival.text.to_owned()),
            };
            insert(tx, NEW, &stored)?;
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

    /// The oldest messages that are still to be shown and have numbers above `after`: in order, `most` of them.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn to_show(&mut self, after: i64, most: usize) -> Result<Vec<(Message, Shown)>> {
        self.read(|tx| {
            let sql = "SELECT id, state, body FROM messages WHERE state < 2 AND id > ?1 ORDER BY id LIMIT ?2";
            let mut statement = tx.transaction.prepare_cached(sql)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![after, most])?;
            let mut messages = Vec::new();
            while let Some(row) = rows.next()? {
                messages.push(unshown(tx, row)?);
            }
            Ok(messages)
        })
    }

    /// The message with this number, if it is still to be shown.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn unshown(&mut self, id: i64) -> Result<Option<(Message, Shown)>> {
        let mut first = self.to_show(id.saturating_sub(1), 1)?;
        Ok(first.pop().filter(|(message, _)| message.id == id))
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
            let sender = tx.seal_body(0, LAST_SENDER, &message.peer)?;
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
            tx.open_body(&plain).map(Some)
        })
    }

    /// The newest `last` messages, of one contact or of all, in the order in which relays stored them. What was not shown yet
    /// is left out, and so is what is kept only until it is confirmed.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn history(&mut self, peer: Option<&Address>, last: usize) -> Result<Vec<Message>> {
        self.read(|tx| {
            let mut messages = Vec::new();
            for message in all(
                tx,
                "SELECT id, state, body FROM messages WHERE state BETWEEN 2 AND 5",
            )? {
                if peer.is_none_or(|peer| message.peer == *peer) {
                    messages.push(message);
                }
            }
            messages.sort_by_key(|message| (message.ordered_at(), message.id));
            Ok(messages.split_off(messages.len().saturating_sub(last)))
        })
    }

    /// Drops marks of what came long ago.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn prune_seen(&mut self) -> Result<()> {
        let before = day(self.settled_now()).saturating_sub(ARRIVED_DAYS);
        self.write(|tx| {
            let mut statement = tx
                .transaction
                .prepare("SELECT mark, body FROM arrived WHERE state = 1")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<([u8; 16], Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
            for (mark, sealed) in rows {
                let body = tx.open(row_of(&mark), ARRIVED, &sealed)?;
                if tx.open_body::<u32>(&body)? < before {
                    tx.transaction
                        .execute("DELETE FROM arrived WHERE mark = ?1", params![mark])?;
                }
            }
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
        let sql = "SELECT state FROM arrived WHERE mark = ?1";
        let state: Option<i64> = self
            .transaction
            .prepare_cached(sql)?
            .query_row(params![self.arrived_mark(id)], |row| row.get(0))
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
        self.mark_arrived_on(id, state, day(self.now()))
    }

    pub(super) fn mark_arrived_on(&self, id: &[u8; 16], state: i64, day: u32) -> Result<()> {
        let mark = self.arrived_mark(id);
        let body = self.seal_body(row_of(&mark), ARRIVED, &day)?;
        let sql = "INSERT INTO arrived (mark, state, body) VALUES (?1, ?2, ?3)
            ON CONFLICT (mark) DO UPDATE SET state = max(state, ?2)";
        self.transaction
            .prepare_cached(sql)?
            .execute(params![mark, state, body])?;
        Ok(())
    }

    /// Under this a content that has come is remembered, in whatever frame.
    pub(super) fn content_mark(&self, peer: &Address, content: ContentId) -> [u8; 16] {
        self.sealer
            .mark(&[b"content", peer.as_str().as_bytes(), &content.0])
    }

    /// The relay knows ids: they are kept under a key of the vault.
    fn arrived_mark(&self, id: &[u8; 16]) -> [u8; 16] {
        self.sealer.mark(&[b"arrived", id])
    }

    /// Deletes all messages from and to `peer`.
    pub(super) fn delete_messages(&self, peer: &Address) -> Result<()> {
        for message in all(self, "SELECT id, state, body FROM messages")? {
            if message.peer == *peer {
                self.transaction
                    .execute("DELETE FROM messages WHERE id = ?1", params![message.id])?;
            }
        }
        Ok(())
    }

    /// The next number of a note for `peer`.
    pub(super) fn next_number(&self, peer: &Address) -> Result<u64> {
        let mut number = 0;
        self.change_conversation(peer, |c: &mut Conversation| {
            c.sent = c.sent.saturating_add(1);
            number = c.sent;
        })?;
        Ok(number)
    }
}

/// Appends a message.
pub(super) fn insert(tx: &Tx<'_>, state: i64, message: &Message) -> Result<i64> {
    tx.insert(
        "INSERT INTO messages (state, body) VALUES (?1, zeroblob(0))",
        params![state],
        BODY,
        &row(message),
    )
}

/// Stores a message that is there.
pub(super) fn put(tx: &Tx<'_>, message: &Message) -> Result<()> {
    tx.put(message.id, BODY, &row(message))
}

fn row(message: &Message) -> Row<'_> {
    Row {
        direction: message.direction,
        peer: message.peer.clone(),
        message_id: message.message_id,
        sent_at: message.sent_at,
        received_at: message.received_at,
        stored_at: message.stored_at,
        missing: message.missing,
        verified: message.verified,
        content: message.content,
        number: message.number,
        session: message.session,
        identity: message.identity,
        what: message.what,
        text: &message.text,
    }
}

pub(super) fn all(tx: &Tx<'_>, sql: &str) -> Result<Vec<Message>> {
    let mut statement = tx.transaction.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, i64, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    rows.into_iter()
        .map(|(id, state, sealed)| open(tx, id, state, &sealed))
        .collect()
}

/// A message that is still to be shown, of a row with id, state and body.
fn unshown(tx: &Tx<'_>, row: &rusqlite::Row<'_>) -> Result<(Message, Shown)> {
    let (id, state, sealed): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let shown = if state == 1 {
        Shown::Perhaps
    } else {
        Shown::New
    };
    Ok((open(tx, id, state, &sealed)?, shown))
}

fn open(tx: &Tx<'_>, id: i64, state: i64, sealed: &[u8]) -> Result<Message> {
    let body = tx.open(id, BODY, sealed)?;
    let row: Row<'_> = tx.open_body(&body)?;
    let known = row.content != Bytes([0; 16]);
    Ok(Message {
        id,
        direction: row.direction,
        peer: row.peer,
        message_id: row.message_id,
        sent_at: row.sent_at,
        received_at: row.received_at,
        stored_at: row.stored_at,
        missing: row.missing,
        verified: row.verified,
        content: row.content,
        number: row.number,
        session: row.session,
        identity: row.identity,
        what: row.what,
        sent: match state {
            CONFIRMED if known => Some(Sent::Confirmed),
            UNCONFIRMED | KEPT => Some(Sent::Unconfirmed),
            NEVER => Some(Sent::Never),
            _ => None,
        },
        text: Zeroizing::new(row.text.into()),
    })
}

/// Days since 1970.
fn day(ms: u64) -> u32 {
    u32::try_from(ms / 86_400_000).unwrap_or(u32::MAX)
}
