//! Random numbers: the ring oscillator, read slowly and tested; other sources are mixed in and counted for nothing.
//!
//! The RP2040 has no generator of random numbers. Its data sheet (2.17.5) says that the oscillator's random bit is not
//! fit for security as it is: bits read in a row depend on each other. They are therefore read [`SPACING`] cycles apart,
//! health-tested as half of what they look like, and hashed (`hostchat_token::random`).

use cortex_m::asm::delay;
use embassy_rp::Peri;
use embassy_rp::adc::{Adc, Blocking, Channel};
use embassy_rp::pac;
use embassy_rp::peripherals::ADC_TEMP_SENSOR;
use embassy_time::Instant;
use hostchat_token::random::{Random, Source};

/// Cycles of the processor between two bits: some sixteen of the oscillator's, at 125 and 6.5 MHz.
const SPACING: u32 = 300;
/// Samples of the temperature sensor, whose lowest bits are noise.
const SAMPLES: usize = 32;

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

/// Starts the generator.
pub fn start(
    serial_number: &[u8; 8],
    mut adc: Adc<'static, Blocking>,
    sensor: Peri<'static, ADC_TEMP_SENSOR>,
) -> Random<RingOscillator> {
    let mut device = heapless::Vec::<u8, { 8 + 2 * SAMPLES + 8 }>::new();
    // All of it fits.
    let _ = device.extend_from_slice(serial_number);
    let mut sensor = Channel::new_temp_sensor(sensor);
    for _ in 0..SAMPLES {
        let sample = adc.blocking_read(&mut sensor).unwrap_or_default();
        let _ = device.extend_from_slice(&sample.to_le_bytes());
    }
    let _ = device.extend_from_slice(&Instant::now().as_ticks().to_le_bytes());
    Random::new(RingOscillator, &device)
}
