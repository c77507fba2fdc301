//! The button: BOOTSEL, which shares a pin with the flash chip's select line.

use embassy_rp::Peri;
use embassy_rp::bootsel::is_bootsel_pressed;
use embassy_rp::peripherals::BOOTSEL;
use embassy_time::Instant;
use hostchat_core::icd::TOUCH_TIMEOUT_MS;
use hostchat_token::env::Touch;
use hostchat_token::presence::PressDetector;

use super::port::PORT;
use super::status;
use crate::serve::Line as _;

/// Milliseconds between two looks at the button.
const LOOK_MS: u64 = 20;

/// The button.
pub struct Button(Peri<'static, BOOTSEL>);

impl Button {
    /// Takes the pin.
    #[must_use]
    pub fn new(pin: Peri<'static, BOOTSEL>) -> Self {
        Self(pin)
    }

    /// Waits for a press that begins now.
    pub fn wait(&mut self) -> Touch {
        let mut detector = PressDetector::new();
        let begin = Instant::now();
        let mut looked = begin;
        PORT.with_port(|port| port.set_touch_needed(true));
        status::set_touch_needed(true);
        let touch = PORT.wait(|port| {
            if port.is_cancelled() {
                return Some(Touch::Cancelled);
            }
            if begin.elapsed().as_millis() >= TOUCH_TIMEOUT_MS {
                return Some(Touch::TimedOut);
            }
            if looked.elapsed().as_millis() < LOOK_MS {
                return None;
            }
            looked = Instant::now();
            // Reading the pin stops everything for some 30 microseconds.
            let down = is_bootsel_pressed(self.0.reborrow());
            detector.sample(down).then_some(Touch::Pressed)
        });
        status::set_touch_needed(false);
        PORT.with_port(|port| port.set_touch_needed(false));
        touch
    }
}
