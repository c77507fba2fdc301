//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand_core::Rng;

/// Doubles from half a second to half a minute; each wait is drawn from the upper half, so that many clients of a
/// relay that comes back do not come back together.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next: Self::FIRST,
            attempts: 0,
        }
    }
}

impl Backoff {
    /// The first wait is at most this long.
    pub const FIRST: Duration = Duration::from_millis(500);
    /// No wait is longer.
    pub const LONGEST: Duration = Duration::from_secs(30);

    /// The next wait.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let whole = self.next;
        self.attempts = self.attempts.saturating_add(1);
        self.next = (whole * 2).min(Self::LONGEST);
        let half = whole / 2;
        let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_millis(rng.next_u64() % (span + 1))
    }

    /// Whether somebody who waits in front of a screen would still try again.
    pub fn has_patience(&self) -> bool {
        self.attempts < 6
    }

    /// A connection stood: begins anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut rng = crate::os::rng();
        let mut backoff = Backoff::default();
        let mut bound = Backoff::FIRST;
        for _ in 0..20 {
            let wait = backoff.next(&mut rng);
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(Backoff::LONGEST);
        }
        assert_eq!(bound, Backoff::LONGEST);
        assert!(!backoff.has_patience());
        backoff.reset();
        assert!(backoff.has_patience());
        assert!(backoff.next(&mut rng) <= Backoff::FIRST);
    }
}
