//! The one writer: a thread that takes what has queued up, does it in one transaction, commits, and only then answers.
//!
//! ```text
//!  queue ──▶ [w w w w] ── BEGIN ─ apply each ─ COMMIT (synced) ──▶ outlet, answers
//!                              │ any error
//!                              └─ ROLLBACK, then each alone: only the one at fault fails
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::age::Age;
use super::tx::{Cache, Tx};
use super::{AccountId, Message, Outlet, StoreError, schema};
use crate::limits::{GROUP, Limits};
use crate::metrics::Metrics;

/// Groups after which the free disk space is looked at again.
const GROUPS_PER_LOOK: u32 = 16;

/// One queued write.
pub(super) trait Write: Send {
    /// Changes the database and keeps the outcome; may run again after a rollback.
    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Answers the caller, after the commit or the failure.
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

/// A write made of a closure and the end of a [`super::Pending`].
pub(super) struct Job<F, T> {
    pub(super) run: F,
    pub(super) outcome: Option<T>,
    pub(super) reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Write for Job<F, T>
where
    F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.outcome = Some((self.run)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { outcome, reply, .. } = *self;
        // Whoever asked may have gone; the write stands.
        let _ = reply.send(result.and_then(|()| outcome.ok_or(StoreError::Closed)));
    }
}

/// Everything that the writer thread owns.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) folder: Box<Path>,
    pub(super) limits: Limits,
    pub(super) log_ms: u64,
    pub(super) age: Age,
    pub(super) outlet: Arc<dyn Outlet>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cache: Cache,
    pub(super) room: bool,
    pub(super) groups: u32,
    pub(super) stored: Vec<(AccountId, Arc<Message>)>,
}

impl Writer {
    /// Works until every sender of the queue is gone, then brings the files into order.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Box<dyn Write>>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            self.look_at_disk();
            match self.transact(&mut group) {
                Ok(()) => self.answer_all(group.drain(..)),
                Err(error) if group.len() == 1 => {
                    report(&error);
                    for write in group.drain(..) {
                        write.answer(Err(error.clone()));
                    }
                }
                Err(_) => self.one_by_one(&mut group),
            }
        }
        if let Err(error) = schema::set_running(&self.connection, false) {
            tracing::warn!(%error, "the end could not be marked; the next start checks the whole database");
        }
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        if let Err(error) = self.connection.query_row(checkpoint, [], |_| Ok(())) {
            tracing::warn!(%error, "checkpoint at the end failed; the log is replayed at the next start");
        }
    }

    fn transact(&mut self, group: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
        let start = Instant::now();
        let result = self.try_transact(group);
        if result.is_ok() {
            self.metrics.committed(start.elapsed());
            self.metrics.writes.add(group.len() as u64);
        } else {
            self.metrics.failed_commits.add(1);
            self.cache.clear();
            self.stored.clear();
        }
        Ok(result?)
    }

    fn try_transact(&mut self, group: &mut [Box<dyn Write>]) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut tx = Tx {
            connection: &transaction,
            cache: &mut self.cache,
            limits: &self.limits,
            log_ms: self.log_ms,
            age: &self.age,
            room: self.room,
            stored: &mut self.stored,
        };
        for write in group {
            write.apply(&mut tx)?;
        }
        if !tx.stored.is_empty() {
            tx.keep_counter()?;
        }
        transaction.commit()
    }

    /// After a failed group: each write in a transaction of its own.
    fn one_by_one(&mut self, group: &mut Vec<Box<dyn Write>>) {
        for mut write in group.drain(..) {
            match self.transact(std::slice::from_mut(&mut write)) {
                Ok(()) => self.answer_all([write]),
                Err(error) => {
                    report(&error);
                    write.answer(Err(error));
                }
            }
        }
    }

    fn answer_all(&mut self, group: impl IntoIterator<Item = Box<dyn Write>>) {
        self.metrics.stored.add(self.stored.len() as u64);
        for (mailbox, message) in self.stored.drain(..) {
            self.metrics.stored_bytes.add(message.body.len() as u64);
            self.outlet.stored(mailbox, message);
        }
        for write in group {
            write.answer(Ok(()));
        }
    }

    /// Looks now and then whether the disk still has the floor free that acknowledgements need.
    fn look_at_disk(&mut self) {
        let due = self.groups.is_multiple_of(GROUPS_PER_LOOK) || !self.room;
        self.groups = self.groups.wrapping_add(1);
        if !due {
            return;
        }
        let Ok(disk) = rustix::fs::statvfs(&*self.folder) else {
            return;
        };
        let free_mib = disk.f_bavail.saturating_mul(disk.f_frsize) / (1024 * 1024);
        let room = free_mib >= u64::from(self.limits.disk_floor_mib);
        if room != self.room {
            tracing::warn!(free_mib, room, "free disk space crossed the floor");
        }
        self.room = room;
    }
}

fn report(error: &StoreError) {
    tracing::error!(%error, "a write failed");
}
