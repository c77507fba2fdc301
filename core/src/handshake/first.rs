//! The first message without a code: PQXDH's shape, started as Olm starts (SPEC section 8).
//!
//! ```text
//!  DH1 = X(IA, SP)   DH2 = X(E, IB)   DH3 = X(E, SP)   DH4 = X(E, OP) if there is one   ss = KEM to OP, else to SP
//!  TH  = SHA-256(lv_cat(label, header, identity of B, SP, OP or nothing))
//!  prk = HKDF-Extract(TH, DH1 ‖ DH2 ‖ DH3 ‖ DH4 ‖ ss)
//! ```
//!
//! SP is the receiver's last-resort prekey, OP a one-time prekey. The contact stays unverified.

use heapless::{Vec, VecView};
use rand_core::CryptoRng;

use super::keys::IdentityKeys;
use super::prekey::PrekeySecret;
use crate::crypto::dh::{DhPublic, DhSecret, SharedSecret};
use crate::crypto::hash::Transcript;
use crate::crypto::kdf::Prk;
use crate::crypto::{kem, label};
use crate::error::{Decode, Error, Limit, Misuse, Peer};
use crate::ratchet::{ChainKey, Opened, Prefix, RootKey, Session};
use crate::wire::address::MAX_ADDRESS;
use crate::wire::{
    Address, Bytes, FirstHeader, Identity, IdentityClaim, Prekey, PrekeyBundle, PrekeyKind, SUITE,
    SessionId, codec,
};

/// The oldest last-resort prekey that a sender uses, in seconds: 45 days. Its secret lives 35 days after
/// its making, and a message that comes later than that is lost with a clear refusal.
pub const MAX_PREKEY_AGE: u64 = 45 * 24 * 60 * 60;

/// The longest encoded header in bytes.
const MAX_HEADER: usize = 1 + 128 + 2 * (2 + MAX_ADDRESS) + 5 + 6 + 32 + 1088;

/// What a receiver learns when a first message opened.
pub struct Accepted {
    /// Who wrote it: checked, but not verified by a code or by safety numbers.
    pub peer: Identity,
    /// The replay mark of this first message, to be kept as long as the last-resort prekey lives.
    pub mark: [u8; 32],
    /// Id of the message that opened, and what is missing before it.
    pub opened: Opened,
}

/// What both sides derive.
struct Derived {
    root: RootKey,
    chain: ChainKey,
    session: SessionId,
}

/// Begins a session with the owner of a prekey bundle: `session` becomes the new session, whose envelopes carry the
/// first-message header until a reply opens.
///
/// `peer_identity` is whom the caller means to write to: the bundle's identity, checked, and compared with what
/// is known of the contact. `now` is in seconds since 1970.
///
/// # Errors
///
/// [`Peer::IdentityChanged`] if the bundle belongs to another, [`Peer::OwnIdentity`], [`Peer::WrongAddress`] for our own
/// address, [`Error::Authentication`] for a prekey that the identity did not sign, [`Peer::Unexpected`] for one of the
/// wrong kind, [`Limit::Expired`] for an old one, `PeerMisbehaved` for unsound keys.
#[expect(
    clippy::too_many_arguments,
    reason = "time, randomness and buffers are arguments"
)]
pub fn start<R: CryptoRng + ?Sized>(
    keys: &IdentityKeys,
    own: &Address,
    peer: &Address,
    peer_identity: &Identity,
    bundle: &PrekeyBundle,
    now: u64,
    session: &mut Session,
    rng: &mut R,
) -> Result<(), Error> {
    session.clear();
    if own == peer {
        return Err(Peer::WrongAddress.into());
    }
    if bundle.identity != *peer_identity.claim() {
        return Err(Peer::IdentityChanged.into());
    }
    keys.check_peer(&bundle.identity)?;
    check_prekey(&bundle.last_resort, PrekeyKind::LastResort, peer_identity)?;
    if now.saturating_sub(bundle.last_resort.issued) > MAX_PREKEY_AGE {
        return Err(Limit::Expired.into());
    }
    if let Some(one_time) = &bundle.one_time {
        check_prekey(one_time, PrekeyKind::OneTime, peer_identity)?;
    }

    let signed = DhPublic(bundle.last_resort.dh.0);
    let ephemeral = DhSecret::generate(rng);
    let one_time = bundle.one_time.as_ref();
    let agreed = [
        keys.dh().agree(&signed)?,
        ephemeral.agree(&DhPublic(*peer_identity.dh()))?,
        ephemeral.agree(&signed)?,
    ];
    let with_one_time = match one_time {
        Some(prekey) => Some(ephemeral.agree(&DhPublic(prekey.dh.0))?),
        None => None,
    };
    let kem_key = &one_time.unwrap_or(&bundle.last_resort).kem;
    let (ciphertext, encapsulated) = kem::encapsulate(&kem_key.0, rng)?;

    begin(
        keys,
        own,
        peer,
        bundle,
        &ephemeral.public(),
        Bytes(ciphertext),
        |th| derive(th, &agreed, with_one_time.as_ref(), &encapsulated),
        session,
        rng,
    )
}

/// Writes the header, derives the keys from it and begins the session: apart, so that no buffer of it lies below ML-KEM
/// on the stack.
#[inline(never)]
#[expect(
    clippy::too_many_arguments,
    reason = "what `start` has found out, and its arguments"
)]
fn begin<R: CryptoRng + ?Sized>(
    keys: &IdentityKeys,
    own: &Address,
    peer: &Address,
    bundle: &PrekeyBundle,
    ephemeral: &DhPublic,
    kem: Bytes<1088>,
    derive: impl FnOnce(&[u8; 32]) -> Derived,
    session: &mut Session,
    rng: &mut R,
) -> Result<(), Error> {
    let one_time = bundle.one_time.as_ref();
    let header = FirstHeader {
        suite: SUITE,
        identity: *keys.public().claim(),
        sender: own.clone(),
        receiver: peer.clone(),
        last_resort: bundle.last_resort.id,
        one_time: one_time.map(|prekey| prekey.id),
        ephemeral: Bytes(ephemeral.0),
        kem,
    };
    let th = transcript(&header, &bundle.identity, &bundle.last_resort, one_time)?;
    let derived = derive(&th);
    session.begin(
        derived.session,
        derived.root,
        derived.chain,
        Prefix::first(header)?,
        rng,
    );
    Ok(())
}

/// Accepts a first message: `session` becomes the new session and `plain` the content of `frame`.
///
/// The caller has made sure that the [`mark`] of this header is not among the used ones; it gives the secrets of the
/// prekeys that the header names, and consumes the one-time prekey, keeps the mark and keeps the session in one write.
///
/// # Errors
///
/// [`Peer::WrongAddress`], [`Peer::OwnIdentity`], [`Decode::Suite`], [`Misuse::BadArgument`] for other prekeys than the
/// header names, [`Error::Authentication`] if anything was altered, and as [`Session::open`]; `session` is the
/// empty one then.
#[expect(
    clippy::too_many_arguments,
    reason = "secrets and buffers are arguments"
)]
pub fn accept(
    keys: &IdentityKeys,
    own: &Address,
    header: &FirstHeader,
    last_resort: &PrekeySecret,
    one_time: Option<&PrekeySecret>,
    frame: &[u8],
    session: &mut Session,
    plain: &mut VecView<u8>,
) -> Result<Accepted, Error> {
    session.clear();
    plain.clear();
    let peer = check_header(keys, own, header)?;
    if last_resort.kind() != PrekeyKind::LastResort
        || last_resort.id() != header.last_resort
        || one_time.is_some_and(|prekey| prekey.kind() != PrekeyKind::OneTime)
        || one_time.map(PrekeySecret::id) != header.one_time
    {
        return Err(Misuse::BadArgument.into());
    }

    let ephemeral = DhPublic(header.ephemeral.0);
    let agreed = [
        last_resort.dh.agree(&DhPublic(*peer.dh()))?,
        keys.dh().agree(&ephemeral)?,
        last_resort.dh.agree(&ephemeral)?,
    ];
    let with_one_time = match one_time {
        Some(prekey) => Some(prekey.dh.agree(&ephemeral)?),
        None => None,
    };
    let encapsulated = one_time
        .unwrap_or(last_resort)
        .kem
        .decapsulate(&header.kem.0);
    let th = transcript(
        header,
        keys.public().claim(),
        &last_resort.unsigned(),
        one_time.map(PrekeySecret::unsigned).as_ref(),
    )?;
    let derived = derive(&th, &agreed, with_one_time.as_ref(), &encapsulated);
    let opened =
        session.begin_by_opening(derived.session, &derived.root, &derived.chain, frame, plain)?;
    Ok(Accepted {
        peer,
        mark: mark(header)?,
        opened,
    })
}

/// Checks what can be checked of a header without the prekeys, so that a bad one is never shown to the user.
///
/// # Errors
///
/// [`Decode::Suite`], [`Peer::WrongAddress`], [`Peer::OwnIdentity`], or what is wrong with the claimed identity.
pub fn check_header(
    keys: &IdentityKeys,
    own: &Address,
    header: &FirstHeader,
) -> Result<Identity, Error> {
    if header.suite != SUITE {
        return Err(Decode::Suite.into());
    }
    if header.receiver != *own || header.sender == *own {
        return Err(Peer::WrongAddress.into());
    }
    keys.check_peer(&header.identity)
}

/// Gives the replay mark of a first message: SHA-256(lv_cat(label, header)).
///
/// The whole header is in the transcript as well, so one set of keys has one mark.
///
/// # Errors
///
/// None for a header that was decoded.
pub fn mark(header: &FirstHeader) -> Result<[u8; 32], Error> {
    let header = encode(header)?;
    Ok(Transcript::new()
        .item(label::FIRST_MARK.as_bytes())
        .item(&header)
        .finish())
}

/// Checks kind and signature of a prekey; its KEM key is checked where it is used.
fn check_prekey(prekey: &Prekey, kind: PrekeyKind, owner: &Identity) -> Result<(), Error> {
    if prekey.kind != kind {
        return Err(Peer::Unexpected.into());
    }
    prekey.verify(owner)
}

fn encode(header: &FirstHeader) -> Result<Vec<u8, MAX_HEADER>, Error> {
    codec::encode_vec(header)
}

/// TH over the header (suite, identity of A, both addresses, prekey ids, E, ct), the identity of B and the prekeys.
#[inline(never)]
fn transcript(
    header: &FirstHeader,
    receiver: &IdentityClaim,
    last_resort: &Prekey,
    one_time: Option<&Prekey>,
) -> Result<[u8; 32], Error> {
    let header = encode(header)?;
    let mut th = Transcript::new()
        .item(label::FIRST_TH.as_bytes())
        .item(&header)
        .item_parts(&[&receiver.sign.0, &receiver.dh.0, &receiver.signature.0]);
    for prekey in [Some(last_resort), one_time].into_iter().flatten() {
        // The signed items without label, suite and owner.
        th = prekey.signed_items(receiver, |items| {
            th.item_parts(items.get(4..).unwrap_or_default())
        });
    }
    Ok(th.finish())
}

/// Derives everything from the transcript hash and the four or five secrets.
fn derive(
    th: &[u8; 32],
    agreed: &[SharedSecret; 3],
    one_time: Option<&SharedSecret>,
    encapsulated: &kem::SharedSecret,
) -> Derived {
    let [dh1, dh2, dh3] = agreed;
    let dh4: &[u8] = one_time.map_or(&[], |dh4| dh4.expose_bytes());
    let prk = Prk::extract(
        th,
        &[
            dh1.expose_bytes(),
            dh2.expose_bytes(),
            dh3.expose_bytes(),
            dh4,
            encapsulated.expose_bytes(),
        ],
    );
    Derived {
        root: prk.expand(label::FIRST_ROOT),
        chain: prk.expand(label::FIRST_CHAIN),
        session: Bytes(prk.expand(label::FIRST_SESSION_ID)),
    }
}
