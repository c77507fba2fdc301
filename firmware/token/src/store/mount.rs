//! The boot: finishes what a power cut left half-done and learns what is there.

use core::pin::pin;

use sequential_storage::map::MapStorage;

use super::format::{BLOCK_KEYS, BLOCKS, Blocks, DELETED, Entry, Header, ITEM_BUFFER};
use super::{Guarded, Map, Store, StoreError, map_cache, map_config};
use crate::flash::{Flash, Layout};
use crate::records::{MAX_RECORDS, RecordId};
use crate::slots::{Slots, Unfinished, is_blank};

impl<F: Flash> Store<F> {
    /// Takes a flash into use.
    ///
    /// A flash that holds what no power cut can leave behind is mounted as damaged: it can be wiped.
    ///
    /// # Errors
    /// `Flash`, `Geometry`.
    pub(crate) async fn mount(mut flash: F) -> Result<Self, StoreError> {
        let layout = Layout::of(&flash).map_err(|_| StoreError::Geometry)?;
        let (mut slots, unfinished) = pin!(Slots::mount(&mut flash, &layout)).await?;
        if unfinished.wiping {
            slots.resume_wipe(&mut flash).await?;
            erase_store(&mut flash, &layout).await?;
            slots.end_wipe(&mut flash).await?;
        } else if slots.pages_opened() == 0 {
            // Never used by a token: what another firmware left here is not ours to read.
            erase_foreign(&mut flash, &layout).await?;
        } else {
            repeat_erases(&mut flash, &layout, &unfinished).await?;
        }
        let config = map_config::<F>(&layout)?;
        let mut store = Self {
            map: Some(MapStorage::new(
                Guarded { flash, slots },
                config,
                map_cache(),
            )),
            layout,
            directory: [Entry::default(); MAX_RECORDS],
            used: Blocks::new(),
            stale: Blocks::new(),
            buffer: [0; ITEM_BUFFER],
            failed: false,
            damaged: false,
        };
        let taken = pin!(store.take_stock()).await;
        match taken {
            Err(StoreError::Damaged) => store.damaged = true,
            result => result?,
        }
        Ok(store)
    }

    async fn take_stock(&mut self) -> Result<(), StoreError> {
        self.read_directory().await?;
        for id in RecordId::all() {
            if self.directory[id.index()].blocks() > 0 {
                let header = self.header(id, None).await?.ok_or(StoreError::Damaged)?;
                for block in &header.blocks {
                    if self.used.has(*block) {
                        return Err(StoreError::Damaged);
                    }
                    self.used.set(*block, true);
                    self.stale.set(*block, false);
                }
            }
        }
        let directory = self.directory;
        let Guarded { flash, slots } = self.guarded()?;
        let adopted = slots.adopt(flash, |id, generation| {
            let entry = directory[id.index()];
            entry.live() && entry.slotted && entry.generation == generation
        });
        adopted.await?;
        Ok(())
    }

    /// Reads all items in the order in which they were written; the last of each key counts.
    async fn read_directory(&mut self) -> Result<(), StoreError> {
        let map: &mut Map<F> = self.map.as_mut().ok_or(StoreError::Flash)?;
        let mut items = map.fetch_all_items(&mut self.buffer).await?;
        while let Some((key, item)) = items.next::<&[u8]>(&mut self.buffer).await? {
            if let Some(block) = key.checked_sub(BLOCK_KEYS) {
                let block = u16::try_from(block)
                    .ok()
                    .filter(|block| usize::from(*block) < BLOCKS);
                self.stale
                    .set(block.ok_or(StoreError::Damaged)?, !item.is_empty());
                continue;
            }
            let id = u16::try_from(key)
                .ok()
                .and_then(RecordId::from_index)
                .ok_or(StoreError::Damaged)?;
            let header = Header::parse(item).ok_or(StoreError::Damaged)?;
            let (generation, length) = (header.generation, header.length);
            self.directory[id.index()] = Entry {
                generation,
                length,
                slotted: header.slotted && length != DELETED,
            };
        }
        Ok(())
    }
}

/// Erases everything but the slots.
pub(super) async fn erase_store<F: Flash>(
    flash: &mut F,
    layout: &Layout,
) -> Result<(), StoreError> {
    for page in layout.store.clone().step_by(F::ERASE_SIZE) {
        flash
            .erase(page, page + F::ERASE_SIZE as u32)
            .await
            .map_err(|_| StoreError::Flash)?;
    }
    flash.sync().await.map_err(|_| StoreError::Flash)
}

async fn repeat_erases<F: Flash>(
    flash: &mut F,
    layout: &Layout,
    unfinished: &Unfinished,
) -> Result<(), StoreError> {
    for page in unfinished
        .erasing
        .iter()
        .filter(|page| layout.store.contains(page))
    {
        if (page - layout.store.start).is_multiple_of(F::ERASE_SIZE as u32) {
            flash
                .erase(*page, page + F::ERASE_SIZE as u32)
                .await
                .map_err(|_| StoreError::Flash)?;
            flash.sync().await.map_err(|_| StoreError::Flash)?;
        }
    }
    Ok(())
}

/// Erases what is not blank.
async fn erase_foreign<F: Flash>(flash: &mut F, layout: &Layout) -> Result<(), StoreError> {
    for page in layout.store.clone().step_by(F::ERASE_SIZE) {
        if !is_blank(flash, page, F::ERASE_SIZE)
            .await
            .map_err(|_| StoreError::Flash)?
        {
            flash
                .erase(page, page + F::ERASE_SIZE as u32)
                .await
                .map_err(|_| StoreError::Flash)?;
        }
    }
    flash.sync().await.map_err(|_| StoreError::Flash)
}
