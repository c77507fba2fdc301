//! Pairing with a code: runs at the one end, charged answers at the other (SPEC section 7).
//!
//! The initiator's code lives in RAM only. An answer is charged, and what it needs to be completed is stored, in one
//! write before it leaves.

use core::pin::pin;

use heapless::Vec;
use hostchat_core::crypto::kem::SharedSecret;
use hostchat_core::handshake::IdentityKeys;
use hostchat_core::handshake::code::Code;
use hostchat_core::handshake::pair::{Initiator, Pending, Responder, check_offer};
use hostchat_core::icd::{Answered, Offered, Reply, TokenError};
use hostchat_core::ratchet::Session;
use hostchat_core::secret::CryptoRng;
use hostchat_core::wire::{Address, Bytes, PairAnswer, PairOffer};
use zeroize::Zeroize as _;

use super::answers::{ANSWERS, Answers, Attempt, TEN_MINUTES_MS, Waiting, age};
use super::cards::Origin;
use super::commands::{Answer, answer_with, rng};
use super::error::Failed;
use super::session_record::{Contact, tag_of_address, tag_of_identity};
use super::sessions::{Found, Place, or_damaged};
use super::{Room, Work};
use crate::env::{Env, TouchReason, Uptime};
use crate::records::RecordId;
use crate::store::{Growth, SEAL_OVERHEAD, StoreError};

/// Runs of one code.
const RUNS: u8 = 3;

/// A code that is shown: in RAM only, so that a restart kills it.
pub(super) struct HeldCode {
    own: Address,
    peer: Address,
    code: Code,
    accept_changed: bool,
    /// When it dies.
    deadline: Uptime,
    runs: u8,
    run: Option<Initiator>,
}

impl HeldCode {
    fn is_live(&self, now: Uptime) -> bool {
        now.epoch == self.deadline.epoch && now.ms <= self.deadline.ms
    }
}

impl<E: Env> Work<'_, E> {
    /// Draws a code, with a press.
    pub(super) async fn pair_begin(
        &mut self,
        own: &Address,
        peer: &Address,
        accept_changed: bool,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        self.keyring.code = None;
        if own == peer {
            return Err(Failed(TokenError::WrongAddress));
        }
        self.check_room(&tag_of_address(peer))?;
        pin!(self.press(TouchReason::ShowCode)).await?;
        let code = Code::generate(rng(self.env)?);
        let digits = Bytes(*code.expose_digits());
        let now = self.env.now();
        let deadline = Uptime {
            epoch: now.epoch,
            ms: now.ms.saturating_add(TEN_MINUTES_MS),
        };
        self.keyring.code = Some(HeldCode {
            own: own.clone(),
            peer: peer.clone(),
            code,
            accept_changed,
            deadline,
            runs: RUNS,
            run: None,
        });
        answer_with(&Reply::Code(digits), answer)
    }

    /// Starts a run, which is charged.
    pub(super) fn pair_offer(&mut self, answer: &mut Answer) -> Result<(), Failed> {
        let now = self.env.now();
        let live = |held: &&mut HeldCode| held.is_live(now) && held.runs > 0;
        let begun = match (self.keyring.code.as_mut().filter(live), rng(self.env)) {
            (None, _) => Err(Failed(TokenError::NoCode)),
            (_, Err(error)) => Err(error),
            (Some(held), Ok(rng)) => {
                begin_run(&self.keyring.identity, held, rng).and_then(|()| show_offer(held, answer))
            }
        };
        if begun.is_err() {
            self.keyring.code = None;
        }
        begun
    }

    /// Takes message 2: right ends the pairing with a session, wrong ends the run.
    pub(super) async fn pair_confirm(
        &mut self,
        message: &PairAnswer,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        let now = self.env.now();
        let live = |held: &&mut HeldCode| held.is_live(now);
        let Some(held) = self.keyring.code.as_mut().filter(live) else {
            self.keyring.code = None;
            return Err(Failed(TokenError::NoCode));
        };
        let run = held.run.as_ref().ok_or(Failed(TokenError::NoCode))?;
        if *run.sid() != message.sid {
            return Err(Failed(TokenError::UnknownSession));
        }
        let (runs_left, accept_changed) = (held.runs, held.accept_changed);
        let finished = rng(self.env).map(|rng| {
            finish_run(
                &self.keyring.identity,
                held,
                message,
                &mut self.room.current,
                rng,
            )
        });
        // Without another run the code is dead, and it has done its work when a run succeeded.
        if !matches!(finished, Ok(Err(_)) if runs_left > 0) {
            self.keyring.code = None;
        }
        let contact = finished?.map_err(|_| Failed(TokenError::WrongCode { runs_left }))?;
        let session = *self.room.current.id();
        let changed = self.identity_changed(&contact.address_tag(), &contact.identity_tag());
        let stored = if changed && !accept_changed {
            Err(Failed(TokenError::IdentityChanged))
        } else {
            match self.new_card(&contact, session, Origin::Shown(message.sid), true) {
                Ok(card) => {
                    pin!(self.store_session(card, &contact, Place::Current, Growth::New)).await
                }
                Err(error) => Err(error),
            }
        };
        self.room.current.clear();
        stored?;
        pin!(self.redo()).await?;
        answer_with(
            &Reply::Established {
                peer: contact.identity,
                session,
            },
            answer,
        )
    }

    /// Answers message 1 under the typed code, with a press; the answer is charged and stored before it leaves.
    pub(super) async fn pair_answer(
        &mut self,
        own: &Address,
        offer: &PairOffer,
        digits: &[u8],
        accept_changed: bool,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        let code = Code::from_digits(digits)?;
        let identity = check_offer(&self.keyring.identity, own, offer)?;
        let contact = Contact {
            address: offer.public.initiator.clone(),
            identity: *identity.claim(),
        };
        let (address, peer) = (contact.address_tag(), tag_of_identity(&contact.identity));
        pin!(self.read_answers()).await?;
        if self.was_answered(&offer.sid) {
            return Err(Failed(TokenError::Replayed));
        }
        self.check_room(&address)?;
        let now = self.env.now();
        let answers = &mut self.room.answers;
        answers.forget_old(now, self.keyring.host_time);
        // A new answer to the same peer takes the place of the one before.
        answers.forget(|pending| {
            *pending.peer_address() == contact.address
                && tag_of_identity(pending.peer().claim()) == peer
        });
        if let (true, Some(oldest)) = (answers.attempts.is_full(), answers.attempts.first()) {
            let left = TEN_MINUTES_MS.saturating_sub(age(oldest.at, now));
            return Err(Failed(TokenError::TooManyAnswers {
                seconds: left.div_ceil(1000) as u16,
            }));
        }
        if answers.waiting.is_full() {
            return Err(Failed(TokenError::TooManyPending));
        }
        if self.identity_changed(&address, &peer) && !accept_changed {
            return Err(Failed(TokenError::IdentityChanged));
        }
        pin!(self.press(TouchReason::AnswerCode)).await?;

        let at = self.env.now();
        let rng = rng(self.env)?;
        let responder = begin_answer(&self.keyring.identity, own, offer, rng)?;
        let charge = Charge {
            changed_accepted: accept_changed,
            answered: self.keyring.host_time,
            at,
        };
        let answers = &mut self.room.answers;
        end_answer(
            &self.keyring.identity,
            responder,
            &code,
            offer,
            charge,
            answers,
            answer,
            rng,
        )?;
        drop(code);
        pin!(self.save_answers(Growth::New)).await
    }

    /// The answer that message 3 belongs to, and whether a changed identity was accepted when it was given.
    pub(super) async fn pending(&mut self, sid: &Bytes<16>) -> Result<(Pending, bool), Failed> {
        pin!(self.read_answers()).await?;
        let answers = &mut self.room.answers;
        answers.forget_old(self.env.now(), self.keyring.host_time);
        for waiting in &answers.waiting {
            let pending = Pending::load(&waiting.state).map_err(|_| StoreError::Damaged)?;
            if pending.sid() == sid {
                return Ok((pending, waiting.changed_accepted));
            }
        }
        Err(Failed(TokenError::UnknownSession))
    }

    /// Forgets the answers whose sessions are there, and what they were charged.
    pub(super) async fn confirm_pending(&mut self) -> Result<(), Failed> {
        pin!(self.read_answers()).await?;
        if self.room.forget_confirmed() {
            pin!(self.save_answers(Growth::Update)).await?;
        }
        Ok(())
    }

    /// Forgets the answers to an address; they stay charged. Tells whether there were any.
    pub(super) async fn forget_pending(&mut self, peer: &Address) -> Result<bool, Failed> {
        pin!(self.read_answers()).await?;
        let answers = &mut self.room.answers;
        let forgotten = answers.forget(|pending| pending.peer_address() == peer);
        if forgotten {
            pin!(self.save_answers(Growth::Update)).await?;
        }
        Ok(forgotten)
    }

    /// Where the record cannot be read, the answers are gone, and the next one has to wait as if all that are possible had
    /// just been given.
    pub(super) async fn mend_answers(&mut self) -> Result<(), Failed> {
        if or_damaged(pin!(self.read_answers()).await)? == Found::Sound {
            return Ok(());
        }
        let (sid, at) = (Bytes([0; 16]), self.env.now());
        let answers = &mut self.room.answers;
        answers.clear();
        while answers.attempts.push(Attempt { sid, at }).is_ok() {}
        pin!(self.save_answers(Growth::Update)).await
    }

    /// Counts the answers that wait, for the status.
    pub(super) async fn count_pending(&mut self) -> Result<(), Failed> {
        pin!(self.read_answers()).await?;
        self.keyring.pending = self.room.answers.waiting.len() as u8;
        Ok(())
    }

    fn was_answered(&self, sid: &Bytes<16>) -> bool {
        self.room.answers.seen.contains(sid)
            || self.room.cards.iter().any(
                |card| matches!(card.origin, Origin::Typed(of) | Origin::Shown(of) if of == *sid),
            )
    }

    /// Reads the pairing record to `room.answers`.
    async fn read_answers(&mut self) -> Result<(), StoreError> {
        self.room.answers.clear();
        let buffer = &mut self.room.record;
        let Some(length) = pin!(self.store.read_sealed(
            &self.keyring.master,
            RecordId::PAIRING,
            buffer
        ))
        .await?
        else {
            return Ok(());
        };
        let content = buffer.get(SEAL_OVERHEAD..SEAL_OVERHEAD + length);
        let parsed = self.room.answers.parse(content.unwrap_or_default());
        buffer.zeroize();
        parsed
    }

    /// Stores `room.answers` as the pairing record.
    async fn save_answers(&mut self, growth: Growth) -> Result<(), Failed> {
        let length = self
            .room
            .answers
            .write(&mut self.room.record[SEAL_OVERHEAD..])?;
        let (rng, master) = (rng(self.env)?, &self.keyring.master);
        let buffer = &mut self.room.record;
        pin!(
            self.store
                .put_sealed(rng, master, RecordId::PAIRING, growth, buffer, length)
        )
        .await?;
        self.keyring.pending = self.room.answers.waiting.len() as u8;
        Ok(())
    }
}

impl Room {
    /// Forgets the answers whose sessions are there; tells whether there were any.
    fn forget_confirmed(&mut self) -> bool {
        let before = self.answers.attempts.len();
        let cards = &self.cards;
        self.answers
            .attempts
            .retain(|attempt| !cards.has_typed(&attempt.sid));
        let forgotten = self
            .answers
            .forget(|pending| cards.has_typed(pending.sid()));
        forgotten || self.answers.attempts.len() < before
    }
}

/// When an answer is given, and what goes with it.
struct Charge {
    changed_accepted: bool,
    answered: u64,
    at: Uptime,
}

/// ML-KEM needs much stack, which is given back before the next `await`.
#[inline(never)]
fn begin_run<R: CryptoRng>(
    identity: &IdentityKeys,
    held: &mut HeldCode,
    rng: &mut R,
) -> Result<(), Failed> {
    held.runs -= 1;
    held.run = None;
    prepare_run(identity, held, rng)?;
    if let Some(run) = &mut held.run {
        run.complete();
    }
    Ok(())
}

#[inline(never)]
fn prepare_run<R: CryptoRng>(
    identity: &IdentityKeys,
    held: &mut HeldCode,
    rng: &mut R,
) -> Result<(), Failed> {
    let run = Initiator::prepare(identity, &held.own, &held.peer, &held.code, rng)?;
    held.run = Some(run);
    Ok(())
}

#[inline(never)]
fn show_offer(held: &HeldCode, answer: &mut Answer) -> Result<(), Failed> {
    let run = held.run.as_ref().ok_or(Failed(TokenError::NoCode))?;
    let offered = Offered {
        offer: run.message().clone(),
        runs_left: held.runs,
    };
    answer_with(&Reply::Offered(offered), answer)
}

/// As [`begin_run`]; whatever comes of it, the run is over.
#[inline(never)]
fn finish_run<R: CryptoRng>(
    identity: &IdentityKeys,
    held: &mut HeldCode,
    answer: &PairAnswer,
    session: &mut Session,
    rng: &mut R,
) -> Result<Contact, Failed> {
    let run = held.run.as_ref().ok_or(Failed(TokenError::NoCode))?;
    let encapsulated = run.decapsulate(answer);
    end_run(identity, held, &encapsulated, answer, session, rng)
}

#[inline(never)]
fn end_run<R: CryptoRng>(
    identity: &IdentityKeys,
    held: &mut HeldCode,
    encapsulated: &SharedSecret,
    answer: &PairAnswer,
    session: &mut Session,
    rng: &mut R,
) -> Result<Contact, Failed> {
    let run = held.run.take().ok_or(Failed(TokenError::NoCode))?;
    let peer = run.confirm_with(encapsulated, identity, answer, session, rng)?;
    Ok(Contact {
        address: held.peer.clone(),
        identity: *peer.claim(),
    })
}

/// As [`begin_run`].
#[inline(never)]
fn begin_answer<R: CryptoRng>(
    identity: &IdentityKeys,
    own: &Address,
    offer: &PairOffer,
    rng: &mut R,
) -> Result<Responder, Failed> {
    Ok(Responder::begin(identity, own, offer, rng)?)
}

/// Makes message 2, notes it in `answers` and shows it.
#[inline(never)]
#[expect(
    clippy::too_many_arguments,
    reason = "keys, inputs and outputs of a step"
)]
fn end_answer<R: CryptoRng>(
    identity: &IdentityKeys,
    responder: Responder,
    code: &Code,
    offer: &PairOffer,
    charge: Charge,
    answers: &mut Answers,
    shown: &mut Answer,
    rng: &mut R,
) -> Result<(), Failed> {
    let (pending, message) = responder.answer(identity, code, offer, rng)?;
    let mut state = Vec::new();
    let _ = state.resize(Pending::MAX_LEN, 0);
    let length = pending.store(&mut state)?;
    state.truncate(length);
    let waiting = Waiting {
        changed_accepted: charge.changed_accepted,
        answered: charge.answered,
        at: charge.at,
        state,
    };
    let attempt = Attempt {
        sid: offer.sid,
        at: charge.at,
    };
    if answers.attempts.push(attempt).is_err() || answers.waiting.push(waiting).is_err() {
        return Err(Failed(TokenError::TooManyPending));
    }
    answers.see(offer.sid);
    let answered = Answered {
        answer: message,
        answers_left: (ANSWERS - answers.attempts.len()) as u8,
    };
    answer_with(&Reply::Answered(answered), shown)
}
