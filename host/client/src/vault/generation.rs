//! The vault's copy of the generation, and how far an advance or a surprise has come (SPEC section 9.8).

use hostchat_core::wire::{Address, Generation, PrekeyRef};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Column, Tx, Vault};
use crate::error::Result;
use crate::model::Notice;

const BODY: Column = Column {
    table: "meta",
    column: "generation",
};

/// What the vault knows of the generation of its account's keys. Times are milliseconds since 1970; append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// As the token's, when both are in order.
    pub current: Generation,
    /// About to be asked for.
    pub next: Option<Generation>,
    /// When `current` was adopted: to this date a restored home goes back.
    pub dated: u64,
    /// The relay's pair that showed that these keys are old, until everything that follows from it is done.
    pub surprise: Option<Generation>,
    /// When that happened last; of a home that has stopped: when it did.
    pub surprised_at: Option<u64>,
    /// A second surprise within a day, or a lie: nothing is used until the user gives word.
    pub stopped: bool,
    /// Since then the list of sealed frames has no gap.
    pub sealed_since: u64,
    /// One-time prekeys that the relay has given out, and since when they were missing there.
    pub given: heapless::Vec<(PrekeyRef, u64), 16>,
    /// A new session has to be begun with some contacts.
    pub renewing: bool,
    /// Frames in the name of a contact of which the contact knows nothing.
    pub forged: u32,
    /// Frames of people unknown to these keys.
    pub strangers: u32,
}

impl Generations {
    /// Of an account that never had one.
    pub fn new(now: u64) -> Self {
        Self {
            current: Generation::NONE,
            next: None,
            dated: now,
            surprise: None,
            surprised_at: None,
            stopped: false,
            sealed_since: now,
            given: heapless::Vec::new(),
            renewing: false,
            forged: 0,
            strangers: 0,
        }
    }
}

impl Vault {
    /// The vault's copy; `None` in a vault that was just made.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn generations(&mut self) -> Result<Option<Generations>> {
        self.read(|tx| tx.generations())
    }

    /// Stores the vault's copy, together with what the user has to be told of the change.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn save_generations(
        &mut self,
        generations: &Generations,
        notice: Option<&Notice>,
    ) -> Result<()> {
        self.write(|tx| {
            if let Some(notice) = notice {
                tx.add_notice(notice)?;
            }
            tx.save_generations(generations)
        })
    }
}

impl Vault {
    /// Counts a frame of somebody unknown to these keys.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn count_stranger(&mut self) -> Result<()> {
        self.write(|tx| tx.change_generations(|g| g.strangers = g.strangers.saturating_add(1)))
    }
}

/// Contacts in whose names something was forged: the newest so many are kept.
const MAX_FORGED_NAMES: usize = 32;

const FORGED_NAMES: Column = Column {
    table: "meta",
    column: "forged names",
};

impl Vault {
    /// Contacts in whose names the frames came that are counted as forged.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn forged_names(&mut self) -> Result<Vec<Address>> {
        self.read(|tx| tx.forged_names())
    }
}

impl Tx<'_> {
    /// Counts frames in the name of a contact that it did not seal.
    pub(super) fn count_forged(&self, peer: &Address, count: u32) -> Result<()> {
        self.change_generations(|g| g.forged = g.forged.saturating_add(count))?;
        let mut names = self.forged_names()?;
        if names.contains(peer) {
            return Ok(());
        }
        names.push(peer.clone());
        let older = names.len().saturating_sub(MAX_FORGED_NAMES);
        let sealed = self.seal_body(0, FORGED_NAMES, &names.split_off(older))?;
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('forged names', ?1)")?
            .execute(params![sealed])?;
        Ok(())
    }

    fn forged_names(&self) -> Result<Vec<Address>> {
        let sql = "SELECT value FROM meta WHERE key = 'forged names'";
        let sealed: Option<Vec<u8>> = self
            .transaction
            .query_row(sql, [], |row| row.get(0))
            .optional()?;
        let Some(sealed) = sealed else {
            return Ok(Vec::new());
        };
        let body = self.open(0, FORGED_NAMES, &sealed)?;
        self.open_body(&body)
    }

    pub(super) fn generations(&self) -> Result<Option<Generations>> {
        let sql = "SELECT value FROM meta WHERE key = 'generation'";
        let sealed: Option<Vec<u8>> = self
            .transaction
            .query_row(sql, [], |row| row.get(0))
            .optional()?;
        sealed
            .map(|sealed| {
                let body = self.open(0, BODY, &sealed)?;
                self.open_body(&body)
            })
            .transpose()
    }

    pub(super) fn save_generations(&self, generations: &Generations) -> Result<()> {
        let sealed = self.seal_body(0, BODY, generations)?;
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('generation', ?1)")?
            .execute(params![sealed])?;
        Ok(())
    }

    /// Changes the vault's copy, if there is one.
    pub(super) fn change_generations(&self, change: impl FnOnce(&mut Generations)) -> Result<()> {
        match self.generations()? {
            Some(mut generations) => {
                change(&mut generations);
                self.save_generations(&generations)
            }
            None => Ok(()),
        }
    }
}
