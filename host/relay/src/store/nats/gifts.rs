//! What is given away once: one-time prekeys, uses of invitations. Whoever replaces the record has it.

use bytes::Bytes;
use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::relay::PREKEY_STOCK;
use hostchat_core::wire::{Name, Prekey, PrekeyBundle, PrekeyKind, PrekeyRef, codec};

use super::super::ops::{self, MAX_PREKEY};
use super::super::{AccountId, PrekeyList, PutPrekey, StoreError, Taken};
use super::desk::Kept;
use super::node::{Node, TRIES, contended};
use super::record::{self, OneTimeState};
use super::stock::OneTime;

impl Node {
    pub(super) async fn put_prekey(
        &self,
        account: AccountId,
        prekey: &Prekey,
    ) -> Result<PutPrekey, StoreError> {
        if self
            .look(|book| book.name(account).cloned())
            .await?
            .is_none()
        {
            return Ok(PutPrekey::UnknownName);
        }
        let mut buf = [0; MAX_PREKEY];
        let body = codec::encode(prekey, &mut buf).map_err(|e| StoreError::Other(e.to_string()))?;
        let body = Bytes::copy_from_slice(body);
        let subjects = &self.link.subjects;
        match prekey.kind {
            PrekeyKind::OneTime => self.put_one_time(account, prekey, body).await,
            PrekeyKind::LastResort => {
                for _ in 0..TRIES {
                    let revision = self
                        .book()
                        .last_resort(account)
                        .map_or(0, |last| last.revision);
                    let headers = record::last_resort_headers(prekey.id, prekey.issued);
                    let subject = subjects.last_resort(account);
                    if self
                        .write_book(subject, headers, body.clone(), revision)
                        .await?
                    {
                        return Ok(PutPrekey::Done);
                    }
                    self.book.catch_up().await?;
                }
                Err(contended())
            }
        }
    }

    async fn put_one_time(
        &self,
        account: AccountId,
        prekey: &Prekey,
        body: Bytes,
    ) -> Result<PutPrekey, StoreError> {
        let subject = self.link.subjects.one_time(account, prekey.id);
        for _ in 0..TRIES {
            let (there, left) = {
                let book = self.book();
                let left = book.stock(account).one_time;
                (book.one_time(account, prekey.id), u32::from(left))
            };
            if let Some(there) = there
                && self.is_same(&subject, prekey, there).await?
            {
                return Ok(PutPrekey::Done);
            }
            // Another key with this id: the token went back in time, and has given it again.
            let replaces = there.is_some_and(|there| there.state == OneTimeState::Unused);
            if !replaces && left >= self.limits.prekey_stock() {
                return Ok(PutPrekey::TooMany);
            }
            let headers = record::one_time_headers(prekey.issued);
            let revision = there.map_or(0, |there| there.revision);
            let written = self.write_book(subject.clone(), headers, body.clone(), revision);
            if written.await? {
                return Ok(PutPrekey::Done);
            }
            self.book.catch_up().await?;
        }
        Err(contended())
    }

    /// Whether a one-time prekey is the one that is known by its id.
    async fn is_same(
        &self,
        subject: &str,
        prekey: &Prekey,
        there: OneTime,
    ) -> Result<bool, StoreError> {
        Ok(match there.state {
            OneTimeState::Dropped => false,
            OneTimeState::Given => ops::is_same(prekey, there.issued.unwrap_or(0), true),
            OneTimeState::Unused => self.issued(subject, there).await? == Some(prekey.issued),
        })
    }

    /// When a one-time prekey that lies here was issued; `None` if it does not any more.
    async fn issued(&self, subject: &str, key: OneTime) -> Result<Option<u64>, StoreError> {
        if key.issued.is_some() {
            return Ok(key.issued);
        }
        let prekey = self.prekey(subject, key.revision).await?;
        Ok(prekey.map(|prekey| prekey.issued))
    }

    /// Which prekeys of an account lie here, also those put at other nodes just now.
    pub(super) async fn prekeys(&self, account: AccountId) -> Result<PrekeyList, StoreError> {
        self.book.catch_up().await?;
        let (unused, last) = {
            let book = self.book();
            let unused: Vec<_> = book.unused(account).take(PREKEY_STOCK).collect();
            (unused, book.last_resort(account))
        };
        let mut one_time = Vec::with_capacity(unused.len());
        for (id, key) in unused {
            let subject = self.link.subjects.one_time(account, id);
            let issued = self.issued(&subject, key).await?;
            one_time.extend(issued.map(|issued| PrekeyRef { id, issued }));
        }
        Ok(PrekeyList {
            one_time,
            last_resort: last.map(|last| PrekeyRef {
                id: last.id,
                issued: last.issued,
            }),
        })
    }

    /// Deletes the one-time prekeys that nobody has, each by a record in its place, so that no node gives one afterwards.
    pub(super) async fn drop_prekeys(&self, account: AccountId) -> Result<(), StoreError> {
        self.book.catch_up().await?;
        let unused: Vec<_> = self.book().unused(account).collect();
        for (id, key) in unused {
            let subject = self.link.subjects.one_time(account, id);
            // Lost means that somebody has it by now, or that its owner has just put another one there at another node.
            self.write_book(
                subject,
                record::dropped_headers(),
                Bytes::new(),
                key.revision,
            )
            .await?;
        }
        Ok(())
    }

    pub(super) async fn take_prekeys(
        &self,
        name: &Name,
        taker: &str,
        one_time: bool,
    ) -> Result<Taken, StoreError> {
        let Some(account) = self.account(name).await? else {
            return Ok(Taken::UnknownName);
        };
        if self.book().is_blocked(account.id, taker) {
            return Ok(Taken::Blocked);
        }
        for _ in 0..TRIES {
            let last = self.look(|book| book.last_resort(account.id)).await?;
            let Some(last) = last else {
                return Ok(Taken::NoPrekeys);
            };
            let Some(last_resort) = self
                .prekey(&self.link.subjects.last_resort(account.id), last.revision)
                .await?
            else {
                // Replaced meanwhile.
                self.book.catch_up().await?;
                continue;
            };
            let one_time = if one_time {
                self.take_one(account.id).await?
            } else {
                None
            };
            return Ok(Taken::Bundle(Box::new(PrekeyBundle {
                identity: account.identity,
                last_resort,
                one_time,
            })));
        }
        Err(contended())
    }

    /// Takes a one-time prekey: whoever replaces its record has it.
    async fn take_one(&self, account: AccountId) -> Result<Option<Prekey>, StoreError> {
        let mut after = None;
        loop {
            let is_next = |(id, _): &(u32, OneTime)| after.is_none_or(|after| *id > after);
            let next = self.book().unused(account).find(is_next);
            let Some((id, OneTime { revision, .. })) = next else {
                return Ok(None);
            };
            after = Some(id);
            let subject = self.link.subjects.one_time(account, id);
            let Some(prekey) = self.prekey(&subject, revision).await? else {
                continue;
            };
            let headers = record::given_headers(id, prekey.issued);
            if self
                .write_book(subject, headers, Bytes::new(), revision)
                .await?
            {
                return Ok(Some(prekey));
            }
        }
    }

    /// A prekey by the revision of its record, if that is still there.
    pub(super) async fn prekey(
        &self,
        subject: &str,
        revision: u64,
    ) -> Result<Option<Prekey>, StoreError> {
        let Some(body) = self.link.body(subject, revision).await? else {
            return Ok(None);
        };
        let prekey = codec::decode(&body);
        prekey
            .map(Some)
            .map_err(|error| StoreError::Damaged(error.to_string()))
    }

    /// Changes how often an invitation may still be used; `false` if it may not.
    pub(super) async fn charge(
        &self,
        invitation: &[u8],
        change: impl Fn(u32) -> Option<u32>,
    ) -> Result<bool, StoreError> {
        let hash = record::hex(&sha256(&[invitation]));
        for _ in 0..TRIES {
            let Some(entry) = self.book().invitation(&hash) else {
                return Ok(false);
            };
            // One that is given back may have ended meanwhile.
            let Some(uses) = change(entry.kept.uses) else {
                return Ok(false);
            };
            if uses < entry.kept.uses && !entry.kept.is_usable(self.now_ms()) {
                return Ok(false);
            }
            let headers = Kept { uses, ..entry.kept }.headers();
            let subject = self.link.subjects.invitation(&hash);
            if self
                .write_book(subject, headers, Bytes::new(), entry.revision)
                .await?
            {
                return Ok(true);
            }
            self.book.catch_up().await?;
        }
        Err(contended())
    }

    pub(super) async fn withdraw(&self, id: &str) -> Result<bool, StoreError> {
        if id.len() != 12 {
            return Ok(false);
        }
        self.book.catch_up().await?;
        let mut any = false;
        for _ in 0..TRIES {
            let found = self.book().invitations_with(id, self.now_ms());
            if found.is_empty() {
                return Ok(any);
            }
            for (hash, entry) in found {
                let subject = self.link.subjects.invitation(&hash);
                let headers = record::gone_headers(0);
                let done = self.write_book(subject, headers, Bytes::new(), entry.revision);
                any |= done.await?;
            }
            self.book.catch_up().await?;
        }
        Err(contended())
    }
}
