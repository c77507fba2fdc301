//! Whom a mailbox takes nothing from.
//!
//! A row holds the name that was blocked, whoever has it: if its account is deleted and somebody else registers the name,
//! the block holds for that one, until the blocking user lifts it.

use hostchat_core::wire::{Address, Name};
use rusqlite::{Connection, Result};

use super::tx::Tx;
use super::{AccountId, Block};
use crate::limits::BLOCKED;

pub(super) fn block(tx: &mut Tx<'_>, account: AccountId, sender: &str) -> Result<Block> {
    let exists = tx
        .prepare("SELECT 1 FROM account WHERE id = ?1")?
        .exists([account.0])?;
    if !exists {
        return Ok(Block::UnknownName);
    }
    let is_new = tx
        .prepare("INSERT OR IGNORE INTO blocked VALUES (?1, ?2)")?
        .execute((account.0, sender))?
        == 1;
    if !is_new {
        return Ok(Block::Done);
    }
    let count: i64 = tx
        .prepare("SELECT count(*) FROM blocked WHERE mailbox = ?1")?
        .query_row([account.0], |row| row.get(0))?;
    if count > BLOCKED as i64 {
        remove(tx, account, sender)?;
        return Ok(Block::TooMany);
    }
    tx.cache.forget_blocks(account);
    Ok(Block::Done)
}

pub(super) fn unblock(tx: &mut Tx<'_>, account: AccountId, senders: &[String]) -> Result<()> {
    for sender in senders {
        remove(tx, account, sender)?;
    }
    tx.cache.forget_blocks(account);
    Ok(())
}

fn remove(tx: &Tx<'_>, account: AccountId, sender: &str) -> Result<()> {
    tx.prepare("DELETE FROM blocked WHERE mailbox = ?1 AND sender = ?2")?
        .execute((account.0, sender))?;
    Ok(())
}

pub(super) fn list(connection: &Connection, account: AccountId) -> Result<Vec<String>> {
    connection
        .prepare_cached("SELECT sender FROM blocked WHERE mailbox = ?1 LIMIT ?2")?
        .query_map((account.0, BLOCKED as i64), |row| row.get(0))?
        .collect()
}

/// Whether a text is what a sender is kept as.
pub(super) fn is_sender(text: &str) -> bool {
    Name::parse(text).is_ok() || Address::parse(text).is_ok()
}
