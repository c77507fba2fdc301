//! Prekeys: what a receiver leaves at its relay so that others can write first (SPEC §8.1).

use serde::{Deserialize, Serialize};

use crate::crypto::label;
use crate::error::Error;
use crate::wire::{Bytes, Identity, IdentityClaim, SUITE};

/// How often a prekey may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrekeyKind {
    /// Given to one sender, then gone.
    OneTime,
    /// Given to every sender; rotated weekly.
    LastResort,
}

/// One signed prekey as it lies at a relay, 1,300 bytes or so; not checked until [`Prekey::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prekey {
    /// One-time or last-resort.
    pub kind: PrekeyKind,
    /// Number that its owner gave it; never given twice by one token.
    pub id: u32,
    /// When it was made, in seconds since 1970 by the owner's clock.
    pub issued: u64,
    /// X25519 public key.
    pub dh: Bytes<32>,
    /// ML-KEM-768 encapsulation key.
    pub kem: Bytes<1184>,
    /// Ed25519 signature by the owner's identity over lv_cat(label, suite, identity keys, all fields above).
    pub signature: Bytes<64>,
}

impl Prekey {
    /// Calls `with` with the items that the signature covers.
    pub fn signed_items<T>(&self, owner: &IdentityClaim, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        let kind = [match self.kind {
            PrekeyKind::OneTime => 0,
            PrekeyKind::LastResort => 1,
        }];
        with(&[
            label::PREKEY.as_bytes(),
            &[SUITE],
            &owner.sign.0,
            &owner.dh.0,
            &kind,
            &self.id.to_be_bytes(),
            &self.issued.to_be_bytes(),
            &self.dh.0,
            &self.kem.0,
        ])
    }

    /// Checks the owner's signature.
    ///
    /// # Errors
    /// `Authentication` when it is not the owner's.
    pub fn verify(&self, owner: &Identity) -> Result<(), Error> {
        self.signed_items(owner.claim(), |items| {
            owner.verifying_key().verify(items, &self.signature.0)
        })
    }
}

/// Names one prekey: equal refs at relay and token are one key, since a restored token gives an id to another key but not
/// at the same second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PrekeyRef {
    /// [`Prekey::id`].
    pub id: u32,
    /// [`Prekey::issued`].
    pub issued: u64,
}

impl Prekey {
    /// Names this prekey.
    #[must_use]
    pub const fn reference(&self) -> PrekeyRef {
        PrekeyRef {
            id: self.id,
            issued: self.issued,
        }
    }
}

/// What a sender gets from the receiver's relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrekeyBundle {
    /// The owner, as the relay claims.
    pub identity: IdentityClaim,
    /// The signed last-resort prekey: its X25519 key is always used.
    pub last_resort: Prekey,
    /// A one-time prekey while there is one; its KEM key is then the one used.
    pub one_time: Option<Prekey>,
}
