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
    Address, Content, Envelope, FirstHeader, Frame, IdentityClaim, MessageId, PairAnswer,
    PairOffer, PrekeyKind, Quiet, SessionId, SessionStartId, codec,
};

use super::Client;
use super::event::{Event, Observer, note, tell};
use crate::crash;
use crate::error::{Error, Result};
use crate::relay::Delivered;
use crate::token::OpenedMessage;
use crate::vault::{
    Added, Arrival, Arrived, Asked, Incoming, Request, Stored, Trust, What, identity_tag,
};

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
    Asked(Address),
    /// The initiator gave a run up.
    Ended {
        /// The run.
        sid: SessionStartId,
        /// Runs left for its code.
        runs_left: u8,
        /// Who asked, if the request still waited.
        asked: Option<Address>,
    },
    /// A pairing is complete at this end.
    Paired(Address),
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
            Ok(Envelope::PairAnswer(answer)) if self.pairing => {
                return Ok(Handled::Answer {
                    answer: Box::new(answer),
                    number,
                });
            }
            // An answer to a code that is dead: codes do not outlive the program that showed them.
            Ok(Envelope::PairAnswer(_)) => Handled::Quiet,
            Ok(Envelope::PairOffer(offer)) => self.take_offer(&offer, &delivered.body, observer)?,
            Ok(Envelope::PairEnded { sid, runs_left }) => {
                let asked = self.vault.close_run(&sid)?;
                Handled::Ended {
                    sid,
                    runs_left,
                    asked,
                }
            }
            Ok(envelope) => {
                let frame = envelope.frame().and_then(|frame| Frame::parse(frame).ok());
                match (frame, &envelope) {
                    (None, _) => self.dropped(&delivered, "it cannot be decoded", observer)?,
                    (Some(frame), Envelope::First { header, .. }) => {
                        self.take_first(&delivered, frame.message_id, header, observer)
                            .await?
                    }
                    (Some(frame), _) => {
                        self.take_message(&delivered, frame.message_id, observer)
                            .await?
                    }
                }
            }
            Err(_) => self.dropped(&delivered, "it cannot be decoded", observer)?,
        };
        self.acknowledge(number).await?;
        Ok(handled)
    }

    pub(super) fn dropped(
        &self,
        delivered: &Delivered,
        why: &str,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let text = format!(
            "a delivery that is said to be from {} was dropped: {why}",
            delivered.sender
        );
        note(observer, "dropped", text)?;
        Ok(Handled::Quiet)
    }

    /// Keeps an offer of a pairing for the user.
    fn take_offer(
        &mut self,
        offer: &PairOffer,
        envelope: &[u8],
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let (from, identity) = (&offer.public.initiator, &offer.public.identity);
        let own = self.address();
        let foreign =
            offer.public.responder != own || *from == own || identity == self.identity.claim();
        if foreign || identity.verify().is_err() {
            note(
                observer,
                "dropped",
                "a request to pair that is not in order was dropped",
            )?;
            return Ok(Handled::Quiet);
        }
        let asked = Asked::Code { sid: offer.sid };
        let added = self.vault.add_request(from, identity, asked, envelope)?;
        crash::point("request-stored");
        // It may have come before a crash and not have been told; or it was answered, or ended, already.
        if added != Added::New && !self.vault.requests()?.iter().any(|r| r.asked == asked) {
            return Ok(Handled::Quiet);
        }
        self.tell_request(from, identity, observer)?;
        Ok(Handled::Asked(from.clone()))
    }

    fn tell_request(
        &mut self,
        from: &Address,
        identity: &IdentityClaim,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let requests = self.vault.requests()?;
        match requests
            .iter()
            .rfind(|r| r.from == *from && r.identity == *identity)
        {
            Some(request) => {
                let changed = self.is_changed(request)?;
                tell(observer, &Event::Request { request, changed })
            }
            None => Ok(()),
        }
    }

    /// Whether a request comes under another identity than the one known for its address.
    pub fn is_changed(&mut self, request: &Request) -> Result<bool> {
        let contact = self.vault.contact_at(&request.from)?;
        Ok(contact
            .and_then(|c| c.identity.or(c.expected))
            .is_some_and(|identity| identity != request.identity))
    }

    /// A first message: of a known contact it is opened, of others it becomes a request.
    async fn take_first(
        &mut self,
        delivered: &Delivered,
        id: MessageId,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        if header.receiver != self.address() || header.identity.verify().is_err() {
            return self.dropped(delivered, "it is not in order", observer);
        }
        if self.vault.seen(&id)? == Some(Stored::Committed) {
            return Ok(Handled::Quiet);
        }
        let contact = self.vault.contact_at(&header.sender)?;
        match contact.as_ref().and_then(|c| c.identity) {
            Some(known) if known == header.identity => {
                return self.take_message(delivered, id, observer).await;
            }
            Some(_) if !self.confirms_change(header, observer).await? => {
                return self.dropped(
                    delivered,
                    "its sender's relay knows another identity for that name",
                    observer,
                );
            }
            _ => {}
        }
        self.hold(delivered, header, observer)
    }

    /// Keeps a first message for the user, or for later.
    fn hold(
        &mut self,
        delivered: &Delivered,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let news = !self
            .vault
            .requests()?
            .iter()
            .any(|r| r.asked == Asked::First && r.from == header.sender);
        let (sender, identity) = (&header.sender, &header.identity);
        let added = self
            .vault
            .add_request(sender, identity, Asked::First, &delivered.body)?;
        if added == Added::Full {
            let why = "there are too many requests; accept or decline some";
            return self.dropped(delivered, why, observer);
        }
        crash::point("request-stored");
        if news {
            self.tell_request(&header.sender, &header.identity, observer)?;
        }
        Ok(Handled::Asked(header.sender.clone()))
    }

    /// A known contact seems to write under a new identity: asks its relay. `false` if the relay says otherwise.
    async fn confirms_change(
        &mut self,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let address = &header.sender;
        let bound = match self.at(&address.relay()).await {
            Ok(relay) => relay.look_up(address.name()).await,
            Err(error) => Err(error),
        };
        match bound {
            Ok(identity) if identity == header.identity => {
                if let Some(mut contact) = self.vault.contact_at(address)?
                    && contact.changed != Some(identity)
                {
                    contact.changed = Some(identity);
                    self.vault.save_contact(&contact)?;
                    note(
                        observer,
                        "changed",
                        Error::IdentityChanged(address.to_string()).to_string(),
                    )?;
                }
                Ok(true)
            }
            Ok(_) => Ok(false),
            // Not known now: it waits as a request, and the relay is asked again when the user accepts it.
            Err(_) => Ok(true),
        }
    }

    /// Opens, stores and commits a message.
    async fn take_message(
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
                self.hold_any(
                    delivered,
                    "the token's memory of first messages is full",
                    observer,
                )
            }
            TokenError::SessionsFull => self.hold_any(
                delivered,
                "the token has no place for another session",
                observer,
            ),
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
            self.strangers = self.strangers.saturating_add(1);
            self.vault.count_stranger()?;
        }
        Ok(Handled::Quiet)
    }

    /// Keeps what may be opened later, if it is a first message; nothing else can meet a full token.
    fn hold_any(
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
                self.hold(delivered, &header, observer)
            }
            _ => self.dropped(delivered, why, observer),
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
            verified: self
                .vault
                .contact_at(&peer)?
                .is_some_and(|c| c.trust.is_verified()),
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
                let text = format!(
                    "{peer} has ended its sessions: it erased its keys, or replaced its token"
                );
                note(observer, "session_ended", text)?;
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
