//! The processor's own flash, between the image and the boot loader.
//!
//! What Nordic's nRF52840 product specification says (NVMC): the same word "can only be written nWRITE number of times
//! before a page erase must be performed", a write that leaves all its bits alone included, and nWRITE is 2. An early
//! edition (0.5.1) counted 403 writes in each block of 512 bytes instead. The application programs a word once with data
//! and once with zeros, also when the power is cut in between (`hostchat_token::flash`, and a flash in memory that panics
//! at the third time under all its tests): two for each word, 256 at most in a block. The driver below writes the words
//! that it is given, each once. A page stands 10,000 erases.
//!
//! The boot loader puts a new image behind the old one before it takes its place, so the token's part begins where that
//! cannot reach: `memory/nrf52840.x` lets an image have half of what is below.

use embassy_nrf::Peri;
use embassy_nrf::nvmc::{Error, Nvmc, PAGE_SIZE};
use embassy_nrf::peripherals::NVMC;
use embedded_storage::nor_flash::{NorFlash as _, NorFlashError as _, ReadNorFlash as _};

use crate::device::flash::FlashError;

impl From<Error> for FlashError {
    fn from(error: Error) -> Self {
        Self(error.kind())
    }
}

/// The flash.
pub struct Cells(Nvmc<'static>);

impl Cells {
    /// Where the token's part begins.
    pub const BASE: u32 = 0x8_0000;
    /// Bytes of the token's part; the boot loader begins behind it.
    pub const CAPACITY: usize = 0xE_0000 - Self::BASE as usize;
    /// Bytes that are erased at once, in 85 ms in which the processor stands still.
    pub const PAGE: usize = PAGE_SIZE;
    /// How often a word may be programmed between two erases.
    pub const MAX_PROGRAMS: u32 = 2;

    /// Takes the flash.
    #[must_use]
    pub fn new(flash: Peri<'static, NVMC>) -> Self {
        Self(Nvmc::new(flash))
    }

    pub(crate) fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        Ok(self.0.read(at, bytes)?)
    }

    pub(crate) fn erase_page(&mut self, at: u32) -> Result<(), FlashError> {
        Ok(self.0.erase(at, at + PAGE_SIZE as u32)?)
    }

    pub(crate) fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        Ok(self.0.write(at, bytes)?)
    }
}
