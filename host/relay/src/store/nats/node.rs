//! What each write does: what the view says first, then one compared write, then the wait until the view has it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Bytes as FixedBytes, IdentityClaim, MessageId, Name};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::ops::GIVEN_MS;
use super::super::{
    Account, AccountId, AccountRow, Admission, Appended, Message, NewMessage, Outlet, Registered,
    StoreError, Swept,
};
use super::blob_view::BlobView;
use super::desk::Marks;
use super::feed::{Apply, Feed};
use super::link::{Link, Put, Which};
use super::record::{self, AccountRecord, Book};
use super::view::{BookView, Entry, MailView, Stale, Waiting};
use super::{Counts, Options};
use crate::clock::Clock;
use crate::limits::{Limits, SWEEP_ROWS};
use crate::metrics::Metrics;

/// Longest time that a sender waits until this node has seen its message come back: quotas are exact then.
const SETTLE: Duration = Duration::from_secs(1);
/// Tries of a write that others keep changing; nodes are few, so that one of them succeeds long before.
pub(super) const TRIES: usize = 20;

/// One relay node: its connection, how far it has followed, what it knows.
pub(super) struct Node {
    pub(super) link: Arc<Link>,
    pub(super) mail: Arc<Feed>,
    pub(super) book: Arc<Feed>,
    pub(super) blobs: Arc<Feed>,
    pub(super) mail_view: Arc<Mutex<MailView>>,
    pub(super) book_view: Arc<Mutex<BookView>>,
    pub(super) blob_view: Arc<Mutex<BlobView>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    /// The servers' time less the uptime.
    ahead: Arc<AtomicI64>,
    /// Records that cannot be read.
    strange: Arc<AtomicU64>,
}

impl Node {
    /// Follows the streams, and returns once everything that was there is known.
    pub(super) async fn start(
        link: Arc<Link>,
        options: Options,
        outlet: Arc<dyn Outlet>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>, StoreError> {
        let mail_view = Arc::new(Mutex::new(MailView::new(options.remember)));
        let strange = Arc::new(AtomicU64::new(0));
        let book_view = Arc::new(Mutex::new(BookView::default()));
        let blob_view = Arc::new(Mutex::new(BlobView::default()));
        let ahead = Arc::new(AtomicI64::new(0));
        let apply_mail: Apply = {
            let (view, outlet, link) = (
                Arc::clone(&mail_view),
                Arc::clone(&outlet),
                Arc::clone(&link),
            );
            let (ahead, clock) = (Arc::clone(&ahead), Arc::clone(&options.clock));
            let strange = Arc::clone(&strange);
            Box::new(move |number, time, subject, headers, body| {
                let uptime = clock.uptime_ms().cast_signed();
                ahead.store(time.cast_signed() - uptime, Ordering::Relaxed);
                let Some(record) = link.subjects.read_mail(subject, headers) else {
                    strange.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(?subject, "a record that is not a relay's");
                    return;
                };
                let applied = crate::lock(&view).apply(number, time, body.len() as u64, record);
                if let Some((account, waiting)) = applied {
                    outlet.stored(account, Arc::new(message_of(number, waiting, &body)));
                }
            })
        };
        let apply_book: Apply = {
            let (view, mail, blobs, link) = (
                Arc::clone(&book_view),
                Arc::clone(&mail_view),
                Arc::clone(&blob_view),
                Arc::clone(&link),
            );
            let strange = Arc::clone(&strange);
            Box::new(move |revision, time, subject, headers, _| {
                let Some(record) = link.subjects.read_book(subject, headers) else {
                    strange.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(?subject, "a record that is not a relay's");
                    return;
                };
                let suspended = match &record {
                    Book::Account {
                        account: Ok(account),
                        ..
                    } if account.desk.suspended => Some(account.id),
                    _ => None,
                };
                let deleted = crate::lock(&view).apply(revision, time, record);
                if let Some(account) = suspended {
                    outlet.suspended(account);
                }
                if let Some(account) = deleted {
                    crate::lock(&mail).forget(account);
                    crate::lock(&blobs).forget(account);
                    outlet.deleted(account);
                }
            })
        };
        let apply_blobs: Apply = {
            let (view, link) = (Arc::clone(&blob_view), Arc::clone(&link));
            let (strange, limits) = (Arc::clone(&strange), options.limits.clone());
            Box::new(move |number, time, subject, headers, _| {
                let Some(record) = link.subjects.read_blob(subject, headers) else {
                    strange.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(?subject, "a record that is not a relay's");
                    return;
                };
                crate::lock(&view).apply(number, time, record, &limits);
            })
        };
        let node = Self {
            mail: Feed::start(Arc::clone(&link), Which::Mail, apply_mail, tasks),
            book: Feed::start(Arc::clone(&link), Which::Book, apply_book, tasks),
            blobs: Feed::start(Arc::clone(&link), Which::Blobs, apply_blobs, tasks),
            link,
            mail_view,
            book_view,
            blob_view,
            metrics: options.metrics,
            limits: options.limits,
            clock: options.clock,
            ahead,
            strange,
        };
        node.book.catch_up().await?;
        node.mail.catch_up().await?;
        node.blobs.catch_up().await?;
        node.mail.with_bodies();
        Ok(Arc::new(node))
    }

    pub(super) fn counts(&self) -> Counts {
        let accounts = self.book().count();
        let (messages, bytes) = crate::lock(&self.mail_view).sums();
        let (blobs, blob_bytes) = self.blob_view().sums();
        Counts {
            accounts,
            messages,
            bytes,
            blobs,
            blob_bytes,
            strange: self.strange.load(Ordering::Relaxed),
            promise: self.link.promise(),
        }
    }

    /// Ids that are remembered, with mailbox and sender, of messages that are gone; for who copies a store, once.
    pub(super) async fn remembered(
        &self,
    ) -> Result<Vec<(AccountId, String, MessageId)>, StoreError> {
        self.mail.catch_up().await?;
        let gone = crate::lock(&self.mail_view).gone.take();
        Ok(gone.unwrap_or_default())
    }

    /// The servers' time, milliseconds since 1970, as of the last record and the time that has passed since.
    pub(super) fn now_ms(&self) -> u64 {
        let uptime = self.clock.uptime_ms();
        uptime.saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }

    pub(super) fn book(&self) -> std::sync::MutexGuard<'_, BookView> {
        crate::lock(&self.book_view)
    }

    /// Looks a thing up in the book; if it is not there, once more after everything written is known.
    pub(super) async fn look<T>(
        &self,
        look: impl Fn(&BookView) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let found = look(&self.book());
        if found.is_some() {
            return Ok(found);
        }
        self.book.catch_up().await?;
        Ok(look(&self.book()))
    }

    pub(super) async fn account(&self, name: &Name) -> Result<Option<Account>, StoreError> {
        self.look(|book| book.account(name)).await
    }

    pub(super) fn waiting(
        &self,
        mailbox: AccountId,
        after: u64,
        count: usize,
    ) -> Vec<(u64, Waiting)> {
        let view = crate::lock(&self.mail_view);
        view.page(mailbox, after, count, self.now_ms(), &self.limits)
    }

    /// A message with its body, if that is still there.
    pub(super) async fn message(
        &self,
        mailbox: AccountId,
        number: u64,
        waiting: Waiting,
    ) -> Result<Option<Arc<Message>>, StoreError> {
        let subjects = &self.link.subjects;
        let subject = subjects.message(mailbox, &waiting.sender_key, &waiting.message_id);
        let Some(body) = self.link.body(&subject, number).await? else {
            crate::lock(&self.mail_view).remove(mailbox, number);
            return Ok(None);
        };
        Ok(Some(Arc::new(message_of(number, waiting, &body))))
    }

    pub(super) fn fill(&self, row: &mut AccountRow) {
        (row.messages, row.bytes) = crate::lock(&self.mail_view).sums_of(row.id);
        (row.blobs, row.blob_bytes) = self.blob_view().used(row.id, self.now_ms());
    }

    /// Stores a message; `at` is when it was stored elsewhere before, if it was.
    pub(super) async fn append(
        &self,
        new: &NewMessage,
        at: Option<u64>,
    ) -> Result<Appended, StoreError> {
        let Some(Account { id: mailbox, .. }) = self.account(&new.to).await? else {
            return Ok(Appended::UnknownName);
        };
        let subject = self
            .link
            .subjects
            .message(mailbox, &new.sender_key, &new.message_id);
        let blocked = self.book().is_blocked(mailbox, &new.sender_key);
        let refusal = {
            let view = crate::lock(&self.mail_view);
            let most = u64::from(self.limits.database_mib) * 1024 * 1024;
            if blocked {
                Some(Appended::Blocked)
            } else if view.sums().1 >= most || view.sums().0 >= self.limits.nats_messages() {
                Some(Appended::RelayFull)
            } else if view.is_full(mailbox, new, &self.limits) {
                Some(Appended::MailboxFull)
            } else {
                None
            }
        };
        if let Some(refusal) = refusal {
            let repeat = self.link.last(&subject).await?.is_some();
            return Ok(if repeat { Appended::Repeat } else { refusal });
        }
        let start = Instant::now();
        if self.keeps_log() {
            // Its entry may be over, while its id is remembered.
            if self.link.last(&subject).await?.is_some() {
                return Ok(Appended::Repeat);
            }
            match self.log_message(mailbox, new).await {
                Err(StoreError::Full) => return Ok(Appended::RelayFull),
                logged => logged?,
            }
        }
        let headers = record::message_headers(new, at);
        let body = Bytes::from_owner(Arc::clone(&new.body));
        let number = match self.link.put(subject, headers, body, Some(0)).await {
            Ok(Put::Done(number)) => number,
            Ok(Put::Lost) => return Ok(Appended::Repeat),
            Err(StoreError::Full) => return Ok(Appended::RelayFull),
            Err(error) => return Err(error),
        };
        self.metrics.committed(start.elapsed());
        self.metrics.stored.add(1);
        self.metrics.stored_bytes.add(new.body.len() as u64);
        if self.book().name(mailbox).is_none() {
            // Deleted meanwhile, perhaps before the purge.
            self.link
                .purge(Which::Mail, self.link.subjects.mailbox(mailbox))
                .await?;
            return Ok(Appended::UnknownName);
        }
        // It is stored either way.
        let _ = timeout(SETTLE, self.mail.reached(number)).await;
        Ok(Appended::Stored)
    }

    pub(super) async fn acknowledge(
        &self,
        mailbox: AccountId,
        number: u64,
    ) -> Result<(), StoreError> {
        let look = || crate::lock(&self.mail_view).get(mailbox, number).cloned();
        let mut waiting = look();
        if waiting.is_none() {
            // Perhaps delivered by another node.
            self.mail.catch_up().await?;
            waiting = look();
        }
        let Some(waiting) = waiting else {
            return Ok(());
        };
        self.bury(mailbox, number, &waiting).await
    }

    /// Replaces a message by what remembers its id.
    async fn bury(
        &self,
        mailbox: AccountId,
        number: u64,
        waiting: &Waiting,
    ) -> Result<(), StoreError> {
        let subjects = &self.link.subjects;
        let subject = subjects.message(mailbox, &waiting.sender_key, &waiting.message_id);
        let headers = record::gone_headers(number);
        // Not compared: a record never comes back from this, so that it may be written twice.
        let put = self.link.put(subject, headers, Bytes::new(), None);
        if let Put::Done(gone) = put.await? {
            let _ = timeout(SETTLE, self.mail.reached(gone)).await;
        }
        Ok(())
    }

    pub(super) async fn register(
        &self,
        name: &Name,
        identity: &IdentityClaim,
        admission: &Admission,
        visible: bool,
    ) -> Result<Registered, StoreError> {
        let mut charged = false;
        for _ in 0..TRIES {
            self.book.catch_up().await?;
            let entry = self.book().entry(name).cloned();
            if let Some(bound) = entry.as_ref().and_then(|entry| entry.account.as_ref()) {
                let claim = bound.identity;
                if claim.sign == identity.sign && claim.dh == identity.dh {
                    return Ok(Registered::Account(bound.id));
                }
                if let (true, Admission::Invitation(invitation)) = (charged, admission) {
                    self.charge(invitation, |uses| uses.checked_add(1)).await?;
                }
                return Ok(Registered::NameTaken);
            }
            match admission {
                Admission::Closed => return Ok(Registered::NotInvited),
                Admission::Invitation(invitation) if !charged => {
                    charged = self.charge(invitation, |uses| uses.checked_sub(1)).await?;
                    if !charged {
                        return Ok(Registered::NotInvited);
                    }
                }
                Admission::Open | Admission::Invitation(_) => {}
            }
            let account = AccountRecord {
                id: draw()?,
                identity: *identity,
                visible,
                registered_at: self.clock.wall_ms(),
                desk: Marks::default(),
            };
            if self.write_account(name, entry.as_ref(), &account).await? {
                return Ok(Registered::Account(account.id));
            }
        }
        Err(contended())
    }

    /// Writes an account in the place of `before`; `false` if that is no longer the last.
    async fn write_account(
        &self,
        name: &Name,
        before: Option<&Entry>,
        account: &AccountRecord,
    ) -> Result<bool, StoreError> {
        let subject = self.link.subjects.account(name);
        self.write_book(
            subject,
            account.headers(),
            Bytes::new(),
            before.map_or(0, |e| e.revision),
        )
        .await
    }

    /// Writes a record and waits until the view has it; `false` if `expect` is no longer the last.
    pub(super) async fn write_book(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        expect: u64,
    ) -> Result<bool, StoreError> {
        match self.link.put(subject, headers, body, Some(expect)).await? {
            Put::Done(revision) => self.book.reached(revision).await.map(|()| true),
            Put::Lost => Ok(false),
        }
    }

    pub(super) async fn set_visible(
        &self,
        account: AccountId,
        visible: bool,
    ) -> Result<(), StoreError> {
        self.change_account(account, |record| record.visible = visible)
            .await?;
        Ok(())
    }

    /// Changes the record of an account, if it is there; `false` if there was nothing to change.
    pub(super) async fn change_account(
        &self,
        account: AccountId,
        change: impl Fn(&mut AccountRecord),
    ) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let found = {
                let book = self.book();
                let name = book.name(account).cloned();
                name.and_then(|name| Some((book.entry(&name)?.clone(), name)))
            };
            let Some((entry, name)) = found else {
                return Ok(false);
            };
            let Some(before) = &entry.account else {
                return Ok(false);
            };
            let mut changed = before.clone();
            change(&mut changed);
            if (before.visible, before.desk) == (changed.visible, changed.desk) {
                return Ok(false);
            }
            if self.write_account(&name, Some(&entry), &changed).await? {
                return Ok(true);
            }
            self.book.catch_up().await?;
        }
        Err(contended())
    }

    pub(super) async fn delete_account(&self, account: AccountId) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let found = {
                let book = self.book();
                let name = book.name(account).cloned();
                name.and_then(|name| Some((book.entry(&name)?.revision, name)))
            };
            let Some((revision, name)) = found else {
                return Ok(());
            };
            let subject = self.link.subjects.account(&name);
            let headers = record::gone_headers(account.0);
            if self
                .write_book(subject, headers, Bytes::new(), revision)
                .await?
            {
                return self.purge(account).await;
            }
            self.book.catch_up().await?;
        }
        Err(contended())
    }

    /// Deletes what is left of an account that was deleted.
    async fn purge(&self, account: AccountId) -> Result<(), StoreError> {
        let subjects = &self.link.subjects;
        self.link
            .purge(Which::Mail, subjects.mailbox(account))
            .await?;
        self.link
            .purge(Which::Book, subjects.prekeys(account))
            .await?;
        self.link
            .purge(Which::Book, subjects.blocks(account))
            .await?;
        self.link
            .purge(Which::Book, subjects.generation(account))
            .await?;
        self.book().drop_rest(account);
        self.purge_blobs(account).await?;
        crate::lock(&self.mail_view).forget(account);
        Ok(())
    }

    /// Deletes some of what has expired. Messages other than pairing ones are deleted by the servers.
    pub(super) async fn sweep(&self) -> Result<Swept, StoreError> {
        let now = self.now_ms();
        let expired = crate::lock(&self.mail_view).expired(SWEEP_ROWS, now, &self.limits);
        let messages = expired.len();
        for (mailbox, number, waiting) in expired {
            if waiting.kind == Kind::Pairing {
                self.bury(mailbox, number, &waiting).await?;
            }
            crate::lock(&self.mail_view).remove(mailbox, number);
        }
        let limit = now.saturating_sub(GIVEN_MS);
        let Stale { keys, names } = self.book().stale(limit, SWEEP_ROWS);
        let rows = messages + keys.len() + names.len();
        // Only these records: what another node has written over one just now stays.
        for (account, id, revision) in keys {
            let subject = self.link.subjects.one_time(account, id);
            self.link.purge_book_until(subject, revision).await?;
            self.book().drop_one_time(account, id, revision);
        }
        for (name, revision) in names {
            let subject = self.link.subjects.account(&name);
            self.link.purge_book_until(subject, revision).await?;
            self.book().drop_name(&name, revision);
        }
        // What a node that died has left of these; there is nothing, usually.
        let deleted = std::mem::take(&mut self.book().deleted);
        for account in deleted {
            if let Err(error) = self.purge(account).await {
                self.book().deleted.push(account);
                return Err(error);
            }
        }
        let (blobs, of_blobs) = self.sweep_blobs().await?;
        Ok(Swept {
            messages,
            blobs,
            rows: rows + of_blobs,
        })
    }
}

fn message_of(number: u64, waiting: Waiting, body: &Bytes) -> Message {
    Message {
        number,
        sender: waiting.sender,
        fingerprint: waiting.fingerprint.map(FixedBytes),
        stored_at: waiting.stored_at,
        message_id: waiting.message_id,
        body: Arc::from(&body[..]),
    }
}

/// A number that no other account has: 62 bits, so that a database that goes on counting from it has room.
fn draw() -> Result<AccountId, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Other(error.to_string()))?;
    Ok(AccountId(i64::from_le_bytes(bytes) & (i64::MAX >> 1)))
}

pub(super) fn contended() -> StoreError {
    StoreError::Unavailable("other nodes keep changing the same record".to_owned())
}
