//! Blobs from a database file to the servers and back.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rusqlite::Connection;

use super::super::{AccountId, StoreError};
use super::READS;
use super::blob_view::{Head, Of};
use super::blobs::draw;
use super::copy::{ROWS, write};
use super::node::Node;

/// Copies all blobs of the file.
pub(super) async fn to_servers(file: &Connection, node: &Node) -> Result<(), StoreError> {
    let mut blobs = file.prepare("SELECT id, owner, blob, size, readers FROM blob ORDER BY id")?;
    let mut rows = blobs.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let of: Of = (AccountId(row.get(1)?), row.get::<_, [u8; 16]>(2)?.into());
        let readers = file
            .prepare_cached("SELECT token FROM blob_reader WHERE blob = ?1 ORDER BY token")?
            .query_map([id], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let make = draw()?;
        let head = Head {
            size: row.get::<_, i64>(3)?.cast_unsigned(),
            make,
            readers,
            digest: row.get(4)?,
            at: None,
        };
        let subject = node.link.subjects.blob_head(of);
        write(node, subject, head.headers(), Bytes::new()).await?;
        let mut parts =
            file.prepare_cached("SELECT part, bytes FROM blob_part WHERE blob = ?1 ORDER BY part")?;
        let parts = parts.query_map([id], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        stream::iter(parts)
            .map(|part| async move {
                let (index, bytes) = part?;
                let subject = node.link.subjects.blob_part(of, make, index);
                write(node, subject, HeaderMap::new(), bytes.into()).await
            })
            .buffer_unordered(ROWS)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

/// Copies the blobs of an account into the file.
pub(super) async fn to_file(
    file: &Connection,
    node: &Node,
    account: AccountId,
) -> Result<(), StoreError> {
    let now = node.now_ms();
    let blobs = node.blob_view().all_of(account);
    for (of, known) in blobs {
        let left = known.ends.saturating_sub(now).cast_signed();
        let id: i64 = file.query_row(
            "INSERT INTO blob (owner, blob, size, parts, expires, readers)
             VALUES (?1, ?2, ?3, 0, ?4, ?5) RETURNING id",
            (
                account.0,
                &of.1.0,
                known.size.cast_signed(),
                left,
                known.digest,
            ),
            |row| row.get(0),
        )?;
        for reader in known.readers {
            file.execute("INSERT INTO blob_reader VALUES (?1, ?2)", (reader, id))?;
        }
        let mut parts = stream::iter(0..known.parts)
            .map(|index| node.part(of, known.make, index))
            .buffered(READS);
        let mut there = 0u32;
        // The servers have deleted the rest, if there is any: it is old.
        while let Some(Some(bytes)) = parts.next().await.transpose()? {
            file.prepare_cached("INSERT INTO blob_part VALUES (?1, ?2, ?3)")?
                .execute((id, there, &bytes[..]))?;
            there += 1;
        }
        file.execute("UPDATE blob SET parts = ?2 WHERE id = ?1", (id, there))?;
    }
    Ok(())
}
