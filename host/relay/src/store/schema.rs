//! The database's tables and how older ones become the newest.
//!
//! `user_version` is the number of migrations applied; `application_id` says that the file is ours. Migrations are
//! append-only: a released one never changes. Each runs in one transaction and leaves a row in `migration`.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::StoreError;

/// "hcr1" in ASCII.
const APPLICATION_ID: i64 = 0x6863_7231;

/// The migrations, oldest first.
const MIGRATIONS: &[&str] = &[V1, V2, V3, V4, V5, V6, V7];

const V1: &str = "
CREATE TABLE migration (
    version    INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL
) STRICT;

-- One row: the next message number, and the age (see age.rs) with the wall time at which it was kept.
CREATE TABLE counter (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    next_number INTEGER NOT NULL,
    age_ms      INTEGER NOT NULL,
    wall_ms     INTEGER NOT NULL
) STRICT;
INSERT INTO counter VALUES (1, 1, 0, 0);

-- AUTOINCREMENT: the number of a deleted account is not given again.
CREATE TABLE account (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    identity      BLOB NOT NULL CHECK (length(identity) = 128),
    visible       INTEGER NOT NULL,
    registered_at INTEGER NOT NULL
) STRICT;

CREATE TABLE invitation (
    hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    uses_left  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- body is NULL once a one-time key was given: its id is remembered, so that a repeated upload does not bring it back.
CREATE TABLE prekey (
    account INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    id      INTEGER NOT NULL,
    issued  INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    body    BLOB,
    PRIMARY KEY (account, kind, id)
) STRICT;
CREATE INDEX prekey_left ON prekey (account, kind, id) WHERE body IS NOT NULL;
CREATE INDEX prekey_by_expiry ON prekey (expires);

-- number grows over the whole store, so that new rows are appended.
CREATE TABLE message (
    number     INTEGER PRIMARY KEY,
    mailbox    INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    sender     TEXT NOT NULL,
    guest      INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    stored_at  INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    body       BLOB NOT NULL
) STRICT;
CREATE INDEX message_by_mailbox ON message (mailbox, number);
CREATE INDEX message_by_expiry ON message (expires);

-- What was stored, also after delivery; the order of the key keeps a conversation on few pages.
CREATE TABLE seen (
    mailbox    INTEGER NOT NULL,
    sender     TEXT NOT NULL,
    message_id BLOB NOT NULL,
    expires    INTEGER NOT NULL,
    PRIMARY KEY (mailbox, sender, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_expiry ON seen (expires);
";

/// `running` is 1 from a start until an end in order. A file of version 1 cannot say how it was left: 1.
const V2: &str = "
ALTER TABLE counter ADD COLUMN running INTEGER NOT NULL DEFAULT 1;
";

/// Who wrote to whom, where the operator wants it kept; `age` is that of the storing (see age.rs), for the retention time.
const V3: &str = "
CREATE TABLE log (
    at       INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    sender   TEXT NOT NULL,
    receiver TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    age      INTEGER NOT NULL,
    PRIMARY KEY (at, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX log_by_sender ON log (sender, at, number);
CREATE INDEX log_by_receiver ON log (receiver, at, number);
CREATE INDEX log_by_age ON log (age);
";

/// Whom a mailbox takes nothing from; `sender` as in `seen`.
const V4: &str = "
CREATE TABLE blocked (
    mailbox INTEGER NOT NULL,
    sender  TEXT NOT NULL,
    PRIMARY KEY (mailbox, sender)
) STRICT, WITHOUT ROWID;
";

/// Blobs, of which `parts` parts are durable; `readers` is a digest of all that were announced, also of those who ended.
/// `blob_gone` has the deleted ones of which parts may be left (see blobs.rs).
const V5: &str = "
-- AUTOINCREMENT: what is left of a deleted blob never becomes a part of another.
CREATE TABLE blob (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    owner   INTEGER NOT NULL,
    blob    BLOB NOT NULL CHECK (length(blob) = 16),
    size    INTEGER NOT NULL,
    parts   INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    readers BLOB NOT NULL CHECK (length(readers) = 32)
) STRICT;
CREATE UNIQUE INDEX blob_by_owner ON blob (owner, blob);
CREATE INDEX blob_by_expiry ON blob (expires);

-- SHA-256 of the tokens of those who have not ended.
CREATE TABLE blob_reader (
    token BLOB NOT NULL CHECK (length(token) = 32),
    blob  INTEGER NOT NULL,
    PRIMARY KEY (token, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_reader_by_blob ON blob_reader (blob);

CREATE TABLE blob_part (
    blob  INTEGER NOT NULL,
    part  INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (blob, part)
) STRICT;
CREATE TABLE blob_gone (
    id INTEGER PRIMARY KEY
) STRICT;
";

/// The generation of an account's keys (see generation.rs); none for an account that never had one. `number` is unsigned.
/// With a message, the fingerprint of the identity that its sender proved; NULL for one that was stored before.
const V6: &str = "
CREATE TABLE generation (
    account INTEGER PRIMARY KEY,
    number  INTEGER NOT NULL CHECK (number <> 0),
    random  BLOB NOT NULL CHECK (length(random) = 16)
) STRICT;
ALTER TABLE message ADD COLUMN fingerprint BLOB CHECK (length(fingerprint) = 32);
";

/// What the operator decides and sees. `seen_day` counts days since 1970, by the wall clock; NULL for never since version 7.
/// `expires` is an age (see age.rs); NULL for never.
const V7: &str = "
ALTER TABLE account ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN seen_day INTEGER;
ALTER TABLE invitation ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE invitation ADD COLUMN expires INTEGER;
";

/// A file that is ours, or new, and not newer than this program.
pub(crate) struct Recognised {
    /// The number of migrations that it has; 0 for a new file.
    pub(crate) version: i64,
    /// Whether the relay that used it last did not end in order, as far as the file can tell.
    pub(crate) unclean: bool,
}

/// The newest version that this program knows.
pub(crate) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Recognises a file without changing it.
pub(crate) fn recognise(connection: &Connection) -> Result<Recognised, StoreError> {
    let pragma = |name: &str| -> Result<i64, rusqlite::Error> {
        connection.pragma_query_value(None, name, |row| row.get(0))
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let fresh = application == 0 && version == 0 && tables == 0;
    if !fresh && application != APPLICATION_ID {
        return Err(StoreError::NotOurs);
    }
    let known = known();
    if version > known {
        return Err(StoreError::Newer {
            found: version,
            known,
        });
    }
    let unclean = match version {
        0 => false,
        1 => true,
        _ => connection
            .query_row("SELECT running FROM counter", [], |row| row.get(0))
            .optional()?
            .unwrap_or(true),
    };
    Ok(Recognised { version, unclean })
}

/// Brings a file to the newest version.
pub(crate) fn migrate(
    connection: &mut Connection,
    version: i64,
    wall_ms: u64,
) -> Result<(), StoreError> {
    for (next, sql) in (1i64..).zip(MIGRATIONS).skip_while(|(n, _)| *n <= version) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        tx.execute(
            "INSERT INTO migration VALUES (?1, ?2)",
            (next, wall_ms.cast_signed()),
        )?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", next)?;
        tx.commit()?;
    }
    Ok(())
}

/// Looks at every page. It reads the whole file, so that a start does it only after a crash.
pub(crate) fn quick_check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(StoreError::Damaged(verdict))
    }
}

/// Marks the file as in use, durably, or as left in order.
pub(crate) fn set_running(connection: &Connection, running: bool) -> rusqlite::Result<()> {
    connection.execute("UPDATE counter SET running = ?1", [running])?;
    Ok(())
}
