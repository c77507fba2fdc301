//! Whether a store holds together: what SQLite can tell of the file, and what only the relay knows of its rows.
//!
//! Nothing is changed, not even the log copied into the database, and a relay may run meanwhile: everything is read in
//! one transaction, so that it is compared with itself.

use std::path::Path;

use hostchat_core::wire::relay::BLOB_PART;
use hostchat_core::wire::{Address, MAX_ENVELOPE, Name, Prekey, codec};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::log::OPERATOR;
use super::{Logged, StoreError, block, ops, schema, sqlite, wal};

/// Most findings that are listed, of the file and in all; a damaged one has thousands.
const MOST: usize = 50;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Format of the file.
    pub format: i64,
    /// Whether a relay uses it, or used it last and did not end in order.
    pub in_use: bool,
    /// Registered accounts.
    pub accounts: u64,
    /// Mailboxes that hold something.
    pub mailboxes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of the messages' bodies.
    pub bytes: u64,
    /// Prekeys that can still be given.
    pub prekeys: u64,
    /// Entries of the log of who wrote to whom.
    pub log: u64,
    /// Blobs that nobody has deleted.
    pub blobs: u64,
    /// Bytes of these, as announced.
    pub blob_bytes: u64,
    /// What is wrong, at most some dozens; empty for a good store.
    pub problems: Vec<String>,
}

/// Checks the store in a file.
///
/// # Errors
/// `NotOurs`, `Newer`, or why it cannot be read at all. Damage is an error only if it hides the rest.
pub fn check(path: &Path) -> Result<Report, StoreError> {
    let log_bytes = wal::length(path);
    let mut connection = open(path)?;
    let tx = connection.transaction()?;
    let recognised = schema::recognise(&tx)?;
    if recognised.version == 0 {
        return Err(StoreError::NotOurs);
    }
    let mut report = Report {
        format: recognised.version,
        in_use: recognised.version > 1 && recognised.unclean,
        ..Report::default()
    };
    file(&tx, &mut report)?;
    if report.problems.is_empty() {
        references(&tx, &mut report)?;
        rows(&tx, &mut report)?;
        sums(&tx, &mut report)?;
        log(&tx, &mut report)?;
        blocked(&tx, &mut report)?;
        generations(&tx, &mut report)?;
        blobs(&tx, &mut report)?;
    }
    tx.commit()?;
    report.problems.truncate(MOST);
    if report.problems.is_empty() && !report.in_use && log_bytes == 0 {
        // The log is empty: SQLite may remove it again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    }
    Ok(report)
}

/// Opens a file that exists, so that nothing in it changes.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    if let Err(error) = std::fs::metadata(path) {
        return Err(StoreError::Other(error.to_string()));
    }
    wal::check_header(path)?;
    // Not read-only: after a crash the index of the log is rebuilt, which is a file beside the database.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.busy_timeout(sqlite::BUSY)?;
    Ok(connection)
}

/// Every page, every index entry, every constraint.
fn file(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    let mut verdicts = connection.prepare("PRAGMA integrity_check(50)")?;
    let mut rows = verdicts.query([])?;
    while let Some(row) = rows.next()? {
        let verdict: String = row.get(0)?;
        if verdict != "ok" {
            report.problems.push(verdict);
        }
    }
    Ok(())
}

/// Rows that point to rows, and counters beyond what they count. Each query counts what must not be.
const NONE_OF: [(&str, &str); 9] = [
    (
        "messages of accounts that do not exist",
        "SELECT count(*) FROM message WHERE mailbox NOT IN (SELECT id FROM account)",
    ),
    (
        "remembered ids of accounts that do not exist",
        "SELECT count(*) FROM seen WHERE mailbox NOT IN (SELECT id FROM account)",
    ),
    (
        "prekeys of accounts that do not exist",
        "SELECT count(*) FROM prekey WHERE account NOT IN (SELECT id FROM account)",
    ),
    (
        "missing or surplus counter rows",
        "SELECT abs(count(*) - 1) FROM counter",
    ),
    (
        "messages with numbers that will be given again",
        "SELECT count(*) FROM message WHERE number < 1 OR number >= (SELECT next_number FROM counter)",
    ),
    (
        "accounts with numbers that will be given again",
        "SELECT count(*) FROM account WHERE id > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'account')",
    ),
    (
        "counters below zero",
        "SELECT count(*) FROM counter WHERE age_ms < 0 OR wall_ms < 0",
    ),
    (
        "accounts with several last-resort prekeys",
        "SELECT count(*) FROM (SELECT 1 FROM prekey WHERE kind = 1 GROUP BY account HAVING count(*) > 1)",
    ),
    (
        "messages that a repeat would store twice",
        "SELECT count(*) FROM message AS m WHERE m.expires > (SELECT age_ms FROM counter) AND NOT EXISTS
         (SELECT 1 FROM seen AS s WHERE s.mailbox = m.mailbox AND s.message_id = m.message_id AND s.sender =
          CASE WHEN m.guest THEN m.sender ELSE substr(m.sender, 1, instr(m.sender, '@') - 1) END)",
    ),
];

/// As [`NONE_OF`], for formats that have blobs.
const NONE_OF_BLOBS: [(&str, &str); 6] = [
    (
        "files of accounts that do not exist",
        "SELECT count(*) FROM blob WHERE owner NOT IN (SELECT id FROM account)",
    ),
    (
        "files with numbers that will be given again",
        "SELECT count(*) FROM blob WHERE id > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'blob')",
    ),
    (
        "files without readers",
        "SELECT count(*) FROM blob WHERE id NOT IN (SELECT blob FROM blob_reader)",
    ),
    (
        "readers of files that do not exist",
        "SELECT count(*) FROM blob_reader WHERE blob NOT IN (SELECT id FROM blob)",
    ),
    (
        "parts of files that do not exist",
        "SELECT count(*) FROM blob_part WHERE blob NOT IN (SELECT id FROM blob UNION SELECT id FROM blob_gone)",
    ),
    (
        "deleted files that exist",
        "SELECT count(*) FROM blob_gone WHERE id IN (SELECT id FROM blob)",
    ),
];

/// As [`NONE_OF`], for formats that have generations.
const NONE_OF_GENERATIONS: [(&str, &str); 1] = [(
    "generations of accounts that do not exist",
    "SELECT count(*) FROM generation WHERE account NOT IN (SELECT id FROM account)",
)];

fn references(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    none_of(&NONE_OF, connection, report)
}

fn none_of(
    queries: &[(&str, &str)],
    connection: &Connection,
    report: &mut Report,
) -> Result<(), StoreError> {
    for (what, sql) in queries {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        if count != 0 {
            report.problems.push(format!("{count} {what}"));
        }
    }
    Ok(())
}

/// Values that the relay itself wrote and must be able to read.
fn rows(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    let mut bad = 0u64;
    let mut accounts = connection.prepare("SELECT name, identity FROM account")?;
    let mut found = accounts.query([])?;
    while let Some(row) = found.next()? {
        report.accounts += 1;
        let name = row
            .get_ref(0)?
            .as_str()
            .is_ok_and(|n| Name::parse(n).is_ok());
        let identity = row.get::<_, [u8; 128]>(1).map(|i| ops::identity_from(&i));
        bad += u64::from(!name || !identity.is_ok_and(|claim| claim.verify().is_ok()));
    }
    complain(report, bad, "accounts whose name or identity is not valid");
    bad = 0;
    let mut prekeys = connection.prepare("SELECT id, body FROM prekey WHERE body IS NOT NULL")?;
    let mut found = prekeys.query([])?;
    while let Some(row) = found.next()? {
        report.prekeys += 1;
        let id: u32 = row.get(0)?;
        let body = row.get_ref(1)?.as_blob().unwrap_or_default();
        bad += u64::from(!codec::decode::<Prekey>(body).is_ok_and(|prekey| prekey.id == id));
    }
    complain(report, bad, "prekeys that cannot be read");
    bad = 0;
    let mut messages =
        connection.prepare("SELECT sender, length(message_id), length(body), kind FROM message")?;
    let mut found = messages.query([])?;
    while let Some(row) = found.next()? {
        let bytes = row.get::<_, i64>(2)?.cast_unsigned();
        report.messages += 1;
        report.bytes += bytes;
        let sender = row.get_ref(0)?.as_str();
        let good = sender.is_ok_and(|sender| Address::parse(sender).is_ok())
            && row.get::<_, i64>(1)? == 16
            && bytes <= MAX_ENVELOPE as u64
            && (0..=2).contains(&row.get::<_, i64>(3)?);
        bad += u64::from(!good);
    }
    complain(report, bad, "messages that cannot be read");
    Ok(())
}

/// The log of who wrote to whom, which older formats do not have.
fn log(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    if report.format < 3 {
        return Ok(());
    }
    // Without a counter there is a complaint already.
    let next = "SELECT coalesce(max(next_number), 0x7fffffffffffffff) FROM counter";
    let next: i64 = connection.query_row(next, [], |row| row.get(0))?;
    let (mut early, mut bad) = (0, 0);
    let mut entries = connection.prepare("SELECT number, sender, receiver, kind FROM log")?;
    let mut found = entries.query([])?;
    while let Some(row) = found.next()? {
        report.log += 1;
        early += u64::from(!(1..next).contains(&row.get(0)?));
        let (sender, receiver) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
        let kind = Logged::from(row.get(3)?);
        let is_name = |text: &str| Name::parse(text).is_ok();
        let is_user = |text: &str| is_name(text) || Address::parse(text).is_ok();
        let good = match (kind, sender, receiver) {
            (Some(Logged::Message(_)), Ok(from), Ok(to)) => is_user(from) && is_name(to),
            (Some(Logged::Blob), Ok(from), Ok(to)) => is_user(from) && is_user(to),
            (Some(Logged::Suspended | Logged::Resumed), Ok(from), Ok(to)) => {
                from == OPERATOR && is_name(to)
            }
            _ => false,
        };
        bad += u64::from(!good);
    }
    complain(
        report,
        early,
        "log entries with numbers that will be given again",
    );
    complain(report, bad, "log entries that cannot be read");
    Ok(())
}

/// Block lists, which older formats do not have.
fn blocked(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    if report.format < 4 {
        return Ok(());
    }
    let orphans = "SELECT count(*) FROM blocked WHERE mailbox NOT IN (SELECT id FROM account)";
    let orphans: i64 = connection.query_row(orphans, [], |row| row.get(0))?;
    complain(
        report,
        orphans.cast_unsigned(),
        "block list entries of accounts that do not exist",
    );
    let mut bad = 0;
    let mut entries = connection.prepare("SELECT sender FROM blocked")?;
    let mut found = entries.query([])?;
    while let Some(row) = found.next()? {
        let sender = row.get_ref(0)?.as_str();
        bad += u64::from(!sender.is_ok_and(block::is_sender));
    }
    complain(report, bad, "block list entries that cannot be read");
    Ok(())
}

/// Generations, which older formats do not have; the table itself refuses those that are none.
fn generations(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    if report.format < 6 {
        return Ok(());
    }
    none_of(&NONE_OF_GENERATIONS, connection, report)
}

/// Blobs, which older formats do not have: the parts that are there against those that were acknowledged.
fn blobs(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    if report.format < 5 {
        return Ok(());
    }
    none_of(&NONE_OF_BLOBS, connection, report)?;
    let (mut missing, mut beyond, mut wrong) = (0, 0, 0);
    let mut all = connection.prepare(
        "SELECT size, parts, coalesce(there, 0), coalesce(next, 0), coalesce(bytes, 0), coalesce(longest, 0)
         FROM blob LEFT JOIN (SELECT blob AS its, count(*) AS there, max(part) + 1 AS next,
          sum(length(bytes)) AS bytes, max(length(bytes)) AS longest FROM blob_part GROUP BY blob) ON its = id",
    )?;
    let mut found = all.query([])?;
    while let Some(row) = found.next()? {
        let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
        let (size, parts, there, next) = (number(0)?, number(1)?, number(2)?, number(3)?);
        let (bytes, longest) = (number(4)?, number(5)?);
        report.blobs += 1;
        report.blob_bytes = report.blob_bytes.saturating_add(size);
        let most = super::blobs::parts_of(size).map_or(0, u64::from);
        beyond += u64::from(next > parts || parts > most);
        missing += u64::from(there < parts);
        let acknowledged = size.min(parts.saturating_mul(BLOB_PART as u64));
        let adds_up = bytes == acknowledged && longest <= BLOB_PART as u64;
        wrong += u64::from(next == parts && there == parts && !adds_up);
    }
    complain(
        report,
        missing,
        "files of which acknowledged parts are missing",
    );
    complain(
        report,
        beyond,
        "files with more parts than were acknowledged",
    );
    complain(
        report,
        wrong,
        "files whose parts do not add up to their size",
    );
    Ok(())
}

/// The mailboxes one by one, by their index, against the messages as they lie in the file.
fn sums(connection: &Connection, report: &mut Report) -> Result<(), StoreError> {
    let (mut messages, mut bytes) = (0, 0);
    let mut mailboxes = connection.prepare(
        "SELECT count(*), sum(length(body)) FROM message INDEXED BY message_by_mailbox GROUP BY mailbox",
    )?;
    let mut found = mailboxes.query([])?;
    while let Some(row) = found.next()? {
        report.mailboxes += 1;
        messages += row.get::<_, i64>(0)?.cast_unsigned();
        bytes += row.get::<_, i64>(1)?.cast_unsigned();
    }
    if (messages, bytes) != (report.messages, report.bytes) {
        report.problems.push(format!(
            "the mailboxes hold {messages} messages with {bytes} bytes, the file {} with {}",
            report.messages, report.bytes
        ));
    }
    Ok(())
}

fn complain(report: &mut Report, count: u64, what: &str) {
    if count > 0 {
        report.problems.push(format!("{count} {what}"));
    }
}
