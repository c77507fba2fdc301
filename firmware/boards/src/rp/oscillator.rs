//! The RP2040's source of noise: the ring oscillator, read slowly.
//!
//! The RP2040 has no generator of random numbers. Its data sheet (2.17.5) says that the oscillator's random bit is not
//! fit for security as it is: bits read in a row depend on each other. They are therefore read [`SPACING`] cycles apart,
//! health-tested as half of what they look like, and hashed (`hostchat_token::random`).

use cortex_m::asm::delay;
use embassy_rp::pac;
use hostchat_token::random::Source;

/// Cycles of the processor between two bits: some sixteen of the oscillator's, at 125 and 6.5 MHz.
const SPACING: u32 = 300;

/// The ring oscillator, which runs beside the crystal.
pub struct RingOscillator;

impl Source for RingOscillator {
    fn fill(&mut self, out: &mut [u8]) -> bool {
        for byte in out {
            *byte = (0..u8::BITS).fold(0, |bits, _| {
                delay(SPACING);
                bits << 1 | u8::from(pac::ROSC.randombit().read().randombit())
            });
        }
        pac::ROSC.status().read().stable()
    }
}

impl RingOscillator {
    pub(super) fn start() -> Self {
        Self
    }
}
