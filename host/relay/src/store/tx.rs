//! One transaction of the writer: a connection, what is cached beside it, and what happens after the commit.

use std::collections::HashMap;
use std::sync::Arc;

use hostchat_core::wire::Name;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::age::Age;
use super::usage::{Parcel, Usage};
use super::{AccountId, Message, ops};
use crate::limits::Limits;

/// Most mailboxes of which something is kept in memory: a few MiB at some senders each.
const CACHED_MAILBOXES: usize = 16_384;

/// Memory of the writer, rebuilt from the database whenever a transaction is rolled back.
#[derive(Default)]
pub(super) struct Cache {
    ids: HashMap<Name, AccountId>,
    usage: HashMap<AccountId, Usage>,
    /// Whether a mailbox blocks anybody: most do not, and then there is nothing to look up for a message. Not the lists
    /// themselves, which somebody could make long.
    blocks: HashMap<AccountId, bool>,
    next_number: Option<u64>,
    blob_bytes: Option<u64>,
}

impl Cache {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a deleted message off what is remembered of its mailbox, if anything is.
    pub(super) fn remove(&mut self, mailbox: AccountId, parcel: &Parcel<'_>) {
        if let Some(usage) = self.usage.get_mut(&mailbox) {
            usage.remove(parcel);
        }
    }

    /// Forgets whether a mailbox blocks anybody: its list has changed.
    pub(super) fn forget_blocks(&mut self, mailbox: AccountId) {
        self.blocks.remove(&mailbox);
    }
}

/// A transaction that is open.
pub(super) struct Tx<'w> {
    pub(super) connection: &'w Connection,
    pub(super) cache: &'w mut Cache,
    pub(super) limits: &'w Limits,
    /// How long it is kept who wrote to whom; 0 for not at all.
    pub(super) log_ms: u64,
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

    /// Whether a mailbox takes nothing from a sender.
    pub(super) fn blocks(
        &mut self,
        mailbox: AccountId,
        sender_key: &str,
    ) -> rusqlite::Result<bool> {
        let any = match self.cache.blocks.get(&mailbox) {
            Some(any) => *any,
            None => {
                let any = self
                    .prepare("SELECT 1 FROM blocked WHERE mailbox = ?1 LIMIT 1")?
                    .exists([mailbox.0])?;
                if self.cache.blocks.len() >= CACHED_MAILBOXES {
                    self.cache.blocks.clear();
                }
                self.cache.blocks.insert(mailbox, any);
                any
            }
        };
        if !any {
            return Ok(false);
        }
        self.prepare("SELECT 1 FROM blocked WHERE mailbox = ?1 AND sender = ?2")?
            .exists((mailbox.0, sender_key))
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

    fn count_usage(&self, mailbox: AccountId) -> rusqlite::Result<Usage> {
        let mut usage = Usage::default();
        // The fingerprint lies behind the body, so that it is read only where it counts.
        let mut select = self.prepare(
            "SELECT kind, length(body), sender, guest, iif(guest, fingerprint, NULL)
             FROM message WHERE mailbox = ?1",
        )?;
        let mut rows = select.query([mailbox.0])?;
        while let Some(row) = rows.next()? {
            usage.add(&Parcel {
                kind: ops::kind_from(row.get(0)?),
                bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                sender: row.get_ref(2)?.as_str()?,
                guest: row.get(3)?,
                fingerprint: row.get(4)?,
            });
        }
        Ok(usage)
    }

    /// Forgets what mailboxes hold and block, what blobs hold and who is who: something was deleted in bulk.
    pub(super) fn forget_cached(&mut self) {
        self.cache.ids.clear();
        self.cache.usage.clear();
        self.cache.blocks.clear();
        self.cache.blob_bytes = None;
    }

    /// The announced bytes of all blobs, counted in the database the first time.
    pub(super) fn blob_bytes(&mut self) -> rusqlite::Result<u64> {
        if let Some(bytes) = self.cache.blob_bytes {
            return Ok(bytes);
        }
        let bytes = self
            .prepare("SELECT coalesce(sum(size), 0) FROM blob")?
            .query_row([], |row| row.get::<_, i64>(0))?
            .cast_unsigned();
        self.cache.blob_bytes = Some(bytes);
        Ok(bytes)
    }

    /// Keeps the announced bytes of all blobs.
    pub(super) fn change_blob_bytes(&mut self, bytes: u64) {
        self.cache.blob_bytes = Some(bytes);
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
