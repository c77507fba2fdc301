//! Contacts.

use hostchat_core::wire::{Address, IdentityClaim};
use serde::{Deserialize, Serialize};

/// How far the identity of a contact is known to be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Somebody who holds that name at that relay, no more.
    Unverified,
    /// A one-time code.
    Code,
    /// Safety numbers were compared.
    Compared,
}

impl Trust {
    /// Whether anything beyond the relay's word speaks for the identity.
    pub fn is_verified(self) -> bool {
        self != Self::Unverified
    }
}

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Number in this vault.
    pub id: i64,
    /// Where messages go.
    pub address: Address,
    /// What the user calls it: as an account name, unique.
    pub name: String,
    /// The identity that messages are sealed for; `None` until a session exists.
    pub identity: Option<IdentityClaim>,
    /// How far it is trusted.
    pub trust: Trust,
    /// An identity that has to turn up, from an import.
    pub expected: Option<IdentityClaim>,
    /// Another identity turned up; nothing is sent until the user accepts it.
    pub changed: Option<IdentityClaim>,
}
