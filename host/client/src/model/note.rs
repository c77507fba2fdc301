//! What is told in words: a kind for programs, what it is about, and a sentence that the face makes of them.

use std::path::PathBuf;

use hostchat_core::wire::{Address, RelayName};
use serde::{Deserialize, Serialize};

use super::Notice;
use crate::error::Fault;

/// Something that is told in words. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Note {
    /// As [`Notice::KeysOld`].
    KeysOld {
        /// The date to which this home goes back.
        since: u64,
    },
    /// As [`Notice::HistoryOld`].
    HistoryOld {
        /// The date to which the vault goes back.
        since: u64,
    },
    /// As [`Notice::Stopped`].
    Stopped {
        /// The date to which this home goes back.
        since: u64,
    },
    /// As [`Notice::SessionsLost`].
    SessionsLost {
        /// How many.
        count: u16,
    },
    /// As [`Notice::LostFrom`].
    LostFrom {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// As [`Notice::LostTo`].
    LostTo {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// As [`Notice::UnknownTo`].
    UnknownTo {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// As [`Notice::NeverConfirmed`].
    NeverConfirmed {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// As [`Notice::Missing`].
    Missing {
        /// The contact.
        peer: Address,
        /// How many in all.
        count: u64,
    },
    /// As [`Notice::RegisteredAgain`].
    RegisteredAgain,
    /// As [`Notice::GoneFrom`].
    GoneFrom {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// Messages that cannot be used.
    Dropped {
        /// Why.
        why: Useless,
        /// Who sent them, as the relay says.
        names: Names,
        /// How many, since it was told last.
        count: u64,
    },
    /// Requests in the name of somebody who did not send them.
    Forged {
        /// In whose names.
        names: Names,
        /// How many, since it was told last.
        count: u64,
    },
    /// Old requests that had to make room.
    Removed {
        /// How many, since it was told last.
        count: u64,
    },
    /// First messages that nobody accepted in time.
    Expired {
        /// How many, since it was told last.
        count: u64,
    },
    /// Frames that cannot be opened, of people who are no contacts.
    Strangers {
        /// Who sent them, as the relay says.
        names: Names,
        /// A request of theirs waits.
        asking: bool,
        /// How many, since it was told last.
        count: u64,
    },
    /// The identity of a contact has changed.
    Changed {
        /// The contact.
        peer: Address,
    },
    /// The relay of a contact names the identity again that is known.
    ChangedBack {
        /// The contact.
        peer: Address,
    },
    /// A first message waits.
    Held {
        /// Of whom.
        peer: Address,
        /// Why.
        why: Held,
    },
    /// A contact has ended its sessions.
    SessionEnded {
        /// The contact.
        peer: Address,
    },
    /// First messages cannot be opened, and their sender is asked for them.
    AskedAgain {
        /// The sender.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// An answer to a code that is none.
    BadAnswer {
        /// Why.
        fault: Fault,
    },
    /// What was typed for the code of the peer, while the own one is shown, came too late.
    CodeEnded {
        /// The peer.
        peer: Address,
    },
    /// What was typed for the code of the peer, while the own one is shown, did not help.
    CrossedCodes {
        /// Why.
        fault: Fault,
    },
    /// The token has an identity already.
    Token,
    /// The relay would refuse a new account; that of the token's identity may be there already.
    NoNewAccount {
        /// Why.
        fault: Fault,
    },
    /// The relay keeps who wrote to whom.
    Log {
        /// The relay.
        relay: RelayName,
        /// For so many days.
        days: u16,
    },
    /// Contacts and relay could not be told of the end.
    Wipe {
        /// Why.
        fault: Fault,
    },
    /// The relay breaks the protocol.
    Broke {
        /// How.
        fault: Fault,
    },
    /// The relay has not said that the mailbox is empty.
    NotDrained {
        /// The relay.
        relay: RelayName,
        /// For so many minutes.
        minutes: u64,
    },
    /// What comes is shown from now on.
    Listening {
        /// The relay.
        relay: RelayName,
    },
    /// Prekeys at the relay are not up to date.
    Prekeys {
        /// Why.
        fault: Fault,
    },
    /// The connection was lost, and is made again.
    Reconnecting {
        /// Why.
        fault: Fault,
    },
    /// Messages for a contact stay in the outbox.
    Outbox {
        /// The contact.
        peer: Address,
        /// Why.
        why: Stays,
    },
    /// No new session with a contact yet.
    Session {
        /// The contact.
        peer: Address,
        /// Why.
        fault: Fault,
    },
    /// Other users could read or change a part of the home.
    Permissions {
        /// The part.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Whether they were taken away since.
        closed: bool,
    },
    /// The token was unplugged.
    Unplugged {
        /// Which.
        fault: Fault,
    },
    /// The button of the token has to be pressed.
    TouchNeeded,
    /// Nothing has come.
    NothingNew {
        /// So many could not be opened yet.
        unopened: u64,
    },
}

/// Why a message cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Useless {
    /// It cannot be decoded.
    Undecodable,
    /// It is not a request to pair in order.
    Offer,
    /// It is not a first message in order.
    First,
    /// It is written for keys that the token does not have.
    OtherKeys,
    /// It would wait, and is none that can.
    Held(Held),
    /// The token refuses it.
    Refused(Fault),
}

/// Why a first message waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The token's memory of first messages is full.
    MemoryFull,
    /// The token has no place for another session.
    NoPlace,
    /// The identity of its sender has changed.
    Changed,
    /// Something else.
    Fault(Fault),
}

/// Why messages stay in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stays {
    /// There is no session.
    NoSession,
    /// They were written to leave after a code.
    WantsCode,
    /// Something else.
    Fault(Fault),
}

/// Names that something is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The first of them, in order.
    pub names: Vec<Address>,
    /// There are more.
    pub more: bool,
}

impl Names {
    /// Most names that are counted one by one.
    pub const MOST: usize = 16;
}

impl From<Notice> for Note {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::KeysOld { since } => Self::KeysOld { since },
            Notice::HistoryOld { since } => Self::HistoryOld { since },
            Notice::Stopped { since } => Self::Stopped { since },
            Notice::SessionsLost { count } => Self::SessionsLost { count },
            Notice::LostFrom { peer, count } => Self::LostFrom { peer, count },
            Notice::LostTo { peer, count } => Self::LostTo { peer, count },
            Notice::UnknownTo { peer, count } => Self::UnknownTo { peer, count },
            Notice::NeverConfirmed { peer, count } => Self::NeverConfirmed { peer, count },
            Notice::Missing { peer, count } => Self::Missing { peer, count },
            Notice::RegisteredAgain => Self::RegisteredAgain,
            Notice::GoneFrom { peer, count } => Self::GoneFrom { peer, count },
        }
    }
}
