//! Time comes in from outside: wall time for people, uptime for every decision.
//!
//! Wall time may jump in either direction; nothing is ever deleted, refused or reordered because it did. Deadlines,
//! rates and expiry count uptime, which only grows.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A future that a [`Clock`] returns.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where the relay reads the time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 by the wall clock; may jump.
    fn wall_ms(&self) -> u64;

    /// Milliseconds since some fixed moment; never goes back, at one millisecond per millisecond.
    fn uptime_ms(&self) -> u64;

    /// Completes once [`Clock::uptime_ms`] has reached `uptime_ms`.
    fn sleep_until(&self, uptime_ms: u64) -> Sleep<'_>;
}

/// Runs `future` for at most `ms` milliseconds of `clock`; `None` if that was not enough.
pub async fn timeout<F: Future>(clock: &dyn Clock, ms: u64, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    // Most futures are ready at once and need no timer.
    let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    if let Poll::Ready(output) = first {
        return Some(output);
    }
    let deadline = clock.uptime_ms().saturating_add(ms);
    tokio::select! {
        biased;
        output = &mut future => Some(output),
        () = clock.sleep_until(deadline) => None,
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting uptime now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep_until(&self, uptime_ms: u64) -> Sleep<'_> {
        let ms = uptime_ms.saturating_sub(self.uptime_ms());
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }
}

/// A clock that moves only when a test moves it.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<Now>>,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    wall_ms: u64,
    uptime_ms: u64,
}

impl ManualClock {
    /// Makes a clock that shows `wall_ms` and an uptime of zero.
    #[must_use]
    pub fn new(wall_ms: u64) -> Self {
        let now = Now {
            wall_ms,
            uptime_ms: 0,
        };
        Self {
            now: Arc::new(watch::Sender::new(now)),
        }
    }

    /// Lets time pass: both clocks advance, and who sleeps until then wakes.
    pub fn advance(&self, ms: u64) {
        self.now.send_modify(|now| {
            now.wall_ms = now.wall_ms.saturating_add(ms);
            now.uptime_ms = now.uptime_ms.saturating_add(ms);
        });
    }

    /// Sets the wall clock, as an administrator or a broken battery would; uptime stays.
    pub fn set_wall(&self, wall_ms: u64) {
        self.now.send_modify(|now| now.wall_ms = wall_ms);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.now.borrow().wall_ms
    }

    fn uptime_ms(&self) -> u64 {
        self.now.borrow().uptime_ms
    }

    fn sleep_until(&self, uptime_ms: u64) -> Sleep<'_> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The sender lives in `self`, so that this cannot end early.
            let _ = now.wait_for(|now| now.uptime_ms >= uptime_ms).await;
        })
    }
}
