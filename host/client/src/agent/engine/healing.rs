//! Healing: no message is lost because keys went back in time, and nobody can make us renew sessions by forging.
//!
//! ```text
//!  a frame does not open ─▶ [unopened] ─▶ Unreadable ─▶ Told         no answer for an hour ─▶ a new session, asked again
//!  a new session is answered ─▶ what no receipt has confirmed is sealed again in it
//! ```
//!
//! Invariant: a frame that does not open proves nothing. We ask in the current session before we renew, and evict nothing
//! (SPEC section 9.8).

use std::collections::BTreeSet;

use hostchat_core::icd::{SessionInfo, TokenError};
use hostchat_core::wire::{Address, SessionId};

use super::Client;
use super::event::{Observer, note};
use super::send::is_ours;
use crate::error::{Error, Fault, Result};
use crate::model::{Contact, Note};
use crate::vault::{Conversation, identity_tag};

/// How long a question waits for its answer before a new session is begun, in milliseconds: an hour.
const ANSWER_MS: u64 = 3600 * 1000;
/// The longest wait between new sessions with somebody who does not answer, in milliseconds: 7 days.
const LONGEST_WAIT_MS: u64 = 7 * 24 * 3600 * 1000;

impl Client {
    /// Asks, renews and seals again what is due, and queues the receipts that wait. For when the mailbox was drained.
    ///
    /// # Errors
    /// Those of token and vault; what only concerns one contact or relay is noted.
    pub(super) async fn heal(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.vault.give_up_unconfirmed()?;
        self.tell_missing()?;
        self.queue_receipts()?;
        let unconfirmed = self.vault.unconfirmed()?;
        let unopened = self.vault.unopened()?;
        let mut peers: BTreeSet<Address> = self.vault.renewals_due()?.into_iter().collect();
        peers.extend(unconfirmed.iter().map(|u| u.message.peer.clone()));
        peers.extend(unopened.iter().map(|u| u.peer.clone()));
        for peer in peers {
            let Some(contact) = self.vault.contact_at(&peer)? else {
                continue;
            };
            let (Some(identity), None) = (contact.identity, contact.changed) else {
                continue;
            };
            match self.heal_contact(&contact).await {
                Ok(()) => {}
                Err(error) if is_ours(&error) => return Err(error),
                Err(Error::IdentityChanged(_)) => continue,
                Err(error) => {
                    let fault = Fault::from(&error);
                    note(observer, Note::Session { peer, fault })?;
                    continue;
                }
            }
            // Answered sessions only: what leaves in an unanswered one may be lost with it.
            let Some(current) = self.current_session(&peer).await?.filter(|s| s.answered) else {
                continue;
            };
            let tag = identity_tag(&identity);
            self.vault.reseal_other(&peer, current.session)?;
            for sent in unconfirmed.iter().filter(|u| u.message.peer == peer) {
                let elsewhere = sent.message.session.is_some_and(|s| s != current.session);
                if elsewhere && sent.message.identity == Some(tag) && !sent.queued {
                    self.vault.queue_again(&sent.message)?;
                }
            }
        }
        Ok(())
    }

    /// Has the receipts that wait leave by themselves, without waiting for a message that they could go with.
    pub(super) fn queue_receipts(&mut self) -> Result<()> {
        for peer in self.vault.receipts_due()? {
            self.vault.queue_receipts(&peer)?;
        }
        Ok(())
    }

    /// Begins a new session with a contact if one is due, and asks about frames that did not open.
    async fn heal_contact(&mut self, contact: &Contact) -> Result<()> {
        let peer = &contact.address;
        let now = self.os.now_ms();
        self.vault.mend_times(peer, now)?;
        let conversation = self.vault.conversation(peer)?;
        let current = self.current_session(peer).await?;
        let overdue = self.vault.unopened()?.iter().any(|u| {
            let waited = u.asked_at.map(|at| now.saturating_sub(at));
            u.peer == *peer && waited.is_some_and(|waited| waited >= ANSWER_MS)
        });
        let unanswered = current.is_some_and(|s| s.own && !s.answered);
        let at_once = conversation.refused_first && unanswered;
        let due = (overdue && self.drained) || at_once;
        if current.is_none() || due && may_renew(&conversation, unanswered, now) {
            self.renew(contact).await?;
        }
        self.vault.ask(peer, now)?;
        Ok(())
    }

    /// Begins a new session with the known identity of a contact, whose relay gives prekeys.
    pub(super) async fn renew(&mut self, contact: &Contact) -> Result<()> {
        let peer = contact.address.clone();
        let alone = self.vault.conversation(&peer)?.refused_first;
        let relay = self.at(&peer.relay()).await?;
        let bundle = if alone {
            relay.take_last_resort(peer.name()).await?
        } else {
            relay.take_prekeys(peer.name()).await?
        };
        let alone = bundle.one_time.is_none();
        self.vault.renewing(&peer, alone, self.os.now_ms())?;
        self.begin_with(contact.clone(), bundle, false).await
    }

    /// The session in which the next content for `peer` would be sealed.
    pub(super) async fn current_session(&self, peer: &Address) -> Result<Option<SessionInfo>> {
        match self.token.sessions(peer.clone()).await {
            Ok(sessions) => Ok(sessions.into_iter().find(|s| s.current)),
            Err(Error::Token(TokenError::UnknownContact)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that a frame of `peer` has opened in a session: if it is the first one there, waiting renewals begin anew.
    pub(super) async fn note_answer(&mut self, peer: &Address, session: SessionId) -> Result<()> {
        if self.vault.conversation(peer)?.answered == Some(session) {
            return Ok(());
        }
        let sessions = self.token.sessions(peer.clone()).await?;
        let is_live = sessions
            .iter()
            .any(|s| s.session == session && !s.superseded);
        if !is_live {
            return Ok(());
        }
        self.vault.change_conversation(peer, |c| {
            c.answered = Some(session);
            c.renewals = 0;
            c.renewed_alone = false;
            c.renew = false;
        })
    }

    /// Tells how many numbered messages have not come, once the mailbox is empty.
    fn tell_missing(&mut self) -> Result<()> {
        for peer in std::mem::take(&mut self.heard) {
            self.vault.tell_missing(&peer)?;
        }
        Ok(())
    }
}

/// While nobody answers, the wait before the next session doubles: 1 hour, 2, 4, up to 7 days. Once, a first message that
/// was refused is followed at once by one without a one-time prekey: not later, since anybody can forge what is refused, and
/// nine sessions in 14 days are enough.
fn may_renew(conversation: &Conversation, unanswered: bool, now: u64) -> bool {
    if !unanswered || conversation.renewals == 0 {
        return true;
    }
    let doublings = u32::from(conversation.renewals - 1).min(16);
    let wait = (ANSWER_MS << doublings).min(LONGEST_WAIT_MS);
    let is_early = wait <= LONGEST_WAIT_MS / 2;
    if conversation.refused_first && !conversation.renewed_alone && is_early {
        return true;
    }
    now.saturating_sub(conversation.renewed_at) >= wait
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_while_nobody_answers_and_a_refused_first_message_skips_it_once() {
        let hour = ANSWER_MS;
        let mut conversation = Conversation {
            renewals: 3,
            renewed_at: hour,
            ..Conversation::default()
        };
        assert!(!may_renew(&conversation, true, hour + 4 * hour - 1));
        assert!(may_renew(&conversation, true, hour + 4 * hour));
        assert!(may_renew(&conversation, false, hour), "it was answered");
        conversation.renewals = 200;
        assert!(!may_renew(&conversation, true, LONGEST_WAIT_MS));
        assert!(may_renew(&conversation, true, hour + LONGEST_WAIT_MS));
        conversation.refused_first = true;
        assert!(!may_renew(&conversation, true, hour), "too late");
        conversation.renewals = 7;
        assert!(may_renew(&conversation, true, hour));
        conversation.renewed_alone = true;
        assert!(!may_renew(&conversation, true, hour));
    }
}
