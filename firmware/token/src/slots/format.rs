//! Slots and page headers, byte by byte (`slots/mod.rs` has the picture). Format 1, append-only.

use super::SlotError;
use crate::flash::{Flash, crc16};

pub(super) const HEADER: usize = 16;
pub(super) const HEADER_CHECKED: usize = 14;
pub(super) const SLOT: usize = 40;
pub(super) const SLOT_CHECKED: usize = 38;
/// Longest slot or header with the padding of the widest words (32 bytes).
pub(super) const PADDED: usize = 64;
pub(super) const MAGIC: [u8; 3] = *b"hS\x01";

/// What stands in the place of a slot.
pub(super) enum Found {
    Blank,
    Zeroed,
    Valid { owner: u16, generation: u32 },
    Torn,
}

/// A slot or header on its way, aligned as some flash controllers want it.
#[repr(align(4))]
pub(super) struct Buffer(pub(super) [u8; PADDED]);

/// A length rounded up to whole words.
pub(super) const fn padded<F: Flash>(length: usize) -> usize {
    length.next_multiple_of(if F::WRITE_SIZE > 4 { F::WRITE_SIZE } else { 4 })
}

pub(super) async fn zero<F: Flash>(flash: &mut F, at: u32) -> Result<(), SlotError<F::Error>> {
    flash
        .write(at, &Buffer([0; PADDED]).0[..padded::<F>(SLOT)])
        .await?;
    Ok(())
}

pub(super) async fn read_slot<F: Flash>(
    flash: &mut F,
    at: u32,
) -> Result<Found, SlotError<F::Error>> {
    let mut buffer = Buffer([0; PADDED]);
    flash.read(at, &mut buffer.0[..padded::<F>(SLOT)]).await?;
    let found = judge(&buffer.0[..padded::<F>(SLOT)]);
    zeroize::Zeroize::zeroize(&mut buffer.0);
    Ok(found)
}

pub(super) fn judge(slot: &[u8]) -> Found {
    if slot.iter().all(|byte| *byte == 0xFF) {
        return Found::Blank;
    }
    if slot.iter().all(|byte| *byte == 0) {
        return Found::Zeroed;
    }
    let (checked, rest) = slot.split_at(SLOT_CHECKED);
    match (checked.first_chunk::<2>(), checked[2..].first_chunk::<4>()) {
        (Some(owner), Some(generation)) if rest.starts_with(&crc16(checked).to_le_bytes()) => {
            Found::Valid {
                owner: u16::from_le_bytes(*owner),
                generation: u32::from_le_bytes(*generation),
            }
        }
        _ => Found::Torn,
    }
}

/// Tells whether `length` bytes (a multiple of 64) from `at` are blank.
pub(crate) async fn is_blank<F: Flash>(
    flash: &mut F,
    at: u32,
    length: usize,
) -> Result<bool, F::Error> {
    let mut buffer = Buffer([0; PADDED]);
    for offset in (0..length).step_by(PADDED) {
        flash.read(at + offset as u32, &mut buffer.0).await?;
        if buffer.0.iter().any(|byte| *byte != 0xFF) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes a slot.
pub(super) fn encode_slot(owner: u16, generation: u32, key: &[u8; 32]) -> Buffer {
    let mut buffer = Buffer([0xFF; PADDED]);
    buffer.0[..2].copy_from_slice(&owner.to_le_bytes());
    buffer.0[2..6].copy_from_slice(&generation.to_le_bytes());
    buffer.0[6..38].copy_from_slice(key);
    let crc = crc16(&buffer.0[..SLOT_CHECKED]);
    buffer.0[38..40].copy_from_slice(&crc.to_le_bytes());
    buffer
}

/// Writes a page header.
pub(super) fn encode_header(sequence: u32, replaces: u32) -> Buffer {
    let mut buffer = Buffer([0xFF; PADDED]);
    buffer.0[..3].copy_from_slice(&MAGIC);
    buffer.0[4..8].copy_from_slice(&sequence.to_le_bytes());
    buffer.0[8..12].copy_from_slice(&replaces.to_le_bytes());
    let crc = crc16(&buffer.0[..HEADER_CHECKED]);
    buffer.0[14..16].copy_from_slice(&crc.to_le_bytes());
    buffer
}

/// Reads a page header: its sequence and the one that it replaces.
pub(super) fn decode_header(buffer: &Buffer) -> Option<(u32, u32)> {
    let number = |at: usize| {
        buffer.0[at..]
            .first_chunk::<4>()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .unwrap_or_default()
    };
    let sound = buffer.0.starts_with(&MAGIC)
        && buffer.0[14..16] == crc16(&buffer.0[..HEADER_CHECKED]).to_le_bytes()
        && number(4) != 0;
    sound.then(|| (number(4), number(8)))
}

/// Tells whether the beginning of a flash is blank or has been a token's: for files, which may be anything.
#[cfg(feature = "std")]
pub(crate) fn is_blank_or_ours(image: &[u8], page: usize) -> bool {
    let slot_pages = (image.len() / page / 16).clamp(3, 8);
    let mut pages = image.chunks(page).take(slot_pages);
    pages.clone().any(|page| page.starts_with(&MAGIC))
        || pages.all(|page| page.iter().all(|byte| *byte == 0xFF))
}
