//! Accepting: answering a code.
//!
//! ```text
//!  request (code)  ─▶ token answers ─▶ [outbox] ─▶ initiator's mailbox ─▶ wait: message 3, or "ended" and a new offer
//!                     └─ three answers in ten minutes: the initiator is told, and no code is asked for
//! ```

use std::time::Duration;

use hostchat_core::icd::TokenError;
use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Address, Bytes, Envelope, PairOffer, SessionStartId, codec};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::super::Client;
use super::super::event::{Observer, tell};
use super::super::incoming::Handled;
use super::showing::CODE_S;
use crate::crash;
use crate::error::{Error, Result};
use crate::model::event::WaitingFor;
use crate::model::{Asked, Event, Request};
use crate::os;
use crate::vault::Payload;

/// No relay delivers an offer that is older, in milliseconds: a greater difference is a clock that was set.
const CLOCK_SET_MS: u64 = 24 * 60 * 60 * 1000;

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
        self.mailbox_drained(observer)?;
        self.leave().await?;
        Ok(gave_up)
    }

    /// Waits until somebody asks; with `from` only that one counts, under the identity that its relay knows.
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
            let late = Error::NobodyAsks;
            let Handled::Asked { from: who, .. } =
                self.next_handled(deadline, late, observer).await?
            else {
                continue;
            };
            let Some(from) = from else { return Ok(()) };
            if *from == who {
                self.check_requests(from).await?;
                if self.vault.requests()?.iter().any(|r| r.from == *from) {
                    return Ok(());
                }
            }
        }
    }

    /// Makes sure, as far as that is known, that the token answers a code now: before somebody types one in vain. If it
    /// does not, the sender of the request is told too.
    ///
    /// # Errors
    /// `TooManyAnswers`; those of the vault.
    pub async fn check_answers(&mut self, request: &Request) -> Result<()> {
        let Some(seconds) = self.vault.answer_wait(os::uptime())? else {
            return Ok(());
        };
        self.tell_wait(request, seconds).await;
        Err(Error::TooManyAnswers { seconds })
    }

    /// Tells the sender of a request that no code is answered here for some time. A hint: nothing rests on it.
    async fn tell_wait(&mut self, request: &Request, seconds: u16) {
        let Asked::Code { sid } = request.asked else {
            return;
        };
        let minutes = u8::try_from(seconds.div_ceil(60)).unwrap_or(u8::MAX);
        let envelope = Envelope::PairEnded {
            sid,
            runs_left: minutes,
        };
        let encoded: Result<hostchat_core::wire::EnvelopeBytes, _> = codec::encode_vec(&envelope);
        let id = Bytes(self.os.random());
        if let (Ok(body), Ok(relay)) = (encoded, self.at(&request.from.relay()).await) {
            let _ = relay
                .send(request.from.name(), id, Kind::Pairing, &body)
                .await;
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
        let offer = self.offer_of(request)?;
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
            Err(error) => {
                let error = self.not_answered(request, error)?;
                if let Error::TooManyAnswers { seconds } = error {
                    self.tell_wait(request, seconds).await;
                }
                return Err(error);
            }
        };
        self.vault
            .note_answer(&sid, answered.answers_left, os::uptime())?;
        crash::point("code-answered");
        let envelope: hostchat_core::wire::EnvelopeBytes =
            codec::encode_vec(&Envelope::PairAnswer(answered.answer))
                .map_err(|_| Error::Internal("envelope too long"))?;
        let payload = Payload::PairAnswer {
            made_at: self.os.now_ms(),
        };
        let mut entry = self.vault.queue_sealed(
            &request.from,
            payload,
            Bytes(self.os.random()),
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
            Error::TooManyAnswers { seconds } => {
                self.vault.note_wait(seconds, os::uptime())?;
                Ok(error)
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

    /// Waits for what becomes of the answer to a request.
    ///
    /// # Errors
    /// `CodeOver` when the code cannot live any more; `Interrupted`; those of relay, token, vault.
    pub async fn await_confirmation(
        &mut self,
        request: &Request,
        sid: SessionStartId,
        observer: &mut dyn Observer,
    ) -> Result<Confirmation> {
        let peer = &request.from;
        let deadline = Instant::now() + self.life_left(request);
        Self::waiting(Some(peer), WaitingFor::Confirmation, observer)?;
        loop {
            match self
                .next_handled(deadline, code_over(request), observer)
                .await?
            {
                Handled::Paired(who) if who == *peer => return Ok(Confirmation::Paired),
                Handled::Ended {
                    sender,
                    sid: ended,
                    runs_left,
                    ..
                } if ended == sid && sender == *peer => {
                    let peer = peer.clone();
                    tell(observer, Event::WrongCode { peer, runs_left })?;
                    return Ok(Confirmation::WrongCode { runs_left });
                }
                _ => {}
            }
        }
    }

    /// Waits for the next offer of the same peer, under the same identity, after a wrong code.
    ///
    /// # Errors
    /// `CodeOver` when the code cannot live any more; `Interrupted`; those of relay, token, vault.
    pub async fn await_offer(
        &mut self,
        answered: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Request> {
        let peer = &answered.from;
        let deadline = Instant::now() + self.life_left(answered);
        loop {
            let offer = self
                .vault
                .requests()?
                .into_iter()
                .rfind(|r| r.is_like(answered));
            if let Some(request) = offer {
                return Ok(request);
            }
            Self::waiting(Some(peer), WaitingFor::NextOffer, observer)?;
            loop {
                let handled = self
                    .next_handled(deadline, code_over(answered), observer)
                    .await?;
                match handled {
                    Handled::Asked { from, identity }
                        if from == *peer && identity == answered.identity =>
                    {
                        break;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether a request is still there: its sender may have ended it.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn is_open(&mut self, request: &Request) -> Result<bool> {
        Ok(self.vault.requests()?.iter().any(|r| r.id == request.id))
    }

    /// Why a request is not there any more.
    #[must_use]
    pub fn why_gone(&self, request: &Request) -> Error {
        if self.life_left(request).is_zero() {
            return code_over(request);
        }
        let peer = request.from.to_string();
        Error::PairingEnded { peer }
    }

    /// The longest time that the code behind a request can still live.
    pub(in super::super) fn life_left(&self, request: &Request) -> Duration {
        let by_us = self.os.now_ms().saturating_sub(request.received_at);
        let known = self.vault.knows_relay_time();
        let relay_now = if known { self.vault.now() } else { 0 };
        let by_relay = relay_now.saturating_sub(request.stored_at);
        life_left(by_us, by_relay)
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

    fn offer_of(&mut self, request: &Request) -> Result<PairOffer> {
        let Some(envelope) = self.vault.request_envelope(request.id)? else {
            return Err(self.why_gone(request));
        };
        match codec::decode::<Envelope<'_>>(&envelope) {
            Ok(Envelope::PairOffer(offer)) => Ok(offer),
            _ => Err(Error::Internal("not an offer")),
        }
    }
}

pub(in super::super) fn code_over(request: &Request) -> Error {
    let peer = request.from.to_string();
    Error::CodeOver { peer }
}

/// What is left of a code's life when its offer has this age, in milliseconds by each of two clocks. The code was drawn
/// before it was offered, so it lives no longer than that.
fn life_left(by_us: u64, by_relay: u64) -> Duration {
    let life = Duration::from_secs(CODE_S);
    // No offer of a greater age is delivered: one of the clocks was set.
    let age = if by_relay < CLOCK_SET_MS {
        by_us.max(by_relay)
    } else {
        by_us
    };
    life.saturating_sub(Duration::from_millis(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_lives_ten_minutes_from_its_offer_on_however_late_it_is_typed() {
        let minutes = |n: u64| n * 60_000;
        let left = |by_us, by_relay| life_left(by_us, by_relay).as_secs();
        assert_eq!(left(0, 0), 600);
        assert_eq!(left(minutes(9), 0), 60);
        assert_eq!(left(minutes(1), minutes(9)), 60, "it lay at the relay");
        assert_eq!(left(minutes(11), 0), 0);
        assert_eq!(left(0, minutes(60 * 24 * 400)), 600, "a clock was set");
    }
}
