//! The log of who wrote to whom, where the operator wants one: names, kinds, sizes and times, for a stated time.
//!
//! An entry is written in the transaction that stores its message, or in which a reader of a blob ends, so that the two
//! cannot differ. (On NATS it is a record of its own, written before: `nats/log.rs`.)

use hostchat_core::wire::relay::Kind;
use rusqlite::{Connection, Result, Row};

use super::tx::Tx;
use super::{NewMessage, ops};

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A message that was stored, as the sender declared it.
    Message(Kind),
    /// A blob that a reader has fetched.
    Blob,
    /// The operator suspended the receiver.
    Suspended,
    /// The operator lets the receiver log in again.
    Resumed,
}

/// Beyond those of [`ops::kind_number`].
const BLOB: i64 = 3;
const SUSPENDED: i64 = 4;
const RESUMED: i64 = 5;

/// Who does what the operator does: no name and no address of a user.
pub(super) const OPERATOR: &str = "(operator)";

impl Logged {
    pub(super) fn suspended(suspended: bool) -> Self {
        if suspended {
            Self::Suspended
        } else {
            Self::Resumed
        }
    }

    pub(super) fn number(self) -> i64 {
        match self {
            Self::Message(kind) => ops::kind_number(kind),
            Self::Blob => BLOB,
            Self::Suspended => SUSPENDED,
            Self::Resumed => RESUMED,
        }
    }

    /// `None` for what no version has written.
    pub(super) fn from(number: i64) -> Option<Self> {
        match number {
            0..BLOB => Some(Self::Message(ops::kind_from(number))),
            BLOB => Some(Self::Blob),
            SUSPENDED => Some(Self::Suspended),
            RESUMED => Some(Self::Resumed),
            _ => None,
        }
    }
}

/// One message that was stored, or one blob that a reader has fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub position: Position,
    /// The name of a user, the whole address of a guest.
    pub sender: String,
    /// Whose mailbox it was, or who fetched it: the name of a user, the whole address of a guest.
    pub receiver: String,
    /// What it was.
    pub kind: Logged,
    /// Size of the sealed body.
    pub bytes: u64,
}

/// The order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Wall time of the storing or the end, milliseconds since 1970.
    pub at: u64,
    /// Number of the message; a blob takes one of the same row. On NATS the number of the entry.
    pub number: u64,
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this sender.
    pub sender: Option<String>,
    /// Only to this receiver.
    pub receiver: Option<String>,
    /// Only at this time or later.
    pub since: Option<u64>,
    /// Only before this time.
    pub until: Option<u64>,
    /// Only before this entry.
    pub before: Option<Position>,
}

pub(super) fn write(tx: &Tx<'_>, new: &NewMessage, number: u64, at: u64) -> Result<()> {
    let entry = LogEntry {
        position: Position { at, number },
        sender: new.sender_key.clone(),
        receiver: new.to.as_str().to_owned(),
        kind: Logged::Message(new.kind),
        bytes: new.body.len() as u64,
    };
    insert(tx, &entry)
}

/// Logs that a reader has fetched a blob.
pub(super) fn write_blob(tx: &mut Tx<'_>, owner: String, reader: &str, bytes: u64) -> Result<()> {
    let entry = LogEntry {
        position: Position {
            at: tx.age.wall_ms(),
            number: tx.next_number()?,
        },
        sender: owner,
        receiver: reader.to_owned(),
        kind: Logged::Blob,
        bytes,
    };
    insert(tx, &entry)?;
    tx.keep_counter()
}

/// Logs what the operator has done to an account.
pub(super) fn write_suspended(tx: &mut Tx<'_>, name: String, suspended: bool) -> Result<()> {
    let entry = LogEntry {
        position: Position {
            at: tx.age.wall_ms(),
            number: tx.next_number()?,
        },
        sender: OPERATOR.to_owned(),
        receiver: name,
        kind: Logged::suspended(suspended),
        bytes: 0,
    };
    insert(tx, &entry)?;
    tx.keep_counter()
}

fn insert(tx: &Tx<'_>, entry: &LogEntry) -> Result<()> {
    tx.prepare("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute((
            entry.position.at.cast_signed(),
            entry.position.number.cast_signed(),
            &entry.sender,
            &entry.receiver,
            entry.kind.number(),
            entry.bytes.cast_signed(),
            tx.age.now_ms().cast_signed(),
        ))?;
    Ok(())
}

/// Deletes up to `rows` entries beyond the retention time: all of them where nothing is to be kept.
pub(super) fn sweep(tx: &Tx<'_>, rows: i64) -> Result<usize> {
    // Signed: until the store is as old as the retention time, the limit lies before its beginning.
    let limit = tx.age.now_ms().cast_signed() - tx.log_ms.cast_signed();
    tx.prepare(
        "DELETE FROM log WHERE (at, number) IN (SELECT at, number FROM log WHERE age <= ?1 LIMIT ?2)",
    )?
    .execute((limit, rows))
}

macro_rules! select {
    ($who:literal) => {
        concat!(
            "SELECT at, number, sender, receiver, kind, bytes FROM log WHERE ",
            $who,
            " at >= ?3 AND (at, number) < (?4, ?5) ORDER BY at DESC, number DESC LIMIT ?6"
        )
    };
}

pub(super) fn read(
    connection: &Connection,
    filter: &Filter,
    count: usize,
) -> Result<Vec<LogEntry>> {
    let until = Position {
        at: filter.until.unwrap_or(u64::MAX),
        number: 0,
    };
    let before = filter.before.map_or(until, |before| before.min(until));
    // One text for each, so that each has its index; unused parameters are compared with nothing.
    let sql = match (&filter.sender, &filter.receiver) {
        (None, None) => select!("?1 IS NULL AND ?2 IS NULL AND"),
        (Some(_), None) => select!("sender = ?1 AND ?2 IS NULL AND"),
        (None, Some(_)) => select!("?1 IS NULL AND receiver = ?2 AND"),
        (Some(_), Some(_)) => select!("sender = ?1 AND receiver = ?2 AND"),
    };
    connection
        .prepare_cached(sql)?
        .query_map(
            (
                &filter.sender,
                &filter.receiver,
                clamped(filter.since.unwrap_or(0)),
                clamped(before.at),
                clamped(before.number),
                count as i64,
            ),
            entry_from,
        )?
        .collect()
}

/// Times and numbers of the database are not negative.
fn clamped(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn entry_from(row: &Row<'_>) -> Result<LogEntry> {
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
    Ok(LogEntry {
        position: Position {
            at: number(0)?,
            number: number(1)?,
        },
        sender: row.get(2)?,
        receiver: row.get(3)?,
        kind: Logged::from(row.get(4)?).unwrap_or(Logged::Message(Kind::Message)),
        bytes: number(5)?,
    })
}
