//! Accepting: answering a code, and hearing who writes for the first time.
//!
//! ```text
//!  request (code)  ─▶ token answers ─▶ [outbox] ─▶ initiator's mailbox ─▶ wait: message 3, or "ended" and a new offer
//!  request (first) ─▶ the sender's relay is asked for its identity ─▶ token opens ─▶ as any message
//! ```

use std::time::Duration;

use hostchat_core::icd::TokenError;
use hostchat_core::wire::{Address, Bytes, Envelope, PairOffer, SessionStartId, codec};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Client;
use super::event::{Event, Observer, WaitingFor, tell};
use super::incoming::Handled;
use super::pair::CODE_S;
use crate::crash;
use crate::error::{Error, Result};
use crate::os;
use crate::relay::Delivered;
use crate::vault::{Asked, Payload, Request};

/// What became of an answer to a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The pairing is complete; what came with it is stored.
    Paired,
    /// The initiator says that the code was wrong.
    WrongCode {
        /// Runs left for that code.
        runs_left: u8,
    },
}

impl Client {
    /// Takes in what lies in the mailbox, so that requests are known; gives those who asked and have ended it meanwhile.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub async fn collect(&mut self, observer: &mut dyn Observer) -> Result<Vec<Address>> {
        let mut gave_up = Vec::new();
        self.start_receiving().await?;
        while let Some(delivered) = self.next_step().await? {
            if self.stop.is_wished() {
                return Err(Error::Interrupted);
            }
            if let Handled::Ended {
                asked: Some(who), ..
            } = self.handle(delivered, observer).await?
            {
                gave_up.push(who);
            }
        }
        Ok(gave_up)
    }

    /// Waits until somebody asks; with `from` only that one counts.
    ///
    /// # Errors
    /// `Nothing` when `seconds` are over; `Interrupted`; those of relay, token, vault.
    pub async fn await_request(
        &mut self,
        from: Option<&Address>,
        seconds: u64,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(seconds.min(30 * 24 * 3600));
        Self::waiting(from, WaitingFor::Request, observer)?;
        loop {
            let late = Error::Nothing("nobody asks".into());
            if let Handled::Asked(who) = self.next_handled(deadline, late, observer).await?
                && from.is_none_or(|from| *from == who)
            {
                return Ok(());
            }
        }
    }

    /// Answers a code: six digits that the user typed for this request.
    ///
    /// # Errors
    /// `IdentityChanged`, `TooManyAnswers`, `NoTouch`; those of relay, token, vault.
    pub async fn answer_code(
        &mut self,
        request: &Request,
        code: Zeroizing<[u8; 6]>,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<SessionStartId> {
        let offer = offer_of(request)?;
        if self.is_changed(request)? && !accept_changed {
            return Err(Error::IdentityChanged(request.from.to_string()));
        }
        // The initiator has to be reached anyway; a relay that is down must not cost a try.
        self.at(&request.from.relay()).await?;
        let sid = offer.sid;
        let answered = match self
            .token
            .pair_answer(self.address(), offer, code, accept_changed)
            .await
        {
            Ok(answered) => answered,
            Err(error) => return Err(self.not_answered(request, error)?),
        };
        crash::point("code-answered");
        let envelope: hostchat_core::wire::EnvelopeBytes =
            codec::encode_vec(&Envelope::PairAnswer(answered.answer))
                .map_err(|_| Error::Internal("envelope too long"))?;
        let payload = Payload::PairAnswer {
            made_at: os::now_ms(),
        };
        let mut entry = self.vault.queue_sealed(
            &request.from,
            payload,
            Bytes(os::random()),
            envelope.to_vec(),
        )?;
        self.vault.close_run(&sid)?;
        crash::point("answer-stored");
        self.send_entry(&mut entry, observer).await?;
        crash::point("answer-sent");
        Ok(sid)
    }

    /// A request that can never be answered is deleted.
    fn not_answered(&mut self, request: &Request, error: Error) -> Result<Error> {
        match error {
            Error::Token(TokenError::IdentityChanged) => {
                Ok(Error::IdentityChanged(request.from.to_string()))
            }
            Error::Token(TokenError::Replayed) => {
                if let Asked::Code { sid } = request.asked {
                    self.vault.close_run(&sid)?;
                }
                Ok(Error::AnsweredAlready)
            }
            Error::Token(
                why @ (TokenError::Malformed
                | TokenError::PeerMisbehaved
                | TokenError::WrongAddress
                | TokenError::Authentication
                | TokenError::Version),
            ) => {
                self.vault.delete_request(request.id)?;
                Ok(Error::BadOffer {
                    from: request.from.to_string(),
                    why,
                })
            }
            _ => Ok(error),
        }
    }

    /// Waits for what becomes of an answer.
    ///
    /// # Errors
    /// `CodeExpired` when ten minutes are over; `PairingEnded`; `Interrupted`; those of relay, token, vault.
    pub async fn await_confirmation(
        &mut self,
        peer: &Address,
        sid: SessionStartId,
        observer: &mut dyn Observer,
    ) -> Result<Confirmation> {
        let deadline = Instant::now() + Duration::from_secs(CODE_S);
        Self::waiting(Some(peer), WaitingFor::Confirmation, observer)?;
        loop {
            match self
                .next_handled(deadline, Error::CodeExpired, observer)
                .await?
            {
                Handled::Paired(who) if who == *peer => return Ok(Confirmation::Paired),
                Handled::Ended {
                    sid: ended,
                    runs_left,
                    ..
                } if ended == sid => {
                    tell(observer, &Event::WrongCode { peer, runs_left })?;
                    return Ok(Confirmation::WrongCode { runs_left });
                }
                _ => {}
            }
        }
    }

    /// Waits for the next offer of a peer after a wrong code.
    ///
    /// # Errors
    /// `CodeExpired` when ten minutes are over; `Interrupted`; those of relay, token, vault.
    pub async fn await_offer(
        &mut self,
        peer: &Address,
        observer: &mut dyn Observer,
    ) -> Result<Request> {
        let deadline = Instant::now() + Duration::from_secs(CODE_S);
        loop {
            let offer = self
                .vault
                .requests()?
                .into_iter()
                .rfind(|r| r.from == *peer && r.asked != Asked::First);
            if let Some(request) = offer {
                return Ok(request);
            }
            Self::waiting(Some(peer), WaitingFor::NextOffer, observer)?;
            while !matches!(
                self.next_handled(deadline, Error::CodeExpired, observer)
                    .await?,
                Handled::Asked(_)
            ) {}
        }
    }

    /// Opens the first messages of a sender, after its relay was asked for its identity.
    ///
    /// # Errors
    /// `Binding` if that relay knows another identity; `IdentityChanged` without `accept_changed`; `Nothing`; those of
    /// relay, token, vault.
    pub async fn accept_first(
        &mut self,
        from: &Address,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let requests: Vec<Request> = self
            .vault
            .requests()?
            .into_iter()
            .filter(|r| r.from == *from && r.asked == Asked::First)
            .collect();
        if requests.is_empty() {
            return Err(Error::Nothing(format!("{from} has not written")));
        }
        let bound = self.at(&from.relay()).await?.look_up(from.name()).await?;
        let mut any = false;
        for request in requests {
            if request.identity != bound {
                continue;
            }
            if self.is_changed(&request)? && !accept_changed {
                return Err(Error::IdentityChanged(from.to_string()));
            }
            self.open_held(&request, accept_changed, observer).await?;
            any = true;
        }
        if any {
            Ok(())
        } else {
            Err(Error::Binding(from.to_string()))
        }
    }

    async fn open_held(
        &mut self,
        request: &Request,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let opened = self
            .token
            .open_message(self.address(), request.envelope.clone(), accept_changed)
            .await;
        match opened {
            Ok(opened) => {
                self.take_opened(opened, observer).await?;
            }
            Err(Error::Token(error)) => {
                let keep = matches!(
                    error,
                    TokenError::SessionsFull
                        | TokenError::ReplayMemoryFull
                        | TokenError::Storage
                        | TokenError::Random
                        | TokenError::IdentityChanged
                        | TokenError::BadRequest
                        | TokenError::Uncommitted
                );
                if keep {
                    return Err(match error {
                        TokenError::IdentityChanged => {
                            Error::IdentityChanged(request.from.to_string())
                        }
                        other => other.into(),
                    });
                }
                // A repeat, or nothing that can ever be opened. As with a delivery it is told, and goes.
                let delivered = Delivered {
                    number: 0,
                    sender: request.from.clone(),
                    stored_at: 0,
                    message_id: Bytes([0; 16]),
                    body: Vec::new(),
                };
                if error != TokenError::Replayed {
                    self.dropped(&delivered, &Error::Token(error).to_string(), observer)?;
                }
            }
            Err(other) => return Err(other),
        }
        self.vault.delete_request(request.id)
    }

    /// Accepts that the identity of a contact has changed, by beginning a session with the new one; `false` if it has not
    /// changed. What waits in the outbox is sealed again.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub async fn accept_change(&mut self, address: &Address) -> Result<bool> {
        match self
            .vault
            .contact_at(address)?
            .filter(|c| c.changed.is_some())
        {
            Some(contact) => self.start_session(contact, true).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether a request is still there: its sender may have ended it.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn is_open(&mut self, request: &Request) -> Result<bool> {
        Ok(self.vault.requests()?.iter().any(|r| r.id == request.id))
    }

    /// Declines all requests of an address.
    ///
    /// # Errors
    /// `Nothing` if there are none; those of the vault.
    pub fn decline(&mut self, from: &Address) -> Result<()> {
        if !self.vault.requests()?.iter().any(|r| r.from == *from) {
            return Err(Error::Nothing(format!("{from} does not ask for anything")));
        }
        self.vault.delete_requests(from)
    }
}

fn offer_of(request: &Request) -> Result<PairOffer> {
    match codec::decode::<Envelope<'_>>(&request.envelope) {
        Ok(Envelope::PairOffer(offer)) => Ok(offer),
        _ => Err(Error::Internal("not an offer")),
    }
}
