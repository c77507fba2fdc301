//! Random numbers: the chip's generator, tested; other sources are mixed in and counted for nothing.

use embassy_nrf::pac::{FICR, RNG, TEMP};
use embassy_time::{Duration, Instant};
use hostchat_token::random::{Random, Source};

/// Samples of the thermometer, whose lowest bits are noise.
const SAMPLES: usize = 32;
/// How long a byte may take: far above the 120 microseconds that one with bias correction takes.
const PATIENCE: Duration = Duration::from_millis(20);

/// The generator of random numbers, thermal noise made even by its bias correction (nRF52840 product specification, RNG).
pub struct Generator(());

impl Generator {
    fn start() -> Self {
        RNG.config().write(|w| w.set_dercen(true));
        Self(())
    }
}

impl Source for Generator {
    fn fill(&mut self, out: &mut [u8]) -> bool {
        RNG.events_valrdy().write_value(0);
        RNG.tasks_start().write_value(1);
        let filled = out.iter_mut().all(|byte| {
            let ready = happens(|| RNG.events_valrdy().read() != 0);
            RNG.events_valrdy().write_value(0);
            *byte = RNG.value().read().value();
            ready
        });
        RNG.tasks_stop().write_value(1);
        filled
    }
}

/// Waits for an event; `false` if it does not come in time.
fn happens(event: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !event() {
        if begin.elapsed() > PATIENCE {
            return false;
        }
    }
    true
}

/// The number that every chip has of its own.
#[must_use]
pub fn serial_number() -> [u8; 8] {
    let [high, low] = [1, 0].map(|word| u64::from(FICR.deviceid(word).read()));
    (high << 32 | low).to_be_bytes()
}

/// Starts the generator.
#[must_use]
pub fn start() -> Random<Generator> {
    let mut device = heapless::Vec::<u8, { 8 + 4 * SAMPLES + 8 }>::new();
    // All of it fits.
    let _ = device.extend_from_slice(&serial_number());
    for _ in 0..SAMPLES {
        TEMP.events_datardy().write_value(0);
        TEMP.tasks_start().write_value(1);
        if happens(|| TEMP.events_datardy().read() != 0) {
            let _ = device.extend_from_slice(&TEMP.temp().read().to_le_bytes());
        }
    }
    let _ = device.extend_from_slice(&Instant::now().as_ticks().to_le_bytes());
    Random::new(Generator::start(), &device)
}
