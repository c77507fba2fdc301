//! Requests: what waits for the user's word.

use hostchat_core::wire::{Address, IdentityClaim, SessionStartId};
use serde::{Deserialize, Serialize};

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// That a code is typed: this run of a pairing.
    Code {
        /// The run.
        sid: SessionStartId,
    },
    /// To be heard: a first message without a code.
    First,
}

/// Somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number in this vault.
    pub id: i64,
    /// Who, as the envelope says; our relay says the same of its sender.
    pub from: Address,
    /// The identity that the envelope claims.
    pub identity: IdentityClaim,
    /// For what.
    pub asked: Asked,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// Who was logged in as its sender, as our relay says.
    pub sender: Address,
    /// The relay of `from` says that the identity is right.
    pub checked: bool,
    /// By the clock of our relay, milliseconds since 1970.
    pub stored_at: u64,
}

impl Request {
    /// Whether two ask for the same kind of thing, from one address under one identity.
    pub fn is_like(&self, other: &Self) -> bool {
        self.from == other.from
            && self.identity == other.identity
            && (self.asked == Asked::First) == (other.asked == Asked::First)
    }
}
