//! Tables of the vault, and how a file of an older format is brought up.
//!
//! Only numbers, states, random ids and sealed values are stored. `PRAGMA user_version` is the format; formats are
//! append-only: a migration for each step, none is ever changed.

use rusqlite::Connection;

/// The newest format that this program knows.
pub const VERSION: i64 = 2;

/// `migrations[n]` brings a vault of format n to n + 1.
pub const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- Contacts, and pins of relays.
    CREATE TABLE contacts (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE relays (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL
    ) STRICT;
    -- Messages of both directions. state: 0 new, 1 being shown, 2 shown, 3 sent.
    CREATE TABLE messages (
        id    INTEGER PRIMARY KEY AUTOINCREMENT,
        state INTEGER NOT NULL,
        body  BLOB NOT NULL
    ) STRICT;
    CREATE INDEX messages_by_state ON messages (state, id);
    -- What has to go out, in order. envelope is NULL until the token has sealed it.
    CREATE TABLE outbox (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        body     BLOB NOT NULL,
        envelope BLOB
    ) STRICT;
    -- What waits for the user: offers of a pairing, first messages of strangers.
    CREATE TABLE requests (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        body     BLOB NOT NULL,
        envelope BLOB NOT NULL
    ) STRICT;
    -- Random ids and keyed marks of what has come already. state: 0 stored, 1 committed.
    CREATE TABLE seen (
        id    BLOB PRIMARY KEY,
        state INTEGER NOT NULL,
        day   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- Public prekeys that the token has made and the relay does not have yet.
    CREATE TABLE prekeys (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL
    ) STRICT;
", "
    -- Format 2: sealed bodies are padded, raw ids become keyed marks, and days are sealed (migrate.rs).
    -- messages.state: 4 sent and not confirmed, 5 never confirmed, 6 as 4 but deleted when confirmed; 3 is confirmed, or sent
    -- before format 2.
    CREATE TABLE arrived (
        mark  BLOB PRIMARY KEY,
        state INTEGER NOT NULL,
        body  BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sealed (
        mark BLOB PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE conversations (
        mark BLOB PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE unopened (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE receipts (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE notices (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL
    ) STRICT;
"];

/// Sets how the database treats the disk; every statement of the vault counts on it.
///
/// # Errors
/// Those of SQLite.
pub fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Each commit is synced before it returns: a mark that is followed by a token commit or an acknowledgement is on disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))
}
