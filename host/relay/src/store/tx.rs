//! One transaction of the writer: a connection, what is cached beside it, and what happens after the commit.

use std::collections::HashMap;
use std::sync::Arc;

use hostchat_core::wire::Name;
use hostchat_core::wire::relay::Kind;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::age::Age;
use super::{AccountId, Message};
use crate::limits::Limits;

/// Most mailboxes whose usage is kept in memory: about 10 MiB.
const CACHED_MAILBOXES: usize = 65_536;

/// What a mailbox holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) messages: u32,
    pub(super) bytes: u64,
    pub(super) pairings: u32,
    pub(super) firsts: u32,
}

impl Usage {
    pub(super) fn add(&mut self, kind: Kind, bytes: u64) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(n) = self.of_kind(kind) {
            *n = n.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, kind: Kind, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(n) = self.of_kind(kind) {
            *n = n.saturating_sub(1);
        }
    }

    fn of_kind(&mut self, kind: Kind) -> Option<&mut u32> {
        match kind {
            Kind::Pairing => Some(&mut self.pairings),
            Kind::First => Some(&mut self.firsts),
            Kind::Message => None,
        }
    }

    /// Whether one more of this size and kind would be too much.
    pub(super) fn is_full(&self, kind: Kind, bytes: u64, limits: &Limits) -> bool {
        let of_kind = match kind {
            Kind::Pairing => self.pairings >= limits.mailbox_pairings,
            Kind::First => self.firsts >= limits.mailbox_firsts,
            Kind::Message => false,
        };
        of_kind
            || self.messages >= limits.mailbox_messages
            || self.bytes.saturating_add(bytes) > limits.mailbox_bytes()
    }
}

/// Memory of the writer, rebuilt from the database whenever a transaction is rolled back.
#[derive(Default)]
pub(super) struct Cache {
    ids: HashMap<Name, AccountId>,
    usage: HashMap<AccountId, Usage>,
    next_number: Option<u64>,
}

impl Cache {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A transaction that is open.
pub(super) struct Tx<'w> {
    pub(super) connection: &'w Connection,
    pub(super) cache: &'w mut Cache,
    pub(super) limits: &'w Limits,
    pub(super) age: &'w Age,
    /// Whether the disk has room for new messages.
    pub(super) room: bool,
    /// Handed to the outlet after the commit, in order.
    pub(super) stored: &'w mut Vec<(AccountId, Arc<Message>)>,
}

impl Tx<'_> {
    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    /// The account of a name.
    pub(super) fn account_id(&mut self, name: &Name) -> rusqlite::Result<Option<AccountId>> {
        if let Some(id) = self.cache.ids.get(name) {
            return Ok(Some(*id));
        }
        let id = self
            .prepare("SELECT id FROM account WHERE name = ?1")?
            .query_row([name.as_str()], |row| row.get(0).map(AccountId))
            .optional()?;
        if let Some(id) = id {
            if self.cache.ids.len() >= CACHED_MAILBOXES {
                self.cache.ids.clear();
            }
            self.cache.ids.insert(name.clone(), id);
        }
        Ok(id)
    }

    /// What a mailbox holds, counted in the database the first time.
    pub(super) fn usage(&mut self, mailbox: AccountId) -> rusqlite::Result<&mut Usage> {
        if self.cache.usage.len() >= CACHED_MAILBOXES {
            self.cache.usage.clear();
        }
        if !self.cache.usage.contains_key(&mailbox) {
            let counted = self.count_usage(mailbox)?;
            self.cache.usage.insert(mailbox, counted);
        }
        Ok(self.cache.usage.entry(mailbox).or_default())
    }

    /// Corrects what is remembered of a mailbox, if anything is.
    pub(super) fn usage_if_cached(&mut self, mailbox: AccountId, correct: impl FnOnce(&mut Usage)) {
        if let Some(usage) = self.cache.usage.get_mut(&mailbox) {
            correct(usage);
        }
    }

    fn count_usage(&self, mailbox: AccountId) -> rusqlite::Result<Usage> {
        self.prepare(
            "SELECT count(*), coalesce(sum(length(body)), 0), coalesce(sum(kind = 0), 0), coalesce(sum(kind = 1), 0)
             FROM message WHERE mailbox = ?1",
        )?
        .query_row([mailbox.0], |row| {
            Ok(Usage {
                messages: row.get(0)?,
                bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                pairings: row.get(2)?,
                firsts: row.get(3)?,
            })
        })
    }

    /// Forgets what mailboxes hold and who is who: something was deleted in bulk.
    pub(super) fn forget_cached(&mut self) {
        self.cache.ids.clear();
        self.cache.usage.clear();
    }

    /// The next message number; it is kept with the transaction by [`Tx::keep_counter`].
    pub(super) fn next_number(&mut self) -> rusqlite::Result<u64> {
        let next = match self.cache.next_number {
            Some(next) => next,
            None => self
                .prepare("SELECT next_number FROM counter")?
                .query_row([], |row| row.get::<_, i64>(0))?
                .cast_unsigned(),
        };
        self.cache.next_number = Some(next + 1);
        Ok(next)
    }

    /// Writes the counter row, once per transaction.
    pub(super) fn keep_counter(&mut self) -> rusqlite::Result<()> {
        let mark = self.age.mark();
        self.prepare(
            "UPDATE counter SET next_number = coalesce(?1, next_number), age_ms = ?2, wall_ms = ?3",
        )?
        .execute((
            self.cache.next_number.map(u64::cast_signed),
            mark.age_ms.cast_signed(),
            mark.wall_ms.cast_signed(),
        ))?;
        Ok(())
    }
}
