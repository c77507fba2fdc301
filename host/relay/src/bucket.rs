//! Token buckets, one per key, as the generic cell rate algorithm: one number per key, no timer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use crate::limits::{MAX_BUCKETS, NODE_SPENT, Rate};

/// Of a burst, what is spent before other nodes are told: so they know of all but that much, and not of everybody.
const TOLD: u32 = 16;

/// Of [`MAX_BUCKETS`], how many are kept when a new key finds no room.
const KEPT: usize = MAX_BUCKETS - MAX_BUCKETS / 8;

/// Counts events per key against one [`Rate`].
pub(crate) struct Buckets<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    /// The uptime, in microseconds, at which it is full again.
    full_at: u64,
    /// What was taken here and not told to other nodes.
    spent: u32,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::default(),
        }
    }

    /// Microseconds until there is one more.
    fn interval(&self) -> Option<u64> {
        60_000_000u64.checked_div(self.rate.per_minute.into())
    }

    /// Takes one token of `key`, or says in how many milliseconds there will be one.
    pub(crate) fn take(&self, key: K, uptime_ms: u64) -> Result<(), u32> {
        let Some(interval) = self.interval() else {
            return Ok(());
        };
        let now = uptime_ms.saturating_mul(1000);
        let depth = interval.saturating_mul(u64::from(self.rate.burst.max(1)));
        let mut buckets = crate::lock(&self.buckets);
        let bucket = bucket(&mut buckets, key, now);
        let next = bucket.full_at.max(now).saturating_add(interval);
        let over = next.saturating_sub(now).saturating_sub(depth);
        if over > 0 {
            return Err(u32::try_from(over.div_ceil(1000)).unwrap_or(u32::MAX));
        }
        bucket.full_at = next;
        bucket.spent = bucket.spent.saturating_add(1);
        Ok(())
    }

    /// Puts a token of `key` back that was of no use.
    pub(crate) fn give_back(&self, key: &K) {
        let Some(interval) = self.interval() else {
            return;
        };
        if let Some(bucket) = crate::lock(&self.buckets).get_mut(key) {
            bucket.full_at = bucket.full_at.saturating_sub(interval);
            bucket.spent = bucket.spent.saturating_sub(1);
        }
    }

    /// Who has taken how much here that was not told yet, and is worth it.
    pub(crate) fn spent(&self) -> Vec<(K, u32)>
    where
        K: Clone,
    {
        let worth = (self.rate.burst / TOLD).max(1);
        let mut buckets = crate::lock(&self.buckets);
        let spent = buckets.iter_mut().filter(|(_, b)| b.spent >= worth);
        spent
            .take(NODE_SPENT)
            .map(|(key, bucket)| (key.clone(), std::mem::take(&mut bucket.spent)))
            .collect()
    }

    /// Takes what was taken at another node, also beyond the depth.
    pub(crate) fn charge(&self, spent: impl IntoIterator<Item = (K, u32)>, uptime_ms: u64) {
        let Some(interval) = self.interval() else {
            return;
        };
        let now = uptime_ms.saturating_mul(1000);
        let mut buckets = crate::lock(&self.buckets);
        for (key, count) in spent {
            let bucket = bucket(&mut buckets, key, now);
            let taken = interval.saturating_mul(count.into());
            bucket.full_at = bucket.full_at.max(now).saturating_add(taken);
        }
    }
}

/// The bucket of a key, full if there was none.
fn bucket<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, key: K, now: u64) -> &mut Bucket {
    if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
        evict(buckets, now);
    }
    let full = Bucket {
        full_at: now,
        spent: 0,
    };
    buckets.entry(key).or_insert(full)
}

/// Drops every bucket that is full again, which says nothing; then those that are the nearest to it, until an eighth of the
/// room is free. So whoever has taken much stays known, however many others come, and the work is that of a few entries
/// for each new key.
fn evict<K: Eq + Hash>(buckets: &mut HashMap<K, Bucket>, now: u64) {
    buckets.retain(|_, bucket| bucket.full_at > now);
    let Some(more) = buckets.len().checked_sub(KEPT + 1) else {
        return;
    };
    let mut times: Vec<u64> = buckets.values().map(|bucket| bucket.full_at).collect();
    let (earlier, last, _) = times.select_nth_unstable(more);
    let last = *last;
    // Of those that are equal, no more than needed.
    let mut equal = more + 1 - earlier.iter().filter(|time| **time < last).count();
    buckets.retain(|_, bucket| {
        let drop_equal = bucket.full_at == last && equal > 0;
        equal -= usize::from(drop_equal);
        bucket.full_at >= last && !drop_equal
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_the_wait_is_exact() {
        let rate = Rate {
            burst: 3,
            per_minute: 60,
        };
        let buckets = Buckets::new(rate);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", 5_000), Ok(()));
        }
        assert_eq!(buckets.take("a", 5_000), Err(1_000));
        assert_eq!(buckets.take("b", 5_000), Ok(()), "keys are independent");
        assert_eq!(buckets.take("a", 5_999), Err(1));
        assert_eq!(buckets.take("a", 6_000), Ok(()));
        assert_eq!(buckets.take("a", 6_000), Err(1_000));
        buckets.give_back(&"a");
        assert_eq!(buckets.take("a", 6_000), Ok(()));
        assert_eq!(buckets.take("a", 6_000), Err(1_000), "one, and no more");
        buckets.give_back(&"nobody");
    }

    #[test]
    fn what_is_told_is_what_was_taken_here_and_worth_it() {
        let rate = Rate {
            burst: 64,
            per_minute: 60,
        };
        let (here, there) = (Buckets::new(rate), Buckets::new(rate));
        for _ in 0..3 {
            here.take("a", 0).unwrap();
        }
        assert_eq!(here.spent(), [], "less than a sixteenth of a burst");
        here.take("a", 0).unwrap();
        here.take("a", 0).unwrap();
        here.give_back(&"a");
        let told = here.spent();
        assert_eq!(told, [("a", 4)]);
        there.charge(told, 1_000);
        for _ in 0..60 {
            assert_eq!(there.take("a", 1_000), Ok(()));
        }
        assert_eq!(there.take("a", 1_000), Err(1_000));
        // A debt is waited for: what all nodes give is the rate, in the long run.
        there.charge([("a", 10)], 1_000);
        assert_eq!(there.take("a", 1_000), Err(11_000));
        assert_eq!(there.spent(), [("a", 60)]);
    }

    #[test]
    fn memory_stays_bounded() {
        let rate = Rate {
            burst: 1,
            per_minute: 1,
        };
        let buckets = Buckets::new(rate);
        for key in 0..MAX_BUCKETS * 2 + 10 {
            assert_eq!(buckets.take(key, 0), Ok(()));
            let kept = crate::lock(&buckets.buckets).len();
            assert!(kept <= MAX_BUCKETS && kept > (key / 2).min(KEPT), "{kept}");
        }
    }

    #[test]
    fn full_buckets_go_first_then_those_that_are_nearest_to_it() {
        let rate = Rate {
            burst: 3,
            per_minute: 60,
        };
        let buckets = Buckets::new(rate);
        // Two that are at their limit, one of them since a while; many that are full again.
        let (spent, waiting) = (usize::MAX, usize::MAX - 1);
        for _ in 0..3 {
            buckets.take(waiting, 0).unwrap();
        }
        for key in 0..MAX_BUCKETS / 2 {
            buckets.take(key, 0).unwrap();
        }
        for _ in 0..3 {
            buckets.take(spent, 1_000).unwrap();
        }
        let of = |key: usize| crate::lock(&buckets.buckets).contains_key(&key);
        for key in MAX_BUCKETS..MAX_BUCKETS * 4 {
            buckets.take(key, 1_000).unwrap();
            assert!(of(spent) && of(waiting), "{key}");
        }
        assert!(!of(0), "it was full");
        assert_eq!(buckets.take(spent, 1_000), Err(1_000));
        assert_eq!(buckets.take(waiting, 1_000), Ok(()), "one came back");
        assert_eq!(buckets.take(waiting, 1_000), Err(1_000));
    }
}
