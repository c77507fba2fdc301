//! The calls about blobs: what is checked before the store is asked.
//!
//! Parts that are put are queued like every other write, in the order in which they came. Parts that are read are read one
//! at a time for each connection, and the next one only after the one before was taken over by its socket: whoever reads
//! slowly holds one part in memory and nobody up. Parts need no rate of their own: the one of `calls` lets 8 MiB a second
//! of them pass in the long run, and the quota bounds what stays.

use std::sync::Arc;

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::Bytes;
use hostchat_core::wire::relay::{BLOB_READERS, BlobId, Call, Reason, Refusal};

use crate::calls::{Answered, FULL_RETRY_MS, Step, later, user};
use crate::login::{Member, refused};
use crate::server::Relay;
use crate::store::{Announced, BlobKey, NewBlob, PutPart, ReaderHash};

/// Starts a call about a blob, which was charged as a call.
pub(crate) async fn start(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    call: Call<'_>,
) -> Result<Step, Refusal> {
    match call {
        Call::PutBlob {
            blob,
            size,
            readers,
        } => put(relay, member, id, (blob, size, readers)).await,
        Call::PutPart { blob, index, bytes } => {
            put_part(relay, member, id, (blob, index, bytes)).await
        }
        Call::DeleteBlob { blob } => {
            let pending = relay.store.delete_blob(user(member)?.id, blob).await;
            Ok(later(relay, id, pending, |id, ()| Answered::Done(id)))
        }
        Call::GetBlob { blob, reader } => {
            let found = relay.store.blob(key(blob, reader)).await;
            let found = found.map_err(|error| relay.internal(&error))?;
            let state = found.ok_or(refused(Reason::UnknownBlob))?;
            Ok(Step::Now(Answered::Blob(id, state)))
        }
        Call::GetPart {
            blob,
            reader,
            index,
        } => {
            let found = relay.store.blob_part(key(blob, reader), index).await;
            let found = found.map_err(|error| relay.internal(&error))?;
            let bytes = found.ok_or(refused(Reason::UnknownBlob))?;
            relay.metrics.blob_read_bytes.add(bytes.len() as u64);
            Ok(Step::Now(Answered::Part(id, bytes)))
        }
        Call::EndBlob { blob, reader } => {
            let who = member.sender_key().to_owned();
            let pending = relay.store.end_blob(key(blob, reader), who).await;
            Ok(later(relay, id, pending, |id, ()| Answered::Done(id)))
        }
        _ => Err(refused(Reason::BadRequest)),
    }
}

async fn put(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    (blob, size, readers): (BlobId, u64, heapless::Vec<Bytes<32>, BLOB_READERS>),
) -> Result<Step, Refusal> {
    let owner = user(member)?.id;
    let readers = in_order(&readers).ok_or(refused(Reason::BadRequest))?;
    if size == 0 {
        return Err(refused(Reason::BadRequest));
    }
    let (rate, now) = (&relay.rates.blobs_put, relay.clock.uptime_ms());
    rate.take(member.caller, now).map_err(relay.limited())?;
    let new = NewBlob {
        owner,
        blob,
        size,
        readers,
    };
    let pending = relay.store.put_blob(new).await;
    let metrics = Arc::clone(&relay.metrics);
    Ok(later(relay, id, pending, move |id, announced| {
        let reason = match announced {
            Announced::New(state) => {
                metrics.blobs_announced.add(1);
                return Answered::Blob(id, state);
            }
            Announced::Repeat(state) => return Answered::Blob(id, state),
            Announced::RelayFull => return full(id),
            Announced::Different => Reason::BadRequest,
            Announced::TooLarge => Reason::TooLarge,
            Announced::QuotaFull => Reason::QuotaFull,
            Announced::UnknownName => Reason::UnknownName,
        };
        Answered::Refused(id, refused(reason))
    }))
}

async fn put_part(
    relay: &Arc<Relay>,
    member: &Member,
    id: u32,
    (blob, index, bytes): (BlobId, u32, &[u8]),
) -> Result<Step, Refusal> {
    let owner = user(member)?.id;
    let length = bytes.len() as u64;
    let pending = relay.store.put_part(owner, blob, index, Arc::from(bytes));
    let pending = pending.await;
    let metrics = Arc::clone(&relay.metrics);
    Ok(later(relay, id, pending, move |id, put| match put {
        PutPart::Stored => {
            metrics.blob_stored_bytes.add(length);
            Answered::Stored(id)
        }
        PutPart::Repeat => Answered::Stored(id),
        PutPart::Wrong => Answered::Refused(id, refused(Reason::BadRequest)),
        PutPart::UnknownBlob => Answered::Refused(id, refused(Reason::UnknownBlob)),
        PutPart::RelayFull => full(id),
    }))
}

fn full(id: u32) -> Answered {
    let refusal = Refusal {
        reason: Reason::RelayFull,
        retry_after_ms: FULL_RETRY_MS,
    };
    Answered::Refused(id, refusal)
}

/// Readers in order, at least one and none twice.
fn in_order(readers: &[Bytes<32>]) -> Option<Vec<ReaderHash>> {
    let mut readers: Vec<_> = readers.iter().map(|reader| reader.0).collect();
    readers.sort_unstable();
    let good = readers.is_sorted_by(|a, b| a < b) && !readers.is_empty();
    good.then_some(readers)
}

fn key(blob: BlobId, token: Bytes<16>) -> BlobKey {
    BlobKey {
        blob,
        reader: sha256(&[&token.0]),
    }
}
