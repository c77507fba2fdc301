//! The flash that a token lives on: NOR flash with a durability barrier, and how it is divided.
//!
//! ```text
//! 0             slot pages                                      capacity
//! |-- slots.rs --|------------------- store.rs ------------------|
//! | slot keys    | records, sealed under slot keys               |
//! ```

use core::ops::Range;

use embedded_storage_async::nor_flash::MultiwriteNorFlash;

/// Times that this application programs a word between two erases of its page, power cuts included: once with data and
/// once with zeros (the limit of the nRF52840).
pub const PROGRAMS: u32 = 2;

/// NOR flash on which a programmed word may be overwritten with zeros, and which can make writes durable.
pub trait Flash: MultiwriteNorFlash {
    /// Times that a word may be programmed between two erases of its page, by the medium's data sheet. An application over
    /// one that stands fewer than [`PROGRAMS`] does not compile.
    const MAX_PROGRAMS: u32;

    /// Returns once everything written before is durable (`PERSIST`); on a chip that is always so.
    ///
    /// # Errors
    ///
    /// The medium's own error; what was written since the last call may be lost.
    fn sync(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
}

/// How a flash is divided between slots and records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the erasable slot area.
    pub slots: Range<u32>,
    /// Bytes of the record store.
    pub store: Range<u32>,
}

/// A flash whose sizes this application cannot work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadGeometry;

impl Layout {
    /// Fewest slot pages: one in use, one full, one spare.
    pub const MIN_SLOT_PAGES: u32 = 3;
    /// Most slot pages.
    pub const MAX_SLOT_PAGES: u32 = 8;
    /// Most store pages (the size of a cache in RAM).
    pub const MAX_STORE_PAGES: u32 = 512;
    /// Fewest store pages: below that, not even one long session fits twice.
    pub const MIN_STORE_PAGES: u32 = 12;

    /// Divides a flash: one page in sixteen for slots (3 to 8), the rest for records.
    ///
    /// # Errors
    ///
    /// [`BadGeometry`] for pages that are too small or too large, too few pages, or words of more than 32 bytes.
    pub fn of<F: Flash>(flash: &F) -> Result<Self, BadGeometry> {
        const {
            assert!(
                F::MAX_PROGRAMS >= PROGRAMS,
                "the flash does not stand this application's writes"
            );
        }
        let page = u32::try_from(F::ERASE_SIZE).map_err(|_| BadGeometry)?;
        let capacity = u32::try_from(flash.capacity()).map_err(|_| BadGeometry)?;
        if !(2048..=65536).contains(&page)
            || F::WRITE_SIZE > 32
            || F::READ_SIZE > 4
            || F::ERASE_SIZE % 64 != 0
        {
            return Err(BadGeometry);
        }
        let pages = capacity / page;
        let slot_pages = (pages / 16).clamp(Self::MIN_SLOT_PAGES, Self::MAX_SLOT_PAGES);
        let store_pages = pages.saturating_sub(slot_pages).min(Self::MAX_STORE_PAGES);
        if store_pages < Self::MIN_STORE_PAGES {
            return Err(BadGeometry);
        }
        let middle = slot_pages * page;
        Ok(Self {
            slots: 0..middle,
            store: middle..middle + store_pages * page,
        })
    }
}

/// CRC-16/IBM-3740 (polynomial 0x1021, initial value 0xFFFF), bit by bit: a slot is 38 bytes.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            }
        })
    })
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::*;

    #[cfg_attr(test, test)]
    pub fn crc_matches_its_check_value_and_tells_blank_and_zeroed_slots_from_live_ones() {
        assert_eq!(crc16(b"123456789"), 0x29B1);
        assert_ne!(crc16(&[0; 38]), 0);
        assert_ne!(crc16(&[0xFF; 38]), 0xFFFF);
        assert_ne!(crc16(&[0; 14]), 0);
        assert_ne!(crc16(&[0xFF; 14]), 0xFFFF);
    }
}
