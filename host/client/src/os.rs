//! What comes from the operating system: clock, randomness, and locks against prying.
//!
//! A client, its token and its vault are given an [`Os`], and ask nobody else what time it is. Time that only passes
//! (waits, deadlines) is tokio's; a simulation pauses that clock and lets both run together.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hostchat_core::crypto::hash::sha256;
use rand_core::{Infallible, TryCryptoRng, TryRng, UnwrapErr};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::time::{ClockId, clock_gettime};

/// Where the time of day and random numbers come from.
pub trait Surroundings: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// Fills `bytes` with random ones, fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine that this program runs on.
struct Machine;

impl Surroundings for Machine {
    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn fill(&self, bytes: &mut [u8]) {
        use rand_core::Rng as _;

        rng().fill_bytes(bytes);
    }
}

/// A handle to clock and randomness; clones share them.
#[derive(Clone)]
pub struct Os(Arc<dyn Surroundings>);

impl Default for Os {
    fn default() -> Self {
        Self::new(Machine)
    }
}

impl fmt::Debug for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Os")
    }
}

impl Os {
    /// Takes time and randomness from `surroundings`.
    pub fn new(surroundings: impl Surroundings + 'static) -> Self {
        Self(Arc::new(surroundings))
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    /// Seconds since 1970.
    pub fn now_s(&self) -> u64 {
        self.now_ms() / 1000
    }

    /// Draws `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A random generator for what wants one.
    pub fn rng(&self) -> Self {
        self.clone()
    }
}

impl TryRng for Os {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.random()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.random()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Os {}

/// The system's random generator.
pub type SystemRng = UnwrapErr<getrandom::SysRng>;

/// Gives the system's random generator. It panics only where the system itself has none.
pub fn rng() -> SystemRng {
    UnwrapErr(getrandom::SysRng)
}

/// Draws `N` random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    use rand_core::Rng as _;

    let mut bytes = [0; N];
    rng().fill_bytes(&mut bytes);
    bytes
}

/// Milliseconds since 1970; 0 for a clock before that.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    now_ms() / 1000
}

/// A time since the computer was started, as the software token counts ten minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Which start: times of different ones cannot be compared.
    pub boot: u32,
    /// Milliseconds, in suspend too.
    pub ms: u64,
}

/// The time since the computer was started.
pub fn uptime() -> Uptime {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let [a, b, c, d, ..] = sha256(&[&boot]);
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    Uptime {
        boot: u32::from_be_bytes([a, b, c, d]),
        ms: seconds * 1000 + nanoseconds / 1_000_000,
    }
}

/// Keeps memory out of core dumps and away from other processes of the same user.
///
/// Best effort: a system that refuses leaves us no worse than before. Memory may still be swapped out; use encrypted
/// swap (the README says so).
pub fn harden() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The last millisecond of the year 9999: no clock that works says a later one.
pub const LAST_DATE_MS: u64 = 253_402_207_200_000 - 1;

/// A time in the user's zone, which `TZ` or the system's settings say: `2026-11-21 09:05:13`.
pub fn local(ms: u64) -> String {
    zoned(ms).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The same with the zone's offset (RFC 3339): `2026-11-21T09:05:13+01:00`.
pub fn rfc3339(ms: u64) -> String {
    zoned(ms).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn zoned(ms: u64) -> jiff::ZonedDateTime {
    let ms = i64::try_from(ms.min(LAST_DATE_MS)).unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.to_zoned_datetime(jiff::tz::TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_in_the_zone_of_this_computer() {
        // Tests that run at the same time do not agree on a `TZ`: `clock.rs` of the end-to-end tests sets it.
        let offset = jiff::tz::TimeZone::system().to_offset(jiff::Timestamp::UNIX_EPOCH);
        if offset.seconds() == 0 {
            assert_eq!(local(0), "1970-01-01 00:00:00");
            assert_eq!(local(951_782_399_000), "2000-02-28 23:59:59");
            assert_eq!(local(1_795_251_913_999), "2026-11-21 09:05:13");
            assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00+00:00");
        }
        assert_eq!(local(u64::MAX), local(LAST_DATE_MS));
        assert!(rfc3339(u64::MAX).starts_with("9999-12-3"));
    }
}
