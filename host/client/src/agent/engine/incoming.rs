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
    Address, Content, Envelope, Frame, IdentityClaim, MessageId, PairAnswer, PrekeyKind, Quiet,
    SessionId, SessionStartId, codec,
};

use super::Client;
use super::drops::Kind;
use super::event::{Observer, note, tell};
use super::requests::proves;
use crate::crash;
use crate::error::{Error, Result};
use crate::model::{Event, Held, Note, Trust, Useless, What};
use crate::relay::Delivered;
use crate::token::OpenedMessage;
use crate::vault::{Arrival, Arrived, Incoming, Stored, identity_tag};

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

impl Handled {
    /// Who has asked and ended it, if a request of theirs still waited.
    pub(super) fn gave_up(&self) -> Option<&Address> {
        match self {
            Self::Ended { asked, .. } => asked.as_ref(),
            _ => None,
        }
    }
}

impl Client {
    /// Deals with one delivery and acknowledges it, except an answer to a code.
    pub(super) async fn handle(
        &mut self,
        delivered: Delivered,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        crash::point("delivered");
        let number = delivered.number;
        let handled = match codec::decode::<Envelope<'_>>(&delivered.body) {
            Ok(Envelope::PairAnswer(answer)) if self.showing_to.is_some() => {
                return Ok(Handled::Answer {
                    answer: Box::new(answer),
                    number,
                });
            }
            // An answer to a code that is dead: codes do not outlive the program that showed them.
            Ok(Envelope::PairAnswer(_)) => Handled::Quiet,
            Ok(Envelope::PairOffer(offer)) => self.take_offer(&offer, &delivered, observer).await?,
            Ok(Envelope::PairEnded { sid, runs_left }) => {
                let proved = delivered.fingerprint;
                let asked = self
                    .vault
                    .end_run(&sid, &delivered.sender, |identity| proves(proved, identity))?;
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
                    (None, _) => self.dropped(&delivered, Useless::Undecodable, observer)?,
                    (Some(frame), Envelope::First { header, .. }) => {
                        self.take_first(&delivered, frame.message_id, header, observer)
                            .await?
                    }
                    (Some(frame), _) => {
                        if let Envelope::Confirmed { confirm, .. } = &envelope {
                            // Before the token confirms: a crash in between must not leave a wait that is over.
                            self.vault
                                .answer_confirmed(&confirm.sid, crate::os::uptime())?;
                        }
                        self.take_message(&delivered, frame.message_id, observer)
                            .await?
                    }
                }
            }
            Err(_) => self.dropped(&delivered, Useless::Undecodable, observer)?,
        };
        self.acknowledge(number).await?;
        Ok(handled)
    }

    /// Counts a delivery that cannot be used: it is told with others of its kind.
    pub(super) fn dropped(
        &mut self,
        delivered: &Delivered,
        why: Useless,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let sender = Some(&delivered.sender);
        self.drops.count(Kind::Useless(why), sender, 1);
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
        if self.vault.seen(&id)? == Some(Stored::Committed) {
            return Ok(Handled::Quiet);
        }
        self.prepare_keys().await?;
        match self
            .token
            .open_message(self.address(), delivered.body.clone(), false)
            .await
        {
            Ok(opened) => {
                self.take_opened(
                    opened,
                    session_of(&delivered.body),
                    delivered.stored_at,
                    observer,
                )
                .await
            }
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
            TokenError::ReplayMemoryFull => {
                self.new_prekey(PrekeyKind::LastResort).await?;
                self.hold_any(delivered, Held::MemoryFull, observer).await
            }
            TokenError::SessionsFull => self.hold_any(delivered, Held::NoPlace, observer).await,
            TokenError::IdentityChanged => {
                let peer = delivered.sender.clone();
                note(observer, Note::Changed { peer })?;
                self.hold_any(delivered, Held::Changed, observer).await
            }
            // Our request is in order: what the token calls bad is the envelope. Unless its id was stored it is no repeat,
            // whatever the token says.
            TokenError::BadRequest
            | TokenError::UnknownSession
            | TokenError::UnknownContact
            | TokenError::NoLiveSession
            | TokenError::Authentication
            | TokenError::Replayed
            | TokenError::TooFarAhead
            | TokenError::Malformed
            | TokenError::PeerMisbehaved
            | TokenError::WrongAddress
            | TokenError::Version
            | TokenError::Prekey
            | TokenError::TooLong => {
                if self.vault.seen(&id)?.is_some() {
                    // Committed before a crash: only the mark is missing.
                    self.vault.mark_committed(&id)?;
                    return Ok(Handled::Quiet);
                }
                self.ask_about(delivered, id, error).await
            }
            other => Err(other.into()),
        }
    }

    /// Puts a frame that does not open on the list of the contact to ask: that of its session, or whom it or the relay names.
    /// It may be forged, so nothing else follows from it.
    async fn ask_about(
        &mut self,
        delivered: &Delivered,
        id: MessageId,
        error: TokenError,
    ) -> Result<Handled> {
        let first = match codec::decode::<Envelope<'_>>(&delivered.body) {
            Ok(Envelope::First { header, .. }) => Some(header.sender),
            _ => None,
        };
        let refused_first = first.is_some() && error == TokenError::Prekey;
        let of_session = match session_of(&delivered.body) {
            Some(session) => self.token.find_contact(session).await?,
            None => None,
        };
        let peer = of_session
            .map(|contact| contact.address)
            .or(first)
            .unwrap_or_else(|| delivered.sender.clone());
        let contact = self.vault.contact_at(&peer)?;
        if contact.is_some_and(|contact| contact.identity.is_some()) {
            self.vault.note_unopened(&peer, id, refused_first)?;
            crash::point("unopened-stored");
        } else {
            let sender = &delivered.sender;
            let asks = self.vault.requests()?.iter().any(|r| r.from == *sender);
            let kind = if asks { Kind::Asking } else { Kind::Unknown };
            self.drops.count(kind, Some(sender), 1);
            self.vault.count_stranger()?;
        }
        Ok(Handled::Quiet)
    }

    /// Keeps what may be opened later, if it is a first message; nothing else can meet a full token.
    async fn hold_any(
        &mut self,
        delivered: &Delivered,
        why: Held,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        match codec::decode::<Envelope<'_>>(&delivered.body) {
            Ok(Envelope::First { header, .. }) => {
                let peer = header.sender.clone();
                note(observer, Note::Held { peer, why })?;
                self.hold(delivered, &header, observer).await
            }
            _ => self.dropped(delivered, Useless::Held(why), observer),
        }
    }

    /// Stores what the token opened, and commits it.
    pub(super) async fn take_opened(
        &mut self,
        opened: OpenedMessage,
        session: Option<SessionId>,
        stored_at: u64,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        crash::point("token-opened");
        let peer = opened.peer.clone();
        self.note_peer(&opened)?;
        let mut incoming = Incoming {
            peer: &peer,
            message_id: opened.message_id,
            stored_at,
            verified: self.vault.is_verified(&peer)?,
            arrival: None,
            delivered: &[],
            quiet: None,
            identity: identity_tag(&opened.identity),
            reply_due: opened.reply_due,
        };
        let content = codec::decode::<Content<'_>>(&opened.content);
        let receipts;
        match &content {
            Ok(Content::Note {
                id,
                sent_at,
                number,
                delivered,
                text,
                ..
            }) => {
                incoming.delivered = delivered;
                incoming.arrival = Some(Arrival {
                    content: *id,
                    sent_at: *sent_at,
                    number: *number,
                    what: What::Text,
                    text,
                });
            }
            Ok(Content::Text { id, sent_at, text }) => {
                incoming.arrival = Some(Arrival {
                    content: *id,
                    sent_at: *sent_at,
                    number: 0,
                    what: What::Text,
                    text,
                });
            }
            Ok(Content::Quiet { inner }) => match codec::decode::<Quiet>(inner) {
                Ok(Quiet::Receipts { ids, .. }) => {
                    receipts = ids;
                    incoming.delivered = &receipts;
                }
                Ok(Quiet::Unreadable { ids, all }) => {
                    incoming.quiet = Some(Arrived::Unreadable { ids, all });
                }
                Ok(Quiet::Told { since, fates }) => {
                    incoming.quiet = Some(Arrived::Told { since, fates });
                }
                Err(_) => {}
            },
            Ok(Content::Empty) => {}
            Ok(Content::SessionEnded) => {
                let peer = peer.clone();
                note(observer, Note::SessionEnded { peer })?;
            }
            Err(_) => {
                incoming.arrival = Some(Arrival {
                    content: opened.message_id,
                    sent_at: stored_at,
                    number: 0,
                    what: What::Unknown,
                    text: "[a message of a kind that this version does not know]",
                });
            }
        }
        let history = self.keeps_history();
        self.vault.take_in(&incoming, history)?;
        crash::point("plaintext-stored");
        self.token.commit(opened.hash).await?;
        crash::point("token-committed");
        if let Some(session) = session {
            self.note_answer(&peer, session).await?;
        }
        self.vault.mark_committed(&opened.message_id)?;
        crash::point("commit-marked");
        self.heard.insert(peer.clone());
        if opened.kind != OpenedKind::Paired {
            return Ok(Handled::Quiet);
        }
        let contact = self.vault.contact_or_new(&peer)?;
        let event = Event::Paired {
            peer: peer.clone(),
            verified: true,
            safety_number: self.safety_number(&contact)?,
        };
        tell(observer, event)?;
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
            self.vault.drop_questions(&opened.peer)?;
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

/// The session whose frame is in an envelope.
pub(super) fn session_of(envelope: &[u8]) -> Option<SessionId> {
    let envelope = codec::decode::<Envelope<'_>>(envelope).ok()?;
    Some(Frame::parse(envelope.frame()?).ok()?.header.session)
}
