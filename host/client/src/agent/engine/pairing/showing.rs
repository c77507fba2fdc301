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
use crate::error::{Error, Result};
use crate::model::event::WaitingFor;
use crate::model::{Contact, Event, Fault, Note, Trust};
use crate::relay::Backoff;

/// How long a code lives, in seconds; the token counts by its own clock as well.
pub(super) const CODE_S: u64 = 600;

/// How one run ended.
enum Run {
    Paired(IdentityClaim),
    WrongCode {
        runs_left: u8,
    },
    /// The peer's code, typed here, was right.
    Joined,
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
        let mut run = None;
        let text = std::str::from_utf8(code.as_slice())
            .map_err(|_| Error::Internal("a code that is none"))?;
        self.pairing = true;
        self.showing_to = Some(address.clone());
        let result = self
            .runs(&contact, text, deadline, &mut run, observer)
            .await;
        self.pairing = false;
        self.showing_to = None;
        if result.is_err() {
            // Both are courtesies: the token forgets a code by itself, and the other end has its own deadline.
            let _ = self.token.pair_end().await;
            if let Some(sid) = run {
                let _ = self.tell_ended(address, sid, 0).await;
            }
        }
        result
    }

    async fn runs(
        &mut self,
        contact: &Contact,
        code: &str,
        deadline: Instant,
        current: &mut Option<SessionStartId>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let address = &contact.address;
        let mut shown = false;
        let mut crossing = Crossing::default();
        loop {
            let offered = self.token.pair_offer().await?;
            let sid = offered.offer.sid;
            *current = Some(sid);
            self.post(address, &Envelope::PairOffer(offered.offer))
                .await?;
            crash::point("offer-sent");
            if !std::mem::replace(&mut shown, true) {
                let event = Event::Code {
                    peer: address.clone(),
                    code: Zeroizing::new(code.into()),
                    seconds: CODE_S,
                };
                tell(observer, event)?;
            }
            Self::waiting(Some(address), WaitingFor::Code, observer)?;
            let run = self.one_run(address, sid, deadline, &mut crossing, observer);
            match run.await? {
                Run::Joined => {
                    *current = None;
                    // Courtesies, as when a pairing fails.
                    let _ = self.token.pair_end().await;
                    let _ = self.tell_ended(address, sid, 0).await;
                    self.bound.insert(address.clone());
                    return Ok(());
                }
                Run::Paired(identity) => {
                    *current = None;
                    return self.paired(contact, identity, observer);
                }
                Run::WrongCode { runs_left } => {
                    *current = None;
                    self.tell_ended(address, sid, runs_left).await?;
                    let peer = address.clone();
                    tell(observer, Event::WrongCode { peer, runs_left })?;
                    if runs_left == 0 {
                        return Err(Error::CodeDead);
                    }
                }
            }
        }
    }

    /// Waits for the answer to one offer, or for the end of a pairing under the peer's code.
    async fn one_run(
        &mut self,
        address: &Address,
        sid: SessionStartId,
        deadline: Instant,
        crossing: &mut Crossing,
        observer: &mut dyn Observer,
    ) -> Result<Run> {
        let mut told_to_wait = false;
        loop {
            self.look_for_crossing(address, crossing, observer).await?;
            let typed = crossing.typed();
            let next = self
                .next_handled_or(deadline, Error::CodeExpired, typed, observer)
                .await?;
            let handled = match next {
                Next::Other((request, Some(code))) => {
                    self.answer_crossing(&request, code, crossing, observer)
                        .await?;
                    continue;
                }
                Next::Other((_, None)) => continue,
                Next::Handled(handled) => handled,
            };
            match handled {
                Handled::Paired(who) if who == *address => return Ok(Run::Joined),
                Handled::Ended {
                    sender,
                    sid: ended,
                    runs_left,
                    ..
                } if sender == *address => {
                    if crossing.has_answered(&ended) {
                        let peer = address.clone();
                        tell(observer, Event::WrongCode { peer, runs_left })?;
                    } else if ended == sid && !std::mem::replace(&mut told_to_wait, true) {
                        let (peer, minutes) = (address.clone(), runs_left.clamp(1, 10));
                        tell(observer, Event::PeerMustWait { peer, minutes })?;
                    }
                }
                Handled::Answer { answer, number } if answer.sid == sid => {
                    if let Some(run) = self.confirm(address, *answer, observer).await? {
                        // What is lost with the connection here is only the acknowledgement: the answer is of no use any
                        // more.
                        let _ = self.acknowledge(number).await;
                        return Ok(run);
                    }
                    self.acknowledge(number).await?;
                }
                Handled::Answer { number, .. } => self.acknowledge(number).await?,
                _ => {}
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
