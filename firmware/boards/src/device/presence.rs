//! Waits for a press of the button.

use embassy_time::Instant;
use hostchat_core::icd::TOUCH_TIMEOUT_MS;
use hostchat_token::env::Touch;
use hostchat_token::presence::PressDetector;

use super::chip::Button;
use super::port::PORT;
use super::status;
use crate::serve::Line as _;

/// Milliseconds between two looks at the button.
const LOOK_MS: u64 = 20;

/// Waits for a press that begins now.
pub(super) fn wait(button: &mut Button) -> Touch {
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
        detector.sample(button.is_down()).then_some(Touch::Pressed)
    });
    status::set_touch_needed(false);
    PORT.with_port(|port| port.set_touch_needed(false));
    touch
}
