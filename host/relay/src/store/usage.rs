//! What a mailbox holds: in all, of each sender, of all guests; the quotas are checked against each.
//!
//! A user counts by address, a guest by the identity that it proved: whoever claims the address of somebody else fills its
//! own share.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use hostchat_core::wire::relay::Kind;

use crate::limits::Limits;

/// The figures of a message that count.
pub(super) struct Parcel<'a> {
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    pub(super) sender: &'a str,
    pub(super) guest: bool,
    /// Of the sender's identity. Looked at for guests only: a user's address is bound to one identity.
    pub(super) fingerprint: Option<[u8; 32]>,
}

impl Parcel<'_> {
    /// The identity that it counts for, if it does not count for its address: any guest may claim any address.
    fn identity(&self) -> Option<[u8; 32]> {
        self.fingerprint.filter(|_| self.guest)
    }
}

/// What a mailbox holds now.
#[derive(Default)]
pub(super) struct Usage {
    all: Count,
    guests: Count,
    /// Users, and guests whose identity is not known.
    senders: HashMap<Box<str>, Count>,
    /// Guests, under whatever address.
    identities: HashMap<[u8; 32], Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    messages: u32,
    bytes: u64,
    pairings: u32,
    firsts: u32,
}

impl Usage {
    pub(super) fn add(&mut self, parcel: &Parcel<'_>) {
        self.all.add(parcel);
        if parcel.guest {
            self.guests.add(parcel);
        }
        if let Some(identity) = parcel.identity() {
            return self.identities.entry(identity).or_default().add(parcel);
        }
        match self.senders.get_mut(parcel.sender) {
            Some(count) => count.add(parcel),
            None => {
                let mut count = Count::default();
                count.add(parcel);
                self.senders.insert(parcel.sender.into(), count);
            }
        }
    }

    pub(super) fn remove(&mut self, parcel: &Parcel<'_>) {
        self.all.remove(parcel);
        if parcel.guest {
            self.guests.remove(parcel);
        }
        match parcel.identity() {
            Some(identity) => take_off(&mut self.identities, &identity, parcel),
            None => take_off(&mut self.senders, parcel.sender, parcel),
        }
    }

    /// Whether one more would be too much for the mailbox, its sender's share, or the guests' share.
    pub(super) fn is_full(&self, parcel: &Parcel<'_>, limits: &Limits) -> bool {
        let sender = match parcel.identity() {
            Some(identity) => self.identities.get(&identity),
            None => self.senders.get(parcel.sender),
        };
        let sender = sender.copied();
        self.all.is_full(parcel, limits, 100)
            || sender
                .unwrap_or_default()
                .is_full(parcel, limits, limits.sender_percent)
            || (parcel.guest && self.guests.is_full(parcel, limits, limits.guests_percent))
    }
}

/// Takes a message off one of the counts, and forgets the count with its last one.
fn take_off<K: Borrow<Q> + Eq + Hash, Q: Eq + Hash + ?Sized>(
    counts: &mut HashMap<K, Count>,
    key: &Q,
    parcel: &Parcel<'_>,
) {
    if let Some(count) = counts.get_mut(key) {
        count.remove(parcel);
        if count.messages == 0 {
            counts.remove(key);
        }
    }
}

impl Count {
    fn add(&mut self, parcel: &Parcel<'_>) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(parcel.bytes);
        if let Some(n) = self.of_kind(parcel.kind) {
            *n = n.saturating_add(1);
        }
    }

    fn remove(&mut self, parcel: &Parcel<'_>) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(parcel.bytes);
        if let Some(n) = self.of_kind(parcel.kind) {
            *n = n.saturating_sub(1);
        }
    }

    fn of_kind(&mut self, kind: Kind) -> Option<&mut u32> {
        match kind {
            Kind::Pairing => Some(&mut self.pairings),
            Kind::First => Some(&mut self.firsts),
            Kind::Message => None,
        }
    }

    fn is_full(&self, parcel: &Parcel<'_>, limits: &Limits, percent: u32) -> bool {
        // A share is rounded up, so that small quotas still let everybody leave something.
        let share = |most: u64| (most * u64::from(percent)).div_ceil(100);
        let reached = |count: u32, most: u32| u64::from(count) >= share(u64::from(most));
        let of_kind = match parcel.kind {
            Kind::Pairing => reached(self.pairings, limits.mailbox_pairings),
            Kind::First => reached(self.firsts, limits.mailbox_firsts),
            Kind::Message => false,
        };
        of_kind
            || reached(self.messages, limits.mailbox_messages)
            || self.bytes.saturating_add(parcel.bytes) > share(limits.mailbox_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAROL: &str = "carol@elsewhere.example:1";

    fn offer(fingerprint: Option<u8>, guest: bool) -> Parcel<'static> {
        Parcel {
            kind: Kind::Pairing,
            bytes: 1,
            sender: CAROL,
            guest,
            fingerprint: fingerprint.map(|byte| [byte; 32]),
        }
    }

    /// How many of these fit.
    fn fill(usage: &mut Usage, parcel: &Parcel<'_>) -> u32 {
        let limits = Limits::default();
        let mut count = 0;
        while !usage.is_full(parcel, &limits) {
            usage.add(parcel);
            count += 1;
        }
        count
    }

    #[test]
    fn guests_count_by_identity_and_by_address_where_none_is_known() {
        let mut usage = Usage::default();
        assert_eq!(fill(&mut usage, &offer(Some(1), true)), 16);
        // Of before the migration: they are not held against anybody.
        let old = offer(None, true);
        for _ in 0..4 {
            usage.add(&old);
        }
        assert_eq!(
            fill(&mut usage, &offer(Some(2), true)),
            12,
            "32 of all guests"
        );
        usage.remove(&offer(Some(1), true));
        assert_eq!(fill(&mut usage, &offer(Some(1), true)), 1);
        for _ in 0..4 {
            usage.remove(&old);
        }
        assert_eq!(fill(&mut usage, &offer(Some(2), true)), 4);
        assert_eq!(usage.senders.len(), 0, "forgotten with the last one");
    }

    #[test]
    fn users_count_by_address_whether_or_not_their_identity_is_known() {
        let mut usage = Usage::default();
        for _ in 0..10 {
            usage.add(&offer(None, false));
        }
        assert_eq!(fill(&mut usage, &offer(Some(1), false)), 6);
    }
}
