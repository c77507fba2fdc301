//! Identities: an Ed25519 key and an X25519 key, bound by a signature (SPEC §5).

use core::fmt;

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::crypto::hash::Transcript;
use crate::crypto::label;
use crate::crypto::sign::VerifyingKey;
use crate::error::Error;
use crate::wire::{Bytes, SUITE};

/// An identity as somebody claims it: 128 bytes, nothing checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityClaim {
    /// Ed25519 public key (RFC 8032).
    pub sign: Bytes<32>,
    /// X25519 public key (RFC 7748).
    pub dh: Bytes<32>,
    /// Ed25519 signature by `sign` over lv_cat("hostchat/1 identity", suite, `dh`).
    pub signature: Bytes<64>,
}

/// An identity whose key is sound and whose signature binds both keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    claim: IdentityClaim,
    sign: VerifyingKey,
}

impl IdentityClaim {
    /// Checks the Ed25519 key (canonical, torsion-free) and the signature over the X25519 key.
    ///
    /// # Errors
    /// `PeerMisbehaved` for an unsound key, `Authentication` for a wrong signature.
    pub fn verify(&self) -> Result<Identity, Error> {
        let sign = VerifyingKey::from_bytes(&self.sign.0)?;
        sign.verify(
            &[label::IDENTITY.as_bytes(), &[SUITE], &self.dh.0],
            &self.signature.0,
        )?;
        Ok(Identity { claim: *self, sign })
    }

    /// The fingerprint (SPEC §5.2) of the two keys, whether or not they are sound and bound to each other.
    pub fn fingerprint(&self) -> [u8; 32] {
        Transcript::new()
            .item(label::FINGERPRINT.as_bytes())
            .item(&[SUITE])
            .item(&self.sign.0)
            .item(&self.dh.0)
            .finish()
    }
}

impl Identity {
    /// The identity of whoever holds the private keys: both halves were computed from them, so there is nothing to check.
    #[cfg(feature = "protocol")]
    pub(crate) fn own(claim: IdentityClaim, sign: VerifyingKey) -> Self {
        Self { claim, sign }
    }

    /// The Ed25519 public key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.sign
    }

    /// The X25519 public key, 32 bytes.
    pub fn dh(&self) -> &[u8; 32] {
        &self.claim.dh.0
    }

    /// The 128 bytes that travel.
    pub fn claim(&self) -> &IdentityClaim {
        &self.claim
    }

    /// The concatenated public bytes: Ed25519 key, X25519 key, signature.
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[..32].copy_from_slice(&self.claim.sign.0);
        bytes[32..64].copy_from_slice(&self.claim.dh.0);
        bytes[64..].copy_from_slice(&self.claim.signature.0);
        bytes
    }

    /// SHA-256 over lv_cat("hostchat/1 fingerprint", suite, both public keys).
    pub fn fingerprint(&self) -> [u8; 32] {
        self.claim.fingerprint()
    }

    /// The 60 digits that two people compare: 30 of each fingerprint, the smaller first (SPEC §5.3).
    pub fn safety_number(&self, other: &Self) -> String<60> {
        let (a, b) = (self.fingerprint(), other.fingerprint());
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        let mut digits = String::new();
        for fingerprint in [first, second] {
            for group in fingerprint.chunks_exact(5).take(6) {
                let number = group
                    .iter()
                    .fold(0u64, |n, &byte| (n << 8) | u64::from(byte))
                    % 100_000;
                let _ = fmt::Write::write_fmt(&mut digits, format_args!("{number:05}"));
            }
        }
        digits
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.claim.sign)
    }
}
