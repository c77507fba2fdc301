//! UF2, the format that the boot loader of a Raspberry Pi Pico takes: <https://github.com/microsoft/uf2>.

use std::collections::BTreeMap;

use crate::step::Failed;

/// Bytes of the image in one block.
const PAGE: usize = 256;
/// Bytes of a block.
const BLOCK: usize = 512;
const MAGIC_START: [u32; 2] = [0x0A32_4655, 0x9E5D_5157];
const MAGIC_END: u32 = 0x0AB1_6F30;
/// The last field of a header is the chip's family.
const FLAG_FAMILY: u32 = 0x2000;
/// RP2040.
const FAMILY: u32 = 0xE48B_FF56;

/// What an ELF image for a chip puts into its flash, as UF2.
pub(crate) fn from_elf(elf: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut pages = BTreeMap::<u32, [u8; PAGE]>::new();
    for (address, bytes) in segments(elf).ok_or_else(|| Failed("not an ELF image".into()))? {
        for (at, byte) in (address..).zip(bytes) {
            let offset = at % PAGE as u32;
            let page = pages.entry(at - offset).or_insert([0; PAGE]);
            page[offset as usize] = *byte;
        }
    }
    let count = u32::try_from(pages.len()).map_err(|_| Failed("image too large".into()))?;
    let mut uf2 = Vec::with_capacity(pages.len() * BLOCK);
    for (number, (address, page)) in (0_u32..).zip(&pages) {
        let begin = uf2.len();
        let header = [FLAG_FAMILY, *address, PAGE as u32, number, count, FAMILY];
        for word in MAGIC_START.into_iter().chain(header) {
            uf2.extend_from_slice(&word.to_le_bytes());
        }
        uf2.extend_from_slice(page);
        uf2.resize(begin + BLOCK - 4, 0);
        uf2.extend_from_slice(&MAGIC_END.to_le_bytes());
    }
    Ok(uf2)
}

/// The loadable segments of a 32-bit little-endian ELF file: where each is stored, and its bytes.
fn segments(elf: &[u8]) -> Option<Vec<(u32, &[u8])>> {
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
        let (address, length) = (word(at + 12)?, word(at + 16)? as usize);
        if kind == 1 && length > 0 {
            address.checked_add(u32::try_from(length).ok()?)?;
            segments.push((address, elf.get(offset..offset.checked_add(length)?)?));
        }
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one segment for each (address, bytes).
    fn elf(contents: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 52 + 32 * contents.len()];
        file[..6].copy_from_slice(b"\x7FELF\x01\x01");
        file[28..32].copy_from_slice(&52_u32.to_le_bytes());
        file[42..44].copy_from_slice(&32_u16.to_le_bytes());
        file[44..46].copy_from_slice(&(contents.len() as u16).to_le_bytes());
        for (number, (address, bytes)) in contents.iter().enumerate() {
            let (at, offset) = (52 + 32 * number, file.len() as u32);
            let length = bytes.len() as u32;
            for (place, word) in [(0, 1), (4, offset), (12, *address), (16, length)] {
                file[at + place..at + place + 4].copy_from_slice(&word.to_le_bytes());
            }
            file.extend_from_slice(bytes);
        }
        file
    }

    #[test]
    fn segments_become_numbered_pages_at_their_places() {
        let uf2 = from_elf(&elf(&[(0x1000_0000, &[1; 256]), (0x1000_01F0, &[2; 32])]))
            .ok()
            .expect("an image");
        let word = |block: usize, at: usize| {
            let at = block * BLOCK + at;
            u32::from_le_bytes(uf2[at..at + 4].try_into().expect("four bytes"))
        };
        assert_eq!(uf2.len(), 3 * BLOCK);
        for (block, address) in [0x1000_0000, 0x1000_0100, 0x1000_0200]
            .into_iter()
            .enumerate()
        {
            assert_eq!([word(block, 0), word(block, 4)], MAGIC_START);
            assert_eq!(word(block, 12), address);
            assert_eq!([word(block, 20), word(block, 24)], [block as u32, 3]);
            assert_eq!(word(block, 28), FAMILY);
            assert_eq!(word(block, 508), MAGIC_END);
        }
        assert_eq!(uf2[32..288], [1; 256]);
        assert_eq!(
            uf2[BLOCK + 32..][..256],
            [[0; 240].as_slice(), &[2; 16]].concat()
        );
        assert_eq!(
            uf2[2 * BLOCK + 32..][..17],
            [[2; 16].as_slice(), &[0]].concat()
        );
    }

    #[test]
    fn what_is_not_such_a_file_or_is_cut_is_refused() {
        let whole = elf(&[(0x1000_0000, &[1; 64])]);
        assert!(from_elf(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(from_elf(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(from_elf(&elf(&[(u32::MAX, &[1; 2])])).is_err());
    }
}
