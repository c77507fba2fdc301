//! Every rate limit. Those that keep users in bounds count over all nodes, where there are several; those that keep one
//! node from too much work count there.

use hostchat_core::wire::Name;
use serde::{Deserialize, Serialize};

use crate::bucket::Buckets;
use crate::hub::Network;
use crate::limits::Limits;
use crate::store::AccountId;

/// For whom a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Caller {
    /// A registered account, wherever it connects from.
    User(AccountId),
    /// Guests may claim any address, so that they count by network.
    Guest(Network),
}

/// Every rate limit.
pub(crate) struct Rates {
    pub(crate) connects: Buckets<Network>,
    pub(crate) registrations: Buckets<Network>,
    pub(crate) calls: Buckets<Caller>,
    pub(crate) sends: Buckets<Caller>,
    pub(crate) pairings: Buckets<Caller>,
    /// By the mailbox as well.
    pub(crate) guest_pairings: Buckets<(Network, Name)>,
    pub(crate) firsts: Buckets<Caller>,
    pub(crate) prekeys_put: Buckets<Caller>,
    pub(crate) generations: Buckets<Caller>,
    pub(crate) prekeys_taken: Buckets<Caller>,
    pub(crate) prekeys_given: Buckets<Name>,
    pub(crate) blocks: Buckets<Caller>,
    pub(crate) blobs_put: Buckets<Caller>,
}

/// What was taken at one node since its last word, with who took it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    registrations: Vec<(Network, u32)>,
    sends: Vec<(Caller, u32)>,
    pairings: Vec<(Caller, u32)>,
    guest_pairings: Vec<((Network, String), u32)>,
    firsts: Vec<(Caller, u32)>,
    prekeys_put: Vec<(Caller, u32)>,
    generations: Vec<(Caller, u32)>,
    prekeys_taken: Vec<(Caller, u32)>,
    prekeys_given: Vec<(String, u32)>,
    blocks: Vec<(Caller, u32)>,
    blobs_put: Vec<(Caller, u32)>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connects: Buckets::new(limits.connects),
            registrations: Buckets::new(limits.registrations),
            calls: Buckets::new(limits.calls),
            sends: Buckets::new(limits.sends),
            pairings: Buckets::new(limits.pairings),
            guest_pairings: Buckets::new(limits.guest_pairings),
            firsts: Buckets::new(limits.firsts),
            prekeys_put: Buckets::new(limits.prekeys_put),
            generations: Buckets::new(limits.generations),
            prekeys_taken: Buckets::new(limits.prekeys_taken),
            prekeys_given: Buckets::new(limits.prekeys_given),
            blocks: Buckets::new(limits.blocks),
            blobs_put: Buckets::new(limits.blobs_put),
        }
    }

    /// Takes one pairing message to a mailbox, or says in how many milliseconds there will be one.
    pub(crate) fn take_pairing(
        &self,
        caller: Caller,
        to: &Name,
        uptime_ms: u64,
    ) -> Result<(), u32> {
        self.pairings.take(caller, uptime_ms)?;
        match caller {
            Caller::Guest(network) => self.guest_pairings.take((network, to.clone()), uptime_ms),
            Caller::User(_) => Ok(()),
        }
    }

    /// What was taken here that was not told yet; the rest of much comes with the next call.
    pub(crate) fn spent(&self) -> Spent {
        let given = self.prekeys_given.spent().into_iter();
        let of_guests = self.guest_pairings.spent().into_iter();
        Spent {
            registrations: self.registrations.spent(),
            sends: self.sends.spent(),
            pairings: self.pairings.spent(),
            guest_pairings: of_guests
                .map(|((network, to), n)| ((network, to.to_string()), n))
                .collect(),
            firsts: self.firsts.spent(),
            prekeys_put: self.prekeys_put.spent(),
            generations: self.generations.spent(),
            prekeys_taken: self.prekeys_taken.spent(),
            prekeys_given: given.map(|(name, n)| (name.to_string(), n)).collect(),
            blocks: self.blocks.spent(),
            blobs_put: self.blobs_put.spent(),
        }
    }

    /// Takes here what was taken elsewhere, even if there is not so much: it has to be waited for then.
    pub(crate) fn charge(&self, spent: Spent, uptime_ms: u64) {
        self.registrations.charge(spent.registrations, uptime_ms);
        self.sends.charge(spent.sends, uptime_ms);
        self.pairings.charge(spent.pairings, uptime_ms);
        let of_guests = spent.guest_pairings.into_iter();
        let of_guests =
            of_guests.filter_map(|((network, to), n)| Some(((network, Name::parse(&to).ok()?), n)));
        self.guest_pairings.charge(of_guests, uptime_ms);
        self.firsts.charge(spent.firsts, uptime_ms);
        self.prekeys_put.charge(spent.prekeys_put, uptime_ms);
        self.generations.charge(spent.generations, uptime_ms);
        self.prekeys_taken.charge(spent.prekeys_taken, uptime_ms);
        let given = spent.prekeys_given.into_iter();
        let given = given.filter_map(|(name, n)| Some((Name::parse(&name).ok()?, n)));
        self.prekeys_given.charge(given, uptime_ms);
        self.blocks.charge(spent.blocks, uptime_ms);
        self.blobs_put.charge(spent.blobs_put, uptime_ms);
    }
}

impl Spent {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            registrations,
            sends,
            pairings,
            guest_pairings,
            firsts,
            prekeys_put,
            generations,
            prekeys_taken,
            prekeys_given,
            blocks,
            blobs_put,
        } = self;
        let callers = [
            sends,
            pairings,
            firsts,
            prekeys_put,
            generations,
            prekeys_taken,
            blocks,
            blobs_put,
        ];
        registrations.is_empty()
            && prekeys_given.is_empty()
            && guest_pairings.is_empty()
            && callers.iter().all(|spent| spent.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_at_one_node_is_missing_at_the_other() {
        let limits = Limits::default();
        let (here, there) = (Rates::new(&limits), Rates::new(&limits));
        let network = Network::from(std::net::IpAddr::from([0xfd00, 1, 2, 3, 4, 5, 6, 7]));
        let name = Name::parse("bob").unwrap();
        let (user, guest) = (Caller::User(AccountId(7)), Caller::Guest(network));
        let burst = limits.pairings.burst;
        for _ in 0..burst {
            here.pairings.take(user, 0).unwrap();
            here.pairings.take(guest, 0).unwrap();
        }
        for _ in 0..limits.guest_pairings.burst {
            let to = Name::parse("carol").unwrap();
            here.guest_pairings.take((network, to), 0).unwrap();
        }
        for _ in 0..limits.registrations.burst {
            here.registrations.take(network, 0).unwrap();
        }
        for _ in 0..limits.prekeys_given.burst {
            here.prekeys_given.take(name.clone(), 0).unwrap();
        }
        let word = serde_json::to_vec(&here.spent()).unwrap();
        there.charge(serde_json::from_slice(&word).unwrap(), 5_000);
        for caller in [user, guest] {
            assert_eq!(there.pairings.take(caller, 5_000), Err(20_000));
        }
        assert!(there.registrations.take(network, 5_000).is_err());
        assert!(there.prekeys_given.take(name.clone(), 5_000).is_err());
        let to = Name::parse("carol").unwrap();
        assert!(there.guest_pairings.take((network, to), 5_000).is_err());
        assert_eq!(there.guest_pairings.take((network, name), 5_000), Ok(()));
        let other = Caller::User(AccountId(8));
        assert_eq!(there.pairings.take(other, 5_000), Ok(()));
        assert!(here.spent().is_empty(), "told once");
        let told = there.spent();
        assert!(
            told.registrations.is_empty(),
            "what others said is not said again: {told:?}"
        );
    }
}
