//! What becomes of a delivery.
//!
//! ```text
//!  offer ─▶ [request]        answer, ended ─▶ the command that waits for it
//!  first message of a stranger ─▶ [request]
//!  message ─▶ seen? ─▶ token opens ─▶ [plaintext + seen] ─▶ token commits ─▶ [committed]      then: acknowledged
//! ```
//!
//! Invariant: a delivery is acknowledged only when it is safe here or can never be of use; so nothing is lost, and
//! nothing that somebody sends blocks the mailbox.

use hostchat_core::icd::{OpenedKind, TokenError};
use hostchat_core::wire::{
    Address, Content, Envelope, Frame, IdentityClaim, MessageId, PairAnswer, PrekeyKind,
    SessionStartId, codec,
};

use super::Client;
use super::drops::Kind;
use super::event::{Event, Observer, note, tell};
use crate::crash;
use crate::error::{Error, Result};
use crate::os;
use crate::relay::Delivered;
use crate::token::OpenedMessage;
use crate::vault::{Incoming, Payload, Stored, Trust, UNKNOWN};

/// What a delivery was, for a command that waits for something.
#[derive(Debug)]
pub(super) enum Handled {
    /// Nothing to wait for: a message, a repeat, something dropped.
    Quiet,
    /// An answer to a code; not acknowledged yet.
    Answer {
        /// The answer.
        answer: Box<PairAnswer>,
        /// The delivery.
        number: u64,
    },
    /// Somebody asks.
    Asked {
        /// Who, as our relay says too.
        from: Address,
        /// The identity that is claimed.
        identity: IdentityClaim,
    },
    /// The other end of a run gave it up.
    Ended {
        /// Who says so, as our relay does.
        sender: Address,
        /// The run.
        sid: SessionStartId,
        /// From the initiator: runs left for its code.
        runs_left: u8,
        /// Who asked, if the request still waited.
        asked: Option<Address>,
    },
    /// A pairing is complete at this end.
    Paired(Address),
}

const UNDECODABLE: &str = "cannot be decoded";

impl Client {
    /// Deals with one delivery and acknowledges it, except an answer to a code.
    pub(super) async fn handle(
        &mut self,
        delivered: Delivered,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        crash::point("delivered");
        let number = delivered.number;
        self.relay_time = self.relay_time.max(delivered.stored_at);
        let handled = match codec::decode::<Envelope<'_>>(&delivered.body) {
            Ok(Envelope::PairAnswer(answer)) if self.pairing => {
                return Ok(Handled::Answer {
                    answer: Box::new(answer),
                    number,
                });
            }
            // An answer to a code that is dead: codes do not outlive the program that showed them.
            Ok(Envelope::PairAnswer(_)) => Handled::Quiet,
            Ok(Envelope::PairOffer(offer)) => self.take_offer(&offer, &delivered, observer).await?,
            Ok(Envelope::PairEnded { sid, runs_left }) => {
                let asked = self.vault.end_run(&sid, &delivered.sender)?;
                Handled::Ended {
                    sender: delivered.sender,
                    sid,
                    runs_left,
                    asked,
                }
            }
            Ok(envelope) => {
                let frame = envelope.frame().and_then(|frame| Frame::parse(frame).ok());
                match (frame, &envelope) {
                    (None, _) => self.dropped(&delivered, UNDECODABLE, observer)?,
                    (Some(frame), Envelope::First { header, .. }) => {
                        self.take_first(&delivered, frame.message_id, header, observer)
                            .await?
                    }
                    (Some(frame), _) => {
                        if let Envelope::Confirmed { confirm, .. } = &envelope {
                            // Before the token confirms: a crash in between must not leave a wait that is over.
                            self.vault.answer_confirmed(&confirm.sid, os::uptime())?;
                        }
                        self.take_message(&delivered, frame.message_id, observer)
                            .await?
                    }
                }
            }
            Err(_) => self.dropped(&delivered, UNDECODABLE, observer)?,
        };
        self.acknowledge(number).await?;
        Ok(handled)
    }

    /// Counts a delivery that cannot be used: it is told with others of its kind.
    pub(super) fn dropped(
        &mut self,
        delivered: &Delivered,
        why: &str,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let sender = Some(&delivered.sender);
        self.drops.count(Kind::Useless, why, sender, 1);
        self.tell_drops_if_drained(observer)?;
        Ok(Handled::Quiet)
    }

    /// Opens, stores and commits a message.
    pub(super) async fn take_message(
        &mut self,
        delivered: &Delivered,
        id: MessageId,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let seen = self.vault.seen(&id)?;
        if seen == Some(Stored::Committed) {
            return Ok(Handled::Quiet);
        }
        match self
            .token
            .open_message(self.address(), delivered.body.clone(), false)
            .await
        {
            Ok(opened) => self.take_opened(opened, observer).await,
            Err(Error::Token(error)) => self.not_opened(delivered, id, error, observer).await,
            Err(other) => Err(other),
        }
    }

    /// Decides what becomes of a message that the token does not open.
    async fn not_opened(
        &mut self,
        delivered: &Delivered,
        id: MessageId,
        error: TokenError,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        match error {
            // Committed before a crash: only the mark is missing.
            TokenError::Replayed if self.vault.seen(&id)?.is_some() => {
                self.vault.mark_committed(&id)?;
                Ok(Handled::Quiet)
            }
            TokenError::Replayed => Ok(Handled::Quiet),
            TokenError::ReplayMemoryFull => {
                self.new_prekey(PrekeyKind::LastResort).await?;
                self.hold_any(
                    delivered,
                    "the token's memory of first messages is full",
                    observer,
                )
                .await
            }
            TokenError::SessionsFull => {
                self.hold_any(
                    delivered,
                    "the token has no place for another session",
                    observer,
                )
                .await
            }
            TokenError::IdentityChanged => {
                note(
                    observer,
                    "changed",
                    Error::IdentityChanged(delivered.sender.to_string()).to_string(),
                )?;
                self.hold_any(
                    delivered,
                    "the identity of its sender has changed",
                    observer,
                )
                .await
            }
            TokenError::TooFarAhead => {
                let text = format!(
                    "too many messages of {} are missing; a new session is begun",
                    delivered.sender
                );
                note(observer, "gap", text)?;
                self.renew_session(&delivered.sender, observer).await
            }
            // Our request is in order: what the token calls bad is the envelope.
            TokenError::BadRequest
            | TokenError::UnknownSession
            | TokenError::UnknownContact
            | TokenError::Authentication
            | TokenError::Malformed
            | TokenError::PeerMisbehaved
            | TokenError::WrongAddress
            | TokenError::Version
            | TokenError::Prekey
            | TokenError::TooLong => {
                let why = Error::Token(error);
                self.dropped(delivered, &why.to_string(), observer)
            }
            other => Err(other.into()),
        }
    }

    /// Keeps what may be opened later, if it is a first message; nothing else can meet a full token.
    async fn hold_any(
        &mut self,
        delivered: &Delivered,
        why: &str,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        match codec::decode::<Envelope<'_>>(&delivered.body) {
            Ok(Envelope::First { header, .. }) => {
                note(
                    observer,
                    "held",
                    format!("a first message of {} waits: {why}", header.sender),
                )?;
                self.hold(delivered, &header, observer).await
            }
            _ => self.dropped(delivered, why, observer),
        }
    }

    /// Begins a new session with a known contact, so that it need not be lost because of a gap.
    async fn renew_session(
        &mut self,
        address: &Address,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let Some(contact) = self
            .vault
            .contact_at(address)?
            .filter(|c| c.identity.is_some() && c.changed.is_none())
        else {
            return Ok(Handled::Quiet);
        };
        // Who can forge such a frame shall not make us use up prekeys.
        if !self.renewed.insert(address.clone()) {
            return Ok(Handled::Quiet);
        }
        match self.start_session(contact, false).await {
            Ok(()) => {
                self.vault.queue(address, Payload::Empty)?;
            }
            Err(error) => note(observer, "gap", format!("no new session yet: {error}"))?,
        }
        Ok(Handled::Quiet)
    }

    /// Stores what the token opened, and commits it.
    pub(super) async fn take_opened(
        &mut self,
        opened: OpenedMessage,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        crash::point("token-opened");
        let peer = opened.peer.clone();
        self.note_peer(&opened)?;
        let text = match codec::decode::<Content<'_>>(&opened.content) {
            Ok(
                Content::Text { id, sent_at, text }
                | Content::Note {
                    id, sent_at, text, ..
                },
            ) => Some((id, sent_at, text)),
            Ok(Content::Empty | Content::Quiet { .. }) => None,
            Ok(Content::SessionEnded) => {
                let text = format!(
                    "{peer} has ended its sessions: it erased its keys, or replaced its token"
                );
                note(observer, "session_ended", text)?;
                None
            }
            Err(_) => Some((opened.message_id, os::now_ms(), UNKNOWN)),
        };
        let incoming = Incoming {
            peer: &peer,
            message_id: opened.message_id,
            missing: opened.missing,
            verified: self
                .vault
                .contact_at(&peer)?
                .is_some_and(|c| c.trust.is_verified()),
            text,
            reply_due: opened.reply_due,
        };
        self.vault.take_in(&incoming)?;
        crash::point("plaintext-stored");
        self.token.commit(opened.hash).await?;
        crash::point("token-committed");
        self.vault.mark_committed(&opened.message_id)?;
        crash::point("commit-marked");
        if opened.kind != OpenedKind::Paired {
            return Ok(Handled::Quiet);
        }
        let contact = self.vault.contact_or_new(&peer)?;
        let number = self.safety_number(&contact)?;
        tell(
            observer,
            &Event::Paired {
                peer: &peer,
                safety_number: &number,
            },
        )?;
        Ok(Handled::Paired(peer))
    }

    /// Brings the contact up to what the token, which decides, says about the sender.
    fn note_peer(&mut self, opened: &OpenedMessage) -> Result<()> {
        let mut contact = self.vault.contact_or_new(&opened.peer)?;
        let before = contact.clone();
        if contact.identity != Some(opened.identity) {
            contact.identity = Some(opened.identity);
            contact.trust = Trust::Unverified;
            self.vault.reseal_outgoing(&opened.peer)?;
        }
        if contact
            .expected
            .is_some_and(|expected| expected != opened.identity)
        {
            contact.expected = None;
        }
        if contact.changed == Some(opened.identity) || opened.kind == OpenedKind::Paired {
            contact.changed = None;
        }
        if opened.verified && contact.trust == Trust::Unverified {
            contact.trust = Trust::Code;
        }
        if contact == before {
            Ok(())
        } else {
            self.vault.save_contact(&contact)
        }
    }
}
