//! What the operator decides and sees, in records that others write too: suspended accounts, the last day that somebody
//! was seen, invitations with a note and an end.

use async_nats::HeaderMap;
use bytes::Bytes;
use hostchat_core::crypto::hash::sha256;

use super::super::log::{Logged, OPERATOR};
use super::super::{AccountId, Invited, NewInvitation, StoreError};
use super::node::Node;
use super::record::{self, AT, is_gone, number, text};

const USES: &str = "Uses";
/// Hexadecimal digits of the UTF-8 of a note; not there for none.
const NOTE: &str = "Note";
/// When an invitation ends, by the servers' clock, milliseconds since 1970; not there for never.
const EXPIRES: &str = "Expires";
const SUSPENDED: &str = "Suspended";
const SEEN: &str = "Seen";

/// Of an account, beside what its owner decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) suspended: bool,
    /// Days since 1970.
    pub(super) seen_day: Option<u32>,
}

impl Marks {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        Self {
            suspended: text(headers, SUSPENDED).is_some(),
            seen_day: number(headers, SEEN),
        }
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if self.suspended {
            headers.insert(SUSPENDED, "1");
        }
        if let Some(day) = self.seen_day {
            headers.insert(SEEN, day.to_string());
        }
    }
}

/// An invitation as it is kept, under its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// 0 where it was withdrawn.
    pub(super) uses: u32,
    /// Wall time, milliseconds since 1970.
    pub(super) created_at: u64,
    pub(super) note: String,
    /// By the servers' clock, milliseconds since 1970.
    pub(super) expires_at: Option<u64>,
}

impl Kept {
    pub(super) fn is_usable(&self, now: u64) -> bool {
        self.uses > 0 && self.expires_at.is_none_or(|end| end > now)
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(USES, self.uses.to_string());
        headers.insert(AT, self.created_at.to_string());
        if !self.note.is_empty() {
            headers.insert(NOTE, record::hex(self.note.as_bytes()));
        }
        if let Some(end) = self.expires_at {
            headers.insert(EXPIRES, end.to_string());
        }
        headers
    }
}

/// What cannot be read of a note is no note.
pub(super) fn read_invitation(headers: &HeaderMap) -> Option<Kept> {
    let note = text(headers, NOTE).and_then(record::unhex);
    Some(Kept {
        uses: if is_gone(headers) {
            0
        } else {
            number(headers, USES)?
        },
        created_at: number(headers, AT).unwrap_or(0),
        note: note
            .and_then(|note| String::from_utf8(note).ok())
            .unwrap_or_default(),
        expires_at: number(headers, EXPIRES),
    })
}

impl Node {
    /// Keeps an invitation, unless `most` can still be used.
    pub(super) async fn invite(
        &self,
        new: &NewInvitation,
        most: usize,
    ) -> Result<Invited, StoreError> {
        let now = self.now_ms();
        if self.book().invitations(now).len() >= most {
            return Ok(Invited::TooMany);
        }
        let kept = Kept {
            uses: new.uses,
            created_at: self.clock.wall_ms(),
            note: new.note.clone(),
            expires_at: new.life_ms.map(|life| now.saturating_add(life)),
        };
        let hash = record::hex(&sha256(&[new.words.as_bytes()]));
        self.keep_invitation(&hash, &kept).await?;
        Ok(Invited::Done)
    }

    pub(super) async fn keep_invitation(&self, hash: &str, kept: &Kept) -> Result<(), StoreError> {
        let subject = self.link.subjects.invitation(hash);
        self.write_book(subject, kept.headers(), Bytes::new(), 0)
            .await?;
        Ok(())
    }

    /// Keeps whether an account is suspended, with an entry of the log where one is kept.
    pub(super) async fn suspend(
        &self,
        account: AccountId,
        suspended: bool,
    ) -> Result<(), StoreError> {
        let changed = self
            .change_account(account, |record| record.desk.suspended = suspended)
            .await?;
        let name = self.book().name(account).cloned();
        if let (true, true, Some(name)) = (changed, self.keeps_log(), name) {
            let kind = Logged::suspended(suspended);
            // One entry for each time.
            let key = format!("{}-{}", account.0, self.now_ms());
            self.log_entry(OPERATOR, name.as_str(), &key, kind, 0)
                .await?;
        }
        Ok(())
    }

    /// Keeps the last day on which an account was seen.
    pub(super) async fn saw(&self, account: AccountId, day: u32) -> Result<(), StoreError> {
        self.change_account(account, |record| {
            record.desk.seen_day = record.desk.seen_day.max(Some(day));
        })
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_keeps_comes_back() {
        for marks in [
            Marks::default(),
            Marks {
                suspended: true,
                seen_day: Some(20_000),
            },
        ] {
            let mut headers = HeaderMap::new();
            marks.write(&mut headers);
            assert_eq!(Marks::read(&headers), marks);
        }
        for (note, expires_at) in [("", None), ("für Zoë: \u{1f600}", Some(7))] {
            let kept = Kept {
                uses: 3,
                created_at: 5,
                note: note.to_owned(),
                expires_at,
            };
            assert_eq!(read_invitation(&kept.headers()), Some(kept.clone()));
            assert!(kept.is_usable(6) && kept.is_usable(7) == expires_at.is_none());
        }
        // Of an earlier version, and withdrawn.
        let mut headers = HeaderMap::new();
        headers.insert(USES, "2");
        assert_eq!(read_invitation(&headers).map(|kept| kept.uses), Some(2));
        let gone = read_invitation(&record::gone_headers(0));
        assert_eq!(gone.map(|kept| kept.uses), Some(0));
    }
}
