//! The upper half of the Pico's flash chip.
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
use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use hostchat_token::flash::Flash;
use zeroize::Zeroizing;

/// Bytes of the whole chip.
const CHIP: usize = 2 << 20;
/// Where the token's part begins: `memory/pico.x` keeps the image below.
const BASE: u32 = 1 << 20;
/// Bytes of the token's part: room for 64 contacts with two sessions each.
const CAPACITY: usize = CHIP - BASE as usize;

/// An access outside the token's part or not on word boundaries, or cells that did not take what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashError(NorFlashErrorKind);

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl From<Error> for FlashError {
    fn from(error: Error) -> Self {
        Self(error.kind())
    }
}

/// The flash.
pub struct PicoFlash(Chip<'static, FLASH, Blocking, CHIP>);

impl PicoFlash {
    /// Takes the chip.
    #[must_use]
    pub fn new(flash: Peri<'static, FLASH>) -> Self {
        Self(Chip::new_blocking(flash))
    }

    /// The chip's own number, different on every board.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn serial_number(&mut self) -> Result<[u8; 8], FlashError> {
        let mut number = [0; 8];
        self.0.blocking_unique_id(&mut number)?;
        Ok(number)
    }
}

/// Where an access begins on the chip; refuses one that is not within the token's part and on boundaries of `step`.
///
/// `usize` has 32 bits on this processor.
fn place(offset: u32, length: usize, step: usize) -> Result<u32, FlashError> {
    let start = offset as usize;
    if start.checked_add(length).is_none_or(|end| end > CAPACITY) {
        return Err(FlashError(NorFlashErrorKind::OutOfBounds));
    }
    if !start.is_multiple_of(step) || !length.is_multiple_of(step) {
        return Err(FlashError(NorFlashErrorKind::NotAligned));
    }
    Ok(BASE + offset)
}

impl ErrorType for PicoFlash {
    type Error = FlashError;
}

impl ReadNorFlash for PicoFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let at = place(offset, bytes.len(), Self::READ_SIZE)?;
        Ok(self.0.blocking_read(at, bytes)?)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for PicoFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let length = to
            .checked_sub(from)
            .ok_or(FlashError(NorFlashErrorKind::OutOfBounds))?;
        let mut at = place(from, length as usize, ERASE_SIZE)?;
        // Page by page: interrupts are off while one is erased.
        for _ in 0..length as usize / ERASE_SIZE {
            self.0.blocking_erase(at, at + ERASE_SIZE as u32)?;
            at += ERASE_SIZE as u32;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut at = place(offset, bytes.len(), Self::WRITE_SIZE)?;
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
            if part.iter().all(|byte| *byte == 0) {
                self.0.blocking_read(at - begin as u32, &mut *page)?;
                let cells = page.get(begin..begin + part.len()).unwrap_or_default();
                if cells.iter().any(|cell| *cell != 0) {
                    return Err(FlashError(NorFlashErrorKind::Other));
                }
            }
            at += part.len() as u32;
            rest = later;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for PicoFlash {}

impl Flash for PicoFlash {
    async fn sync(&mut self) -> Result<(), FlashError> {
        Ok(())
    }
}
