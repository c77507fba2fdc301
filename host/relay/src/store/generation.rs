//! The generation of an account's keys, compared and set (SPEC §12.6): how a token that went back in time is found.

use hostchat_core::wire::{Bytes, Generation};
use rusqlite::{Connection, OptionalExtension, Result};

use super::tx::Tx;
use super::{AccountId, Advanced};

pub(super) fn advance(
    tx: &mut Tx<'_>,
    account: AccountId,
    from: Generation,
    to: Generation,
) -> Result<Advanced> {
    let exists = tx
        .prepare("SELECT 1 FROM account WHERE id = ?1")?
        .exists([account.0])?;
    if !exists {
        return Ok(Advanced::UnknownName);
    }
    let there = of(tx.connection, account)?;
    if let Some(outcome) = Advanced::without_a_write(there, from, to) {
        return Ok(outcome);
    }
    tx.prepare("INSERT OR REPLACE INTO generation VALUES (?1, ?2, ?3)")?
        .execute((account.0, to.number.cast_signed(), to.random.0))?;
    Ok(Advanced::Done)
}

fn of(connection: &Connection, account: AccountId) -> Result<Generation> {
    let row = connection
        .prepare_cached("SELECT number, random FROM generation WHERE account = ?1")?
        .query_row([account.0], |row| {
            Ok(from_columns(row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(row.unwrap_or(Generation::NONE))
}

/// A generation by its two columns.
pub(super) fn from_columns(number: i64, random: [u8; 16]) -> Generation {
    Generation {
        number: number.cast_unsigned(),
        random: Bytes(random),
    }
}
