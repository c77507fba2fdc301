//! Blobs: sealed bytes that an account leaves for some readers, part by part.
//!
//! ```text
//!  put ── announced ── part 0, 1, 2 .. ──┐                        ┌─ the last reader has it
//!                                        ├─▶ gone for everybody ◀─┼─ its owner deletes it
//!  get ── whoever has a reader's token ──┘           │            └─ its time is over
//!                                                    ▼
//!                                        parts removed by the sweep, SWEEP_ROWS at a time
//! ```
//!
//! Invariant: the first `parts` parts of a blob are there, whole; they and their number change in one transaction. A blob
//! that is deleted leaves its row and its readers in one transaction, of at most [`BLOB_READERS`] rows and two; what it
//! takes of the file follows later, so that no deletion holds other writers up for longer than 500 parts (4 MiB) take.

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::relay::{BLOB_PART, BLOB_READERS, BlobId};
use rusqlite::{Connection, OptionalExtension, Result, Row};

use super::tx::Tx;
use super::{AccountId, log};
use crate::limits::{Limits, SWEEP_ROWS};

/// SHA-256 of a reader's token.
pub type ReaderHash = [u8; 32];

/// A blob as its owner announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlob {
    /// Who leaves it.
    pub owner: AccountId,
    /// Drawn by the owner.
    pub blob: BlobId,
    /// Bytes of all parts together, at least 1.
    pub size: u64,
    /// At least one, none twice, in order.
    pub readers: Vec<ReaderHash>,
}

impl NewBlob {
    /// A digest by which a repeat is known, also when some of the readers have ended.
    pub(super) fn digest(&self) -> [u8; 32] {
        sha256(&[self.readers.as_flattened()])
    }
}

/// What a reader shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobKey {
    /// The blob.
    pub blob: BlobId,
    /// Of its token.
    pub reader: ReaderHash,
}

/// How far a blob has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobState {
    /// Bytes, as announced.
    pub size: u64,
    /// Parts that are durable.
    pub parts: u32,
    /// Milliseconds until it is deleted, whoever has read it.
    pub expires_in_ms: u64,
}

/// Outcome of [`super::Store::put_blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Known from now on; its parts may come.
    New(BlobState),
    /// Was announced before, with the same size and readers.
    Repeat(BlobState),
    /// Was announced before, with another size or other readers.
    Different,
    /// Larger than a blob may be.
    TooLarge,
    /// The account has as many, or as many bytes, as it may have.
    QuotaFull,
    /// There is no room, or none for more blobs.
    RelayFull,
    /// The account was deleted meanwhile.
    UnknownName,
}

/// Outcome of [`super::Store::put_part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutPart {
    /// Stored now.
    Stored,
    /// Was there; nothing was done.
    Repeat,
    /// Not the next one, or of a wrong length.
    Wrong,
    /// The account has no such blob.
    UnknownBlob,
    /// The disk is nearly full.
    RelayFull,
}

/// The number of parts of a blob; `None` if there is no blob of this size.
pub(super) fn parts_of(size: u64) -> Option<u32> {
    let parts = u32::try_from(size.div_ceil(BLOB_PART as u64)).ok();
    parts.filter(|parts| *parts > 0)
}

/// The bytes in the first `parts` parts of a blob.
pub(super) fn bytes_in(size: u64, parts: u32) -> u64 {
    size.min(u64::from(parts) * BLOB_PART as u64)
}

/// Whether a part of this length may stand at this place; `parts` are there.
pub(super) fn fits(size: u64, parts: u32, index: u32, length: usize) -> bool {
    let from = bytes_in(size, index);
    let to = bytes_in(size, index.saturating_add(1));
    index <= parts && length > 0 && to - from == length as u64
}

/// Why one more blob is too much for the limits, with `blobs` of `bytes` of its owner, and `all` bytes of everybody.
pub(super) fn too_much(
    size: u64,
    (blobs, bytes): (u64, u64),
    all: u64,
    limits: &Limits,
) -> Option<Announced> {
    let beyond = |used: u64, most: u64| used.saturating_add(size) > most;
    if parts_of(size).is_none() || size > limits.blob_bytes() {
        Some(Announced::TooLarge)
    } else if blobs >= u64::from(limits.account_blobs)
        || beyond(bytes, limits.account_blobs_bytes())
    {
        Some(Announced::QuotaFull)
    } else if beyond(all, limits.blobs_bytes()) {
        Some(Announced::RelayFull)
    } else {
        None
    }
}

/// A blob as it stands in the database.
struct Kept {
    id: i64,
    size: u64,
    parts: u32,
    expires: u64,
}

impl Kept {
    fn from(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            size: row.get::<_, i64>(1)?.cast_unsigned(),
            parts: row.get(2)?,
            expires: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    }

    fn state(&self, now: u64) -> BlobState {
        BlobState {
            size: self.size,
            parts: self.parts,
            expires_in_ms: self.expires.saturating_sub(now),
        }
    }
}

pub(super) fn put(tx: &mut Tx<'_>, new: &NewBlob) -> Result<Announced> {
    let now = tx.age.now_ms();
    let digest = new.digest();
    let known = tx
        .prepare(
            "SELECT id, size, parts, expires, readers FROM blob WHERE owner = ?1 AND blob = ?2",
        )?
        .query_row((new.owner.0, &new.blob.0), |row| {
            Ok((Kept::from(row)?, row.get::<_, [u8; 32]>(4)?))
        })
        .optional()?;
    match known {
        Some((kept, readers)) if kept.expires > now => {
            let same = kept.size == new.size && readers == digest;
            return Ok(if same {
                Announced::Repeat(kept.state(now))
            } else {
                Announced::Different
            });
        }
        // Not swept yet.
        Some((kept, _)) => remove(tx, kept.id)?,
        None => {}
    }
    let exists = tx
        .prepare("SELECT 1 FROM account WHERE id = ?1")?
        .exists([new.owner.0])?;
    if !exists {
        return Ok(Announced::UnknownName);
    }
    let used = tx
        .prepare(
            "SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE owner = ?1 AND expires > ?2",
        )?
        .query_row((new.owner.0, now.cast_signed()), |row| {
            let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
            Ok((number(0)?, number(1)?))
        })?;
    let all = tx.blob_bytes()?;
    if let Some(refusal) = too_much(new.size, used, all, tx.limits) {
        return Ok(refusal);
    }
    if !tx.room {
        return Ok(Announced::RelayFull);
    }
    let expires = now.saturating_add(tx.limits.blob_ms());
    let id: i64 = tx
        .prepare(
            "INSERT INTO blob (owner, blob, size, parts, expires, readers)
             VALUES (?1, ?2, ?3, 0, ?4, ?5) RETURNING id",
        )?
        .query_row(
            (
                new.owner.0,
                &new.blob.0,
                new.size.cast_signed(),
                expires.cast_signed(),
                digest,
            ),
            |row| row.get(0),
        )?;
    let mut insert = tx.prepare("INSERT INTO blob_reader VALUES (?1, ?2)")?;
    for reader in &new.readers {
        insert.execute((reader, id))?;
    }
    drop(insert);
    tx.change_blob_bytes(all.saturating_add(new.size));
    Ok(Announced::New(BlobState {
        size: new.size,
        parts: 0,
        expires_in_ms: expires - now,
    }))
}

pub(super) fn put_part(
    tx: &mut Tx<'_>,
    (owner, blob): (AccountId, BlobId),
    index: u32,
    bytes: &[u8],
) -> Result<PutPart> {
    let now = tx.age.now_ms().cast_signed();
    let kept = tx
        .prepare("SELECT id, size, parts, expires FROM blob WHERE owner = ?1 AND blob = ?2 AND expires > ?3")?
        .query_row((owner.0, &blob.0, now), Kept::from)
        .optional()?;
    let Some(Kept {
        id, size, parts, ..
    }) = kept
    else {
        return Ok(PutPart::UnknownBlob);
    };
    if !fits(size, parts, index, bytes.len()) {
        return Ok(PutPart::Wrong);
    }
    if index < parts {
        return Ok(PutPart::Repeat);
    }
    if !tx.room {
        return Ok(PutPart::RelayFull);
    }
    tx.prepare("INSERT INTO blob_part VALUES (?1, ?2, ?3)")?
        .execute((id, index, bytes))?;
    tx.prepare("UPDATE blob SET parts = ?2 WHERE id = ?1")?
        .execute((id, index + 1))?;
    Ok(PutPart::Stored)
}

/// The blob that a token opens. Two owners may have given one the same id and token: the older one then.
fn find(connection: &Connection, key: &BlobKey, now: u64) -> Result<Option<Kept>> {
    connection
        .prepare_cached(
            "SELECT b.id, b.size, b.parts, b.expires FROM blob_reader AS r JOIN blob AS b ON b.id = r.blob
             WHERE r.token = ?1 AND b.blob = ?2 AND b.expires > ?3 ORDER BY b.id LIMIT 1",
        )?
        .query_row((key.reader, &key.blob.0, now.cast_signed()), Kept::from)
        .optional()
}

pub(super) fn state(connection: &Connection, key: &BlobKey, now: u64) -> Result<Option<BlobState>> {
    Ok(find(connection, key, now)?.map(|kept| kept.state(now)))
}

pub(super) fn part(
    connection: &Connection,
    key: &BlobKey,
    index: u32,
    now: u64,
) -> Result<Option<Vec<u8>>> {
    let Some(kept) = find(connection, key, now)? else {
        return Ok(None);
    };
    connection
        .prepare_cached("SELECT bytes FROM blob_part WHERE blob = ?1 AND part = ?2")?
        .query_row((kept.id, index), |row| row.get(0))
        .optional()
}

/// Takes a reader off its blob, and the blob away with the last one; a token that opens nothing changes nothing.
pub(super) fn end(tx: &mut Tx<'_>, key: &BlobKey, who: &str) -> Result<()> {
    let Some(kept) = find(tx.connection, key, tx.age.now_ms())? else {
        return Ok(());
    };
    tx.prepare("DELETE FROM blob_reader WHERE token = ?1 AND blob = ?2")?
        .execute((key.reader, kept.id))?;
    if tx.log_ms > 0 {
        let owner = tx
            .prepare("SELECT name FROM account WHERE id = (SELECT owner FROM blob WHERE id = ?1)")?
            .query_row([kept.id], |row| row.get(0))?;
        log::write_blob(tx, owner, who, kept.size)?;
    }
    let more = tx
        .prepare("SELECT 1 FROM blob_reader WHERE blob = ?1")?
        .exists([kept.id])?;
    if !more {
        remove(tx, kept.id)?;
    }
    Ok(())
}

pub(super) fn delete(tx: &mut Tx<'_>, owner: AccountId, blob: BlobId) -> Result<()> {
    let id = tx
        .prepare("SELECT id FROM blob WHERE owner = ?1 AND blob = ?2")?
        .query_row((owner.0, &blob.0), |row| row.get(0))
        .optional()?;
    match id {
        Some(id) => remove(tx, id),
        None => Ok(()),
    }
}

/// Deletes every blob of an account.
pub(super) fn delete_all(tx: &mut Tx<'_>, owner: AccountId) -> Result<()> {
    for sql in [
        "INSERT INTO blob_gone SELECT id FROM blob WHERE owner = ?1",
        "DELETE FROM blob_reader WHERE blob IN (SELECT id FROM blob WHERE owner = ?1)",
        "DELETE FROM blob WHERE owner = ?1",
    ] {
        tx.prepare(sql)?.execute([owner.0])?;
    }
    Ok(())
}

/// Makes a blob gone for everybody; its parts are left to the sweep.
fn remove(tx: &mut Tx<'_>, id: i64) -> Result<()> {
    let all = tx.blob_bytes()?;
    let size = tx
        .prepare("DELETE FROM blob WHERE id = ?1 RETURNING size")?
        .query_row([id], |row| row.get::<_, i64>(0))?;
    for sql in [
        "INSERT INTO blob_gone VALUES (?1)",
        "DELETE FROM blob_reader WHERE blob = ?1",
    ] {
        tx.prepare(sql)?.execute([id])?;
    }
    tx.change_blob_bytes(all.saturating_sub(size.cast_unsigned()));
    Ok(())
}

/// Makes some blobs gone whose time is over, and removes up to [`SWEEP_ROWS`] rows of what is gone: blobs and rows.
pub(super) fn sweep(tx: &mut Tx<'_>) -> Result<(usize, usize)> {
    let now = tx.age.now_ms().cast_signed();
    let few = SWEEP_ROWS / (BLOB_READERS + 2);
    let expired: Vec<i64> = tx
        .prepare("SELECT id FROM blob WHERE expires <= ?1 LIMIT ?2")?
        .query_map((now, few as i64), |row| row.get(0))?
        .collect::<Result<_>>()?;
    for id in &expired {
        remove(tx, *id)?;
    }
    let mut rows = 0;
    while rows < SWEEP_ROWS {
        let gone: Option<i64> = tx
            .prepare("SELECT id FROM blob_gone LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(gone) = gone else { break };
        rows += tx
            .prepare("DELETE FROM blob_part WHERE rowid IN (SELECT rowid FROM blob_part WHERE blob = ?1 LIMIT ?2)")?
            .execute((gone, (SWEEP_ROWS - rows) as i64))?;
        if rows < SWEEP_ROWS {
            rows += tx
                .prepare("DELETE FROM blob_gone WHERE id = ?1")?
                .execute([gone])?;
        }
    }
    Ok((expired.len(), expired.len() + rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_and_measured_at_every_edge() {
        let part = BLOB_PART as u64;
        for (size, parts) in [
            (0, None),
            (1, Some(1)),
            (part, Some(1)),
            (part + 1, Some(2)),
            (part * u64::from(u32::MAX), Some(u32::MAX)),
            (part * u64::from(u32::MAX) + 1, None),
            (u64::MAX, None),
        ] {
            assert_eq!(parts_of(size), parts, "{size}");
        }
        let size = 2 * part + 5;
        for (parts, index, length, good) in [
            (0, 0, BLOB_PART, true),
            (0, 0, BLOB_PART - 1, false),
            (0, 0, BLOB_PART + 1, false),
            (0, 0, 0, false),
            (0, 1, BLOB_PART, false),
            (1, 0, BLOB_PART, true),
            (2, 2, 5, true),
            (2, 2, BLOB_PART, false),
            (3, 2, 5, true),
            (3, 3, 0, false),
            (3, 3, 5, false),
            (3, u32::MAX, 5, false),
        ] {
            assert_eq!(fits(size, parts, index, length), good, "{index} of {parts}");
        }
        assert_eq!(bytes_in(size, 2), 2 * part);
        assert_eq!(bytes_in(size, 3), size);
    }
}
