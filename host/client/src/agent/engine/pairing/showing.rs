//! Pairing with a one-time code, at the end that shows the code.
//!
//! ```text
//!  token: code ─▶ run: offer ─▶ mailbox of the other
//!                  ◀─ answer ── own mailbox      good: paired.  bad: the other is told, next run, three at most
//!                  the other has made a code too: crossing.rs
//! ```
//!
//! Invariant: the code is in the token's RAM and on the user's screen, nowhere else. However this ends, the token
//! forgets it.

use std::time::Duration;

use hostchat_core::icd::TokenError;
use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{
    Address, Bytes, Envelope, EnvelopeBytes, IdentityClaim, PairAnswer, SessionStartId, codec,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::super::Client;
use super::super::event::{Observer, note, tell};
use super::super::incoming::Handled;
use super::super::receive::Next;
use super::super::send::is_transient;
use super::crossing::Crossing;
use crate::crash;
use crate::error::{Error, Fault, Result};
use crate::model::event::WaitingFor;
use crate::model::{Contact, Event, Note, Request, Trust};
use crate::relay::Backoff;

/// How long a code lives, in seconds; the token counts by its own clock as well.
pub(super) const CODE_S: u64 = 600;

/// What an answer was.
enum Run {
    Paired(IdentityClaim),
    WrongCode { runs_left: u8 },
}

/// A code that is shown, and its present run.
pub(in super::super) struct Showing {
    contact: Contact,
    code: Zeroizing<String>,
    /// When the code expires.
    pub(in super::super) deadline: Instant,
    /// The offer that waits for its answer.
    run: Option<SessionStartId>,
    told_to_wait: bool,
    crossing: Crossing,
}

/// What happens to a code that is shown.
pub(in super::super) enum ShowStep {
    /// Something was delivered.
    Handled(Handled),
    /// Somebody was asked for the peer's code.
    Typed(Request, Option<Zeroizing<[u8; 6]>>),
}

impl Showing {
    /// For whom it is shown.
    pub(in super::super) fn peer(&self) -> &Address {
        &self.contact.address
    }

    /// Waits until somebody has typed the peer's code; for ever if nobody is asked. Dropping the future loses nothing.
    pub(in super::super) async fn typed(&mut self) -> ShowStep {
        let (request, code) = self.crossing.typed().await;
        ShowStep::Typed(request, code)
    }
}

impl Client {
    /// Makes a code for the contact at `address`, shows it through the observer, and waits until it was typed.
    ///
    /// # Errors
    /// `CodeDead`, `CodeExpired`, `IdentityChanged`, `Interrupted`; those of relay, token, vault.
    pub async fn pair(
        &mut self,
        address: &Address,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut showing = self.show_code(address, accept_changed, observer).await?;
        let result = self.until_paired(&mut showing, observer).await;
        self.end_showing(showing, result.is_err()).await;
        result
    }

    async fn until_paired(
        &mut self,
        showing: &mut Showing,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        loop {
            let late = Error::CodeExpired;
            let typed = showing.crossing.typed();
            let next = self
                .next_handled_or(showing.deadline, late, typed, observer)
                .await?;
            let step = match next {
                Next::Handled(handled) => ShowStep::Handled(handled),
                Next::Other((request, code)) => ShowStep::Typed(request, code),
            };
            if self.show_step(showing, step, observer).await? {
                return Ok(());
            }
        }
    }

    /// Makes a code for the contact at `address`, offers it, and shows it through the observer.
    ///
    /// # Errors
    /// `IdentityChanged`; those of relay, token, vault. The code is gone then.
    pub(in super::super) async fn show_code(
        &mut self,
        address: &Address,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<Showing> {
        let contact = self.vault.contact_or_new(address)?;
        let contact = self.recheck(contact, observer).await?;
        if contact.changed.is_some() && !accept_changed {
            return Err(Error::IdentityChanged(address.to_string()));
        }
        self.start_receiving().await?;
        self.at(&address.relay()).await?;
        let own = self.address();
        let code = self
            .token
            .pair_begin(own, address.clone(), accept_changed)
            .await?;
        crash::point("code-drawn");
        let deadline = Instant::now() + Duration::from_secs(CODE_S);
        let text = std::str::from_utf8(code.as_slice())
            .map_err(|_| Error::Internal("a code that is none"))?;
        let mut showing = Showing {
            contact,
            code: Zeroizing::new(text.into()),
            deadline,
            run: None,
            told_to_wait: false,
            crossing: Crossing::default(),
        };
        self.showing_to = Some(address.clone());
        match self.begin_showing(&mut showing, observer).await {
            Ok(()) => Ok(showing),
            Err(error) => {
                self.end_showing(showing, true).await;
                Err(error)
            }
        }
    }

    async fn begin_showing(
        &mut self,
        showing: &mut Showing,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.offer(showing).await?;
        let event = Event::Code {
            peer: showing.contact.address.clone(),
            code: showing.code.clone(),
            seconds: CODE_S,
        };
        tell(observer, event)?;
        self.wait_for_answer(showing, observer).await
    }

    /// Offers the next run of a code.
    async fn offer(&mut self, showing: &mut Showing) -> Result<()> {
        let offered = self.token.pair_offer().await?;
        showing.run = Some(offered.offer.sid);
        showing.told_to_wait = false;
        self.post(
            &showing.contact.address,
            &Envelope::PairOffer(offered.offer),
        )
        .await?;
        crash::point("offer-sent");
        Ok(())
    }

    async fn wait_for_answer(
        &mut self,
        showing: &mut Showing,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let address = showing.contact.address.clone();
        Self::waiting(Some(&address), WaitingFor::Code, observer)?;
        self.look_for_crossing(&address, &mut showing.crossing, observer)
            .await
    }

    /// Does what follows from a step; whether the two are paired now.
    ///
    /// # Errors
    /// `CodeDead`, `IdentityChanged`; those of relay, token, vault.
    pub(in super::super) async fn show_step(
        &mut self,
        showing: &mut Showing,
        step: ShowStep,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let address = showing.contact.address.clone();
        match step {
            ShowStep::Typed(request, Some(code)) => {
                self.answer_crossing(&request, code, &mut showing.crossing, observer)
                    .await?;
            }
            ShowStep::Typed(_, None) => {}
            ShowStep::Handled(Handled::Paired(who)) if who == address => {
                let run = showing.run.take();
                // Courtesies, as when a pairing fails.
                let _ = self.token.pair_end().await;
                if let Some(sid) = run {
                    let _ = self.tell_ended(&address, sid, 0).await;
                }
                self.bound.insert(address);
                return Ok(true);
            }
            ShowStep::Handled(Handled::Ended {
                sender,
                sid: ended,
                runs_left,
                ..
            }) if sender == address => {
                if showing.crossing.has_answered(&ended) {
                    let peer = address.clone();
                    tell(observer, Event::WrongCode { peer, runs_left })?;
                } else if showing.run == Some(ended)
                    && !std::mem::replace(&mut showing.told_to_wait, true)
                {
                    let (peer, minutes) = (address.clone(), runs_left.clamp(1, 10));
                    tell(observer, Event::PeerMustWait { peer, minutes })?;
                }
            }
            ShowStep::Handled(Handled::Answer { answer, number })
                if showing.run == Some(answer.sid) =>
            {
                let confirmed = self.confirm(&address, *answer, observer).await?;
                // What is lost with the connection here is only the acknowledgement: the answer is of no use any more.
                let acknowledged = self.acknowledge(number).await;
                match confirmed {
                    None => acknowledged?,
                    Some(Run::Paired(identity)) => {
                        showing.run = None;
                        self.paired(&showing.contact, identity, observer)?;
                        return Ok(true);
                    }
                    Some(Run::WrongCode { runs_left }) => {
                        let run = showing.run.take();
                        if let Some(sid) = run {
                            self.tell_ended(&address, sid, runs_left).await?;
                        }
                        let peer = address.clone();
                        tell(observer, Event::WrongCode { peer, runs_left })?;
                        if runs_left == 0 {
                            return Err(Error::CodeDead);
                        }
                        self.offer(showing).await?;
                        self.wait_for_answer(showing, observer).await?;
                        return Ok(false);
                    }
                }
            }
            ShowStep::Handled(Handled::Answer { number, .. }) => self.acknowledge(number).await?,
            ShowStep::Handled(_) => {}
        }
        self.look_for_crossing(&address, &mut showing.crossing, observer)
            .await?;
        Ok(false)
    }

    /// A code is not shown any more: the token forgets one that `failed`, and the other end is told.
    pub(in super::super) async fn end_showing(&mut self, showing: Showing, failed: bool) {
        self.showing_to = None;
        if failed {
            // Both are courtesies: the token forgets a code by itself, and the other end has its own deadline.
            let _ = self.token.pair_end().await;
            if let Some(sid) = showing.run {
                let _ = self.tell_ended(&showing.contact.address, sid, 0).await;
            }
        }
    }

    /// Gives an answer to the token; `None` if it was not an answer to judge.
    async fn confirm(
        &mut self,
        address: &Address,
        answer: PairAnswer,
        observer: &mut dyn Observer,
    ) -> Result<Option<Run>> {
        let claimed = answer.public.identity;
        match self.token.pair_confirm(answer).await {
            Ok((identity, _)) => {
                crash::point("pair-confirmed");
                Ok(Some(Run::Paired(identity)))
            }
            Err(Error::WrongCode { runs_left }) => Ok(Some(Run::WrongCode { runs_left })),
            Err(Error::CodeDead) => Ok(Some(Run::WrongCode { runs_left: 0 })),
            Err(Error::Token(TokenError::IdentityChanged)) => {
                let mut contact = self.vault.contact_or_new(address)?;
                contact.changed = Some(claimed);
                self.vault.save_contact(&contact)?;
                Err(Error::IdentityChanged(address.to_string()))
            }
            Err(Error::Token(
                error @ (TokenError::Storage | TokenError::SessionsFull | TokenError::Random),
            )) => Err(Error::Token(error)),
            Err(Error::Token(error)) => {
                let fault = Fault::from(&Error::Token(error));
                note(observer, Note::BadAnswer { fault })?;
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Notes that `contact` is verified by a code.
    fn paired(
        &mut self,
        contact: &Contact,
        identity: IdentityClaim,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut contact = self.vault.contact_or_new(&contact.address)?;
        let same = contact.identity == Some(identity);
        contact.identity = Some(identity);
        contact.trust = Trust::Code;
        contact.changed = None;
        contact.expected = None;
        self.vault.save_contact(&contact)?;
        if !same {
            self.vault.reseal_outgoing(&contact.address)?;
        }
        // Verified by more than the relay's word; the relay need not be asked again in this run.
        self.bound.insert(contact.address.clone());
        crash::point("contact-stored");
        let event = Event::Paired {
            peer: contact.address.clone(),
            verified: true,
            safety_number: self.safety_number(&contact)?,
        };
        tell(observer, event)
    }

    /// Tells the other that a run is over. A hint: nothing rests on it.
    async fn tell_ended(
        &mut self,
        address: &Address,
        sid: SessionStartId,
        runs_left: u8,
    ) -> Result<()> {
        self.post(address, &Envelope::PairEnded { sid, runs_left })
            .await
    }

    /// Leaves a step of a pairing in the other's mailbox.
    async fn post(&mut self, address: &Address, envelope: &Envelope<'_>) -> Result<()> {
        let body: EnvelopeBytes =
            codec::encode_vec(envelope).map_err(|_| Error::Internal("envelope too long"))?;
        let id = Bytes(self.os.random());
        let mut backoff = Backoff::default();
        loop {
            let sent = match self.at(&address.relay()).await {
                Ok(relay) => relay.send(address.name(), id, Kind::Pairing, &body).await,
                Err(error) => Err(error),
            };
            match sent {
                Err(error) if is_transient(&error) && backoff.has_patience() => {
                    self.pause(&mut backoff).await?
                }
                other => return other,
            }
        }
    }
}
