//! Records: each version whole or not there at all, sealed under a slot key that dies with the version.
//!
//! ```text
//! put:  slot key ─▶ blocks ─▶ sync ─▶ header item = the commit ─▶ sync ─▶ old slot zeroed ─▶ sync ─▶ return
//! item of `sequential-storage`:  header (record number) = | 1 | generation | length | blocks | block numbers | bytes |
//!                                block  (block number)  = | bytes |
//! ```
//!
//! Invariant: after a power cut at any point [`Store::mount`] finds the old or the new version of a record, never a
//! mixture, and no slot key of another version.

mod format;
mod guard;
mod mount;
mod seal;
#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests;

use core::fmt;
use core::pin::pin;

use rand_core::CryptoRng;
use sequential_storage::cache::Cache;
use sequential_storage::cache::key_pointers::ArrayKeyPointers;
use sequential_storage::cache::page_pointers::ArrayPagePointers;
use sequential_storage::cache::page_states::ArrayPageStates;
use sequential_storage::map::{MapConfig, MapStorage};

use crate::flash::{Flash, Layout};
use crate::records::{MAX_RECORDS, RecordId};
use crate::slots::{SlotError, SlotKey, Slots};
use format::{
    BLOCK, BLOCK_KEYS, BLOCKS, Blocks, DELETED, Entry, Header, ITEM_BUFFER, MAX_BLOCKS, OVERHEAD,
    blocks_of, encode_header, size_of_header,
};
use guard::{GuardError, Guarded};

pub(crate) use seal::{MasterKey, SEAL_OVERHEAD};

/// Longest stored form of a record: a session with 256 skipped keys (`app/session_record.rs`), its tag, and half a KB to grow.
pub(crate) const MAX_STORED: usize = 14 * BLOCK;

/// Space that only later versions of existing records may use, so that a full token can go on with what it has; on a
/// small flash a quarter of it.
const RESERVE: u32 = 32 * 1024;

const MAX_PAGES: usize = Layout::MAX_STORE_PAGES as usize;
type Map<F> = MapStorage<u32, Guarded<F>, MapCache>;
type MapCache = Cache<
    ArrayPageStates<MAX_PAGES>,
    ArrayPagePointers<MAX_PAGES>,
    ArrayKeyPointers<u32, 256>,
    u32,
>;

/// Why the store did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The flash failed; nothing is served until the next start.
    Flash,
    /// No room; nothing changed.
    Full,
    /// A record cannot be read.
    Damaged,
    /// A flash of sizes that this application cannot work with.
    Geometry,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flash => "the flash failed",
            Self::Full => "the flash is full",
            Self::Damaged => "the flash is damaged",
            Self::Geometry => "the flash has the wrong size",
        })
    }
}

impl<E> From<SlotError<E>> for StoreError {
    fn from(error: SlotError<E>) -> Self {
        match error {
            SlotError::Flash(_) => Self::Flash,
            SlotError::Full => Self::Full,
        }
    }
}

type MapError<E> = sequential_storage::Error<GuardError<E>>;

impl<E> From<MapError<E>> for StoreError {
    fn from(error: MapError<E>) -> Self {
        match error {
            MapError::<E>::Storage {
                value: GuardError(error),
                ..
            } => error.into(),
            MapError::<E>::FullStorage | MapError::<E>::ItemTooBig => Self::Full,
            _ => Self::Damaged,
        }
    }
}

/// Whether a record may use the space that is kept for later versions of existing ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// A thing that was not there before: refused early.
    New,
    /// Another version of what is there.
    Update,
}

/// The record store and the slot area of one flash.
pub(crate) struct Store<F: Flash> {
    /// Always there, but for the moment in which a wipe makes it anew.
    map: Option<Map<F>>,
    layout: Layout,
    directory: [Entry; MAX_RECORDS],
    /// Blocks that belong to a committed version.
    used: Blocks,
    /// Blocks that hold bytes of no version any more.
    stale: Blocks,
    buffer: [u8; ITEM_BUFFER],
    /// The flash failed: what it holds is known again after the next mount only.
    failed: bool,
    /// The mount found what no power cut leaves behind: nothing but a wipe works.
    damaged: bool,
}

/// A version that has its slot and is not committed yet.
pub(crate) struct Fresh {
    id: RecordId,
    generation: u32,
    /// The key of this version alone.
    pub(crate) key: SlotKey,
}

impl<F: Flash> Store<F> {
    /// Tells whether the flash holds what no power cut leaves behind.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Tells whether a record is there.
    pub(crate) fn has(&self, id: RecordId) -> bool {
        self.directory[id.index()].live()
    }

    /// The flash, to ask it what went wrong.
    pub(crate) fn flash(&mut self) -> Option<&mut F> {
        self.map.as_mut().map(|map| &mut map.flash().flash)
    }

    /// How many slot pages were opened so far.
    pub(crate) fn wear(&mut self) -> u32 {
        self.guarded()
            .map_or(0, |guarded| guarded.slots.pages_opened())
    }

    /// Tells whether a record's key is gone though the record was not deleted: a damaged flash.
    pub(crate) fn lost(&mut self, id: RecordId) -> bool {
        let entry = self.directory[id.index()];
        let has = self
            .guarded()
            .is_ok_and(|guarded| guarded.slots.has(id, entry.generation));
        entry.live() && entry.slotted && !has
    }

    /// How many records fit the slot area comfortably.
    pub(crate) fn comfortable(&self) -> u32 {
        Slots::comfortable::<F>(&self.layout)
    }

    /// Bytes that records may take: all pages but two, less what page ends waste.
    pub(crate) fn budget(&self) -> u32 {
        let page = F::ERASE_SIZE as u32;
        let pages = (self.layout.store.end - self.layout.store.start) / page;
        (pages - 2) * (page - 2 * F::WRITE_SIZE as u32 - BLOCK as u32 / 2)
    }

    /// Begins a new version: checks that `length` stored bytes fit, draws and writes its slot key.
    ///
    /// # Errors
    /// `Full` with nothing changed; `Flash`.
    pub(crate) async fn begin<R: CryptoRng + ?Sized>(
        &mut self,
        rng: &mut R,
        id: RecordId,
        length: usize,
        growth: Growth,
    ) -> Result<Fresh, StoreError> {
        self.sound()?;
        self.fits(id, length, growth).await?;
        let generation = self.directory[id.index()]
            .generation
            .checked_add(1)
            .ok_or(StoreError::Full)?;
        let key = SlotKey::generate(rng);
        let Guarded { flash, slots } = self.guarded()?;
        let written = slots.write(flash, id, generation, &key).await;
        self.note(written.map_err(StoreError::from))?;
        Ok(Fresh {
            id,
            generation,
            key,
        })
    }

    /// Commits a version; afterwards the key of the one before it is destroyed.
    ///
    /// # Errors
    /// `Full` with nothing changed; `Flash`: the old or the new version stands, the next mount tells.
    pub(crate) async fn commit(&mut self, fresh: Fresh, stored: &[u8]) -> Result<(), StoreError> {
        let Fresh { id, generation, .. } = fresh;
        let result = pin!(self.replace(id, generation, Some(stored), true)).await;
        if result == Err(StoreError::Full) {
            let Guarded { flash, slots } = self.guarded()?;
            let abandoned = slots.abandon(flash).await;
            self.note(abandoned.map_err(StoreError::from))?;
        }
        self.note(result)?;
        let Guarded { flash, slots } = self.guarded()?;
        let mut done = slots.promote(flash).await.map_err(StoreError::from);
        if done.is_ok() {
            done = flash.sync().await.map_err(|_| StoreError::Flash);
        }
        self.note(done)
    }

    /// Stores a short record that is neither sealed nor secret.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub(crate) async fn put_plain(&mut self, id: RecordId, bytes: &[u8]) -> Result<(), StoreError> {
        self.sound()?;
        let generation = self.directory[id.index()]
            .generation
            .checked_add(1)
            .ok_or(StoreError::Full)?;
        let result = pin!(self.replace(id, generation, Some(bytes), false)).await;
        self.note(result)
    }

    /// Deletes a record and destroys its key.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub(crate) async fn delete(&mut self, id: RecordId) -> Result<(), StoreError> {
        self.sound()?;
        let entry = self.directory[id.index()];
        if !entry.live() {
            return Ok(());
        }
        let result = pin!(self.replace(id, entry.generation, None, false)).await;
        self.note(result)?;
        let Guarded { flash, slots } = self.guarded()?;
        let mut done = slots.destroy(flash, id).await.map_err(StoreError::from);
        if done.is_ok() {
            done = flash.sync().await.map_err(|_| StoreError::Flash);
        }
        self.note(done)
    }

    /// Reads the stored bytes of a record into `out`; `None` if it is not there.
    ///
    /// # Errors
    /// `Damaged` if parts are missing or `out` is too short; `Flash`.
    pub(crate) async fn read(
        &mut self,
        id: RecordId,
        out: &mut [u8],
    ) -> Result<Option<usize>, StoreError> {
        self.sound()?;
        let entry = self.directory[id.index()];
        if !entry.live() {
            return Ok(None);
        }
        let length = usize::from(entry.length);
        let out = out.get_mut(..length).ok_or(StoreError::Damaged)?;
        let (in_blocks, inline) = out.split_at_mut(length.min(entry.blocks() * BLOCK));
        let header = pin!(self.header(id, Some(inline)))
            .await?
            .ok_or(StoreError::Damaged)?;
        if header.generation != entry.generation || header.length != entry.length {
            return Err(StoreError::Damaged);
        }
        for (block, part) in header.blocks.iter().zip(in_blocks.chunks_mut(BLOCK)) {
            let key = BLOCK_KEYS + u32::from(*block);
            let bytes = self.map.as_mut().ok_or(StoreError::Flash)?;
            let bytes = bytes
                .fetch_item::<&[u8]>(&mut self.buffer, &key)
                .await?
                .ok_or(StoreError::Damaged)?;
            part.copy_from_slice(bytes.get(..part.len()).ok_or(StoreError::Damaged)?);
        }
        Ok(Some(length))
    }

    /// Reads the slot key of a record's present version.
    ///
    /// # Errors
    /// `Damaged` if it is gone.
    pub(crate) async fn slot_key(&mut self, id: RecordId) -> Result<SlotKey, StoreError> {
        self.sound()?;
        let generation = self.directory[id.index()].generation;
        let Guarded { flash, slots } = self.guarded()?;
        slots
            .key(flash, id, generation)
            .await?
            .ok_or(StoreError::Damaged)
    }

    /// Destroys every key, then erases everything.
    ///
    /// # Errors
    /// `Flash`; the next mount goes on with it.
    pub(crate) async fn wipe(&mut self) -> Result<(), StoreError> {
        let layout = self.layout.clone();
        let wiped = Self::erase_everything(self.guarded()?, &layout).await;
        self.note(wiped)?;
        // What the cache knew is gone.
        let guarded = self.map.take().map(|map| map.destroy().0);
        self.map = guarded
            .map(|guarded| {
                map_config(&self.layout).map(|config| MapStorage::new(guarded, config, map_cache()))
            })
            .transpose()?;
        (self.failed, self.damaged) = (false, false);
        self.directory = [Entry::default(); MAX_RECORDS];
        (self.used, self.stale) = (Blocks::new(), Blocks::new());
        Ok(())
    }

    async fn erase_everything(guarded: &mut Guarded<F>, layout: &Layout) -> Result<(), StoreError> {
        let Guarded { flash, slots } = guarded;
        slots.begin_wipe(flash).await?;
        mount::erase_store(flash, layout).await?;
        slots.end_wipe(flash).await?;
        Ok(())
    }
}

impl<F: Flash> Store<F> {
    /// Fetches a header, and the bytes that its item carries if there is a place of their length for them.
    async fn header(
        &mut self,
        id: RecordId,
        inline: Option<&mut [u8]>,
    ) -> Result<Option<Header>, StoreError> {
        let key = u32::from(id.owner());
        let map = self.map.as_mut().ok_or(StoreError::Flash)?;
        let Some(item) = map.fetch_item::<&[u8]>(&mut self.buffer, &key).await? else {
            return Ok(None);
        };
        let header = Header::parse(item).ok_or(StoreError::Damaged)?;
        if let Some(inline) = inline {
            let bytes = item
                .get(item.len() - header.inline..)
                .filter(|bytes| bytes.len() == inline.len());
            inline.copy_from_slice(bytes.ok_or(StoreError::Damaged)?);
        }
        Ok(Some(header))
    }

    async fn store_item(&mut self, key: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let map = self.map.as_mut().ok_or(StoreError::Flash)?;
        Ok(pin!(map.store_item(&mut self.buffer, &key, &bytes)).await?)
    }

    /// Writes blocks and header of a version, or a header that says deleted.
    async fn replace(
        &mut self,
        id: RecordId,
        generation: u32,
        stored: Option<&[u8]>,
        slotted: bool,
    ) -> Result<(), StoreError> {
        let old = if self.directory[id.index()].blocks() > 0 {
            pin!(self.header(id, None)).await?
        } else {
            None
        };
        let bytes = stored.unwrap_or_default();
        if bytes.len() > MAX_STORED {
            return Err(StoreError::Full);
        }
        let count = blocks_of(bytes.len());
        let (in_blocks, inline) = bytes.split_at(bytes.len().min(count * BLOCK));
        let free = (0..BLOCKS as u16).filter(|block| !self.used.has(*block));
        let blocks: heapless::Vec<u16, MAX_BLOCKS> = free.take(count).collect();
        if blocks.len() < count {
            return Err(StoreError::Full);
        }
        for (block, part) in blocks.iter().zip(in_blocks.chunks(BLOCK)) {
            self.stale.set(*block, true);
            pin!(self.store_item(BLOCK_KEYS + u32::from(*block), part)).await?;
        }
        self.flush().await?;

        let length = if stored.is_some() {
            bytes.len() as u16
        } else {
            DELETED
        };
        let item =
            encode_header(generation, length, slotted, &blocks, inline).ok_or(StoreError::Full)?;
        pin!(self.store_item(u32::from(id.owner()), &item)).await?;
        self.flush().await?;

        self.directory[id.index()] = Entry {
            generation,
            length,
            slotted,
        };
        for block in old.iter().flat_map(|header| &header.blocks) {
            self.used.set(*block, false);
            self.stale.set(*block, true);
        }
        for block in &blocks {
            self.used.set(*block, true);
            self.stale.set(*block, false);
        }
        Ok(())
    }

    /// Checks that a version of this length fits; gives the space of stale blocks back if it has to.
    async fn fits(
        &mut self,
        id: RecordId,
        length: usize,
        growth: Growth,
    ) -> Result<(), StoreError> {
        let reserve = if growth == Growth::New {
            RESERVE.min(self.budget() / 4)
        } else {
            0
        };
        let limit = self.budget() - reserve;
        let more = size_of_header(length) + blocks_of(length) as u32 * (OVERHEAD + BLOCK as u32);
        if self.occupied(id) + self.stale.count() * (OVERHEAD + BLOCK as u32) + more <= limit {
            return Ok(());
        }
        for block in 0..BLOCKS as u16 {
            if self.stale.has(block) {
                let emptied = pin!(self.store_item(BLOCK_KEYS + u32::from(block), &[])).await;
                self.note(emptied)?;
                self.stale.set(block, false);
            }
        }
        if self.occupied(id) + more <= limit {
            Ok(())
        } else {
            Err(StoreError::Full)
        }
    }

    /// Bytes of everything committed, without the header of `id` (its next version takes its place).
    fn occupied(&self, id: RecordId) -> u32 {
        let headers = self
            .directory
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != id.index());
        let headers: u32 = headers
            .map(|(_, entry)| match (entry.generation, entry.length) {
                (0, _) => 0,
                (_, DELETED) => size_of_header(0),
                (_, length) => size_of_header(usize::from(length)),
            })
            .sum();
        headers + self.used.count() * (OVERHEAD + BLOCK as u32)
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        self.guarded()?
            .flash
            .sync()
            .await
            .map_err(|_| StoreError::Flash)
    }

    fn sound(&self) -> Result<(), StoreError> {
        match (self.failed, self.damaged) {
            (true, _) => Err(StoreError::Flash),
            (_, true) => Err(StoreError::Damaged),
            _ => Ok(()),
        }
    }

    /// Remembers a failure of the flash.
    fn note(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        self.failed |= matches!(result, Err(StoreError::Flash | StoreError::Damaged));
        result
    }

    fn guarded(&mut self) -> Result<&mut Guarded<F>, StoreError> {
        self.map
            .as_mut()
            .map(MapStorage::flash)
            .ok_or(StoreError::Flash)
    }
}

fn map_config<F: Flash>(layout: &Layout) -> Result<MapConfig<Guarded<F>>, StoreError> {
    MapConfig::try_new(layout.store.clone()).map_err(|_| StoreError::Geometry)
}

fn map_cache() -> MapCache {
    Cache::new(
        ArrayPageStates::new(),
        ArrayPagePointers::new(),
        ArrayKeyPointers::new(),
    )
}
