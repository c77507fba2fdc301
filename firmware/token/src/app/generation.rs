//! The generation record: which generation of keys this is, where the floor lies, and which sessions there ought to be.
//!
//! ```text
//! record = | 1 | current | 0, or 1 and next | floor u32 | sessions lost u16 | roster |        current, next = u64, random 16
//! ```
//!
//! One record, so that adopting a generation and superseding every session is one write. The roster is written after a
//! session is made and before one is deleted: a session that it names and that cannot be read was lost.

use core::pin::pin;

use hostchat_core::icd::{Generations, TokenError};
use hostchat_core::wire::{Bytes, Generation};
use zeroize::Zeroize as _;

use super::commands::rng;
use super::error::Failed;
use super::fields::{Fields, Put};
use super::{Work, apart};
use crate::env::Env;
use crate::records::{RecordId, SESSION_RECORDS};
use crate::store::{Growth, SEAL_OVERHEAD, StoreError};

const VERSION: u8 = 1;
/// Bytes of a roster.
const ROSTER: usize = SESSION_RECORDS.div_ceil(8);

/// A set of session records.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Roster([u8; ROSTER]);

impl Roster {
    pub(super) fn add(&mut self, record: RecordId) {
        if let Some((byte, bit)) = self.place(record) {
            *byte |= bit;
        }
    }

    fn without(mut self, record: RecordId) -> Self {
        if let Some((byte, bit)) = self.place(record) {
            *byte &= !bit;
        }
        self
    }

    pub(super) fn has(mut self, record: RecordId) -> bool {
        self.place(record)
            .is_some_and(|(byte, bit)| *byte & bit != 0)
    }

    fn place(&mut self, record: RecordId) -> Option<(&mut u8, u8)> {
        let index = record.session_index()?;
        Some((self.0.get_mut(index / 8)?, 1 << (index % 8)))
    }
}

/// What the record says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct GenerationRecord {
    current: Generation,
    next: Option<Generation>,
    floor: u32,
    sessions_lost: u16,
    roster: Roster,
}

impl GenerationRecord {
    /// That of a token that has none: new, or of a firmware before there were generations.
    pub(super) const NONE: Self = Self {
        current: Generation::NONE,
        next: None,
        floor: 0,
        sessions_lost: 0,
        roster: Roster([0; ROSTER]),
    };

    /// What the host is told.
    pub(super) fn generations(&self) -> Generations {
        Generations {
            current: self.current,
            next: self.next,
            sessions_lost: self.sessions_lost,
        }
    }

    pub(super) fn roster(&self) -> Roster {
        self.roster
    }

    fn parse(content: &[u8]) -> Result<Self, StoreError> {
        let mut fields = Fields::new(content);
        fields.version(VERSION)?;
        let current = generation(&mut fields)?;
        let next = match fields.byte()? {
            0 => None,
            1 => Some(generation(&mut fields)?),
            _ => return Err(StoreError::Damaged),
        };
        let record = Self {
            current,
            next,
            floor: fields.u32()?,
            sessions_lost: u16::from_le_bytes(fields.array()?),
            roster: Roster(fields.array()?),
        };
        fields.finish()?;
        Ok(record)
    }

    /// Writes the content; gives its length.
    fn write(&self, out: &mut [u8]) -> Result<usize, StoreError> {
        let mut put = Put::new(out);
        put.bytes(&[VERSION])?;
        put_generation(&mut put, &self.current)?;
        put.bytes(&[u8::from(self.next.is_some())])?;
        if let Some(next) = &self.next {
            put_generation(&mut put, next)?;
        }
        put.bytes(&self.floor.to_le_bytes())?;
        put.bytes(&self.sessions_lost.to_le_bytes())?;
        put.bytes(&self.roster.0)?;
        Ok(put.length())
    }
}

fn generation(fields: &mut Fields<'_>) -> Result<Generation, StoreError> {
    Ok(Generation {
        number: fields.u64()?,
        random: Bytes(fields.array()?),
    })
}

fn put_generation(put: &mut Put<'_>, generation: &Generation) -> Result<(), StoreError> {
    put.bytes(&generation.number.to_le_bytes())?;
    put.bytes(&generation.random.0)
}

/// What a host does with generations.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    Plan(Generation),
    Adopt {
        current: Generation,
        supersede: bool,
    },
}

impl<E: Env> Work<'_, E> {
    /// Carries out `PlanGeneration` and `AdoptGeneration`: one write. Superseding puts the floor above every session that
    /// is there, and an open that waits for its commit is forgotten.
    pub(super) async fn turn_generation(&mut self, turn: Turn) -> Result<(), Failed> {
        let mut record = self.keyring.generation;
        match turn {
            Turn::Plan(next) => record.next = Some(next),
            Turn::Adopt { current, supersede } => {
                (record.current, record.next) = (current, None);
                record.sessions_lost = 0;
                if supersede {
                    record.floor = self.everything()?;
                }
            }
        }
        pin!(self.save_generation(record)).await?;
        if matches!(
            turn,
            Turn::Adopt {
                supersede: true,
                ..
            }
        ) {
            self.discard();
        }
        Ok(())
    }

    /// The floor under which every session lies that is there.
    fn everything(&self) -> Result<u32, Failed> {
        let next = self.room.cards.next_birth();
        next.map(|birth| birth.get())
            .ok_or(Failed(TokenError::SessionsFull))
    }

    /// Reads the record. A damaged one is replaced, once the cards are there, by [`Work::lose_generation`].
    pub(super) async fn load_generation(&mut self) -> Result<(), StoreError> {
        let buffer = &mut self.room.record;
        let master = &self.keyring.master;
        let read = pin!(self.store.read_sealed(master, RecordId::GENERATION, buffer)).await?;
        if let Some(length) = read {
            let content = buffer.get(SEAL_OVERHEAD..SEAL_OVERHEAD + length);
            let record = GenerationRecord::parse(content.unwrap_or_default());
            buffer.zeroize();
            self.keyring.generation = record?;
            self.room.cards.set_floor(self.keyring.generation.floor);
        }
        Ok(())
    }

    /// Replaces a record that cannot be read. Nobody knows which sessions it superseded, so all of them are; and without a
    /// generation no host takes these keys for the newest.
    pub(super) async fn lose_generation(&mut self) -> Result<(), Failed> {
        let record = GenerationRecord {
            floor: self.everything()?,
            roster: self.room.cards.roster(),
            ..GenerationRecord::NONE
        };
        pin!(self.save_generation(record)).await
    }

    /// Counts sessions that were lost; from now on the roster names those that are there.
    pub(super) async fn count_lost(&mut self, lost: u16) -> Result<(), Failed> {
        let sessions_lost = self.keyring.generation.sessions_lost;
        let record = GenerationRecord {
            sessions_lost: sessions_lost.saturating_add(lost),
            roster: self.room.cards.roster(),
            ..self.keyring.generation
        };
        pin!(self.save_generation(record)).await
    }

    /// Makes the roster name the sessions that are there, but for one that is about to be deleted.
    pub(super) async fn save_roster(&mut self, but: Option<RecordId>) -> Result<(), Failed> {
        let mut roster = self.room.cards.roster();
        if let Some(record) = but {
            roster = roster.without(record);
        }
        let record = GenerationRecord {
            roster,
            ..self.keyring.generation
        };
        pin!(self.save_generation(record)).await
    }

    /// Stores the record, if it says something new.
    async fn save_generation(&mut self, record: GenerationRecord) -> Result<(), Failed> {
        if record == self.keyring.generation {
            return Ok(());
        }
        let length = record.write(&mut self.room.record[SEAL_OVERHEAD..])?;
        apart(pin!(self.put_generation(length))).await?;
        self.keyring.generation = record;
        self.room.cards.set_floor(record.floor);
        Ok(())
    }

    async fn put_generation(&mut self, length: usize) -> Result<(), Failed> {
        let (rng, master) = (rng(self.env)?, &self.keyring.master);
        pin!(self.store.put_sealed(
            rng,
            master,
            RecordId::GENERATION,
            Growth::Update,
            &mut self.room.record,
            length,
        ))
        .await?;
        Ok(())
    }
}
