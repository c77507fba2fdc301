//! What somebody reads from a stolen flash who also has the PIN. The layout is written down here a second time: nothing of
//! the token's own code decides what there is to find.
//!
//! ```text
//! slot pages:   | header 16 | slot 40 | slot 40 | ...          slot = | record u16 | generation u32 | key 32 | crc |
//! store pages:  | mark 4 | item | item | ... | mark 4 |        item = | crc 4 | length u16 | crc u16 | key u32 | bytes |
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::crypto::kdf::hkdf;
use hostchat_core::crypto::label;
use hostchat_core::crypto::siv::{SivKey, TAG_LEN};

use super::flash::PAGE;

/// Number of the record with the box that the PIN opens.
const PIN: u32 = 0;
/// Key of the first block's item.
const BLOCK_KEYS: u32 = 0x1_0000;
/// Bytes of a block.
const BLOCK: usize = 1024;
/// Length of a record that was deleted.
const DELETED: u16 = u16::MAX;

/// A record that could be opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opened {
    /// Its number.
    pub number: u16,
    /// Which version of it.
    pub generation: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A slot that is neither blank nor zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Number of the record that it belongs to.
    pub owner: u16,
    /// Which version of it.
    pub generation: u32,
    /// The key.
    pub key: [u8; 32],
}

/// An item of the store, whether or not a later one has taken its place.
struct Item<'a> {
    key: u32,
    bytes: &'a [u8],
}

/// How hard a thief tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Each version of a record with the slot that names it.
    Named,
    /// Every version that lies anywhere with every key that lies anywhere.
    Everything,
}

/// The spoils.
#[derive(Clone, Debug, Default)]
pub struct Loot {
    /// The master key, if the PIN was right.
    pub master: Option<[u8; 32]>,
    /// Keys that are there.
    pub slots: Vec<Slot>,
    /// What opened.
    pub records: Vec<Opened>,
    /// How many versions of records lie there, also those that do not open.
    pub versions: usize,
}

impl Loot {
    /// Takes what there is on `image` for the holder of the wrapping key `wrap` behind a PIN.
    #[must_use]
    pub fn of(image: &[u8], wrap: &[u8; 32], effort: Effort) -> Self {
        let slot_pages = (image.len() / PAGE / 16).clamp(3, 8);
        let (slots, store) = image.split_at(slot_pages * PAGE);
        let mut loot = Self {
            slots: slots_in(slots),
            ..Self::default()
        };
        let items = items_in(store);
        let mut blocks = BTreeMap::<u32, BTreeSet<&[u8]>>::new();
        for item in items.iter().filter(|item| item.key >= BLOCK_KEYS) {
            blocks.entry(item.key).or_default().insert(item.bytes);
        }
        let headers: Vec<_> = items
            .iter()
            .filter(|item| item.key < BLOCK_KEYS)
            .filter_map(Header::parse)
            .collect();
        let tried = |slot: &Slot, header: &Header<'_>| {
            effort == Effort::Everything
                || (u32::from(slot.owner) == header.number && slot.generation == header.generation)
        };
        let mut boxes = Vec::new();
        for header in headers.iter().filter(|header| header.number == PIN) {
            for slot in loot.slots.iter().filter(|slot| tried(slot, header)) {
                boxes.extend(open_box(header.inline, slot, wrap));
            }
        }
        loot.master = boxes.pop();
        loot.versions = headers.len();
        let Some(master) = loot.master else {
            return loot;
        };
        let mut opened = BTreeSet::new();
        for header in &headers {
            let keys = loot.slots.iter().filter(|slot| tried(slot, header));
            let keys: BTreeSet<_> = keys.map(|slot| slot.key).collect();
            if keys.is_empty() {
                continue;
            }
            for whole in header.put_together(&blocks) {
                for key in &keys {
                    opened.extend(open_record(header, &whole, &master, key));
                }
            }
        }
        loot.records = opened.into_iter().collect();
        loot
    }

    /// The contents of the records whose numbers are in a range.
    pub fn contents(&self, numbers: core::ops::Range<u16>) -> impl Iterator<Item = &[u8]> {
        let records = self.records.iter();
        records
            .filter(move |record| numbers.contains(&record.number))
            .map(|record| &record.content[..])
    }
}

fn slots_in(pages: &[u8]) -> Vec<Slot> {
    let slots = pages
        .chunks(PAGE)
        .flat_map(|page| page[16..].chunks_exact(40));
    let used = slots
        .filter(|slot| slot.iter().any(|byte| *byte != 0) && slot.iter().any(|byte| *byte != 0xFF));
    used.map(|slot| {
        let mut key = [0; 32];
        key.copy_from_slice(&slot[6..38]);
        Slot {
            owner: u16::from_le_bytes([slot[0], slot[1]]),
            generation: u32::from_le_bytes([slot[2], slot[3], slot[4], slot[5]]),
            key,
        }
    })
    .collect()
}

fn items_in(store: &[u8]) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for page in store.chunks(PAGE) {
        let mut rest = &page[4..PAGE - 4];
        while let Some((head, data)) = rest.split_first_chunk::<8>() {
            let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
            if head.iter().all(|byte| *byte == 0xFF) || length > data.len() {
                break;
            }
            if let Some((key, bytes)) = data[..length].split_first_chunk::<4>() {
                let key = u32::from_le_bytes(*key);
                items.push(Item { key, bytes });
            }
            rest = data.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    items
}

/// An item that says of what a version of a record consists.
struct Header<'a> {
    number: u32,
    generation: u32,
    length: usize,
    blocks: Vec<u32>,
    inline: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(item: &Item<'a>) -> Option<Self> {
        let (head, rest) = item.bytes.split_first_chunk::<8>()?;
        let [1, g0, g1, g2, g3, l0, l1, flags] = *head else {
            return None;
        };
        let length = u16::from_le_bytes([l0, l1]);
        let (blocks, inline) = rest.split_at_checked(2 * usize::from(flags & 0x7F))?;
        let blocks = blocks.chunks_exact(2);
        (length != DELETED).then(|| Self {
            number: item.key,
            generation: u32::from_le_bytes([g0, g1, g2, g3]),
            length: usize::from(length),
            blocks: blocks
                .map(|block| BLOCK_KEYS + u32::from(u16::from_le_bytes([block[0], block[1]])))
                .collect(),
            inline,
        })
    }

    /// Everything that this version may have been: its blocks may have been written again since.
    fn put_together(&self, blocks: &BTreeMap<u32, BTreeSet<&[u8]>>) -> Vec<Vec<u8>> {
        let mut wholes = vec![Vec::new()];
        for (at, block) in self.blocks.iter().enumerate() {
            let length = (self.length - at * BLOCK).min(BLOCK);
            let parts = blocks.get(block).into_iter().flatten();
            let parts: Vec<_> = parts.filter_map(|part| part.get(..length)).collect();
            wholes = wholes
                .iter()
                .flat_map(|whole| parts.iter().map(move |part| [&whole[..], part].concat()))
                .collect();
        }
        for whole in &mut wholes {
            whole.extend_from_slice(self.inline);
        }
        wholes
    }
}

/// The master key in a PIN record.
fn open_box(record: &[u8], slot: &Slot, wrap: &[u8; 32]) -> Option<[u8; 32]> {
    let (front, rest) = record.split_at_checked(65)?;
    let (tag, boxed) = rest.split_first_chunk::<TAG_LEN>()?;
    let mut master = *boxed.first_chunk::<32>()?;
    let key: SivKey = hkdf(&slot.key, &[wrap], label::PIN_BOX);
    let ad: [&[u8]; 3] = [&front[..1], &front[1..17], &front[17..33]];
    key.open_in_place(&ad, &mut master, tag)
        .ok()
        .map(|()| master)
}

fn open_record(
    header: &Header<'_>,
    whole: &[u8],
    master: &[u8; 32],
    slot: &[u8; 32],
) -> Option<Opened> {
    let (tag, sealed) = whole.split_first_chunk::<TAG_LEN>()?;
    let number = u16::try_from(header.number).ok()?;
    let mut content = sealed.to_vec();
    let key: SivKey = hkdf(&[], &[master, slot], label::RECORD);
    let (number_bytes, generation) = (number.to_le_bytes(), header.generation.to_le_bytes());
    let ad = [&[1][..], &number_bytes, &generation].concat();
    key.open_in_place(&[&ad], &mut content, tag).ok()?;
    Some(Opened {
        number,
        generation: header.generation,
        content,
    })
}
