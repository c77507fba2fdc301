//! From a button's level to a press.

/// Tells presses of a button from a button that is held.
///
/// One detector serves one wait. A press counts once the button was seen up and then down, so a button that
/// is held since boot, or since the wait before, is none; a press shorter than two samples is taken for bouncing.
#[derive(Debug, Default)]
pub struct PressDetector {
    seen_up: bool,
    down: bool,
}

impl PressDetector {
    /// Waits for the button to be up first.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            seen_up: false,
            down: false,
        }
    }

    /// Takes the level of the button, sampled every few milliseconds; tells whether it was pressed.
    pub fn sample(&mut self, down: bool) -> bool {
        let pressed = self.seen_up && self.down && down;
        self.seen_up |= !down;
        self.down = down;
        pressed
    }
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::PressDetector;

    fn presses(samples: &str) -> bool {
        let mut detector = PressDetector::new();
        samples
            .bytes()
            .any(|sample| detector.sample(sample == b'#'))
    }

    #[cfg_attr(test, test)]
    pub fn a_button_held_since_boot_is_no_press() {
        assert!(!presses("##########"));
        assert!(!presses("##########......"));
        assert!(presses("####....##"));
    }

    #[cfg_attr(test, test)]
    pub fn bouncing_is_no_press() {
        assert!(!presses("..#.#.#.."));
        assert!(presses("..#.##"));
        assert!(!presses("........"));
    }
}
