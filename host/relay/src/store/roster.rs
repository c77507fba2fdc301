//! What the operator sees of the store: names, counts, sizes and times. No body and no key is read here.

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::Name;
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::age::{Age, Mark};
use super::tx::Tx;
use super::{AccountId, log, ops};

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
    /// Whether the operator lets nobody log in to it.
    pub suspended: bool,
    /// The last day on which its owner logged in, in days since 1970, if that is known.
    pub seen_day: Option<u32>,
}

/// An invitation that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInvitation {
    /// Its words; only their hash is kept.
    pub words: String,
    /// How many accounts may be registered with it.
    pub uses: u32,
    /// What the operator wants to remember of it, perhaps nothing.
    pub note: String,
    /// Milliseconds after which it is useless; `None` for never.
    pub life_ms: Option<u64>,
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
    /// What the operator noted.
    pub note: String,
    /// Wall time of its end, milliseconds since 1970, as it looks now; `None` for never.
    pub expires_at: Option<u64>,
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
             (SELECT coalesce(sum(size), 0) FROM blob WHERE owner = account.id),
             suspended, seen_day
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
        suspended: row.get(9)?,
        seen_day: row.get(10)?,
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

/// Of an invitation that can still be used; ?1 is the age now.
macro_rules! usable {
    () => {
        "uses_left > 0 AND (expires IS NULL OR expires > ?1)"
    };
}
pub(super) use usable;

pub(super) fn invite(tx: &mut Tx<'_>, new: &NewInvitation, most: usize) -> Result<Invited> {
    let usable: i64 = tx
        .prepare(concat!("SELECT count(*) FROM invitation WHERE ", usable!()))?
        .query_row([tx.age.now_ms().cast_signed()], |row| row.get(0))?;
    if usable.cast_unsigned() >= most as u64 {
        return Ok(Invited::TooMany);
    }
    keep_invitation(tx.connection, new, tx.age)?;
    Ok(Invited::Done)
}

pub(super) fn keep_invitation(
    connection: &Connection,
    new: &NewInvitation,
    age: &Age,
) -> Result<()> {
    let expires = new.life_ms.map(|life| age.now_ms().saturating_add(life));
    connection.execute(
        "INSERT INTO invitation (hash, created_at, uses_left, note, expires) VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            sha256(&[new.words.as_bytes()]),
            age.wall_ms().cast_signed(),
            new.uses,
            &new.note,
            expires.map(u64::cast_signed),
        ),
    )?;
    Ok(())
}

/// Those that can still be used, newest first; `now` is the age with its wall time.
pub(super) fn invitations(connection: &Connection, now: Mark) -> Result<Vec<Invitation>> {
    connection
        .prepare_cached(concat!(
            "SELECT lower(hex(substr(hash, 1, 6))), created_at, uses_left, note, expires FROM invitation WHERE ",
            usable!(),
            " ORDER BY created_at DESC, hash LIMIT 1000",
        ))?
        .query_map([now.age_ms.cast_signed()], |row| {
            let expires: Option<i64> = row.get(4)?;
            let left = |expires: i64| expires.cast_unsigned().saturating_sub(now.age_ms);
            Ok(Invitation {
                id: row.get(0)?,
                created_at: row.get::<_, i64>(1)?.cast_unsigned(),
                uses_left: row.get(2)?,
                note: row.get(3)?,
                expires_at: expires.map(|expires| now.wall_ms.saturating_add(left(expires))),
            })
        })?
        .collect()
}

/// Keeps whether an account is suspended, with a line of the log where one is kept.
pub(super) fn suspend(tx: &mut Tx<'_>, account: AccountId, suspended: bool) -> Result<()> {
    let name: Option<String> = tx
        .prepare(
            "UPDATE account SET suspended = ?2 WHERE id = ?1 AND suspended <> ?2 RETURNING name",
        )?
        .query_row((account.0, suspended), |row| row.get(0))
        .optional()?;
    match name {
        Some(name) if tx.log_ms > 0 => log::write_suspended(tx, name, suspended),
        _ => Ok(()),
    }
}

/// Keeps the last day on which an account was seen; an earlier one changes nothing.
pub(super) fn saw(tx: &mut Tx<'_>, account: AccountId, day: u32) -> Result<()> {
    tx.prepare(
        "UPDATE account SET seen_day = ?2 WHERE id = ?1 AND (seen_day IS NULL OR seen_day < ?2)",
    )?
    .execute((account.0, day))?;
    Ok(())
}

pub(super) fn withdraw(tx: &mut Tx<'_>, id: &str) -> Result<bool> {
    let deleted = tx
        .prepare("DELETE FROM invitation WHERE lower(hex(substr(hash, 1, 6))) = ?1")?
        .execute([id])?;
    Ok(deleted > 0)
}

pub(super) fn totals(connection: &Connection, age_ms: u64) -> Result<Totals> {
    connection
        .prepare_cached(concat!(
            "SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM message),
             (SELECT count(*) FROM invitation WHERE ",
            usable!(),
            "), (SELECT count(*) FROM blob), (SELECT coalesce(sum(size), 0) FROM blob)",
        ))?
        .query_row([age_ms.cast_signed()], |row| {
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
