//! What the user has to be told once: written with the change that it tells of, deleted when it was shown.

use hostchat_core::wire::Address;
use rusqlite::params;

use super::{Column, Tx, Vault};
use crate::error::Result;
use crate::model::Notice;

const BODY: Column = Column {
    table: "notices",
    column: "body",
};

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
