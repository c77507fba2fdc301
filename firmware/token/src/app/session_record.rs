//! Session records: who the other is, how the session began, its ratchet. A contact is all sessions of one address.
//!
//! ```text
//! record = | 2 | flags | birth u32 | crosses u32, 0: none | origin | session id | address | identity | ratchet |
//! flags  = 1 verified, 2 something was sealed, 4 a frame of the peer has opened
//! ```
//!
//! Format 1 had one number in place of birth and crossing: the highest of a contact was its current session, so the number
//! is the birth. Whether the peer has answered follows from the ratchet there.

use hostchat_core::crypto::hash::sha256;
use hostchat_core::ratchet::{self, Session};
use hostchat_core::wire::address::MAX_ADDRESS;
use hostchat_core::wire::{Address, Bytes, IdentityClaim};

use super::Room;
use super::cards::{Birth, Card, Origin, Tag};
use super::error::Failed;
use super::fields::{Fields, Put};
use crate::records::RecordId;
use crate::store::{MAX_STORED, SEAL_OVERHEAD, StoreError};

const VERSION: u8 = 2;
/// Bytes before the ratchet, at most: with a mark, and the longest address behind its length.
const MAX_HEAD: usize = 2 + 4 + 4 + (1 + 4 + 16) + 16 + 2 + MAX_ADDRESS + 32 + 32 + 64;
const _: () = assert!(SEAL_OVERHEAD + MAX_HEAD + ratchet::MAX_STORED <= MAX_STORED);
const VERIFIED: u8 = 1;
const SEALED: u8 = 2;
const ANSWERED: u8 = 4;

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

/// What stands in a record.
struct Decoded<'a> {
    card: Card,
    contact: Contact,
    session: &'a [u8],
    /// Whether the card's `answered` is still to be learnt from the session.
    ask_session: bool,
}

impl Room {
    /// Takes the session of `length` bytes in `record` to `current`.
    #[inline(never)]
    pub(super) fn load(&mut self, record: RecordId, length: usize) -> Result<Contact, StoreError> {
        let decoded = decode(record, opened(&self.record, length)?)?;
        self.current
            .load(decoded.session)
            .map_err(|_| StoreError::Damaged)?;
        Ok(decoded.contact)
    }

    /// What RAM knows of the session of `length` bytes in `record`.
    #[inline(never)]
    pub(super) fn card(&mut self, record: RecordId, length: usize) -> Result<Card, StoreError> {
        let mut decoded = decode(record, opened(&self.record, length)?)?;
        if decoded.ask_session {
            self.current
                .load(decoded.session)
                .map_err(|_| StoreError::Damaged)?;
            decoded.card.answered = self.current.is_confirmed();
            self.current.clear();
        }
        Ok(decoded.card)
    }
}

/// The content of a record of `length` bytes that was read.
fn opened(record: &[u8], length: usize) -> Result<&[u8], StoreError> {
    record
        .get(SEAL_OVERHEAD..SEAL_OVERHEAD + length)
        .ok_or(StoreError::Damaged)
}

/// Writes the record; gives its length.
pub(super) fn encode(
    card: &Card,
    contact: &Contact,
    session: &Session,
    out: &mut [u8],
) -> Result<usize, Failed> {
    let flag = |set, flag| if set { flag } else { 0 };
    let flags =
        flag(card.verified, VERIFIED) | flag(card.sealed, SEALED) | flag(card.answered, ANSWERED);
    let mut put = Put::new(out);
    put.bytes(&[VERSION, flags])?;
    put.bytes(&card.birth.get().to_le_bytes())?;
    put.bytes(&card.crosses.map_or(0, Birth::get).to_le_bytes())?;
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

fn decode(record: RecordId, bytes: &[u8]) -> Result<Decoded<'_>, StoreError> {
    let mut fields = Fields::new(bytes);
    let version = fields.byte()?;
    let flags = fields.byte()?;
    let birth = Birth::new(fields.u32()?).ok_or(StoreError::Damaged)?;
    let crosses = match version {
        1 => None,
        VERSION => Birth::new(fields.u32()?),
        _ => return Err(StoreError::Damaged),
    };
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
        birth,
        crosses,
        verified: flags & VERIFIED != 0,
        sealed: flags & SEALED != 0,
        answered: flags & ANSWERED != 0 || !origin.is_own(),
        origin,
    };
    Ok(Decoded {
        ask_session: version == 1 && origin.is_own(),
        card,
        contact,
        session: fields.rest(),
    })
}
