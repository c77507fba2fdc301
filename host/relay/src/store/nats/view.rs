//! What a node knows of the streams: rebuilt from their headers at each start, kept up by following them. No bodies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Address, Generation, MessageId, Name};

use super::super::usage::{Parcel, Usage};
use super::super::{Account, AccountId, AccountRow, Invitation, NewMessage, Stock};
use super::desk::Kept;
use super::record::{AccountRecord, Book, Mail};
use super::stock::{Copied, LastResort, OneTime, Prekeys};
use crate::limits::Limits;

/// A message that waits.
#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) sender: Address,
    pub(super) sender_key: String,
    pub(super) guest: bool,
    /// Of the identity that the sender proved, if that is known.
    pub(super) fingerprint: Option<[u8; 32]>,
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    /// Wall time of the storing, milliseconds since 1970.
    pub(super) stored_at: u64,
    /// When the stream took it, by the servers' clock, milliseconds since 1970; expiry counts from here.
    pub(super) arrived: u64,
    pub(super) message_id: MessageId,
}

impl Waiting {
    fn parcel(&self) -> Parcel<'_> {
        Parcel {
            kind: self.kind,
            bytes: self.bytes,
            sender: self.sender.as_str(),
            guest: self.guest,
            fingerprint: self.fingerprint,
        }
    }

    pub(super) fn is_expired(&self, now: u64, limits: &Limits) -> bool {
        let life = match self.kind {
            Kind::Pairing => limits.pairing_ms(),
            Kind::First | Kind::Message => limits.message_ms(),
        };
        now >= self.arrived.saturating_add(life)
    }
}

/// All mailboxes.
#[derive(Default)]
pub(super) struct MailView {
    boxes: HashMap<AccountId, Mailbox>,
    messages: u64,
    bytes: u64,
    /// Remembered ids of what is gone; kept only by who copies a whole store.
    pub(super) gone: Option<Vec<(AccountId, String, MessageId)>>,
}

#[derive(Default)]
struct Mailbox {
    messages: BTreeMap<u64, Waiting>,
    /// Their numbers by what names their records.
    numbers: HashMap<(String, [u8; 16]), u64>,
    usage: Usage,
}

impl MailView {
    pub(super) fn new(remember: bool) -> Self {
        Self {
            gone: remember.then(Vec::new),
            ..Self::default()
        }
    }

    /// Takes a record; returns the message if it is one.
    pub(super) fn apply(
        &mut self,
        number: u64,
        time: u64,
        body: u64,
        record: Mail,
    ) -> Option<(AccountId, Waiting)> {
        match record {
            Mail::Mark => None,
            Mail::Gone {
                account,
                sender_key,
                id,
            } => {
                self.remove_record(account, &sender_key, &id);
                if let Some(gone) = &mut self.gone {
                    gone.push((account, sender_key, id));
                }
                None
            }
            Mail::Message {
                account,
                sender_key,
                id,
                sender,
                kind,
                guest,
                fingerprint,
                at,
                size,
            } => {
                let waiting = Waiting {
                    sender,
                    sender_key,
                    guest,
                    fingerprint,
                    kind,
                    bytes: size.unwrap_or(body),
                    stored_at: at.unwrap_or(time),
                    arrived: time,
                    message_id: id,
                };
                self.remove_record(account, &waiting.sender_key, &id);
                let mailbox = self.boxes.entry(account).or_default();
                mailbox.usage.add(&waiting.parcel());
                let record = (waiting.sender_key.clone(), id.0);
                mailbox.numbers.insert(record, number);
                mailbox.messages.insert(number, waiting.clone());
                self.messages += 1;
                self.bytes += waiting.bytes;
                Some((account, waiting))
            }
        }
    }

    fn remove_record(&mut self, account: AccountId, sender_key: &str, id: &MessageId) {
        let mailbox = self.boxes.get(&account);
        let record = (sender_key.to_owned(), id.0);
        if let Some(number) = mailbox.and_then(|mailbox| mailbox.numbers.get(&record).copied()) {
            self.remove(account, number);
        }
    }

    pub(super) fn remove(&mut self, account: AccountId, number: u64) {
        let Some(mailbox) = self.boxes.get_mut(&account) else {
            return;
        };
        if let Some(waiting) = mailbox.messages.remove(&number) {
            mailbox.usage.remove(&waiting.parcel());
            self.messages -= 1;
            self.bytes -= waiting.bytes;
            let record = (waiting.sender_key, waiting.message_id.0);
            mailbox.numbers.remove(&record);
        }
        if mailbox.messages.is_empty() {
            self.boxes.remove(&account);
        }
    }

    pub(super) fn forget(&mut self, account: AccountId) {
        if let Some(mailbox) = self.boxes.remove(&account) {
            self.messages -= mailbox.messages.len() as u64;
            self.bytes -= mailbox.messages.values().map(|m| m.bytes).sum::<u64>();
        }
    }

    pub(super) fn get(&self, account: AccountId, number: u64) -> Option<&Waiting> {
        self.boxes.get(&account)?.messages.get(&number)
    }

    /// Up to `count` messages after `after` that have not expired.
    pub(super) fn page(
        &self,
        account: AccountId,
        after: u64,
        count: usize,
        now: u64,
        limits: &Limits,
    ) -> Vec<(u64, Waiting)> {
        let Some(mailbox) = self.boxes.get(&account) else {
            return Vec::new();
        };
        mailbox
            .messages
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, waiting)| !waiting.is_expired(now, limits))
            .take(count)
            .map(|(number, waiting)| (*number, waiting.clone()))
            .collect()
    }

    pub(super) fn is_full(&self, account: AccountId, new: &NewMessage, limits: &Limits) -> bool {
        let parcel = Parcel {
            kind: new.kind,
            bytes: new.body.len() as u64,
            sender: new.sender.as_str(),
            guest: new.guest,
            fingerprint: new.fingerprint.map(|f| f.0),
        };
        match self.boxes.get(&account) {
            Some(mailbox) => mailbox.usage.is_full(&parcel, limits),
            None => Usage::default().is_full(&parcel, limits),
        }
    }

    /// Messages that wait, and the bytes of their bodies.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.messages, self.bytes)
    }

    pub(super) fn sums_of(&self, account: AccountId) -> (u64, u64) {
        self.boxes.get(&account).map_or((0, 0), |mailbox| {
            let bytes = mailbox.messages.values().map(|m| m.bytes).sum();
            (mailbox.messages.len() as u64, bytes)
        })
    }

    /// Up to `count` messages that have expired.
    pub(super) fn expired(
        &self,
        count: usize,
        now: u64,
        limits: &Limits,
    ) -> Vec<(AccountId, u64, Waiting)> {
        let of_box = |(account, mailbox): (&AccountId, &Mailbox)| {
            let expired = mailbox.messages.iter();
            expired
                .filter(|(_, waiting)| waiting.is_expired(now, limits))
                .take(count)
                .map(|(number, waiting)| (*account, *number, waiting.clone()))
                .collect::<Vec<_>>()
        };
        self.boxes.iter().flat_map(of_box).take(count).collect()
    }
}

/// Accounts, prekeys, generations, invitations.
#[derive(Default)]
pub(super) struct BookView {
    accounts: BTreeMap<Name, Entry>,
    names: HashMap<AccountId, Name>,
    prekeys: HashMap<AccountId, Prekeys>,
    blocks: HashMap<AccountId, Blocks>,
    generations: HashMap<AccountId, GenerationEntry>,
    invitations: BTreeMap<String, InvitationEntry>,
    /// Deleted accounts, of which something may be left.
    pub(super) deleted: Vec<AccountId>,
}

/// A name as it was last written.
#[derive(Clone)]
pub(super) struct Entry {
    /// Of the record, for the next write.
    pub(super) revision: u64,
    /// When it was written, by the servers' clock.
    pub(super) time: u64,
    /// `None` if it was deleted.
    pub(super) account: Option<AccountRecord>,
}

#[derive(Clone)]
pub(super) struct InvitationEntry {
    pub(super) revision: u64,
    pub(super) kept: Kept,
}

/// Whom an account blocks.
#[derive(Clone, Default)]
pub(super) struct Blocks {
    /// Of the record, for the next write; 0 if there is none.
    pub(super) revision: u64,
    /// As `NewMessage::sender_key`.
    pub(super) senders: BTreeSet<String>,
}

/// The generation of an account.
#[derive(Clone, Copy)]
pub(super) struct GenerationEntry {
    /// Of the record, for the next write; 0 if there is none.
    pub(super) revision: u64,
    /// [`Generation::NONE`] if there is none.
    pub(super) there: Generation,
}

/// Records that nobody needs to remember any more, with their revisions.
pub(super) struct Stale {
    /// Prekeys that are gone.
    pub(super) keys: Vec<(AccountId, u32, u64)>,
    /// Names that were deleted.
    pub(super) names: Vec<(Name, u64)>,
}

impl BookView {
    /// Takes a record; returns the account that it deletes, if it does.
    pub(super) fn apply(&mut self, revision: u64, time: u64, record: Book) -> Option<AccountId> {
        match record {
            Book::Mark => None,
            Book::Account { name, account } => {
                let account = match account {
                    Ok(account) => Some(account),
                    Err(deleted) => {
                        self.deleted.push(deleted);
                        self.drop_rest(deleted);
                        None
                    }
                };
                let id = account.as_ref().map(|account| account.id);
                let entry = Entry {
                    revision,
                    time,
                    account,
                };
                let before = self.accounts.insert(name.clone(), entry);
                if let Some(id) = id {
                    self.names.insert(id, name);
                }
                let before = before.and_then(|entry| entry.account)?.id;
                if id == Some(before) {
                    return None;
                }
                self.names.remove(&before);
                self.prekeys.remove(&before);
                self.drop_rest(before);
                Some(before)
            }
            Book::OneTime {
                account,
                id,
                issued,
                state,
            } => {
                let key = OneTime {
                    revision,
                    time,
                    issued,
                    state,
                };
                let prekeys = self.prekeys.entry(account).or_default();
                prekeys.one_time.insert(id, key);
                None
            }
            Book::LastResort {
                account,
                id,
                issued,
            } => {
                let prekeys = self.prekeys.entry(account).or_default();
                prekeys.last_resort = Some(LastResort {
                    id,
                    issued,
                    revision,
                });
                None
            }
            Book::Blocks { account, senders } => {
                self.blocks.insert(account, Blocks { revision, senders });
                None
            }
            Book::Generation { account, there } => {
                let entry = GenerationEntry { revision, there };
                self.generations.insert(account, entry);
                None
            }
            Book::Invitation { hash, invitation } => {
                let entry = InvitationEntry {
                    revision,
                    kept: invitation,
                };
                self.invitations.insert(hash, entry);
                None
            }
        }
    }

    pub(super) fn entry(&self, name: &Name) -> Option<&Entry> {
        self.accounts.get(name)
    }

    pub(super) fn account(&self, name: &Name) -> Option<Account> {
        let record = self.accounts.get(name)?.account.as_ref()?;
        Some(Account {
            id: record.id,
            identity: record.identity,
            visible: record.visible,
            suspended: record.desk.suspended,
            seen_day: record.desk.seen_day,
        })
    }

    pub(super) fn name(&self, account: AccountId) -> Option<&Name> {
        self.names.get(&account)
    }

    pub(super) fn count(&self) -> u64 {
        self.names.len() as u64
    }

    /// Up to `count` rows of accounts after `after`, without what waits for them and what they left.
    pub(super) fn rows(&self, after: Option<&Name>, count: usize) -> Vec<AccountRow> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.accounts.range((start, Bound::Unbounded));
        let rows = entries.filter_map(|(name, entry)| self.row_of(name, entry));
        rows.take(count).collect()
    }

    pub(super) fn row(&self, name: &Name) -> Option<AccountRow> {
        self.row_of(name, self.accounts.get(name)?)
    }

    fn row_of(&self, name: &Name, entry: &Entry) -> Option<AccountRow> {
        let record = entry.account.as_ref()?;
        Some(AccountRow {
            id: record.id,
            name: name.clone(),
            visible: record.visible,
            registered_at: record.registered_at,
            messages: 0,
            bytes: 0,
            one_time_prekeys: self.unused(record.id).count() as u64,
            blobs: 0,
            blob_bytes: 0,
            suspended: record.desk.suspended,
            seen_day: record.desk.seen_day,
        })
    }

    /// The one-time prekeys that nobody has, in the order in which they are given.
    pub(super) fn unused(&self, account: AccountId) -> impl Iterator<Item = (u32, OneTime)> + '_ {
        self.prekeys
            .get(&account)
            .into_iter()
            .flat_map(Prekeys::unused)
    }

    /// All prekeys, for who copies a store.
    pub(super) fn all_prekeys(&self, account: AccountId) -> Vec<Copied> {
        self.prekeys
            .get(&account)
            .map(Prekeys::all)
            .unwrap_or_default()
    }

    /// All accounts, for who copies a store.
    pub(super) fn all_accounts(&self) -> Vec<(Name, AccountRecord)> {
        let accounts = self.accounts.iter();
        accounts
            .filter_map(|(name, entry)| Some((name.clone(), entry.account.clone()?)))
            .collect()
    }

    /// What is known of a one-time prekey by its id.
    pub(super) fn one_time(&self, account: AccountId, id: u32) -> Option<OneTime> {
        self.prekeys.get(&account)?.one_time.get(&id).copied()
    }

    pub(super) fn last_resort(&self, account: AccountId) -> Option<LastResort> {
        self.prekeys.get(&account)?.last_resort
    }

    pub(super) fn stock(&self, account: AccountId) -> Stock {
        self.prekeys
            .get(&account)
            .map(Prekeys::stock)
            .unwrap_or_default()
    }

    pub(super) fn generation(&self, account: AccountId) -> GenerationEntry {
        let none = GenerationEntry {
            revision: 0,
            there: Generation::NONE,
        };
        self.generations.get(&account).copied().unwrap_or(none)
    }

    pub(super) fn blocks(&self, account: AccountId) -> Option<&Blocks> {
        self.blocks.get(&account)
    }

    /// Whether an account takes nothing from a sender.
    pub(super) fn is_blocked(&self, account: AccountId, sender_key: &str) -> bool {
        let list = self.blocks.get(&account);
        list.is_some_and(|list| list.senders.contains(sender_key))
    }

    /// Forgets block list and generation of a deleted account.
    pub(super) fn drop_rest(&mut self, account: AccountId) {
        self.blocks.remove(&account);
        self.generations.remove(&account);
    }

    pub(super) fn invitation(&self, hash: &str) -> Option<InvitationEntry> {
        self.invitations.get(hash).cloned()
    }

    /// The hashes that begin with an id, which others may share, but nobody can make do so; of those that can be used at
    /// this time, by the servers' clock.
    pub(super) fn invitations_with(&self, id: &str, now: u64) -> Vec<(String, InvitationEntry)> {
        let all = self.invitations.iter();
        all.filter(|(hash, entry)| hash.starts_with(id) && entry.kept.is_usable(now))
            .map(|(hash, entry)| (hash.clone(), entry.clone()))
            .collect()
    }

    /// Those that can still be used, newest first.
    pub(super) fn invitations(&self, now: u64) -> Vec<Invitation> {
        let usable = self.invitations_with("", now);
        let mut list: Vec<_> = usable
            .into_iter()
            .map(|(hash, entry)| Invitation {
                id: hash.get(..12).unwrap_or(&hash).to_owned(),
                created_at: entry.kept.created_at,
                uses_left: entry.kept.uses,
                note: entry.kept.note,
                expires_at: entry.kept.expires_at,
            })
            .collect();
        list.sort_by_key(|i| std::cmp::Reverse(i.created_at));
        list.truncate(crate::limits::INVITATIONS);
        list
    }

    /// Up to `count` prekeys gone, and names deleted, before `limit`.
    pub(super) fn stale(&self, limit: u64, count: usize) -> Stale {
        let keys = self.prekeys.iter().flat_map(|(account, prekeys)| {
            let stale = prekeys.stale(limit);
            stale.map(|(id, revision)| (*account, id, revision))
        });
        let names = self.accounts.iter();
        let names = names.filter(|(_, entry)| entry.account.is_none() && entry.time < limit);
        let names = names.map(|(name, entry)| (name.clone(), entry.revision));
        Stale {
            keys: keys.take(count).collect(),
            names: names.take(count).collect(),
        }
    }

    /// Forgets a prekey whose record was deleted, unless there is a later one.
    pub(super) fn drop_one_time(&mut self, account: AccountId, id: u32, revision: u64) {
        if let Some(prekeys) = self.prekeys.get_mut(&account) {
            let later = |key: &OneTime| key.revision > revision;
            if !prekeys.one_time.get(&id).is_some_and(later) {
                prekeys.one_time.remove(&id);
            }
        }
    }

    /// Forgets a deleted name whose record was deleted as well, unless it was registered again.
    pub(super) fn drop_name(&mut self, name: &Name, revision: u64) {
        let later = |entry: &Entry| entry.revision > revision;
        if !self.accounts.get(name).is_some_and(later) {
            self.accounts.remove(name);
        }
    }
}
