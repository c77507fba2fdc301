//! Uptime from the board's 100 Hz counter, and a tick from SysTick for keepalives.
//!
//! The counter goes on while the processor waits for the host; SysTick would lose ticks there.

use core::cell::Cell;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use critical_section::Mutex;
use hostchat_token::port::TICK_MS;

/// FPGAIO block, CLK100HZ (ARM DAI0386, "System Control").
const CLK100HZ: *const u32 = 0x4002_8014 as *const u32;
/// The processor's clock.
const HZ: u32 = 25_000_000;

/// What the counter showed last, and how often it has wrapped (once in 497 days).
static LAST: Mutex<Cell<(u32, u32)>> = Mutex::new(Cell::new((0, 0)));

/// Milliseconds since power-up, in steps of ten.
#[must_use]
pub fn uptime_ms() -> u64 {
    critical_section::with(|cs| {
        // SAFETY: a read-only register of the board that is always mapped; reading it has no side effect.
        let now = unsafe { CLK100HZ.read_volatile() };
        let (last, wraps) = LAST.borrow(cs).get();
        let wraps = if now < last { wraps + 1 } else { wraps };
        LAST.borrow(cs).set((now, wraps));
        ((u64::from(wraps) << 32) | u64::from(now)) * 10
    })
}

/// Starts the tick, every [`TICK_MS`].
pub fn start(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(HZ / 1000 * TICK_MS - 1);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}
