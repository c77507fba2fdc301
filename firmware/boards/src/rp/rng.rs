//! Random numbers: the chip's source of noise, tested; other sources are mixed in and counted for nothing.

use embassy_rp::Peri;
use embassy_rp::adc::{Adc, Blocking, Channel};
use embassy_rp::peripherals::ADC_TEMP_SENSOR;
use embassy_time::Instant;
use hostchat_token::random::Random;

use super::Noise;

/// Samples of the temperature sensor, whose lowest bits are noise.
const SAMPLES: usize = 32;

/// Starts the generator.
pub(super) fn start(
    serial_number: &[u8; 8],
    mut adc: Adc<'static, Blocking>,
    sensor: Peri<'static, ADC_TEMP_SENSOR>,
) -> Random<Noise> {
    let mut device = heapless::Vec::<u8, { 8 + 2 * SAMPLES + 8 }>::new();
    // All of it fits.
    let _ = device.extend_from_slice(serial_number);
    let mut sensor = Channel::new_temp_sensor(sensor);
    for _ in 0..SAMPLES {
        let sample = adc.blocking_read(&mut sensor).unwrap_or_default();
        let _ = device.extend_from_slice(&sample.to_le_bytes());
    }
    let _ = device.extend_from_slice(&Instant::now().as_ticks().to_le_bytes());
    Random::new(Noise::start(), &device)
}
