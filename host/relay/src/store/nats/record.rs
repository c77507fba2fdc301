//! What lies under which subject, and how: metadata in headers, so that a node reads it without the bodies.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use async_nats::HeaderMap;
use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Address, Bytes, Generation, IdentityClaim, MessageId, Name};

use super::super::{AccountId, NewMessage, StoreError, block, ops};
use super::desk;

/// On a record that stands for something deleted; its value is what was deleted, where that matters.
const GONE: &str = "Gone";
const FROM: &str = "From";
pub(super) const KIND: &str = "Kind";
const GUEST: &str = "Guest";
/// Of the identity that the sender of a message proved; not there on what earlier versions wrote.
const FINGERPRINT: &str = "Fingerprint";
pub(super) const AT: &str = "At";
const ID: &str = "Id";
const IDENTITY: &str = "Identity";
const VISIBLE: &str = "Visible";
const ISSUED: &str = "Issued";
const BLOCKED: &str = "Blocked";
const NUMBER: &str = "Number";
const RANDOM: &str = "Random";
/// Value of [`GONE`] on the record of a one-time prekey that its owner deleted before anybody had it.
const DROPPED: &str = "dropped";
/// Set by the server where it leaves out the body.
const SIZE: &str = "Nats-Msg-Size";

/// Makes subjects of one relay.
#[derive(Clone)]
pub(super) struct Subjects {
    /// Before every subject of a message.
    mail: String,
    /// Before every key.
    book: String,
    /// Before every subject of a blob; see `blob_view`.
    pub(super) blob: String,
    /// Before every entry of the log.
    log: String,
}

impl Subjects {
    pub(super) fn new(name: &str) -> Self {
        Self {
            mail: format!("{name}.mail."),
            book: format!("$KV.{name}-book."),
            blob: format!("{name}.blob."),
            log: format!("{name}.log."),
        }
    }

    /// Everything of one stream.
    pub(super) fn all_mail(&self) -> String {
        format!("{}>", self.mail)
    }

    pub(super) fn all_book(&self) -> String {
        format!("{}>", self.book)
    }

    pub(super) fn all_log(&self) -> String {
        format!("{}>", self.log)
    }

    pub(super) fn is_log(&self, subject: &str) -> bool {
        subject.starts_with(&self.log)
    }

    /// Of an entry of the log, or of all with any sender or receiver.
    pub(super) fn log_entry(
        &self,
        sender: Option<&str>,
        receiver: Option<&str>,
        key: &str,
    ) -> String {
        let part = |who: Option<&str>| who.map_or("*".to_owned(), token);
        format!("{}{}.{}.{key}", self.log, part(sender), part(receiver))
    }

    /// Sender and receiver of an entry of the log.
    pub(super) fn read_log(&self, subject: &str) -> Option<(String, String)> {
        let mut parts = subject.strip_prefix(&self.log)?.split('.');
        let who = (untoken(parts.next()?)?, untoken(parts.next()?)?);
        parts.next().map(|_| who)
    }

    pub(super) fn is_mail(&self, subject: &str) -> bool {
        subject.starts_with(&self.mail)
    }

    /// Where marks are written; one replaces the other.
    pub(super) fn mail_mark(&self) -> String {
        format!("{}mark", self.mail)
    }

    pub(super) fn book_mark(&self) -> String {
        format!("{}mark", self.book)
    }

    pub(super) fn mailbox(&self, account: AccountId) -> String {
        format!("{}{}.>", self.mail, account.0)
    }

    pub(super) fn message(&self, account: AccountId, sender_key: &str, id: &MessageId) -> String {
        let (mail, sender) = (&self.mail, token(sender_key));
        format!("{mail}{}.{sender}.{}", account.0, hex(&id.0))
    }

    pub(super) fn account(&self, name: &Name) -> String {
        format!("{}account.{}", self.book, token(name.as_str()))
    }

    pub(super) fn one_time(&self, account: AccountId, id: u32) -> String {
        format!("{}prekey.{}.{id}", self.book, account.0)
    }

    pub(super) fn last_resort(&self, account: AccountId) -> String {
        format!("{}prekey.{}.last", self.book, account.0)
    }

    pub(super) fn prekeys(&self, account: AccountId) -> String {
        format!("{}prekey.{}.>", self.book, account.0)
    }

    pub(super) fn blocks(&self, account: AccountId) -> String {
        format!("{}block.{}", self.book, account.0)
    }

    pub(super) fn generation(&self, account: AccountId) -> String {
        format!("{}generation.{}", self.book, account.0)
    }

    pub(super) fn invitation(&self, hash: &str) -> String {
        format!("{}invitation.{hash}", self.book)
    }

    /// What a record of the mail stream says.
    pub(super) fn read_mail(&self, subject: &str, headers: &HeaderMap) -> Option<Mail> {
        let mut parts = subject.strip_prefix(&self.mail)?.split('.');
        let account = match parts.next()? {
            "mark" => return Some(Mail::Mark),
            account => AccountId(account.parse().ok()?),
        };
        let sender_key = untoken(parts.next()?)?;
        let id = MessageId::from(<[u8; 16]>::try_from(unhex(parts.next()?)?).ok()?);
        if is_gone(headers) {
            return Some(Mail::Gone {
                account,
                sender_key,
                id,
            });
        }
        Some(Mail::Message {
            account,
            sender_key,
            id,
            sender: Address::parse(text(headers, FROM)?).ok()?,
            kind: ops::kind_from(number(headers, KIND)?),
            guest: text(headers, GUEST).is_some(),
            fingerprint: read_fingerprint(headers),
            at: number(headers, AT),
            size: number(headers, SIZE),
        })
    }

    /// What a record of the book says.
    pub(super) fn read_book(&self, subject: &str, headers: &HeaderMap) -> Option<Book> {
        let mut parts = subject.strip_prefix(&self.book)?.split('.');
        let gone = is_gone(headers);
        Some(match parts.next()? {
            "mark" => Book::Mark,
            "account" => {
                let name = Name::parse(&untoken(parts.next()?)?).ok()?;
                let account = match number(headers, GONE) {
                    Some(id) => Err(AccountId(id)),
                    None => Ok(read_account(headers)?),
                };
                Book::Account { name, account }
            }
            "prekey" => {
                let account = AccountId(parts.next()?.parse().ok()?);
                match parts.next()? {
                    "last" => Book::LastResort {
                        account,
                        id: number(headers, ID)?,
                        issued: number(headers, ISSUED)?,
                    },
                    id => Book::OneTime {
                        account,
                        id: id.parse().ok()?,
                        issued: number(headers, ISSUED),
                        state: match text(headers, GONE) {
                            None => OneTimeState::Unused,
                            Some(DROPPED) => OneTimeState::Dropped,
                            Some(_) => OneTimeState::Given,
                        },
                    },
                }
            }
            "block" => Book::Blocks {
                account: AccountId(parts.next()?.parse().ok()?),
                senders: if gone {
                    BTreeSet::new()
                } else {
                    read_blocks(headers)?
                },
            },
            "generation" => Book::Generation {
                account: AccountId(parts.next()?.parse().ok()?),
                there: read_generation(headers)?,
            },
            "invitation" => Book::Invitation {
                hash: parts.next()?.to_owned(),
                invitation: desk::read_invitation(headers)?,
            },
            _ => return None,
        })
    }
}

/// A record of the mail stream.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, between the stream and the view"
)]
pub(super) enum Mail {
    Mark,
    Message {
        account: AccountId,
        sender_key: String,
        id: MessageId,
        sender: Address,
        kind: Kind,
        guest: bool,
        /// Of the identity that the sender proved, if that is known.
        fingerprint: Option<[u8; 32]>,
        /// Wall time of the storing, if it was elsewhere.
        at: Option<u64>,
        /// Of the body, where the server left it out.
        size: Option<u64>,
    },
    Gone {
        account: AccountId,
        sender_key: String,
        id: MessageId,
    },
}

/// A record of the book.
pub(super) enum Book {
    Mark,
    Account {
        name: Name,
        /// Or which was deleted.
        account: Result<AccountRecord, AccountId>,
    },
    OneTime {
        account: AccountId,
        id: u32,
        /// As in the prekey; not there on what earlier versions wrote.
        issued: Option<u64>,
        state: OneTimeState,
    },
    LastResort {
        account: AccountId,
        id: u32,
        issued: u64,
    },
    Blocks {
        account: AccountId,
        /// All of them; none where the last one was taken off.
        senders: BTreeSet<String>,
    },
    Generation {
        account: AccountId,
        there: Generation,
    },
    Invitation {
        hash: String,
        invitation: desk::Kept,
    },
}

/// What became of a one-time prekey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OneTimeState {
    /// Nobody has it.
    Unused,
    /// Somebody has it: it does not come back.
    Given,
    /// Its owner deleted it, and may leave it again.
    Dropped,
}

/// An account as it is kept.
#[derive(Clone)]
pub(super) struct AccountRecord {
    pub(super) id: AccountId,
    pub(super) identity: IdentityClaim,
    pub(super) visible: bool,
    /// Wall time, milliseconds since 1970.
    pub(super) registered_at: u64,
    pub(super) desk: desk::Marks,
}

impl AccountRecord {
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ID, self.id.0.to_string());
        headers.insert(IDENTITY, hex(&ops::identity_bytes(&self.identity)));
        headers.insert(VISIBLE, u8::from(self.visible).to_string());
        headers.insert(AT, self.registered_at.to_string());
        self.desk.write(&mut headers);
        headers
    }
}

fn read_account(headers: &HeaderMap) -> Option<AccountRecord> {
    let identity = <[u8; 128]>::try_from(unhex(text(headers, IDENTITY)?)?).ok()?;
    Some(AccountRecord {
        id: AccountId(number(headers, ID)?),
        identity: ops::identity_from(&identity),
        visible: text(headers, VISIBLE)? == "1",
        registered_at: number(headers, AT)?,
        desk: desk::Marks::read(headers),
    })
}

fn read_blocks(headers: &HeaderMap) -> Option<BTreeSet<String>> {
    let senders = text(headers, BLOCKED)?.split(',');
    senders
        .map(|sender| block::is_sender(sender).then(|| sender.to_owned()))
        .collect()
}

/// Headers of a block list: no sender has a comma.
pub(super) fn blocks_headers(senders: &BTreeSet<String>) -> HeaderMap {
    if senders.is_empty() {
        return gone_headers(0);
    }
    let list: Vec<&str> = senders.iter().map(String::as_str).collect();
    let mut headers = HeaderMap::new();
    headers.insert(BLOCKED, list.join(","));
    headers
}

/// Headers of a message; `at` where it was stored elsewhere before.
pub(super) fn message_headers(new: &NewMessage, at: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(FROM, new.sender.as_str());
    headers.insert(KIND, ops::kind_number(new.kind).to_string());
    if new.guest {
        headers.insert(GUEST, "1");
    }
    if let Some(fingerprint) = &new.fingerprint {
        headers.insert(FINGERPRINT, hex(&fingerprint.0));
    }
    if let Some(at) = at {
        headers.insert(AT, at.to_string());
    }
    headers
}

/// What cannot be read is as good as nothing: the message stays.
fn read_fingerprint(headers: &HeaderMap) -> Option<[u8; 32]> {
    unhex(text(headers, FINGERPRINT)?)?.try_into().ok()
}

/// Whether a record stands for something deleted.
pub(super) fn is_gone(headers: &HeaderMap) -> bool {
    text(headers, GONE).is_some()
}

pub(super) fn gone_headers(what: impl ToString) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(GONE, what.to_string());
    headers
}

pub(super) fn one_time_headers(issued: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ISSUED, issued.to_string());
    headers
}

/// Headers of a one-time prekey that somebody has; `issued` is 0 where that is not known.
pub(super) fn given_headers(id: u32, issued: u64) -> HeaderMap {
    let mut headers = gone_headers(id);
    headers.insert(ISSUED, issued.to_string());
    headers
}

pub(super) fn dropped_headers() -> HeaderMap {
    gone_headers(DROPPED)
}

pub(super) fn last_resort_headers(id: u32, issued: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ID, id.to_string());
    headers.insert(ISSUED, issued.to_string());
    headers
}

pub(super) fn generation_headers(generation: &Generation) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NUMBER, generation.number.to_string());
    headers.insert(RANDOM, hex(&generation.random.0));
    headers
}

fn read_generation(headers: &HeaderMap) -> Option<Generation> {
    let random = <[u8; 16]>::try_from(unhex(text(headers, RANDOM)?)?).ok()?;
    Some(Generation {
        number: number(headers, NUMBER).filter(|number| *number != 0)?,
        random: Bytes(random),
    })
}

pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}

pub(super) fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    text(headers, name)?.parse().ok()
}

/// A part of a subject: whatever has a meaning there, and `X` itself, becomes `X` and two digits. Nothing collides, and
/// nothing that a user chose reaches another subject.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => token.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(token, "X{byte:02X}");
            }
        }
    }
    token
}

fn untoken(token: &str) -> Option<String> {
    let mut parts = token.split('X');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digits = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The name of a relay's streams: it becomes a part of subjects and of names of streams.
pub(super) fn check_name(name: &str) -> Result<(), StoreError> {
    let good = (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good {
        Ok(())
    } else {
        Err(StoreError::Other(format!(
            "{name:?} in [nats] is not 1 to 32 of a-z, 0-9 and -"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_safe_in_subjects_distinct_and_come_back() {
        let texts = [
            "alice",
            "a.b",
            "a-b",
            "bob@relay.example:7443",
            "bob@[::1]:7",
            "aX2Eb",
            "*",
            ">",
            "ü\r\n x",
            "",
        ];
        let mut seen = BTreeSet::new();
        for text in texts {
            let token = token(text);
            let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            assert!(token.bytes().all(safe), "{token}");
            assert_eq!(untoken(&token).as_deref(), Some(text));
            assert!(seen.insert(token), "{text}");
        }
        for wrong in ["X", "X2", "aXzz", "XFF"] {
            assert_eq!(untoken(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let subjects = Subjects::new("hostchat");
        let headers = HeaderMap::new();
        for wrong in [
            "other.mail.1.alice.00",
            "hostchat.mail.x.alice.00",
            "hostchat.mail.1",
            "hostchat.mail.1.alice.00112233445566778899aabbccddeeff",
        ] {
            assert!(subjects.read_mail(wrong, &headers).is_none(), "{wrong}");
        }
        for wrong in [
            "$KV.hostchat-book.x",
            "$KV.hostchat-book.account.alice",
            "$KV.hostchat-book.block.1",
        ] {
            assert!(subjects.read_book(wrong, &headers).is_none(), "{wrong}");
        }
        for wrong in ["", "alice,", "alice, bob", "a@b@h:1", "alice\u{e9}"] {
            let mut headers = HeaderMap::new();
            headers.insert(BLOCKED, wrong);
            let read = subjects.read_book("$KV.hostchat-book.block.1", &headers);
            assert!(read.is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_fingerprint_that_is_missing_or_spoilt_costs_no_message() {
        let subjects = Subjects::new("hostchat");
        let subject = "hostchat.mail.7.alice.00112233445566778899aabbccddeeff";
        let spoilt = "x".repeat(64);
        for (text, read) in [
            (Some("5a".repeat(32)), Some([0x5a; 32])),
            (Some("5a".repeat(31)), None),
            (Some(spoilt), None),
            (None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(FROM, "alice@relay.example:7443");
            headers.insert(KIND, "0");
            if let Some(text) = text {
                headers.insert(FINGERPRINT, text);
            }
            let mail = subjects.read_mail(subject, &headers);
            assert!(matches!(mail, Some(Mail::Message { fingerprint, .. }) if fingerprint == read));
        }
    }

    #[test]
    fn block_lists_come_back() {
        let subjects = Subjects::new("hostchat");
        let all = ["alice.b", "bob@[::1]:7", "carol@relay.example:7443"];
        for count in 0..=all.len() {
            let list: BTreeSet<String> = all.iter().take(count).map(|s| (*s).to_owned()).collect();
            let subject = subjects.blocks(AccountId(7));
            let read = subjects.read_book(&subject, &blocks_headers(&list));
            assert!(matches!(
                read,
                Some(Book::Blocks { account: AccountId(7), senders }) if senders == list
            ));
        }
    }
}
