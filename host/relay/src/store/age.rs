//! Age: the time that expiry counts, milliseconds of the relay's own running.
//!
//! It advances with uptime while the relay runs. Over a pause it advances by the difference of wall times, but at least
//! by nothing and at most by [`MAX_GAP_MS`]. So a wall clock that jumps, in either direction and by any amount, neither
//! deletes a message early (by more than that) nor keeps one for ever.

use std::sync::Arc;

use crate::clock::Clock;
use crate::limits::MAX_GAP_MS;

/// What is kept of the age while the relay does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) age_ms: u64,
    pub(crate) wall_ms: u64,
}

/// Counts age.
#[derive(Clone)]
pub(crate) struct Age {
    clock: Arc<dyn Clock>,
    /// Age at uptime zero; the age is never below it.
    base_ms: u64,
    start_ms: u64,
}

impl Age {
    /// Goes on from what was kept last.
    pub(crate) fn resume(mark: Mark, clock: Arc<dyn Clock>) -> Self {
        let gap = match mark.wall_ms {
            0 => 0,
            then => clock.wall_ms().saturating_sub(then).min(MAX_GAP_MS),
        };
        Self {
            base_ms: mark.age_ms.saturating_add(gap),
            start_ms: clock.uptime_ms(),
            clock,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let run = self.clock.uptime_ms().saturating_sub(self.start_ms);
        self.base_ms.saturating_add(run)
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            age_ms: self.now_ms(),
            wall_ms: self.wall_ms(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const YEAR: u64 = 365 * 24 * 3_600_000;

    #[test]
    fn wall_clock_jumps_while_running_count_nothing() {
        let clock = ManualClock::new(YEAR * 50);
        let age = Age::resume(Mark::default(), Arc::new(clock.clone()));
        clock.advance(1_000);
        clock.set_wall(YEAR * 90);
        assert_eq!(age.now_ms(), 1_000);
        clock.set_wall(1);
        clock.advance(500);
        assert_eq!(age.now_ms(), 1_500);
    }

    #[test]
    fn a_pause_counts_between_nothing_and_a_day() {
        let mark = Mark {
            age_ms: 7,
            wall_ms: YEAR * 50,
        };
        for (wall, gap) in [
            (YEAR * 50 + 3, 3),
            (YEAR * 10, 0),
            (YEAR * 50 + MAX_GAP_MS, MAX_GAP_MS),
            (YEAR * 99, MAX_GAP_MS),
        ] {
            let age = Age::resume(mark, Arc::new(ManualClock::new(wall)));
            assert_eq!(age.now_ms(), 7 + gap);
        }
    }
}
