//! What calls give.

use hostchat_core::wire::Address;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::event::RequestEvent;
use super::{Contact, Direction, Sent, Trust};

/// What became of a contact's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// There is no such contact, or it was never reached.
    None,
    /// It is the known one.
    Back,
    /// The new one is accepted.
    Accepted,
}

/// The own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its address.
    pub address: Address,
    /// Of its identity, 64 hexadecimal digits.
    pub fingerprint: String,
    /// Whether others may see that it is connected.
    pub visible: bool,
    /// Its relay, with the fingerprint of its certificate.
    pub relay: String,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The own address.
    pub address: Address,
    /// The account has stopped.
    pub stopped: bool,
    /// When, milliseconds since 1970.
    pub stopped_at: Option<u64>,
    /// To when this home goes back, milliseconds since 1970; 0 if that is not known.
    pub goes_back_to: Option<u64>,
    /// Texts in the outbox.
    pub outbox: usize,
    /// Messages that nobody has confirmed.
    pub unconfirmed: usize,
    /// Frames that could not be opened yet.
    pub unopened: usize,
    /// Messages that were forged.
    pub forged: u32,
    /// In whose names.
    pub forged_names: Vec<Address>,
    /// Frames of people who are no contacts.
    pub strangers: u32,
}

/// A public identity as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Whose.
    pub address: Address,
    /// The text that others import.
    pub export: String,
}

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactEntry {
    /// What the user calls it.
    pub name: String,
    /// Where messages go.
    pub address: Address,
    /// How far its identity is known, in one or two words.
    pub status: String,
    /// A code or a comparison speaks for its identity.
    pub verified: bool,
    /// Another identity has turned up.
    pub changed: bool,
    /// Of its identity, 64 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Texts that wait for it.
    pub outbox: usize,
    /// This home has blocked it.
    pub blocked: bool,
}

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// The number of the request.
    pub id: i64,
    /// As it is told.
    pub request: RequestEvent,
}

/// The number to compare with a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafetyNumber {
    /// With whom.
    pub peer: Address,
    /// What the user calls it.
    pub name: String,
    /// 60 digits.
    pub number: String,
    /// A code or a comparison speaks for its identity.
    pub verified: bool,
}

/// What went with a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Which.
    pub peer: Address,
    /// Texts that were never sent.
    pub unsent: usize,
    /// Texts that were sent, and that nobody has confirmed.
    pub unconfirmed: usize,
}

/// Somebody from whom the relay takes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedEntry {
    /// Who.
    pub address: Address,
    /// What the user calls it, for a contact.
    pub name: Option<String>,
}

/// A past message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Number in this vault.
    pub id: i64,
    /// With whom.
    pub peer: Address,
    /// What the user calls it.
    pub name: String,
    /// `in` or `out`.
    pub direction: Direction,
    /// The text; empty if it cannot be shown.
    pub text: Zeroizing<String>,
    /// It is of a kind that this version does not know.
    pub unknown: bool,
    /// By the sender's clock, milliseconds since 1970.
    pub sent_at: u64,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// By the relay's clock, milliseconds since 1970; 0 if that is not known.
    pub stored_at: u64,
    /// The id of its frame, 32 hexadecimal digits.
    pub message_id: String,
    /// Whether its sender was verified when it came.
    pub verified: bool,
    /// How far it has come, if it went out.
    pub sent: Option<Sent>,
}

/// A text that waits, or that nobody has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// For whom.
    pub peer: Address,
    /// Why it is there.
    pub state: OutboxState,
    /// Its id, 32 hexadecimal digits.
    pub content: String,
    /// When it was written, milliseconds since 1970.
    pub sent_at: u64,
    /// The text.
    pub text: Zeroizing<String>,
}

/// Why a text is in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// It was sent, and nobody has confirmed it.
    Unconfirmed,
    /// It is to be sent again.
    Again,
    /// It was not sent.
    Queued,
    /// It was not sent, and leaves after a code.
    Held,
}

/// Somebody with whom messages are exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub address: Address,
    /// What the user calls it, for a contact.
    pub name: Option<String>,
}

/// How far the identity of a contact is known, in one or two words.
#[must_use]
pub fn status(contact: &Contact) -> &'static str {
    match (contact.identity, contact.trust) {
        (None, _) if contact.expected.is_some() => "imported",
        (None, _) => "not reached",
        (Some(_), Trust::Code) => "verified by code",
        (Some(_), Trust::Compared) => "compared",
        (Some(identity), Trust::Unverified) if contact.expected == Some(identity) => "imported",
        (Some(_), Trust::Unverified) => "unverified",
    }
}
