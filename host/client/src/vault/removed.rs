//! Texts that the user takes back: out of the outbox, or off the list of what is sent again.
//!
//! Invariant: nothing else that would have left with a text is lost, and a text that nobody can have got leaves no gap in the
//! numbers by which its receiver counts what is missing.

use hostchat_core::wire::Quiet;
use hostchat_core::wire::content::{ContentId, MAX_IDS, Receipt};
use rusqlite::params;

use super::messages::{KEPT, NEVER, UNCONFIRMED};
use super::outbox::{self, BODY, Outgoing};
use super::payload::Payload;
use super::sent::unconfirmed;
use super::{Tx, Vault};
use crate::error::Result;
use crate::model::Removed;

impl Vault {
    /// Removes a text that waits or is not confirmed; `None` if there is none with this id.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn remove_text(&mut self, content: ContentId) -> Result<Option<Removed>> {
        self.write(|tx| {
            let waiting = outbox::all(tx)?;
            let found = waiting
                .iter()
                .find(|entry| matches!(&entry.payload, Payload::Note { id, .. } if *id == content));
            let mut removed = None;
            if let Some(entry) = found {
                tx.transaction
                    .execute("DELETE FROM outbox WHERE id = ?1", params![entry.id])?;
                removed = Some(tx.let_go(entry, &waiting)?);
            }
            for message in unconfirmed(tx)?.iter().filter(|m| m.content == content) {
                tx.give_up(message.id)?;
                removed = Some(Removed::NotAgain);
            }
            Ok(removed)
        })
    }
}

impl Tx<'_> {
    /// Sends a message without a receipt not again.
    pub(super) fn give_up(&self, message: i64) -> Result<()> {
        self.transaction.execute(
            "UPDATE messages SET state = ?2 WHERE id = ?1 AND state = ?3",
            params![message, NEVER, UNCONFIRMED],
        )?;
        self.transaction.execute(
            "DELETE FROM messages WHERE id = ?1 AND state = ?2",
            params![message, KEPT],
        )?;
        Ok(())
    }

    fn let_go(&self, entry: &Outgoing, waiting: &[Outgoing]) -> Result<Removed> {
        let Payload::Note {
            number,
            again,
            delivered,
            ..
        } = &entry.payload
        else {
            return Ok(Removed::NotAgain);
        };
        if !delivered.is_empty() {
            // Receipts were to leave inside.
            let mut ids = heapless::Vec::<ContentId, MAX_IDS>::new();
            let _ = ids.extend_from_slice(delivered);
            let receipts = Quiet::Receipts {
                state: Receipt::Delivered,
                ids,
            };
            self.queue(&entry.to, Payload::quiet(&receipts)?)?;
        }
        if *again || entry.sealed.is_some() {
            return Ok(Removed::NotAgain);
        }
        self.close_gap(entry, *number, waiting)?;
        Ok(Removed::Unsent)
    }

    /// Gives the texts that were queued after `entry` the numbers from its own on, if all of them still can be changed.
    fn close_gap(&self, entry: &Outgoing, number: u64, waiting: &[Outgoing]) -> Result<()> {
        let later: Vec<(&Outgoing, u64)> = waiting
            .iter()
            .filter(|other| other.to == entry.to && other.sealed.is_none())
            .filter_map(|other| match other.payload {
                Payload::Note {
                    number: n,
                    again: false,
                    ..
                } if n > number => Some((other, n)),
                _ => None,
            })
            .collect();
        let sent = self.conversation(&entry.to)?.sent;
        let count = u64::try_from(later.len()).unwrap_or(u64::MAX);
        if sent != number.saturating_add(count) {
            return Ok(());
        }
        for (other, n) in later {
            let mut moved = other.clone();
            if let Payload::Note { number, .. } = &mut moved.payload {
                *number = n - 1;
            }
            self.put(moved.id, BODY, &moved.row())?;
        }
        self.change_conversation(&entry.to, |c| c.sent = sent.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::{Address, Bytes};

    use super::super::tests::{TAG, address, open};
    use super::*;

    /// Queues texts with the ids 1, 2, 3.
    fn three(vault: &mut Vault, to: &Address) {
        for id in 1..=3 {
            vault
                .queue_note(to, Bytes([id; 16]), 7, "text", false)
                .unwrap();
        }
    }

    fn numbers(vault: &mut Vault) -> Vec<(u8, u64)> {
        let entries = vault.outbox().unwrap().into_iter();
        entries
            .filter_map(|entry| match entry.payload {
                Payload::Note { id, number, .. } => Some((id.0[0], number)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_text_that_nobody_can_have_got_leaves_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let (bob, carol) = (address("bob@h:1"), address("carol@h:1"));
        let mut vault = open(&dir);
        three(&mut vault, &bob);
        vault
            .queue_note(&carol, Bytes([9; 16]), 7, "text", false)
            .unwrap();
        let removed = vault.remove_text(Bytes([2; 16])).unwrap();
        assert_eq!(removed, Some(Removed::Unsent));
        assert_eq!(numbers(&mut vault), [(1, 1), (3, 2), (9, 1)]);
        assert_eq!(vault.remove_text(Bytes([2; 16])).unwrap(), None);
        vault
            .queue_note(&bob, Bytes([4; 16]), 7, "text", false)
            .unwrap();
        assert_eq!(numbers(&mut vault), [(1, 1), (3, 2), (9, 1), (4, 3)]);
    }

    #[test]
    fn numbers_that_may_have_been_seen_stay_and_receipts_still_leave() {
        let dir = tempfile::tempdir().unwrap();
        let bob = address("bob@h:1");
        let mut vault = open(&dir);
        three(&mut vault, &bob);
        let mut second = vault.outbox().unwrap().swap_remove(1);
        if let Payload::Note { delivered, .. } = &mut second.payload {
            delivered.push(Bytes([8; 16])).unwrap();
        }
        vault
            .store_envelope(&mut second, Bytes([5; 16]), vec![1, 2, 3], TAG, 7)
            .unwrap();
        let first = vault.remove_text(Bytes([1; 16])).unwrap();
        assert_eq!(first, Some(Removed::Unsent));
        assert_eq!(numbers(&mut vault), [(2, 2), (3, 3)]);
        let second = vault.remove_text(Bytes([2; 16])).unwrap();
        assert_eq!(second, Some(Removed::NotAgain));
        let left = vault.outbox().unwrap();
        let quiet = left.iter().find_map(|entry| match &entry.payload {
            Payload::Quiet { inner } => hostchat_core::wire::codec::decode::<Quiet>(inner).ok(),
            _ => None,
        });
        let Some(Quiet::Receipts { ids, .. }) = quiet else {
            panic!("no receipts in {left:?}");
        };
        assert_eq!(ids.as_slice(), [Bytes([8; 16])]);
    }

    #[test]
    fn a_sent_text_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let bob = address("bob@h:1");
        let mut vault = open(&dir);
        three(&mut vault, &bob);
        let entry = vault.outbox().unwrap().swap_remove(0);
        vault.sent(&entry, Some(TAG), true, 7).unwrap();
        assert_eq!(vault.unconfirmed().unwrap().len(), 1);
        let removed = vault.remove_text(Bytes([1; 16])).unwrap();
        assert_eq!(removed, Some(Removed::NotAgain));
        assert!(vault.unconfirmed().unwrap().is_empty());
        let state = vault.history(None, 9).unwrap()[0].sent;
        assert_eq!(state, Some(crate::model::Sent::Never));
    }
}
