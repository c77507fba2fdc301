//! Envelopes: everything that one host leaves in another's mailbox (SPEC §6).

use serde::{Deserialize, Serialize};

use crate::wire::{Address, Bytes, IdentityClaim};

/// Names one run of a pairing: 16 random bytes of the initiator.
pub type SessionStartId = Bytes<16>;

/// The public half of one side of a pairing: with a role byte before it, the AD of CPace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairPublic<const KEM: usize> {
    /// 1 for the initiator, 2 for the responder; first, so that the two ADs are never equal.
    pub role: u8,
    /// Cipher suite.
    pub suite: u8,
    /// Who shows the code.
    pub initiator: Address,
    /// Who types it.
    pub responder: Address,
    /// The sender's identity.
    pub identity: IdentityClaim,
    /// The sender's ephemeral X25519 key.
    pub ephemeral: Bytes<32>,
    /// ML-KEM-768: the encapsulation key (initiator) or the ciphertext (responder).
    pub kem: Bytes<KEM>,
}

/// Pairing message 1, initiator to responder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairOffer {
    /// Fresh for each run.
    pub sid: SessionStartId,
    /// CPace share.
    pub share: Bytes<32>,
    /// ADa.
    pub public: PairPublic<1184>,
}

/// Pairing message 2, responder to initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairAnswer {
    /// The run that is answered.
    pub sid: SessionStartId,
    /// CPace share.
    pub share: Bytes<32>,
    /// ADb.
    pub public: PairPublic<1088>,
    /// HMAC-SHA-256(k_b, TH).
    pub tag: Bytes<32>,
}

/// Pairing message 3, before every frame of the initiator until a frame of the responder opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The run.
    pub sid: SessionStartId,
    /// HMAC-SHA-256(k_a, TH).
    pub tag: Bytes<32>,
}

/// Header of a first message without a code, before every frame until a reply opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstHeader {
    /// Cipher suite.
    pub suite: u8,
    /// The sender's identity.
    pub identity: IdentityClaim,
    /// The sender's address.
    pub sender: Address,
    /// The receiver's address.
    pub receiver: Address,
    /// Id of the last-resort prekey used.
    pub last_resort: u32,
    /// Id of the one-time prekey used, if there was one.
    pub one_time: Option<u32>,
    /// The sender's ephemeral X25519 key.
    pub ephemeral: Bytes<32>,
    /// ML-KEM-768 ciphertext.
    pub kem: Bytes<1088>,
}

/// What lies in a mailbox. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Envelope<'a> {
    /// Pairing message 1.
    PairOffer(PairOffer),
    /// Pairing message 2.
    PairAnswer(PairAnswer),
    /// A hint that the initiator gave this run up, and how many runs its code has left; or of the responder, that it
    /// cannot answer now.
    PairEnded {
        /// The run.
        sid: SessionStartId,
        /// Runs left for this code; a new offer follows while it is above zero. From the responder: minutes to wait.
        runs_left: u8,
    },
    /// A frame of an established session.
    Message {
        /// See [`crate::wire::Frame`].
        frame: &'a [u8],
    },
    /// Pairing message 3 and what follows it.
    Confirmed {
        /// The prefix.
        confirm: Confirm,
        /// See [`crate::wire::Frame`].
        frame: &'a [u8],
    },
    /// A first message.
    First {
        /// The prefix.
        header: FirstHeader,
        /// See [`crate::wire::Frame`].
        frame: &'a [u8],
    },
}

impl<'a> Envelope<'a> {
    /// The ratchet frame inside, for the three kinds that carry one.
    pub fn frame(&self) -> Option<&'a [u8]> {
        match self {
            Self::Message { frame } | Self::Confirmed { frame, .. } | Self::First { frame, .. } => {
                Some(frame)
            }
            Self::PairOffer(_) | Self::PairAnswer(_) | Self::PairEnded { .. } => None,
        }
    }
}
