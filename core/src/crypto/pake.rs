//! CPace (draft-irtf-cfrg-cpace-21), suite CPACE-RISTR255-SHA512, initiator-responder.
//!
//! ```text
//! g   = map_to_group(SHA-512(lv_cat(DSI, PRS, zero_pad, CI, sid)))
//! Y   = y * g                      sent, together with the associated data AD
//! K   = y * peer's Y               refused: undecodable, identity, our own Y
//! ISK = SHA-512(lv_cat(DSI_ISK, sid, K) || lv_cat(Ya, ADa) || lv_cat(Yb, ADb))
//! ```
//! Initiator is `a`, responder is `b`. Two things are left to the caller: the role byte that comes first in each AD (so
//! that the two differ), and key confirmation, without which a result says nothing about the peer.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha512};
use zeroize::{Zeroize as _, Zeroizing};

use super::hash::{LengthPrefix, lv, lv_cat, lv_parts};
use crate::error::{Error, Peer};
use crate::secret::KdfOutput as _;

const DSI: &[u8] = b"CPaceRistretto255";
const DSI_ISK: &[u8] = b"CPaceRistretto255_ISK";

/// Input block of SHA-512 in bytes: DSI, PRS and zeros fill the first one, so that the time does not tell the PRS.
const HASH_BLOCK: usize = 128;

/// A public share: the encoding of a ristretto255 element.
pub type Share = [u8; 32];

/// Which side of the exchange a party is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends its share first (`a`).
    Initiator,
    /// Answers (`b`).
    Responder,
}

crate::secret! {
    /// The intermediate session key: input to a key derivation, never used as a key itself.
    pub struct Isk(64);
}

/// One run of the exchange; a scalar is used for one run and consumed by it.
pub struct Cpace {
    scalar: Zeroizing<Scalar>,
    share: Share,
    sid: [u8; 16],
}

impl Cpace {
    /// Starts a run for the password-related string `prs` on the channel `ci` under the session id `sid`.
    #[must_use]
    #[inline(never)]
    pub fn start<R: CryptoRng + ?Sized>(
        prs: &[u8],
        ci: &[u8],
        sid: &[u8; 16],
        rng: &mut R,
    ) -> (Self, Share) {
        let mut wide = Zeroizing::new([0; 64]);
        rng.fill_bytes(wide.as_mut());
        Self::with_scalar(
            prs,
            ci,
            sid,
            Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide)),
        )
    }

    /// Starts a run with a given scalar, which nothing but a test of the public vectors should do.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_start_with_scalar(
        prs: &[u8],
        ci: &[u8],
        sid: &[u8; 16],
        scalar: [u8; 32],
    ) -> (Self, Share) {
        Self::with_scalar(
            prs,
            ci,
            sid,
            Zeroizing::new(Scalar::from_bytes_mod_order(scalar)),
        )
    }

    fn with_scalar(
        prs: &[u8],
        ci: &[u8],
        sid: &[u8; 16],
        scalar: Zeroizing<Scalar>,
    ) -> (Self, Share) {
        let mut generator = generator(prs, ci, sid);
        let share = (generator * *scalar).compress().to_bytes();
        generator.zeroize();
        (
            Self {
                scalar,
                share,
                sid: *sid,
            },
            share,
        )
    }

    /// Ends the run with the peer's share; each AD is the concatenation of its parts.
    ///
    /// # Errors
    /// `Peer::Reflected` if the share is our own; `Peer::BadPoint` if it does not decode or gives the identity.
    #[inline(never)]
    pub fn finish(
        self,
        role: Role,
        own_ad: &[&[u8]],
        peer_share: &Share,
        peer_ad: &[&[u8]],
    ) -> Result<Isk, Error> {
        if *peer_share == self.share {
            return Err(Peer::Reflected.into());
        }
        let k = scalar_mult_vfy(&self.scalar, peer_share)?;

        let mut hash = Sha512::new();
        let mut sink = |bytes: &[u8]| hash.update(bytes);
        lv_cat(&[DSI_ISK, &self.sid, k.as_ref()], &mut sink);
        let (own, peer) = ((&self.share, own_ad), (peer_share, peer_ad));
        let (a, b) = match role {
            Role::Initiator => (own, peer),
            Role::Responder => (peer, own),
        };
        for (share, ad) in [a, b] {
            lv(share, &mut sink);
            lv_parts(ad, &mut sink);
        }
        let mut output = hash.finalize();
        let isk = Isk::from_kdf(|out| out.copy_from_slice(&output));
        output.as_mut_slice().zeroize();
        Ok(isk)
    }
}

/// Computes the generator that the password selects.
fn generator(prs: &[u8], ci: &[u8], sid: &[u8; 16]) -> RistrettoPoint {
    let lv_len = |item: &[u8]| LengthPrefix::new(item.len()).as_bytes().len() + item.len();
    let pad = (HASH_BLOCK - 1)
        .saturating_sub(lv_len(prs))
        .saturating_sub(lv_len(DSI));
    let zeros = [0; HASH_BLOCK];

    let mut hash = Sha512::new();
    let mut sink = |bytes: &[u8]| hash.update(bytes);
    lv_cat(
        &[DSI, prs, zeros.get(..pad).unwrap_or(&zeros), ci, sid],
        &mut sink,
    );
    let uniform: Zeroizing<[u8; 64]> = Zeroizing::new(hash.finalize().into());
    RistrettoPoint::from_uniform_bytes(&uniform)
}

/// Computes the encoding of scalar * point; refuses an undecodable point and the identity as a result.
fn scalar_mult_vfy(scalar: &Scalar, point: &Share) -> Result<Zeroizing<[u8; 32]>, Error> {
    let point = CompressedRistretto(*point)
        .decompress()
        .ok_or(Peer::BadPoint)?;
    let product = Zeroizing::new(point * scalar);
    let encoded = Zeroizing::new(product.compress().to_bytes());
    if *encoded == [0; 32] {
        return Err(Peer::BadPoint.into());
    }
    Ok(encoded)
}

/// Exposes `scalar_mult_vfy`, for the public vectors only.
///
/// # Errors
/// `Peer::BadPoint` if the point does not decode or the result is the identity.
#[doc(hidden)]
pub fn danger_scalar_mult_vfy(scalar: [u8; 32], point: &Share) -> Result<[u8; 32], Error> {
    scalar_mult_vfy(&Scalar::from_bytes_mod_order(scalar), point).map(|k| *k)
}

/// Exposes the encoded generator, for the public vectors only.
#[doc(hidden)]
#[must_use]
pub fn danger_generator(prs: &[u8], ci: &[u8], sid: &[u8; 16]) -> [u8; 32] {
    generator(prs, ci, sid).compress().to_bytes()
}
