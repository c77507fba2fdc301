//! Keys of messages that have not come yet.
//!
//! The invariants: **never more than [`MAX_SKIPPED`] keys, the newest ones, none older than [`MAX_SKIPPED_STEPS`] steps**,
//! and a pair of chain and number names at most one of them. A key that is taken out leaves no copy behind.
//!
//! Ages lie in an array of their own: in a slot one byte would cost four. Each key is kept with age 0 behind those that are
//! there, and a step makes all of them older, so the oldest are always in front.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::chain::{Chain, MessageKey};
use crate::error::{Decode, Error};

/// The most keys of skipped messages that a session keeps: memory and flash are bounded.
pub const MAX_SKIPPED: usize = 256;

/// The steps of the root chain after which a key of a skipped message is forgotten, used or not: a message that comes so
/// late is asked for again, and a thief of the state finds no keys of months ago.
pub const MAX_SKIPPED_STEPS: u8 = 30;

/// Names a receiving chain: the first 8 bytes of its ratchet key.
///
/// Two chains with one tag can only come from a peer that makes them so, to its own loss.
pub(crate) type ChainTag = [u8; 8];

/// Gives the tag of the chain that a ratchet key starts.
pub(crate) fn chain_tag(ratchet_key: &[u8; 32]) -> ChainTag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&ratchet_key[..8]);
    tag
}

/// One slot of the store; plain bytes, so that moving a slot can be followed by wiping it.
#[derive(Clone, Copy, Zeroize)]
struct Slot {
    chain: ChainTag,
    n: u32,
    key: [u8; 32],
}

impl Slot {
    const EMPTY: Self = Self {
        chain: [0; 8],
        n: 0,
        key: [0; 32],
    };
}

/// The keys of messages that have not come yet, oldest first.
#[derive(ZeroizeOnDrop)]
pub(crate) struct SkippedKeys {
    slots: [Slot; MAX_SKIPPED],
    /// Steps of the root chain since the key of a slot was kept.
    ages: [u8; MAX_SKIPPED],
    /// Slots in use, from the front; the others are zero.
    len: usize,
}

impl SkippedKeys {
    /// Makes an empty store.
    pub(crate) const fn new() -> Self {
        Self {
            slots: [Slot::EMPTY; MAX_SKIPPED],
            ages: [0; MAX_SKIPPED],
            len: 0,
        }
    }

    /// Walks `chain` forward by `jump` messages and keeps the newest of their keys.
    ///
    /// # Errors
    ///
    /// The chain's error if its counter would wrap.
    pub(crate) fn skip(
        &mut self,
        chain: &mut Chain,
        tag: ChainTag,
        jump: u32,
    ) -> Result<(), Error> {
        let most = u32::try_from(MAX_SKIPPED).unwrap_or(u32::MAX);
        let kept = jump.min(most);
        for _ in kept..jump {
            chain.pass()?;
        }
        for _ in 0..kept {
            let n = chain.n;
            let key = chain.take()?;
            self.push(tag, n, &key);
        }
        Ok(())
    }

    /// Makes all keys a step of the root chain older, and forgets those whose time is over.
    pub(crate) fn step(&mut self) {
        let used = &mut self.ages[..self.len];
        used.iter_mut().for_each(|age| *age = age.saturating_add(1));
        let over = used.partition_point(|age| *age >= MAX_SKIPPED_STEPS);
        self.remove(0, over);
    }

    /// Takes the key of a message out, if it is here.
    pub(crate) fn take(&mut self, chain: ChainTag, n: u32) -> Option<MessageKey> {
        let at = self.position(chain, n)?;
        let key = MessageKey::from_bytes(self.used().get(at)?.key);
        self.remove(at, 1);
        Some(key)
    }

    /// Forgets the keys of a chain whose ratchet key the peer uses again (its state was restored).
    pub(crate) fn forget_chain(&mut self, chain: ChainTag) {
        let mut kept = 0;
        for at in 0..self.len {
            if self.slots[at].chain != chain {
                self.slots[kept] = self.slots[at];
                self.ages[kept] = self.ages[at];
                kept += 1;
            }
        }
        self.truncate(kept);
    }

    /// Adds a key read from storage, with age 0.
    ///
    /// # Errors
    ///
    /// [`Decode::TooLong`] if there is no room, [`Decode::NotCanonical`] if its message already has a key.
    pub(crate) fn restore(
        &mut self,
        chain: ChainTag,
        n: u32,
        key: &MessageKey,
    ) -> Result<(), Error> {
        if self.len == MAX_SKIPPED {
            return Err(Error::Decode(Decode::TooLong));
        }
        if self.position(chain, n).is_some() {
            return Err(Error::Decode(Decode::NotCanonical));
        }
        self.push(chain, n, key);
        Ok(())
    }

    /// Sets the ages read from storage, one for each key.
    ///
    /// # Errors
    ///
    /// [`Decode::NotCanonical`] for an age that no kept key has, or that is higher than the one before it.
    pub(crate) fn restore_ages(&mut self, ages: &[u8]) -> Result<(), Error> {
        let possible = ages.iter().all(|age| *age < MAX_SKIPPED_STEPS);
        if ages.len() != self.len || !possible || !ages.is_sorted_by(|one, next| one >= next) {
            return Err(Error::Decode(Decode::NotCanonical));
        }
        self.ages[..self.len].copy_from_slice(ages);
        Ok(())
    }

    /// Replaces the content by a copy of another store.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.clear();
        self.slots[..other.len].copy_from_slice(other.used());
        self.ages[..other.len].copy_from_slice(other.ages());
        self.len = other.len;
    }

    /// Forgets all keys.
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    /// Gives the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Walks over chain tag, number and key, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChainTag, u32, &[u8; 32])> {
        self.used()
            .iter()
            .map(|slot| (&slot.chain, slot.n, &slot.key))
    }

    /// Gives the age of each key, in the order of [`Self::iter`]: steps of the root chain since it was kept.
    pub(crate) fn ages(&self) -> &[u8] {
        &self.ages[..self.len]
    }

    /// Adds a key of age 0, in place of the oldest if the store is full.
    fn push(&mut self, chain: ChainTag, n: u32, key: &MessageKey) {
        if self.len == MAX_SKIPPED {
            self.remove(0, 1);
        }
        self.slots[self.len] = Slot {
            chain,
            n,
            key: *key.expose_bytes(),
        };
        self.ages[self.len] = 0;
        self.len += 1;
    }

    /// Wipes `count` keys from `at` on, and closes the gap.
    fn remove(&mut self, at: usize, count: usize) {
        if count > 0 {
            self.slots.copy_within(at + count..self.len, at);
            self.ages.copy_within(at + count..self.len, at);
            self.truncate(self.len - count);
        }
    }

    /// Keeps the first `len` keys and wipes the slots of the others.
    fn truncate(&mut self, len: usize) {
        self.slots[len..self.len]
            .iter_mut()
            .for_each(Zeroize::zeroize);
        self.ages[len..self.len].zeroize();
        self.len = len;
    }

    fn position(&self, chain: ChainTag, n: u32) -> Option<usize> {
        self.used()
            .iter()
            .position(|slot| slot.n == n && slot.chain == chain)
    }

    fn used(&self) -> &[Slot] {
        &self.slots[..self.len]
    }
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::super::chain::ChainKey;
    use super::*;

    const TAG: ChainTag = *b"chain  1";
    const OTHER: ChainTag = *b"chain  2";

    fn chain() -> Chain {
        Chain::new(ChainKey::from_bytes([7; 32]))
    }

    fn numbers(keys: &SkippedKeys) -> alloc::vec::Vec<u32> {
        keys.iter().map(|(_, n, _)| n).collect()
    }

    fn unused_slots_are_zero(keys: &SkippedKeys) -> bool {
        let zero = |slot: &Slot| slot.chain == [0; 8] && slot.n == 0 && slot.key == [0; 32];
        keys.slots[keys.len..].iter().all(zero) && keys.ages[keys.len..].iter().all(|age| *age == 0)
    }

    #[cfg_attr(test, test)]
    pub fn the_newest_keys_are_kept_whether_skipped_at_once_or_one_by_one() {
        let (mut at_once, mut one_by_one) = (SkippedKeys::new(), SkippedKeys::new());
        assert_eq!(at_once.skip(&mut chain(), TAG, 1000), Ok(()));
        let mut walked = chain();
        for _ in 0..1000 {
            assert_eq!(one_by_one.skip(&mut walked, TAG, 1), Ok(()));
        }
        assert_eq!(
            numbers(&at_once),
            (744..1000).collect::<alloc::vec::Vec<_>>()
        );
        assert!(at_once.iter().eq(one_by_one.iter()));
        assert!(at_once.take(TAG, 743).is_none());
        assert!(at_once.take(TAG, 744).is_some());
    }

    #[cfg_attr(test, test)]
    pub fn a_taken_key_is_the_key_of_its_message_and_is_gone() {
        let mut keys = SkippedKeys::new();
        assert_eq!(keys.skip(&mut chain(), TAG, 10), Ok(()));
        let mut expected = chain();
        for _ in 0..4 {
            assert_eq!(expected.pass(), Ok(()));
        }
        let taken = keys.take(TAG, 4).map(|key| *key.expose_bytes());
        assert_eq!(taken, expected.take().ok().map(|key| *key.expose_bytes()));
        assert!(keys.take(TAG, 4).is_none());
        assert!(keys.take(OTHER, 5).is_none());
        assert_eq!(numbers(&keys), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
        assert!(unused_slots_are_zero(&keys));
    }

    #[cfg_attr(test, test)]
    pub fn forgetting_a_chain_leaves_the_others_in_order_and_no_residue() {
        let mut keys = SkippedKeys::new();
        let (mut one, mut two) = (chain(), chain());
        for _ in 0..5 {
            assert_eq!(keys.skip(&mut one, TAG, 2), Ok(()));
            assert_eq!(keys.skip(&mut two, OTHER, 1), Ok(()));
        }
        keys.forget_chain(TAG);
        assert_eq!(numbers(&keys), [0, 1, 2, 3, 4]);
        assert!(keys.iter().all(|(tag, ..)| *tag == OTHER));
        assert!(unused_slots_are_zero(&keys));
        keys.clear();
        assert!(keys.len() == 0 && unused_slots_are_zero(&keys));
    }

    #[cfg_attr(test, test)]
    pub fn a_key_is_kept_for_29_steps_and_wiped_at_the_30th() {
        let mut keys = SkippedKeys::new();
        let (mut one, mut two) = (chain(), chain());
        assert_eq!(keys.skip(&mut one, TAG, 3), Ok(()));
        for _ in 0..10 {
            keys.step();
        }
        assert_eq!(keys.skip(&mut two, OTHER, 2), Ok(()));
        for _ in 10..29 {
            keys.step();
        }
        assert_eq!(keys.ages(), [29, 29, 29, 19, 19]);
        assert!(keys.take(TAG, 1).is_some());
        keys.step();
        assert_eq!(keys.ages(), [20, 20]);
        assert_eq!(numbers(&keys), [0, 1]);
        assert!(keys.take(TAG, 0).is_none() && keys.take(TAG, 2).is_none());
        assert!(unused_slots_are_zero(&keys));
        for _ in 20..30 {
            keys.step();
        }
        assert!(keys.len() == 0 && unused_slots_are_zero(&keys));
        keys.step();
    }

    #[cfg_attr(test, test)]
    pub fn taking_forgetting_and_copying_keep_each_key_with_its_age() {
        let mut keys = SkippedKeys::new();
        let (mut one, mut two) = (chain(), chain());
        for _ in 0..4 {
            assert_eq!(keys.skip(&mut one, TAG, 2), Ok(()));
            assert_eq!(keys.skip(&mut two, OTHER, 1), Ok(()));
            keys.step();
        }
        assert_eq!(keys.ages(), [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1]);
        assert!(keys.take(TAG, 2).is_some());
        assert_eq!(keys.ages(), [4, 4, 4, 3, 3, 2, 2, 2, 1, 1, 1]);
        keys.forget_chain(TAG);
        assert_eq!(keys.ages(), [4, 3, 2, 1]);
        let mut copy = SkippedKeys::new();
        assert_eq!(copy.skip(&mut chain(), TAG, 9), Ok(()));
        copy.copy_from(&keys);
        assert_eq!(copy.ages(), [4, 3, 2, 1]);
        assert!(copy.iter().eq(keys.iter()) && unused_slots_are_zero(&copy));
        // A full store gives up the oldest.
        assert_eq!(copy.skip(&mut chain(), TAG, 254), Ok(()));
        assert_eq!((copy.len(), &copy.ages()[..3]), (256, &[2, 1, 0][..]));
    }

    #[cfg_attr(test, test)]
    pub fn restoring_refuses_ages_that_no_kept_key_has() {
        let mut keys = SkippedKeys::new();
        assert_eq!(keys.skip(&mut chain(), TAG, 3), Ok(()));
        assert_eq!(keys.restore_ages(&[29, 4, 4]), Ok(()));
        let refused = Err(Error::Decode(Decode::NotCanonical));
        for ages in [
            &[30, 4, 4][..],
            &[4, 5, 4],
            &[1, 1],
            &[1, 1, 1, 1],
            &[255, 0, 0],
        ] {
            assert_eq!(keys.restore_ages(ages), refused);
        }
        assert_eq!(keys.ages(), [29, 4, 4]);
    }

    #[cfg_attr(test, test)]
    pub fn restoring_refuses_a_second_key_for_a_message_and_a_key_too_many() {
        let mut keys = SkippedKeys::new();
        let key = MessageKey::from_bytes([1; 32]);
        for n in 0..256 {
            assert_eq!(keys.restore(TAG, n, &key), Ok(()));
        }
        assert_eq!(
            keys.restore(TAG, 256, &key),
            Err(Error::Decode(Decode::TooLong))
        );
        assert!(keys.take(TAG, 0).is_some());
        assert_eq!(
            keys.restore(TAG, 1, &key),
            Err(Error::Decode(Decode::NotCanonical))
        );
    }
}
