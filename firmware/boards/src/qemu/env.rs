//! The surroundings of the token on this board.

use hostchat_token::env::{Env, Touch, TouchReason, Uptime};
use hostchat_token::random::Random;

use super::flash::HostFlash;
use super::presence::Button;
use super::rng::HostEntropy;
use super::{clock, rng};

/// The board behind the token's `Env`.
pub struct QemuEnv {
    random: Random<HostEntropy>,
    button: Button,
    epoch: u32,
}

impl QemuEnv {
    /// Tests the source of random numbers and draws this power cycle's epoch.
    #[must_use]
    pub fn new() -> Self {
        let (random, epoch) = rng::start();
        Self {
            random,
            button: Button::from_command_line(),
            epoch,
        }
    }
}

impl Default for QemuEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for QemuEnv {
    type Rng = Random<HostEntropy>;
    type Flash = HostFlash;

    fn rng(&mut self) -> Option<&mut Self::Rng> {
        self.random.healthy()
    }

    fn now(&self) -> Uptime {
        Uptime {
            epoch: self.epoch,
            ms: clock::uptime_ms(),
        }
    }

    async fn touch(&mut self, _reason: TouchReason) -> Touch {
        self.button.wait()
    }

    fn board(&self) -> &str {
        "qemu"
    }
}
