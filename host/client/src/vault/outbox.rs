//! The outbox: what is still to go out, in order.
//!
//! ```text
//!  queue ─▶ (token seals) ─▶ store_envelope ─▶ (relay: stored) ─▶ sent: row gone, history written
//! ```
//!
//! Invariant: content is on disk before the token seals it, and the sealed envelope before it is sent. A crash in
//! between seals or sends again; the relay drops the repeat by its message id, the receiver by its content id.

use hostchat_core::wire::{Address, Bytes, MessageId};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::messages::{self, Direction};
use super::{Column, Tx, Vault};
use crate::error::Result;

const BODY: Column = Column {
    table: "outbox",
    column: "body",
};
const ENVELOPE: Column = Column {
    table: "outbox",
    column: "envelope",
};

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A text that the user sent.
    Text {
        /// Drawn once; see `Content::Text`.
        id: Bytes<16>,
        /// The user's clock, milliseconds since 1970.
        sent_at: u64,
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
}

/// An entry of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its place in the order.
    pub id: i64,
    /// For whom.
    pub to: Address,
    /// What.
    pub payload: Payload,
    /// Message id and envelope, once sealed.
    pub sealed: Option<(MessageId, Vec<u8>)>,
}

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    to: Address,
    message_id: Option<MessageId>,
    #[serde(borrow)]
    payload: RowPayload<'a>,
}

#[derive(Serialize, Deserialize)]
enum RowPayload<'a> {
    Text {
        id: Bytes<16>,
        sent_at: u64,
        text: &'a str,
    },
    Empty,
    PairAnswer {
        made_at: u64,
    },
    SessionEnded,
}

impl Outgoing {
    fn row(&self) -> Row<'_> {
        let payload = match &self.payload {
            Payload::Text { id, sent_at, text } => RowPayload::Text {
                id: *id,
                sent_at: *sent_at,
                text,
            },
            Payload::Empty => RowPayload::Empty,
            Payload::SessionEnded => RowPayload::SessionEnded,
            Payload::PairAnswer { made_at } => RowPayload::PairAnswer { made_at: *made_at },
        };
        Row {
            to: self.to.clone(),
            message_id: self.sealed.as_ref().map(|(id, _)| *id),
            payload,
        }
    }
}

impl Vault {
    /// Puts content at the end of the outbox.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn queue(&mut self, to: &Address, payload: Payload) -> Result<i64> {
        self.write(|tx| tx.queue(to, payload))
    }

    /// Puts an envelope that is sealed already at the end of the outbox.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn queue_sealed(
        &mut self,
        to: &Address,
        payload: Payload,
        message_id: MessageId,
        envelope: Vec<u8>,
    ) -> Result<Outgoing> {
        self.write(|tx| {
            let id = tx.queue(to, payload.clone())?;
            let mut entry = Outgoing {
                id,
                to: to.clone(),
                payload,
                sealed: None,
            };
            store_envelope(tx, &mut entry, message_id, envelope)?;
            Ok(entry)
        })
    }

    /// All entries, the oldest first.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn outbox(&mut self) -> Result<Vec<Outgoing>> {
        self.read(all)
    }

    /// Keeps the sealed form of an entry.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn store_envelope(
        &mut self,
        entry: &mut Outgoing,
        id: MessageId,
        envelope: Vec<u8>,
    ) -> Result<()> {
        self.write(|tx| store_envelope(tx, entry, id, envelope))
    }

    /// Takes an entry out that the relay has stored, and writes history if it is wanted.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn sent(&mut self, entry: &Outgoing, history: bool) -> Result<()> {
        self.write(|tx| {
            tx.transaction
                .execute("DELETE FROM outbox WHERE id = ?1", params![entry.id])?;
            if let (Payload::Text { sent_at, text, .. }, true) = (&entry.payload, history) {
                let id = entry.sealed.as_ref().map_or(Bytes([0; 16]), |(id, _)| *id);
                messages::insert(
                    tx,
                    3,
                    Direction::Out,
                    &entry.to,
                    id,
                    *sent_at,
                    *sent_at,
                    0,
                    false,
                    text,
                )?;
            }
            Ok(())
        })
    }

    /// Takes an entry out that is of no use any more.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn drop_outgoing(&mut self, row: i64) -> Result<()> {
        self.write(|tx| {
            tx.transaction
                .execute("DELETE FROM outbox WHERE id = ?1", params![row])?;
            Ok(())
        })
    }

    /// Forgets the sealed form of what waits for a contact: it has a new session and is sealed again.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn reseal_outgoing(&mut self, to: &Address) -> Result<()> {
        self.write(|tx| {
            for mut entry in all(tx)?.into_iter().filter(|e| e.to == *to) {
                if entry.sealed.is_some() && !matches!(entry.payload, Payload::PairAnswer { .. }) {
                    entry.sealed = None;
                    tx.put(entry.id, BODY, &entry.row())?;
                    tx.transaction.execute(
                        "UPDATE outbox SET envelope = NULL WHERE id = ?1",
                        params![entry.id],
                    )?;
                }
            }
            Ok(())
        })
    }
}

impl Tx<'_> {
    /// Puts content at the end of the outbox.
    pub(super) fn queue(&self, to: &Address, payload: Payload) -> Result<i64> {
        let entry = Outgoing {
            id: 0,
            to: to.clone(),
            payload,
            sealed: None,
        };
        self.insert(
            "INSERT INTO outbox (body) VALUES (zeroblob(0))",
            [],
            BODY,
            &entry.row(),
        )
    }

    /// Whether anything that will be sealed for `to` waits.
    pub(super) fn has_outgoing(&self, to: &Address) -> Result<bool> {
        Ok(all(self)?
            .iter()
            .any(|e| e.to == *to && !matches!(e.payload, Payload::PairAnswer { .. })))
    }

    /// Deletes all that waits for `to`.
    pub(super) fn delete_outgoing(&self, to: &Address) -> Result<()> {
        for entry in all(self)?.iter().filter(|e| e.to == *to) {
            self.transaction
                .execute("DELETE FROM outbox WHERE id = ?1", params![entry.id])?;
        }
        Ok(())
    }
}

fn store_envelope(
    tx: &Tx<'_>,
    entry: &mut Outgoing,
    id: MessageId,
    envelope: Vec<u8>,
) -> Result<()> {
    tx.put_bytes(entry.id, ENVELOPE, &envelope)?;
    entry.sealed = Some((id, envelope));
    tx.put(entry.id, BODY, &entry.row())
}

fn all(tx: &Tx<'_>) -> Result<Vec<Outgoing>> {
    type Row3 = (i64, Vec<u8>, Option<Vec<u8>>);

    let mut statement = tx
        .transaction
        .prepare_cached("SELECT id, body, envelope FROM outbox ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<Row3> = rows.collect::<rusqlite::Result<_>>()?;
    rows.into_iter()
        .map(|(id, sealed, envelope)| {
            let body = tx.open(id, BODY, &sealed)?;
            let row: Row<'_> = tx.open_body(&body)?;
            let payload = match row.payload {
                RowPayload::Text { id, sent_at, text } => Payload::Text {
                    id,
                    sent_at,
                    text: Zeroizing::new(text.to_owned()),
                },
                RowPayload::Empty => Payload::Empty,
                RowPayload::SessionEnded => Payload::SessionEnded,
                RowPayload::PairAnswer { made_at } => Payload::PairAnswer { made_at },
            };
            let sealed = match (row.message_id, envelope) {
                (Some(message_id), Some(sealed)) => {
                    Some((message_id, tx.open(id, ENVELOPE, &sealed)?.to_vec()))
                }
                _ => None,
            };
            Ok(Outgoing {
                id,
                to: row.to,
                payload,
                sealed,
            })
        })
        .collect()
}
