//! The header of SQLite's write-ahead log, which SQLite takes for the end of an empty one if it is damaged: everything in
//! the log would be gone without a word.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use super::StoreError;
use super::sqlite::with_suffix;

/// Bytes of the header; a log of no more has nothing in it.
const HEADER: usize = 32;
/// The first four bytes, but for the last bit, which says that checksums are made of big-endian words.
const MAGIC: u32 = 0x377f_0682;

/// Looks whether the log of a database has a header that is whole, if there is a log.
///
/// # Errors
/// `Damaged`, or `Other` if it cannot be read.
pub(super) fn check_header(database: &Path) -> Result<(), StoreError> {
    let path = with_suffix(database, "-wal");
    let mut whole = is_whole(&path);
    for _ in 0..3 {
        if matches!(whole, Ok(true)) {
            break;
        }
        // A running relay may have been writing it.
        std::thread::sleep(Duration::from_millis(20));
        whole = is_whole(&path);
    }
    match whole {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Damaged(
            "the header of its log, -wal, cannot be read, and with it no message that is in the log alone".to_owned(),
        )),
        Err(error) => Err(StoreError::Other(error.to_string())),
    }
}

/// Bytes of the log of a database; 0 without one.
pub(super) fn length(database: &Path) -> u64 {
    std::fs::metadata(with_suffix(database, "-wal")).map_or(0, |log| log.len())
}

fn is_whole(path: &Path) -> std::io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() <= HEADER as u64 {
        return Ok(true);
    }
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    Ok(is_header(&header))
}

/// SQLite's file format, sections 4.1 and 4.2: two sums over the first 24 bytes, in pairs of words.
fn is_header(header: &[u8; HEADER]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let magic = words.first().copied().map_or(0, u32::from_be_bytes);
    let word = |bytes: [u8; 4]| {
        if magic & 1 == 1 {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let (mut one, mut other) = (0u32, 0u32);
    let (pairs, _) = words.as_chunks::<2>();
    for [first, second] in pairs.iter().take(3) {
        one = one.wrapping_add(word(*first)).wrapping_add(other);
        other = other.wrapping_add(word(*second)).wrapping_add(one);
    }
    let sums = [one.to_be_bytes(), other.to_be_bytes()];
    magic & !1 == MAGIC && words.get(6..) == Some(&sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_the_header_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE x (y)")
            .unwrap();
        check_header(&path).unwrap();
        let bytes = std::fs::read(with_suffix(&path, "-wal")).unwrap();
        let good: [u8; HEADER] = *bytes.first_chunk().unwrap();
        assert!(is_header(&good));
        for bit in 0..HEADER * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_header(&bad), "bit {bit}");
        }
        check_header(&folder.path().join("none.db")).unwrap();
    }
}
