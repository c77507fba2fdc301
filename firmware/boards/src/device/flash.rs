//! The token's part of a chip's flash, as the application takes it.

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use hostchat_token::flash::Flash;
use zeroize::Zeroizing;

use super::chip::Cells;

/// An access outside the token's part or not on word boundaries, or cells that did not take what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashError(pub NorFlashErrorKind);

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

/// The flash.
pub struct DeviceFlash(Cells);

impl DeviceFlash {
    /// Takes the chip's flash.
    #[must_use]
    pub fn new(cells: Cells) -> Self {
        Self(cells)
    }

    /// Makes sure that cells hold nothing any more: keys that look destroyed must be.
    fn check_zeroed(&mut self, mut at: u32, length: usize) -> Result<(), FlashError> {
        let mut cells = Zeroizing::new([0; 64]);
        let mut left = length;
        while let Some(part) = cells
            .get_mut(..left.min(64))
            .filter(|part| !part.is_empty())
        {
            self.0.read(at, part)?;
            if part.iter().any(|cell| *cell != 0) {
                return Err(FlashError(NorFlashErrorKind::Other));
            }
            at += part.len() as u32;
            left -= part.len();
        }
        Ok(())
    }
}

/// Where an access begins on the chip; refuses one that is not within the token's part and on boundaries of `step`.
///
/// `usize` has 32 bits on these processors.
fn place(offset: u32, length: usize, step: usize) -> Result<u32, FlashError> {
    let start = offset as usize;
    if start
        .checked_add(length)
        .is_none_or(|end| end > Cells::CAPACITY)
    {
        return Err(FlashError(NorFlashErrorKind::OutOfBounds));
    }
    if !start.is_multiple_of(step) || !length.is_multiple_of(step) {
        return Err(FlashError(NorFlashErrorKind::NotAligned));
    }
    Ok(Cells::BASE + offset)
}

impl ErrorType for DeviceFlash {
    type Error = FlashError;
}

impl ReadNorFlash for DeviceFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let at = place(offset, bytes.len(), Self::READ_SIZE)?;
        self.0.read(at, bytes)
    }

    fn capacity(&self) -> usize {
        Cells::CAPACITY
    }
}

impl NorFlash for DeviceFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = Cells::PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let length = to
            .checked_sub(from)
            .ok_or(FlashError(NorFlashErrorKind::OutOfBounds))?;
        let mut at = place(from, length as usize, Self::ERASE_SIZE)?;
        // Page by page: the processor does nothing else while one is erased.
        for _ in 0..length as usize / Self::ERASE_SIZE {
            self.0.erase_page(at)?;
            at += Self::ERASE_SIZE as u32;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let at = place(offset, bytes.len(), Self::WRITE_SIZE)?;
        self.0.program(at, bytes)?;
        if bytes.iter().all(|byte| *byte == 0) {
            self.check_zeroed(at, bytes.len())?;
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for DeviceFlash {}

impl Flash for DeviceFlash {
    const MAX_PROGRAMS: u32 = Cells::MAX_PROGRAMS;

    async fn sync(&mut self) -> Result<(), FlashError> {
        Ok(())
    }
}
