//! What is given away once: one-time prekeys, uses of invitations. Whoever replaces the record has it.

use async_nats::HeaderMap;
use bytes::Bytes;
use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::{Name, Prekey, PrekeyBundle, PrekeyKind, codec};

use super::super::ops::MAX_PREKEY;
use super::super::{AccountId, Invited, PutPrekey, StoreError, Taken};
use super::node::{Node, TRIES, contended};
use super::record;

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
            PrekeyKind::OneTime => {
                let (known, left) = {
                    let book = self.book();
                    (
                        book.is_known(account, prekey.id),
                        book.stock(account).one_time,
                    )
                };
                if known {
                    return Ok(PutPrekey::Done);
                }
                if u32::from(left) >= self.limits.one_time_prekeys {
                    return Ok(PutPrekey::TooMany);
                }
                let subject = subjects.one_time(account, prekey.id);
                // Lost means that it is known already, perhaps as given.
                self.write_book(subject, HeaderMap::new(), body, 0).await?;
                Ok(PutPrekey::Done)
            }
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
            let Some((id, revision)) = self.book().one_time(account, after) else {
                return Ok(None);
            };
            after = Some(id);
            let subject = self.link.subjects.one_time(account, id);
            let Some(prekey) = self.prekey(&subject, revision).await? else {
                continue;
            };
            let headers = record::gone_headers(id);
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
            let Some(uses) = change(entry.uses) else {
                return Ok(false);
            };
            let headers = record::invitation_headers(uses, entry.created_at);
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

    /// Keeps an invitation that may be used `uses` times, unless `most` can still be used.
    pub(super) async fn invite(
        &self,
        invitation: &[u8],
        uses: u32,
        most: usize,
    ) -> Result<Invited, StoreError> {
        if self.book().invitations().len() >= most {
            return Ok(Invited::TooMany);
        }
        let hash = record::hex(&sha256(&[invitation]));
        self.keep_invitation(&hash, uses, self.clock.wall_ms())
            .await?;
        Ok(Invited::Done)
    }

    pub(super) async fn keep_invitation(
        &self,
        hash: &str,
        uses: u32,
        created_at: u64,
    ) -> Result<(), StoreError> {
        let headers = record::invitation_headers(uses, created_at);
        let subject = self.link.subjects.invitation(hash);
        self.write_book(subject, headers, Bytes::new(), 0).await?;
        Ok(())
    }

    pub(super) async fn withdraw(&self, id: &str) -> Result<bool, StoreError> {
        if id.len() != 12 {
            return Ok(false);
        }
        self.book.catch_up().await?;
        let mut any = false;
        for _ in 0..TRIES {
            let found = self.book().invitations_with(id);
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
