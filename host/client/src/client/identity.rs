//! Whether a contact still has the identity that we know.

use hostchat_core::wire::Address;

use super::Client;
use crate::error::{Error, Result};
use crate::vault::{Contact, Trust};

impl Client {
    /// The contact at `address` if a message may go to it: a session exists, and its relay knows the same identity.
    pub(super) async fn reachable(&mut self, address: &Address) -> Result<Contact> {
        let Some(contact) = self.vault.contact_at(address)? else {
            return Err(Error::NoSession(address.to_string()));
        };
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
                return Err(Error::IdentityChanged(address.to_string()));
            }
            self.bound.insert(address.clone());
        }
        Ok(contact)
    }

    /// Asks the token for an identity that the vault does not have: a crash may have come between the two.
    pub(super) async fn with_identity(&mut self, mut contact: Contact) -> Result<Contact> {
        if contact.identity.is_none()
            && let Some(known) = self.token.contact(contact.address.clone()).await?
        {
            contact.identity = Some(known.identity);
            contact.trust = if known.verified {
                Trust::Code
            } else {
                Trust::Unverified
            };
            self.vault.save_contact(&contact)?;
        }
        Ok(contact)
    }

    /// Accepts that the identity of a contact has changed, by beginning a session with the new one; `false` if it has not
    /// changed. What waits in the outbox is sealed again.
    ///
    /// # Errors
    /// Those of relay, token, vault.
    pub async fn accept_change(&mut self, address: &Address) -> Result<bool> {
        match self
            .vault
            .contact_at(address)?
            .filter(|c| c.changed.is_some())
        {
            Some(contact) => self.start_session(contact, true).await.map(|()| true),
            None => Ok(false),
        }
    }
}
