//! The erasable slot area: 32-byte keys that can really be destroyed (SPEC section 13.6).
//!
//! ```text
//! page = | header: magic, version, sequence, replaces, crc | slot | slot | slot | blank ... |
//! slot = | owner u16 | generation u32 | key 32 | crc u16 |, padded to whole words; zeroed in place when it is over
//! ```
//!
//! Slots are appended within the page of the highest sequence. When that page is full, the page with the fewest live
//! slots is copied to the spare page, whose header is written last and names the page it replaces; then that page is
//! erased and is the new spare.
//!
//! Invariant: between two erases a word is programmed twice at most, once with data and once with zeros. A slot that a
//! power cut left half-written or half-zeroed is therefore never touched again; its page is copied and erased.

mod format;

use hostchat_core::secret;

use crate::flash::{Flash, Layout};
use crate::records::{MAX_RECORDS, RecordId};
use format::{
    Buffer, Found, HEADER, PADDED, SLOT, decode_header, encode_header, encode_slot, judge, padded,
    read_slot, zero,
};

pub(crate) use format::is_blank;
#[cfg(feature = "std")]
pub(crate) use format::is_blank_or_ours;

secret! {
    /// The key of one version of one record; destroyed when the next version is stored.
    pub struct SlotKey(32);
}

/// Owner of a slot that says: this store page is about to be erased (the page is the slot's generation).
const ERASING: u16 = 0xFFFD;
/// Owner of a slot that says: everything is about to be erased.
const WIPING: u16 = 0xFFFE;

const MAX_PAGES: usize = Layout::MAX_SLOT_PAGES as usize;
/// Why a slot could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotError<E> {
    /// The flash's own error.
    Flash(E),
    /// Every slot is live.
    Full,
}

impl<E> From<E> for SlotError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    generation: u32,
    at: u32,
}

#[derive(Clone, Copy)]
struct Page {
    /// 0 for a blank page; else higher than that of every page opened before.
    sequence: u32,
    /// First slot that was never written.
    cursor: u32,
    /// The slot at the cursor may have been hit by a cut program that changed no bit.
    suspect: bool,
    /// Holds a half-written slot, or one that has to go and whose zeroing may have begun.
    torn: bool,
    /// Was erased since the power came on: a page that only looks blank may be one whose erase was cut off.
    erased: bool,
}

impl Page {
    const fn unknown() -> Self {
        Self {
            sequence: 0,
            cursor: 0,
            suspect: false,
            torn: false,
            erased: false,
        }
    }
}

/// What a boot finds in the slot area.
#[derive(Default)]
pub(crate) struct Unfinished {
    /// Addresses of store pages whose erase was under way.
    pub(crate) erasing: heapless::Vec<u32, 4>,
    /// A wipe was under way.
    pub(crate) wiping: bool,
}

/// The slot area of a flash: where the live slots are.
pub(crate) struct Slots {
    start: u32,
    count: usize,
    pages: [Page; MAX_PAGES],
    live: [Option<Entry>; MAX_RECORDS],
    /// A slot whose record is not committed yet.
    fresh: Option<(RecordId, Entry)>,
    /// An `ERASING` or `WIPING` slot.
    intent: Option<u32>,
}

impl Slots {
    /// Reads the slot area; erases what a power cut left half-done, but judges no slot yet.
    pub(crate) async fn mount<F: Flash>(
        flash: &mut F,
        layout: &Layout,
    ) -> Result<(Self, Unfinished), SlotError<F::Error>> {
        let count =
            ((layout.slots.end - layout.slots.start) as usize / F::ERASE_SIZE).min(MAX_PAGES);
        let mut slots = Self {
            start: layout.slots.start,
            count,
            pages: [Page::unknown(); MAX_PAGES],
            live: [None; MAX_RECORDS],
            fresh: None,
            intent: None,
        };
        let mut replaced = [0; MAX_PAGES];
        for (page, replaced) in replaced.iter_mut().enumerate().take(count) {
            match slots.read_header(flash, page).await? {
                Some((sequence, replaces)) => {
                    slots.pages[page].sequence = sequence;
                    *replaced = replaces;
                }
                None if is_blank(flash, slots.address::<F>(page), F::ERASE_SIZE).await? => {}
                None => slots.erase_page(flash, page).await?,
            }
        }
        for page in 0..count {
            let sequence = slots.pages[page].sequence;
            if sequence != 0 && replaced[..count].contains(&sequence) {
                slots.erase_page(flash, page).await?;
            }
        }
        let mut unfinished = Unfinished::default();
        for page in 0..count {
            slots.survey(flash, page, &mut unfinished).await?;
        }
        Ok((slots, unfinished))
    }

    async fn survey<F: Flash>(
        &mut self,
        flash: &mut F,
        page: usize,
        unfinished: &mut Unfinished,
    ) -> Result<(), SlotError<F::Error>> {
        if self.pages[page].sequence == 0 {
            return Ok(());
        }
        let mut last = None;
        for index in 0..Self::per_page::<F>() {
            let found = read_slot(flash, self.slot_address::<F>(page, index)).await?;
            match found {
                Found::Blank => continue,
                Found::Valid {
                    owner: ERASING,
                    generation,
                } => {
                    let _ = unfinished.erasing.push(generation);
                }
                Found::Valid { owner: WIPING, .. } => {
                    unfinished.wiping = true;
                    self.intent = Some(self.slot_address::<F>(page, index));
                }
                Found::Torn => self.pages[page].torn = true,
                Found::Valid { .. } | Found::Zeroed => {}
            }
            last = Some(index);
        }
        self.pages[page].cursor = last.map_or(0, |last| last + 1);
        self.pages[page].suspect = true;
        Ok(())
    }

    /// Keeps the slots that `keep` recognises; copies pages that hold others, or torn ones, and erases the old.
    ///
    /// The others are not zeroed: a power cut may have hit their zeroing, and a word is programmed twice at most.
    pub(crate) async fn adopt<F: Flash>(
        &mut self,
        flash: &mut F,
        keep: impl Fn(RecordId, u32) -> bool,
    ) -> Result<(), SlotError<F::Error>> {
        for page in 0..self.count {
            if self.pages[page].sequence == 0 {
                continue;
            }
            for index in 0..Self::per_page::<F>() {
                let at = self.slot_address::<F>(page, index);
                let Found::Valid { owner, generation } = read_slot(flash, at).await? else {
                    continue;
                };
                let place = RecordId::from_index(owner)
                    .filter(|id| keep(*id, generation))
                    .map(|id| &mut self.live[id.index()]);
                match place {
                    Some(place @ None) => *place = Some(Entry { generation, at }),
                    _ => self.pages[page].torn = true,
                }
            }
        }
        for page in 0..self.count {
            if self.pages[page].torn {
                self.compact(flash, page).await?;
            }
        }
        flash.sync().await?;
        Ok(())
    }

    /// Writes the slot of a version that is not committed yet.
    pub(crate) async fn write<F: Flash>(
        &mut self,
        flash: &mut F,
        id: RecordId,
        generation: u32,
        key: &SlotKey,
    ) -> Result<(), SlotError<F::Error>> {
        let at = self
            .append(flash, id.owner(), generation, key.expose_bytes(), 1)
            .await?;
        self.fresh = Some((id, Entry { generation, at }));
        Ok(())
    }

    /// The fresh slot becomes its record's live one; the one before it is zeroed.
    pub(crate) async fn promote<F: Flash>(
        &mut self,
        flash: &mut F,
    ) -> Result<(), SlotError<F::Error>> {
        let Some((id, entry)) = self.fresh.take() else {
            return Ok(());
        };
        match self.live[id.index()].replace(entry) {
            Some(old) => zero::<F>(flash, old.at).await,
            None => Ok(()),
        }
    }

    /// Zeroes the fresh slot: its record was not stored.
    pub(crate) async fn abandon<F: Flash>(
        &mut self,
        flash: &mut F,
    ) -> Result<(), SlotError<F::Error>> {
        match self.fresh.take() {
            Some((_, entry)) => zero::<F>(flash, entry.at).await,
            None => Ok(()),
        }
    }

    /// Zeroes a record's slot.
    pub(crate) async fn destroy<F: Flash>(
        &mut self,
        flash: &mut F,
        id: RecordId,
    ) -> Result<(), SlotError<F::Error>> {
        match self.live[id.index()].take() {
            Some(entry) => zero::<F>(flash, entry.at).await,
            None => Ok(()),
        }
    }

    /// Reads a record's key; `None` if there is no live slot of this generation.
    pub(crate) async fn key<F: Flash>(
        &self,
        flash: &mut F,
        id: RecordId,
        generation: u32,
    ) -> Result<Option<SlotKey>, SlotError<F::Error>> {
        let Some(entry) = self.live[id.index()].filter(|entry| entry.generation == generation)
        else {
            return Ok(None);
        };
        let mut buffer = Buffer([0; PADDED]);
        flash.read(entry.at, &mut buffer.0[..SLOT]).await?;
        let key = buffer.0[6..]
            .first_chunk::<32>()
            .map(|key| SlotKey::from_bytes(*key));
        let sound =
            matches!(judge(&buffer.0[..SLOT]), Found::Valid { owner, .. } if owner == id.owner());
        zeroize::Zeroize::zeroize(&mut buffer.0);
        Ok(key.filter(|_| sound))
    }

    /// Tells whether a record has a live slot of this generation.
    pub(crate) fn has(&self, id: RecordId, generation: u32) -> bool {
        self.live[id.index()].is_some_and(|entry| entry.generation == generation)
    }

    /// Notes durably that the store page at `page` is about to be erased.
    pub(crate) async fn begin_erase<F: Flash>(
        &mut self,
        flash: &mut F,
        page: u32,
    ) -> Result<(), SlotError<F::Error>> {
        let at = self.append(flash, ERASING, page, &[0; 32], 1).await?;
        self.intent = Some(at);
        flash.sync().await?;
        Ok(())
    }

    /// Takes the note of [`Slots::begin_erase`] back.
    pub(crate) async fn end_erase<F: Flash>(
        &mut self,
        flash: &mut F,
    ) -> Result<(), SlotError<F::Error>> {
        match self.intent.take() {
            Some(at) => zero::<F>(flash, at).await,
            None => Ok(()),
        }
    }

    /// Destroys every key; until [`Slots::end_wipe`] a boot will find that a wipe is under way.
    pub(crate) async fn begin_wipe<F: Flash>(
        &mut self,
        flash: &mut F,
    ) -> Result<(), SlotError<F::Error>> {
        // The last slot of a page is kept free for this note, so that no erase stands before it.
        let at = self.append(flash, WIPING, 0, &[0; 32], 0).await?;
        self.intent = Some(at);
        flash.sync().await?;
        for entry in self
            .live
            .iter_mut()
            .filter_map(Option::take)
            .chain(self.fresh.take().map(|(_, entry)| entry))
        {
            zero::<F>(flash, entry.at).await?;
        }
        flash.sync().await?;
        Ok(())
    }

    /// Goes on with a wipe that a boot found noted: destroys every key.
    pub(crate) async fn resume_wipe<F: Flash>(
        &mut self,
        flash: &mut F,
    ) -> Result<(), SlotError<F::Error>> {
        let noted = self.intent.map(|at| self.page_of::<F>(at));
        for page in (0..self.count).filter(|page| Some(*page) != noted) {
            self.erase_page(flash, page).await?;
        }
        // No slot is live: the note alone is copied. Zeroing could be the third time that a word is programmed.
        match noted {
            Some(page) => self.compact(flash, page).await,
            None => Ok(()),
        }
    }

    /// Erases the slot area, the page with the note of the wipe last.
    pub(crate) async fn end_wipe<F: Flash>(
        &mut self,
        flash: &mut F,
    ) -> Result<(), SlotError<F::Error>> {
        let noted = self.intent.take().map(|at| self.page_of::<F>(at));
        for page in (0..self.count).filter(|page| Some(*page) != noted) {
            self.erase_page(flash, page).await?;
        }
        flash.sync().await?;
        if let Some(page) = noted {
            self.erase_page(flash, page).await?;
        }
        self.live = [None; MAX_RECORDS];
        flash.sync().await?;
        Ok(())
    }

    /// How many slots may be live so that copying pages stays rare: three quarters of all but the spare page.
    pub(crate) fn comfortable<F: Flash>(layout: &Layout) -> u32 {
        let pages = (layout.slots.end - layout.slots.start) / F::ERASE_SIZE as u32;
        (pages - 1) * Self::per_page::<F>() * 3 / 4
    }

    /// How many pages were opened so far, a measure of wear.
    pub(crate) fn pages_opened(&self) -> u32 {
        self.pages[..self.count]
            .iter()
            .map(|page| page.sequence)
            .max()
            .unwrap_or(0)
    }

    async fn append<F: Flash>(
        &mut self,
        flash: &mut F,
        owner: u16,
        generation: u32,
        key: &[u8; 32],
        reserve: u32,
    ) -> Result<u32, SlotError<F::Error>> {
        let at = self.room(flash, reserve).await?;
        let mut buffer = encode_slot(owner, generation, key);
        let written = flash.write(at, &buffer.0[..padded::<F>(SLOT)]).await;
        zeroize::Zeroize::zeroize(&mut buffer.0);
        written?;
        Ok(at)
    }

    /// Finds a place for one more slot, `reserve` slots before the end of a page.
    async fn room<F: Flash>(
        &mut self,
        flash: &mut F,
        reserve: u32,
    ) -> Result<u32, SlotError<F::Error>> {
        let per_page = Self::per_page::<F>();
        loop {
            let active = (0..self.count).max_by_key(|page| self.pages[*page].sequence);
            if let Some(page) = active.filter(|page| self.pages[*page].sequence != 0) {
                let Page {
                    cursor, suspect, ..
                } = self.pages[page];
                if cursor + u32::from(suspect) + reserve < per_page {
                    let at = self.slot_address::<F>(page, cursor);
                    self.pages[page].cursor = cursor + 1;
                    if !suspect {
                        return Ok(at);
                    }
                    // Zeros show the next boot that this slot is passed over, and that it may suspect the one behind it.
                    self.pages[page].suspect = false;
                    zero::<F>(flash, at).await?;
                    continue;
                }
            }
            let blank = |page: &usize| self.pages[*page].sequence == 0;
            if (0..self.count).filter(blank).count() >= 2 {
                if let Some(page) = (0..self.count).find(blank) {
                    self.make_sure_it_is_erased(flash, page).await?;
                    self.open(flash, page, 0).await?;
                }
                continue;
            }
            let victim = (0..self.count)
                .filter(|page| !blank(page))
                .min_by_key(|page| (self.live_in::<F>(*page), self.pages[*page].sequence))
                .filter(|page| self.live_in::<F>(*page) + reserve < per_page)
                .ok_or(SlotError::Full)?;
            self.compact(flash, victim).await?;
        }
    }

    /// Copies the live slots of `victim` to the spare page and erases `victim`.
    async fn compact<F: Flash>(
        &mut self,
        flash: &mut F,
        victim: usize,
    ) -> Result<(), SlotError<F::Error>> {
        let spare = (0..self.count)
            .find(|page| self.pages[*page].sequence == 0)
            .ok_or(SlotError::Full)?;
        self.make_sure_it_is_erased(flash, spare).await?;
        let (from, target) = (self.address::<F>(victim), self.address::<F>(spare));
        let inside = move |at: u32| (from..from + F::ERASE_SIZE as u32).contains(&at);
        let mut buffer = Buffer([0xFF; PADDED]);
        let mut copied = 0;
        let live = self
            .live
            .iter()
            .flatten()
            .chain(self.fresh.as_ref().map(|(_, entry)| entry));
        for at in live
            .map(|entry| entry.at)
            .chain(self.intent)
            .filter(|at| inside(*at))
        {
            flash.read(at, &mut buffer.0[..SLOT]).await?;
            let to = target + padded::<F>(HEADER) as u32 + copied * padded::<F>(SLOT) as u32;
            flash.write(to, &buffer.0[..padded::<F>(SLOT)]).await?;
            copied += 1;
        }
        zeroize::Zeroize::zeroize(&mut buffer.0);
        flash.sync().await?;
        self.open(flash, spare, self.pages[victim].sequence).await?;
        self.pages[spare].cursor = copied;
        let mut next = target + padded::<F>(HEADER) as u32;
        let live = self
            .live
            .iter_mut()
            .flatten()
            .chain(self.fresh.as_mut().map(|(_, entry)| entry));
        for at in live
            .map(|entry| &mut entry.at)
            .chain(self.intent.as_mut())
            .filter(|at| inside(**at))
        {
            *at = next;
            next += padded::<F>(SLOT) as u32;
        }
        self.erase_page(flash, victim).await
    }

    async fn open<F: Flash>(
        &mut self,
        flash: &mut F,
        page: usize,
        replaces: u32,
    ) -> Result<(), SlotError<F::Error>> {
        let sequence = self.pages_opened() + 1;
        let buffer = encode_header(sequence, replaces);
        flash
            .write(self.address::<F>(page), &buffer.0[..padded::<F>(HEADER)])
            .await?;
        flash.sync().await?;
        self.pages[page] = Page {
            sequence,
            ..Page::unknown()
        };
        Ok(())
    }

    async fn read_header<F: Flash>(
        &self,
        flash: &mut F,
        page: usize,
    ) -> Result<Option<(u32, u32)>, SlotError<F::Error>> {
        let mut buffer = Buffer([0; PADDED]);
        flash
            .read(self.address::<F>(page), &mut buffer.0[..HEADER])
            .await?;
        Ok(decode_header(&buffer))
    }

    async fn make_sure_it_is_erased<F: Flash>(
        &mut self,
        flash: &mut F,
        page: usize,
    ) -> Result<(), SlotError<F::Error>> {
        if self.pages[page].erased {
            Ok(())
        } else {
            self.erase_page(flash, page).await
        }
    }

    async fn erase_page<F: Flash>(
        &mut self,
        flash: &mut F,
        page: usize,
    ) -> Result<(), SlotError<F::Error>> {
        let at = self.address::<F>(page);
        flash.erase(at, at + F::ERASE_SIZE as u32).await?;
        flash.sync().await?;
        self.pages[page] = Page {
            erased: true,
            ..Page::unknown()
        };
        Ok(())
    }

    fn live_in<F: Flash>(&self, page: usize) -> u32 {
        let live = self
            .live
            .iter()
            .flatten()
            .chain(self.fresh.as_ref().map(|(_, entry)| entry));
        let within = live
            .map(|entry| entry.at)
            .chain(self.intent)
            .filter(|at| self.page_of::<F>(*at) == page);
        within.map(|_| 1).sum()
    }

    fn page_of<F: Flash>(&self, at: u32) -> usize {
        (at - self.start) as usize / F::ERASE_SIZE
    }

    fn address<F: Flash>(&self, page: usize) -> u32 {
        self.start + (page * F::ERASE_SIZE) as u32
    }

    fn slot_address<F: Flash>(&self, page: usize, index: u32) -> u32 {
        self.address::<F>(page) + padded::<F>(HEADER) as u32 + index * padded::<F>(SLOT) as u32
    }

    const fn per_page<F: Flash>() -> u32 {
        ((F::ERASE_SIZE - padded::<F>(HEADER)) / padded::<F>(SLOT)) as u32
    }
}
