//! Session records: who the other is, how the session began, its ratchet. A contact is all sessions of one address.
//!
//! Invariant: **one session record written is one step taken.** Accepting a first message, completing a pairing and
//! committing an open are one write each; what follows from it (the used prekey goes, its mark stays, the
//! pending pairing goes, older sessions go) is done after it, and done again at the next unlock if a power cut came
//! between.

use core::pin::pin;

use heapless::{String, Vec};
use hostchat_core::crypto::hash::sha256;
use hostchat_core::icd::{ContactInfo, Reply, TokenError};
use hostchat_core::ratchet::Session;
use hostchat_core::wire::{Address, Bytes, IdentityClaim, PrekeyKind, SessionId};
use zeroize::Zeroize as _;

use super::commands::{Answer, answer_with, rng};
use super::error::Failed;
use super::fields::{Fields, Put};
use super::marks::Mark;
use super::{Room, Work};
use crate::env::Env;
use crate::records::{MAX_SESSIONS, RecordId};
use crate::store::{Growth, SEAL_OVERHEAD, StoreError};

const VERSION: u8 = 1;
/// Sessions of one contact: current and previous.
const PER_CONTACT: usize = 2;
/// Session records that can stand beside each other for a moment.
const MAX_CARDS: usize = MAX_SESSIONS + 4;
/// Slots and bytes that are not for sessions.
const OTHER_SLOTS: u32 = 44;
const OTHER_BYTES: u32 = 48 * 1024;
/// Bytes of a session record without keys of skipped messages.
const TYPICAL_SESSION: u32 = 1024;

/// A short name of an address or an identity in RAM.
pub(super) type Tag = [u8; 16];

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

/// What RAM knows of a session.
#[derive(Clone, Copy)]
pub(super) struct Card {
    pub(super) record: RecordId,
    pub(super) session: SessionId,
    pub(super) address: Tag,
    pub(super) identity: Tag,
    /// The contact's current session has the highest number.
    pub(super) used: u32,
    pub(super) verified: bool,
    /// Something was sealed on it.
    pub(super) sealed: bool,
    pub(super) origin: Origin,
}

/// Who a session is with.
#[derive(Clone)]
pub(super) struct Contact {
    pub(super) address: Address,
    pub(super) identity: IdentityClaim,
}

impl Contact {
    pub(super) fn address_tag(&self) -> Tag {
        tag_of_address(&self.address)
    }

    pub(super) fn identity_tag(&self) -> Tag {
        tag_of_identity(&self.identity)
    }
}

pub(super) fn tag_of_address(address: &Address) -> Tag {
    shorten(sha256(&[address.as_str().as_bytes()]))
}

/// Two claims with the same keys are one identity: the signature is deterministic.
pub(super) fn tag_of_identity(identity: &IdentityClaim) -> Tag {
    shorten(sha256(&[&identity.sign.0, &identity.dh.0]))
}

fn shorten(hash: [u8; 32]) -> Tag {
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash[..16]);
    tag
}

/// The cards of all sessions.
pub(super) struct Cards(Vec<Card, MAX_CARDS>);

impl Cards {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Card> {
        self.0.iter()
    }

    fn origin(&self, at: usize) -> Option<Origin> {
        self.0.get(at).map(|card| card.origin)
    }

    /// Whether a session is there that began with our answer to this run.
    pub(super) fn answered(&self, sid: &Bytes<16>) -> bool {
        self.0.iter().any(|card| card.origin == Origin::Typed(*sid))
    }

    /// The session of this id.
    pub(super) fn by_session(&self, session: &SessionId) -> Option<Card> {
        self.0.iter().find(|card| card.session == *session).copied()
    }

    /// The current session of a contact.
    pub(super) fn current(&self, address: &Tag) -> Option<Card> {
        self.0
            .iter()
            .filter(|card| card.address == *address)
            .max_by_key(|card| card.used)
            .copied()
    }

    /// Whether a code verified the present identity of a contact.
    pub(super) fn verified(&self, address: &Tag, identity: &Tag) -> bool {
        self.0
            .iter()
            .any(|card| card.address == *address && card.identity == *identity && card.verified)
    }

    pub(super) fn count(&self, address: &Tag) -> usize {
        self.0
            .iter()
            .filter(|card| card.address == *address)
            .count()
    }

    /// First messages that this last-resort prekey began and whose session is here.
    pub(super) fn marks(&self, prekey: u32) -> usize {
        self.0
            .iter()
            .filter(|card| matches!(card.origin, Origin::LastResort(id, _) if id == prekey))
            .count()
    }

    pub(super) fn next_used(&self) -> u32 {
        self.0
            .iter()
            .map(|card| card.used)
            .max()
            .unwrap_or(0)
            .saturating_add(1)
    }

    fn free_record(&self) -> Option<RecordId> {
        RecordId::sessions().find(|record| self.0.iter().all(|card| card.record != *record))
    }

    fn put(&mut self, card: Card) -> Result<(), StoreError> {
        match self.0.iter_mut().find(|old| old.record == card.record) {
            Some(old) => *old = card,
            None => self.0.push(card).map_err(|_| StoreError::Full)?,
        }
        Ok(())
    }

    fn remove(&mut self, record: RecordId) {
        self.0.retain(|card| card.record != record);
    }

    /// A session that is over: beyond the two of its contact, or of an identity that another one took the place of.
    fn over(&self) -> Option<Card> {
        let over = |card: &&Card| {
            let newer = |other: &&Card| other.address == card.address && other.used > card.used;
            let replaced = self
                .current(&card.address)
                .is_some_and(|current| current.identity != card.identity);
            replaced || self.0.iter().filter(newer).count() >= PER_CONTACT
        };
        self.0.iter().find(over).copied()
    }
}

/// Which session buffer a command means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Current,
    Next,
}

impl<E: Env> Work<'_, E> {
    /// Sessions that fit this flash.
    pub(super) fn sessions_max(&self) -> usize {
        let by_slots = self.store.comfortable().saturating_sub(OTHER_SLOTS);
        let by_bytes = self.store.budget().saturating_sub(OTHER_BYTES) / TYPICAL_SESSION;
        (by_slots.min(by_bytes) as usize).clamp(4, MAX_SESSIONS)
    }

    /// Checks that another session of this contact has a place.
    pub(super) fn check_room(&self, address: &Tag) -> Result<(), Failed> {
        let cards = &self.room.cards;
        let goes = cards.count(address) >= PER_CONTACT;
        if goes || cards.len() < self.sessions_max() {
            Ok(())
        } else {
            Err(Failed(TokenError::SessionsFull))
        }
    }

    /// Tells whether another identity than this one is known behind an address.
    pub(super) fn identity_changed(&self, address: &Tag, identity: &Tag) -> bool {
        self.room
            .cards
            .current(address)
            .is_some_and(|current| current.identity != *identity)
    }

    /// A record for a new session, which becomes its contact's current one.
    pub(super) fn new_card(
        &self,
        contact: &Contact,
        session: SessionId,
        origin: Origin,
        verified: bool,
    ) -> Result<Card, Failed> {
        let (address, identity) = (contact.address_tag(), contact.identity_tag());
        Ok(Card {
            record: self
                .room
                .cards
                .free_record()
                .ok_or(Failed(TokenError::SessionsFull))?,
            session,
            address,
            identity,
            used: self.room.cards.next_used(),
            verified: verified || self.room.cards.verified(&address, &identity),
            sealed: false,
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
            pin!(self.delete_session(&card)).await?;
        }
        Ok(())
    }

    /// Deletes a session; its mark is kept first.
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
        while let Some(card) = self.room.cards.current(&address) {
            pin!(self.delete_session(&card)).await?;
        }
        Ok(())
    }

    /// Shows the contact after a given one, in the order of their tags.
    pub(super) async fn next_contact(
        &mut self,
        after: Option<&Address>,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        let after = after.map(tag_of_address);
        let later = |card: &&Card| after.is_none_or(|after| card.address > after);
        let Some(address) = self
            .room
            .cards
            .iter()
            .filter(later)
            .map(|card| card.address)
            .min()
        else {
            return answer_with(&Reply::Contact(None), answer);
        };
        let current = self
            .room
            .cards
            .current(&address)
            .ok_or(Failed(TokenError::UnknownContact))?;
        let contact = pin!(self.load_session(&current)).await?;
        self.room.current.clear();
        let info = ContactInfo {
            address: contact.address,
            identity: contact.identity,
            verified: self.room.cards.verified(&address, &current.identity),
            session: current.session,
            sessions: self.room.cards.count(&address) as u8,
            note: String::new(),
        };
        answer_with(&Reply::Contact(Some(info)), answer)
    }

    /// Learns at an unlock what there is, and redoes what a power cut kept from being done.
    pub(super) async fn take_stock(&mut self) -> Result<(), Failed> {
        pin!(self.load_prekeys()).await?;
        let marks = self
            .room
            .marks
            .load(self.store, &self.keyring.master, &mut self.room.record)
            .await;
        self.room.record.zeroize();
        marks?;
        for record in RecordId::sessions() {
            if !self.store.has(record) {
                continue;
            }
            let read = pin!(self.store.read_sealed(
                &self.keyring.master,
                record,
                &mut self.room.record
            ))
            .await;
            let card = read.and_then(|length| self.room.card(record, length.unwrap_or(0)));
            self.room.record.zeroize();
            match card {
                Ok(card) => self.room.cards.put(card)?,
                // A session that cannot be read helps nobody, and its place does.
                Err(StoreError::Damaged) => self.store.delete(record).await?,
                Err(error) => return Err(error.into()),
            }
        }
        pin!(self.redo()).await?;
        pin!(self.count_pending()).await
    }
}

impl Room {
    /// Takes the session of `length` bytes in `record` to `current`.
    #[inline(never)]
    fn load(&mut self, record: RecordId, length: usize) -> Result<Contact, StoreError> {
        let (_, contact, session) = decode(record, opened(&self.record, length)?)?;
        self.current
            .load(session)
            .map_err(|_| StoreError::Damaged)?;
        Ok(contact)
    }

    /// What RAM knows of the session of `length` bytes in `record`.
    #[inline(never)]
    fn card(&self, record: RecordId, length: usize) -> Result<Card, StoreError> {
        decode(record, opened(&self.record, length)?).map(|(card, _, _)| card)
    }
}

/// The content of a record of `length` bytes that was read.
fn opened(record: &[u8], length: usize) -> Result<&[u8], StoreError> {
    record
        .get(SEAL_OVERHEAD..SEAL_OVERHEAD + length)
        .ok_or(StoreError::Damaged)
}

fn encode(
    card: &Card,
    contact: &Contact,
    session: &Session,
    out: &mut [u8],
) -> Result<usize, Failed> {
    let mut put = Put::new(out);
    let flags = u8::from(card.verified) | u8::from(card.sealed) << 1;
    put.bytes(&[VERSION, flags])?;
    put.bytes(&card.used.to_le_bytes())?;
    match &card.origin {
        Origin::Started => put.bytes(&[0])?,
        Origin::Shown(sid) => {
            put.bytes(&[1])?;
            put.bytes(&sid.0)?;
        }
        Origin::Typed(sid) => {
            put.bytes(&[2])?;
            put.bytes(&sid.0)?;
        }
        Origin::OneTime(id) => {
            put.bytes(&[3])?;
            put.bytes(&id.to_le_bytes())?;
        }
        Origin::LastResort(id, mark) => {
            put.bytes(&[4])?;
            put.bytes(&id.to_le_bytes())?;
            put.bytes(mark)?;
        }
    }
    put.bytes(&card.session.0)?;
    put.slice(contact.address.as_str().as_bytes())?;
    put.bytes(&contact.identity.sign.0)?;
    put.bytes(&contact.identity.dh.0)?;
    put.bytes(&contact.identity.signature.0)?;
    let length = session.store(put.rest())?;
    put.skip(length);
    Ok(put.length())
}

fn decode(record: RecordId, bytes: &[u8]) -> Result<(Card, Contact, &[u8]), StoreError> {
    let mut fields = Fields::new(bytes);
    fields.version(VERSION)?;
    let flags = fields.byte()?;
    let used = fields.u32()?;
    let origin = match fields.byte()? {
        0 => Origin::Started,
        1 => Origin::Shown(Bytes(fields.array()?)),
        2 => Origin::Typed(Bytes(fields.array()?)),
        3 => Origin::OneTime(fields.u32()?),
        4 => Origin::LastResort(fields.u32()?, fields.array()?),
        _ => return Err(StoreError::Damaged),
    };
    let session = Bytes(fields.array()?);
    let address = core::str::from_utf8(fields.slice()?).map_err(|_| StoreError::Damaged)?;
    let contact = Contact {
        address: Address::parse(address).map_err(|_| StoreError::Damaged)?,
        identity: IdentityClaim {
            sign: Bytes(fields.array()?),
            dh: Bytes(fields.array()?),
            signature: Bytes(fields.array()?),
        },
    };
    let card = Card {
        record,
        session,
        address: contact.address_tag(),
        identity: contact.identity_tag(),
        used,
        verified: flags & 1 != 0,
        sealed: flags & 2 != 0,
        origin,
    };
    Ok((card, contact, fields.rest()))
}
