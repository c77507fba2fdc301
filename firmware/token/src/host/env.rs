//! Randomness, clock and finger of a token on a host.

use std::boxed::Box;

use hostchat_core::crypto::hash::sha256;
use rand_core::UnwrapErr;
use rustix::time::{ClockId, clock_gettime};

use super::FileFlash;
use crate::env::{Env, PresencePolicy, Touch, TouchReason, Uptime};

/// The operating system's random generator.
pub type OsRng = UnwrapErr<getrandom::SysRng>;

/// Where presses come from; may block until there is one.
pub type TouchSource = Box<dyn FnMut(TouchReason) -> Touch + Send>;

/// What tells one token on a host from another.
pub struct HostConfig {
    /// What it calls itself, at most 16 bytes: `software`, `sim`.
    pub board: &'static str,
    /// Whether PIN tries are counted and the keys are erased after the last.
    pub wipes: bool,
    /// When a press is needed.
    pub presence: PresencePolicy,
    /// Where presses come from.
    pub touch: TouchSource,
    /// After so many milliseconds without a request it locks itself.
    pub idle_lock_ms: Option<u64>,
}

impl HostConfig {
    /// The client's software token: no button, and no count of tries, since a copied file would not count either.
    #[must_use]
    pub fn software() -> Self {
        Self {
            board: "software",
            wipes: false,
            presence: PresencePolicy::Listed,
            touch: Box::new(|_| Touch::Pressed),
            idle_lock_ms: None,
        }
    }
}

/// The surroundings of a token on a host.
pub struct HostEnv {
    config: HostConfig,
    rng: OsRng,
    epoch: u32,
}

impl HostEnv {
    /// Takes the clock's epoch from the machine's boot: a new start of the program is not a new power cycle, and does not
    /// give back what ten minutes limit.
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let [a, b, c, d, ..] = sha256(&[&boot]);
        Self {
            config,
            rng: UnwrapErr(getrandom::SysRng),
            epoch: u32::from_be_bytes([a, b, c, d]),
        }
    }
}

impl Env for HostEnv {
    type Rng = OsRng;
    type Flash = FileFlash;

    fn rng(&mut self) -> Option<&mut OsRng> {
        Some(&mut self.rng)
    }

    fn now(&self) -> Uptime {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        Uptime {
            epoch: self.epoch,
            ms: seconds * 1000 + nanoseconds / 1_000_000,
        }
    }

    async fn touch(&mut self, reason: TouchReason) -> Touch {
        (self.config.touch)(reason)
    }

    fn presence(&self) -> PresencePolicy {
        self.config.presence
    }

    fn wipes(&self) -> bool {
        self.config.wipes
    }

    fn board(&self) -> &str {
        self.config.board
    }

    fn idle_lock_ms(&self) -> Option<u64> {
        self.config.idle_lock_ms
    }
}
