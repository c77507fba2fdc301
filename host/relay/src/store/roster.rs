//! What the operator sees of the store: names, counts, sizes and times. No body and no key is read here.

use hostchat_core::wire::Name;
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::tx::Tx;
use super::{AccountId, ops};

/// One account with what it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its number.
    pub id: AccountId,
    /// Its name.
    pub name: Name,
    /// Whether its owner lets others see it.
    pub visible: bool,
    /// Wall time of the registration, milliseconds since 1970.
    pub registered_at: u64,
    /// Messages that wait in its mailbox.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// One-time prekeys left.
    pub one_time_prekeys: u64,
    /// Blobs that it left and nobody has deleted.
    pub blobs: u64,
    /// Bytes of these, as announced.
    pub blob_bytes: u64,
}

/// An invitation that can still be used; the words themselves are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The beginning of its hash, in hexadecimal digits.
    pub id: String,
    /// Wall time of its making, milliseconds since 1970.
    pub created_at: u64,
    /// How many accounts may still be registered with it.
    pub uses_left: u32,
}

/// Outcome of `invite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invited {
    /// Kept.
    Done,
    /// As many as allowed can still be used.
    TooMany,
}

/// How much there is in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Registered accounts.
    pub accounts: u64,
    /// Messages in all mailboxes.
    pub messages: u64,
    /// Invitations that can still be used.
    pub invitations: u64,
    /// Blobs of all accounts.
    pub blobs: u64,
    /// Bytes of these, as announced.
    pub blob_bytes: u64,
}

/// The columns that [`account_from`] reads.
macro_rules! account_columns {
    ($end:literal) => {
        concat!(
            "SELECT id, name, visible, registered_at,
             (SELECT count(*) FROM message WHERE mailbox = account.id),
             (SELECT coalesce(sum(length(body)), 0) FROM message WHERE mailbox = account.id),
             (SELECT count(*) FROM prekey WHERE account = account.id AND kind = 0 AND body IS NOT NULL),
             (SELECT count(*) FROM blob WHERE owner = account.id),
             (SELECT coalesce(sum(size), 0) FROM blob WHERE owner = account.id)
             FROM account ",
            $end
        )
    };
}

fn account_from(row: &Row<'_>) -> Result<AccountRow> {
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
    Ok(AccountRow {
        id: AccountId(row.get(0)?),
        name: Name::parse(row.get_ref(1)?.as_str()?).map_err(ops::into_sql)?,
        visible: row.get(2)?,
        registered_at: number(3)?,
        messages: number(4)?,
        bytes: number(5)?,
        one_time_prekeys: number(6)?,
        blobs: number(7)?,
        blob_bytes: number(8)?,
    })
}

pub(super) fn accounts(
    connection: &Connection,
    after: Option<&Name>,
    count: usize,
) -> Result<Vec<AccountRow>> {
    let after = after.map_or("", Name::as_str);
    connection
        .prepare_cached(account_columns!("WHERE name > ?1 ORDER BY name LIMIT ?2"))?
        .query_map((after, count as i64), account_from)?
        .collect()
}

pub(super) fn account(connection: &Connection, name: &Name) -> Result<Option<AccountRow>> {
    connection
        .prepare_cached(account_columns!("WHERE name = ?1"))?
        .query_row([name.as_str()], account_from)
        .optional()
}

pub(super) fn invite(tx: &mut Tx<'_>, invitation: &str, uses: u32, most: usize) -> Result<Invited> {
    let usable: i64 = tx
        .prepare("SELECT count(*) FROM invitation WHERE uses_left > 0")?
        .query_row([], |row| row.get(0))?;
    if usable.cast_unsigned() >= most as u64 {
        return Ok(Invited::TooMany);
    }
    ops::invite(tx.connection, invitation.as_bytes(), uses, tx.age.wall_ms())?;
    Ok(Invited::Done)
}

pub(super) fn invitations(connection: &Connection) -> Result<Vec<Invitation>> {
    connection
        .prepare_cached(
            "SELECT lower(hex(substr(hash, 1, 6))), created_at, uses_left FROM invitation
             WHERE uses_left > 0 ORDER BY created_at DESC, hash LIMIT 1000",
        )?
        .query_map([], |row| {
            Ok(Invitation {
                id: row.get(0)?,
                created_at: row.get::<_, i64>(1)?.cast_unsigned(),
                uses_left: row.get(2)?,
            })
        })?
        .collect()
}

pub(super) fn withdraw(tx: &mut Tx<'_>, id: &str) -> Result<bool> {
    let deleted = tx
        .prepare("DELETE FROM invitation WHERE lower(hex(substr(hash, 1, 6))) = ?1")?
        .execute([id])?;
    Ok(deleted > 0)
}

pub(super) fn totals(connection: &Connection) -> Result<Totals> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM message),
             (SELECT count(*) FROM invitation WHERE uses_left > 0),
             (SELECT count(*) FROM blob), (SELECT coalesce(sum(size), 0) FROM blob)",
        )?
        .query_row([], |row| {
            let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
            Ok(Totals {
                accounts: number(0)?,
                messages: number(1)?,
                invitations: number(2)?,
                blobs: number(3)?,
                blob_bytes: number(4)?,
            })
        })
}
