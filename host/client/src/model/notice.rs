//! What the user has to be told once.

use hostchat_core::wire::Address;
use serde::{Deserialize, Serialize};

/// Something that the user has to be told. Times are milliseconds since 1970. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// These keys are older than keys that were used: messages since then may be missing.
    KeysOld {
        /// The date to which this home goes back.
        since: u64,
    },
    /// The vault is older than its token: history since then is missing.
    HistoryOld {
        /// The date to which the vault goes back.
        since: u64,
    },
    /// The account has stopped: a second copy of it is in use, or the relay lies.
    Stopped {
        /// The date to which this home goes back.
        since: u64,
    },
    /// Damaged session records were dropped.
    SessionsLost {
        /// How many.
        count: u16,
    },
    /// Messages of a contact cannot be recovered.
    LostFrom {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// Messages for a contact could not be read there and are not kept here any more.
    LostTo {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// A contact does not know of messages that came in its name, and may have forgotten them.
    UnknownTo {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// No receipt has come for messages within 45 days.
    NeverConfirmed {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
    /// Notes of a contact have not come.
    Missing {
        /// The contact.
        peer: Address,
        /// How many in all.
        count: u64,
    },
    /// The home relay did not know this account any more; it is registered again.
    RegisteredAgain,
    /// Messages of a contact were received with these keys and are not here: the home was restored, or a copy has them.
    GoneFrom {
        /// The contact.
        peer: Address,
        /// How many.
        count: u32,
    },
}
