//! Whether a contact still has the identity that we know.

use hostchat_core::wire::Address;

use super::Client;
use super::event::{Observer, note};
use super::send::is_ours;
use crate::error::{Error, Result};
use crate::model::{Contact, Trust};

/// What `accept_change` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No identity is known.
    None,
    /// The contact has the identity that was known.
    Back,
    /// The contact has a new identity, and a session with it began.
    Accepted,
}

impl Client {
    /// The contact at `address` if a message may go to it: a session exists, and its relay knows the same identity.
    pub(super) async fn reachable(
        &mut self,
        address: &Address,
        observer: &mut dyn Observer,
    ) -> Result<Contact> {
        let Some(contact) = self.vault.contact_at(address)? else {
            return Err(Error::NoSession(address.to_string()));
        };
        let contact = self.recheck(contact, observer).await?;
        if contact.changed.is_some() {
            return Err(Error::IdentityChanged(address.to_string()));
        }
        let mut contact = self.with_identity(contact).await?;
        let Some(identity) = contact.identity else {
            return Err(Error::NoSession(address.to_string()));
        };
        if !self.bound.contains(address) {
            let claimed = self
                .at(&address.relay())
                .await?
                .look_up(address.name())
                .await?;
            if claimed != identity {
                let broke = |_| Error::RelayProtocol {
                    relay: address.relay().to_string(),
                    why: "an identity that is none",
                };
                claimed.verify().map_err(broke)?;
                contact.changed = Some(claimed);
                self.vault.save_contact(&contact)?;
                self.differs.insert(address.clone());
                return Err(Error::IdentityChanged(address.to_string()));
            }
            self.bound.insert(address.clone());
        }
        Ok(contact)
    }

    /// The contact, without the mark of a changed identity if its relay names the known one again: then nothing that was
    /// said before keeps messages from the identity that they are sealed for anyway. The relay is asked once until
    /// something authentic comes from the contact, or the connection is a new one.
    ///
    /// # Errors
    /// Those of token and vault; without an answer of the relay the mark stays.
    pub(super) async fn recheck(
        &mut self,
        mut contact: Contact,
        observer: &mut dyn Observer,
    ) -> Result<Contact> {
        let address = contact.address.clone();
        let known = contact.identity.or(contact.expected);
        if contact.changed.is_none() || known.is_none() || !self.differs.insert(address.clone()) {
            return Ok(contact);
        }
        match self.look_up(&address).await {
            Ok(claimed) if claimed == known => {
                contact.changed = None;
                self.vault.save_contact(&contact)?;
                self.bound.insert(address.clone());
                self.differs.remove(&address);
                let text = format!(
                    "{} names the identity that you know {address} by again: it has not changed, and messages leave as before",
                    address.relay()
                );
                note(observer, "changed_back", text)?;
                Ok(contact)
            }
            Err(error) if is_ours(&error) => Err(error),
            Ok(_) | Err(_) => Ok(contact),
        }
    }

    /// Asks the token for an identity that the vault does not have: a crash may have come between the two.
    pub(super) async fn with_identity(&mut self, mut contact: Contact) -> Result<Contact> {
        if contact.identity.is_none()
            && let Some(known) = self.token.contact(contact.address.clone()).await?
        {
            contact.identity = Some(known.identity);
            if known.verified {
                contact.trust = Trust::Code;
                self.vault.save_paired(&contact)?;
            } else {
                contact.trust = Trust::Unverified;
                self.vault.save_contact(&contact)?;
            }
        }
        Ok(contact)
    }

    /// Accepts that the identity of a contact has changed, by beginning a session with the new one. What waits in the outbox
    /// is sealed again.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub async fn accept_change(
        &mut self,
        address: &Address,
        observer: &mut dyn Observer,
    ) -> Result<Change> {
        let Some(contact) = self.vault.contact_at(address)? else {
            return Ok(Change::None);
        };
        let before = contact.identity;
        if before.is_none() && contact.changed.is_none() {
            return Ok(Change::None);
        }
        let contact = self.recheck(contact, observer).await?;
        if contact.changed.is_none() && self.look_up(address).await? == before {
            return Ok(Change::Back);
        }
        self.start_session(contact, true).await?;
        let after = self.vault.contact_at(address)?.and_then(|c| c.identity);
        let is_back = before.is_some() && before == after;
        Ok(if is_back {
            Change::Back
        } else {
            Change::Accepted
        })
    }
}
