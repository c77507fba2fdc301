//! The flash as `sequential-storage` sees it: erases are atomic, and what was written is durable before a page mark is.
//!
//! A page whose erase was cut off may hold anything, old items and valid page marks among it, and the store would take
//! them for its newest. So each erase is first noted in the slot area; a boot repeats an erase that is still noted.

use core::fmt;

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::flash::Flash;
use crate::slots::{SlotError, Slots};

/// The flash and its slot area.
pub(crate) struct Guarded<F> {
    pub(crate) flash: F,
    pub(crate) slots: Slots,
}

/// Errors of [`Guarded`].
pub(crate) struct GuardError<E>(pub(crate) SlotError<E>);

impl<E> fmt::Debug for GuardError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SlotError::Flash(_) => "flash",
            SlotError::Full => "slots full",
        })
    }
}

impl<E: NorFlashError> NorFlashError for GuardError<E> {
    fn kind(&self) -> NorFlashErrorKind {
        match &self.0 {
            SlotError::Flash(error) => error.kind(),
            SlotError::Full => NorFlashErrorKind::Other,
        }
    }
}

impl<E> From<E> for GuardError<E> {
    fn from(error: E) -> Self {
        Self(SlotError::Flash(error))
    }
}

impl<F: Flash> ErrorType for Guarded<F> {
    type Error = GuardError<F::Error>;
}

impl<F: Flash> ReadNorFlash for Guarded<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        Ok(self.flash.read(offset, bytes).await?)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: Flash> NorFlash for Guarded<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        for page in (from..to).step_by(F::ERASE_SIZE) {
            // What was copied out of the page is durable before the note is.
            self.flash.sync().await?;
            self.slots
                .begin_erase(&mut self.flash, page)
                .await
                .map_err(GuardError)?;
            self.flash.erase(page, page + F::ERASE_SIZE as u32).await?;
            self.flash.sync().await?;
            self.slots
                .end_erase(&mut self.flash)
                .await
                .map_err(GuardError)?;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let word = F::WRITE_SIZE.max(F::READ_SIZE);
        let begin = offset as usize % F::ERASE_SIZE;
        let mark = begin == 0 || begin == F::ERASE_SIZE - word;
        if mark {
            self.flash.sync().await?;
        }
        Ok(self.flash.write(offset, bytes).await?)
    }
}
