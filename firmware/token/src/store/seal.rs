//! Sealing of records: AES-SIV under the master key and the slot key of this version, tag before the content.

use core::pin::pin;

use hostchat_core::crypto::kdf::hkdf;
use hostchat_core::crypto::label;
use hostchat_core::crypto::siv::{SivKey, TAG_LEN};
use hostchat_core::secret;
use rand_core::CryptoRng;
use zeroize::Zeroize as _;

use super::format::VERSION;
use super::{Fresh, Growth, Store, StoreError};
use crate::flash::Flash;
use crate::records::RecordId;
use crate::slots::SlotKey;

secret! {
    /// What the PIN protects: without it no sealed record can be read.
    pub struct MasterKey(32);
}

/// Bytes that sealing adds.
pub(crate) const SEAL_OVERHEAD: usize = TAG_LEN;

fn record_key(master: &MasterKey, slot: &SlotKey) -> SivKey {
    hkdf::<SivKey>(
        &[],
        &[master.expose_bytes(), slot.expose_bytes()],
        label::RECORD,
    )
}

impl<F: Flash> Store<F> {
    /// Seals and stores a record. The content stands in `buffer` behind [`SEAL_OVERHEAD`] free bytes, `length` bytes
    /// long; afterwards the buffer is zeroed.
    ///
    /// # Errors
    /// As [`Store::begin`] and [`Store::commit`].
    pub(crate) async fn put_sealed<R: CryptoRng + ?Sized>(
        &mut self,
        rng: &mut R,
        master: &MasterKey,
        id: RecordId,
        growth: Growth,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<(), StoreError> {
        let whole = buffer.get_mut(..TAG_LEN + length).ok_or(StoreError::Full)?;
        let begun = pin!(self.begin(rng, id, whole.len(), growth)).await;
        let result = match begun {
            Ok(fresh) => {
                seal(master, &fresh, whole);
                pin!(self.commit(fresh, whole)).await
            }
            Err(error) => Err(error),
        };
        whole.zeroize();
        result
    }

    /// Reads and opens a record; the content then stands in `buffer` behind [`SEAL_OVERHEAD`] bytes, and its length is
    /// returned.
    ///
    /// # Errors
    /// `Damaged` if it cannot be opened; `Flash`.
    pub(crate) async fn read_sealed(
        &mut self,
        master: &MasterKey,
        id: RecordId,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, StoreError> {
        let Some(length) = pin!(self.read(id, buffer)).await? else {
            return Ok(None);
        };
        let slot = pin!(self.slot_key(id)).await?;
        let generation = self.generation(id);
        let whole = buffer.get_mut(..length).ok_or(StoreError::Damaged)?;
        open(master, &slot, id, generation, whole)?;
        Ok(Some(length - TAG_LEN))
    }

    fn generation(&self, id: RecordId) -> u32 {
        self.directory[id.index()].generation
    }
}

fn associated(id: RecordId, generation: u32) -> [u8; 7] {
    let ([i0, i1], [g0, g1, g2, g3]) = (id.owner().to_le_bytes(), generation.to_le_bytes());
    [VERSION, i0, i1, g0, g1, g2, g3]
}

#[inline(never)]
fn seal(master: &MasterKey, fresh: &Fresh, whole: &mut [u8]) {
    if let Some((tag, content)) = whole.split_first_chunk_mut::<TAG_LEN>() {
        let ad = associated(fresh.id, fresh.generation);
        *tag = record_key(master, &fresh.key).seal_in_place(&[&ad], content);
    }
}

#[inline(never)]
fn open(
    master: &MasterKey,
    slot: &SlotKey,
    id: RecordId,
    generation: u32,
    whole: &mut [u8],
) -> Result<(), StoreError> {
    let (tag, content) = whole
        .split_first_chunk_mut::<TAG_LEN>()
        .ok_or(StoreError::Damaged)?;
    let ad = associated(id, generation);
    record_key(master, slot)
        .open_in_place(&[&ad], content, tag)
        .map_err(|_| StoreError::Damaged)
}
