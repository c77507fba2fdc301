//! Blobs on the servers: a head that says what there is to be, and one record for each part.
//!
//! JetStream's object store is not used: its put writes an object as a whole under one fresh name and cannot go on where
//! it broke off, and its chunks are found only once the object is finished. Here every part is a record of its own subject,
//! written where there was none, so that it is there once and a repeat finds it.
//!
//! A blob is deleted by one write, of its head; its parts are purged afterwards, by any node's sweep if the one that wrote
//! it died. That is one request whatever the size: it holds up the stream of blobs alone, in which there are no messages.
//! A token that was ended at one node may be good for milliseconds more at another one.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::super::blobs::{Announced, BlobKey, BlobState, NewBlob, PutPart, fits, too_much};
use super::super::{AccountId, StoreError};
use super::blob_view::{BlobRecord, BlobView, Head, Known, Of};
use super::link::{Put, Which};
use super::node::{Node, TRIES, contended};
use super::record;

/// Blobs that one step of a sweep looks at: each takes some requests.
const SWEEP_BLOBS: usize = 32;

/// The last record of a head.
struct Last {
    /// Its number; 0 if there is none.
    revision: u64,
    /// When it was written, by the servers' clock.
    written: u64,
    /// `None` if there is none, or one that says "gone".
    head: Option<Head>,
}

impl Node {
    pub(super) fn blob_view(&self) -> std::sync::MutexGuard<'_, BlobView> {
        crate::lock(&self.blob_view)
    }

    /// The last record of a head, as the leader knows it.
    async fn head(&self, of: Of) -> Result<Last, StoreError> {
        let subject = self.link.subjects.blob_head(of);
        let Some(last) = self.link.last(&subject).await? else {
            return Ok(Last {
                revision: 0,
                written: 0,
                head: None,
            });
        };
        let head = match self.link.subjects.read_blob(&subject, &last.headers) {
            Some(BlobRecord::Head(_, head)) => Some(head),
            Some(_) => None,
            None => return Err(StoreError::Damaged(format!("{subject} cannot be read"))),
        };
        let written = u64::try_from(last.time.unix_timestamp_nanos() / 1_000_000);
        Ok(Last {
            revision: last.sequence,
            written: written.unwrap_or(0),
            head,
        })
    }

    pub(super) async fn put_blob(&self, new: &NewBlob) -> Result<Announced, StoreError> {
        let of = (new.owner, new.blob);
        let digest = new.digest();
        let owner = self.look(|book| book.name(new.owner).cloned()).await?;
        if owner.is_none() {
            return Ok(Announced::UnknownName);
        }
        for _ in 0..TRIES {
            let last = self.head(of).await?;
            // After it every part is known that any node has acknowledged.
            self.blobs.catch_up().await?;
            let now = self.now_ms();
            if let Some(head) = last.head
                && !head.is_expired(last.written, now, &self.limits)
            {
                if (head.size, head.digest) != (new.size, digest) {
                    return Ok(Announced::Different);
                }
                match self.blob_view().get(of, now) {
                    Some(known) if known.make == head.make => {
                        return Ok(Announced::Repeat(known.state(now)));
                    }
                    // Deleted or announced anew meanwhile.
                    _ => continue,
                }
            }
            let refusal = {
                let view = self.blob_view();
                let used = view.used(new.owner, now);
                too_much(new.size, used, view.sums().1, &self.limits)
            };
            if let Some(refusal) = refusal {
                return Ok(refusal);
            }
            let head = Head {
                size: new.size,
                make: draw()?,
                readers: new.readers.clone(),
                digest,
                at: None,
            };
            let subject = self.link.subjects.blob_head(of);
            let put = self
                .link
                .put(subject, head.headers(), Bytes::new(), Some(last.revision));
            match put.await {
                Ok(Put::Done(number)) => self.blobs.reached(number).await?,
                Ok(Put::Lost) => continue,
                Err(StoreError::Full) => return Ok(Announced::RelayFull),
                Err(error) => return Err(error),
            }
            if self.book().name(new.owner).is_none() {
                // Deleted meanwhile, perhaps before the purge.
                self.purge_blobs(new.owner).await?;
                return Ok(Announced::UnknownName);
            }
            return Ok(Announced::New(BlobState {
                size: new.size,
                parts: 0,
                expires_in_ms: self.limits.blob_ms(),
            }));
        }
        Err(contended())
    }

    /// An own blob, with the parts up to `index` if any node has acknowledged them.
    async fn own(&self, of: Of, index: u32) -> Result<Option<Known>, StoreError> {
        let look = || self.blob_view().get(of, self.now_ms()).cloned();
        match look() {
            Some(known) if known.parts >= index => return Ok(Some(known)),
            _ => {}
        }
        self.blobs.catch_up().await?;
        Ok(look())
    }

    pub(super) async fn put_part(
        &self,
        of: Of,
        index: u32,
        bytes: Bytes,
    ) -> Result<PutPart, StoreError> {
        let Some(known) = self.own(of, index).await? else {
            return Ok(PutPart::UnknownBlob);
        };
        if !fits(known.size, known.parts, index, bytes.len()) {
            return Ok(PutPart::Wrong);
        }
        if index < known.parts {
            return Ok(PutPart::Repeat);
        }
        let subject = self.link.subjects.blob_part(of, known.make, index);
        let put = self.link.put(subject, HeaderMap::new(), bytes, Some(0));
        match put.await {
            Ok(Put::Done(number)) => self.blobs.reached(number).await?,
            // It is there, by an earlier try or another connection.
            Ok(Put::Lost) => self.blobs.catch_up().await?,
            Err(StoreError::Full) => return Ok(PutPart::RelayFull),
            Err(error) => return Err(error),
        }
        let now = self.now_ms();
        let after = self.blob_view().get(of, now).map(|k| (k.make, k.parts));
        match after {
            Some((make, parts)) if make == known.make && parts > index => Ok(PutPart::Stored),
            Some((make, _)) if make == known.make => Err(contended()),
            _ => {
                // Deleted meanwhile, perhaps before the purge.
                self.purge_parts(of, known.make).await?;
                Ok(PutPart::UnknownBlob)
            }
        }
    }

    /// The blob that a token opens; if there is none, looked for once more after everything written is known.
    async fn opened(&self, key: &BlobKey) -> Result<Option<(Of, Known)>, StoreError> {
        let look = || {
            let view = self.blob_view();
            let found = view.find(key, self.now_ms());
            found.map(|(of, known)| (of, known.clone()))
        };
        if let Some(found) = look() {
            return Ok(Some(found));
        }
        self.blobs.catch_up().await?;
        Ok(look())
    }

    pub(super) async fn blob(&self, key: &BlobKey) -> Result<Option<BlobState>, StoreError> {
        let found = self.opened(key).await?;
        Ok(found.map(|(_, known)| known.state(self.now_ms())))
    }

    pub(super) async fn blob_part(
        &self,
        key: &BlobKey,
        index: u32,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some((of, known)) = self.opened(key).await? else {
            return Ok(None);
        };
        if index >= known.parts {
            // Perhaps acknowledged by another node.
            let now = self.own(of, index.saturating_add(1)).await?;
            if now.is_none_or(|now| now.make != known.make || index >= now.parts) {
                return Ok(None);
            }
        }
        self.part(of, known.make, index).await
    }

    /// A part, if it is still there.
    pub(super) async fn part(
        &self,
        of: Of,
        make: u64,
        index: u32,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(number) = self.blob_view().part(of, make, index) else {
            return Ok(None);
        };
        let subject = self.link.subjects.blob_part(of, make, index);
        self.link.body(&subject, number).await
    }

    pub(super) async fn end_blob(&self, key: &BlobKey, who: &str) -> Result<(), StoreError> {
        let Some((of, known)) = self.opened(key).await? else {
            return Ok(());
        };
        for _ in 0..TRIES {
            let last = self.head(of).await?;
            let Some(mut head) = last.head.filter(|h| h.readers.contains(&key.reader)) else {
                return Ok(());
            };
            let owner = self.book().name(of.0).cloned();
            if let (true, Some(owner)) = (self.keeps_log(), owner) {
                self.log_blob(&owner, who, &key.reader, &known).await?;
            }
            head.readers.retain(|reader| *reader != key.reader);
            head.at.get_or_insert(last.written);
            if head.readers.is_empty() {
                if self.bury_blob(of, last.revision, head.make).await? {
                    return Ok(());
                }
                continue;
            }
            let subject = self.link.subjects.blob_head(of);
            let put = self
                .link
                .put(subject, head.headers(), Bytes::new(), Some(last.revision));
            if let Put::Done(number) = put.await? {
                return self.blobs.reached(number).await;
            }
        }
        Err(contended())
    }

    pub(super) async fn delete_blob(&self, of: Of) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let last = self.head(of).await?;
            let Some(head) = last.head else {
                return Ok(());
            };
            if self.bury_blob(of, last.revision, head.make).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Replaces a head by "gone", then purges the parts; `false` if `revision` is no longer the last.
    async fn bury_blob(&self, of: Of, revision: u64, make: u64) -> Result<bool, StoreError> {
        let subject = self.link.subjects.blob_head(of);
        let headers = record::gone_headers(revision);
        let put = self
            .link
            .put(subject, headers, Bytes::new(), Some(revision));
        match put.await? {
            Put::Done(number) => self.blobs.reached(number).await?,
            Put::Lost => return Ok(false),
        }
        self.purge_parts(of, make).await?;
        Ok(true)
    }

    async fn purge_parts(&self, of: Of, make: u64) -> Result<(), StoreError> {
        let filter = self.link.subjects.blob_parts(of, make);
        self.link.purge(Which::Blobs, filter).await?;
        self.blob_view().drop_parts(of, make);
        Ok(())
    }

    /// Deletes everything of an account that was deleted; its number is not given again.
    pub(super) async fn purge_blobs(&self, account: AccountId) -> Result<(), StoreError> {
        let filter = self.link.subjects.blobs_of(account);
        self.link.purge(Which::Blobs, filter).await?;
        self.blob_view().forget(account);
        Ok(())
    }

    /// Deletes some blobs whose time is over, and parts that no head names: blobs, and everything.
    pub(super) async fn sweep_blobs(&self) -> Result<(usize, usize), StoreError> {
        let now = self.now_ms();
        let (expired, left) = self.blob_view().stale(now, SWEEP_BLOBS);
        let (mut blobs, mut rows) = (0, 0);
        for (of, make) in expired {
            let last = self.head(of).await?;
            match last.head {
                Some(head) if head.make != make => continue,
                Some(head) if !head.is_expired(last.written, now, &self.limits) => continue,
                Some(_) if !self.bury_blob(of, last.revision, make).await? => continue,
                Some(_) => {}
                // The servers have deleted it.
                None => {
                    self.blob_view().remove(of);
                    self.purge_parts(of, make).await?;
                }
            }
            blobs += 1;
            rows += 1;
        }
        for (of, make) in left {
            // A head that was written again comes after its parts: what this node has not seen yet decides.
            if self.head(of).await?.head.is_some_and(|h| h.make == make) {
                continue;
            }
            self.purge_parts(of, make).await?;
            rows += 1;
        }
        Ok((blobs, rows))
    }
}

/// A make that no other announcement has.
pub(super) fn draw() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Other(error.to_string()))?;
    Ok(u64::from_le_bytes(bytes))
}
