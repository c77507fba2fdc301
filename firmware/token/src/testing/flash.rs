//! A flash in memory that behaves as badly as the real thing may.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::flash::Flash;

/// Bytes of a word, the unit of programming.
pub const WORD: usize = 4;
/// Bytes of a page, the unit of erasing.
pub const PAGE: usize = 4096;
/// How often a word may be programmed between two erases (nRF52840 product specification).
const PROGRAMS: u8 = 2;

/// What the operation that the power cut hits leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing happened yet.
    Nothing,
    /// As `Nothing`, but a word felt the pulse: it counts as programmed.
    Pulse,
    /// It was just complete.
    Complete,
    /// Some bits changed, drawn from this seed; an erased page is a mixture of old, blank and half-blank words.
    Bits(u64),
}

/// Errors of [`RamFlash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamFlashError {
    /// The power is off until [`RamFlash::restart`].
    PowerOff,
    /// Out of bounds or not aligned.
    Misuse,
}

impl fmt::Display for RamFlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "the power is off",
            Self::Misuse => "out of bounds or not aligned",
        })
    }
}

impl core::error::Error for RamFlashError {}

impl NorFlashError for RamFlashError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

#[derive(Clone)]
enum Undo {
    Word {
        at: usize,
        bytes: [u8; WORD],
        programs: u8,
    },
    Page {
        at: usize,
        bytes: Vec<u8>,
        programs: Vec<u8>,
    },
}

/// NOR flash in memory: clears bits only, counts programs, cuts the power after a number of operations.
///
/// One operation is one programmed word, one erased page or one sync. A clone is a snapshot.
#[derive(Clone)]
pub struct RamFlash {
    bytes: Vec<u8>,
    programs: Vec<u8>,
    undo: Vec<Undo>,
    operations: u64,
    erases: Vec<u64>,
    wear: Vec<u32>,
    syncs: Vec<u64>,
    cut: Option<(u64, Tear)>,
    off: bool,
}

impl RamFlash {
    /// Makes a blank flash of this many pages.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self {
            bytes: vec![0xFF; pages * PAGE],
            programs: vec![0; pages * PAGE / WORD],
            undo: Vec::new(),
            operations: 0,
            erases: Vec::new(),
            wear: vec![0; pages],
            syncs: Vec::new(),
            cut: None,
            off: false,
        }
    }

    /// Makes a flash that holds `image` (each word that is not blank counts as programmed once).
    #[must_use]
    pub fn from_image(image: &[u8]) -> Self {
        let mut flash = Self::new(image.len() / PAGE);
        flash.bytes.copy_from_slice(image);
        for (count, word) in flash.programs.iter_mut().zip(image.chunks(WORD)) {
            *count = u8::from(word.iter().any(|byte| *byte != 0xFF));
        }
        flash
    }

    /// Returns everything that is on the flash, as a thief would read it.
    #[must_use]
    pub fn dump(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes for tests that damage them.
    pub fn dump_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Returns how many operations were done so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Returns how often each page was erased.
    #[must_use]
    pub fn wear(&self) -> &[u32] {
        &self.wear
    }

    /// Returns which operations since the `start`-th were erases, counted from there.
    #[must_use]
    pub fn erases_since(&self, start: u64) -> Vec<u64> {
        self.erases
            .iter()
            .filter_map(|at| at.checked_sub(start))
            .collect()
    }

    /// Returns which operations since the `start`-th were syncs, counted from there.
    #[must_use]
    pub fn syncs_since(&self, start: u64) -> Vec<u64> {
        self.syncs
            .iter()
            .filter_map(|at| at.checked_sub(start))
            .collect()
    }

    /// Cuts the power at the operation after the next `after` ones.
    pub fn cut_after(&mut self, after: u64, tear: Tear) {
        self.cut = Some((self.operations + after, tear));
    }

    /// Tells whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// Turns the power on again, with no cut ahead.
    pub fn restart(&mut self) {
        self.cut = None;
        self.off = false;
        self.undo.clear();
    }

    /// Loses, page by page, some of the writes since the last sync: what a host's page cache does at a power cut.
    pub fn lose_unsynced(&mut self, seed: u64) {
        let mut random = Random(seed);
        let pages = self.bytes.len() / PAGE;
        let kept: Vec<u64> = (0..pages).map(|_| random.next() % 4).collect();
        let mut of_page = vec![0_u64; pages];
        for undo in &self.undo {
            of_page[undo.page()] += 1;
        }
        let mut left = of_page.clone();
        for undo in core::mem::take(&mut self.undo).into_iter().rev() {
            let page = undo.page();
            // Keeps none, a third, two thirds or all of what was done to this page, from its beginning.
            if left[page] > of_page[page] * kept[page] / 3 {
                undo.apply(self);
            }
            left[page] -= 1;
        }
    }

    /// Counts an operation; tells what to do with it.
    fn step(&mut self) -> Result<Option<Tear>, RamFlashError> {
        if self.off {
            return Err(RamFlashError::PowerOff);
        }
        let now = self.operations;
        self.operations += 1;
        match self.cut {
            Some((at, tear)) if now >= at => {
                self.off = true;
                Ok(Some(tear))
            }
            _ => Ok(None),
        }
    }

    #[expect(
        clippy::panic,
        reason = "a word programmed too often is a bug that a test must not miss"
    )]
    fn program(&mut self, at: usize, word: &[u8]) -> Result<(), RamFlashError> {
        let tear = self.step()?;
        let Some(old) = self.bytes.get(at..at + WORD) else {
            return Err(RamFlashError::Misuse);
        };
        let Ok(old) = <[u8; WORD]>::try_from(old) else {
            return Err(RamFlashError::Misuse);
        };
        let count = self.programs[at / WORD];
        let mut new = old;
        let mut random = match tear {
            Some(Tear::Bits(seed)) => Some(Random(seed ^ (at as u64).rotate_left(17))),
            _ => None,
        };
        for (byte, wanted) in new.iter_mut().zip(word) {
            // Bits that are cleared: all that are wanted, or a random part of them.
            let cleared = !wanted & random.as_mut().map_or(0xFF, |random| random.byte());
            *byte &= !cleared;
        }
        if matches!(tear, Some(Tear::Nothing | Tear::Pulse)) {
            new = old;
        }
        let unchanged = tear == Some(Tear::Nothing);
        if !unchanged {
            if count >= PROGRAMS {
                panic!(
                    "word at {at:#x} programmed {} times between erases",
                    count + 1
                );
            }
            self.undo.push(Undo::Word {
                at,
                bytes: old,
                programs: count,
            });
            self.bytes[at..at + WORD].copy_from_slice(&new);
            self.programs[at / WORD] = count + 1;
        }
        if tear.is_some() {
            Err(RamFlashError::PowerOff)
        } else {
            Ok(())
        }
    }

    fn erase_page(&mut self, at: usize) -> Result<(), RamFlashError> {
        self.erases.push(self.operations);
        self.wear[at / PAGE] += 1;
        let tear = self.step()?;
        let words = at / WORD..(at + PAGE) / WORD;
        let programs = self.programs[words.clone()].to_vec();
        let bytes = self.bytes[at..at + PAGE].to_vec();
        self.undo.push(Undo::Page {
            at,
            bytes,
            programs,
        });
        match tear {
            Some(Tear::Nothing | Tear::Pulse) => {}
            Some(Tear::Bits(seed)) => {
                let mut random = Random(seed ^ at as u64);
                // One page in four comes out almost blank, one almost untouched, the others mixed.
                let bias = random.next() % 4;
                for word in words {
                    let blank = match bias {
                        0 => !random.next().is_multiple_of(64),
                        1 => random.next().is_multiple_of(64),
                        _ => random.next().is_multiple_of(2),
                    };
                    for byte in &mut self.bytes[word * WORD..(word + 1) * WORD] {
                        *byte |= if blank {
                            0xFF
                        } else {
                            random.byte() & random.byte()
                        };
                    }
                }
            }
            Some(Tear::Complete) | None => {
                self.bytes[at..at + PAGE].fill(0xFF);
                self.programs[words].fill(0);
            }
        }
        if tear.is_some() {
            Err(RamFlashError::PowerOff)
        } else {
            Ok(())
        }
    }
}

impl Undo {
    fn page(&self) -> usize {
        match self {
            Self::Word { at, .. } | Self::Page { at, .. } => at / PAGE,
        }
    }

    fn apply(self, flash: &mut RamFlash) {
        match self {
            Self::Word {
                at,
                bytes,
                programs,
            } => {
                flash.bytes[at..at + WORD].copy_from_slice(&bytes);
                flash.programs[at / WORD] = programs;
            }
            Self::Page {
                at,
                bytes,
                programs,
            } => {
                flash.bytes[at..at + PAGE].copy_from_slice(&bytes);
                flash.programs[at / WORD..(at + PAGE) / WORD].copy_from_slice(&programs);
            }
        }
    }
}

impl ErrorType for RamFlash {
    type Error = RamFlashError;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        if self.off {
            return Err(RamFlashError::PowerOff);
        }
        let at = offset as usize;
        let source = self
            .bytes
            .get(at..at + bytes.len())
            .ok_or(RamFlashError::Misuse)?;
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        let (from, to) = (from as usize, to as usize);
        if from > to || to > self.bytes.len() || from % PAGE != 0 || to % PAGE != 0 {
            return Err(RamFlashError::Misuse);
        }
        (from..to)
            .step_by(PAGE)
            .try_for_each(|at| self.erase_page(at))
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let at = offset as usize;
        if !at.is_multiple_of(WORD)
            || !bytes.len().is_multiple_of(WORD)
            || at + bytes.len() > self.bytes.len()
        {
            return Err(RamFlashError::Misuse);
        }
        bytes
            .chunks(WORD)
            .enumerate()
            .try_for_each(|(index, word)| self.program(at + index * WORD, word))
    }
}

impl MultiwriteNorFlash for RamFlash {}

impl Flash for RamFlash {
    const MAX_PROGRAMS: u32 = PROGRAMS as u32;

    async fn sync(&mut self) -> Result<(), Self::Error> {
        self.syncs.push(self.operations);
        if self.step()?.is_some() {
            return Err(RamFlashError::PowerOff);
        }
        self.undo.clear();
        Ok(())
    }
}

/// A small generator for faults (SplitMix64), not for keys.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
