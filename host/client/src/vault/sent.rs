//! Sent messages: kept until a receipt names them.
//!
//! ```text
//!  (outbox: sent) ─▶ unconfirmed ─▶ confirm          or after 45 days: never confirmed
//!                       └─▶ queue_again ─▶ outbox    a new session; the receiver could not open the frame; a receipt came
//!                                                    for something that was sealed later
//! ```
//!
//! Invariant: what a receipt has confirmed is never queued again.

use hostchat_core::wire::content::ContentId;
use hostchat_core::wire::{Address, MessageId, SessionId};
use rusqlite::params;

use super::healing::KEEP_MS;
use super::messages::{self, CONFIRMED, KEPT, NEVER, UNCONFIRMED};
use super::payload::Payload;
use super::{Tx, Vault};
use crate::error::Result;
use crate::model::{IdentityTag, Message, Notice};

/// A sent message without a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The message.
    pub message: Message,
    /// Whether the outbox holds it again.
    pub queued: bool,
}

impl Vault {
    /// Sent messages that no receipt has confirmed, in the order in which they were sent.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn unconfirmed(&mut self) -> Result<Vec<Unconfirmed>> {
        self.read(|tx| {
            let queued = tx.queued_contents()?;
            Ok(unconfirmed(tx)?
                .into_iter()
                .map(|message| Unconfirmed {
                    queued: queued.contains(&(message.peer.clone(), message.content)),
                    message,
                })
                .collect())
        })
    }

    /// Takes receipts: these contents have arrived at the contact.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn confirm(
        &mut self,
        peer: &Address,
        identity: &IdentityTag,
        ids: &[ContentId],
        history: bool,
    ) -> Result<()> {
        self.write(|tx| tx.confirm(peer, identity, ids, history))
    }

    /// Puts a sent message into the outbox again, unless it is there: it is sealed again.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn queue_again(&mut self, message: &Message) -> Result<()> {
        self.write(|tx| tx.queue_again(message))
    }

    /// Gives up what no receipt has confirmed within 45 days, and tells the user.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn give_up_unconfirmed(&mut self) -> Result<()> {
        let now = self.settled_now();
        self.write(|tx| {
            let mut counts: Vec<(Address, u32)> = Vec::new();
            for message in unconfirmed(tx)? {
                if message.ordered_at().saturating_add(KEEP_MS) >= now {
                    continue;
                }
                match counts.iter_mut().find(|(peer, _)| *peer == message.peer) {
                    Some((_, count)) => *count = count.saturating_add(1),
                    None => counts.push((message.peer.clone(), 1)),
                }
                tx.give_up(message.id)?;
            }
            for (peer, count) in counts {
                tx.add_notice(&Notice::NeverConfirmed { peer, count })?;
            }
            Ok(())
        })
    }
}

impl Tx<'_> {
    /// Counts only receipts of the identity that the contents were sealed for.
    pub(super) fn confirm(
        &self,
        peer: &Address,
        identity: &IdentityTag,
        ids: &[ContentId],
        history: bool,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let of_peer =
            |message: &Message| message.peer == *peer && message.identity == Some(*identity);
        // A receipt that comes after 45 days is one all the same.
        for message in given_up(self)?.iter().filter(|m| of_peer(m)) {
            if ids.contains(&message.content) {
                self.confirm_row(message)?;
            }
        }
        let waiting: Vec<Message> = unconfirmed(self)?.into_iter().filter(of_peer).collect();
        let (named, others): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|message| ids.contains(&message.content));
        let mut newest = None;
        for message in &named {
            self.confirm_row(message)?;
            newest = newest.max(self.sealed_at(message)?);
        }
        self.confirm_queued(peer, identity, ids, history)?;
        self.seal_overtaken_again(&others, newest)
    }

    fn confirm_row(&self, message: &Message) -> Result<()> {
        self.remember_receipt(&message.peer, message.content)?;
        self.transaction.execute(
            "UPDATE messages SET state = ?2 WHERE id = ?1 AND state IN (?3, ?4)",
            params![message.id, CONFIRMED, UNCONFIRMED, NEVER],
        )?;
        self.transaction.execute(
            "DELETE FROM messages WHERE id = ?1 AND state = ?2",
            params![message.id, KEPT],
        )?;
        Ok(())
    }

    /// Mailboxes keep their order, and so do receipts: what was sealed before something that has a receipt, and has none, was
    /// lost on the way, or its receipt was. It is sealed again, once for each receipt that overtakes it.
    fn seal_overtaken_again(&self, others: &[Message], newest: Option<u64>) -> Result<()> {
        for message in others {
            if self.sealed_at(message)?.is_some_and(|at| Some(at) < newest) {
                self.queue_again(message)?;
            }
        }
        Ok(())
    }

    /// When a sent message was sealed last; `None` if that is forgotten.
    fn sealed_at(&self, message: &Message) -> Result<Option<u64>> {
        let frame = self.sealed_frame(&message.message_id)?;
        Ok(frame.map(|frame| frame.at))
    }

    /// Remembers a receipt for as long as the frame that it is for may be asked about.
    pub(super) fn remember_receipt(&self, peer: &Address, content: ContentId) -> Result<()> {
        self.mark_seen(&self.receipt_mark(peer, content), 1)
    }

    pub(super) fn queue_again(&self, message: &Message) -> Result<()> {
        let queued = self.queued_contents()?;
        if queued.contains(&(message.peer.clone(), message.content)) {
            return Ok(());
        }
        let payload = Payload::Note {
            id: message.content,
            sent_at: message.sent_at,
            number: message.number,
            delivered: heapless::Vec::new(),
            again: true,
            with_code: false,
            text: message.text.clone(),
        };
        self.queue(&message.peer, payload).map(drop)
    }

    /// Gives a sent message the session and frame in which it was sealed last; `false` if it is confirmed or gone.
    pub(super) fn sealed_again(
        &self,
        peer: &Address,
        content: ContentId,
        message_id: MessageId,
        session: Option<SessionId>,
    ) -> Result<bool> {
        for mut message in unconfirmed(self)? {
            if message.peer == *peer && message.content == content {
                message.message_id = message_id;
                message.session = session;
                messages::put(self, &message)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a receipt has come for a content. Without a history a confirmed text is deleted, so that only the mark of its
    /// receipt is left.
    pub(super) fn is_confirmed(&self, peer: &Address, content: ContentId) -> Result<bool> {
        Ok(self.seen(&self.receipt_mark(peer, content))?.is_some())
    }

    fn receipt_mark(&self, peer: &Address, content: ContentId) -> [u8; 16] {
        self.sealer
            .mark(&[b"receipt", peer.as_str().as_bytes(), &content.0])
    }
}

/// Sent messages that were given up after 45 days.
fn given_up(tx: &Tx<'_>) -> Result<Vec<Message>> {
    messages::all(
        tx,
        "SELECT id, state, body FROM messages WHERE state = 5 ORDER BY id",
    )
}

/// Sent messages that wait for their receipts.
pub(super) fn unconfirmed(tx: &Tx<'_>) -> Result<Vec<Message>> {
    messages::all(
        tx,
        "SELECT id, state, body FROM messages WHERE state IN (4, 6) ORDER BY id",
    )
}
