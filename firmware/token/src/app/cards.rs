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

    /// The own session that a new one crosses: if the new one comes in, the one that has no answer yet. An own new session
    /// crosses nothing.
    pub(super) fn crossed_by(
        &self,
        origin: &Origin,
        address: &Tag,
        identity: &Tag,
    ) -> Option<Birth> {
        let waits = |card: &&Card| {
            card.identity == *identity
                && card.origin.is_own()
                && !card.answered
                && !self.is_superseded(card)
        };
        let crossed = self.of(address).find(waits).map(|card| card.birth);
        crossed.filter(|_| !origin.is_own())
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

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(clippy::unwrap_used, reason = "tests; a chip runs them too")]
pub mod tests {
    use alloc::vec::Vec;

    use super::*;

    const ADDRESS: Tag = [1; 16];
    const OTHER: Tag = [2; 16];

    /// What happens to the sessions of one contact.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// A session begins, own or of the peer, with this id.
        Begins { own: bool, id: u8 },
        /// A frame of the peer opens in the n-th session.
        Opens(usize),
        /// Everything is superseded.
        Floor,
    }

    /// Numbers for a history, from its seed (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 16) % bound
        }

        fn event(&mut self) -> Event {
            match self.below(9) {
                0..4 => Event::Begins {
                    own: self.below(2) == 0,
                    id: self.below(256) as u8,
                },
                4..8 => Event::Opens(self.below(2) as usize),
                _ => Event::Floor,
            }
        }
    }

    /// The sessions of one contact as the model has them (`healing.py`: place, choose): every step writes down what it does.
    #[derive(Default)]
    struct Model {
        sessions: Vec<ModelSession>,
        current: Option<u32>,
    }

    struct ModelSession {
        birth: u32,
        id: u8,
        own: bool,
        answered: bool,
        superseded: bool,
    }

    impl Model {
        /// Gives the births of those that had to go.
        fn place(&mut self, birth: u32, own: bool, id: u8) -> Vec<u32> {
            for session in &mut self.sessions {
                let crossing = session.own && !session.answered && !own;
                session.superseded |= !crossing;
            }
            self.sessions.push(ModelSession {
                birth,
                id,
                own,
                answered: !own,
                superseded: false,
            });
            self.choose();
            let mut gone = Vec::new();
            while self.sessions.len() > 2 {
                let others = &self.sessions[..self.sessions.len() - 1];
                let unanswered = others
                    .iter()
                    .position(|s| s.superseded && s.own && !s.answered);
                let superseded = others.iter().position(|s| s.superseded);
                let at = unanswered.or(superseded).unwrap_or(0);
                let last_answered = self.sessions.iter().rposition(|s| s.answered);
                assert_ne!(
                    Some(at),
                    last_answered,
                    "the last one that was answered goes"
                );
                gone.push(self.sessions.remove(at).birth);
            }
            gone
        }

        fn opens(&mut self, at: usize) {
            let Some(session) = self.sessions.get_mut(at) else {
                return;
            };
            let first_answer = !session.answered && !session.superseded;
            session.answered = true;
            if first_answer {
                self.choose();
            }
        }

        fn floor(&mut self) {
            self.sessions.iter_mut().for_each(|s| s.superseded = true);
            self.current = None;
        }

        fn choose(&mut self) {
            let live = || self.sessions.iter().filter(|s| !s.superseded);
            let answered = live().any(|s| s.answered);
            let chosen = live().filter(|s| s.answered || !answered);
            self.current = chosen.min_by_key(|s| s.id).map(|s| s.birth);
        }
    }

    fn begin(cards: &mut Cards, address: Tag, own: bool, id: u8) -> u32 {
        let origin = if own {
            Origin::Started
        } else {
            Origin::OneTime(7)
        };
        let birth = cards.next_birth().unwrap();
        let mut session = Bytes([id; 16]);
        session.0[15] = address[0];
        let card = Card {
            record: cards.free_record().unwrap(),
            session,
            address,
            identity: [9; 16],
            birth,
            crosses: cards.crossed_by(&origin, &address, &[9; 16]),
            verified: false,
            sealed: false,
            answered: !own,
            origin,
        };
        cards.put(card).unwrap();
        birth.get()
    }

    fn find(cards: &Cards, id: u8) -> Card {
        let of_contact = cards.of(&ADDRESS);
        let mut found = of_contact.filter(|card| card.session.0[0] == id);
        *found.next().unwrap()
    }

    /// Deletes what has to go; gives the births.
    fn settle(cards: &mut Cards) -> Vec<u32> {
        let mut gone = Vec::new();
        while let Some(card) = cards.over() {
            cards.remove(card.record);
            gone.push(card.birth.get());
        }
        gone
    }

    #[cfg_attr(test, test)]
    pub fn what_follows_from_births_is_what_the_model_writes_down() {
        for seed in 1..=5_000 {
            history(seed);
        }
    }

    /// One random history; every second one has another contact in it.
    fn history(seed: u64) {
        let mut random = Random(seed << 32 | 0x5EED);
        let (mut cards, mut model) = (Cards::new(), Model::default());
        let mut once_superseded = Vec::new();
        for _ in 0..random.below(40) {
            let event = random.event();
            match event {
                // Two sessions with one id would be one session.
                Event::Begins { id, .. } if model.sessions.iter().any(|s| s.id == id) => continue,
                Event::Begins { own, id } => {
                    if seed.is_multiple_of(2) {
                        begin(&mut cards, OTHER, !own, id);
                        settle(&mut cards);
                    }
                    let birth = begin(&mut cards, ADDRESS, own, id);
                    let gone = model.place(birth, own, id);
                    assert_eq!(settle(&mut cards), gone, "seed {seed}, {event:?}");
                }
                Event::Opens(at) => {
                    model.opens(at);
                    if let Some(session) = model.sessions.get(at) {
                        let mut card = find(&cards, session.id);
                        card.answered = true;
                        cards.put(card).unwrap();
                    }
                }
                Event::Floor => {
                    model.floor();
                    let floor = cards.next_birth().unwrap().get();
                    cards.set_floor(floor);
                }
            }
            let current = cards.current(&ADDRESS).map(|card| card.birth.get());
            assert_eq!(current, model.current, "seed {seed}, {event:?}");
            assert_eq!(cards.count(&ADDRESS), model.sessions.len());
            for session in &model.sessions {
                let card = find(&cards, session.id);
                let superseded = cards.is_superseded(&card);
                assert_eq!(superseded, session.superseded, "seed {seed}, {event:?}");
                assert!(superseded || !once_superseded.contains(&card.birth));
                if superseded {
                    once_superseded.push(card.birth);
                }
            }
        }
    }

    #[cfg_attr(test, test)]
    pub fn births_end_before_they_would_come_again() {
        let mut cards = Cards::new();
        assert_eq!(begin(&mut cards, ADDRESS, true, 1), 1);
        cards.set_floor(u32::MAX);
        assert_eq!(begin(&mut cards, ADDRESS, true, 2), u32::MAX);
        assert_eq!(cards.next_birth(), None);
    }
}
