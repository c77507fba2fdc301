//! What the token is doing: shown by the LED, and limited in time by the watchdog.
//!
//! | LED | meaning |
//! |---|---|
//! | a blink every two seconds | idle |
//! | on | working |
//! | five blinks a second | press the button |
//! | three blinks every two seconds | broken: no random numbers, or no flash |

use embassy_rp::gpio::Output;
use embassy_rp::watchdog::Watchdog;
use embassy_time::Duration;
use portable_atomic::{AtomicBool, AtomicU32, Ordering};

/// Milliseconds between two looks.
pub const LOOK_MS: u32 = 25;
/// How long the chip lives without a look.
const PATIENCE: Duration = Duration::from_secs(5);
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

/// The LED and the watchdog.
pub struct Lookout {
    led: Output<'static>,
    watchdog: Watchdog,
    looks: u32,
}

impl Lookout {
    /// Starts the watchdog.
    #[must_use]
    pub fn new(led: Output<'static>, mut watchdog: Watchdog) -> Self {
        watchdog.start(PATIENCE);
        Self {
            led,
            watchdog,
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
            self.watchdog.feed(PATIENCE);
        }
        let shown = lit(self.looks * LOOK_MS % 2_000);
        self.led.set_level(shown.into());
        self.looks = self.looks.wrapping_add(1);
    }
}

/// Whether the LED is on at `ms` of its two seconds.
fn lit(ms: u32) -> bool {
    if BROKEN.load(Ordering::Relaxed) {
        ms < 900 && ms % 300 < 150
    } else if TOUCH_NEEDED.load(Ordering::Relaxed) {
        ms % 200 < 100
    } else if WORKING.load(Ordering::Relaxed) {
        true
    } else {
        ms < 50
    }
}
