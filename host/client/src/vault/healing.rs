//! What healing needs to remember of each conversation (SPEC section 9.8).
//!
//! ```text
//!  sealed         which frame carried what: answers an `Unreadable`          45 days
//!  unopened       frames that did not open: asked about until answered       256 for each contact
//!  receipts       contents that arrived and are not confirmed yet
//!  conversations  numbers of notes, renewals, what the peer has answered
//! ```
//!
//! Rows are found by keyed marks or read whole: a thief sees how many there are, not whose.

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::content::{ContentId, MAX_IDS};
use hostchat_core::wire::{Address, Bytes, IdentityClaim, MessageId, SessionId};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Column, Tx, Vault};
use crate::error::Result;
use crate::model::IdentityTag;

const SEALED: Column = Column {
    table: "sealed",
    column: "body",
};
const UNOPENED: Column = Column {
    table: "unopened",
    column: "body",
};
const RECEIPTS: Column = Column {
    table: "receipts",
    column: "body",
};
const CONVERSATION: Column = Column {
    table: "conversations",
    column: "body",
};

/// How long a content waits for its receipt, and ids are remembered, in milliseconds: 45 days. A relay delivers for 30, and
/// the question comes after.
pub const KEEP_MS: u64 = 45 * 24 * 3600 * 1000;
/// Most frames of one contact that are asked about; beyond that everything unconfirmed is asked for.
const MAX_UNOPENED: usize = 256;
/// Most gaps in a contact's numbers that are remembered; the oldest goes first.
const MAX_GAPS: usize = 32;

/// Gives the tag of an identity.
pub fn identity_tag(identity: &IdentityClaim) -> IdentityTag {
    let hash = sha256(&[&identity.sign.0, &identity.dh.0]);
    let mut tag = [0; 16];
    tag.copy_from_slice(hash.first_chunk::<16>().unwrap_or(&[0; 16]));
    Bytes(tag)
}

/// What a frame carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time, and the type bounds the list"
)]
pub enum Carried {
    /// A note, and receipts.
    Note {
        /// Its id.
        content: ContentId,
        /// The receipts.
        delivered: heapless::Vec<ContentId, 16>,
    },
    /// Receipts alone.
    Receipts {
        /// Which.
        ids: heapless::Vec<ContentId, MAX_IDS>,
    },
    /// Nothing that people see.
    Nothing,
}

/// A frame that this end sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFrame {
    /// For whom.
    pub identity: IdentityTag,
    /// By our clock, milliseconds since 1970.
    pub at: u64,
    /// What was inside.
    pub carried: Carried,
}

/// A frame that did not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unopened {
    /// Whom to ask.
    pub peer: Address,
    /// Its id.
    pub message_id: MessageId,
    /// When it was asked about, milliseconds since 1970.
    pub asked_at: Option<u64>,
}

/// What is remembered of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Notes queued so far.
    pub sent: u64,
    /// The highest number of a note that came.
    pub highest: Option<u64>,
    /// Ranges of numbers below it that did not come, first and last.
    pub gaps: heapless::Vec<(u64, u64), MAX_GAPS>,
    /// Numbers that were missing when the user was told last.
    pub told_missing: u64,
    /// The last session in which the peer is known to have answered.
    pub answered: Option<SessionId>,
    /// Sessions begun since the peer answered last.
    pub renewals: u8,
    /// When the last one was begun, milliseconds since 1970.
    pub renewed_at: u64,
    /// One of these sessions used no one-time prekey.
    pub renewed_alone: bool,
    /// A first message of the peer was refused for its prekey.
    pub refused_first: bool,
    /// More frames did not open than could be kept.
    pub overflow: bool,
    /// A new session has to be begun: the keys went back in time.
    pub renew: bool,
    /// When the user was last told of frames of which the peer knows nothing, milliseconds since 1970.
    pub unknown_at: u64,
    /// When everything unconfirmed was sealed again for an overflow of the peer, milliseconds since 1970.
    pub all_at: u64,
}

impl Conversation {
    /// Counts the notes that have not come.
    pub fn missing(&self) -> u64 {
        self.gaps.iter().fold(0u64, |sum, (first, last)| {
            sum.saturating_add(last.saturating_sub(*first).saturating_add(1))
        })
    }

    /// Takes the number of a note that has come.
    pub fn arrived(&mut self, number: u64) {
        match self.highest {
            Some(highest) if number <= highest => self.close(number),
            Some(highest) => {
                if number - highest > 1 {
                    if self.gaps.is_full() {
                        self.gaps.remove(0);
                    }
                    let _ = self.gaps.push((highest + 1, number - 1));
                }
                self.highest = Some(number);
            }
            None => self.highest = Some(number),
        }
    }

    fn close(&mut self, number: u64) {
        let Some(at) = self
            .gaps
            .iter()
            .position(|(first, last)| (*first..=*last).contains(&number))
        else {
            return;
        };
        let (first, last) = self.gaps.remove(at);
        // A full list loses a gap; the user is told of fewer.
        if number < last {
            let _ = self.gaps.insert(at, (number + 1, last));
        }
        if first < number {
            let _ = self.gaps.insert(at, (first, number - 1));
        }
    }
}

impl Vault {
    /// What is remembered of the conversation with `peer`.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn conversation(&mut self, peer: &Address) -> Result<Conversation> {
        self.read(|tx| tx.conversation(peer))
    }

    /// Changes what is remembered of the conversation with `peer`.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn change_conversation(
        &mut self,
        peer: &Address,
        change: impl FnOnce(&mut Conversation),
    ) -> Result<()> {
        self.write(|tx| tx.change_conversation(peer, change))
    }

    /// Puts a frame that did not open on the list of its contact, durably: then it may be acknowledged.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn note_unopened(
        &mut self,
        peer: &Address,
        message_id: MessageId,
        refused_first: bool,
    ) -> Result<()> {
        self.write(|tx| {
            if refused_first {
                tx.change_conversation(peer, |c| c.refused_first = true)?;
            }
            let kept = tx.unopened()?;
            let of_peer = kept.iter().filter(|(_, row)| row.peer == *peer);
            if of_peer.clone().any(|(_, row)| row.message_id == message_id) {
                return Ok(());
            }
            if of_peer.count() >= MAX_UNOPENED {
                return tx.change_conversation(peer, |c| c.overflow = true);
            }
            let row = Unopened {
                peer: peer.clone(),
                message_id,
                asked_at: None,
            };
            tx.insert(
                "INSERT INTO unopened (body) VALUES (zeroblob(0))",
                [],
                UNOPENED,
                &row,
            )
            .map(drop)
        })
    }

    /// Drops the questions to a contact: its identity has changed, and the new one is not asked about frames of the old one.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn drop_questions(&mut self, peer: &Address) -> Result<()> {
        self.write(|tx| {
            tx.change_conversation(peer, |c| c.overflow = false)?;
            tx.drop_unopened(|row| row.peer == *peer)
        })
    }

    /// Frames that did not open and are not explained yet, the oldest first.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn unopened(&mut self) -> Result<Vec<Unopened>> {
        self.read(|tx| Ok(tx.unopened()?.into_iter().map(|(_, row)| row).collect()))
    }

    /// Has a new session begun with every contact, after the keys went back in time.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn renew_all(&mut self) -> Result<()> {
        let contacts = self.contacts()?;
        self.write(|tx| {
            for contact in contacts.iter().filter(|c| c.identity.is_some()) {
                tx.change_conversation(&contact.address, |c| c.renew = true)?;
            }
            tx.change_generations(|g| g.renewing = true)
        })
    }

    /// Contacts with whom a new session has to be begun.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn renewals_due(&mut self) -> Result<Vec<Address>> {
        if !self.generations()?.is_some_and(|g| g.renewing) {
            return Ok(Vec::new());
        }
        let contacts = self.contacts()?;
        self.write(|tx| {
            let mut due = Vec::new();
            for contact in contacts {
                if tx.conversation(&contact.address)?.renew {
                    due.push(contact.address);
                }
            }
            if due.is_empty() {
                tx.change_generations(|g| g.renewing = false)?;
            }
            Ok(due)
        })
    }

    /// Times that lie in the future count as now: a clock that was wrong must not stop questions and renewals.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn mend_times(&mut self, peer: &Address, now: u64) -> Result<()> {
        self.write(|tx| {
            tx.change_conversation(peer, |c| c.renewed_at = c.renewed_at.min(now))?;
            for (id, mut row) in tx.unopened()? {
                if row.peer == *peer && row.asked_at.is_some_and(|at| at > now) {
                    row.asked_at = Some(now);
                    tx.put(id, UNOPENED, &row)?;
                }
            }
            Ok(())
        })
    }

    /// What a frame carried that this end sealed; `None` if it is not known.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn sealed_frame(&mut self, id: &MessageId) -> Result<Option<SealedFrame>> {
        self.read(|tx| tx.sealed_frame(id))
    }

    /// Forgets frames that were sealed long ago.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn prune_sealed(&mut self) -> Result<()> {
        let now = self.settled_now();
        self.write(|tx| {
            let mut statement = tx
                .transaction
                .prepare_cached("SELECT mark, body FROM sealed")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<([u8; 16], Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
            for (mark, sealed) in rows {
                let body = tx.open(row_of(&mark), SEALED, &sealed)?;
                let frame: SealedFrame = tx.open_body(&body)?;
                if frame.at.saturating_add(KEEP_MS) < now {
                    tx.transaction
                        .execute("DELETE FROM sealed WHERE mark = ?1", params![mark])?;
                }
            }
            Ok(())
        })
    }

    /// Contacts that wait for a receipt of ours.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn receipts_due(&mut self) -> Result<Vec<Address>> {
        self.read(|tx| {
            let mut peers: Vec<Address> = tx
                .receipts()?
                .into_iter()
                .map(|(_, row)| row.peer)
                .collect();
            peers.sort();
            peers.dedup();
            Ok(peers)
        })
    }

    /// Contents of `peer` that have arrived and are not confirmed yet, at most `most`.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn receipts_for(&mut self, peer: &Address, most: usize) -> Result<Vec<ContentId>> {
        self.read(|tx| tx.waiting_receipts(peer, most))
    }
}

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
pub(super) struct ReceiptRow {
    peer: Address,
    content: ContentId,
}

impl Tx<'_> {
    pub(super) fn conversation(&self, peer: &Address) -> Result<Conversation> {
        let mark = self.conversation_mark(peer);
        let sealed: Option<Vec<u8>> = self
            .transaction
            .prepare_cached("SELECT body FROM conversations WHERE mark = ?1")?
            .query_row(params![mark], |row| row.get(0))
            .optional()?;
        let Some(sealed) = sealed else {
            return Ok(Conversation::default());
        };
        let body = self.open(row_of(&mark), CONVERSATION, &sealed)?;
        self.open_body(&body)
    }

    pub(super) fn change_conversation(
        &self,
        peer: &Address,
        change: impl FnOnce(&mut Conversation),
    ) -> Result<()> {
        let mut conversation = self.conversation(peer)?;
        let before = conversation.clone();
        change(&mut conversation);
        if conversation == before {
            return Ok(());
        }
        let mark = self.conversation_mark(peer);
        let sealed = self.seal_body(row_of(&mark), CONVERSATION, &conversation)?;
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO conversations (mark, body) VALUES (?1, ?2)")?
            .execute(params![mark, sealed])?;
        Ok(())
    }

    /// Forgets all that healing remembers of a contact but what was sealed for it.
    pub(super) fn delete_conversation(&self, peer: &Address) -> Result<()> {
        let mark = self.conversation_mark(peer);
        self.transaction
            .execute("DELETE FROM conversations WHERE mark = ?1", params![mark])?;
        self.drop_unopened(|row| row.peer == *peer)?;
        self.drop_receipts(peer, None)
    }

    fn conversation_mark(&self, peer: &Address) -> [u8; 16] {
        self.sealer
            .mark(&[b"conversation", peer.as_str().as_bytes()])
    }

    pub(super) fn unopened(&self) -> Result<Vec<(i64, Unopened)>> {
        self.bodies("SELECT id, body FROM unopened ORDER BY id", UNOPENED)
    }

    /// Drops frames from the list of what did not open.
    pub(super) fn drop_unopened(&self, which: impl Fn(&Unopened) -> bool) -> Result<()> {
        for (id, row) in self.unopened()? {
            if which(&row) {
                self.transaction
                    .execute("DELETE FROM unopened WHERE id = ?1", params![id])?;
            }
        }
        Ok(())
    }

    /// Notes when the frames of a contact were asked about.
    pub(super) fn set_asked(
        &self,
        peer: &Address,
        asked_at: Option<u64>,
        which: impl Fn(&MessageId) -> bool,
    ) -> Result<()> {
        for (id, mut row) in self.unopened()? {
            if row.peer == *peer && which(&row.message_id) {
                row.asked_at = asked_at;
                self.put(id, UNOPENED, &row)?;
            }
        }
        Ok(())
    }

    pub(super) fn remember_sealed(&self, id: &MessageId, frame: &SealedFrame) -> Result<()> {
        let mark = self.sealed_mark(id);
        let sealed = self.seal_body(row_of(&mark), SEALED, frame)?;
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO sealed (mark, body) VALUES (?1, ?2)")?
            .execute(params![mark, sealed])?;
        Ok(())
    }

    pub(super) fn sealed_frame(&self, id: &MessageId) -> Result<Option<SealedFrame>> {
        let mark = self.sealed_mark(id);
        let sealed: Option<Vec<u8>> = self
            .transaction
            .prepare_cached("SELECT body FROM sealed WHERE mark = ?1")?
            .query_row(params![mark], |row| row.get(0))
            .optional()?;
        sealed
            .map(|sealed| {
                let body = self.open(row_of(&mark), SEALED, &sealed)?;
                self.open_body(&body)
            })
            .transpose()
    }

    fn sealed_mark(&self, id: &MessageId) -> [u8; 16] {
        self.sealer.mark(&[b"sealed", &id.0])
    }

    fn receipts(&self) -> Result<Vec<(i64, ReceiptRow)>> {
        self.bodies("SELECT id, body FROM receipts ORDER BY id", RECEIPTS)
    }

    pub(super) fn waiting_receipts(&self, peer: &Address, most: usize) -> Result<Vec<ContentId>> {
        let rows = self.receipts()?.into_iter();
        let of_peer = rows.filter(|(_, row)| row.peer == *peer);
        Ok(of_peer.map(|(_, row)| row.content).take(most).collect())
    }

    /// Queues the receipt of a content, once.
    pub(super) fn add_receipt(&self, peer: &Address, content: ContentId) -> Result<()> {
        let known = self
            .receipts()?
            .iter()
            .any(|(_, row)| row.peer == *peer && row.content == content);
        if known {
            return Ok(());
        }
        let row = ReceiptRow {
            peer: peer.clone(),
            content,
        };
        self.insert(
            "INSERT INTO receipts (body) VALUES (zeroblob(0))",
            [],
            RECEIPTS,
            &row,
        )
        .map(drop)
    }

    /// Takes receipts off the queue: those of `ids`, or all of the contact.
    pub(super) fn drop_receipts(&self, peer: &Address, ids: Option<&[ContentId]>) -> Result<()> {
        for (id, row) in self.receipts()? {
            if row.peer == *peer && ids.is_none_or(|ids| ids.contains(&row.content)) {
                self.transaction
                    .execute("DELETE FROM receipts WHERE id = ?1", params![id])?;
            }
        }
        Ok(())
    }

    /// All rows of a table with sealed bodies.
    pub(super) fn bodies<T>(&self, sql: &str, place: Column) -> Result<Vec<(i64, T)>>
    where
        T: Serialize + for<'a> Deserialize<'a>,
    {
        self.rows(sql, [])?
            .into_iter()
            .map(|(id, sealed)| {
                let body = self.open(id, place, &sealed)?;
                Ok((id, self.open_body(&body)?))
            })
            .collect()
    }
}

/// The row number that a value of a table without row numbers is sealed for: the front of its key.
pub(super) fn row_of(mark: &[u8; 16]) -> i64 {
    i64::from_be_bytes(*mark.first_chunk::<8>().unwrap_or(&[0; 8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u64]) -> Conversation {
        let mut conversation = Conversation::default();
        numbers.iter().for_each(|n| conversation.arrived(*n));
        conversation
    }

    #[test]
    fn what_is_missing_is_what_lies_between_and_has_not_come() {
        assert_eq!(after(&[1, 2, 3]).missing(), 0);
        assert_eq!(after(&[1, 5]).missing(), 3);
        assert_eq!(after(&[1, 5, 3]).gaps.as_slice(), [(2, 2), (4, 4)]);
        assert_eq!(after(&[1, 5, 3, 2, 4]).missing(), 0);
        assert_eq!(
            after(&[7, 8]).missing(),
            0,
            "the first one says where it begins"
        );
        assert_eq!(after(&[5, 4, 5, 6]).missing(), 0, "numbers went back");
    }

    #[test]
    fn a_contact_cannot_claim_what_overflows() {
        let mut conversation = after(&[1, u64::MAX, 0, u64::MAX - 1]);
        assert!(conversation.missing() > 0);
        for n in (0..200).map(|n| n * 3) {
            conversation.arrived(n);
        }
        let mut many = Conversation::default();
        (0..200).for_each(|n| many.arrived(n * 3));
        assert_eq!(many.gaps.len(), MAX_GAPS);
        (0..600).for_each(|n| many.arrived(n));
        assert_eq!(many.missing(), 0);
    }
}
