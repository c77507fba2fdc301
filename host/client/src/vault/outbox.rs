//! The outbox: what is still to go out, in order.
//!
//! ```text
//!  queue ─▶ (token seals) ─▶ store_envelope ─▶ (relay: stored) ─▶ sent: row gone, message unconfirmed
//! ```
//!
//! Invariant: content is on disk before the token seals it, and the sealed envelope before it is sent. A crash in
//! between seals or sends again; the relay drops the repeat by its message id, the receiver by its content id.

use hostchat_core::wire::content::{ContentId, MAX_IDS};
use hostchat_core::wire::{Address, Bytes, Envelope, Frame, MessageId, Quiet, SessionId, codec};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::healing::SealedFrame;
use super::messages::{self};
use super::payload::{Payload, RowPayload};
use super::{Column, Tx, Vault};
use crate::error::Result;
use crate::model::{Direction, IdentityTag, Message, Sent, What};

pub(super) const BODY: Column = Column {
    table: "outbox",
    column: "body",
};
const ENVELOPE: Column = Column {
    table: "outbox",
    column: "envelope",
};

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

impl Outgoing {
    /// Whether it is a text, which `hostchat outbox` lists; the rest is the program's own.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.payload, Payload::Note { .. })
    }

    /// Whether it leaves only to somebody verified.
    #[must_use]
    pub fn wants_code(&self) -> bool {
        matches!(
            self.payload,
            Payload::Note {
                with_code: true,
                ..
            }
        )
    }

    /// The session in which it is sealed.
    pub fn session(&self) -> Option<SessionId> {
        let (_, envelope) = self.sealed.as_ref()?;
        session_of(envelope)
    }
}

/// The session whose frame is in an envelope.
fn session_of(envelope: &[u8]) -> Option<SessionId> {
    let envelope = codec::decode::<Envelope<'_>>(envelope).ok()?;
    let frame = Frame::parse(envelope.frame()?).ok()?;
    Some(frame.header.session)
}

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
pub(super) struct Row<'a> {
    to: Address,
    message_id: Option<MessageId>,
    #[serde(borrow)]
    payload: RowPayload<'a>,
}

impl Outgoing {
    pub(super) fn row(&self) -> Row<'_> {
        Row {
            to: self.to.clone(),
            message_id: self.sealed.as_ref().map(|(id, _)| *id),
            payload: RowPayload::from(&self.payload),
        }
    }
}

/// Stores a row that was read in format 1.
pub(super) fn put_row(
    tx: &Tx<'_>,
    id: i64,
    to: Address,
    message_id: Option<MessageId>,
    payload: RowPayload<'_>,
) -> Result<()> {
    let row = Row {
        to,
        message_id,
        payload,
    };
    tx.put(id, BODY, &row)
}

impl Vault {
    /// Puts a text at the end of the outbox, and gives it the next number of the conversation. With `with_code` it leaves
    /// only to somebody verified.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn queue_note(
        &mut self,
        to: &Address,
        id: ContentId,
        sent_at: u64,
        text: &str,
        with_code: bool,
    ) -> Result<i64> {
        self.write(|tx| {
            let payload = Payload::Note {
                id,
                sent_at,
                number: tx.next_number(to)?,
                delivered: heapless::Vec::new(),
                again: false,
                with_code,
                text: Zeroizing::new(text.to_owned()),
            };
            tx.queue(to, payload)
        })
    }

    /// Queues the receipts that wait for a contact as a message of their own, before everything else that waits for it.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn queue_receipts(&mut self, to: &Address) -> Result<()> {
        self.write(|tx| {
            let ids = tx.waiting_receipts(to, MAX_IDS)?;
            if ids.is_empty() {
                return Ok(());
            }
            let receipts = Quiet::Receipts {
                state: hostchat_core::wire::content::Receipt::Delivered,
                ids: ids.iter().copied().collect(),
            };
            tx.drop_receipts(to, Some(&ids))?;
            tx.queue(to, Payload::quiet(&receipts)?).map(drop)
        })
    }

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
            store_envelope(tx, &mut entry, message_id, envelope, None)?;
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

    /// Lets the texts that wait for a contact, and never left, leave only to somebody verified.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn bind_texts(&mut self, to: &Address) -> Result<()> {
        self.write(|tx| {
            for mut entry in all(tx)?.into_iter().filter(|entry| entry.to == *to) {
                if let Payload::Note {
                    with_code,
                    again: false,
                    ..
                } = &mut entry.payload
                    && !std::mem::replace(with_code, true)
                {
                    tx.put(entry.id, BODY, &entry.row())?;
                }
            }
            Ok(())
        })
    }

    /// Keeps the sealed form of an entry, takes the receipts that left inside off their queue, and remembers what the frame
    /// carries: the receiver may ask.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn store_envelope(
        &mut self,
        entry: &mut Outgoing,
        id: MessageId,
        envelope: Vec<u8>,
        identity: IdentityTag,
        now: u64,
    ) -> Result<()> {
        self.write(|tx| store_envelope(tx, entry, id, envelope, Some((identity, now))))
    }

    /// Takes an entry out that the relay has stored. A text stays until a receipt names it: in the history, or without
    /// `history` only until then.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn sent(
        &mut self,
        entry: &Outgoing,
        identity: Option<IdentityTag>,
        history: bool,
        now: u64,
    ) -> Result<()> {
        self.write(|tx| {
            tx.transaction
                .execute("DELETE FROM outbox WHERE id = ?1", params![entry.id])?;
            let id = entry.sealed.as_ref().map_or(Bytes([0; 16]), |(id, _)| *id);
            match &entry.payload {
                Payload::Note {
                    id: content,
                    again: true,
                    ..
                } => tx
                    .sealed_again(&entry.to, *content, id, entry.session())
                    .map(drop),
                Payload::Note { again: false, .. } => {
                    let mut message = as_message(entry, identity, now);
                    message.verified = tx.is_verified(&entry.to)?;
                    let state = if history {
                        messages::UNCONFIRMED
                    } else {
                        messages::KEPT
                    };
                    messages::insert(tx, state, &message).map(drop)
                }
                _ => Ok(()),
            }
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
            all(tx)?
                .into_iter()
                .filter(|entry| entry.to == *to)
                .try_for_each(|entry| unseal(tx, entry))
        })
    }

    /// As [`Self::reseal_outgoing`], for what is sealed in another session than this one.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn reseal_other(&mut self, to: &Address, session: SessionId) -> Result<()> {
        self.write(|tx| {
            all(tx)?
                .into_iter()
                .filter(|entry| entry.to == *to && entry.session().is_some_and(|s| s != session))
                .try_for_each(|entry| unseal(tx, entry))
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
        let waits = |e: &Outgoing| e.to == *to && !matches!(e.payload, Payload::PairAnswer { .. });
        Ok(all(self)?.iter().any(waits) || !self.waiting_receipts(to, 1)?.is_empty())
    }

    /// Forgets the sealed form of a text that waits: its receiver cannot open it.
    pub(super) fn reseal_content(&self, peer: &Address, content: ContentId) -> Result<()> {
        for entry in all(self)? {
            let is_it = matches!(&entry.payload, Payload::Note { id, .. } if *id == content);
            if entry.to == *peer && is_it {
                unseal(self, entry)?;
            }
        }
        Ok(())
    }

    /// Contents that the outbox holds again.
    pub(super) fn queued_contents(&self) -> Result<Vec<(Address, ContentId)>> {
        Ok(all(self)?
            .into_iter()
            .filter_map(|entry| match entry.payload {
                Payload::Note { id, .. } => Some((entry.to, id)),
                _ => None,
            })
            .collect())
    }

    /// A receipt came for what the outbox still holds: it need not leave (again).
    pub(super) fn confirm_queued(
        &self,
        peer: &Address,
        identity: &IdentityTag,
        ids: &[ContentId],
        history: bool,
    ) -> Result<()> {
        for entry in all(self)?.iter().filter(|entry| entry.to == *peer) {
            let Payload::Note { id, again, .. } = &entry.payload else {
                continue;
            };
            let mine = |frame: SealedFrame| frame.identity == *identity;
            let sealed_for_it = match &entry.sealed {
                Some((message_id, _)) => self.sealed_frame(message_id)?.is_some_and(mine),
                // It was sealed and stored before, and is sealed again now: only a sent text can have a receipt.
                None => *again,
            };
            if !ids.contains(id) || !sealed_for_it {
                continue;
            }
            self.remember_receipt(peer, *id)?;
            self.transaction
                .execute("DELETE FROM outbox WHERE id = ?1", params![entry.id])?;
            if history && !again {
                let mut message = as_message(entry, Some(*identity), self.now());
                message.sent = Some(Sent::Confirmed);
                messages::insert(self, messages::CONFIRMED, &message)?;
            }
        }
        Ok(())
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

/// Forgets the sealed form of an entry.
fn unseal(tx: &Tx<'_>, mut entry: Outgoing) -> Result<()> {
    if entry.sealed.is_none() || matches!(entry.payload, Payload::PairAnswer { .. }) {
        return Ok(());
    }
    entry.sealed = None;
    tx.put(entry.id, BODY, &entry.row())?;
    tx.transaction.execute(
        "UPDATE outbox SET envelope = NULL WHERE id = ?1",
        params![entry.id],
    )?;
    Ok(())
}

fn store_envelope(
    tx: &Tx<'_>,
    entry: &mut Outgoing,
    id: MessageId,
    envelope: Vec<u8>,
    sealed: Option<(IdentityTag, u64)>,
) -> Result<()> {
    if let Some((identity, at)) = sealed {
        if let Payload::Note { delivered, .. } = &entry.payload {
            tx.drop_receipts(&entry.to, Some(delivered))?;
        }
        let frame = SealedFrame {
            identity,
            at,
            carried: entry.payload.carried(),
        };
        tx.remember_sealed(&id, &frame)?;
    }
    tx.put_bytes(entry.id, ENVELOPE, &envelope)?;
    entry.sealed = Some((id, envelope));
    tx.put(entry.id, BODY, &entry.row())
}

/// A text of the outbox as a message.
fn as_message(entry: &Outgoing, identity: Option<IdentityTag>, now: u64) -> Message {
    let (content, sent_at, number, text) = match &entry.payload {
        Payload::Note {
            id,
            sent_at,
            number,
            text,
            ..
        } => (*id, *sent_at, *number, text.clone()),
        _ => (Bytes([0; 16]), now, 0, Zeroizing::default()),
    };
    Message {
        id: 0,
        direction: Direction::Out,
        peer: entry.to.clone(),
        message_id: entry.sealed.as_ref().map_or(Bytes([0; 16]), |(id, _)| *id),
        sent_at,
        received_at: sent_at,
        stored_at: now,
        missing: 0,
        verified: false,
        content,
        number,
        session: entry.session(),
        identity,
        what: What::Text,
        sent: Some(Sent::Unconfirmed),
        text,
    }
}

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Outgoing>> {
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
            let payload = Payload::from(row.payload);
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
