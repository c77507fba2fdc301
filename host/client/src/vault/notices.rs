//! What the user has to be told once: written with the change that it tells of, deleted when it was shown.

use hostchat_core::wire::Address;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Column, Tx, Vault};
use crate::error::Result;

const BODY: Column = Column {
    table: "notices",
    column: "body",
};

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

impl Vault {
    /// Keeps a notice until it is shown.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn add_notice(&mut self, notice: &Notice) -> Result<()> {
        self.write(|tx| tx.add_notice(notice))
    }

    /// Tells how many numbered messages of a contact are missing, if there are more than were told before.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn tell_missing(&mut self, peer: &Address) -> Result<()> {
        self.write(|tx| {
            let conversation = tx.conversation(peer)?;
            let missing = conversation.missing();
            if missing > conversation.told_missing {
                tx.add_notice(&Notice::Missing {
                    peer: peer.clone(),
                    count: missing - conversation.told_missing,
                })?;
            }
            tx.change_conversation(peer, |c| c.told_missing = missing)
        })
    }

    /// Notices that were not shown, the oldest first, with their numbers.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn notices(&mut self) -> Result<Vec<(i64, Notice)>> {
        self.read(|tx| tx.bodies("SELECT id, body FROM notices ORDER BY id", BODY))
    }

    /// The notice was shown.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn drop_notice(&mut self, id: i64) -> Result<()> {
        self.write(|tx| {
            tx.transaction
                .execute("DELETE FROM notices WHERE id = ?1", params![id])?;
            Ok(())
        })
    }
}

impl Tx<'_> {
    pub(super) fn add_notice(&self, notice: &Notice) -> Result<()> {
        self.insert(
            "INSERT INTO notices (body) VALUES (zeroblob(0))",
            [],
            BODY,
            notice,
        )
        .map(drop)
    }
}
