//! Contacts and pinned relays.

use hostchat_core::wire::{Address, Bytes, IdentityClaim, RelayName};
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::sent::unconfirmed;
use super::{Column, Tx, Vault};
use crate::error::{Error, Result};
use crate::model::address::{Pin, RelayAddress};
use crate::model::{Contact, Trust};

const BODY: Column = Column {
    table: "contacts",
    column: "body",
};
const RELAY: Column = Column {
    table: "relays",
    column: "body",
};

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    address: Address,
    name: &'a str,
    identity: Option<IdentityClaim>,
    trust: Trust,
    expected: Option<IdentityClaim>,
    changed: Option<IdentityClaim>,
}

#[derive(Serialize, Deserialize)]
struct RelayRow {
    name: RelayName,
    pin: Bytes<32>,
}

impl Contact {
    fn row(&self) -> Row<'_> {
        Row {
            address: self.address.clone(),
            name: &self.name,
            identity: self.identity,
            trust: self.trust,
            expected: self.expected,
            changed: self.changed,
        }
    }
}

impl Vault {
    /// All contacts, in the order in which they were made.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn contacts(&mut self) -> Result<Vec<Contact>> {
        self.read(all)
    }

    /// The contact with this address.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn contact_at(&mut self, address: &Address) -> Result<Option<Contact>> {
        Ok(self.contacts()?.into_iter().find(|c| c.address == *address))
    }

    /// The contact with this address, made if it is not there. `wanted` is its name if that is free.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn contact_or_new(&mut self, address: &Address) -> Result<Contact> {
        self.write(|tx| {
            let contacts = all(tx)?;
            if let Some(contact) = contacts.iter().find(|c| c.address == *address) {
                return Ok(contact.clone());
            }
            let short = address.name();
            let taken = contacts.iter().any(|c| c.name == short.as_str());
            let name = if taken {
                address.as_str()
            } else {
                short.as_str()
            };
            let mut contact = Contact {
                id: 0,
                address: address.clone(),
                name: name.into(),
                identity: None,
                trust: Trust::Unverified,
                expected: None,
                changed: None,
            };
            contact.id = tx.insert(
                "INSERT INTO contacts (body) VALUES (zeroblob(0))",
                [],
                BODY,
                &contact.row(),
            )?;
            Ok(contact)
        })
    }

    /// Stores a contact that is there.
    ///
    /// # Errors
    /// `NameInUse` if another one has its name; those of the vault.
    pub fn save_contact(&mut self, contact: &Contact) -> Result<()> {
        self.write(|tx| {
            if all(tx)?
                .iter()
                .any(|c| c.id != contact.id && c.name == contact.name)
            {
                return Err(Error::NameInUse(contact.name.clone()));
            }
            tx.put(contact.id, BODY, &contact.row())
        })
    }

    /// Whether somebody is a verified contact now.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn is_verified(&mut self, address: &Address) -> Result<bool> {
        self.read(|tx| tx.is_verified(address))
    }

    /// Deletes a contact and what waits for it in outbox and requests; what was sent to it is not sent again. With `history` its messages too.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn delete_contact(&mut self, contact: &Contact, history: bool) -> Result<()> {
        self.write(|tx| {
            tx.transaction
                .execute("DELETE FROM contacts WHERE id = ?1", params![contact.id])?;
            tx.delete_outgoing(&contact.address)?;
            for message in unconfirmed(tx)? {
                if message.peer == contact.address {
                    tx.give_up(message.id)?;
                }
            }
            tx.delete_requests(&contact.address)?;
            tx.delete_conversation(&contact.address)?;
            if history {
                tx.delete_messages(&contact.address)
            } else {
                Ok(())
            }
        })
    }

    /// The pin of a relay, if one was given.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn relay_pin(&mut self, relay: &RelayName) -> Result<Option<Pin>> {
        self.read(|tx| {
            Ok(relays(tx)?
                .into_iter()
                .find(|(_, row)| row.name == *relay)
                .map(|(_, row)| row.pin.0))
        })
    }

    /// Remembers the pin of a relay, in place of an older one.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn save_relay_pin(&mut self, relay: &RelayAddress) -> Result<()> {
        let Some(pin) = relay.pin else { return Ok(()) };
        let new = RelayRow {
            name: relay.name.clone(),
            pin: Bytes(pin),
        };
        self.write(|tx| {
            match relays(tx)?
                .into_iter()
                .find(|(_, row)| row.name == relay.name)
            {
                Some((_, row)) if row.pin == new.pin => Ok(()),
                Some((id, _)) => tx.put(id, RELAY, &new),
                None => tx
                    .insert(
                        "INSERT INTO relays (body) VALUES (zeroblob(0))",
                        [],
                        RELAY,
                        &new,
                    )
                    .map(|_| ()),
            }
        })
    }
}

impl Tx<'_> {
    /// Whether somebody is a verified contact now.
    pub(super) fn is_verified(&self, address: &Address) -> Result<bool> {
        let contact = all(self)?.into_iter().find(|c| c.address == *address);
        Ok(contact.is_some_and(|contact| contact.trust.is_verified()))
    }
}

fn all(tx: &Tx<'_>) -> Result<Vec<Contact>> {
    let rows = tx.rows("SELECT id, body FROM contacts ORDER BY id", [])?;
    rows.into_iter()
        .map(|(id, sealed)| {
            let body = tx.open(id, BODY, &sealed)?;
            let row: Row<'_> = tx.open_body(&body)?;
            Ok(Contact {
                id,
                address: row.address,
                name: row.name.into(),
                identity: row.identity,
                trust: row.trust,
                expected: row.expected,
                changed: row.changed,
            })
        })
        .collect()
}

fn relays(tx: &Tx<'_>) -> Result<Vec<(i64, RelayRow)>> {
    let rows = tx.rows("SELECT id, body FROM relays ORDER BY id", [])?;
    rows.into_iter()
        .map(|(id, sealed)| {
            let body = tx.open(id, RELAY, &sealed)?;
            Ok((id, tx.open_body(&body)?))
        })
        .collect()
}
