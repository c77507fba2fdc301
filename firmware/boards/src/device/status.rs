//! What the token is doing: shown by the light, and limited in time by the watchdog.
//!
//! | light | meaning |
//! |---|---|
//! | a blink every two seconds | idle |
//! | on | working |
//! | five blinks a second | press the button |
//! | three blinks every two seconds | broken: no random numbers, or no flash |

use embassy_time::Duration;
use portable_atomic::{AtomicBool, AtomicU32, Ordering};

use super::chip::{Guard, Light};

/// Milliseconds between two looks.
pub const LOOK_MS: u32 = 25;
/// How long the chip lives without a look.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time that one request may take, waits for a press not counted: far above that of the slowest.
const LONGEST_MS: u32 = 120_000;

static BROKEN: AtomicBool = AtomicBool::new(false);
static TOUCH_NEEDED: AtomicBool = AtomicBool::new(false);
static WORKING: AtomicBool = AtomicBool::new(true);
/// Looks since the work at hand began.
static WORKED: AtomicU32 = AtomicU32::new(0);

/// Work begins or ends. At power-up the token works.
pub fn set_working(working: bool) {
    WORKED.store(0, Ordering::Relaxed);
    WORKING.store(working, Ordering::Relaxed);
}

/// A wait for a press begins or ends.
pub fn set_touch_needed(needed: bool) {
    WORKED.store(0, Ordering::Relaxed);
    TOUCH_NEEDED.store(needed, Ordering::Relaxed);
}

/// Something is broken until the next power cycle.
pub fn set_broken() {
    BROKEN.store(true, Ordering::Relaxed);
}

/// What the light can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No request is under way.
    Idle,
    /// A request is being answered.
    Working,
    /// The button is to be pressed.
    TouchNeeded,
    /// No random numbers, or no flash.
    Broken,
}

impl State {
    fn now() -> Self {
        if BROKEN.load(Ordering::Relaxed) {
            Self::Broken
        } else if TOUCH_NEEDED.load(Ordering::Relaxed) {
            Self::TouchNeeded
        } else if WORKING.load(Ordering::Relaxed) {
            Self::Working
        } else {
            Self::Idle
        }
    }

    /// Whether the light is on at `ms` of its two seconds.
    fn lit(self, ms: u32) -> bool {
        match self {
            Self::Broken => ms < 900 && ms % 300 < 150,
            Self::TouchNeeded => ms % 200 < 100,
            Self::Working => true,
            Self::Idle => ms < 50,
        }
    }
}

/// The light and the watchdog.
pub struct Lookout {
    light: Light,
    guard: Guard,
    looks: u32,
}

impl Lookout {
    /// Takes both; the watchdog runs.
    #[must_use]
    pub fn new(light: Light, guard: Guard) -> Self {
        Self {
            light,
            guard,
            looks: 0,
        }
    }

    /// To be called every [`LOOK_MS`].
    pub fn look(&mut self) {
        let worked = if WORKING.load(Ordering::Relaxed) && !TOUCH_NEEDED.load(Ordering::Relaxed) {
            WORKED.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        if worked < LONGEST_MS / LOOK_MS {
            self.guard.feed();
        }
        let state = State::now();
        self.light
            .show(state, state.lit(self.looks * LOOK_MS % 2_000));
        self.looks = self.looks.wrapping_add(1);
    }
}
