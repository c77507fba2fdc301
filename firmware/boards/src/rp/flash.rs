//! The upper half of the flash chip: a Winbond W25Q16 on the Pico, a W25Q32 on the Pico 2.
//!
//! What Winbond's data sheets say about programming a word twice (W25Q16BV 11.2.17 and W25Q16DW 10.2.20, "Page Program"):
//! "from one byte to 256 bytes ... at previously erased (FFh) memory locations"; a part of a page is programmed "without
//! having any effect on other bytes within the same page"; no limit is given on the programs of a page between two erases.
//! That of the W25P80/16 (9.2.9) says that "individual bit-level programming (from 1 to 0) is not supported" there, and
//! to use the W25X family, from which the W25Q descends, where it is needed. So many programs of one page, each of words
//! that were blank, are what the sheets allow; that zeros are written over data goes beyond what they promise in so many
//! words. After such a write the cells are therefore read back, and one that is not zero is an error.

use embassy_rp::Peri;
use embassy_rp::flash::{Blocking, ERASE_SIZE, Error, Flash as Chip, PAGE_SIZE};
use embassy_rp::peripherals::FLASH;
use embedded_storage_async::nor_flash::NorFlashError as _;
use zeroize::Zeroizing;

use crate::device::flash::FlashError;

/// Bytes of the whole chip.
const CHIP: usize = if cfg!(feature = "pico") { 2 } else { 4 } << 20;

impl From<Error> for FlashError {
    fn from(error: Error) -> Self {
        Self(error.kind())
    }
}

/// The flash chip.
pub struct Cells(Chip<'static, FLASH, Blocking, CHIP>);

impl Cells {
    /// Where the token's part begins: the board's memory map keeps the image below.
    pub const BASE: u32 = (CHIP / 2) as u32;
    /// Bytes of the token's part: room for 64 contacts with two sessions each.
    pub const CAPACITY: usize = CHIP / 2;
    /// Bytes that are erased at once.
    pub const PAGE: usize = ERASE_SIZE;
    /// How often a word may be programmed between two erases: no limit is given.
    pub const MAX_PROGRAMS: u32 = u32::MAX;

    /// Takes the chip.
    #[must_use]
    pub fn new(flash: Peri<'static, FLASH>) -> Self {
        Self(Chip::new_blocking(flash))
    }

    /// A number that is different on every board: the flash chip's.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    #[cfg(feature = "pico")]
    pub fn serial_number(&mut self) -> Result<[u8; 8], FlashError> {
        let mut number = [0; 8];
        self.0.blocking_unique_id(&mut number)?;
        Ok(number)
    }

    /// A number that is different on every board: the processor's.
    ///
    /// # Errors
    ///
    /// The number cannot be read.
    #[cfg(feature = "pico2")]
    pub fn serial_number(&mut self) -> Result<[u8; 8], FlashError> {
        use embedded_storage_async::nor_flash::NorFlashErrorKind;

        embassy_rp::otp::get_chipid()
            .map(u64::to_be_bytes)
            .map_err(|_| FlashError(NorFlashErrorKind::Other))
    }

    pub(crate) fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        Ok(self.0.blocking_read(at, bytes)?)
    }

    pub(crate) fn erase_page(&mut self, at: u32) -> Result<(), FlashError> {
        Ok(self.0.blocking_erase(at, at + ERASE_SIZE as u32)?)
    }

    pub(crate) fn program(&mut self, mut at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut rest = bytes;
        // Whole pages, blank where nothing is to be written: the driver would make such pages itself otherwise, and
        // leave copies of keys on the stack.
        let mut page = Zeroizing::new([0; PAGE_SIZE]);
        while !rest.is_empty() {
            let begin = at as usize % PAGE_SIZE;
            let (part, later) = rest.split_at(rest.len().min(PAGE_SIZE - begin));
            page.fill(0xFF);
            if let Some(cells) = page.get_mut(begin..begin + part.len()) {
                cells.copy_from_slice(part);
            }
            self.0.blocking_write(at - begin as u32, &*page)?;
            at += part.len() as u32;
            rest = later;
        }
        Ok(())
    }
}
