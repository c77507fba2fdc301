//! The store in one SQLite file: write-ahead log, full sync, one writer, readers beside it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hostchat_core::wire::relay::BlobId;
use hostchat_core::wire::{Address, Bytes, Generation, IdentityClaim, MessageId, Name, Prekey};
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::mpsc;

use super::age::{Age, Mark};
use super::readers::Readers;
use super::tx::{Cache, Tx};
use super::wal;
use super::writer::{Job, Write, Writer};
use super::{
    Account, AccountId, AccountRow, Admission, Advanced, Announced, Appended, BlobKey, BlobState,
    Block, Filter, Invitation, Invited, LogEntry, Message, NewBlob, NewInvitation, NewMessage,
    Outlet, Pending, PrekeyList, PutPart, PutPrekey, Queued, Read, Registered, State, Stock, Store,
    StoreError, StoreFuture, Swept, Taken, Totals, blobs, block, generation, log, ops, roster,
    schema,
};
use crate::clock::Clock;
use crate::limits::{Limits, RECEIVER_BYTES, WRITE_QUEUE};
use crate::metrics::Metrics;

/// How long one process waits for another (an `invite` beside a running relay) to finish its write.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// Pages of the log after which it is copied into the database, 16 MiB: fewer, larger copies than the default.
const CHECKPOINT_PAGES: u32 = 4096;
/// The log file is cut back to this many bytes after it has grown.
const LOG_BYTES: u32 = 64 * 1024 * 1024;
/// Page cache of the writer in KiB.
const CACHE_KIB: i32 = 32 * 1024;

/// How a store is opened.
pub struct Options {
    /// The database file; made if there is none.
    pub path: PathBuf,
    /// Quotas and lifetimes.
    pub limits: Limits,
    /// How long it is kept who wrote to whom, in milliseconds; 0 keeps nothing, and deletes what was kept before.
    pub log_ms: u64,
    /// Wall time and uptime.
    pub clock: Arc<dyn Clock>,
    /// Where commits and stored messages are counted.
    pub metrics: Arc<Metrics>,
    /// Leaves out every sync. An acknowledged message may be lost when the machine goes down: for tests that must fail.
    pub danger_synchronous_off: bool,
}

/// The store in one SQLite file.
pub struct Sqlite {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Write>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
    age: Age,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the file, checks it after a crash, and starts the writer; what becomes durable goes to `outlet`.
    ///
    /// # Errors
    /// `Newer`, `NotOurs`, `Damaged`, `Full`, or what the system says.
    pub fn open(options: Options, outlet: Arc<dyn Outlet>) -> Result<Self, StoreError> {
        let wall_ms = options.clock.wall_ms();
        let connection = connect(&options.path, wall_ms, Opened::ToServe)?;
        let page_size: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = u64::from(options.limits.database_mib) * 1024 * 1024 / u64::from(page_size);
        connection.pragma_update(
            None,
            "max_page_count",
            i64::try_from(pages).unwrap_or(i64::MAX),
        )?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        if options.danger_synchronous_off {
            connection.pragma_update(None, "synchronous", "OFF")?;
        }
        schema::set_running(&connection, true)?;
        sync_folder(&options.path)?;
        let age = Age::resume(last_mark(&connection)?, options.clock);
        let readers = Readers::open(&options.path)?;
        let (queue, receiver) = mpsc::channel(WRITE_QUEUE);
        let writer = Writer {
            connection,
            folder: folder_of(&options.path).into(),
            limits: options.limits,
            log_ms: options.log_ms,
            age: age.clone(),
            outlet,
            metrics: options.metrics,
            cache: Cache::default(),
            room: true,
            groups: 0,
            stored: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("relay-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|error| StoreError::Other(error.to_string()))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(thread)),
            readers,
            age,
            path: options.path,
        })
    }

    /// Adds an invitation; works beside a running relay.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn invite(
        path: &Path,
        new: &NewInvitation,
        clock: Arc<dyn Clock>,
    ) -> Result<(), StoreError> {
        let connection = connect(path, clock.wall_ms(), Opened::Beside)?;
        let age = Age::resume(last_mark(&connection)?, clock);
        roster::keep_invitation(&connection, new, &age)?;
        Ok(())
    }

    #[expect(
        clippy::async_yields_async,
        reason = "the first wait is for room in the queue, the second for the disk"
    )]
    fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Queued<'_, T> {
        let queue = crate::lock(&self.queue).clone();
        Box::pin(async move {
            let (reply, pending) = Pending::new();
            let job = Box::new(Job {
                run,
                outcome: None,
                reply,
            });
            // If the queue is closed, the job is dropped and `pending` says so.
            if let Some(queue) = queue {
                let _ = queue.send(job).await;
            }
            pending
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Read<'_, T> {
        Box::pin(Arc::clone(&self.readers).run(read))
    }
}

impl Store for Sqlite {
    fn register(
        &self,
        name: Name,
        identity: IdentityClaim,
        admission: Admission,
        visible: bool,
    ) -> Queued<'_, Registered> {
        self.write(move |tx| ops::register(tx, &name, &identity, &admission, visible))
    }

    fn append(&self, message: NewMessage) -> Queued<'_, Appended> {
        self.write(move |tx| ops::append(tx, &message))
    }

    fn acknowledge(&self, mailbox: AccountId, number: u64) -> Queued<'_, ()> {
        self.write(move |tx| ops::acknowledge(tx, mailbox, number))
    }

    fn put_prekey(&self, account: AccountId, prekey: Box<Prekey>) -> Queued<'_, PutPrekey> {
        self.write(move |tx| ops::put_prekey(tx, account, &prekey))
    }

    fn take_prekeys(&self, name: Name, taker: String, one_time: bool) -> Queued<'_, Taken> {
        self.write(move |tx| ops::take_prekeys(tx, &name, &taker, one_time))
    }

    fn drop_prekeys(&self, account: AccountId) -> Queued<'_, ()> {
        self.write(move |tx| ops::drop_prekeys(tx, account))
    }

    fn advance(
        &self,
        account: AccountId,
        from: Generation,
        to: Generation,
    ) -> Queued<'_, Advanced> {
        self.write(move |tx| generation::advance(tx, account, from, to))
    }

    fn block(&self, account: AccountId, sender: String) -> Queued<'_, Block> {
        self.write(move |tx| block::block(tx, account, &sender))
    }

    fn unblock(&self, account: AccountId, senders: Vec<String>) -> Queued<'_, ()> {
        self.write(move |tx| block::unblock(tx, account, &senders))
    }

    fn set_visible(&self, account: AccountId, visible: bool) -> Queued<'_, ()> {
        self.write(move |tx| ops::set_visible(tx, account, visible))
    }

    fn suspend(&self, account: AccountId, suspended: bool) -> Queued<'_, ()> {
        self.write(move |tx| roster::suspend(tx, account, suspended))
    }

    fn saw(&self, account: AccountId, day: u32) -> Queued<'_, ()> {
        self.write(move |tx| roster::saw(tx, account, day))
    }

    fn delete_account(&self, account: AccountId) -> Queued<'_, ()> {
        self.write(move |tx| ops::delete_account(tx, account))
    }

    fn sweep(&self) -> Queued<'_, Swept> {
        self.write(ops::sweep)
    }

    fn probe(&self) -> Queued<'_, ()> {
        self.write(|tx| tx.keep_counter())
    }

    fn account(&self, name: Name) -> Read<'_, Option<Account>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT id, identity, visible, suspended, seen_day FROM account WHERE name = ?1")?
                .query_row([name.as_str()], |row| {
                    Ok(Account {
                        id: AccountId(row.get(0)?),
                        identity: ops::identity_from(&row.get(1)?),
                        visible: row.get(2)?,
                        suspended: row.get(3)?,
                        seen_day: row.get(4)?,
                    })
                })
                .optional()
        })
    }

    fn page(&self, mailbox: AccountId, after: u64, count: usize) -> Read<'_, Vec<Arc<Message>>> {
        let now = self.age.now_ms().cast_signed();
        self.read(move |connection| {
            let mut messages = connection.prepare_cached(
                "SELECT number, sender, stored_at, message_id, body, fingerprint FROM message
                 WHERE mailbox = ?1 AND number > ?2 AND expires > ?3 ORDER BY number LIMIT ?4",
            )?;
            let limits = (mailbox.0, after.cast_signed(), now, count as i64);
            let mut rows = messages.query_map(limits, message_from)?;
            let (mut page, mut weight) = (Vec::new(), 0);
            while weight < RECEIVER_BYTES
                && let Some(message) = rows.next()
            {
                match message {
                    Ok(message) => {
                        weight += message.weight();
                        page.push(message);
                    }
                    Err(failed @ rusqlite::Error::SqliteFailure(..)) => return Err(failed),
                    // One damaged row keeps no other one back; `check` finds it.
                    Err(why) => {
                        let mailbox = mailbox.0;
                        tracing::error!(mailbox, %why, "a damaged message is passed over");
                    }
                }
            }
            Ok(page)
        })
    }

    fn blocked(&self, account: AccountId) -> Read<'_, Vec<String>> {
        self.read(move |connection| block::list(connection, account))
    }

    fn prekey_stock(&self, account: AccountId) -> Read<'_, Stock> {
        self.read(move |connection| ops::stock_of(connection, account).map(Stock::from))
    }

    fn prekeys(&self, account: AccountId) -> Read<'_, PrekeyList> {
        self.read(move |connection| ops::prekeys(connection, account))
    }

    fn accounts(&self, after: Option<Name>, count: usize) -> Read<'_, Vec<AccountRow>> {
        self.read(move |connection| roster::accounts(connection, after.as_ref(), count))
    }

    fn account_row(&self, name: Name) -> Read<'_, Option<AccountRow>> {
        self.read(move |connection| roster::account(connection, &name))
    }

    fn invite(&self, new: NewInvitation, most: usize) -> Queued<'_, Invited> {
        self.write(move |tx| roster::invite(tx, &new, most))
    }

    fn invitations(&self) -> Read<'_, Vec<Invitation>> {
        let now = self.age.mark();
        self.read(move |connection| roster::invitations(connection, now))
    }

    fn withdraw(&self, id: String) -> Queued<'_, bool> {
        self.write(move |tx| roster::withdraw(tx, &id))
    }

    fn log(&self, filter: Filter, count: usize) -> Read<'_, Vec<LogEntry>> {
        self.read(move |connection| log::read(connection, &filter, count))
    }

    fn put_blob(&self, new: NewBlob) -> Queued<'_, Announced> {
        self.write(move |tx| blobs::put(tx, &new))
    }

    fn put_part(
        &self,
        owner: AccountId,
        blob: BlobId,
        index: u32,
        bytes: Arc<[u8]>,
    ) -> Queued<'_, PutPart> {
        self.write(move |tx| blobs::put_part(tx, (owner, blob), index, &bytes))
    }

    fn blob(&self, key: BlobKey) -> Read<'_, Option<BlobState>> {
        let now = self.age.now_ms();
        self.read(move |connection| blobs::state(connection, &key, now))
    }

    fn blob_part(&self, key: BlobKey, index: u32) -> Read<'_, Option<Vec<u8>>> {
        let now = self.age.now_ms();
        self.read(move |connection| blobs::part(connection, &key, index, now))
    }

    fn end_blob(&self, key: BlobKey, who: String) -> Queued<'_, ()> {
        self.write(move |tx| blobs::end(tx, &key, &who))
    }

    fn delete_blob(&self, owner: AccountId, blob: BlobId) -> Queued<'_, ()> {
        self.write(move |tx| blobs::delete(tx, owner, blob))
    }

    fn totals(&self) -> Read<'_, Totals> {
        let age_ms = self.age.now_ms();
        self.read(move |connection| roster::totals(connection, age_ms))
    }

    fn state(&self) -> State {
        let waiting = crate::lock(&self.queue)
            .as_ref()
            .map_or(0, |queue| queue.max_capacity() - queue.capacity());
        let disk = rustix::fs::statvfs(folder_of(&self.path)).ok();
        State {
            waiting,
            disk_free: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
            // What is in the log is not in the database yet.
            bytes: std::fs::metadata(&self.path)
                .ok()
                .map(|file| file.len().saturating_add(wal::length(&self.path))),
        }
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        drop(crate::lock(&self.queue).take());
        self.readers.close();
        let writer = crate::lock(&self.writer).take();
        Box::pin(async move {
            if let Some(writer) = writer {
                // Joining blocks while the last group is written and the log is copied.
                let _ = tokio::task::spawn_blocking(move || writer.join()).await;
            }
        })
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// By the relay itself, which checks what a crash has left.
    ToServe,
    /// For one write, perhaps beside a running relay.
    Beside,
}

/// Opens a file that is ours or new, and brings it to the newest version.
fn connect(path: &Path, wall_ms: u64, opened: Opened) -> Result<Connection, StoreError> {
    // Made here so that nobody else may read it; the log and its index take over the mode.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::Other(error.to_string()))?;
    wal::check_header(path)?;
    let log_bytes = wal::length(path);
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    let recognised = schema::recognise(&connection)?;
    // An end in order leaves no log; one that is left may have hidden that there was none.
    let left = recognised.version > 0 && (recognised.unclean || log_bytes > 0);
    if opened == Opened::ToServe && left {
        recover(&connection, &recognised, log_bytes)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "FAST")?;
    schema::migrate(&mut connection, recognised.version, wall_ms)?;
    Ok(connection)
}

/// Checks what a crash has left, before anything is written, and says so in the log.
fn recover(
    connection: &Connection,
    recognised: &schema::Recognised,
    log_bytes: u64,
) -> Result<(), StoreError> {
    if recognised.version < schema::known() {
        let (from, to) = (recognised.version, schema::known());
        tracing::info!(from, to, "bringing the database to a newer format");
    } else {
        tracing::warn!(
            log_bytes,
            "the relay did not end in order last time: recovering"
        );
    }
    let start = Instant::now();
    schema::quick_check(connection)?;
    let messages: i64 =
        connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0))?;
    let took_ms = start.elapsed().as_millis();
    tracing::info!(
        messages,
        took_ms,
        "the database is whole, with everything acknowledged"
    );
    Ok(())
}

fn last_mark(connection: &Connection) -> Result<Mark, StoreError> {
    let mark = connection.query_row("SELECT age_ms, wall_ms FROM counter", [], |row| {
        Ok(Mark {
            age_ms: row.get::<_, i64>(0)?.cast_unsigned(),
            wall_ms: row.get::<_, i64>(1)?.cast_unsigned(),
        })
    });
    mark.optional()?
        .ok_or_else(|| StoreError::Damaged("it has no counter".to_owned()))
}

fn message_from(row: &Row<'_>) -> rusqlite::Result<Arc<Message>> {
    let sender = row.get_ref(1)?.as_str()?;
    Ok(Arc::new(Message {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        sender: Address::parse(sender).map_err(ops::into_sql)?,
        stored_at: row.get::<_, i64>(2)?.cast_unsigned(),
        message_id: MessageId::from(row.get::<_, [u8; 16]>(3)?),
        body: row.get_ref(4)?.as_blob()?.into(),
        fingerprint: row.get::<_, Option<[u8; 32]>>(5)?.map(Bytes),
    }))
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the names of the database and its log durable, which a sync of the files does not.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreError::Other(error.to_string()))
}

/// The name of a file that SQLite keeps beside a database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
