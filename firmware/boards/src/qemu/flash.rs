//! NOR flash in a file of the host: writes clear bits only.
//!
//! What was written survives the death of QEMU at any moment; whether it survives the death of the host is the host's
//! affair, since semihosting has no way to ask for that.

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use hostchat_token::flash::Flash;

use super::host::{File, HostError, Mode};

/// Bytes of an erase page, as on the Raspberry Pi Pico.
const PAGE: usize = 4096;
/// Bytes of the flash: room for 64 contacts with two sessions each. The runner makes the file.
pub const CAPACITY: usize = 256 * PAGE;
/// Bytes that one call of the host moves at most.
const CHUNK: usize = 256;

/// An access outside the flash or not on word boundaries, or a refusal of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashError(NorFlashErrorKind);

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl From<HostError> for FlashError {
    fn from(_: HostError) -> Self {
        Self(NorFlashErrorKind::Other)
    }
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        Self(kind)
    }
}

/// The flash.
pub struct HostFlash(File);

impl HostFlash {
    /// Opens the file `token.flash`.
    ///
    /// # Errors
    ///
    /// [`HostError`] if it is missing or has another size.
    pub fn open() -> Result<Self, HostError> {
        let file = File::open(c"token.flash", Mode::Update)?;
        if file.length()? == CAPACITY {
            Ok(Self(file))
        } else {
            Err(HostError)
        }
    }
}

/// Where an access begins in the file; refuses one that is not within the flash and on boundaries of `step`.
///
/// `usize` has 32 bits on this processor.
fn place(offset: u32, length: usize, step: usize) -> Result<usize, NorFlashErrorKind> {
    let start = offset as usize;
    if start.checked_add(length).is_none_or(|end| end > CAPACITY) {
        return Err(NorFlashErrorKind::OutOfBounds);
    }
    if !start.is_multiple_of(step) || !length.is_multiple_of(step) {
        return Err(NorFlashErrorKind::NotAligned);
    }
    Ok(start)
}

impl ErrorType for HostFlash {
    type Error = FlashError;
}

impl ReadNorFlash for HostFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let at = place(offset, bytes.len(), Self::READ_SIZE)?;
        self.0.seek(at)?;
        Ok(self.0.read(bytes)?)
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for HostFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let length = to.checked_sub(from).ok_or(NorFlashErrorKind::OutOfBounds)? as usize;
        let at = place(from, length, PAGE)?;
        self.0.seek(at)?;
        for _ in 0..length / CHUNK {
            self.0.write(&[0xFF; CHUNK])?;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut at = place(offset, bytes.len(), Self::WRITE_SIZE)?;
        for part in bytes.chunks(CHUNK) {
            let mut cells = [0; CHUNK];
            let Some(cells) = cells.get_mut(..part.len()) else {
                return Err(NorFlashErrorKind::OutOfBounds.into());
            };
            self.0.seek(at)?;
            self.0.read(cells)?;
            cells
                .iter_mut()
                .zip(part)
                .for_each(|(cell, byte)| *cell &= byte);
            self.0.seek(at)?;
            self.0.write(cells)?;
            at += part.len();
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for HostFlash {}

impl Flash for HostFlash {
    const MAX_PROGRAMS: u32 = u32::MAX;

    async fn sync(&mut self) -> Result<(), FlashError> {
        Ok(())
    }
}
