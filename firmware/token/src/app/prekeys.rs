//! Prekeys: what others need to write first (SPEC section 8).

use core::pin::pin;

use hostchat_core::handshake::{IdentityKeys, PrekeySecret};
use hostchat_core::icd::{MAX_LAST_RESORT, MAX_ONE_TIME, Reply, TokenError};
use hostchat_core::wire::{Prekey, PrekeyKind, PrekeyRef};
use zeroize::Zeroize as _;

use super::Work;
use super::commands::{Answer, answer_with, rng};
use super::error::Failed;
use super::fields::Fields;
use super::sessions::or_damaged;
use crate::env::Env;
use crate::records::RecordId;
use crate::store::{Growth, SEAL_OVERHEAD, StoreError};

const VERSION: u8 = 1;
/// How long the secret of a last-resort prekey is kept, in seconds: 35 days.
const LIFETIME: u64 = 35 * 24 * 60 * 60;
/// Ids are reserved in so many at a time, so that not every prekey writes the counter.
const IDS: u32 = 32;
/// How far ids go on when all one-time prekeys are dropped: more than a token gives between two copies of its flash.
const DROPPED_IDS: u32 = 1 << 16;

/// Which prekeys there are.
pub(super) struct Prekeys {
    one_time: [Option<PrekeyRef>; MAX_ONE_TIME],
    last_resort: [Option<PrekeyRef>; MAX_LAST_RESORT],
    /// Next id to give; never given twice.
    next: u32,
    /// First id that is not reserved on flash.
    reserved: u32,
}

impl Prekeys {
    pub(super) fn new() -> Self {
        Self {
            one_time: [None; MAX_ONE_TIME],
            last_resort: [None; MAX_LAST_RESORT],
            next: 1,
            reserved: 1,
        }
    }

    pub(super) fn one_time_count(&self) -> usize {
        self.one_time.iter().flatten().count()
    }

    pub(super) fn newest_last_resort(&self) -> Option<PrekeyRef> {
        self.last_resort
            .iter()
            .flatten()
            .max_by_key(|card| card.id)
            .copied()
    }

    pub(super) fn has_last_resort(&self, id: u32) -> bool {
        self.last_resort.iter().flatten().any(|card| card.id == id)
    }

    /// The highest id there is, or 0.
    fn highest(&self) -> u32 {
        let cards = self.one_time.iter().chain(&self.last_resort).flatten();
        cards.map(|card| card.id).max().unwrap_or(0)
    }

    /// Those of one kind, by id. No sort: the general one takes more flash than all of this file.
    fn listed<const N: usize>(cards: &[Option<PrekeyRef>; N]) -> heapless::Vec<PrekeyRef, N> {
        let mut listed = heapless::Vec::new();
        let mut least = 0;
        while let Some(next) = cards
            .iter()
            .flatten()
            .filter(|card| card.id >= least)
            .min_by_key(|card| card.id)
            && listed.push(*next).is_ok()
        {
            least = next.id.saturating_add(1);
        }
        listed
    }

    /// The record of a prekey.
    pub(super) fn record(&self, kind: PrekeyKind, id: u32) -> Option<RecordId> {
        let is = |card: &Option<PrekeyRef>| card.is_some_and(|card| card.id == id);
        match kind {
            PrekeyKind::OneTime => self
                .one_time
                .iter()
                .position(is)
                .and_then(RecordId::one_time),
            PrekeyKind::LastResort => self
                .last_resort
                .iter()
                .position(is)
                .and_then(RecordId::last_resort),
        }
    }

    fn forget(&mut self, kind: PrekeyKind, id: u32) {
        let cards: &mut [Option<PrekeyRef>] = match kind {
            PrekeyKind::OneTime => &mut self.one_time,
            PrekeyKind::LastResort => &mut self.last_resort,
        };
        cards
            .iter_mut()
            .filter(|card| card.is_some_and(|card| card.id == id))
            .for_each(|card| *card = None);
    }
}

impl<E: Env> Work<'_, E> {
    /// Makes a prekey, stores its secret, then shows its public half.
    pub(super) async fn new_prekey(
        &mut self,
        kind: PrekeyKind,
        now: u64,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        self.keyring.host_time = now;
        let index = match kind {
            PrekeyKind::OneTime => self
                .keyring
                .prekeys
                .one_time
                .iter()
                .position(Option::is_none)
                .ok_or(Failed(TokenError::PrekeysFull))?,
            PrekeyKind::LastResort => pin!(self.room_for_last_resort(now)).await?,
        };
        let id = pin!(self.next_prekey_id()).await?;
        let rng = rng(self.env)?;
        let secret = PrekeySecret::generate(kind, id, now, rng);
        let (record, place) = match kind {
            PrekeyKind::OneTime => (
                RecordId::one_time(index),
                self.keyring.prekeys.one_time.get_mut(index),
            ),
            PrekeyKind::LastResort => (
                RecordId::last_resort(index),
                self.keyring.prekeys.last_resort.get_mut(index),
            ),
        };
        let (Some(record), Some(place)) = (record, place) else {
            return Err(Failed(TokenError::PrekeysFull));
        };
        let mut buffer = [0; SEAL_OVERHEAD + PrekeySecret::LEN];
        let length = secret.store(&mut buffer[SEAL_OVERHEAD..])?;
        pin!(self.store.put_sealed(
            rng,
            &self.keyring.master,
            record,
            Growth::New,
            &mut buffer,
            length,
        ))
        .await?;
        *place = Some(PrekeyRef { id, issued: now });
        let prekey = public_half(&secret, &self.keyring.identity);
        answer_with(&Reply::Prekey(prekey), answer)
    }

    /// Reads the secret of a prekey.
    pub(super) async fn prekey_secret(
        &mut self,
        kind: PrekeyKind,
        id: u32,
    ) -> Result<PrekeySecret, Failed> {
        let record = self
            .keyring
            .prekeys
            .record(kind, id)
            .ok_or(Failed(TokenError::Prekey))?;
        let mut buffer = [0; SEAL_OVERHEAD + PrekeySecret::LEN];
        let read = pin!(
            self.store
                .read_sealed(&self.keyring.master, record, &mut buffer)
        )
        .await?;
        let length = read.ok_or(Failed(TokenError::Prekey))?;
        let content = buffer
            .get(SEAL_OVERHEAD..SEAL_OVERHEAD + length)
            .ok_or(StoreError::Damaged)?;
        let secret = PrekeySecret::load(content).map_err(|_| StoreError::Damaged);
        buffer.zeroize();
        Ok(secret?)
    }

    /// Deletes the secret of a prekey, if it is there.
    pub(super) async fn delete_prekey(&mut self, kind: PrekeyKind, id: u32) -> Result<(), Failed> {
        if let Some(record) = self.keyring.prekeys.record(kind, id) {
            self.store.delete(record).await?;
            self.keyring.prekeys.forget(kind, id);
        }
        Ok(())
    }

    /// Shows which prekeys there are.
    #[inline(never)]
    pub(super) fn show_prekeys(&self, answer: &mut Answer) -> Result<(), Failed> {
        let prekeys = &self.keyring.prekeys;
        let reply = Reply::Prekeys {
            one_time: Prekeys::listed(&prekeys.one_time),
            last_resort: Prekeys::listed(&prekeys.last_resort),
        };
        answer_with(&reply, answer)
    }

    /// Deletes all one-time prekeys. Ids go on further ahead first, so that a token that was restored gives none of the ids
    /// that it gave before.
    pub(super) async fn drop_prekeys(&mut self) -> Result<(), Failed> {
        let full = Failed(TokenError::PrekeysFull);
        let next = self.keyring.prekeys.next.checked_add(DROPPED_IDS);
        let next = next.ok_or(full)?;
        pin!(self.reserve_ids(next)).await?;
        self.keyring.prekeys.next = next;
        for card in self.keyring.prekeys.one_time.into_iter().flatten() {
            pin!(self.delete_prekey(PrekeyKind::OneTime, card.id)).await?;
        }
        Ok(())
    }

    /// Deletes all last-resort prekeys: no first message that names one opens any more.
    pub(super) async fn retire_last_resorts(&mut self) -> Result<(), Failed> {
        for card in self.keyring.prekeys.last_resort.into_iter().flatten() {
            pin!(self.delete_prekey(PrekeyKind::LastResort, card.id)).await?;
        }
        Ok(())
    }

    /// Learns which prekeys there are; a damaged one is dropped. Without the record of their ids all one-time prekeys are, so
    /// that no id is given to two keys.
    pub(super) async fn load_prekeys(&mut self) -> Result<(), Failed> {
        let mut prekeys = Prekeys::new();
        for (index, record) in RecordId::one_times().enumerate() {
            if let (Some(card), Some(place)) = (
                pin!(self.prekey_card(record)).await?,
                prekeys.one_time.get_mut(index),
            ) {
                *place = Some(card);
            }
        }
        for (index, record) in RecordId::last_resorts().enumerate() {
            if let (Some(card), Some(place)) = (
                pin!(self.prekey_card(record)).await?,
                prekeys.last_resort.get_mut(index),
            ) {
                *place = Some(card);
            }
        }
        or_damaged(pin!(self.load_next_id(&mut prekeys.next)).await)?;
        let highest = prekeys.highest();
        let lost = prekeys.next <= highest;
        prekeys.next = prekeys.next.max(highest.saturating_add(1));
        prekeys.reserved = prekeys.next;
        self.keyring.prekeys = prekeys;
        if lost {
            pin!(self.drop_prekeys()).await?;
        }
        Ok(())
    }

    /// Reads which id was not given yet, if that is written down.
    async fn load_next_id(&mut self, next: &mut u32) -> Result<(), StoreError> {
        let mut buffer = [0; SEAL_OVERHEAD + 5];
        let read = self
            .store
            .read_sealed(&self.keyring.master, RecordId::PREKEYS, &mut buffer);
        if pin!(read).await?.is_some() {
            let mut fields = Fields::new(&buffer[SEAL_OVERHEAD..]);
            fields.version(VERSION)?;
            let read = fields.u32()?;
            fields.finish()?;
            *next = read;
        }
        Ok(())
    }

    async fn prekey_card(&mut self, record: RecordId) -> Result<Option<PrekeyRef>, Failed> {
        let mut buffer = [0; SEAL_OVERHEAD + PrekeySecret::LEN];
        let read = pin!(
            self.store
                .read_sealed(&self.keyring.master, record, &mut buffer)
        )
        .await;
        let read = match read {
            Err(StoreError::Damaged) => {
                self.store.delete(record).await?;
                None
            }
            read => read?,
        };
        let Some(length) = read else { return Ok(None) };
        let secret = PrekeySecret::load(
            buffer
                .get(SEAL_OVERHEAD..SEAL_OVERHEAD + length)
                .unwrap_or_default(),
        );
        buffer.zeroize();
        Ok(secret.ok().map(|secret| PrekeyRef {
            id: secret.id(),
            issued: secret.issued(),
        }))
    }

    /// Draws the next id; it is durable that it was given before it is used.
    async fn next_prekey_id(&mut self) -> Result<u32, Failed> {
        let id = self.keyring.prekeys.next;
        let next = id.checked_add(1).ok_or(Failed(TokenError::PrekeysFull))?;
        if next > self.keyring.prekeys.reserved {
            pin!(self.reserve_ids(id)).await?;
        }
        self.keyring.prekeys.next = next;
        Ok(id)
    }

    /// Makes durable that the ids from this one on are given.
    async fn reserve_ids(&mut self, id: u32) -> Result<(), Failed> {
        let reserved = id.saturating_add(IDS);
        let mut buffer = [0; SEAL_OVERHEAD + 5];
        buffer[SEAL_OVERHEAD] = VERSION;
        buffer[SEAL_OVERHEAD + 1..].copy_from_slice(&reserved.to_le_bytes());
        let (rng, master) = (rng(self.env)?, &self.keyring.master);
        pin!(self.store.put_sealed(
            rng,
            master,
            RecordId::PREKEYS,
            Growth::Update,
            &mut buffer,
            5,
        ))
        .await?;
        self.keyring.prekeys.reserved = reserved;
        Ok(())
    }

    /// Deletes last-resort prekeys whose time is over, and the oldest if there is no room otherwise.
    async fn room_for_last_resort(&mut self, now: u64) -> Result<usize, Failed> {
        let newest = self.keyring.prekeys.newest_last_resort();
        for card in self.keyring.prekeys.last_resort.into_iter().flatten() {
            if card.issued.saturating_add(LIFETIME) < now && Some(card) != newest {
                pin!(self.delete_prekey(PrekeyKind::LastResort, card.id)).await?;
            }
        }
        let cards = self.keyring.prekeys.last_resort;
        if cards.iter().all(Option::is_some)
            && let Some(oldest) = cards.iter().flatten().min_by_key(|card| card.id)
        {
            pin!(self.delete_prekey(PrekeyKind::LastResort, oldest.id)).await?;
        }
        let (prekeys, rng) = (&self.keyring.prekeys, rng(self.env)?);
        let alive = |id| prekeys.has_last_resort(id);
        self.room
            .marks
            .retain(
                alive,
                self.store,
                rng,
                &self.keyring.master,
                &mut self.room.record,
            )
            .await?;
        prekeys
            .last_resort
            .iter()
            .position(Option::is_none)
            .ok_or(Failed(TokenError::PrekeysFull))
    }
}

/// Computes and signs the public half; ML-KEM needs much stack, which is given back before the next `await`.
#[inline(never)]
fn public_half(secret: &PrekeySecret, identity: &IdentityKeys) -> Prekey {
    secret.public(identity)
}
