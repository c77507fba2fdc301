//! What a node knows of the prekeys of one account. No keys: those are read when they are asked for.

use std::collections::BTreeMap;

use hostchat_core::wire::PrekeyKind;

use super::super::Stock;
use super::record::OneTimeState;

/// The prekeys of one account.
#[derive(Default)]
pub(super) struct Prekeys {
    pub(super) one_time: BTreeMap<u32, OneTime>,
    pub(super) last_resort: Option<LastResort>,
}

/// A one-time prekey, known by its id.
#[derive(Clone, Copy)]
pub(super) struct OneTime {
    /// Of the record, for the next write.
    pub(super) revision: u64,
    /// When it was written, by the servers' clock.
    pub(super) time: u64,
    /// As in the prekey; `None` if only the prekey itself says so.
    pub(super) issued: Option<u64>,
    pub(super) state: OneTimeState,
}

/// The last-resort prekey of an account.
#[derive(Clone, Copy)]
pub(super) struct LastResort {
    pub(super) id: u32,
    pub(super) issued: u64,
    pub(super) revision: u64,
}

/// A prekey for who copies a store.
pub(super) struct Copied {
    pub(super) kind: PrekeyKind,
    pub(super) id: u32,
    pub(super) issued: Option<u64>,
    pub(super) revision: u64,
    /// Whether somebody has it.
    pub(super) given: bool,
}

impl Prekeys {
    /// The one-time prekeys that nobody has, in the order in which they are given.
    pub(super) fn unused(&self) -> impl Iterator<Item = (u32, OneTime)> + '_ {
        let unused = |(_, key): &(&u32, &OneTime)| key.state == OneTimeState::Unused;
        self.one_time
            .iter()
            .filter(unused)
            .map(|(id, key)| (*id, *key))
    }

    /// Ids and revisions of those that are gone since before `limit`.
    pub(super) fn stale(&self, limit: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        let old = move |(_, key): &(&u32, &OneTime)| {
            key.state != OneTimeState::Unused && key.time < limit
        };
        let stale = self.one_time.iter().filter(old);
        stale.map(|(id, key)| (*id, key.revision))
    }

    pub(super) fn stock(&self) -> Stock {
        let last = self.last_resort;
        Stock {
            one_time: u16::try_from(self.unused().count()).unwrap_or(u16::MAX),
            last_resort_issued: last.map_or(0, |last| last.issued),
            last_resort_id: last.map_or(0, |last| last.id),
        }
    }

    /// All that a copy must have.
    pub(super) fn all(&self) -> Vec<Copied> {
        let one_time = self.one_time.iter();
        let one_time = one_time.filter(|(_, key)| key.state != OneTimeState::Dropped);
        let one_time = one_time.map(|(id, key)| Copied {
            kind: PrekeyKind::OneTime,
            id: *id,
            issued: key.issued,
            revision: key.revision,
            given: key.state == OneTimeState::Given,
        });
        let last = self.last_resort.iter().map(|last| Copied {
            kind: PrekeyKind::LastResort,
            id: last.id,
            issued: Some(last.issued),
            revision: last.revision,
            given: false,
        });
        one_time.chain(last).collect()
    }
}
