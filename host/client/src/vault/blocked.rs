//! Whom the home relay lets write nothing to this account, as it was when this home last said or asked so.
//!
//! The list itself is the relay's. These are marks of its addresses, so that contacts can be listed without a connection.

use hostchat_core::wire::{Address, Bytes};
use rusqlite::{OptionalExtension as _, params};

use super::{Column, Tx, Vault};
use crate::error::Result;

const BLOCKED: Column = Column {
    table: "meta",
    column: "blocked",
};

/// So many marks of 16 bytes are kept, those noted last: they fit into one value, and a relay keeps fewer by default (256).
const MOST: usize = 500;

type Mark = Bytes<16>;

impl Vault {
    /// Of these addresses, those that are blocked.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn blocked_among<'a>(
        &mut self,
        addresses: impl IntoIterator<Item = &'a Address>,
    ) -> Result<Vec<Address>> {
        let marks = self.read(|tx| tx.blocked())?;
        let is_blocked = |address: &&Address| marks.contains(&mark(&self.sealer, address));
        Ok(addresses.into_iter().filter(is_blocked).cloned().collect())
    }

    /// Notes that an address is blocked, or no longer.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn note_blocked(&mut self, address: &Address, blocked: bool) -> Result<()> {
        self.write(|tx| {
            let mark = mark(tx.sealer, address);
            let mut marks = tx.blocked()?;
            marks.retain(|known| *known != mark);
            if blocked {
                marks.push(mark);
            }
            tx.save_blocked(marks)
        })
    }

    /// Notes all that are blocked, as the relay lists them.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn note_all_blocked(&mut self, addresses: &[Address]) -> Result<()> {
        self.write(|tx| {
            let marks = addresses.iter().map(|address| mark(tx.sealer, address));
            tx.save_blocked(marks.collect())
        })
    }
}

fn mark(sealer: &super::Sealer, address: &Address) -> Mark {
    Bytes(sealer.mark(&[b"blocked", address.as_str().as_bytes()]))
}

impl Tx<'_> {
    fn blocked(&self) -> Result<Vec<Mark>> {
        let sql = "SELECT value FROM meta WHERE key = 'blocked'";
        let sealed: Option<Vec<u8>> = self
            .transaction
            .query_row(sql, [], |row| row.get(0))
            .optional()?;
        let Some(sealed) = sealed else {
            return Ok(Vec::new());
        };
        let body = self.open(0, BLOCKED, &sealed)?;
        self.open_body(&body)
    }

    fn save_blocked(&self, mut marks: Vec<Mark>) -> Result<()> {
        let older = marks.len().saturating_sub(MOST);
        let sealed = self.seal_body(0, BLOCKED, &marks.split_off(older))?;
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('blocked', ?1)")?
            .execute(params![sealed])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::vault::tests::{address, open};

    #[test]
    fn blocks_are_noted_one_by_one_or_as_the_relay_lists_them() {
        let dir = tempfile::tempdir().unwrap();
        let (alice, bob) = (address("alice@h:1"), address("bob@h:1"));
        let both = [alice.clone(), bob.clone()];
        let mut vault = open(&dir);
        assert!(vault.blocked_among(&both).unwrap().is_empty());
        vault.note_blocked(&alice, true).unwrap();
        vault.note_blocked(&alice, true).unwrap();
        drop(vault);
        let mut vault = open(&dir);
        assert_eq!(
            vault.blocked_among(&both).unwrap(),
            std::slice::from_ref(&alice)
        );
        vault.note_blocked(&alice, false).unwrap();
        assert!(vault.blocked_among(&both).unwrap().is_empty());
        vault.note_all_blocked(&both).unwrap();
        assert_eq!(vault.blocked_among(&both).unwrap(), both);
        // Of a list that is longer than any relay's the end is kept.
        let mut many: Vec<_> = (0..600).map(|n| address(&format!("m{n}@h:1"))).collect();
        many.push(bob.clone());
        vault.note_all_blocked(&many).unwrap();
        assert_eq!(vault.blocked_among(&both).unwrap(), [bob]);
    }
}
