//! What lies in the stream of blobs, and what a node knows of it: heads, and where each part is. No parts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_nats::HeaderMap;
use hostchat_core::wire::Bytes;
use hostchat_core::wire::relay::{BLOB_READERS, BlobId};

use super::super::AccountId;
use super::super::blobs::{BlobKey, BlobState, ReaderHash};
use super::record::{AT, Subjects, hex, is_gone, number, text, unhex};
use crate::limits::Limits;

const BYTES: &str = "Bytes";
const MAKE: &str = "Make";
const READERS: &str = "Readers";
const DIGEST: &str = "Digest";

/// Whose blob, and which.
pub(super) type Of = (AccountId, BlobId);
/// One announcement of a blob.
pub(super) type Make = (Of, u64);

impl Subjects {
    /// Everything of the stream.
    pub(super) fn all_blobs(&self) -> String {
        format!("{}>", self.blob)
    }

    pub(super) fn is_blob(&self, subject: &str) -> bool {
        subject.starts_with(&self.blob)
    }

    pub(super) fn blob_mark(&self) -> String {
        format!("{}mark", self.blob)
    }

    pub(super) fn blobs_of(&self, account: AccountId) -> String {
        format!("{}{}.>", self.blob, account.0)
    }

    pub(super) fn blob_head(&self, (account, blob): Of) -> String {
        format!("{}{}.{}.head", self.blob, account.0, hex(&blob.0))
    }

    pub(super) fn blob_part(&self, (account, blob): Of, make: u64, index: u32) -> String {
        let (id, account) = (hex(&blob.0), account.0);
        format!("{}{account}.{id}.{make:016x}.{index}", self.blob)
    }

    /// All parts of one make.
    pub(super) fn blob_parts(&self, (account, blob): Of, make: u64) -> String {
        format!("{}{}.{}.{make:016x}.>", self.blob, account.0, hex(&blob.0))
    }

    /// What a record of the stream says.
    pub(super) fn read_blob(&self, subject: &str, headers: &HeaderMap) -> Option<BlobRecord> {
        let mut parts = subject.strip_prefix(&self.blob)?.split('.');
        let account = match parts.next()? {
            "mark" => return Some(BlobRecord::Mark),
            account => AccountId(account.parse().ok()?),
        };
        let blob = BlobId::from(<[u8; 16]>::try_from(unhex(parts.next()?)?).ok()?);
        let of = (account, blob);
        Some(match parts.next()? {
            "head" if is_gone(headers) => BlobRecord::Gone(of),
            "head" => BlobRecord::Head(of, Head::read(headers)?),
            make => BlobRecord::Part {
                of,
                make: u64::from_str_radix(make, 16).ok()?,
                index: parts.next()?.parse().ok()?,
            },
        })
    }
}

/// A record of the stream of blobs.
pub(super) enum BlobRecord {
    Mark,
    Head(Of, Head),
    Gone(Of),
    Part { of: Of, make: u64, index: u32 },
}

/// A blob as it was announced, less the readers who have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) size: u64,
    /// Drawn at each announcement, and named by each part: what is left of a deleted blob never becomes a part of another.
    pub(super) make: u64,
    pub(super) readers: Vec<ReaderHash>,
    /// Of all readers that were announced.
    pub(super) digest: [u8; 32],
    /// When it was announced, by the servers' clock, if this is not the first record of it.
    pub(super) at: Option<u64>,
}

impl Head {
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(BYTES, self.size.to_string());
        headers.insert(MAKE, format!("{:016x}", self.make));
        headers.insert(READERS, hex(self.readers.as_flattened()));
        headers.insert(DIGEST, hex(&self.digest));
        if let Some(at) = self.at {
            headers.insert(AT, at.to_string());
        }
        headers
    }

    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let readers = unhex(text(headers, READERS)?)?;
        let (readers, rest) = readers.as_chunks::<32>();
        let good = rest.is_empty() && (1..=BLOB_READERS).contains(&readers.len());
        good.then_some(())?;
        Some(Self {
            size: number(headers, BYTES)?,
            make: u64::from_str_radix(text(headers, MAKE)?, 16).ok()?,
            readers: readers.to_vec(),
            digest: unhex(text(headers, DIGEST)?)?.try_into().ok()?,
            at: number(headers, AT),
        })
    }

    /// Whether its time is over; `written` is when its record was, by the servers' clock.
    pub(super) fn is_expired(&self, written: u64, now: u64, limits: &Limits) -> bool {
        now >= self.ends(written, limits)
    }

    pub(super) fn ends(&self, written: u64, limits: &Limits) -> u64 {
        self.at.unwrap_or(written).saturating_add(limits.blob_ms())
    }
}

/// A blob that a node knows.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) size: u64,
    pub(super) make: u64,
    pub(super) readers: Vec<ReaderHash>,
    pub(super) digest: [u8; 32],
    /// When its time is over, by the servers' clock.
    pub(super) ends: u64,
    /// Parts that are there.
    pub(super) parts: u32,
}

impl Known {
    pub(super) fn state(&self, now: u64) -> BlobState {
        BlobState {
            size: self.size,
            parts: self.parts,
            expires_in_ms: self.ends.saturating_sub(now),
        }
    }
}

/// All blobs.
#[derive(Default)]
pub(super) struct BlobView {
    heads: BTreeMap<Of, Known>,
    /// Numbers of the records of parts: of those of a make that no head names, too.
    parts: BTreeMap<Make, BTreeMap<u32, u64>>,
    readers: HashMap<(BlobId, ReaderHash), BTreeSet<AccountId>>,
    bytes: u64,
}

impl BlobView {
    /// Takes a record.
    pub(super) fn apply(&mut self, at: u64, time: u64, record: BlobRecord, limits: &Limits) {
        match record {
            BlobRecord::Mark => {}
            BlobRecord::Gone(of) => self.remove(of),
            BlobRecord::Head(of, head) => {
                self.remove(of);
                let (account, blob) = of;
                for reader in &head.readers {
                    let readers = self.readers.entry((blob, *reader)).or_default();
                    readers.insert(account);
                }
                self.bytes = self.bytes.saturating_add(head.size);
                let known = Known {
                    size: head.size,
                    make: head.make,
                    ends: head.ends(time, limits),
                    readers: head.readers,
                    digest: head.digest,
                    parts: 0,
                };
                self.heads.insert(of, known);
                self.count(of, head.make);
            }
            BlobRecord::Part { of, make, index } => {
                let parts = self.parts.entry((of, make)).or_default();
                parts.insert(index, at);
                self.count(of, make);
            }
        }
    }

    /// Counts the parts that are there from the first on, as far as there is no gap.
    fn count(&mut self, of: Of, make: u64) {
        let parts = self.parts.get(&(of, make));
        if let Some(known) = self.heads.get_mut(&of)
            && known.make == make
            && let Some(parts) = parts
        {
            while parts.contains_key(&known.parts) {
                known.parts += 1;
            }
        }
    }

    /// Forgets a blob, but not its parts.
    pub(super) fn remove(&mut self, of: Of) {
        let Some(known) = self.heads.remove(&of) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(known.size);
        let (account, blob) = of;
        for reader in known.readers {
            if let Some(accounts) = self.readers.get_mut(&(blob, reader)) {
                accounts.remove(&account);
                if accounts.is_empty() {
                    self.readers.remove(&(blob, reader));
                }
            }
        }
    }

    /// Forgets parts whose records were deleted.
    pub(super) fn drop_parts(&mut self, of: Of, make: u64) {
        self.parts.remove(&(of, make));
        if let Some(known) = self.heads.get_mut(&of)
            && known.make == make
        {
            known.parts = 0;
        }
    }

    /// Forgets an account with all its blobs.
    pub(super) fn forget(&mut self, account: AccountId) {
        for (of, _) in self.all_of(account) {
            self.remove(of);
        }
        self.parts.retain(|((of, _), _), _| *of != account);
    }

    pub(super) fn get(&self, of: Of, now: u64) -> Option<&Known> {
        self.heads.get(&of).filter(|known| known.ends > now)
    }

    /// The blob that a token opens. Two owners may have given one the same id and token: then the same of them at all nodes.
    pub(super) fn find(&self, key: &BlobKey, now: u64) -> Option<(Of, &Known)> {
        let accounts = self.readers.get(&(key.blob, key.reader))?;
        accounts.iter().find_map(|account| {
            let of = (*account, key.blob);
            Some((of, self.get(of, now)?))
        })
    }

    /// The number of the record of a part.
    pub(super) fn part(&self, of: Of, make: u64, index: u32) -> Option<u64> {
        self.parts.get(&(of, make))?.get(&index).copied()
    }

    /// All blobs of an account.
    pub(super) fn all_of(&self, account: AccountId) -> Vec<(Of, Known)> {
        let range = (account, Bytes([0; 16]))..=(account, Bytes([0xff; 16]));
        let blobs = self.heads.range(range);
        blobs.map(|(of, known)| (*of, known.clone())).collect()
    }

    /// How many blobs an account has whose time is not over, and their bytes.
    pub(super) fn used(&self, account: AccountId, now: u64) -> (u64, u64) {
        let range = (account, Bytes([0; 16]))..=(account, Bytes([0xff; 16]));
        let blobs = self
            .heads
            .range(range)
            .filter(|(_, known)| known.ends > now);
        blobs.fold((0, 0), |(count, bytes), (_, known)| {
            (count + 1, known.size.saturating_add(bytes))
        })
    }

    /// Blobs, and their bytes as announced.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.heads.len() as u64, self.bytes)
    }

    /// Up to `count` blobs whose time is over, and makes of parts that no blob has.
    pub(super) fn stale(&self, now: u64, count: usize) -> (Vec<Make>, Vec<Make>) {
        let expired = self.heads.iter().filter(|(_, known)| known.ends <= now);
        let expired = expired.map(|(of, known)| (*of, known.make));
        let left = self.parts.keys().filter(|(of, make)| {
            let head = self.heads.get(of);
            head.is_none_or(|known| known.make != *make)
        });
        (
            expired.take(count).collect(),
            left.copied().take(count).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: AccountId = AccountId(7);

    fn head(make: u64, readers: &[ReaderHash]) -> Head {
        Head {
            size: 20_000,
            make,
            readers: readers.to_vec(),
            digest: [9; 32],
            at: None,
        }
    }

    #[test]
    fn records_come_back_and_what_is_not_ours_is_not_read() {
        let subjects = Subjects::new("hostchat");
        let of = (NOBODY, Bytes([3; 16]));
        let announced = head(5, &[[1; 32], [2; 32]]);
        let read = subjects.read_blob(&subjects.blob_head(of), &announced.headers());
        assert!(matches!(read, Some(BlobRecord::Head(o, head)) if o == of && head == announced));
        let none = HeaderMap::new();
        let read = subjects.read_blob(&subjects.blob_part(of, 5, 300), &none);
        assert!(matches!(
            read,
            Some(BlobRecord::Part { of: o, make: 5, index: 300 }) if o == of
        ));
        for wrong in [
            "hostchat.mail.7.x.head",
            "hostchat.blob.7.03.head",
            "hostchat.blob.7.03030303030303030303030303030303.head",
            "hostchat.blob.7.03030303030303030303030303030303.xyz.1",
            "hostchat.blob.7.03030303030303030303030303030303.05.-1",
            "hostchat.blob.7.03030303030303030303030303030303.05",
        ] {
            assert!(subjects.read_blob(wrong, &none).is_none(), "{wrong}");
        }
        let mut headers = announced.headers();
        headers.insert(READERS, "00".repeat(32 * 65));
        let subject = subjects.blob_head(of);
        assert!(subjects.read_blob(&subject, &headers).is_none());
    }

    #[test]
    fn parts_are_counted_before_and_after_the_head_and_only_those_of_its_make() {
        let limits = Limits::default();
        let of = (NOBODY, Bytes([3; 16]));
        let mut view = BlobView::default();
        let part = |make, index| BlobRecord::Part { of, make, index };
        // After a rewritten head the parts come first, and old ones may be left.
        view.apply(1, 10, part(4, 0), &limits);
        view.apply(2, 10, part(5, 0), &limits);
        view.apply(3, 10, part(5, 1), &limits);
        view.apply(4, 10, part(5, 3), &limits);
        let announced = head(5, &[[1; 32]]);
        view.apply(5, 10, BlobRecord::Head(of, announced), &limits);
        assert_eq!(view.get(of, 10).map(|known| known.parts), Some(2));
        view.apply(6, 10, part(5, 2), &limits);
        assert_eq!(view.get(of, 10).map(|known| known.parts), Some(4));
        assert_eq!(view.stale(10, 9), (vec![], vec![(of, 4)]));
        assert_eq!(view.used(NOBODY, 10), (1, 20_000));

        let over = 10 + limits.blob_ms();
        assert!(view.get(of, over - 1).is_some() && view.get(of, over).is_none());
        assert_eq!(view.used(NOBODY, over), (0, 0));
        assert_eq!(view.stale(over, 9).0, [(of, 5)]);
        let key = BlobKey {
            blob: of.1,
            reader: [1; 32],
        };
        assert!(view.find(&key, 10).is_some());
        view.apply(7, 10, BlobRecord::Gone(of), &limits);
        assert!(view.find(&key, 10).is_none() && view.readers.is_empty());
        assert_eq!(view.sums(), (0, 0));
        assert_eq!(view.stale(10, 9).1, [(of, 4), (of, 5)]);
        view.forget(NOBODY);
        assert!(view.parts.is_empty());
    }
}
