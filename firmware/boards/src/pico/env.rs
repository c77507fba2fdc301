//! The surroundings of the token on this board.

use embassy_time::Instant;
use hostchat_token::env::{Env, Touch, TouchReason, Uptime};
use hostchat_token::random::Random;

use super::flash::PicoFlash;
use super::presence::Button;
use super::rng::RingOscillator;
use super::status;

/// The board behind the token's `Env`.
pub struct PicoEnv {
    random: Random<RingOscillator>,
    button: Button,
    epoch: u32,
}

impl PicoEnv {
    /// Takes the board's parts; draws the number that tells this power cycle from others.
    ///
    /// While the source of random numbers is broken there is no such number. 0 is as good as any then: nothing that is
    /// counted by power cycle can begin without random numbers.
    #[must_use]
    pub fn new(mut random: Random<RingOscillator>, button: Button) -> Self {
        let epoch = random.healthy().map_or(0, Random::next_number);
        Self {
            random,
            button,
            epoch,
        }
    }
}

impl Env for PicoEnv {
    type Rng = Random<RingOscillator>;
    type Flash = PicoFlash;

    fn rng(&mut self) -> Option<&mut Self::Rng> {
        let random = self.random.healthy();
        if random.is_none() {
            status::set_broken();
        }
        random
    }

    fn now(&self) -> Uptime {
        Uptime {
            epoch: self.epoch,
            ms: Instant::now().as_millis(),
        }
    }

    async fn touch(&mut self, _reason: TouchReason) -> Touch {
        self.button.wait()
    }

    fn board(&self) -> &str {
        "pico"
    }
}
