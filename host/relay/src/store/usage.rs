//! What a mailbox holds: in all, of each sender, of all guests; the quotas are checked against each.

use std::collections::HashMap;

use hostchat_core::wire::relay::Kind;

use crate::limits::Limits;

/// The figures of a message that count.
pub(super) struct Parcel<'a> {
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    pub(super) sender: &'a str,
    pub(super) guest: bool,
}

/// What a mailbox holds now.
#[derive(Default)]
pub(super) struct Usage {
    all: Count,
    guests: Count,
    senders: HashMap<Box<str>, Count>,
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
        if let Some(count) = self.senders.get_mut(parcel.sender) {
            count.remove(parcel);
            if count.messages == 0 {
                self.senders.remove(parcel.sender);
            }
        }
    }

    /// Whether one more would be too much for the mailbox, its sender's share, or the guests' share.
    pub(super) fn is_full(&self, parcel: &Parcel<'_>, limits: &Limits) -> bool {
        let sender = self.senders.get(parcel.sender).copied();
        self.all.is_full(parcel, limits, 100)
            || sender
                .unwrap_or_default()
                .is_full(parcel, limits, limits.sender_percent)
            || (parcel.guest && self.guests.is_full(parcel, limits, limits.guests_percent))
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
