//! Public prekeys that the token has made and the relay does not have yet.

use hostchat_core::wire::Prekey;
use rusqlite::params;

use super::{Column, Vault};
use crate::error::Result;

const BODY: Column = Column {
    table: "prekeys",
    column: "body",
};

impl Vault {
    /// Keeps a prekey until the relay has it.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn add_prekey(&mut self, prekey: &Prekey) -> Result<i64> {
        self.write(|tx| {
            tx.insert(
                "INSERT INTO prekeys (body) VALUES (zeroblob(0))",
                [],
                BODY,
                prekey,
            )
        })
    }

    /// The prekeys that the relay does not have yet.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn prekeys(&mut self) -> Result<Vec<(i64, Prekey)>> {
        self.read(|tx| {
            let rows = tx.rows("SELECT id, body FROM prekeys ORDER BY id", [])?;
            rows.into_iter()
                .map(|(id, sealed)| {
                    let body = tx.open(id, BODY, &sealed)?;
                    Ok((id, tx.open_body(&body)?))
                })
                .collect()
        })
    }

    /// Their secrets are gone.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn clear_prekeys(&mut self) -> Result<()> {
        self.write(|tx| {
            tx.transaction.execute("DELETE FROM prekeys", [])?;
            Ok(())
        })
    }

    /// The relay has it.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn drop_prekey(&mut self, id: i64) -> Result<()> {
        self.write(|tx| {
            tx.transaction
                .execute("DELETE FROM prekeys WHERE id = ?1", params![id])?;
            Ok(())
        })
    }
}
