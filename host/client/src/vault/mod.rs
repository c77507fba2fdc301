//! The vault: contacts, history, outbox and requests in SQLite, every text in it sealed under the token's storage key.
//!
//! ```text
//!  Client ──▶ Vault ──┬─ contacts   who, and how far trusted
//!                     ├─ messages   history; what is still to be shown
//!                     ├─ outbox     what is still to go out, in order
//!                     ├─ requests   who asks
//!                     ├─ answers    when codes can be answered again
//!                     ├─ blocked    whom the relay lets write nothing, as last known
//!                     ├─ arrived    marks of what has come
//!                     ├─ sealed, unopened, receipts, conversations, generation      healing
//!                     └─ notices    what the user has to be told once
//! ```
//!
//! Invariant: each method is one transaction, synced before it returns.

mod answers;
mod asking;
mod blocked;
mod contacts;
mod generation;
mod healing;
#[cfg(test)]
mod healing_tests;
mod messages;
mod migrate;
mod notices;
mod outbox;
mod payload;
mod prekeys;
mod removed;
mod requests;
pub mod schema;
mod seal;
mod sent;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use hostchat_core::wire::{codec, pad};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use asking::Arrived;
pub use generation::Generations;
pub use healing::{Carried, Conversation, KEEP_MS, SealedFrame, Unopened, identity_tag};
pub use messages::{Arrival, Incoming, Shown, Stored};
pub use outbox::Outgoing;
pub use payload::Payload;
pub use requests::{Added, Asking};
pub use seal::{Column, Sealer};
pub use sent::Unconfirmed;

use crate::crash;
use crate::error::{Error, Result};
use crate::os::Os;
use crate::token::StorageKey;

/// Longest encoded body of a row: a text and what goes with it.
const MAX_BODY: usize = 8192;

/// An open vault.
pub struct Vault {
    connection: Connection,
    sealer: Sealer,
    os: Os,
    /// How far the home relay's clock is ahead of ours, in milliseconds, once it is known.
    relay_ahead: Option<i64>,
    path: PathBuf,
}

impl Vault {
    /// Opens the vault at `path`, or makes it.
    ///
    /// # Errors
    /// `VaultNewer`, `VaultDamaged`, `VaultOtherToken`, `Database`.
    pub fn open(path: &Path, storage: &StorageKey, os: Os) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match std::fs::metadata(path) {
            // The database would wait for the other end of a pipe.
            Ok(found) if !found.is_file() => {
                return Err(Error::VaultDamaged {
                    path: path.into(),
                    why: "it is not a file",
                });
            }
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => create_private(path)?,
            Ok(_) | Err(_) => {}
        }
        let connection = Connection::open_with_flags(path, flags)?;
        let mut vault = Self {
            connection,
            sealer: Sealer::new(storage),
            os,
            relay_ahead: None,
            path: path.into(),
        };
        match vault.prepare() {
            Err(Error::Database(error)) if is_damage(&error) => {
                Err(vault.damaged("it is not a database, or not a sound one"))
            }
            other => other,
        }?;
        Ok(vault)
    }

    fn prepare(&mut self) -> Result<()> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > schema::VERSION {
            return Err(Error::VaultNewer {
                path: self.path.clone(),
                found,
                known: schema::VERSION,
            });
        }
        schema::prepare(&self.connection)?;
        if found < schema::VERSION {
            return self.migrate(usize::try_from(found).unwrap_or_default());
        }
        self.check_commitment()
    }

    /// Whether this is the vault of the token at hand.
    fn check_commitment(&self) -> Result<()> {
        let select = "SELECT value FROM meta WHERE key = 'commitment'";
        let kept: Option<Vec<u8>> = self
            .connection
            .query_row(select, [], |row| row.get(0))
            .optional()?;
        match kept {
            Some(kept) if kept == self.sealer.commitment() => Ok(()),
            Some(_) => Err(Error::VaultOtherToken(self.path.clone())),
            None => Err(self.damaged("its commitment is missing")),
        }
    }

    fn migrate(&mut self, from: usize) -> Result<()> {
        if from > 0 {
            self.check_commitment()?;
        }
        self.write(|tx| {
            for (at, migration) in schema::MIGRATIONS.iter().enumerate().skip(from) {
                tx.transaction.execute_batch(migration)?;
                if from > 0 && at == 1 {
                    migrate::to_2(tx)?;
                }
            }
            if from == 0 {
                let insert = "INSERT INTO meta (key, value) VALUES ('commitment', ?1)";
                tx.transaction
                    .execute(insert, params![tx.sealer.commitment().as_slice()])?;
            }
            tx.transaction
                .pragma_update(None, "user_version", schema::VERSION)?;
            if from > 0 {
                crash::point("vault-migrated");
            }
            Ok(())
        })
    }

    fn damaged(&self, why: &'static str) -> Error {
        damaged_at(&self.path, why)
    }

    /// Notes what the home relay's clock shows now, in milliseconds since 1970.
    pub fn set_relay_clock(&mut self, relay_ms: u64) {
        self.relay_ahead = i64::try_from(i128::from(relay_ms) - i128::from(self.os.now_ms())).ok();
    }

    /// The time by which people and the program order what happens, in milliseconds since 1970: the home relay's, or ours
    /// before it has told it.
    pub fn now(&self) -> u64 {
        let ours = self.os.now_ms();
        self.relay_ahead
            .map_or(ours, |ahead| ours.saturating_add_signed(ahead))
    }

    /// Whether the home relay has told its time.
    pub fn knows_relay_time(&self) -> bool {
        self.relay_ahead.is_some()
    }

    /// The earlier one of the two clocks, by which old things go: one that is set wrong must not lose anything.
    pub fn settled_now(&self) -> u64 {
        self.now().min(self.os.now_ms())
    }

    /// Runs `work` as one transaction.
    fn write<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tx = Tx {
            transaction,
            sealer: &self.sealer,
            os: &self.os,
            relay_ahead: self.relay_ahead,
            path: &self.path,
        };
        let result = work(&tx).and_then(|value| {
            tx.transaction.commit()?;
            Ok(value)
        });
        result.map_err(|error| refine(error, &self.path))
    }

    /// As [`Self::write`], but the sync is left to the next transaction: for what may be lost with the power.
    fn write_relaxed<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.connection
            .pragma_update(None, "synchronous", "NORMAL")?;
        let result = self.write(work);
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        result
    }

    /// Runs `work` on a consistent view.
    fn read<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction()?;
        let tx = Tx {
            transaction,
            sealer: &self.sealer,
            os: &self.os,
            relay_ahead: self.relay_ahead,
            path: &self.path,
        };
        work(&tx).map_err(|error| refine(error, &self.path))
    }
}

/// A transaction with the means to seal and open, and the clock.
struct Tx<'v> {
    transaction: Transaction<'v>,
    sealer: &'v Sealer,
    os: &'v Os,
    relay_ahead: Option<i64>,
    path: &'v Path,
}

impl Tx<'_> {
    fn damaged(&self, why: &'static str) -> Error {
        damaged_at(self.path, why)
    }

    /// As [`Vault::now`].
    fn now(&self) -> u64 {
        let ours = self.os.now_ms();
        self.relay_ahead
            .map_or(ours, |ahead| ours.saturating_add_signed(ahead))
    }

    /// Appends a row of which all but the sealed body is given by `insert`, which leaves the body empty.
    fn insert<T: Serialize>(
        &self,
        insert: &str,
        values: impl rusqlite::Params,
        place: Column,
        body: &T,
    ) -> Result<i64> {
        self.transaction.prepare_cached(insert)?.execute(values)?;
        let row = self.transaction.last_insert_rowid();
        self.put(row, place, body)?;
        Ok(row)
    }

    /// Seals `body` into its place.
    fn put<T: Serialize>(&self, row: i64, place: Column, body: &T) -> Result<()> {
        self.put_bytes(row, place, &encode(body)?)
    }

    /// Seals `body` for its place.
    fn seal_body<T: Serialize>(&self, row: i64, place: Column, body: &T) -> Result<Vec<u8>> {
        Ok(self.sealer.seal(place, row, &encode(body)?))
    }

    fn put_bytes(&self, row: i64, place: Column, plain: &[u8]) -> Result<()> {
        let sealed = self.sealer.seal(place, row, plain);
        // Names of tables and columns are constants of this crate.
        let sql = format!(
            "UPDATE {} SET {} = ?1 WHERE id = ?2",
            place.table, place.column
        );
        self.transaction
            .prepare_cached(&sql)?
            .execute(params![sealed, row])?;
        Ok(())
    }

    fn open(&self, row: i64, place: Column, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.sealer
            .open(place, row, sealed)
            .ok_or_else(|| self.damaged("a sealed value was altered"))
    }

    /// Opens a body and lets `take` make an owned value of it.
    fn open_body<'b, T: Serialize + Deserialize<'b>>(&self, bytes: &'b [u8]) -> Result<T> {
        unpad(bytes)
            .and_then(|body| codec::decode(body).ok())
            .ok_or_else(|| self.damaged("a value cannot be decoded"))
    }

    /// All `(id, sealed)` of a query with these two columns.
    fn rows(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<(i64, Vec<u8>)>> {
        let mut statement = self.transaction.prepare_cached(sql)?;
        let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Length of the length before a padded body, in bytes.
const PREFIX: usize = 2;

/// Encodes a body and pads it as messages are padded (SPEC section 6.3): a file's sizes tell little.
fn encode<T: Serialize>(body: &T) -> Result<Zeroizing<Vec<u8>>> {
    let too_long = Error::Internal("value too long for the vault");
    let mut buffer = Zeroizing::new(vec![0; PREFIX + MAX_BODY]);
    let (prefix, rest) = buffer.split_at_mut(PREFIX);
    let Ok(length) = codec::encode(body, rest).map(|encoded| encoded.len()) else {
        return Err(too_long);
    };
    prefix.copy_from_slice(&u16::try_from(length).map_err(|_| too_long)?.to_le_bytes());
    buffer.resize(pad::padme(PREFIX + length), 0);
    Ok(buffer)
}

/// What [`encode`] padded; `None` for anything else.
fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = padded.split_first_chunk::<PREFIX>()?;
    let length = usize::from(u16::from_le_bytes(*prefix));
    let (body, zeros) = rest.split_at_checked(length)?;
    let sound = zeros.iter().all(|byte| *byte == 0) && padded.len() == pad::padme(PREFIX + length);
    sound.then_some(body)
}

fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|why| Error::io(format!("cannot make {}", path.display()), why))
}

fn damaged_at(path: &Path, why: &'static str) -> Error {
    Error::VaultDamaged {
        path: path.into(),
        why,
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};

    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    ) || matches!(
        error,
        rusqlite::Error::SqlInputError { .. } | rusqlite::Error::InvalidColumnType(..)
    )
}

fn refine(error: Error, path: &Path) -> Error {
    match error {
        Error::Database(error) if is_damage(&error) => {
            damaged_at(path, "the database is not sound")
        }
        other => other,
    }
}
