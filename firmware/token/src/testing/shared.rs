//! A RAM flash that outlives the token on it.

use alloc::rc::Rc;
use core::cell::{RefCell, RefMut};

use embedded_storage_async::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};

use super::flash::{RamFlash, RamFlashError};
use super::now;
use crate::flash::Flash;

/// A handle on a [`RamFlash`]; clones share it, so that a test keeps the flash when the power is cut.
#[derive(Clone)]
pub struct SharedFlash(Rc<RefCell<RamFlash>>);

impl SharedFlash {
    /// Shares a flash.
    #[must_use]
    pub fn new(flash: RamFlash) -> Self {
        Self(Rc::new(RefCell::new(flash)))
    }

    /// The flash itself.
    pub fn lock(&self) -> RefMut<'_, RamFlash> {
        self.0.borrow_mut()
    }

    /// A copy of what is on it.
    #[must_use]
    pub fn snapshot(&self) -> RamFlash {
        self.lock().clone()
    }
}

impl ErrorType for SharedFlash {
    type Error = RamFlashError;
}

impl ReadNorFlash for SharedFlash {
    const READ_SIZE: usize = RamFlash::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        now(self.lock().read(offset, bytes))
    }

    fn capacity(&self) -> usize {
        self.lock().capacity()
    }
}

impl NorFlash for SharedFlash {
    const WRITE_SIZE: usize = RamFlash::WRITE_SIZE;
    const ERASE_SIZE: usize = RamFlash::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        now(self.lock().erase(from, to))
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        now(self.lock().write(offset, bytes))
    }
}

impl MultiwriteNorFlash for SharedFlash {}

impl Flash for SharedFlash {
    const MAX_PROGRAMS: u32 = RamFlash::MAX_PROGRAMS;

    async fn sync(&mut self) -> Result<(), Self::Error> {
        now(self.lock().sync())
    }
}
