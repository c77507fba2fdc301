//! Pairing with a code: CPace, X25519 and ML-KEM in one transcript, three messages (SPEC section 7).
//!
//! ```text
//!  A  Initiator::offer    ── sid, Ya, ADa ────────▶  respond          B, under the typed code
//!  A  Initiator::confirm  ◀─ sid, Yb, ADb, tag_b ──  Pending          B keeps it, code and secrets gone
//!  A  Session::seal       ── sid, tag_a, frame ───▶  Pending::open    B has a session
//! ```
//!
//! How often a code may be tried, and until when, is the token's to count: one [`Initiator`] is one run, and a
//! [`respond`] is one try that is charged before the answer leaves.

use heapless::{Vec, VecView};
use rand_core::CryptoRng;

use super::code::Code;
use super::keys::IdentityKeys;
use crate::crypto::dh::{DhPublic, DhSecret, SharedSecret};
use crate::crypto::hash::{Transcript, lv_cat};
use crate::crypto::kdf::Prk;
use crate::crypto::kem::{self, KemSecret};
use crate::crypto::pake::{Cpace, Isk, Role};
use crate::crypto::{label, mac};
use crate::error::{Decode, Error, Misuse, Peer};
use crate::ratchet::{ChainKey, Opened, Prefix, Reader, RootKey, Session, Writer};
use crate::wire::address::MAX_ADDRESS;
use crate::wire::{
    Address, Bytes, Confirm, Identity, IdentityClaim, PairAnswer, PairOffer, PairPublic, SUITE,
    SessionId, SessionStartId, codec,
};

/// The longest channel identifier in bytes: label, suite and two addresses, each with its length.
const MAX_CI: usize = 32 + 2 + 2 * (2 + MAX_ADDRESS);
/// The longest associated data of CPace in bytes: an encoded [`PairPublic`].
const MAX_AD: usize = 2 + 2 * (2 + MAX_ADDRESS) + 128 + 32 + 1184;

/// Role byte of the initiator.
const INITIATOR: u8 = 1;
/// Role byte of the responder.
const RESPONDER: u8 = 2;

crate::secret! {
    /// Confirmation key of the initiator.
    struct ConfirmA(32);
    /// Confirmation key of the responder.
    struct ConfirmB(32);
    /// The tag that the initiator has still to show; whoever has it can only do what the initiator may.
    struct TagA(32);
}

/// One run of a pairing on the side that shows the code; consumed by the first answer.
pub struct Initiator {
    offer: PairOffer,
    cpace: Cpace,
    ephemeral: DhSecret,
    kem: KemSecret,
}

/// A responder that has done its part of ML-KEM: the half of [`respond`] that needs much stack, apart from the other.
pub struct Responder {
    peer: Identity,
    ciphertext: Bytes<{ kem::CIPHERTEXT_LEN }>,
    encapsulated: kem::SharedSecret,
}

/// What the responder keeps between its answer and message 3.
pub struct Pending {
    sid: SessionStartId,
    peer: Identity,
    peer_address: Address,
    session: SessionId,
    root: RootKey,
    chain: ChainKey,
    tag: TagA,
}

/// What both sides derive from one run.
struct Derived {
    tag_a: TagA,
    tag_b: [u8; 32],
    root: RootKey,
    chain: ChainKey,
    session: SessionId,
}

impl Initiator {
    /// Starts a run: fresh sid, share, X25519 and ML-KEM keys.
    ///
    /// # Errors
    ///
    /// [`Peer::WrongAddress`] if both addresses are one.
    pub fn offer<R: CryptoRng + ?Sized>(
        keys: &IdentityKeys,
        own: &Address,
        peer: &Address,
        code: &Code,
        rng: &mut R,
    ) -> Result<(Self, PairOffer), Error> {
        let mut run = Self::prepare(keys, own, peer, code, rng)?;
        let offer = run.complete().clone();
        Ok((run, offer))
    }

    /// The first half of [`Self::offer`]: everything but the public half of the ML-KEM key.
    ///
    /// Apart from the other half it leaves nothing below ML-KEM on the stack of a token.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline(never)]
    pub fn prepare<R: CryptoRng + ?Sized>(
        keys: &IdentityKeys,
        own: &Address,
        peer: &Address,
        code: &Code,
        rng: &mut R,
    ) -> Result<Self, Error> {
        if own == peer {
            return Err(Peer::WrongAddress.into());
        }
        let mut sid = Bytes([0; 16]);
        rng.fill_bytes(&mut sid.0);
        let ci = channel_identifier(own, peer)?;
        let (cpace, share) = Cpace::start(code.expose_digits(), &ci, &sid.0, rng);
        let (ephemeral, kem) = (DhSecret::generate(rng), KemSecret::generate(rng));
        let public = PairPublic {
            role: INITIATOR,
            suite: SUITE,
            initiator: own.clone(),
            responder: peer.clone(),
            identity: *keys.public().claim(),
            ephemeral: Bytes(ephemeral.public().0),
            kem: Bytes([0; 1184]),
        };
        Ok(Self {
            offer: PairOffer {
                sid,
                share: Bytes(share),
                public,
            },
            cpace,
            ephemeral,
            kem,
        })
    }

    /// The second half of [`Self::offer`]: gives message 1.
    pub fn complete(&mut self) -> &PairOffer {
        self.offer.public.kem.0 = self.kem.encapsulation_key();
        &self.offer
    }

    /// Message 1, once it is complete.
    #[must_use]
    pub fn message(&self) -> &PairOffer {
        &self.offer
    }

    /// The run's id.
    #[must_use]
    pub fn sid(&self) -> &SessionStartId {
        &self.offer.sid
    }

    /// Whom the code is for.
    #[must_use]
    pub fn peer_address(&self) -> &Address {
        &self.offer.public.responder
    }

    /// Ends the run with the responder's answer: `session` becomes the new session, whose envelopes carry
    /// message 3, and the peer's identity, now verified by the code, is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Authentication`] if the code was another or anything was altered; `Decode` and
    /// `PeerMisbehaved` for an answer that no honest responder sends. The run is over then.
    pub fn confirm<R: CryptoRng + ?Sized>(
        self,
        keys: &IdentityKeys,
        answer: &PairAnswer,
        session: &mut Session,
        rng: &mut R,
    ) -> Result<Identity, Error> {
        let encapsulated = self.decapsulate(answer);
        self.confirm_with(&encapsulated, keys, answer, session, rng)
    }

    /// The first half of [`Self::confirm`], which is ML-KEM and nothing else.
    #[must_use]
    pub fn decapsulate(&self, answer: &PairAnswer) -> kem::SharedSecret {
        self.kem.decapsulate(&answer.public.kem.0)
    }

    /// The second half of [`Self::confirm`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline(never)]
    pub fn confirm_with<R: CryptoRng + ?Sized>(
        self,
        encapsulated: &kem::SharedSecret,
        keys: &IdentityKeys,
        answer: &PairAnswer,
        session: &mut Session,
        rng: &mut R,
    ) -> Result<Identity, Error> {
        let (own, theirs) = (&self.offer.public, &answer.public);
        if answer.sid != self.offer.sid {
            return Err(Peer::Unknown.into());
        }
        check_public(theirs, RESPONDER)?;
        if theirs.initiator != own.initiator || theirs.responder != own.responder {
            return Err(Peer::WrongAddress.into());
        }
        let peer = keys.check_peer(&theirs.identity)?;

        let (ad_a, ad_b) = (associated_data(own)?, associated_data(theirs)?);
        let isk = self
            .cpace
            .finish(Role::Initiator, &[&ad_a], &answer.share.0, &[&ad_b])?;
        let theirs_ephemeral = DhPublic(theirs.ephemeral.0);
        let agreed = [
            self.ephemeral.agree(&theirs_ephemeral)?,
            keys.dh().agree(&theirs_ephemeral)?,
            self.ephemeral.agree(&DhPublic(*peer.dh()))?,
        ];
        let th = transcript(&self.offer, &ad_a, &answer.share.0, &ad_b)?;
        let derived = derive(&th, &isk, &agreed, encapsulated);
        if !crate::secret::ct_eq(&derived.tag_b, &answer.tag.0) {
            return Err(Error::Authentication);
        }

        let confirm = Confirm {
            sid: self.offer.sid,
            tag: Bytes(*derived.tag_a.expose_bytes()),
        };
        session.begin(
            derived.session,
            derived.root,
            derived.chain,
            Prefix::confirmed(confirm)?,
            rng,
        );
        Ok(peer)
    }
}

/// Answers an offer under the code that the user typed for this very offer.
///
/// The caller makes the attempt and the [`Pending`] durable before the answer leaves. A wrong code shows only
/// at the initiator: the answer proves nothing about the initiator yet.
///
/// # Errors
///
/// `Decode` and `PeerMisbehaved` for an offer that no honest initiator sends, that is not addressed to `own` or
/// comes from our own identity. Nothing of the code was used then.
pub fn respond<R: CryptoRng + ?Sized>(
    keys: &IdentityKeys,
    own: &Address,
    code: &Code,
    offer: &PairOffer,
    rng: &mut R,
) -> Result<(Pending, PairAnswer), Error> {
    Responder::begin(keys, own, offer, rng)?.answer(keys, code, offer, rng)
}

impl Responder {
    /// Checks an offer and answers its ML-KEM half; no code is needed yet.
    ///
    /// # Errors
    ///
    /// As [`respond`].
    pub fn begin<R: CryptoRng + ?Sized>(
        keys: &IdentityKeys,
        own: &Address,
        offer: &PairOffer,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let peer = check_offer(keys, own, offer)?;
        let (ciphertext, encapsulated) = kem::encapsulate(&offer.public.kem.0, rng)?;
        Ok(Self {
            peer,
            ciphertext: Bytes(ciphertext),
            encapsulated,
        })
    }

    /// Ends the answer to the same offer.
    ///
    /// # Errors
    ///
    /// As [`respond`].
    #[inline(never)]
    pub fn answer<R: CryptoRng + ?Sized>(
        self,
        keys: &IdentityKeys,
        code: &Code,
        offer: &PairOffer,
        rng: &mut R,
    ) -> Result<(Pending, PairAnswer), Error> {
        let peer = self.peer;
        let theirs = &offer.public;
        let ephemeral = DhSecret::generate(rng);
        let theirs_ephemeral = DhPublic(theirs.ephemeral.0);
        let agreed = [
            ephemeral.agree(&theirs_ephemeral)?,
            ephemeral.agree(&DhPublic(*peer.dh()))?,
            keys.dh().agree(&theirs_ephemeral)?,
        ];

        let ci = channel_identifier(&theirs.initiator, &theirs.responder)?;
        let (cpace, share) = Cpace::start(code.expose_digits(), &ci, &offer.sid.0, rng);
        let public = PairPublic {
            role: RESPONDER,
            suite: SUITE,
            initiator: theirs.initiator.clone(),
            responder: theirs.responder.clone(),
            identity: *keys.public().claim(),
            ephemeral: Bytes(ephemeral.public().0),
            kem: self.ciphertext,
        };
        let (ad_a, ad_b) = (associated_data(theirs)?, associated_data(&public)?);
        let isk = cpace.finish(Role::Responder, &[&ad_b], &offer.share.0, &[&ad_a])?;
        let th = transcript(offer, &ad_a, &share, &ad_b)?;
        let derived = derive(&th, &isk, &agreed, &self.encapsulated);

        let answer = PairAnswer {
            sid: offer.sid,
            share: Bytes(share),
            public,
            tag: Bytes(derived.tag_b),
        };
        let pending = Pending {
            sid: offer.sid,
            peer,
            peer_address: theirs.initiator.clone(),
            session: derived.session,
            root: derived.root,
            chain: derived.chain,
            tag: derived.tag_a,
        };
        Ok((pending, answer))
    }
}

/// Checks what can be checked of an offer without a code, so that a bad one is never shown to the user.
///
/// # Errors
///
/// `Decode::Suite`, [`Peer::Unexpected`], [`Peer::WrongAddress`], [`Peer::OwnIdentity`], or what is wrong with the
/// claimed identity.
pub fn check_offer(
    keys: &IdentityKeys,
    own: &Address,
    offer: &PairOffer,
) -> Result<Identity, Error> {
    let theirs = &offer.public;
    check_public(theirs, INITIATOR)?;
    if theirs.responder != *own || theirs.initiator == *own {
        return Err(Peer::WrongAddress.into());
    }
    keys.check_peer(&theirs.identity)
}

impl Pending {
    /// The longest stored form in bytes.
    pub const MAX_LEN: usize = 1 + 16 + 128 + 2 + MAX_ADDRESS + 16 + 32 + 32 + 32;

    /// Version of the stored form.
    const VERSION: u8 = 1;

    /// Opens the first frame of the initiator: `session` becomes the new session and `plain` the content.
    ///
    /// A bad message 3 changes nothing: this value is as before.
    ///
    /// # Errors
    ///
    /// [`Peer::Unknown`] for another run, [`Error::Authentication`] for a wrong tag, and as
    /// [`Session::open`]; `session` is the empty one then.
    pub fn open(
        &self,
        confirm: &Confirm,
        frame: &[u8],
        session: &mut Session,
        plain: &mut VecView<u8>,
    ) -> Result<Opened, Error> {
        session.clear();
        plain.clear();
        if confirm.sid != self.sid {
            return Err(Peer::Unknown.into());
        }
        if !self.tag.ct_eq(&TagA::from_bytes(confirm.tag.0)) {
            return Err(Error::Authentication);
        }
        session.begin_by_opening(self.session, &self.root, &self.chain, frame, plain)
    }

    /// The run's id.
    #[must_use]
    pub fn sid(&self) -> &SessionStartId {
        &self.sid
    }

    /// Who has the code's other end: verified once [`Self::open`] succeeds.
    #[must_use]
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// The initiator's address.
    #[must_use]
    pub fn peer_address(&self) -> &Address {
        &self.peer_address
    }

    /// Id of the session that will be.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.session
    }

    /// Writes the stored form to the front of `out` and gives its length, at most [`Self::MAX_LEN`].
    ///
    /// # Errors
    ///
    /// `Misuse::BufferTooSmall`.
    pub fn store(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.byte(Self::VERSION)?;
        writer.bytes(&self.sid.0)?;
        writer.bytes(&self.peer.to_bytes())?;
        writer.length(self.peer_address.as_str().len())?;
        writer.bytes(self.peer_address.as_str().as_bytes())?;
        writer.bytes(&self.session.0)?;
        writer.bytes(self.root.expose_bytes())?;
        writer.bytes(self.chain.expose_bytes())?;
        writer.bytes(self.tag.expose_bytes())?;
        Ok(writer.finish())
    }

    /// Reads the stored form.
    ///
    /// # Errors
    ///
    /// `Decode` if `bytes` are not exactly one stored pending pairing; or what is wrong with the identity in it.
    pub fn load(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.version(Self::VERSION)?;
        let sid = Bytes(reader.array()?);
        let claim = IdentityClaim {
            sign: Bytes(reader.array()?),
            dh: Bytes(reader.array()?),
            signature: Bytes(reader.array()?),
        };
        let len = reader.length()?;
        let address = core::str::from_utf8(reader.bytes(len)?).map_err(|_| Decode::Malformed)?;
        let peer_address = Address::parse(address)?;
        let session = Bytes(reader.array()?);
        let root = RootKey::from_slice(reader.bytes(RootKey::LEN)?)?;
        let chain = ChainKey::from_slice(reader.bytes(ChainKey::LEN)?)?;
        let tag = TagA::from_slice(reader.bytes(TagA::LEN)?)?;
        reader.finish()?;
        Ok(Self {
            sid,
            peer: claim.verify()?,
            peer_address,
            session,
            root,
            chain,
            tag,
        })
    }
}

/// Checks role and suite of the other side's public half.
fn check_public<const KEM: usize>(public: &PairPublic<KEM>, role: u8) -> Result<(), Error> {
    if public.suite != SUITE {
        return Err(Decode::Suite.into());
    }
    if public.role != role {
        return Err(Peer::Unexpected.into());
    }
    Ok(())
}

/// CI = lv_cat(label, suite, addrA, addrB).
fn channel_identifier(initiator: &Address, responder: &Address) -> Result<Vec<u8, MAX_CI>, Error> {
    let mut ci = Vec::new();
    let mut fits = true;
    lv_cat(
        &[
            label::PAIR_CI.as_bytes(),
            &[SUITE],
            initiator.as_str().as_bytes(),
            responder.as_str().as_bytes(),
        ],
        &mut |bytes| fits &= ci.extend_from_slice(bytes).is_ok(),
    );
    if fits {
        Ok(ci)
    } else {
        Err(Misuse::BufferTooSmall.into())
    }
}

/// ADa or ADb: the encoding of the public half, which begins with the role byte.
fn associated_data<const KEM: usize>(public: &PairPublic<KEM>) -> Result<Vec<u8, MAX_AD>, Error> {
    codec::encode_vec(public)
}

/// TH = SHA-256(lv_cat(label, CI, sid, Ya, ADa, Yb, ADb)).
fn transcript(
    offer: &PairOffer,
    ad_a: &[u8],
    share_b: &[u8; 32],
    ad_b: &[u8],
) -> Result<[u8; 32], Error> {
    let ci = channel_identifier(&offer.public.initiator, &offer.public.responder)?;
    Ok(Transcript::new()
        .item(label::PAIR_TH.as_bytes())
        .item(&ci)
        .item(&offer.sid.0)
        .item(&offer.share.0)
        .item(ad_a)
        .item(share_b)
        .item(ad_b)
        .finish())
}

/// Derives everything from the transcript hash and the five secrets: ISK, X(EA,EB), X(IA,EB), X(EA,IB), ss.
fn derive(
    th: &[u8; 32],
    isk: &Isk,
    agreed: &[SharedSecret; 3],
    encapsulated: &kem::SharedSecret,
) -> Derived {
    let [ephemerals, initiator, responder] = agreed;
    let prk = Prk::extract(
        th,
        &[
            isk.expose_bytes(),
            ephemerals.expose_bytes(),
            initiator.expose_bytes(),
            responder.expose_bytes(),
            encapsulated.expose_bytes(),
        ],
    );
    let k_a: ConfirmA = prk.expand(label::PAIR_CONFIRM_A);
    let k_b: ConfirmB = prk.expand(label::PAIR_CONFIRM_B);
    Derived {
        tag_a: TagA::from_bytes(mac::hmac_sha256(k_a.expose_bytes(), &[th])),
        tag_b: mac::hmac_sha256(k_b.expose_bytes(), &[th]),
        root: prk.expand(label::PAIR_ROOT),
        chain: prk.expand(label::PAIR_CHAIN),
        session: Bytes(prk.expand(label::PAIR_SESSION_ID)),
    }
}
