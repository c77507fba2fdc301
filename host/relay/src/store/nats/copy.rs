//! From a database file to the servers and back; and what works beside running nodes: an invitation, a look.

use std::path::Path;
use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{
    Address, Bytes as FixedBytes, Generation, MessageId, Name, PrekeyKind, codec,
};
use rusqlite::Connection;
use tokio::task::JoinSet;

use super::super::check::{self, Report};
use super::super::copy::{CopyError, Partial};
use super::super::sqlite::{self, Sqlite};
use super::super::{
    AccountId, Message, NewInvitation, NewMessage, Outlet, Store as _, StoreError, generation, ops,
    schema,
};
use super::blob_copy;
use super::desk::{Kept, Marks};
use super::link::{Link, Put};
use super::node::Node;
use super::record::{self, AccountRecord};
use super::{Options, READS};

/// Rows that are read from the file, or written to the servers, at once.
pub(super) const ROWS: usize = 256;

/// Nobody receives while a store is copied.
struct Nobody;

impl Outlet for Nobody {
    fn stored(&self, _: AccountId, _: Arc<Message>) {}
}

/// What is on the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Registered accounts.
    pub accounts: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Blobs that nobody has deleted.
    pub blobs: u64,
    /// Bytes of these, as announced.
    pub blob_bytes: u64,
    /// Records that are not a relay's, or cannot be read.
    pub strange: u64,
    /// What `stored` means with these servers.
    pub promise: String,
}

/// A node that serves nobody.
struct Visit {
    node: Arc<Node>,
    tasks: JoinSet<()>,
}

impl Visit {
    async fn start(options: Options) -> Result<Self, StoreError> {
        let link = Arc::new(Link::connect(&options).await?);
        let mut tasks = JoinSet::new();
        let node = Node::start(link, options, Arc::new(Nobody), &mut tasks).await?;
        Ok(Self { node, tasks })
    }

    async fn end(mut self) -> Result<Counts, StoreError> {
        self.node.book.catch_up().await?;
        self.node.mail.catch_up().await?;
        self.node.blobs.catch_up().await?;
        let counts = self.node.counts();
        self.tasks.shutdown().await;
        Ok(counts)
    }
}

/// Reads all records (not the bodies, whose checksums are the servers') and counts.
///
/// # Errors
/// `Unavailable`, or `Other` for a wrong configuration.
pub async fn check_servers(options: Options) -> Result<Counts, StoreError> {
    Visit::start(options).await?.end().await
}

/// Adds an invitation that may be used `uses` times; works beside running nodes.
///
/// # Errors
/// As [`check_servers`].
pub async fn invite(options: Options, new: &NewInvitation) -> Result<(), StoreError> {
    let visit = Visit::start(options).await?;
    visit.node.invite(new, usize::MAX).await?;
    visit.end().await.map(|_| ())
}

/// Copies the database in `from`, which no relay uses, to servers that hold nothing of this name.
///
/// Times of storing are kept; messages and blobs expire anew from now.
///
/// # Errors
/// `Damaged`, `Newer` or `NotOurs` for the file, `Unavailable`, or `Other` if there is something on the servers.
pub async fn to_servers(from: &Path, options: Options) -> Result<Counts, StoreError> {
    let report = check::check(from)?;
    if let Some(first) = report.problems.first() {
        return Err(StoreError::Damaged(first.clone()));
    }
    if report.format < schema::known() {
        let why = "the database is of an older format: run this version on it once";
        return Err(StoreError::Other(why.to_owned()));
    }
    let file = check::open(from)?;
    let visit = Visit::start(options).await?;
    let node = &visit.node;
    let Counts {
        accounts, messages, ..
    } = node.counts();
    if (accounts, messages) != (0, 0) {
        let why =
            "there is a store of this name on the servers already: give [nats] another `name`";
        return Err(StoreError::Other(why.to_owned()));
    }
    // A number that a client remembers must not mean another message.
    let next: i64 = file.query_row("SELECT next_number FROM counter", [], |row| row.get(0))?;
    node.link.skip_to(next.cast_unsigned()).await?;
    copy_accounts(&file, node).await?;
    copy_prekeys(&file, node).await?;
    copy_blocks(&file, node).await?;
    copy_generations(&file, node).await?;
    copy_messages(&file, node).await?;
    copy_remembered(&file, node).await?;
    blob_copy::to_servers(&file, node).await?;
    visit.end().await
}

async fn copy_accounts(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let rows: Vec<(String, AccountRecord)> = file
        .prepare(
            "SELECT name, id, identity, visible, registered_at, suspended, seen_day FROM account",
        )?
        .query_map([], |row| {
            let account = AccountRecord {
                id: AccountId(row.get(1)?),
                identity: ops::identity_from(&row.get(2)?),
                visible: row.get(3)?,
                registered_at: row.get::<_, i64>(4)?.cast_unsigned(),
                desk: Marks {
                    suspended: row.get(5)?,
                    seen_day: row.get(6)?,
                },
            };
            Ok((row.get(0)?, account))
        })?
        .collect::<Result<_, _>>()?;
    for (name, account) in rows {
        let name = Name::parse(&name).map_err(unreadable)?;
        let subject = node.link.subjects.account(&name);
        write(node, subject, account.headers(), Bytes::new()).await?;
    }
    let age: u64 = file
        .query_row("SELECT age_ms FROM counter", [], |row| row.get::<_, i64>(0))?
        .cast_unsigned();
    let now = node.now_ms();
    let invitations: Vec<([u8; 32], Kept)> = file
        .prepare("SELECT hash, created_at, uses_left, note, expires FROM invitation")?
        .query_map([], |row| {
            let expires: Option<i64> = row.get(4)?;
            let left = |end: i64| end.cast_unsigned().saturating_sub(age);
            let kept = Kept {
                created_at: row.get::<_, i64>(1)?.cast_unsigned(),
                uses: row.get(2)?,
                note: row.get(3)?,
                expires_at: expires.map(|end| now.saturating_add(left(end))),
            };
            Ok((row.get(0)?, kept))
        })?
        .collect::<Result<_, _>>()?;
    for (hash, kept) in invitations {
        node.keep_invitation(&record::hex(&hash), &kept).await?;
    }
    Ok(())
}

async fn copy_prekeys(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let mut prekeys = file.prepare("SELECT account, kind, id, issued, body FROM prekey")?;
    let mut rows = prekeys.query([])?;
    while let Some(row) = rows.next()? {
        let (account, id) = (AccountId(row.get(0)?), row.get(2)?);
        let issued = row.get::<_, i64>(3)?.cast_unsigned();
        let body: Option<Vec<u8>> = row.get(4)?;
        let subjects = &node.link.subjects;
        let (subject, headers) = match (row.get::<_, i64>(1)?, &body) {
            (0, Some(_)) => {
                let headers = record::one_time_headers(issued);
                (subjects.one_time(account, id), headers)
            }
            (0, None) => {
                let headers = record::given_headers(id, issued);
                (subjects.one_time(account, id), headers)
            }
            _ => {
                let headers = record::last_resort_headers(id, issued);
                (subjects.last_resort(account), headers)
            }
        };
        write(node, subject, headers, body.unwrap_or_default().into()).await?;
    }
    Ok(())
}

async fn copy_blocks(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let mut lists =
        file.prepare("SELECT mailbox, group_concat(sender, ',') FROM blocked GROUP BY mailbox")?;
    let mut rows = lists.query([])?;
    while let Some(row) = rows.next()? {
        let senders: String = row.get(1)?;
        let senders = senders.split(',').map(str::to_owned).collect();
        let subject = node.link.subjects.blocks(AccountId(row.get(0)?));
        write(
            node,
            subject,
            record::blocks_headers(&senders),
            Bytes::new(),
        )
        .await?;
    }
    Ok(())
}

async fn copy_generations(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let mut generations = file.prepare("SELECT account, number, random FROM generation")?;
    let mut rows = generations.query([])?;
    while let Some(row) = rows.next()? {
        let generation = generation::from_columns(row.get(1)?, row.get(2)?);
        let subject = node.link.subjects.generation(AccountId(row.get(0)?));
        let headers = record::generation_headers(&generation);
        write(node, subject, headers, Bytes::new()).await?;
    }
    Ok(())
}

async fn copy_messages(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let mut messages = file.prepare(
        "SELECT message.kind, sender, guest, message_id, stored_at, body, mailbox, name, fingerprint
         FROM message JOIN account ON account.id = mailbox ORDER BY number",
    )?;
    let mut rows = messages.query([])?;
    // One after the other: their order is that of delivery.
    while let Some(row) = rows.next()? {
        let sender = Address::parse(&row.get::<_, String>(1)?).map_err(unreadable)?;
        let guest = row.get(2)?;
        let name = sender.name();
        let new = NewMessage {
            to: Name::parse(&row.get::<_, String>(7)?).map_err(unreadable)?,
            sender_key: match guest {
                true => sender.as_str().to_owned(),
                false => name.as_str().to_owned(),
            },
            sender,
            guest,
            fingerprint: row.get::<_, Option<[u8; 32]>>(8)?.map(FixedBytes),
            message_id: MessageId::from(row.get::<_, [u8; 16]>(3)?),
            kind: ops::kind_from(row.get(0)?),
            body: row.get::<_, Vec<u8>>(5)?.into(),
        };
        let mailbox = AccountId(row.get(6)?);
        let subject = node
            .link
            .subjects
            .message(mailbox, &new.sender_key, &new.message_id);
        let at = row.get::<_, i64>(4)?.cast_unsigned();
        let headers = record::message_headers(&new, Some(at));
        write(node, subject, headers, Bytes::from_owner(new.body)).await?;
    }
    Ok(())
}

/// Ids of what was delivered.
async fn copy_remembered(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let mut seen = file.prepare(
        "SELECT mailbox, sender, message_id FROM seen AS s WHERE NOT EXISTS
         (SELECT 1 FROM message AS m WHERE m.mailbox = s.mailbox AND m.message_id = s.message_id AND s.sender =
          CASE WHEN m.guest THEN m.sender ELSE substr(m.sender, 1, instr(m.sender, '@') - 1) END)",
    )?;
    let rows = seen.query_map([], |row| {
        let id = MessageId::from(row.get::<_, [u8; 16]>(2)?);
        Ok((AccountId(row.get(0)?), row.get::<_, String>(1)?, id))
    })?;
    stream::iter(rows)
        .map(|row| async move {
            let (mailbox, sender, id) = row?;
            let subject = node.link.subjects.message(mailbox, &sender, &id);
            write(node, subject, record::gone_headers(0), Bytes::new()).await
        })
        .buffer_unordered(ROWS)
        .try_collect()
        .await
}

pub(super) async fn write(
    node: &Node,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), StoreError> {
    // Lost is what an earlier try of this very write has done: nobody else writes.
    let _: Put = node.link.put(subject, headers, body, Some(0)).await?;
    Ok(())
}

/// Copies what is on the servers to the new file `to`; there may be nothing at `to`.
///
/// Nodes may run meanwhile. What they delete before it is read is left out, and so is what comes after the beginning, in
/// part: nothing refers to something that is missing.
///
/// # Errors
/// `Exists` if there is something at `to`; else `Store`.
pub async fn to_file(mut options: Options, to: &Path) -> Result<Report, CopyError> {
    let wrong = |error| CopyError::Store(to.to_owned(), error);
    if to.symlink_metadata().is_ok() {
        return Err(CopyError::Exists(to.to_owned()));
    }
    let partial = Partial::make(to)?;
    let fresh = sqlite::Options {
        path: partial.0.clone(),
        limits: options.limits.clone(),
        log_ms: 0,
        clock: Arc::clone(&options.clock),
        metrics: Arc::default(),
        danger_synchronous_off: false,
    };
    // Makes the tables.
    let empty = Sqlite::open(fresh, Arc::new(Nobody)).map_err(wrong)?;
    empty.close().await;
    options.remember = true;
    let visit = Visit::start(options).await.map_err(wrong)?;
    let filled = fill(&partial.0, &visit.node).await;
    filled.map_err(wrong)?;
    visit.end().await.map_err(wrong)?;
    partial.finish(to)
}

async fn fill(path: &Path, node: &Node) -> Result<(), StoreError> {
    let mut file = Connection::open(path)?;
    let tx = file.transaction()?;
    let (rows, invitations) = {
        let book = node.book();
        (
            book.all_accounts(),
            book.invitations_with("", node.now_ms()),
        )
    };
    let limits = &node.limits;
    let forget = limits.message_ms().cast_signed();
    let mut number = 0;
    for (name, account) in rows {
        let id = account.id.0;
        tx.execute(
            "INSERT INTO account (id, name, identity, visible, registered_at, suspended, seen_day)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (
                id,
                name.as_str(),
                ops::identity_bytes(&account.identity),
                account.visible,
                account.registered_at.cast_signed(),
                account.desk.suspended,
                account.desk.seen_day,
            ),
        )?;
        let prekeys = node.book().all_prekeys(account.id);
        for copied in prekeys {
            let kind = copied.kind;
            let body = match copied.given {
                true => None,
                false => {
                    let subjects = &node.link.subjects;
                    let subject = match kind {
                        PrekeyKind::OneTime => subjects.one_time(account.id, copied.id),
                        PrekeyKind::LastResort => subjects.last_resort(account.id),
                    };
                    node.link.body(&subject, copied.revision).await?
                }
            };
            if (kind, &body) == (PrekeyKind::LastResort, &None) {
                // Its account was deleted meanwhile.
                continue;
            }
            let prekey = body
                .as_deref()
                .map(codec::decode::<hostchat_core::wire::Prekey>);
            let prekey = prekey.transpose().map_err(unreadable)?;
            // Another one may have taken its place meanwhile, or it was given.
            let (key, issued) = prekey.map_or_else(
                || (copied.id, copied.issued.unwrap_or(0)),
                |prekey| (prekey.id, prekey.issued),
            );
            let expires = if body.is_none() {
                ops::GIVEN_MS.cast_signed()
            } else {
                i64::MAX
            };
            tx.execute(
                "INSERT INTO prekey VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    id,
                    ops::prekey_kind(kind),
                    key,
                    issued.cast_signed(),
                    expires,
                    body.as_deref(),
                ),
            )?;
        }
        let blocks = node.book().blocks(account.id).cloned();
        for sender in blocks.unwrap_or_default().senders {
            tx.execute("INSERT INTO blocked VALUES (?1, ?2)", (id, sender))?;
        }
        let there = node.book().generation(account.id).there;
        if there != Generation::NONE {
            tx.execute(
                "INSERT INTO generation VALUES (?1, ?2, ?3)",
                (id, there.number.cast_signed(), there.random.0),
            )?;
        }
        let mut after = 0;
        loop {
            let page = node.waiting(account.id, after, ROWS);
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let bodies = page.into_iter().map(|(at, waiting)| async move {
                let message = node.message(account.id, at, waiting.clone()).await;
                message.map(|message| Some((at, waiting, message?)))
            });
            let mut bodies = stream::iter(bodies).buffered(READS);
            while let Some(message) = bodies.next().await {
                let Some((at, waiting, message)) = message? else {
                    continue;
                };
                let life = match waiting.kind {
                    Kind::Pairing => limits.pairing_ms(),
                    Kind::First | Kind::Message => limits.message_ms(),
                };
                let left = waiting
                    .arrived
                    .saturating_add(life)
                    .saturating_sub(node.now_ms());
                number = number.max(at);
                tx.execute(
                    "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    (
                        at.cast_signed(),
                        id,
                        ops::kind_number(waiting.kind),
                        waiting.sender.as_str(),
                        waiting.guest,
                        &message.message_id.0,
                        waiting.stored_at.cast_signed(),
                        left.cast_signed(),
                        &*message.body,
                        waiting.fingerprint,
                    ),
                )?;
                let seen = "INSERT OR IGNORE INTO seen VALUES (?1, ?2, ?3, ?4)";
                tx.execute(
                    seen,
                    (id, &waiting.sender_key, &message.message_id.0, forget),
                )?;
            }
        }
        blob_copy::to_file(&tx, node, account.id).await?;
    }
    for (account, sender, id) in node.remembered().await? {
        tx.execute(
            "INSERT OR IGNORE INTO seen SELECT id, ?2, ?3, ?4 FROM account WHERE id = ?1",
            (account.0, sender, &id.0, forget),
        )?;
    }
    for (hash, entry) in invitations {
        tx.execute(
            "INSERT INTO invitation (hash, created_at, uses_left, note, expires)
             VALUES (unhex(?1), ?2, ?3, ?4, ?5)",
            (
                hash,
                entry.kept.created_at.cast_signed(),
                entry.kept.uses,
                entry.kept.note,
                // The age of this file begins at nothing.
                entry
                    .kept
                    .expires_at
                    .map(|end| end.saturating_sub(node.now_ms()).cast_signed()),
            ),
        )?;
    }
    // Above all numbers that the servers have given, also of messages that are gone.
    let next = number.max(node.mail.applied()) + 1;
    tx.execute("UPDATE counter SET next_number = ?1", [next.cast_signed()])?;
    tx.commit()?;
    Ok(())
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}
