//! A session: sealing, opening, and the two ways to begin.

use heapless::{Vec, VecView};
use rand_core::CryptoRng;

use super::chain::{Chain, ChainKey, MAX_JUMP, MessageKey};
use super::prefix::Prefix;
use super::root::RootKey;
use super::skipped::{MAX_SKIPPED, SkippedKeys, chain_tag};
use crate::crypto::dh::{DhPublic, DhSecret};
use crate::crypto::siv;
use crate::error::{Error, Limit, Misuse, Peer};
use crate::wire::{
    Bytes, FRAME_VERSION, Frame, FrameHeader, MAX_CONTENT, MAX_PADDED, MessageId, SUITE, SessionId,
    codec, pad,
};

/// Room for an opened content: the padded text is decrypted in place and then cut down to the content. Any buffer that
/// is as long will do.
pub type Plaintext = Vec<u8, MAX_PADDED>;

/// The longest encoded frame header in bytes.
const MAX_HEADER: usize = 128;
/// The longest associated data in bytes: session id, header, message id.
const MAX_AD: usize = 16 + MAX_HEADER + 16;
/// The keys that are kept of the rest of a chain that is longer than a jump: as many as there is room for.
const KEPT_OF_A_LOST_CHAIN: u32 = MAX_SKIPPED as u32;
/// Lengths of message id and tag in bytes.
const ID_AND_TAG: usize = 16 + siv::TAG_LEN;

/// The state of a session, about 13.5 KB: keep it in a static place and pass it by reference.
pub struct Session {
    pub(super) id: SessionId,
    pub(super) root: RootKey,
    pub(super) sending: Sending,
    pub(super) receiving: Option<Receiving>,
    pub(super) skipped: SkippedKeys,
    pub(super) prefix: Prefix,
}

/// What is known of a frame that opened, besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The message's id, as it stood in the frame.
    pub message_id: MessageId,
    /// Number of earlier messages that this frame showed to be missing; they may still come.
    pub missing: u32,
}

/// The half of a session that seals. The first variant is the empty session's, which is then all zeros.
pub(super) enum Sending {
    /// The peer spoke last: the next seal makes a fresh ratchet key and takes a step.
    Waiting {
        /// Number of messages in the chain before.
        pn: u32,
    },
    /// There is a chain to seal on.
    Active(Active),
}

/// A sending chain and the ratchet key that stands in its headers.
pub(super) struct Active {
    pub(super) ratchet: DhSecret,
    pub(super) public: DhPublic,
    pub(super) chain: Chain,
    pub(super) pn: u32,
}

/// The receiving chain and the peer's ratchet key that started it.
pub(super) struct Receiving {
    pub(super) ratchet_key: DhPublic,
    pub(super) chain: Chain,
}

impl Session {
    /// Makes the state of no session, which neither seals nor opens: a place for a real one.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            id: Bytes([0; 16]),
            root: RootKey::from_bytes([0; 32]),
            sending: Sending::Waiting { pn: 0 },
            receiving: None,
            skipped: SkippedKeys::new(),
            prefix: Prefix::empty(),
        }
    }

    /// Wipes the state: afterwards it is the empty one.
    pub fn clear(&mut self) {
        self.id = Bytes([0; 16]);
        self.root = RootKey::from_bytes([0; 32]);
        self.sending = Sending::Waiting { pn: 0 };
        self.receiving = None;
        self.skipped.clear();
        self.prefix = Prefix::empty();
    }

    /// Becomes the initiator's state after a handshake: the first chain is the handshake's own, under a
    /// fresh ratchet key, and `prefix` stands before every frame until a frame of the peer opens.
    pub(crate) fn begin<R: CryptoRng + ?Sized>(
        &mut self,
        id: SessionId,
        root: RootKey,
        chain: ChainKey,
        prefix: Prefix,
        rng: &mut R,
    ) {
        self.clear();
        let ratchet = DhSecret::generate(rng);
        let public = ratchet.public();
        self.id = id;
        self.root = root;
        self.sending = Sending::Active(Active {
            ratchet,
            public,
            chain: Chain::new(chain),
            pn: 0,
        });
        self.prefix = prefix;
    }

    /// Becomes the responder's state by opening a frame of the initiator's first chain.
    ///
    /// There is no responder without such a frame, so a receiving chain is never empty (S&P 2026, attack a).
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; the state is the empty one then.
    pub(crate) fn begin_by_opening(
        &mut self,
        id: SessionId,
        root: &RootKey,
        chain: &ChainKey,
        frame: &[u8],
        plain: &mut VecView<u8>,
    ) -> Result<Opened, Error> {
        self.clear();
        let result = self.open_first(id, root, chain, frame, plain);
        self.settle(result, plain)
    }

    /// Seals a content of at most [`MAX_CONTENT`] bytes into a complete envelope.
    ///
    /// The caller makes the advanced state durable before the envelope leaves.
    ///
    /// # Errors
    ///
    /// [`Limit::TooLong`], [`Limit::CounterEnd`], [`Misuse::WrongState`] for the empty session,
    /// `Peer::AllZeroShared` if the peer's ratchet key contributes nothing. The session is unchanged then.
    pub fn seal<R: CryptoRng + ?Sized>(
        &mut self,
        content: &[u8],
        rng: &mut R,
        out: &mut VecView<u8>,
    ) -> Result<MessageId, Error> {
        if content.len() > MAX_CONTENT {
            return Err(Limit::TooLong.into());
        }
        let fresh = self.fresh_chain(rng)?;
        let active = match (&fresh, &self.sending) {
            (Some((_, active)), _) | (None, Sending::Active(active)) => active,
            (None, Sending::Waiting { .. }) => return Err(Misuse::WrongState.into()),
        };
        let mut message_id = Bytes([0; 16]);
        rng.fill_bytes(&mut message_id.0);
        let sealed = self.write(active, &message_id, content, out);
        if sealed.is_err() {
            out.clear();
            return sealed.map(|()| message_id);
        }

        // Nothing below can fail: the counter was checked when the message key was derived.
        if let Some((root, active)) = fresh {
            self.root = root;
            self.sending = Sending::Active(active);
            self.skipped.step();
        }
        if let Sending::Active(active) = &mut self.sending {
            active.chain.pass()?;
        }
        Ok(message_id)
    }

    /// Opens a frame: writes the next state to `next` and the content to `plain`; this state is unchanged.
    ///
    /// Until the caller has replaced this state by `next`, the same frame opens again.
    ///
    /// # Errors
    ///
    /// `Decode` for bytes that are no frame of this version; [`Peer::Unknown`] for a frame of another session;
    /// [`Peer::Reflected`] for an own frame; [`Peer::NoRatchetKey`] for a ratchet key that nobody can know yet;
    /// [`Limit::Replayed`] and [`Limit::SkipTooFar`], before any work; [`Error::Authentication`];
    /// [`Peer::BadPadding`]. `next` is the empty session then and `plain` holds nothing.
    pub fn open(
        &self,
        next: &mut Self,
        frame: &[u8],
        plain: &mut VecView<u8>,
    ) -> Result<Opened, Error> {
        next.copy_from(self);
        let result = next.advance(frame, plain);
        next.settle(result, plain)
    }

    /// Replaces this state by a copy of another, wiping what was there.
    pub fn copy_from(&mut self, other: &Self) {
        self.id = other.id;
        self.root = other.root.duplicate();
        self.sending = match &other.sending {
            Sending::Waiting { pn } => Sending::Waiting { pn: *pn },
            Sending::Active(active) => Sending::Active(Active {
                ratchet: DhSecret::from_bytes(*active.ratchet.expose_bytes()),
                public: active.public,
                chain: active.chain.duplicate(),
                pn: active.pn,
            }),
        };
        self.receiving = other.receiving.as_ref().map(|from| Receiving {
            ratchet_key: from.ratchet_key,
            chain: from.chain.duplicate(),
        });
        self.skipped.copy_from(&other.skipped);
        self.prefix.copy_from(&other.prefix);
    }

    /// The session's id, 16 public bytes that both ends derived.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Says whether this is the state of no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receiving.is_none() && matches!(self.sending, Sending::Waiting { .. })
    }

    /// Says whether a frame of the peer was opened: before that, the handshake's message stands before each frame.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.receiving.is_some()
    }

    /// Says whether nothing was sealed yet, so that the peer still puts the handshake's message before each frame.
    #[must_use]
    pub fn reply_due(&self) -> bool {
        self.receiving.is_some() && matches!(self.sending, Sending::Waiting { pn: 0 })
    }

    /// The number of keys kept for messages that have not come, at most [`MAX_SKIPPED`].
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// Takes the step to a sending chain under a fresh ratchet key, if one is due.
    fn fresh_chain<R: CryptoRng + ?Sized>(
        &self,
        rng: &mut R,
    ) -> Result<Option<(RootKey, Active)>, Error> {
        let (Sending::Waiting { pn }, Some(receiving)) = (&self.sending, &self.receiving) else {
            return Ok(None);
        };
        let ratchet = DhSecret::generate(rng);
        let (root, chain) = self.root.step(&ratchet, &receiving.ratchet_key)?;
        let public = ratchet.public();
        Ok(Some((
            root,
            Active {
                ratchet,
                public,
                chain,
                pn: *pn,
            },
        )))
    }

    /// Writes the envelope of the next message of a sending chain.
    fn write(
        &self,
        active: &Active,
        message_id: &MessageId,
        content: &[u8],
        out: &mut VecView<u8>,
    ) -> Result<(), Error> {
        let header = codec::encode_vec::<_, MAX_HEADER>(&FrameHeader {
            version: FRAME_VERSION,
            suite: SUITE,
            session: self.id,
            ratchet_key: Bytes(active.public.0),
            pn: active.pn,
            n: active.chain.n,
            extension: Vec::new(),
        })?;
        let key = active.chain.message_key()?.siv_key(message_id);
        let ad = associated_data(&self.id, &header, message_id)?;

        let frame_len = header.len() + ID_AND_TAG + pad::padded_len(content.len());
        self.prefix.begin(frame_len, out)?;
        out.extend_from_slice(&header)
            .and_then(|()| out.extend_from_slice(&message_id.0))
            .map_err(|_| Misuse::BufferTooSmall)?;
        let tag_at = out.len();
        out.extend_from_slice(&[0; siv::TAG_LEN])
            .map_err(|_| Misuse::BufferTooSmall)?;
        pad::pad(content, out)?;
        let sealed = out
            .get_mut(tag_at..)
            .and_then(|sealed| sealed.split_first_chunk_mut::<{ siv::TAG_LEN }>());
        let (tag, padded) = sealed.ok_or(Misuse::BufferTooSmall)?;
        *tag = key.seal_in_place(&[&ad], padded);
        Ok(())
    }

    fn open_first(
        &mut self,
        id: SessionId,
        root: &RootKey,
        chain: &ChainKey,
        frame: &[u8],
        plain: &mut VecView<u8>,
    ) -> Result<Opened, Error> {
        let ratchet_key = DhPublic(Frame::parse(frame)?.header.ratchet_key.0);
        self.id = id;
        self.root = root.duplicate();
        self.receiving = Some(Receiving {
            ratchet_key,
            chain: Chain::new(chain.duplicate()),
        });
        self.prefix = Prefix::message()?;
        let opened = self.advance(frame, plain)?;
        // A key of small order would only be found at the first reply; any private key shows it now.
        DhSecret::from_bytes([0x40; 32]).agree(&ratchet_key)?;
        Ok(opened)
    }

    /// Opens a frame and steps this state on; after an error the state is neither old nor new.
    fn advance(&mut self, frame: &[u8], plain: &mut VecView<u8>) -> Result<Opened, Error> {
        let frame = Frame::parse(frame)?;
        if self.is_empty() {
            return Err(Misuse::WrongState.into());
        }
        if frame.header.session != self.id {
            return Err(Peer::Unknown.into());
        }
        let (key, missing) = self.message_key(&frame.header)?;
        let key = key.siv_key(&frame.message_id);
        let ad = associated_data(&self.id, frame.header_bytes, &frame.message_id)?;

        plain.clear();
        plain
            .extend_from_slice(frame.ciphertext)
            .map_err(|_| Misuse::BufferTooSmall)?;
        key.open_in_place(&[&ad], plain, &frame.tag)?;
        pad::unpad_in_place(plain)?;
        self.prefix = Prefix::message()?;
        Ok(Opened {
            message_id: frame.message_id,
            missing,
        })
    }

    /// Finds or derives the key of the message that a header announces, and counts what it jumps over.
    fn message_key(&mut self, header: &FrameHeader) -> Result<(MessageKey, u32), Error> {
        let ratchet_key = DhPublic(header.ratchet_key.0);
        let tag = chain_tag(&header.ratchet_key.0);
        if let Sending::Active(active) = &self.sending
            && active.public == ratchet_key
        {
            return Err(Peer::Reflected.into());
        }
        if let Some(key) = self.skipped.take(tag, header.n) {
            return Ok((key, 0));
        }
        let known = self
            .receiving
            .as_ref()
            .is_some_and(|receiving| receiving.ratchet_key == ratchet_key);
        let rest = if known {
            0
        } else {
            self.turn(header, ratchet_key)?
        };
        let receiving = self.receiving.as_mut().ok_or(Misuse::WrongState)?;
        let jump = receiving.chain.jump_to(header.n)?;
        self.skipped.skip(&mut receiving.chain, tag, jump)?;
        Ok((receiving.chain.take()?, rest.saturating_add(jump)))
    }

    /// Takes the step to the receiving chain of a new ratchet key of the peer, and counts what is missing of the
    /// chain before.
    ///
    /// The new chain does not need the rest of the one before. If that is longer than a jump, the next keys are kept and the
    /// others are gone: so no number that a peer, or a forger, claims can end the session.
    fn turn(&mut self, header: &FrameHeader, ratchet_key: DhPublic) -> Result<u32, Error> {
        let Sending::Active(active) = &self.sending else {
            // Our last ratchet key was answered, and nobody has seen the next: an old chain, or a forgery.
            return Err(Peer::NoRatchetKey.into());
        };
        // The bound before any work.
        if header.n > MAX_JUMP {
            return Err(Limit::SkipTooFar.into());
        }
        let pn = active.chain.n;
        let (root, chain) = self.root.step(&active.ratchet, &ratchet_key)?;
        let mut rest = 0;
        if let Some(before) = &mut self.receiving {
            rest = header.pn.saturating_sub(before.chain.n);
            let walked = if rest > MAX_JUMP {
                KEPT_OF_A_LOST_CHAIN
            } else {
                rest
            };
            let tag = chain_tag(&before.ratchet_key.0);
            self.skipped.skip(&mut before.chain, tag, walked)?;
        }
        self.skipped.step();
        self.skipped.forget_chain(chain_tag(&ratchet_key.0));
        self.root = root;
        self.sending = Sending::Waiting { pn };
        self.receiving = Some(Receiving { ratchet_key, chain });
        Ok(rest)
    }

    /// After an error: leaves neither a state nor a plaintext behind.
    fn settle(
        &mut self,
        result: Result<Opened, Error>,
        plain: &mut VecView<u8>,
    ) -> Result<Opened, Error> {
        if result.is_err() {
            self.clear();
            plain.fill(0);
            plain.clear();
        }
        result
    }
}

/// Concatenates session id, header and message id.
fn associated_data(
    id: &SessionId,
    header: &[u8],
    message_id: &MessageId,
) -> Result<Vec<u8, MAX_AD>, Error> {
    let mut ad = Vec::new();
    ad.extend_from_slice(&id.0)
        .and_then(|()| ad.extend_from_slice(header))
        .and_then(|()| ad.extend_from_slice(&message_id.0))
        .map_err(|_| Misuse::BufferTooSmall)?;
    Ok(ad)
}
