//! X25519 (RFC 7748), contributory: an all-zero result is refused.

use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::error::{Error, Peer};
use crate::secret::KdfOutput as _;

crate::secret! {
    /// An X25519 private key: 32 bytes, clamped when used.
    pub struct DhSecret(32);
    /// The result of an X25519 agreement: input to a key derivation.
    pub struct SharedSecret(32);
}

/// An X25519 public key; any 32 bytes are one, so the check is on the result of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DhPublic(pub [u8; 32]);

impl DhPublic {
    /// Wraps an encoded key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the encoded key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl DhSecret {
    /// Computes the public key.
    #[must_use]
    #[inline(never)]
    pub fn public(&self) -> DhPublic {
        DhPublic(PublicKey::from(&self.key()).to_bytes())
    }

    /// Agrees on a secret with the holder of `peer`.
    ///
    /// # Errors
    /// `Peer::AllZeroShared` if the result is all zero: the peer's key has small order and contributes nothing.
    #[inline(never)]
    pub fn agree(&self, peer: &DhPublic) -> Result<SharedSecret, Error> {
        let shared = self.key().diffie_hellman(&PublicKey::from(peer.0));
        if !shared.was_contributory() {
            return Err(Peer::AllZeroShared.into());
        }
        Ok(SharedSecret::from_kdf(|out| {
            out.copy_from_slice(shared.as_bytes())
        }))
    }

    fn key(&self) -> StaticSecret {
        StaticSecret::from(*self.expose_bytes())
    }
}
