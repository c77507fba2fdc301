//! Pairing with a code: runs at the one end, charged answers at the other (protocol.md, "Pairing with a code").
//!
//! ```text
//! PAIRING record = | 1 | attempts: sid, epoch, uptime | pending: flags, times, handshake state | sids seen |
//! ```
//!
//! The initiator's code lives in RAM only. An answer is charged, and what it needs to be completed is stored, in one
//! write before it leaves.

use heapless::Vec;
use hostchat_core::handshake::code::Code;
use hostchat_core::handshake::pair::{Initiator, Pending, check_offer, respond};
use hostchat_core::icd::{Answered, Offered, Reply, TokenError};
use hostchat_core::ratchet::Session;
use hostchat_core::secret::CryptoRng;
use hostchat_core::wire::{Address, Bytes, Identity, PairAnswer, PairOffer};
use zeroize::Zeroize as _;

use super::Work;
use super::commands::{Answer, answer_with, rng};
use super::error::Failed;
use super::fields::{Fields, Put};
use super::keystore::Keyring;
use super::sessions::{Contact, Origin, Place, tag_of_address, tag_of_identity};
use crate::env::{Env, TouchReason, Uptime};
use crate::records::RecordId;
use crate::store::{Growth, SEAL_OVERHEAD, StoreError};

const VERSION: u8 = 1;
/// Runs of one code.
const RUNS: u8 = 3;
/// Life of a code, and the time in which three unconfirmed answers are possible.
const TEN_MINUTES_MS: u64 = 10 * 60 * 1000;
/// Unconfirmed answers in ten minutes, and answers that wait at the same time.
const ANSWERS: usize = 3;
/// How long an answer waits for its confirmation, in seconds: 30 days.
const PENDING_LIFETIME: u64 = 30 * 24 * 60 * 60;
/// Sids that are remembered after their answer is forgotten.
const SEEN: usize = 32;

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

/// An unconfirmed answer.
#[derive(Clone, Copy)]
struct Attempt {
    sid: Bytes<16>,
    at: Uptime,
}

/// An answer that waits for message 3; the handshake's state is kept as it is stored.
struct Waiting {
    changed_accepted: bool,
    /// Host's clock at the answer, 0 if the host had not said it.
    answered: u64,
    at: Uptime,
    state: Vec<u8, { Pending::MAX_LEN }>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

#[derive(Default)]
struct Answers {
    attempts: Vec<Attempt, ANSWERS>,
    waiting: Vec<Waiting, ANSWERS>,
    seen: Vec<Bytes<16>, SEEN>,
}

impl Answers {
    fn parse(content: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Fields::new(content);
        let mut answers = Self::default();
        fields.version(VERSION)?;
        for _ in 0..fields.byte()? {
            let attempt = Attempt {
                sid: Bytes(fields.array()?),
                at: uptime(&mut fields)?,
            };
            answers
                .attempts
                .push(attempt)
                .map_err(|_| StoreError::Damaged)?;
        }
        for _ in 0..fields.byte()? {
            let waiting = Waiting {
                changed_accepted: fields.byte()? != 0,
                answered: fields.u64()?,
                at: uptime(&mut fields)?,
                state: Vec::from_slice(fields.slice()?).map_err(|_| StoreError::Damaged)?,
            };
            answers
                .waiting
                .push(waiting)
                .map_err(|_| StoreError::Damaged)?;
        }
        let (sids, rest) = fields.rest().as_chunks::<16>();
        if !rest.is_empty() {
            return Err(StoreError::Damaged);
        }
        for sid in sids {
            answers
                .seen
                .push(Bytes(*sid))
                .map_err(|_| StoreError::Damaged)?;
        }
        Ok(answers)
    }

    fn write(&self, out: &mut [u8]) -> Result<usize, StoreError> {
        let mut put = Put::new(out);
        put.bytes(&[VERSION, self.attempts.len() as u8])?;
        for attempt in &self.attempts {
            put.bytes(&attempt.sid.0)?;
            put_uptime(&mut put, attempt.at)?;
        }
        put.bytes(&[self.waiting.len() as u8])?;
        for waiting in &self.waiting {
            put.bytes(&[u8::from(waiting.changed_accepted)])?;
            put.bytes(&waiting.answered.to_le_bytes())?;
            put_uptime(&mut put, waiting.at)?;
            put.slice(&waiting.state)?;
        }
        for sid in &self.seen {
            put.bytes(&sid.0)?;
        }
        Ok(put.length())
    }

    /// Drops what is over. An attempt of another power cycle counts as made when this one began.
    fn forget_old(&mut self, now: Uptime, host_time: u64) {
        self.attempts
            .retain(|attempt| age(attempt.at, now) < TEN_MINUTES_MS);
        self.waiting.retain(|waiting| {
            let by_host = waiting.answered != 0
                && host_time.saturating_sub(waiting.answered) > PENDING_LIFETIME;
            let by_uptime = age(waiting.at, now) > PENDING_LIFETIME * 1000;
            !by_host && !by_uptime
        });
        for waiting in &mut self.waiting {
            if waiting.answered == 0 {
                waiting.answered = host_time;
            }
        }
    }

    /// Remembers a sid; the oldest is forgotten.
    fn see(&mut self, sid: Bytes<16>) {
        if self.seen.is_full() {
            self.seen.remove(0);
        }
        let _ = self.seen.push(sid);
    }
}

fn age(at: Uptime, now: Uptime) -> u64 {
    if at.epoch == now.epoch {
        now.ms.saturating_sub(at.ms)
    } else {
        now.ms
    }
}

fn uptime(fields: &mut Fields<'_>) -> Result<Uptime, StoreError> {
    Ok(Uptime {
        epoch: fields.u32()?,
        ms: fields.u64()?,
    })
}

fn put_uptime(put: &mut Put<'_>, at: Uptime) -> Result<(), StoreError> {
    put.bytes(&at.epoch.to_le_bytes())?;
    put.bytes(&at.ms.to_le_bytes())
}

impl<E: Env> Work<'_, E> {
    /// Draws a code, with a press.
    pub(super) async fn pair_begin(
        &mut self,
        own: Address,
        peer: Address,
        accept_changed: bool,
    ) -> Result<Bytes<6>, Failed> {
        self.keyring.code = None;
        if own == peer {
            return Err(Failed(TokenError::WrongAddress));
        }
        self.check_room(&tag_of_address(&peer))?;
        self.press(TouchReason::ShowCode).await?;
        let code = Code::generate(rng(self.env)?);
        let digits = Bytes(*code.expose_digits());
        let now = self.env.now();
        let deadline = Uptime {
            epoch: now.epoch,
            ms: now.ms.saturating_add(TEN_MINUTES_MS),
        };
        self.keyring.code = Some(HeldCode {
            own,
            peer,
            code,
            accept_changed,
            deadline,
            runs: RUNS,
            run: None,
        });
        Ok(digits)
    }

    /// Starts a run, which is charged.
    pub(super) fn pair_offer(&mut self, answer: &mut Answer) -> Result<(), Failed> {
        let now = self.env.now();
        let held = self
            .keyring
            .code
            .take()
            .filter(|held| held.is_live(now) && held.runs > 0);
        let mut held = held.ok_or(Failed(TokenError::NoCode))?;
        held.runs -= 1;
        let rng = rng(self.env)?;
        let (run, offer) = start_run(self.keyring, &held, rng)?;
        held.run = Some(run);
        let runs_left = held.runs;
        self.keyring.code = Some(held);
        answer_with(&Reply::Offered(Offered { offer, runs_left }), answer)
    }

    /// Takes message 2: right ends the pairing with a session, wrong ends the run.
    pub(super) async fn pair_confirm(
        &mut self,
        answer: &PairAnswer,
    ) -> Result<Reply<'static>, Failed> {
        let now = self.env.now();
        let mut held = self
            .keyring
            .code
            .take()
            .filter(|held| held.is_live(now))
            .ok_or(Failed(TokenError::NoCode))?;
        let Some(run) = held.run.take() else {
            self.keyring.code = Some(held);
            return Err(Failed(TokenError::NoCode));
        };
        if *run.sid() != answer.sid {
            held.run = Some(run);
            self.keyring.code = Some(held);
            return Err(Failed(TokenError::UnknownSession));
        }
        let rng = rng(self.env)?;
        let Ok(identity) = finish_run(self.keyring, run, answer, &mut self.room.current, rng)
        else {
            let runs_left = held.runs;
            // With no run left the code is dead.
            self.keyring.code = (runs_left > 0).then_some(held);
            return Err(Failed(TokenError::WrongCode { runs_left }));
        };
        let session = *self.room.current.id();
        let contact = Contact {
            address: held.peer.clone(),
            identity: *identity.claim(),
        };
        let changed = self.identity_changed(&contact.address_tag(), &contact.identity_tag());
        let stored = if changed && !held.accept_changed {
            Err(Failed(TokenError::IdentityChanged))
        } else {
            match self.new_card(&contact, session, Origin::Shown(answer.sid), true) {
                Ok(card) => {
                    self.store_session(card, &contact, Place::Current, Growth::New)
                        .await
                }
                Err(error) => Err(error),
            }
        };
        self.room.current.clear();
        stored?;
        self.redo().await?;
        Ok(Reply::Established {
            peer: contact.identity,
            session,
        })
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
        let mut answers = self.answers().await?;
        if self.was_answered(&answers, &offer.sid) {
            return Err(Failed(TokenError::Replayed));
        }
        self.check_room(&address)?;
        let now = self.env.now();
        answers.forget_old(now, self.keyring.host_time);
        // A new answer to the same peer takes the place of the one before.
        answers.waiting.retain(|waiting| {
            !Pending::load(&waiting.state).is_ok_and(|pending| {
                *pending.peer_address() == contact.address
                    && tag_of_identity(pending.peer().claim()) == peer
            })
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
        self.press(TouchReason::AnswerCode).await?;

        let rng = rng(self.env)?;
        let (pending, message) = answer_run(self.keyring, own, &code, offer, rng)?;
        drop(code);
        let at = self.env.now();
        let mut state = Vec::<u8, { Pending::MAX_LEN }>::new();
        let _ = state.resize(Pending::MAX_LEN, 0);
        let length = pending.store(&mut state)?;
        state.truncate(length);
        let waiting = Waiting {
            changed_accepted: accept_changed,
            answered: self.keyring.host_time,
            at,
            state,
        };
        let attempt = Attempt { sid: offer.sid, at };
        let pushed = answers.attempts.push(attempt).is_ok() & answers.waiting.push(waiting).is_ok();
        if !pushed {
            return Err(Failed(TokenError::TooManyPending));
        }
        answers.see(offer.sid);
        self.save_answers(&answers, Growth::New).await?;
        let answers_left = (ANSWERS - answers.attempts.len()) as u8;
        answer_with(
            &Reply::Answered(Answered {
                answer: message,
                answers_left,
            }),
            answer,
        )
    }

    /// The answer that message 3 belongs to, and whether a changed identity was accepted when it was given.
    pub(super) async fn pending(&mut self, sid: &Bytes<16>) -> Result<(Pending, bool), Failed> {
        let mut answers = self.answers().await?;
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
    pub(super) async fn confirm_pending(&mut self, sids: &[Bytes<16>]) -> Result<(), Failed> {
        let mut answers = self.answers().await?;
        let before = answers.waiting.len() + answers.attempts.len();
        answers
            .attempts
            .retain(|attempt| !sids.contains(&attempt.sid));
        answers.waiting.retain(|waiting| {
            !Pending::load(&waiting.state).is_ok_and(|pending| sids.contains(pending.sid()))
        });
        if answers.waiting.len() + answers.attempts.len() == before {
            return Ok(());
        }
        self.save_answers(&answers, Growth::Update).await
    }

    /// Forgets the answers to an address; they stay charged. Tells whether there were any.
    pub(super) async fn forget_pending(&mut self, peer: &Address) -> Result<bool, Failed> {
        let mut answers = self.answers().await?;
        let before = answers.waiting.len();
        answers.waiting.retain(|waiting| {
            !Pending::load(&waiting.state).is_ok_and(|pending| pending.peer_address() == peer)
        });
        if answers.waiting.len() == before {
            return Ok(false);
        }
        self.save_answers(&answers, Growth::Update).await?;
        Ok(true)
    }

    /// Counts the answers that wait, for the status.
    pub(super) async fn count_pending(&mut self) -> Result<(), Failed> {
        self.keyring.pending = self.answers().await?.waiting.len() as u8;
        Ok(())
    }

    fn was_answered(&self, answers: &Answers, sid: &Bytes<16>) -> bool {
        answers.seen.contains(sid)
            || self.keyring.cards.iter().any(
                |card| matches!(card.origin, Origin::Typed(of) | Origin::Shown(of) if of == *sid),
            )
    }

    async fn answers(&mut self) -> Result<Answers, Failed> {
        let buffer = &mut self.room.record;
        let Some(length) = self
            .store
            .read_sealed(&self.keyring.master, RecordId::PAIRING, buffer)
            .await?
        else {
            return Ok(Answers::default());
        };
        let answers = Answers::parse(
            buffer
                .get(SEAL_OVERHEAD..SEAL_OVERHEAD + length)
                .unwrap_or_default(),
        );
        buffer.zeroize();
        Ok(answers?)
    }

    async fn save_answers(&mut self, answers: &Answers, growth: Growth) -> Result<(), Failed> {
        let length = answers.write(&mut self.room.record[SEAL_OVERHEAD..])?;
        let (rng, master) = (rng(self.env)?, &self.keyring.master);
        let buffer = &mut self.room.record;
        self.store
            .put_sealed(rng, master, RecordId::PAIRING, growth, buffer, length)
            .await?;
        self.keyring.pending = answers.waiting.len() as u8;
        Ok(())
    }
}

/// ML-KEM needs much stack, which is given back before the next `await`.
#[inline(never)]
fn start_run<R: CryptoRng>(
    keyring: &Keyring,
    held: &HeldCode,
    rng: &mut R,
) -> Result<(Initiator, PairOffer), Failed> {
    Ok(Initiator::offer(
        &keyring.identity,
        &held.own,
        &held.peer,
        &held.code,
        rng,
    )?)
}

/// As [`start_run`].
#[inline(never)]
fn finish_run<R: CryptoRng>(
    keyring: &Keyring,
    run: Initiator,
    answer: &PairAnswer,
    session: &mut Session,
    rng: &mut R,
) -> Result<Identity, Failed> {
    Ok(run.confirm(&keyring.identity, answer, session, rng)?)
}

/// As [`start_run`].
#[inline(never)]
fn answer_run<R: CryptoRng>(
    keyring: &Keyring,
    own: &Address,
    code: &Code,
    offer: &PairOffer,
    rng: &mut R,
) -> Result<(Pending, PairAnswer), Failed> {
    Ok(respond(&keyring.identity, own, code, offer, rng)?)
}
