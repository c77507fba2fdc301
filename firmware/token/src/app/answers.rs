//! The pairing record: answers to codes, what they were charged and what they wait for.
//!
//! ```text
//! PAIRING record = | 1 | attempts: sid, epoch, uptime | pending: flags, times, handshake state | sids seen |
//! ```

use heapless::Vec;
use hostchat_core::handshake::pair::Pending;
use hostchat_core::wire::Bytes;
use zeroize::Zeroize as _;

use super::fields::{Fields, Put};
use crate::env::Uptime;
use crate::store::StoreError;

const VERSION: u8 = 1;
/// Life of a code, and the time in which three unconfirmed answers are possible.
pub(super) const TEN_MINUTES_MS: u64 = 10 * 60 * 1000;
/// Unconfirmed answers in ten minutes, and answers that wait at the same time.
pub(super) const ANSWERS: usize = 3;
/// How long an answer waits for its confirmation, in seconds: 30 days.
const PENDING_LIFETIME: u64 = 30 * 24 * 60 * 60;
/// Sids that are remembered after their answer is forgotten.
const SEEN: usize = 32;

/// An unconfirmed answer.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) sid: Bytes<16>,
    pub(super) at: Uptime,
}

/// An answer that waits for message 3; the handshake's state is kept as it is stored.
pub(super) struct Waiting {
    pub(super) changed_accepted: bool,
    /// Host's clock at the answer, 0 if the host had not said it.
    pub(super) answered: u64,
    pub(super) at: Uptime,
    pub(super) state: Vec<u8, { Pending::MAX_LEN }>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

/// The pairing record.
pub(super) struct Answers {
    pub(super) attempts: Vec<Attempt, ANSWERS>,
    pub(super) waiting: Vec<Waiting, ANSWERS>,
    pub(super) seen: Vec<Bytes<16>, SEEN>,
}

impl Answers {
    pub(super) const fn new() -> Self {
        Self {
            attempts: Vec::new(),
            waiting: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Forgets them in RAM.
    pub(super) fn clear(&mut self) {
        self.attempts.clear();
        self.waiting.clear();
        self.seen.clear();
    }

    pub(super) fn parse(&mut self, content: &[u8]) -> Result<(), StoreError> {
        self.clear();
        let mut fields = Fields::new(content);
        fields.version(VERSION)?;
        for _ in 0..fields.byte()? {
            let attempt = Attempt {
                sid: Bytes(fields.array()?),
                at: uptime(&mut fields)?,
            };
            self.attempts
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
            self.waiting
                .push(waiting)
                .map_err(|_| StoreError::Damaged)?;
        }
        let (sids, rest) = fields.rest().as_chunks::<16>();
        if !rest.is_empty() {
            return Err(StoreError::Damaged);
        }
        for sid in sids {
            self.seen
                .push(Bytes(*sid))
                .map_err(|_| StoreError::Damaged)?;
        }
        Ok(())
    }

    pub(super) fn write(&self, out: &mut [u8]) -> Result<usize, StoreError> {
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
    pub(super) fn forget_old(&mut self, now: Uptime, host_time: u64) {
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

    /// Drops the answers of which `over` says so; tells whether there were any.
    pub(super) fn forget(&mut self, over: impl Fn(&Pending) -> bool) -> bool {
        let before = self.waiting.len();
        self.waiting
            .retain(|waiting| !Pending::load(&waiting.state).is_ok_and(|pending| over(&pending)));
        self.waiting.len() < before
    }

    /// Remembers a sid; the oldest is forgotten.
    pub(super) fn see(&mut self, sid: Bytes<16>) {
        if self.seen.is_full() {
            self.seen.remove(0);
        }
        let _ = self.seen.push(sid);
    }
}

pub(super) fn age(at: Uptime, now: Uptime) -> u64 {
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
