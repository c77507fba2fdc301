//! The surroundings of the token on a board.

use embassy_time::Instant;
use hostchat_token::env::{Env, Touch, TouchReason, Uptime};
use hostchat_token::random::Random;

use super::chip::{BOARD, Button, Noise};
use super::flash::DeviceFlash;
use super::{presence, status};
use crate::log::{Event, log};

/// The board behind the token's `Env`.
pub struct DeviceEnv {
    random: Random<Noise>,
    button: Button,
    epoch: u32,
}

impl DeviceEnv {
    /// Takes the board's parts; draws the number that tells this power cycle from others.
    ///
    /// While the source of random numbers is broken there is no such number. 0 is as good as any then: nothing that is
    /// counted by power cycle can begin without random numbers.
    #[must_use]
    pub fn new(mut random: Random<Noise>, button: Button) -> Self {
        let epoch = random.healthy().map_or(0, Random::next_number);
        Self {
            random,
            button,
            epoch,
        }
    }
}

impl Env for DeviceEnv {
    type Rng = Random<Noise>;
    type Flash = DeviceFlash;

    fn rng(&mut self) -> Option<&mut Self::Rng> {
        let random = self.random.healthy();
        if random.is_none() {
            log(|| Event::NoRandom);
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
        presence::wait(&mut self.button)
    }

    fn board(&self) -> &str {
        BOARD
    }
}
