//! Questions about frames that did not open, and their answers (SPEC section 9.8).
//!
//! ```text
//!  unopened ─▶ ask ─▶ Unreadable ─▶ answer: again, delivered, nothing to show, lost, unknown ─▶ Told ─▶ told
//! ```
//!
//! Invariant: what a receipt has confirmed is never sealed again, whoever asks: a stolen identity learns nothing of the past.

use hostchat_core::wire::content::{Fate, MAX_IDS};
use hostchat_core::wire::{Address, MessageId, Quiet};

use super::healing::Carried;
use super::payload::Payload;
use super::{Tx, Vault, sent};
use crate::error::Result;
use crate::model::{IdentityTag, Notice};

/// How often everything unconfirmed is sealed again because the peer could not keep a list, in milliseconds.
const ALL_MS: u64 = 3600 * 1000;
/// An unknown frame is told as a loss only if its author's list has a gap since then, in milliseconds: 30 days.
const RECENT_MS: u64 = 30 * 24 * 3600 * 1000;

/// A quiet content that arrived.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
pub enum Arrived {
    /// What was in these frames?
    Unreadable {
        /// Their ids.
        ids: heapless::Vec<MessageId, MAX_IDS>,
        /// More than could be kept.
        all: bool,
    },
    /// What was in frames that we asked about.
    Told {
        /// Since then the author's list has no gap.
        since: u64,
        /// What became of each.
        fates: heapless::Vec<(MessageId, Fate), MAX_IDS>,
    },
}

/// The user is told of unknown frames of a contact at most once in this time, in milliseconds: a day.
const DAY_MS: u64 = 24 * 3600 * 1000;

impl Vault {
    /// Asks a contact about frames that did not open, unless a question has no answer yet. Gives whether one was queued.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn ask(&mut self, peer: &Address, now: u64) -> Result<bool> {
        self.write(|tx| {
            let of_peer: Vec<_> = tx
                .unopened()?
                .into_iter()
                .map(|(_, row)| row)
                .filter(|row| row.peer == *peer)
                .collect();
            if of_peer.iter().any(|row| row.asked_at.is_some()) {
                return Ok(false);
            }
            let ids: heapless::Vec<MessageId, MAX_IDS> = of_peer
                .iter()
                .map(|row| row.message_id)
                .take(MAX_IDS)
                .collect();
            if ids.is_empty() {
                return Ok(false);
            }
            let all = tx.conversation(peer)?.overflow;
            tx.change_conversation(peer, |c| c.overflow = false)?;
            tx.set_asked(peer, Some(now), |id| ids.contains(id))?;
            tx.queue(peer, Payload::quiet(&Quiet::Unreadable { ids, all })?)?;
            Ok(true)
        })
    }

    /// Notes that a new session with `peer` is about to be begun: open questions are asked again in it, and it carries at
    /// least one frame.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn renewing(&mut self, peer: &Address, alone: bool, now: u64) -> Result<()> {
        self.write(|tx| {
            tx.change_conversation(peer, |c| {
                c.renewals = c.renewals.saturating_add(1);
                c.renewed_at = now;
                c.renewed_alone |= alone;
                c.refused_first = false;
                c.renew = false;
            })?;
            tx.set_asked(peer, None, |_| true)?;
            if tx.has_outgoing(peer)? {
                return Ok(());
            }
            tx.queue(peer, Payload::Empty).map(drop)
        })
    }
}

impl Tx<'_> {
    /// Does what a quiet content asks for.
    pub(super) fn take_quiet(
        &self,
        peer: &Address,
        identity: &IdentityTag,
        quiet: &Arrived,
        now: u64,
    ) -> Result<()> {
        match quiet {
            Arrived::Unreadable { ids, all } => self.answer(peer, identity, ids, *all, now),
            Arrived::Told { since, fates } => self.told(peer, *since, fates, now),
        }
    }

    /// Answers for frames that were sealed for exactly the identity that asks.
    fn answer(
        &self,
        peer: &Address,
        identity: &IdentityTag,
        ids: &[MessageId],
        all: bool,
        now: u64,
    ) -> Result<()> {
        let mut fates = heapless::Vec::new();
        let mut lost = 0;
        for id in ids {
            let fate = self.fate(peer, identity, id)?;
            lost += u32::from(fate == Fate::Lost);
            // As many as were asked about.
            let _ = fates.push((*id, fate));
        }
        if all && now.abs_diff(self.conversation(peer)?.all_at) >= ALL_MS {
            self.change_conversation(peer, |c| c.all_at = now)?;
            for message in sent::unconfirmed(self)? {
                if message.peer == *peer && message.identity == Some(*identity) {
                    self.queue_again(&message)?;
                }
            }
        }
        if lost > 0 {
            self.add_notice(&Notice::LostTo {
                peer: peer.clone(),
                count: lost,
            })?;
        }
        let since = self.generations()?.map_or(now, |g| g.sealed_since);
        self.queue(peer, Payload::quiet(&Quiet::Told { since, fates })?)
            .map(drop)
    }

    fn fate(&self, peer: &Address, identity: &IdentityTag, id: &MessageId) -> Result<Fate> {
        let frame = self.sealed_frame(id)?;
        let Some(frame) = frame.filter(|frame| frame.identity == *identity) else {
            return Ok(Fate::Unknown);
        };
        let (content, receipts): (_, &[_]) = match &frame.carried {
            Carried::Nothing => return Ok(Fate::NothingToShow),
            Carried::Receipts { ids } => (None, ids),
            Carried::Note { content, delivered } => (Some(*content), delivered),
        };
        // Receipts that were lost are given again.
        for receipt in receipts {
            self.add_receipt(peer, *receipt)?;
        }
        let Some(content) = content else {
            return Ok(Fate::NothingToShow);
        };
        if self.queued_contents()?.contains(&(peer.clone(), content)) {
            self.reseal_content(peer, content)?;
            return Ok(Fate::Again);
        }
        for message in sent::unconfirmed(self)? {
            if message.peer == *peer && message.content == content {
                self.queue_again(&message)?;
                return Ok(Fate::Again);
            }
        }
        Ok(match self.is_confirmed(peer, content)? {
            true => Fate::Confirmed { content },
            false => Fate::Lost,
        })
    }

    /// Takes the answer to a question.
    fn told(
        &self,
        peer: &Address,
        since: u64,
        fates: &[(MessageId, Fate)],
        now: u64,
    ) -> Result<()> {
        let asked: Vec<MessageId> = self
            .unopened()?
            .into_iter()
            .filter(|(_, row)| row.peer == *peer)
            .map(|(_, row)| row.message_id)
            .collect();
        let count = |wanted: Fate| {
            let fates = fates.iter().filter(|(id, _)| asked.contains(id));
            u32::try_from(fates.filter(|(_, fate)| *fate == wanted).count()).unwrap_or(u32::MAX)
        };
        let (lost, unknown) = (count(Fate::Lost), count(Fate::Unknown));
        let mut gone = 0u32;
        for (id, fate) in fates {
            if let Fate::Confirmed { content } = fate
                && asked.contains(id)
                && self.seen(&self.content_mark(peer, *content))?.is_none()
            {
                gone = gone.saturating_add(1);
            }
        }
        self.drop_unopened(|row| {
            row.peer == *peer && fates.iter().any(|(id, _)| *id == row.message_id)
        })?;
        let peer = || peer.clone();
        if lost > 0 {
            self.add_notice(&Notice::LostFrom {
                peer: peer(),
                count: lost,
            })?;
        }
        if gone > 0 {
            self.add_notice(&Notice::GoneFrom {
                peer: peer(),
                count: gone,
            })?;
        }
        if unknown == 0 {
            return Ok(());
        }
        let told_today = now.abs_diff(self.conversation(&peer())?.unknown_at) < DAY_MS;
        // Whoever knows everything that it sealed knows that it did not seal these.
        if now.saturating_sub(since) < RECENT_MS && !told_today {
            self.change_conversation(&peer(), |c| c.unknown_at = now)?;
            self.add_notice(&Notice::UnknownTo {
                peer: peer(),
                count: unknown,
            })
        } else {
            self.count_forged(&peer(), unknown)
        }
    }
}
