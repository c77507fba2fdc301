//! What each write does to the database. Bound parameters only: no text of anybody becomes SQL.

use std::sync::Arc;

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::relay::{Kind, PREKEY_STOCK};
use hostchat_core::wire::{
    Bytes, IdentityClaim, Name, Prekey, PrekeyBundle, PrekeyKind, PrekeyRef, codec,
};
use rusqlite::{OptionalExtension, Result};

use super::roster::usable;
use super::tx::Tx;
use super::usage::Parcel;
use super::{
    AccountId, Admission, Appended, Message, NewMessage, PrekeyList, PutPrekey, Registered, Stock,
    Swept, Taken, blobs, log,
};
use crate::limits::SWEEP_ROWS;

/// How long the id of a given one-time prekey is remembered: longer than a token keeps prekey secrets (35 days).
pub(super) const GIVEN_MS: u64 = 60 * 24 * 3_600_000;
/// Longest encoded prekey: 1,304 bytes and varints.
pub(super) const MAX_PREKEY: usize = 1400;
/// Never expires: later than any age.
const NEVER: i64 = i64::MAX;

pub(super) fn identity_bytes(identity: &IdentityClaim) -> [u8; 128] {
    let mut bytes = [0; 128];
    bytes[..32].copy_from_slice(&identity.sign.0);
    bytes[32..64].copy_from_slice(&identity.dh.0);
    bytes[64..].copy_from_slice(&identity.signature.0);
    bytes
}

pub(super) fn identity_from(bytes: &[u8; 128]) -> IdentityClaim {
    let (mut sign, mut dh, mut signature) = ([0; 32], [0; 32], [0; 64]);
    sign.copy_from_slice(&bytes[..32]);
    dh.copy_from_slice(&bytes[32..64]);
    signature.copy_from_slice(&bytes[64..]);
    IdentityClaim {
        sign: Bytes(sign),
        dh: Bytes(dh),
        signature: Bytes(signature),
    }
}

pub(super) const fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Pairing => 0,
        Kind::First => 1,
        Kind::Message => 2,
    }
}

pub(super) const fn kind_from(number: i64) -> Kind {
    match number {
        0 => Kind::Pairing,
        1 => Kind::First,
        _ => Kind::Message,
    }
}

pub(super) fn append(tx: &mut Tx<'_>, new: &NewMessage) -> Result<Appended> {
    let Some(mailbox) = tx.account_id(&new.to)? else {
        return Ok(Appended::UnknownName);
    };
    let now = tx.age.now_ms();
    let id = &new.message_id.0;
    if tx.blocks(mailbox, &new.sender_key)? {
        // Nothing is written, so that nothing has to be synced for it.
        let seen = tx
            .prepare("SELECT 1 FROM seen WHERE mailbox = ?1 AND sender = ?2 AND message_id = ?3")?
            .exists((mailbox.0, &new.sender_key, id))?;
        return Ok(if seen {
            Appended::Repeat
        } else {
            Appended::Blocked
        });
    }
    let forget = now.saturating_add(tx.limits.message_ms()).cast_signed();
    let is_new = tx
        .prepare("INSERT OR IGNORE INTO seen VALUES (?1, ?2, ?3, ?4)")?
        .execute((mailbox.0, &new.sender_key, id, forget))?
        == 1;
    if !is_new {
        return Ok(Appended::Repeat);
    }
    let parcel = Parcel {
        kind: new.kind,
        bytes: new.body.len() as u64,
        sender: new.sender.as_str(),
        guest: new.guest,
        fingerprint: new.fingerprint.map(|f| f.0),
    };
    let limits = tx.limits;
    let refusal = if !tx.room {
        Some(Appended::RelayFull)
    } else if tx.usage(mailbox)?.is_full(&parcel, limits) {
        Some(Appended::MailboxFull)
    } else {
        None
    };
    if let Some(refusal) = refusal {
        tx.prepare("DELETE FROM seen WHERE mailbox = ?1 AND sender = ?2 AND message_id = ?3")?
            .execute((mailbox.0, &new.sender_key, id))?;
        return Ok(refusal);
    }
    let life = match new.kind {
        Kind::Pairing => limits.pairing_ms(),
        Kind::First | Kind::Message => limits.message_ms(),
    };
    let (number, stored_at) = (tx.next_number()?, tx.age.wall_ms());
    tx.prepare("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
        .execute((
            number.cast_signed(),
            mailbox.0,
            kind_number(new.kind),
            new.sender.as_str(),
            new.guest,
            id,
            stored_at.cast_signed(),
            now.saturating_add(life).cast_signed(),
            &*new.body,
            new.fingerprint.map(|f| f.0),
        ))?;
    tx.usage(mailbox)?.add(&parcel);
    if tx.log_ms > 0 {
        log::write(tx, new, number, stored_at)?;
    }
    let message = Message {
        number,
        sender: new.sender.clone(),
        fingerprint: new.fingerprint,
        stored_at,
        message_id: new.message_id,
        body: Arc::clone(&new.body),
    };
    tx.stored.push((mailbox, Arc::new(message)));
    Ok(Appended::Stored)
}

pub(super) fn acknowledge(tx: &mut Tx<'_>, mailbox: AccountId, number: u64) -> Result<()> {
    let mut delete = tx.connection.prepare_cached(
        "DELETE FROM message WHERE number = ?1 AND mailbox = ?2
         RETURNING kind, length(body), sender, guest, iif(guest, fingerprint, NULL)",
    )?;
    let mut rows = delete.query((number.cast_signed(), mailbox.0))?;
    if let Some(row) = rows.next()? {
        let parcel = Parcel {
            kind: kind_from(row.get(0)?),
            bytes: row.get::<_, i64>(1)?.cast_unsigned(),
            sender: row.get_ref(2)?.as_str()?,
            guest: row.get(3)?,
            fingerprint: row.get(4)?,
        };
        tx.cache.remove(mailbox, &parcel);
    }
    // To the end: only then is the statement done.
    while rows.next()?.is_some() {}
    Ok(())
}

pub(super) fn register(
    tx: &mut Tx<'_>,
    name: &Name,
    identity: &IdentityClaim,
    admission: &Admission,
    visible: bool,
) -> Result<Registered> {
    let bytes = identity_bytes(identity);
    let known = tx
        .prepare("SELECT id, identity FROM account WHERE name = ?1")?
        .query_row([name.as_str()], |row| {
            Ok((AccountId(row.get(0)?), row.get::<_, [u8; 128]>(1)?))
        })
        .optional()?;
    if let Some((id, bound)) = known {
        // The signature over the X25519 key may differ between two makers of one claim; the keys may not.
        let same = bound[..64] == bytes[..64];
        return Ok(if same {
            Registered::Account(id)
        } else {
            Registered::NameTaken
        });
    }
    match admission {
        Admission::Open => {}
        Admission::Closed => return Ok(Registered::NotInvited),
        Admission::Invitation(invitation) => {
            let used = tx
                .prepare(concat!(
                    "UPDATE invitation SET uses_left = uses_left - 1 WHERE hash = ?2 AND ",
                    usable!()
                ))?
                .execute((tx.age.now_ms().cast_signed(), sha256(&[invitation])))?;
            if used == 0 {
                return Ok(Registered::NotInvited);
            }
        }
    }
    let now = tx.age.wall_ms().cast_signed();
    let id = tx
        .prepare("INSERT INTO account (name, identity, visible, registered_at) VALUES (?1, ?2, ?3, ?4) RETURNING id")?
        .query_row((name.as_str(), bytes, visible, now), |row| row.get(0))?;
    Ok(Registered::Account(AccountId(id)))
}

pub(super) fn put_prekey(
    tx: &mut Tx<'_>,
    account: AccountId,
    prekey: &Prekey,
) -> Result<PutPrekey> {
    let exists = tx
        .prepare("SELECT 1 FROM account WHERE id = ?1")?
        .exists([account.0])?;
    if !exists {
        return Ok(PutPrekey::UnknownName);
    }
    let mut buf = [0; MAX_PREKEY];
    let body: &[u8] = codec::encode(prekey, &mut buf).map_err(into_sql)?;
    let kind = prekey_kind(prekey.kind);
    match prekey.kind {
        PrekeyKind::OneTime => {
            let there = tx
                .prepare(
                    "SELECT issued, body IS NULL FROM prekey WHERE account = ?1 AND kind = ?2 AND id = ?3",
                )?
                .query_row((account.0, kind, prekey.id), |row| {
                    Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
                })
                .optional()?;
            let replaces = match there {
                Some((issued, given)) if is_same(prekey, issued, given) => {
                    return Ok(PutPrekey::Done);
                }
                // Another key: the token went back in time, and has given the id again.
                Some((_, given)) => !given,
                None => false,
            };
            let most = tx.limits.prekey_stock();
            if !replaces && stock_of(tx.connection, account)?.one_time >= most {
                return Ok(PutPrekey::TooMany);
            }
        }
        PrekeyKind::LastResort => {
            tx.prepare("DELETE FROM prekey WHERE account = ?1 AND kind = ?2")?
                .execute((account.0, kind))?;
        }
    }
    tx.prepare("INSERT OR REPLACE INTO prekey VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute((
            account.0,
            kind,
            prekey.id,
            prekey.issued.cast_signed(),
            NEVER,
            body,
        ))?;
    Ok(PutPrekey::Done)
}

/// Whether a one-time prekey is the one that is known by its id. Of those given before, a copy from NATS may not know
/// when they were issued: they count as the same, since a key must not be given twice.
pub(super) fn is_same(prekey: &Prekey, issued: u64, given: bool) -> bool {
    issued == prekey.issued || (given && issued == 0)
}

pub(super) fn take_prekeys(
    tx: &mut Tx<'_>,
    name: &Name,
    taker: &str,
    one_time: bool,
) -> Result<Taken> {
    let owner = tx
        .prepare("SELECT id, identity FROM account WHERE name = ?1")?
        .query_row([name.as_str()], |row| {
            Ok((AccountId(row.get(0)?), row.get::<_, [u8; 128]>(1)?))
        })
        .optional()?;
    let Some((account, identity)) = owner else {
        return Ok(Taken::UnknownName);
    };
    if tx.blocks(account, taker)? {
        return Ok(Taken::Blocked);
    }
    let Some((_, last_resort)) = first_prekey(tx, account, PrekeyKind::LastResort)? else {
        return Ok(Taken::NoPrekeys);
    };
    let mut given = None;
    if one_time && let Some((id, prekey)) = first_prekey(tx, account, PrekeyKind::OneTime)? {
        let forget = tx.age.now_ms().saturating_add(GIVEN_MS).cast_signed();
        tx.prepare("UPDATE prekey SET body = NULL, expires = ?4 WHERE account = ?1 AND kind = ?2 AND id = ?3")?
            .execute((account.0, prekey_kind(PrekeyKind::OneTime), id, forget))?;
        given = Some(prekey);
    }
    Ok(Taken::Bundle(Box::new(PrekeyBundle {
        identity: identity_from(&identity),
        last_resort,
        one_time: given,
    })))
}

fn first_prekey(
    tx: &Tx<'_>,
    account: AccountId,
    kind: PrekeyKind,
) -> Result<Option<(u32, Prekey)>> {
    let row = tx
        .prepare("SELECT id, body FROM prekey WHERE account = ?1 AND kind = ?2 AND body IS NOT NULL ORDER BY id LIMIT 1")?
        .query_row((account.0, prekey_kind(kind)), |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    row.map(|(id, body)| Ok((id, codec::decode(&body).map_err(into_sql)?)))
        .transpose()
}

pub(super) fn drop_prekeys(tx: &mut Tx<'_>, account: AccountId) -> Result<()> {
    tx.prepare("DELETE FROM prekey WHERE account = ?1 AND kind = ?2 AND body IS NOT NULL")?
        .execute((account.0, prekey_kind(PrekeyKind::OneTime)))?;
    Ok(())
}

pub(super) fn set_visible(tx: &mut Tx<'_>, account: AccountId, visible: bool) -> Result<()> {
    tx.prepare("UPDATE account SET visible = ?2 WHERE id = ?1")?
        .execute((account.0, visible))?;
    Ok(())
}

pub(super) fn delete_account(tx: &mut Tx<'_>, account: AccountId) -> Result<()> {
    for sql in [
        "DELETE FROM message WHERE mailbox = ?1",
        "DELETE FROM seen WHERE mailbox = ?1",
        "DELETE FROM prekey WHERE account = ?1",
        "DELETE FROM blocked WHERE mailbox = ?1",
        "DELETE FROM generation WHERE account = ?1",
        "DELETE FROM account WHERE id = ?1",
    ] {
        tx.prepare(sql)?.execute([account.0])?;
    }
    blobs::delete_all(tx, account)?;
    tx.forget_cached();
    Ok(())
}

pub(super) fn sweep(tx: &mut Tx<'_>) -> Result<Swept> {
    let (now, rows) = (tx.age.now_ms().cast_signed(), SWEEP_ROWS as i64);
    let messages = tx
        .prepare("DELETE FROM message WHERE number IN (SELECT number FROM message WHERE expires <= ?1 LIMIT ?2)")?
        .execute((now, rows))?;
    let ids = tx
        .prepare(
            "DELETE FROM seen WHERE (mailbox, sender, message_id) IN
             (SELECT mailbox, sender, message_id FROM seen WHERE expires <= ?1 LIMIT ?2)",
        )?
        .execute((now, rows))?;
    let prekeys = tx
        .prepare("DELETE FROM prekey WHERE rowid IN (SELECT rowid FROM prekey WHERE expires <= ?1 LIMIT ?2)")?
        .execute((now, rows))?;
    let entries = log::sweep(tx, rows)?;
    let (blobs, of_blobs) = blobs::sweep(tx)?;
    if messages > 0 {
        tx.forget_cached();
    }
    tx.keep_counter()?;
    Ok(Swept {
        messages,
        blobs,
        rows: messages + ids + prekeys + entries + of_blobs,
    })
}

/// One-time keys counted in 32 bits, and the last-resort key.
pub(super) struct StockRow {
    pub(super) one_time: u32,
    pub(super) last_resort: Option<(u64, u32)>,
}

impl From<StockRow> for Stock {
    fn from(row: StockRow) -> Self {
        let (last_resort_issued, last_resort_id) = row.last_resort.unwrap_or_default();
        Self {
            one_time: u16::try_from(row.one_time).unwrap_or(u16::MAX),
            last_resort_issued,
            last_resort_id,
        }
    }
}

pub(super) fn stock_of(connection: &rusqlite::Connection, account: AccountId) -> Result<StockRow> {
    let one_time = connection
        .prepare_cached(
            "SELECT count(*) FROM prekey WHERE account = ?1 AND kind = 0 AND body IS NOT NULL",
        )?
        .query_row([account.0], |row| row.get(0))?;
    let last_resort = connection
        .prepare_cached("SELECT issued, id FROM prekey WHERE account = ?1 AND kind = 1")?
        .query_row([account.0], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        })
        .optional()?;
    Ok(StockRow {
        one_time,
        last_resort,
    })
}

pub(super) fn prekeys(connection: &rusqlite::Connection, account: AccountId) -> Result<PrekeyList> {
    let mut select = connection.prepare_cached(
        "SELECT id, issued FROM prekey WHERE account = ?1 AND kind = ?2 AND body IS NOT NULL ORDER BY id LIMIT ?3",
    )?;
    let mut of = |kind, most: usize| -> Result<Vec<PrekeyRef>> {
        select
            .query_map((account.0, prekey_kind(kind), most as i64), |row| {
                Ok(PrekeyRef {
                    id: row.get(0)?,
                    issued: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })?
            .collect()
    };
    Ok(PrekeyList {
        one_time: of(PrekeyKind::OneTime, PREKEY_STOCK)?,
        last_resort: of(PrekeyKind::LastResort, 1)?.pop(),
    })
}

pub(super) const fn prekey_kind(kind: PrekeyKind) -> i64 {
    match kind {
        PrekeyKind::OneTime => 0,
        PrekeyKind::LastResort => 1,
    }
}

/// A value that our own code stored does not decode: the file was altered.
pub(super) fn into_sql(error: hostchat_core::error::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}
