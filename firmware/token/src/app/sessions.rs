//! The sessions on the flash: made, loaded, shown, deleted, and missed.
//!
//! Invariant: **one session record written is one step taken.** Accepting a first message, completing a pairing and
//! committing an open are one write each; what follows from it (the used prekey goes, its mark stays, the
//! pending pairing goes, older sessions go, the roster names it) is done after it, and done again at the next unlock if a
//! power cut came between.

use core::pin::pin;

use heapless::String;
use hostchat_core::icd::{self, ContactInfo, Reply, SessionInfo, TokenError};
use hostchat_core::wire::{Address, PrekeyKind, SessionId};
use zeroize::Zeroize as _;

use super::cards::{Card, Origin, Tag};
use super::commands::{Answer, answer_with, rng};
use super::error::Failed;
use super::session_record::{Contact, encode, tag_of_address};
use super::{Work, apart};
use crate::env::Env;
use crate::records::{MAX_SESSIONS, RecordId, SESSION_RECORDS};
use crate::store::{Growth, SEAL_OVERHEAD, Store, StoreError};

/// Slots and bytes that are not for sessions.
const OTHER_SLOTS: u32 = 44;
const OTHER_BYTES: u32 = 48 * 1024;
/// Bytes of a session record without keys of skipped messages.
const TYPICAL_SESSION: u32 = 1024;

/// Which session buffer a command means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Current,
    Next,
}

impl<E: Env> Work<'_, E> {
    /// Sessions that fit this flash.
    pub(super) fn sessions_max(&self) -> usize {
        let by_bytes = self.store.budget().saturating_sub(OTHER_BYTES) / TYPICAL_SESSION;
        (by_bytes as usize)
            .min(self.by_slots())
            .clamp(4, MAX_SESSIONS)
    }

    fn by_slots(&self) -> usize {
        self.store.comfortable().saturating_sub(OTHER_SLOTS) as usize
    }

    /// Checks that another session of this contact has a place. One that is known needs it to go on with a new session, so
    /// it may have what is kept for the unforeseen; the store says when that is used up.
    pub(super) fn check_room(&self, address: &Tag) -> Result<(), Failed> {
        let (known, all) = (self.room.cards.count(address), self.room.cards.len());
        let places = if known == 0 {
            self.sessions_max()
        } else {
            self.by_slots().min(SESSION_RECORDS - 1)
        };
        if known >= icd::MAX_SESSIONS || all < places {
            Ok(())
        } else {
            Err(Failed(TokenError::SessionsFull))
        }
    }

    /// Tells whether another identity than this one is known behind an address.
    pub(super) fn identity_changed(&self, address: &Tag, identity: &Tag) -> bool {
        self.room
            .cards
            .youngest(address)
            .is_some_and(|youngest| youngest.identity != *identity)
    }

    /// A card for a new session, the youngest of its contact.
    pub(super) fn new_card(
        &self,
        contact: &Contact,
        session: SessionId,
        origin: Origin,
        verified: bool,
    ) -> Result<Card, Failed> {
        let (address, identity) = (contact.address_tag(), contact.identity_tag());
        let cards = &self.room.cards;
        let full = Failed(TokenError::SessionsFull);
        Ok(Card {
            record: cards.free_record().ok_or(full)?,
            session,
            address,
            identity,
            birth: cards.next_birth().ok_or(full)?,
            crosses: cards.crossed_by(&origin, &address, &identity),
            verified: verified || cards.verified(&address, &identity),
            sealed: false,
            answered: !origin.is_own(),
            origin,
        })
    }

    /// Stores a session: the one write that its step is.
    pub(super) async fn store_session(
        &mut self,
        card: Card,
        contact: &Contact,
        place: Place,
        growth: Growth,
    ) -> Result<(), Failed> {
        let session = match place {
            Place::Current => &self.room.current,
            Place::Next => &self.room.next,
        };
        let length = encode(
            &card,
            contact,
            session,
            &mut self.room.record[SEAL_OVERHEAD..],
        )?;
        let (rng, master) = (rng(self.env)?, &self.keyring.master);
        pin!(self.store.put_sealed(
            rng,
            master,
            card.record,
            growth,
            &mut self.room.record,
            length,
        ))
        .await?;
        self.room.cards.put(card)?;
        Ok(())
    }

    /// Loads a session into `room.current`.
    pub(super) async fn load_session(&mut self, card: &Card) -> Result<Contact, Failed> {
        let master = &self.keyring.master;
        let read = pin!(
            self.store
                .read_sealed(master, card.record, &mut self.room.record)
        )
        .await?;
        let length = read.ok_or(Failed(TokenError::Storage))?;
        let loaded = self.room.load(card.record, length);
        self.room.record.zeroize();
        Ok(loaded?)
    }

    /// Does what follows from a session being there: idempotent, in any order.
    pub(super) async fn redo(&mut self) -> Result<(), Failed> {
        for at in 0..self.room.cards.len() {
            if let Some(Origin::OneTime(id)) = self.room.cards.origin(at) {
                self.delete_prekey(PrekeyKind::OneTime, id).await?;
            }
        }
        pin!(self.confirm_pending()).await?;
        while let Some(card) = self.room.cards.over() {
            apart(pin!(self.delete_session(&card))).await?;
        }
        pin!(self.save_roster(None)).await
    }

    /// Deletes a session; its mark is kept first, and the roster no longer names it.
    pub(super) async fn delete_session(&mut self, card: &Card) -> Result<(), Failed> {
        if let Origin::LastResort(prekey, mark) = card.origin
            && self.keyring.prekeys.has_last_resort(prekey)
        {
            let rng = rng(self.env)?;
            self.room
                .marks
                .keep(
                    (prekey, mark),
                    self.store,
                    rng,
                    &self.keyring.master,
                    &mut self.room.record,
                )
                .await?;
        }
        pin!(self.save_roster(Some(card.record))).await?;
        self.store.delete(card.record).await?;
        self.room.cards.remove(card.record);
        if self
            .keyring
            .uncommitted
            .as_ref()
            .is_some_and(|open| open.record() == Some(card.record))
        {
            self.discard();
        }
        Ok(())
    }

    /// Deletes a contact: its sessions, and answers to its codes that wait for their confirmation.
    pub(super) async fn forget(&mut self, peer: &Address) -> Result<(), Failed> {
        let address = tag_of_address(peer);
        let waited = self.forget_pending(peer).await?;
        if self.room.cards.count(&address) == 0 && !waited {
            return Err(Failed(TokenError::UnknownContact));
        }
        if self
            .keyring
            .uncommitted
            .as_ref()
            .is_some_and(|open| open.is_from(&address))
        {
            self.discard();
        }
        while let Some(card) = self.room.cards.youngest(&address) {
            apart(pin!(self.delete_session(&card))).await?;
        }
        Ok(())
    }

    /// The contact after a given one, in the order of their tags.
    pub(super) fn contact_after(&self, after: Option<&Address>) -> Option<Tag> {
        let after = after.map(tag_of_address);
        let contacts = self.room.cards.iter().map(|card| card.address);
        contacts
            .filter(|address| after.is_none_or(|after| *address > after))
            .min()
    }

    /// The contact of a session.
    pub(super) fn contact_of(&self, session: &SessionId) -> Option<Tag> {
        let card = self.room.cards.by_session(session);
        card.map(|card| card.address)
    }

    /// Shows a contact, or that there is none.
    pub(super) async fn show_contact(
        &mut self,
        address: Option<Tag>,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        let Some(address) = address else {
            return answer_with(&Reply::Contact(None), answer);
        };
        let cards = &self.room.cards;
        let youngest = cards
            .youngest(&address)
            .ok_or(Failed(TokenError::UnknownContact))?;
        let current = cards.current(&address).unwrap_or(youngest);
        let contact = pin!(self.load_session(&youngest)).await?;
        self.room.current.clear();
        let info = ContactInfo {
            address: contact.address,
            identity: contact.identity,
            verified: self.room.cards.verified(&address, &youngest.identity),
            session: current.session,
            sessions: self.room.cards.count(&address) as u8,
            note: String::new(),
        };
        answer_with(&Reply::Contact(Some(info)), answer)
    }

    /// Shows the sessions of a contact, by birth.
    #[inline(never)]
    pub(super) fn show_sessions(&self, peer: &Address, answer: &mut Answer) -> Result<(), Failed> {
        let (cards, address) = (&self.room.cards, tag_of_address(peer));
        let current = cards.current(&address).map(|card| card.session);
        let youngest = cards.youngest(&address);
        let below = youngest.map(|card| card.birth);
        let older = cards.of(&address).filter(|card| Some(card.birth) < below);
        let older = older.max_by_key(|card| card.birth).copied();
        let shown = older.into_iter().chain(youngest);
        let shown = shown.map(|card| SessionInfo {
            session: card.session,
            own: card.origin.is_own(),
            answered: card.answered,
            superseded: cards.is_superseded(&card),
            current: current == Some(card.session),
        });
        answer_with(&Reply::Sessions(shown.collect()), answer)
    }

    /// Learns at an unlock what there is, and redoes what a power cut kept from being done.
    pub(super) async fn take_stock(&mut self) -> Result<(), Failed> {
        pin!(self.load_prekeys()).await?;
        pin!(self.mend_answers()).await?;
        let generation = or_damaged(pin!(self.load_generation()).await)?;
        let marks = self
            .room
            .marks
            .load(self.store, &self.keyring.master, &mut self.room.record)
            .await;
        self.room.record.zeroize();
        let marks = or_damaged(marks)?;
        for record in RecordId::sessions() {
            if self.store.has(record) {
                pin!(self.load_card(record)).await?;
            }
        }
        if generation == Found::Damaged {
            pin!(self.lose_generation()).await?;
        }
        pin!(self.miss_sessions(marks)).await?;
        pin!(self.redo()).await?;
        pin!(self.count_pending()).await
    }

    /// Learns what RAM knows of a session; nothing of one that cannot be read.
    async fn load_card(&mut self, record: RecordId) -> Result<(), Failed> {
        let read = pin!(self.store.read_sealed(
            &self.keyring.master,
            record,
            &mut self.room.record
        ))
        .await;
        let card = read.and_then(|length| self.room.card(record, length.unwrap_or(0)));
        self.room.record.zeroize();
        match card {
            Ok(card) => Ok(self.room.cards.put(card)?),
            Err(StoreError::Damaged) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on without the sessions that the roster or the store names and that cannot be read, and without marks that
    /// cannot be read.
    ///
    /// The marks of their first messages are gone with them, so all last-resort prekeys go: no first message of the past
    /// opens without one. That comes first and the records go last, so that a power cut between leaves what to do again.
    async fn miss_sessions(&mut self, marks: Found) -> Result<(), Failed> {
        let here = self.room.cards.roster();
        let named = self.keyring.generation.roster();
        let missing = |store: &Store<E::Flash>, record: &RecordId| {
            !here.has(*record) && (store.has(*record) || named.has(*record))
        };
        let lost = RecordId::sessions()
            .filter(|record| missing(self.store, record))
            .count();
        if lost == 0 && marks == Found::Sound {
            return Ok(());
        }
        pin!(self.retire_last_resorts()).await?;
        if lost > 0 {
            pin!(self.count_lost(u16::try_from(lost).unwrap_or(u16::MAX))).await?;
        }
        if marks == Found::Damaged {
            self.store.delete(RecordId::REPLAY).await?;
        }
        for record in RecordId::sessions() {
            if !here.has(record) {
                self.store.delete(record).await?;
            }
        }
        Ok(())
    }
}

/// How a record was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Sound,
    Damaged,
}

pub(super) fn or_damaged(read: Result<(), StoreError>) -> Result<Found, StoreError> {
    match read {
        Ok(()) => Ok(Found::Sound),
        Err(StoreError::Damaged) => Ok(Found::Damaged),
        Err(error) => Err(error),
    }
}
