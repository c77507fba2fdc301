//! Sealing, opening, committing, and the first message without a code.
//!
//! ```text
//! seal    session ──▶ advanced ──PERSIST──▶ envelope leaves
//! open    session ──▶ room.next, plaintext leaves; nothing is written
//! commit  room.next ──PERSIST──▶ what follows from it (sessions.rs, redo)
//! ```

use core::pin::pin;

use hostchat_core::crypto::hash::sha256;
use hostchat_core::handshake::{PrekeySecret, first};
use hostchat_core::icd::{Opened, OpenedKind, Reply, TokenError};
use hostchat_core::ratchet::{self, Session};
use hostchat_core::wire::{
    Address, Bytes, Confirm, Envelope, FirstHeader, Frame, MAX_CONTENT, PrekeyBundle, PrekeyKind,
    codec,
};

use super::cards::{Card, Origin, Tag};
use super::commands::{Answer, answer_around, answer_with, rng};
use super::error::Failed;
use super::keystore::Keyring;
use super::marks::{MARKS_PER_PREKEY, shorten};
use super::session_record::{Contact, tag_of_address, tag_of_identity};
use super::sessions::Place;
use super::{Work, apart};
use crate::env::{Env, TouchReason};
use crate::records::RecordId;
use crate::store::Growth;

/// An opened message that is not committed; its next state is in `room.next`.
pub(super) struct Uncommitted {
    hash: Bytes<32>,
    contact: Contact,
    target: Target,
}

enum Target {
    /// A session that exists.
    Existing(RecordId),
    /// A session that the commit makes.
    New { origin: Origin, verified: bool },
}

impl Uncommitted {
    /// The record that the commit will write, if it exists.
    pub(super) fn record(&self) -> Option<RecordId> {
        match &self.target {
            Target::Existing(record) => Some(*record),
            Target::New { .. } => None,
        }
    }

    /// Whether the contact of this address wrote it.
    pub(super) fn is_from(&self, address: &Tag) -> bool {
        self.contact.address_tag() == *address
    }
}

/// What an open found out, for the reply.
struct Found {
    kind: OpenedKind,
    opened: ratchet::Opened,
    verified: bool,
    reply_due: bool,
}

impl<E: Env> Work<'_, E> {
    /// Seals content on the contact's current session.
    pub(super) async fn seal(
        &mut self,
        peer: &Address,
        content: &[u8],
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        if content.len() > MAX_CONTENT {
            return Err(Failed(TokenError::TooLong));
        }
        let address = tag_of_address(peer);
        let mut card = match self.room.cards.current(&address) {
            Some(card) => card,
            None if self.room.cards.count(&address) > 0 => {
                return Err(Failed(TokenError::NoLiveSession));
            }
            None => return Err(Failed(TokenError::UnknownContact)),
        };
        if self
            .keyring
            .uncommitted
            .as_ref()
            .is_some_and(|open| open.record() == Some(card.record))
        {
            return Err(Failed(TokenError::Uncommitted));
        }
        let contact = pin!(self.load_session(&card)).await?;
        let rng = rng(self.env)?;
        let sealed = self.room.current.seal(content, rng, answer);
        card.sealed = true;
        let stored = match sealed {
            Ok(message_id) => {
                pin!(self.store_session(card, &contact, Place::Current, Growth::Update))
                    .await
                    .map(|()| message_id)
            }
            Err(error) => Err(error.into()),
        };
        self.room.current.clear();
        answer_around(
            &Reply::Sealed {
                message_id: stored?,
                envelope: &[],
            },
            answer,
        )
    }

    /// Begins a session without a code.
    pub(super) async fn start(
        &mut self,
        own: &Address,
        peer: &Address,
        bundle: &PrekeyBundle,
        now: u64,
        accept_changed: bool,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        self.keyring.host_time = now;
        let identity = bundle.identity.verify()?;
        let contact = Contact {
            address: peer.clone(),
            identity: bundle.identity,
        };
        let address = contact.address_tag();
        self.check_room(&address)?;
        pin!(self.accept_identity(&contact, accept_changed)).await?;
        let rng = rng(self.env)?;
        start_session(
            self.keyring,
            own,
            peer,
            &identity,
            bundle,
            now,
            &mut self.room.current,
            rng,
        )?;
        let session = *self.room.current.id();
        let card = self.new_card(&contact, session, Origin::Started, false)?;
        let stored = pin!(self.store_session(card, &contact, Place::Current, Growth::New)).await;
        self.room.current.clear();
        stored?;
        pin!(self.redo()).await?;
        answer_with(
            &Reply::Established {
                peer: bundle.identity,
                session,
            },
            answer,
        )
    }

    /// Refuses another identity behind a known address, unless the user accepts it, with a press.
    pub(super) async fn accept_identity(
        &mut self,
        contact: &Contact,
        accept_changed: bool,
    ) -> Result<(), Failed> {
        if !self.identity_changed(&contact.address_tag(), &contact.identity_tag()) {
            return Ok(());
        }
        if !accept_changed {
            return Err(Failed(TokenError::IdentityChanged));
        }
        self.press(TouchReason::AcceptChangedKey).await
    }

    /// Opens an envelope with a frame; writes nothing.
    pub(super) async fn open(
        &mut self,
        own: &Address,
        envelope: &[u8],
        accept_changed: bool,
        answer: &mut Answer,
    ) -> Result<(), Failed> {
        self.discard();
        let opened = pin!(self.open_envelope(own, envelope, accept_changed, answer)).await;
        self.room.current.clear();
        let shown = match (opened, &self.keyring.uncommitted) {
            (Ok(found), Some(open)) => answer_around(
                &Reply::Opened(Opened {
                    kind: found.kind,
                    hash: open.hash,
                    peer: open.contact.address.clone(),
                    identity: open.contact.identity,
                    verified: found.verified,
                    message_id: found.opened.message_id,
                    missing: found.opened.missing,
                    reply_due: found.reply_due,
                    content: &[],
                }),
                answer,
            ),
            (Ok(_), None) => Err(Failed(TokenError::BadRequest)),
            (Err(error), _) => Err(error),
        };
        if shown.is_err() {
            self.discard();
        }
        shown
    }

    async fn open_envelope(
        &mut self,
        own: &Address,
        envelope: &[u8],
        accept_changed: bool,
        plain: &mut Answer,
    ) -> Result<Found, Failed> {
        let envelope = codec::decode::<Envelope<'_>>(envelope)?;
        let bytes = envelope.frame().ok_or(Failed(TokenError::Malformed))?;
        let frame = Frame::parse(bytes)?;
        // A session that is there opens its frames whatever stands before them: the prefix repeats until a reply.
        if let Some(card) = self.room.cards.by_session(&frame.header.session) {
            return apart(pin!(self.open_message(card, bytes, plain))).await;
        }
        match &envelope {
            Envelope::Confirmed { confirm, .. } => {
                apart(pin!(self.open_confirmed(
                    confirm,
                    bytes,
                    accept_changed,
                    plain
                )))
                .await
            }
            Envelope::First { header, .. } => {
                apart(pin!(self.open_first(
                    own,
                    header,
                    bytes,
                    accept_changed,
                    plain
                )))
                .await
            }
            _ => Err(Failed(TokenError::UnknownSession)),
        }
    }

    async fn open_message(
        &mut self,
        card: Card,
        frame: &[u8],
        plain: &mut Answer,
    ) -> Result<Found, Failed> {
        let contact = pin!(self.load_session(&card)).await?;
        let opened = self.room.current.open(&mut self.room.next, frame, plain)?;
        let verified = self.room.cards.verified(&card.address, &card.identity);
        let found = Found {
            kind: OpenedKind::Message,
            opened,
            verified,
            reply_due: !card.sealed,
        };
        self.keyring.uncommitted = Some(Uncommitted {
            hash: Bytes(sha256(&[frame])),
            contact,
            target: Target::Existing(card.record),
        });
        Ok(found)
    }

    /// Message 3 of a pairing: the tag is right and the frame opens.
    async fn open_confirmed(
        &mut self,
        confirm: &Confirm,
        frame: &[u8],
        accept_changed: bool,
        plain: &mut Answer,
    ) -> Result<Found, Failed> {
        let (pending, changed_accepted) = pin!(self.pending(&confirm.sid)).await?;
        let opened = pending.open(confirm, frame, &mut self.room.next, plain)?;
        let contact = Contact {
            address: pending.peer_address().clone(),
            identity: *pending.peer().claim(),
        };
        self.check_room(&contact.address_tag())?;
        if !changed_accepted {
            pin!(self.accept_identity(&contact, accept_changed)).await?;
        }
        let target = Target::New {
            origin: Origin::Typed(confirm.sid),
            verified: true,
        };
        Ok(self.opened_new(OpenedKind::Paired, opened, frame, contact, target, true))
    }

    /// A first message: neither its prekey nor its header was used before.
    async fn open_first(
        &mut self,
        own: &Address,
        header: &FirstHeader,
        frame: &[u8],
        accept_changed: bool,
        plain: &mut Answer,
    ) -> Result<Found, Failed> {
        first::check_header(&self.keyring.identity, own, header)?;
        let mark = shorten(&first::mark(header)?);
        let prekey = header.last_resort;
        let used = |card: &Card| card.origin == Origin::LastResort(prekey, mark);
        if self.room.marks.has(prekey, &mark) || self.room.cards.iter().any(used) {
            return Err(Failed(TokenError::Replayed));
        }
        let origin = match header.one_time {
            Some(id) => Origin::OneTime(id),
            None => Origin::LastResort(prekey, mark),
        };
        let known = self.room.marks.count(prekey) + self.room.cards.marks(prekey);
        if header.one_time.is_none() && known >= MARKS_PER_PREKEY {
            return Err(Failed(TokenError::ReplayMemoryFull));
        }
        let last_resort = pin!(self.prekey_secret(PrekeyKind::LastResort, prekey)).await?;
        let one_time = match header.one_time {
            Some(id) => Some(pin!(self.prekey_secret(PrekeyKind::OneTime, id)).await?),
            None => None,
        };
        let opened = accept_first(
            self.keyring,
            own,
            header,
            &last_resort,
            one_time.as_ref(),
            frame,
            &mut self.room.next,
            plain,
        )?;
        let contact = Contact {
            address: header.sender.clone(),
            identity: header.identity,
        };
        self.check_room(&contact.address_tag())?;
        pin!(self.accept_identity(&contact, accept_changed)).await?;
        let verified = self
            .room
            .cards
            .verified(&contact.address_tag(), &tag_of_identity(&contact.identity));
        let target = Target::New { origin, verified };
        Ok(self.opened_new(OpenedKind::First, opened, frame, contact, target, verified))
    }

    fn opened_new(
        &mut self,
        kind: OpenedKind,
        opened: ratchet::Opened,
        frame: &[u8],
        contact: Contact,
        target: Target,
        verified: bool,
    ) -> Found {
        self.keyring.uncommitted = Some(Uncommitted {
            hash: Bytes(sha256(&[frame])),
            contact,
            target,
        });
        Found {
            kind,
            opened,
            verified,
            reply_due: true,
        }
    }

    /// Makes the uncommitted open lasting: one write, then what follows from it.
    pub(super) async fn commit(&mut self, hash: &Bytes<32>) -> Result<(), Failed> {
        let Some(open) = self.keyring.uncommitted.take() else {
            return Err(Failed(TokenError::NothingToCommit));
        };
        if open.hash != *hash {
            self.keyring.uncommitted = Some(open);
            return Err(Failed(TokenError::NothingToCommit));
        }
        let stored = match &open.target {
            Target::Existing(record) => match self.room.cards.by_record(*record) {
                Some(mut card) => {
                    card.answered = true;
                    pin!(self.store_session(card, &open.contact, Place::Next, Growth::Update)).await
                }
                None => Err(Failed(TokenError::NothingToCommit)),
            },
            Target::New { origin, verified } => {
                match self.new_card(&open.contact, *self.room.next.id(), *origin, *verified) {
                    Ok(card) => {
                        pin!(self.store_session(card, &open.contact, Place::Next, Growth::New))
                            .await
                    }
                    Err(error) => Err(error),
                }
            }
        };
        if let Err(error) = stored {
            self.keyring.uncommitted = Some(open);
            return Err(error);
        }
        self.room.next.clear();
        if matches!(open.target, Target::New { .. }) {
            pin!(self.redo()).await?;
        }
        Ok(())
    }

    /// Forgets the uncommitted open.
    pub(super) fn discard(&mut self) {
        self.keyring.uncommitted = None;
        self.room.next.clear();
    }
}

/// ML-KEM needs much stack, which is given back before the next `await`.
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "the arguments of `first::start`")]
fn start_session<R: hostchat_core::secret::CryptoRng>(
    keyring: &Keyring,
    own: &Address,
    peer: &Address,
    identity: &hostchat_core::wire::Identity,
    bundle: &PrekeyBundle,
    now: u64,
    session: &mut Session,
    rng: &mut R,
) -> Result<(), Failed> {
    Ok(first::start(
        &keyring.identity,
        own,
        peer,
        identity,
        bundle,
        now,
        session,
        rng,
    )?)
}

/// ML-KEM needs much stack, which is given back before the next `await`.
#[inline(never)]
#[expect(
    clippy::too_many_arguments,
    reason = "the arguments of `first::accept`"
)]
fn accept_first(
    keyring: &Keyring,
    own: &Address,
    header: &FirstHeader,
    last_resort: &PrekeySecret,
    one_time: Option<&PrekeySecret>,
    frame: &[u8],
    session: &mut Session,
    plain: &mut Answer,
) -> Result<ratchet::Opened, Failed> {
    let accepted = first::accept(
        &keyring.identity,
        own,
        header,
        last_resort,
        one_time,
        frame,
        session,
        plain,
    )?;
    Ok(accepted.opened)
}
