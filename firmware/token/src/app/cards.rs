//! Which sessions there are, and the rules between those of one contact (SPEC section 9.7).
//!
//! ```text
//!  birth 1            birth 2               birth 3             floor 4
//!  own, unanswered    the peer's, crosses 1  own                 every one below it
//!        └─── both live ───┘                  └─ supersedes 1 and 2  is superseded
//! ```
//!
//! Invariant: **which session is current is never stored.** It follows from births, crossings, answers and the floor, so
//! there is no second write that a power cut could keep from being done.

use core::num::NonZeroU32;

use heapless::Vec;
use hostchat_core::icd;
use hostchat_core::wire::{Bytes, SessionId};

use super::generation::Roster;
use super::marks::Mark;
use crate::records::{RecordId, SESSION_RECORDS};
use crate::store::StoreError;

/// A short name of an address or an identity in RAM.
pub(super) type Tag = [u8; 16];

/// Counts the sessions of a token: a younger one has a higher number, and keeps it.
pub(super) type Birth = NonZeroU32;

/// How a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// We wrote a first message.
    Started,
    /// We showed the code of this run.
    Shown(Bytes<16>),
    /// We typed the code of this run.
    Typed(Bytes<16>),
    /// A first message used this one-time prekey.
    OneTime(u32),
    /// A first message used this last-resort prekey and no other.
    LastResort(u32, Mark),
}

impl Origin {
    /// Whether this end sent the first frame. The other sessions begin with a frame of the peer.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Started | Self::Shown(_))
    }
}

/// What RAM knows of a session.
#[derive(Clone, Copy)]
pub(super) struct Card {
    pub(super) record: RecordId,
    pub(super) session: SessionId,
    pub(super) address: Tag,
    pub(super) identity: Tag,
    pub(super) birth: Birth,
    /// The own session that had no answer when this one came in, and that it does not supersede.
    pub(super) crosses: Option<Birth>,
    pub(super) verified: bool,
    /// Something was sealed on it.
    pub(super) sealed: bool,
    /// A frame of the peer has opened in it.
    pub(super) answered: bool,
    pub(super) origin: Origin,
}

/// The cards of all sessions.
pub(super) struct Cards {
    list: Vec<Card, SESSION_RECORDS>,
    /// Every session that was born before this one is superseded.
    floor: u32,
}

impl Cards {
    pub(super) const fn new() -> Self {
        Self {
            list: Vec::new(),
            floor: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.floor = 0;
    }

    pub(super) fn put(&mut self, card: Card) -> Result<(), StoreError> {
        match self.list.iter_mut().find(|old| old.record == card.record) {
            Some(old) => *old = card,
            None => self.list.push(card).map_err(|_| StoreError::Full)?,
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, record: RecordId) {
        self.list.retain(|card| card.record != record);
    }

    pub(super) fn set_floor(&mut self, floor: u32) {
        self.floor = floor;
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Card> {
        self.list.iter()
    }

    pub(super) fn origin(&self, at: usize) -> Option<Origin> {
        self.list.get(at).map(|card| card.origin)
    }

    /// The records that these sessions have.
    pub(super) fn roster(&self) -> Roster {
        let mut roster = Roster::default();
        self.list.iter().for_each(|card| roster.add(card.record));
        roster
    }

    /// Whether a session is there that began with our answer to this run.
    pub(super) fn has_typed(&self, sid: &Bytes<16>) -> bool {
        self.list
            .iter()
            .any(|card| card.origin == Origin::Typed(*sid))
    }

    /// The session of this id.
    pub(super) fn by_session(&self, session: &SessionId) -> Option<Card> {
        self.list
            .iter()
            .find(|card| card.session == *session)
            .copied()
    }

    /// The session in this record.
    pub(super) fn by_record(&self, record: RecordId) -> Option<Card> {
        self.list.iter().find(|card| card.record == record).copied()
    }

    /// The sessions of a contact.
    pub(super) fn of(&self, address: &Tag) -> impl Iterator<Item = &Card> {
        self.list.iter().filter(|card| card.address == *address)
    }

    pub(super) fn count(&self, address: &Tag) -> usize {
        self.of(address).count()
    }

    /// The session of a contact that was born last: its identity is the contact's.
    pub(super) fn youngest(&self, address: &Tag) -> Option<Card> {
        self.of(address).max_by_key(|card| card.birth).copied()
    }

    /// Whether a session only opens: it lies below the floor, or its contact has a younger one that does not cross it.
    pub(super) fn is_superseded(&self, card: &Card) -> bool {
        let supersedes =
            |other: &Card| other.birth > card.birth && other.crosses != Some(card.birth);
        card.birth.get() < self.floor || self.of(&card.address).any(supersedes)
    }

    /// The session of a contact that the next seal takes: of the live ones, those in which the peer has answered come
    /// first; of two such, both ends take the one with the smaller id.
    pub(super) fn current(&self, address: &Tag) -> Option<Card> {
        let live = || self.of(address).filter(|card| !self.is_superseded(card));
        let answered = live().any(|card| card.answered);
        live()
            .filter(|card| card.answered || !answered)
            .min_by_key(|card| card.session.0)
            .copied()
    }

    /// The own session that a session crosses which comes in now.
    pub(super) fn crossed(&self, address: &Tag, identity: &Tag) -> Option<Birth> {
        self.of(address)
            .filter(|card| card.identity == *identity && card.origin.is_own())
            .find(|card| !card.answered && !self.is_superseded(card))
            .map(|card| card.birth)
    }

    /// Whether a code verified the present identity of a contact.
    pub(super) fn verified(&self, address: &Tag, identity: &Tag) -> bool {
        self.of(address)
            .any(|card| card.identity == *identity && card.verified)
    }

    /// First messages that this last-resort prekey began and whose session is here.
    pub(super) fn marks(&self, prekey: u32) -> usize {
        self.list
            .iter()
            .filter(|card| matches!(card.origin, Origin::LastResort(id, _) if id == prekey))
            .count()
    }

    /// The number of the session that is born next; `None` after four billion.
    pub(super) fn next_birth(&self) -> Option<Birth> {
        let youngest = self.list.iter().map(|card| card.birth.get()).max();
        let next = youngest.unwrap_or(0).checked_add(1)?;
        NonZeroU32::new(next.max(self.floor))
    }

    pub(super) fn free_record(&self) -> Option<RecordId> {
        RecordId::sessions().find(|record| self.list.iter().all(|card| card.record != *record))
    }

    /// A session that has to go: of an identity that another one took the place of, or beyond the two of its contact.
    pub(super) fn over(&self) -> Option<Card> {
        self.list.iter().find_map(|card| self.goes(&card.address))
    }

    /// What has to go of a contact. The youngest never does, nor the last one that was answered: an own one without an
    /// answer would go before it, and otherwise it is the youngest of those that are left.
    fn goes(&self, address: &Tag) -> Option<Card> {
        let youngest = self.youngest(address)?;
        let replaced = |card: &&Card| card.identity != youngest.identity;
        if let Some(card) = self.of(address).find(replaced) {
            return Some(*card);
        }
        if self.count(address) <= icd::MAX_SESSIONS {
            return None;
        }
        let order = |card: &&Card| {
            let superseded = self.is_superseded(card);
            let unanswered = superseded && card.origin.is_own() && !card.answered;
            (!unanswered, !superseded, card.birth)
        };
        self.of(address)
            .filter(|card| card.birth != youngest.birth)
            .min_by_key(order)
            .copied()
    }
}
