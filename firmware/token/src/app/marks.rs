//! Replay marks: which first messages were used, for as long as the last-resort prekey lives that they name.
//!
//! A session that came from a first message carries its mark in its own record, written in one write with it. When
//! that session is deleted its mark moves here first. A full memory refuses; it never evicts.

use heapless::Vec;
use hostchat_core::secret::CryptoRng;
use zeroize::Zeroize as _;

use super::fields::{Fields, Put};
use crate::flash::Flash;
use crate::records::RecordId;
use crate::store::{Growth, MAX_STORED, MasterKey, SEAL_OVERHEAD, Store, StoreError};

const VERSION: u8 = 1;
/// First messages that one last-resort prekey may begin; a new prekey makes room for as many again.
pub(super) const MARKS_PER_PREKEY: usize = 32;
/// Marks kept in all: eight last-resort prekeys live at once.
const MAX_MARKS: usize = 256;

/// The front of a mark: enough that nobody finds a second header for it.
pub(super) type Mark = [u8; 16];

/// Marks of first messages whose session is gone.
pub(super) struct Marks(Vec<(u32, Mark), MAX_MARKS>);

/// Shortens a mark.
pub(super) fn shorten(mark: &[u8; 32]) -> Mark {
    let mut short = [0; 16];
    short.copy_from_slice(&mark[..16]);
    short
}

impl Marks {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn has(&self, prekey: u32, mark: &Mark) -> bool {
        self.0.contains(&(prekey, *mark))
    }

    pub(super) fn count(&self, prekey: u32) -> usize {
        self.0.iter().filter(|(of, _)| *of == prekey).count()
    }

    /// Reads the marks.
    pub(super) async fn load<F: Flash>(
        &mut self,
        store: &mut Store<F>,
        master: &MasterKey,
        buffer: &mut [u8; MAX_STORED],
    ) -> Result<(), StoreError> {
        self.0.clear();
        let Some(length) = store.read_sealed(master, RecordId::REPLAY, buffer).await? else {
            return Ok(());
        };
        let content = buffer
            .get(SEAL_OVERHEAD..SEAL_OVERHEAD + length)
            .ok_or(StoreError::Damaged)?;
        let mut fields = Fields::new(content);
        fields.version(VERSION)?;
        let (entries, rest) = fields.rest().as_chunks::<20>();
        if !rest.is_empty() {
            return Err(StoreError::Damaged);
        }
        for entry in entries {
            let mut fields = Fields::new(entry);
            self.0
                .push((fields.u32()?, fields.array()?))
                .map_err(|_| StoreError::Damaged)?;
        }
        Ok(())
    }

    /// Adds a mark, durably.
    pub(super) async fn keep<F: Flash, R: CryptoRng>(
        &mut self,
        (prekey, mark): (u32, Mark),
        store: &mut Store<F>,
        rng: &mut R,
        master: &MasterKey,
        buffer: &mut [u8; MAX_STORED],
    ) -> Result<(), StoreError> {
        if self.has(prekey, &mark) {
            return Ok(());
        }
        self.0.push((prekey, mark)).map_err(|_| StoreError::Full)?;
        let stored = self.save(store, rng, master, buffer).await;
        if stored.is_err() {
            self.0.pop();
        }
        stored
    }

    /// Drops the marks of prekeys that are gone, durably.
    pub(super) async fn retain<F: Flash, R: CryptoRng>(
        &mut self,
        alive: impl Fn(u32) -> bool,
        store: &mut Store<F>,
        rng: &mut R,
        master: &MasterKey,
        buffer: &mut [u8; MAX_STORED],
    ) -> Result<(), StoreError> {
        let before = self.0.len();
        self.0.retain(|(prekey, _)| alive(*prekey));
        if self.0.len() == before {
            Ok(())
        } else {
            self.save(store, rng, master, buffer).await
        }
    }

    async fn save<F: Flash, R: CryptoRng>(
        &self,
        store: &mut Store<F>,
        rng: &mut R,
        master: &MasterKey,
        buffer: &mut [u8; MAX_STORED],
    ) -> Result<(), StoreError> {
        let mut put = Put::new(&mut buffer[SEAL_OVERHEAD..]);
        put.bytes(&[VERSION])?;
        for (prekey, mark) in &self.0 {
            put.bytes(&prekey.to_le_bytes())?;
            put.bytes(mark)?;
        }
        let length = put.length();
        let stored = store
            .put_sealed(
                rng,
                master,
                RecordId::REPLAY,
                Growth::Update,
                buffer,
                length,
            )
            .await;
        buffer.zeroize();
        stored
    }
}
