//! Ed25519 (RFC 8032), strict: canonical keys without torsion, canonical signatures, no small orders.
//!
//! A signature is always over `lv_cat` of several items, the first of which is a label: there is no way to sign bytes of
//! unknown meaning. Keys are checked once, when they are learnt ([`VerifyingKey::from_bytes`]), for what even
//! `verify_strict` of the crate lets pass: a torsion component.

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::Signature;
use ed25519_dalek::ed25519::signature::{MultipartSigner as _, MultipartVerifier as _};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::hash::LengthPrefix;
use crate::error::{Decode, Error, Misuse, Peer};

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// The most items that one signature may cover; the longest structure of the protocol has fewer.
pub const MAX_ITEMS: usize = 16;

/// An Ed25519 private key; its secret form is the 32-byte seed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Length of the seed in bytes.
    pub const LEN: usize = 32;

    /// Draws a new key.
    #[must_use]
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Makes the key from its seed.
    #[must_use]
    pub fn from_bytes(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Makes the key from its seed where it lies: no copy of it is left behind.
    ///
    /// # Errors
    /// `Decode::Truncated` for any other length than [`Self::LEN`].
    pub fn from_slice(seed: &[u8]) -> Result<Self, Error> {
        let seed = seed.try_into().map_err(|_| Decode::Truncated)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// Reveals the seed.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns the public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `lv_cat(items)`.
    ///
    /// # Panics
    /// If there are more than [`MAX_ITEMS`] items: a structure that no code here builds, whatever the input.
    #[must_use]
    pub fn sign(&self, items: &[&[u8]]) -> [u8; SIGNATURE_LEN] {
        assert!(items.len() <= MAX_ITEMS, "too many items to sign");
        with_prefixes(items, |parts| self.0.multipart_sign(parts)).to_bytes()
    }

    /// Signs bare bytes, which nothing but a test of the public vectors should do.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_sign_bytes(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.multipart_sign(&[message]).to_bytes()
    }
}

/// An Ed25519 public key that was checked: canonical, of large order, free of torsion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Length of the encoded key in bytes.
    pub const LEN: usize = 32;

    /// Decodes and checks a key.
    ///
    /// # Errors
    /// `Peer::BadPoint` if the bytes are no point, not canonical or of small order; `Peer::TorsionedKey` if the point
    /// has a torsion component.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let point = CompressedEdwardsY(*bytes)
            .decompress()
            .ok_or(Peer::BadPoint)?;
        if point.compress().as_bytes() != bytes || point.is_small_order() {
            return Err(Peer::BadPoint.into());
        }
        if !point.is_torsion_free() {
            return Err(Peer::TorsionedKey.into());
        }
        Ok(Self(point.into()))
    }

    /// Returns the encoded key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies a signature over `lv_cat(items)`, strictly.
    ///
    /// # Errors
    /// `Error::Authentication` if it does not match; `Misuse::TooManyItems` beyond [`MAX_ITEMS`].
    pub fn verify(&self, items: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> Result<(), Error> {
        if items.len() > MAX_ITEMS {
            return Err(Misuse::TooManyItems.into());
        }
        with_prefixes(items, |parts| self.verify_parts(parts, signature))
    }

    /// Verifies a signature over bare bytes, which nothing but a test of the public vectors should do.
    ///
    /// # Errors
    /// `Error::Authentication` if it does not match.
    #[doc(hidden)]
    pub fn danger_verify_bytes(
        &self,
        message: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), Error> {
        self.verify_parts(&[message], signature)
    }

    /// Does what `verify_strict` of the crate does, for a message in parts.
    ///
    /// The crate compares the encoding of R, so that R is canonical, and refuses s >= L; the key was checked when it was
    /// learnt; what is left is an R of small order.
    fn verify_parts(&self, parts: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> Result<(), Error> {
        let signature = Signature::from_bytes(signature);
        let r = CompressedEdwardsY(*signature.r_bytes())
            .decompress()
            .ok_or(Error::Authentication)?;
        if r.is_small_order() {
            return Err(Error::Authentication);
        }
        self.0
            .multipart_verify(parts, &signature)
            .map_err(|_| Error::Authentication)
    }
}

/// Calls `f` with prefix, item, prefix, item ..; items beyond [`MAX_ITEMS`] are refused by the callers.
fn with_prefixes<T>(items: &[&[u8]], f: impl FnOnce(&[&[u8]]) -> T) -> T {
    let mut prefixes = [LengthPrefix::new(0); MAX_ITEMS];
    for (prefix, item) in prefixes.iter_mut().zip(items) {
        *prefix = LengthPrefix::new(item.len());
    }
    let mut pairs: [[&[u8]; 2]; MAX_ITEMS] = [[&[], &[]]; MAX_ITEMS];
    for ((pair, prefix), item) in pairs.iter_mut().zip(&prefixes).zip(items) {
        *pair = [prefix.as_bytes(), item];
    }
    f(pairs.as_flattened())
}
