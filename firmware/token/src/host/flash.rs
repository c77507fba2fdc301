//! NOR flash in a file: writes clear bits only, `sync` is an fdatasync.

use std::borrow::ToOwned as _;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::vec;
use std::vec::Vec;

use embedded_storage_async::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use rustix::fs::{FlockOperation, flock};

use crate::flash::Flash;
use crate::slots::is_blank_or_ours;

/// Size of an erase page in bytes, as on the Raspberry Pi Pico.
const PAGE: usize = 4096;
/// Size of the file in bytes: room for 64 contacts with two sessions each.
const CAPACITY: usize = 256 * PAGE;

/// Why a token's file cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum HostError {
    /// Another process has it open: its process id, where the system tells.
    Busy(Option<u32>),
    /// Not a token's file: another size, or something else is in it.
    Damaged,
    /// The disk is full.
    NoSpace,
    /// Reading or writing failed while the token started.
    Storage,
    /// The operating system refused.
    Io(io::Error),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(Some(pid)) => write!(f, "the token is in use by process {pid}"),
            Self::Busy(None) => f.write_str("the token is in use by another process"),
            Self::Damaged => f.write_str("this is not a token's file, or it was cut"),
            Self::NoSpace => f.write_str("no space left for the token's file"),
            Self::Storage => f.write_str("the token's file cannot be read or written"),
            Self::Io(error) => write!(f, "the token's file: {error}"),
        }
    }
}

impl std::error::Error for HostError {}

impl From<io::Error> for HostError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

/// An access outside the file or not on word boundaries, or an error of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFlashError(NorFlashErrorKind);

impl NorFlashError for FileFlashError {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

/// A flash of 1 MiB in a locked file, with a copy in memory that reads are served from.
pub struct FileFlash {
    file: File,
    image: Vec<u8>,
    /// Something was written since the last sync.
    dirty: bool,
    last_error: Option<io::Error>,
}

impl FileFlash {
    /// Opens the file and locks it; makes one of erased flash, readable by its owner only, if there is none.
    ///
    /// # Errors
    ///
    /// See [`HostError`].
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let open = || OpenOptions::new().read(true).write(true).open(path);
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path)?;
                open()?
            }
            other => other?,
        };
        // A pipe would wait for its other end.
        if !file.metadata()?.is_file() {
            return Err(HostError::Damaged);
        }
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            if errno == rustix::io::Errno::WOULDBLOCK {
                HostError::Busy(holder(&file))
            } else {
                HostError::Io(errno.into())
            }
        })?;
        let mut image = Vec::with_capacity(CAPACITY);
        io::Read::by_ref(&mut file)
            .take(CAPACITY as u64 + 1)
            .read_to_end(&mut image)?;
        // Whatever else the file is, it is not ours to erase.
        if image.len() != CAPACITY || !is_blank_or_ours(&image, PAGE) {
            return Err(HostError::Damaged);
        }
        Ok(Self {
            file,
            image,
            dirty: false,
            last_error: None,
        })
    }

    /// What the operating system said to the last access that failed.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.last_error.take()
    }

    fn range(
        &self,
        offset: u32,
        length: usize,
        step: usize,
    ) -> Result<core::ops::Range<usize>, FileFlashError> {
        let start =
            usize::try_from(offset).map_err(|_| FileFlashError(NorFlashErrorKind::OutOfBounds))?;
        let end = start
            .checked_add(length)
            .filter(|&end| end <= self.image.len());
        let end = end.ok_or(FileFlashError(NorFlashErrorKind::OutOfBounds))?;
        if !start.is_multiple_of(step) || !length.is_multiple_of(step) {
            return Err(FileFlashError(NorFlashErrorKind::NotAligned));
        }
        Ok(start..end)
    }

    fn write_through(&mut self, range: core::ops::Range<usize>) -> Result<(), FileFlashError> {
        let offset = range.start as u64;
        let bytes = self
            .image
            .get(range)
            .ok_or(FileFlashError(NorFlashErrorKind::OutOfBounds))?;
        self.dirty = true;
        let written = self.file.write_all_at(bytes, offset);
        self.kept(written)
    }

    fn kept(&mut self, result: io::Result<()>) -> Result<(), FileFlashError> {
        result.map_err(|error| {
            self.last_error = Some(error);
            FileFlashError(NorFlashErrorKind::Other)
        })
    }
}

/// Makes the file under another name first, so that it appears whole or not at all.
fn create(path: &Path) -> Result<(), HostError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(std::format!(".new-{}", std::process::id()));
    let new = folder.join(name);
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&vec![0xFF; CAPACITY])?;
        file.sync_all()?;
        // A link, unlike a rename, never takes the place of a file that somebody else made meanwhile.
        match std::fs::hard_link(&new, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(folder)?.sync_all(),
        }
    })();
    let removed = std::fs::remove_file(&new);
    result?;
    Ok(removed?)
}

/// The process that holds the lock, from the system's list of locks.
fn holder(file: &File) -> Option<u32> {
    let inode = std::format!(":{}", file.metadata().ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words.as_slice() else {
            return None;
        };
        if place.ends_with(&inode) {
            pid.parse().ok()
        } else {
            None
        }
    })
}

impl ErrorType for FileFlash {
    type Error = FileFlashError;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let range = self.range(offset, bytes.len(), Self::READ_SIZE)?;
        if let Some(source) = self.image.get(range) {
            bytes.copy_from_slice(source);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        let length = to
            .checked_sub(from)
            .and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(FileFlashError(NorFlashErrorKind::OutOfBounds))?;
        let range = self.range(from, length, PAGE)?;
        if let Some(page) = self.image.get_mut(range.clone()) {
            page.fill(0xFF);
        }
        self.write_through(range)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let range = self.range(offset, bytes.len(), Self::WRITE_SIZE)?;
        if let Some(target) = self.image.get_mut(range.clone()) {
            target
                .iter_mut()
                .zip(bytes)
                .for_each(|(cell, byte)| *cell &= byte);
        }
        self.write_through(range)
    }
}

impl MultiwriteNorFlash for FileFlash {}

impl Flash for FileFlash {
    const MAX_PROGRAMS: u32 = u32::MAX;

    async fn sync(&mut self) -> Result<(), Self::Error> {
        if !self.dirty {
            return Ok(());
        }
        let synced = self.file.sync_data();
        self.kept(synced)?;
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use embassy_futures::block_on;

    use super::*;

    #[test]
    fn writes_clear_bits_only_and_survive_a_new_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash");
        // Behind the slot pages, whose contents say whose file this is.
        let at = 20 * PAGE as u32;
        {
            let mut flash = FileFlash::open(&path).unwrap();
            block_on(flash.write(at + 8, &[0xF0; 4])).unwrap();
            block_on(flash.write(at + 8, &[0x3C; 4])).unwrap();
            block_on(flash.sync()).unwrap();
        }
        let mut flash = FileFlash::open(&path).unwrap();
        let mut bytes = [0; 8];
        block_on(flash.read(at + 6, &mut bytes)).unwrap();
        assert_eq!(bytes, [0xFF, 0xFF, 0x30, 0x30, 0x30, 0x30, 0xFF, 0xFF]);
        block_on(flash.erase(at, at + PAGE as u32)).unwrap();
        block_on(flash.read(at + 6, &mut bytes)).unwrap();
        assert_eq!(bytes, [0xFF; 8]);
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn a_file_in_use_names_its_holder_and_a_cut_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flash");
        let held = FileFlash::open(&path).unwrap();
        let Err(HostError::Busy(pid)) = FileFlash::open(&path) else {
            panic!("opened twice")
        };
        assert!(pid.is_none_or(|pid| pid == std::process::id()), "{pid:?}");
        drop(held);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(CAPACITY as u64 - 1)
            .unwrap();
        assert!(matches!(FileFlash::open(&path), Err(HostError::Damaged)));
    }

    #[test]
    fn a_file_of_the_right_size_that_is_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("holiday.jpg");
        let picture = vec![0x5A; CAPACITY];
        std::fs::write(&path, &picture).unwrap();
        assert!(matches!(FileFlash::open(&path), Err(HostError::Damaged)));
        assert!(std::fs::read(&path).unwrap() == picture);
    }

    #[test]
    fn accesses_outside_or_across_words_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut flash = FileFlash::open(&folder.path().join("flash")).unwrap();
        assert!(block_on(flash.write(2, &[0; 4])).is_err());
        assert!(block_on(flash.write(CAPACITY as u32, &[0; 4])).is_err());
        assert!(block_on(flash.erase(0, 100)).is_err());
        assert!(block_on(flash.erase(PAGE as u32, 0)).is_err());
        assert!(block_on(flash.read(u32::MAX, &mut [0; 2])).is_err());
    }
}
