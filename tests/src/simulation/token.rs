//! A token in the thread of its client: the real application over a flash in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embedded_storage_async::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use hostchat::error::Result;
use hostchat::transport::{Link, LinkBuffer};
use hostchat_core::icd::Activity;
use hostchat_token::App;
use hostchat_token::env::{Env, Touch, TouchReason, Uptime};
use hostchat_token::flash::Flash;
use hostchat_token::testing::{PAGE, RamFlash, RamFlashError, now};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::Clock;

/// Pages of a flash: room for dozens of sessions, and a quarter of a software token's file, since it is copied often.
const PAGES: usize = 64;

/// A flash that outlives the token on it; clones share it.
#[derive(Clone)]
pub struct SimFlash(Arc<Mutex<RamFlash>>);

impl SimFlash {
    /// A blank one.
    pub fn blank() -> Self {
        Self::of(RamFlash::new(PAGES))
    }

    fn of(flash: RamFlash) -> Self {
        Self(Arc::new(Mutex::new(flash)))
    }

    /// One that holds `image`; blank bytes at its end may be left out.
    pub fn from_image(image: &[u8]) -> Self {
        let mut image = image.to_vec();
        image.resize(PAGES * PAGE, 0xFF);
        Self::of(RamFlash::from_image(&image))
    }

    /// What is on it, without the blank bytes at the end.
    pub fn image(&self) -> Vec<u8> {
        let flash = self.lock();
        let bytes = flash.dump();
        let end = bytes.iter().rposition(|byte| *byte != 0xFF);
        bytes[..end.map_or(0, |last| last + 1)].to_vec()
    }

    /// The flash itself, for power cuts and wear.
    pub fn lock(&self) -> MutexGuard<'_, RamFlash> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ErrorType for SimFlash {
    type Error = RamFlashError;
}

impl ReadNorFlash for SimFlash {
    const READ_SIZE: usize = RamFlash::READ_SIZE;

    async fn read(
        &mut self,
        offset: u32,
        bytes: &mut [u8],
    ) -> std::result::Result<(), RamFlashError> {
        now(self.lock().read(offset, bytes))
    }

    fn capacity(&self) -> usize {
        self.lock().capacity()
    }
}

impl NorFlash for SimFlash {
    const WRITE_SIZE: usize = RamFlash::WRITE_SIZE;
    const ERASE_SIZE: usize = RamFlash::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> std::result::Result<(), RamFlashError> {
        now(self.lock().erase(from, to))
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> std::result::Result<(), RamFlashError> {
        now(self.lock().write(offset, bytes))
    }
}

impl MultiwriteNorFlash for SimFlash {}

impl Flash for SimFlash {
    const MAX_PROGRAMS: u32 = RamFlash::MAX_PROGRAMS;

    async fn sync(&mut self) -> std::result::Result<(), RamFlashError> {
        now(self.lock().sync())
    }
}

/// The surroundings of such a token: whoever is asked presses at once.
struct SimEnv {
    clock: Clock,
    rng: ChaCha20Rng,
}

impl Env for SimEnv {
    type Rng = ChaCha20Rng;
    type Flash = SimFlash;

    fn rng(&mut self) -> Option<&mut ChaCha20Rng> {
        Some(&mut self.rng)
    }

    fn now(&self) -> Uptime {
        Uptime {
            epoch: 1,
            ms: self.clock.uptime_ms(),
        }
    }

    async fn touch(&mut self, _reason: TouchReason) -> Touch {
        Touch::Pressed
    }

    fn wipes(&self) -> bool {
        false
    }

    fn board(&self) -> &str {
        "software"
    }
}

/// A link to a token that runs when it is asked, and only then.
pub struct SimLink(Box<App<SimEnv>>);

impl SimLink {
    /// Starts the token on `flash`; its random numbers come from `seed`.
    ///
    /// # Panics
    /// If the flash cannot be used.
    pub fn start(flash: SimFlash, clock: Clock, seed: u64) -> Self {
        let rng = ChaCha20Rng::seed_from_u64(seed);
        let app = now(App::new(SimEnv { clock, rng }, flash));
        Self(Box::new(app.expect("a flash of the right size")))
    }
}

impl Link for SimLink {
    fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut LinkBuffer,
        _alive: &mut dyn FnMut(Option<Activity>) -> bool,
    ) -> Result<()> {
        now(self.0.handle(request, reply));
        Ok(())
    }

    fn describe(&self) -> &str {
        "the simulated token"
    }
}
