//! The 64 MiB in which a PIN is stretched.
//!
//! A new program gets them from the system page by page, which takes a third as long as the stretch itself; and while it
//! gives them back no other thread of it gets any memory. So they are fetched while the token is opened and the PIN is
//! typed, and given back when the command that needed the PIN has most likely ended.

use std::mem::MaybeUninit;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hostchat_core::crypto::stretch::{self, Block, STRETCH_BLOCKS, Stretched};

use crate::error::{Error, Result};

/// Blocks that share a page of the system's memory: 4 KiB everywhere that matters, and more pages do no harm.
const BLOCKS_PER_PAGE: usize = 4096 / size_of::<Block>();

/// Until the memory, wiped already, is given back.
const KEPT: Duration = Duration::from_secs(1);

/// Memory for one stretch, on its way.
pub(super) struct StretchMemory {
    fetching: Option<JoinHandle<Vec<Block>>>,
}

impl StretchMemory {
    /// Begins to fetch it.
    pub(super) fn fetch() -> Self {
        Self {
            fetching: thread::Builder::new().spawn(fetched).ok(),
        }
    }

    /// Stretches `pin`; the memory is wiped, and given back later.
    pub(super) fn stretch(self, pin: &[u8], salt: &[u8; 16]) -> Result<Stretched> {
        let memory = self.fetching.and_then(|fetching| fetching.join().ok());
        let mut memory = memory.unwrap_or_else(fetched);
        let stretched = stretch::stretch(pin, salt, &mut memory);
        let _ = thread::Builder::new().spawn(move || {
            thread::sleep(KEPT);
            drop(memory);
        });
        stretched.map_err(|_| Error::Internal("PIN stretch"))
    }
}

/// Stretches each PIN once with each salt and keeps the result: a simulation unlocks thousands of tokens. Nothing of this
/// is in a program.
#[cfg(feature = "simulation")]
pub(super) fn remembered(
    pin: &[u8],
    salt: &[u8; 16],
    stretch: impl FnOnce() -> Result<Stretched>,
) -> Result<Stretched> {
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    type Stretches = HashMap<(Vec<u8>, [u8; 16]), [u8; Stretched::LEN]>;
    static KNOWN: Mutex<Option<Stretches>> = Mutex::new(None);

    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let key = (pin.to_vec(), *salt);
    if let Some(bytes) = known.get(&key) {
        return Ok(Stretched::from_bytes(*bytes));
    }
    let stretched = stretch()?;
    known.insert(key, *stretched.expose_bytes());
    Ok(stretched)
}

/// All of it, written to: that is when the system finds it.
fn fetched() -> Vec<Block> {
    let mut memory = Vec::with_capacity(STRETCH_BLOCKS);
    // Only one thread may write the whole, but two may each have half of it found.
    let (front, back) = memory.spare_capacity_mut().split_at_mut(STRETCH_BLOCKS / 2);
    thread::scope(|scope| {
        let _ = thread::Builder::new().spawn_scoped(scope, || touch(back));
        touch(front);
    });
    memory.resize_with(STRETCH_BLOCKS, Block::default);
    memory
}

fn touch(blocks: &mut [MaybeUninit<Block>]) {
    for page in blocks.chunks_mut(BLOCKS_PER_PAGE) {
        if let Some(block) = page.first_mut() {
            block.write(Block::default());
        }
    }
}

#[cfg(all(test, feature = "simulation"))]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_stretches_each_pin_once_with_each_salt() {
        let mut stretches = 0;
        let mut stretch = |pin: &[u8], salt: u8| {
            let made = remembered(pin, &[salt; 16], || {
                stretches += 1;
                Ok(Stretched::from_bytes([stretches; 32]))
            });
            made.unwrap().expose_bytes()[0]
        };
        let found = [
            stretch(b"one", 1),
            stretch(b"two", 1),
            stretch(b"one", 2),
            stretch(b"one", 1),
        ];
        assert_eq!(found, [1, 2, 3, 1]);
    }
}
