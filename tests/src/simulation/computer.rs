//! Clock and randomness of a computer in a simulation.

use std::sync::{Mutex, PoisonError};

use hostchat::os::Surroundings;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

/// Milliseconds since 1970 at which every world begins.
const BEGIN_MS: u64 = 1_800_000_000_000;

/// The time of day, which runs with tokio's paused clock; to be asked inside its runtime only.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Instant,
    ahead_ms: i64,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self {
            begin: Instant::now(),
            ahead_ms: 0,
        }
    }

    /// The clock of a computer on which it is set wrong.
    pub(super) fn ahead(self, ahead_ms: i64) -> Self {
        Self { ahead_ms, ..self }
    }

    /// Milliseconds since the world began.
    ///
    /// # Panics
    /// After 500 million years.
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).expect("a time")
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        (BEGIN_MS + self.uptime_ms()).saturating_add_signed(self.ahead_ms)
    }
}

/// What a client asks its computer.
pub struct SimOs {
    clock: Clock,
    rng: Mutex<ChaCha20Rng>,
}

impl SimOs {
    /// Draws from `seed`.
    pub fn new(clock: Clock, seed: u64) -> Self {
        let rng = Mutex::new(ChaCha20Rng::seed_from_u64(seed));
        Self { clock, rng }
    }
}

impl Surroundings for SimOs {
    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.fill_bytes(bytes);
    }
}
