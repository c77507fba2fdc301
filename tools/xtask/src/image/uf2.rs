//! UF2, the format that the boot loaders of the Raspberry Pi Pico and Pico 2 take: <https://github.com/microsoft/uf2>.

use std::collections::BTreeMap;

use super::elf::Segment;
use crate::step::Failed;

/// Bytes of the image in one block.
const PAGE: usize = 256;
/// Bytes of a block.
const BLOCK: usize = 512;
const MAGIC_START: [u32; 2] = [0x0A32_4655, 0x9E5D_5157];
const MAGIC_END: u32 = 0x0AB1_6F30;
/// The last field of a header is the chip's family.
const FLAG_FAMILY: u32 = 0x2000;

/// Which chip an image is for: a boot loader takes no other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Family {
    /// RP2040.
    Rp2040 = 0xE48B_FF56,
    /// RP2350, its Arm processors in the secure state.
    Rp2350ArmSecure = 0xE48B_FF59,
}

/// What segments put into a chip's flash, as UF2.
pub(crate) fn from_segments(segments: &[Segment<'_>], family: Family) -> Result<Vec<u8>, Failed> {
    let mut pages = BTreeMap::<u32, [u8; PAGE]>::new();
    for segment in segments {
        for (at, byte) in (segment.stored..).zip(segment.bytes) {
            let offset = at % PAGE as u32;
            let page = pages.entry(at - offset).or_insert([0; PAGE]);
            page[offset as usize] = *byte;
        }
    }
    let count = u32::try_from(pages.len()).map_err(|_| Failed("image too large".into()))?;
    let mut uf2 = Vec::with_capacity(pages.len() * BLOCK);
    for (number, (address, page)) in (0_u32..).zip(&pages) {
        let begin = uf2.len();
        let header = [
            FLAG_FAMILY,
            *address,
            PAGE as u32,
            number,
            count,
            family as u32,
        ];
        for word in MAGIC_START.into_iter().chain(header) {
            uf2.extend_from_slice(&word.to_le_bytes());
        }
        uf2.extend_from_slice(page);
        uf2.resize(begin + BLOCK - 4, 0);
        uf2.extend_from_slice(&MAGIC_END.to_le_bytes());
    }
    Ok(uf2)
}

#[cfg(test)]
mod tests {
    use super::super::elf::segments;
    use super::super::elf::tests::elf;
    use super::*;

    #[test]
    fn segments_become_numbered_pages_at_their_places() {
        let image = elf(&[(0x1000_0000, &[1; 256]), (0x1000_01F0, &[2; 32])]);
        let segments = segments(&image).ok().expect("an image");
        let uf2 = from_segments(&segments, Family::Rp2350ArmSecure)
            .ok()
            .expect("a UF2");
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
            assert_eq!(word(block, 28), 0xE48B_FF59);
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
}
