//! Token buckets, one per key, as the generic cell rate algorithm: one number per key, no timer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use crate::limits::{MAX_BUCKETS, Rate};

/// Counts events per key against one [`Rate`].
pub(crate) struct Buckets<K> {
    rate: Rate,
    /// For each key the uptime, in microseconds, at which its bucket is full again.
    full_at: Mutex<HashMap<K, u64>>,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: Mutex::default(),
        }
    }

    /// Takes one token of `key`, or says in how many milliseconds there will be one.
    pub(crate) fn take(&self, key: K, uptime_ms: u64) -> Result<(), u32> {
        if self.rate.per_minute == 0 {
            return Ok(());
        }
        let now = uptime_ms.saturating_mul(1000);
        let interval = 60_000_000 / u64::from(self.rate.per_minute);
        let depth = interval.saturating_mul(u64::from(self.rate.burst.max(1)));
        let mut full_at = crate::lock(&self.full_at);
        if full_at.len() >= MAX_BUCKETS && !full_at.contains_key(&key) {
            full_at.retain(|_, at| *at > now);
            // Still full: somebody uses tens of thousands of addresses. Memory stays bounded; the other limits hold.
            if full_at.len() >= MAX_BUCKETS {
                full_at.clear();
            }
        }
        let at = full_at.entry(key).or_insert(now);
        let next = (*at).max(now).saturating_add(interval);
        let over = next.saturating_sub(now).saturating_sub(depth);
        if over > 0 {
            return Err(u32::try_from(over.div_ceil(1000)).unwrap_or(u32::MAX));
        }
        *at = next;
        Ok(())
    }

    /// Puts a token of `key` back that was of no use.
    pub(crate) fn give_back(&self, key: &K) {
        let Some(interval) = 60_000_000u64.checked_div(self.rate.per_minute.into()) else {
            return;
        };
        if let Some(at) = crate::lock(&self.full_at).get_mut(key) {
            *at = at.saturating_sub(interval);
        }
    }
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
    fn memory_stays_bounded() {
        let rate = Rate {
            burst: 1,
            per_minute: 1,
        };
        let buckets = Buckets::new(rate);
        for key in 0..MAX_BUCKETS * 2 + 10 {
            assert_eq!(buckets.take(key, 0), Ok(()));
        }
        assert!(crate::lock(&buckets.full_at).len() <= MAX_BUCKETS);
    }
}
