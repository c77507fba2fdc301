//! Surroundings that a test controls while the token runs.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{RefCell, RefMut};

use hostchat_core::crypto::hash::sha256;
use rand_core::{Infallible, TryCryptoRng, TryRng};

use super::SharedFlash;
use crate::env::{Env, PresencePolicy, Touch, TouchReason, Uptime};

/// What a test sets and reads.
pub struct Control {
    /// How the next waits for a press end; afterwards `finger` decides.
    pub presses: VecDeque<Touch>,
    /// How a wait ends when `presses` is empty.
    pub finger: Touch,
    /// Every press that was asked for.
    pub asked: Vec<TouchReason>,
    /// The clock.
    pub now: Uptime,
    /// Whether the random generator is healthy.
    pub healthy: bool,
    /// Whether tries are counted.
    pub wipes: bool,
    /// When a press is needed.
    pub presence: PresencePolicy,
    /// When it locks itself.
    pub idle_lock_ms: Option<u64>,
    counter: u64,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            presses: VecDeque::new(),
            finger: Touch::Pressed,
            asked: Vec::new(),
            now: Uptime { epoch: 1, ms: 1000 },
            healthy: true,
            wipes: true,
            presence: PresencePolicy::Listed,
            idle_lock_ms: None,
            counter: 0,
        }
    }
}

/// A handle on [`Control`]; clones share it.
#[derive(Clone, Default)]
pub struct TestEnv {
    control: Rc<RefCell<Control>>,
    rng: TestRng,
}

/// SHA-256 of seed and counter: reproducible, and for tests only. Its counter outlives the power.
#[derive(Clone, Default)]
pub struct TestRng {
    seed: u64,
    control: Rc<RefCell<Control>>,
}

impl TestEnv {
    /// Makes surroundings whose random numbers come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let control = Rc::<RefCell<Control>>::default();
        Self {
            rng: TestRng {
                seed,
                control: control.clone(),
            },
            control,
        }
    }

    /// The controls.
    pub fn control(&self) -> RefMut<'_, Control> {
        self.control.borrow_mut()
    }

    /// A copy of the surroundings as they are now, with controls of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        let fork = Self::new(self.rng.seed);
        {
            let (from, mut to) = (self.control(), fork.control());
            to.presses.clone_from(&from.presses);
            to.asked.clone_from(&from.asked);
            (to.finger, to.now, to.healthy) = (from.finger, from.now, from.healthy);
            (to.wipes, to.presence, to.idle_lock_ms) =
                (from.wipes, from.presence, from.idle_lock_ms);
            to.counter = from.counter;
        }
        fork
    }
}

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(32) {
            let counter = {
                let mut control = self.control.borrow_mut();
                control.counter += 1;
                control.counter
            };
            let block = sha256(&[
                b"test rng",
                &self.seed.to_le_bytes(),
                &counter.to_le_bytes(),
            ]);
            part.copy_from_slice(&block[..part.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

impl Env for TestEnv {
    type Rng = TestRng;
    type Flash = SharedFlash;

    fn rng(&mut self) -> Option<&mut TestRng> {
        let healthy = self.control().healthy;
        healthy.then_some(&mut self.rng)
    }

    fn now(&self) -> Uptime {
        self.control().now
    }

    async fn touch(&mut self, reason: TouchReason) -> Touch {
        let mut control = self.control();
        control.asked.push(reason);
        let finger = control.finger;
        control.presses.pop_front().unwrap_or(finger)
    }

    fn presence(&self) -> PresencePolicy {
        self.control().presence
    }

    fn wipes(&self) -> bool {
        self.control().wipes
    }

    fn board(&self) -> &str {
        "test"
    }

    fn idle_lock_ms(&self) -> Option<u64> {
        self.control().idle_lock_ms
    }
}
