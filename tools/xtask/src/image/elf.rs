//! What is in an ELF image for a chip.

use crate::step::Failed;

/// Where the RAM of all our chips begins; flash is below.
const RAM: u32 = 0x2000_0000;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    /// Where it is stored.
    pub(crate) stored: u32,
    /// What is stored; nothing of memory that starts zeroed.
    pub(crate) bytes: &'a [u8],
    /// Where it is when the program runs.
    runs: u32,
    /// Bytes that it takes there.
    length: u32,
}

#[cfg(test)]
impl<'a> Segment<'a> {
    /// Makes one for tests.
    pub(crate) fn new(stored: u32, bytes: &'a [u8], runs: u32, length: u32) -> Self {
        Self {
            stored,
            bytes,
            runs,
            length,
        }
    }
}

/// An image's loadable segments.
pub(crate) fn segments(elf: &[u8]) -> Result<Vec<Segment<'_>>, Failed> {
    parse(elf).ok_or_else(|| Failed("not an ELF image".into()))
}

/// Bytes that an image takes of the flash.
pub(crate) fn flash_size(segments: &[Segment<'_>]) -> usize {
    segments.iter().map(|segment| segment.bytes.len()).sum()
}

/// Bytes that the statics of an image take of the RAM.
pub(crate) fn statics_size(segments: &[Segment<'_>]) -> u64 {
    let in_ram = segments.iter().filter(|segment| segment.runs >= RAM);
    in_ram.map(|segment| u64::from(segment.length)).sum()
}

/// A 32-bit little-endian ELF file's.
fn parse(elf: &[u8]) -> Option<Vec<Segment<'_>>> {
    let word = |at: usize| {
        let bytes = elf.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let half = |at: usize| {
        let bytes = elf.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    if !elf.starts_with(b"\x7FELF\x01\x01") {
        return None;
    }
    let (table, entry, entries) = (word(28)? as usize, half(42)?, half(44)?);
    let mut segments = Vec::new();
    for number in 0..entries {
        let at = table.checked_add(number * entry)?;
        let (kind, offset) = (word(at)?, word(at + 4)? as usize);
        let (runs, stored) = (word(at + 8)?, word(at + 12)?);
        let (filled, length) = (word(at + 16)?, word(at + 20)?);
        if kind == 1 && length > 0 {
            stored.checked_add(filled)?;
            let bytes = elf.get(offset..offset.checked_add(filled as usize)?)?;
            segments.push(Segment {
                stored,
                bytes,
                runs,
                length,
            });
        }
    }
    Some(segments)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF file with one segment for each (address, bytes).
    pub(crate) fn elf(contents: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 52 + 32 * contents.len()];
        file[..6].copy_from_slice(b"\x7FELF\x01\x01");
        file[28..32].copy_from_slice(&52_u32.to_le_bytes());
        file[42..44].copy_from_slice(&32_u16.to_le_bytes());
        file[44..46].copy_from_slice(&(contents.len() as u16).to_le_bytes());
        for (number, (address, bytes)) in contents.iter().enumerate() {
            let (at, offset) = (52 + 32 * number, file.len() as u32);
            let length = bytes.len() as u32;
            let words = [
                (0, 1),
                (4, offset),
                (8, *address),
                (12, *address),
                (16, length),
                (20, length),
            ];
            for (place, word) in words {
                file[at + place..at + place + 4].copy_from_slice(&word.to_le_bytes());
            }
            file.extend_from_slice(bytes);
        }
        file
    }

    #[test]
    fn flash_holds_what_is_stored_and_ram_what_runs_there() {
        let mut file = elf(&[(0x1000_0000, &[1; 256]), (0x1000_0100, &[2; 32])]);
        // The second one's place in RAM, and 100 more bytes there that start zeroed.
        file[52 + 32 + 8..][..4].copy_from_slice(&0x2000_0000_u32.to_le_bytes());
        file[52 + 32 + 20..][..4].copy_from_slice(&132_u32.to_le_bytes());
        let segments = segments(&file).ok().expect("an image");
        assert_eq!(flash_size(&segments), 288);
        assert_eq!(statics_size(&segments), 132);
        assert_eq!(segments[1].stored, 0x1000_0100);
    }

    #[test]
    fn what_is_not_such_a_file_or_is_cut_is_refused() {
        let whole = elf(&[(0x1000_0000, &[1; 64])]);
        assert!(segments(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(segments(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(segments(&elf(&[(u32::MAX, &[1; 2])])).is_err());
    }
}
