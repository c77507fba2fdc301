//! The items of the record store, byte by byte (`store/mod.rs` has the picture). Format 1, append-only.

use heapless::Vec;

use super::MAX_STORED;

/// Bytes of a block.
pub(super) const BLOCK: usize = 1024;
/// Longest part of a record that stands in the header item itself.
pub(super) const INLINE: usize = 960;
/// Most blocks of a record.
pub(super) const MAX_BLOCKS: usize = MAX_STORED / BLOCK;
/// Blocks that exist.
pub(super) const BLOCKS: usize = 2048;
/// Key of the first block's item; below it are the keys of header items.
pub(super) const BLOCK_KEYS: u32 = 0x1_0000;
/// Fixed part of a header: version, generation, length, number of blocks.
const HEAD: usize = 8;
pub(super) const VERSION: u8 = 1;
/// Length in a header that says: deleted.
pub(super) const DELETED: u16 = u16::MAX;
/// Item header and key of `sequential-storage`.
pub(super) const OVERHEAD: u32 = 8 + 4;
/// Longest item with its key, rounded up to the widest words.
pub(super) const ITEM_BUFFER: usize = BLOCK + 64;

/// Longest header item.
pub(super) const MAX_HEADER_ITEM: usize = HEAD + 2 * MAX_BLOCKS + INLINE;
/// In the last byte of a header's head: the version has a slot.
const SLOTTED: u8 = 0x80;

#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    /// 0: never stored.
    pub(super) generation: u32,
    /// Stored bytes, or `DELETED`.
    pub(super) length: u16,
    /// Whether the version has a slot.
    pub(super) slotted: bool,
}

impl Entry {
    pub(super) fn live(&self) -> bool {
        self.generation != 0 && self.length != DELETED
    }

    pub(super) fn blocks(&self) -> usize {
        if self.live() {
            blocks_of(usize::from(self.length))
        } else {
            0
        }
    }
}

pub(super) fn blocks_of(length: usize) -> usize {
    length.saturating_sub(INLINE).div_ceil(BLOCK)
}

/// A set of blocks.
pub(super) struct Blocks([u32; BLOCKS / 32]);

impl Blocks {
    pub(super) const fn new() -> Self {
        Self([0; BLOCKS / 32])
    }

    pub(super) fn has(&self, block: u16) -> bool {
        self.0[usize::from(block) / 32 % (BLOCKS / 32)] & (1 << (block % 32)) != 0
    }

    pub(super) fn set(&mut self, block: u16, on: bool) {
        let word = &mut self.0[usize::from(block) / 32 % (BLOCKS / 32)];
        if on {
            *word |= 1 << (block % 32);
        } else {
            *word &= !(1 << (block % 32));
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// What a header item says besides the bytes that it carries.
pub(super) struct Header {
    pub(super) generation: u32,
    pub(super) length: u16,
    pub(super) slotted: bool,
    pub(super) blocks: Vec<u16, MAX_BLOCKS>,
    pub(super) inline: usize,
}

impl Header {
    pub(super) fn parse(item: &[u8]) -> Option<Self> {
        let (head, rest) = item.split_first_chunk::<HEAD>()?;
        let [version, g0, g1, g2, g3, l0, l1, count] = *head;
        let (slotted, count) = (count & SLOTTED != 0, usize::from(count & !SLOTTED));
        let blocks = rest.get(..2 * count)?;
        let length = u16::from_le_bytes([l0, l1]);
        let (numbers, _) = blocks.as_chunks::<2>();
        let header = Self {
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
            length,
            slotted,
            blocks: numbers
                .iter()
                .map(|number| u16::from_le_bytes(*number))
                .collect(),
            inline: if length == DELETED {
                0
            } else {
                usize::from(length).saturating_sub(count * BLOCK)
            },
        };
        let sound = version == VERSION
            && header.generation != 0
            && header
                .blocks
                .iter()
                .all(|block| usize::from(*block) < BLOCKS)
            && count
                == if length == DELETED {
                    0
                } else {
                    blocks_of(usize::from(length))
                }
            && rest.len() == 2 * count + header.inline;
        sound.then_some(header)
    }
}

/// Writes a header item.
pub(super) fn encode_header(
    generation: u32,
    length: u16,
    slotted: bool,
    blocks: &[u16],
    inline: &[u8],
) -> Option<Vec<u8, MAX_HEADER_ITEM>> {
    let mut item = Vec::new();
    let [g0, g1, g2, g3] = generation.to_le_bytes();
    let [l0, l1] = length.to_le_bytes();
    let flags = if slotted { SLOTTED } else { 0 } | blocks.len() as u8;
    item.extend_from_slice(&[VERSION, g0, g1, g2, g3, l0, l1, flags])
        .ok()?;
    for block in blocks {
        item.extend_from_slice(&block.to_le_bytes()).ok()?;
    }
    item.extend_from_slice(inline).ok()?;
    Some(item)
}

/// Bytes that a header item takes, at most.
pub(super) fn size_of_header(length: usize) -> u32 {
    let blocks = blocks_of(length);
    let inline = length.saturating_sub(blocks * BLOCK);
    OVERHEAD + (HEAD + 2 * blocks + inline).next_multiple_of(32) as u32
}
