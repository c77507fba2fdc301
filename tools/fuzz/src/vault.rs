//! A vault in whose sealed places anything may stand, sealed rightly: what another version, or a bug, has written there.
//!
//! It knows no table: it finds those that a vault has, and puts one row at a time into one of them.

use std::cell::RefCell;
use std::path::PathBuf;

use hostchat::token::StorageKey;
use hostchat::vault::{Column, Sealer, Vault};
use hostchat::{Error, Result};
use rusqlite::{Connection, params_from_iter, types::Value};
use tempfile::TempDir;

/// A table with numbered rows and sealed columns.
struct Table {
    name: &'static str,
    /// Name and type of each column but `id`.
    columns: Vec<(&'static str, String)>,
}

struct Opened {
    _folder: TempDir,
    vault: Vault,
    connection: Connection,
    sealer: Sealer,
    tables: Vec<Table>,
}

/// Takes a table and a number off the front; the rest becomes a sealed body there. Everything is read then: a value that
/// does not decode is damage, never a panic.
pub(crate) fn body(bytes: &[u8]) {
    thread_local! {
        static OPENED: RefCell<Result<Opened>> = RefCell::new(open());
    }
    OPENED.with_borrow_mut(|opened| {
        assert!(opened.is_ok(), "no vault: {:?}", opened.as_ref().err());
        if let (Ok(opened), [table, number, bytes @ ..]) = (opened, bytes) {
            let done = opened.try_body(usize::from(*table), *number, bytes);
            assert!(done.is_ok(), "{:?}", done.err());
        }
    });
}

impl Opened {
    /// `number` says what stands in columns of numbers, and which of several sealed ones gets the bytes.
    fn try_body(&mut self, table: usize, number: u8, bytes: &[u8]) -> rusqlite::Result<()> {
        let table = &self.tables[table % self.tables.len()];
        let sealed = table.columns.iter().filter(|(_, kind)| kind == "BLOB");
        let chosen = usize::from(number >> 4) % sealed.count().max(1);
        let mut blobs = 0;
        let values = table
            .columns
            .iter()
            .map(|(column, kind)| match kind.as_str() {
                "BLOB" => {
                    let plain: &[u8] = if blobs == chosen { bytes } else { &[] };
                    blobs += 1;
                    let place = Column {
                        table: table.name,
                        column,
                    };
                    Value::Blob(self.sealer.seal(place, 1, plain))
                }
                "INTEGER" => Value::Integer(i64::from(number & 15)),
                _ => Value::Text(String::new()),
            });
        let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let names = names.join(", ");
        let insert = [
            "INSERT INTO ",
            table.name,
            " (id, ",
            &names,
            ") VALUES (1, ",
            &marks,
            ")",
        ];
        let insert = insert.concat();
        let delete = ["DELETE FROM ", table.name].concat();
        self.connection
            .prepare_cached(&insert)?
            .execute(params_from_iter(values))?;
        let read = read_all(&mut self.vault);
        self.connection.prepare_cached(&delete)?.execute([])?;
        assert!(
            matches!(read, Ok(()) | Err(Error::VaultDamaged { .. })),
            "{:?}",
            read.err()
        );
        Ok(())
    }
}

/// Every public way to read a vault.
fn read_all(vault: &mut Vault) -> Result<()> {
    let results = [
        vault.contacts().map(drop),
        vault.to_show(0, 256).map(drop),
        vault.history(None, 10).map(drop),
        vault.outbox().map(drop),
        vault.requests().map(drop),
        vault.prekeys().map(drop),
        vault.last_sender().map(drop),
        vault.unconfirmed().map(drop),
        vault.unopened().map(drop),
        vault.receipts_due().map(drop),
        vault.notices().map(drop),
    ];
    results.into_iter().collect()
}

fn open() -> Result<Opened> {
    let io = |why| Error::io("a folder".to_owned(), why);
    // In memory where there is such a place: each case is a transaction with a sync.
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() {
        TempDir::new_in(memory).map_err(io)?
    } else {
        TempDir::new().map_err(io)?
    };
    let path = folder.path().join("vault.db");
    let key = StorageKey::from_bytes([7; 32]);
    let vault = Vault::open(&path, &key, hostchat::os::Os::default())?;
    let connection = Connection::open(&path)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    let tables = tables(&connection)?;
    assert!(tables.len() >= 5, "{} tables", tables.len());
    Ok(Opened {
        _folder: folder,
        vault,
        connection,
        sealer: Sealer::new(&key),
        tables,
    })
}

/// The tables whose rows have a number, and a value to seal.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let columns: Vec<(String, String, String)> = connection
        .prepare(
            "SELECT t.name, c.name, c.type FROM sqlite_master t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND c.name <> 'id' AND t.sql LIKE '%id %INTEGER PRIMARY KEY%'
             ORDER BY t.name, c.cid",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut tables: Vec<Table> = Vec::new();
    for (table, column, kind) in columns {
        // A name lives as long as the program: there are a few, and each is taken once.
        let column: (&'static str, String) = (column.leak(), kind);
        match tables.last_mut() {
            Some(last) if last.name == table => last.columns.push(column),
            _ => tables.push(Table {
                name: table.leak(),
                columns: vec![column],
            }),
        }
    }
    tables.retain(|table| table.columns.iter().any(|(_, kind)| kind == "BLOB"));
    Ok(tables)
}
