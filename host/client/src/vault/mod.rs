//! The vault: contacts, history, outbox and requests in SQLite, every text in it sealed under the token's storage key.
//!
//! ```text
//!  Client ──▶ Vault ──┬─ contacts   who, and how far trusted
//!                     ├─ messages   history; what is still to be shown
//!                     ├─ outbox     what is still to go out, in order
//!                     ├─ requests   who asks
//!                     ├─ answers    when codes can be answered again
//!                     └─ seen       ids of what has come
//! ```
//!
//! Invariant: each method is one transaction, synced before it returns.

mod answers;
mod contacts;
mod messages;
mod outbox;
mod prekeys;
mod requests;
pub mod schema;
mod seal;
#[cfg(test)]
mod tests;
mod unknown;

use std::path::{Path, PathBuf};

use hostchat_core::wire::codec;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use contacts::{Contact, Trust};
pub use messages::{Direction, Incoming, Message, Shown, Stored};
pub use outbox::{Outgoing, Payload};
pub use requests::{Added, Asked, Asking, Request};
pub use seal::{Column, Sealer};
pub use unknown::UNKNOWN;

use crate::error::{Error, Result};
use crate::token::StorageKey;

/// Longest encoded body of a row: a text and what goes with it.
const MAX_BODY: usize = 8192;

/// An open vault.
pub struct Vault {
    connection: Connection,
    sealer: Sealer,
    path: PathBuf,
}

impl Vault {
    /// Opens the vault at `path`, or makes it.
    ///
    /// # Errors
    /// `VaultNewer`, `VaultDamaged`, `VaultOtherToken`, `Database`.
    pub fn open(path: &Path, storage: &StorageKey) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if !path.exists() {
            create_private(path)?;
        }
        let connection = Connection::open_with_flags(path, flags)?;
        let mut vault = Self {
            connection,
            sealer: Sealer::new(storage),
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
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for migration in schema::MIGRATIONS.iter().skip(from) {
            transaction.execute_batch(migration)?;
        }
        if from == 0 {
            let insert = "INSERT INTO meta (key, value) VALUES ('commitment', ?1)";
            transaction.execute(insert, params![self.sealer.commitment().as_slice()])?;
        }
        transaction.pragma_update(None, "user_version", schema::VERSION)?;
        Ok(transaction.commit()?)
    }

    fn damaged(&self, why: &'static str) -> Error {
        damaged_at(&self.path, why)
    }

    /// Runs `work` as one transaction.
    fn write<T>(&mut self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tx = Tx {
            transaction,
            sealer: &self.sealer,
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
            path: &self.path,
        };
        work(&tx).map_err(|error| refine(error, &self.path))
    }
}

/// A transaction with the means to seal and open.
struct Tx<'v> {
    transaction: Transaction<'v>,
    sealer: &'v Sealer,
    path: &'v Path,
}

impl Tx<'_> {
    fn damaged(&self, why: &'static str) -> Error {
        damaged_at(self.path, why)
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
        let encoded = encode(body)?;
        self.put_bytes(row, place, &encoded)
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
        codec::decode(bytes).map_err(|_| self.damaged("a value cannot be decoded"))
    }

    /// All `(id, sealed)` of a query with these two columns.
    fn rows(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<(i64, Vec<u8>)>> {
        let mut statement = self.transaction.prepare_cached(sql)?;
        let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn encode<T: Serialize>(body: &T) -> Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; MAX_BODY]);
    let length = codec::encode(body, &mut buffer)
        .map_err(|_| Error::Internal("value too long for the vault"))?
        .len();
    buffer.truncate(length);
    Ok(buffer)
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
