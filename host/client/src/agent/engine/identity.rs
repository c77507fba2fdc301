//! Whether a contact still has the identity that we know.

use hostchat_core::wire::Address;

use super::Client;
use super::event::{Observer, note};
use super::send::is_ours;
use crate::error::{Error, Result};
use crate::model::answer::Change;
use crate::model::{Contact, Note, Trust};

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

    /// The contact, without the mark of a changed identity if its relay names the known one again. Only for a command by which
    /// the user sends to that contact: what was held back after a warning leaves by such a word, never by the relay's alone.
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
        if contact.changed.is_none() || known.is_none() {
            return Ok(contact);
        }
        match self.look_up(&address).await {
            Ok(claimed) if claimed == known => {
                contact.changed = None;
                self.vault.save_contact(&contact)?;
                self.bound.insert(address.clone());
                note(observer, Note::ChangedBack { peer: address })?;
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
            contact.trust = if known.verified {
                Trust::Code
            } else {
                Trust::Unverified
            };
            self.vault.save_contact(&contact)?;
        }
        Ok(contact)
    }

    /// Accepts that the identity of a contact has changed, by beginning a session with the new one. What waits in the outbox
    /// is sealed again.
    ///
    /// # Errors
    /// `ChangedBack` if another identity was seen, and the relay names the known one now; those of relay, token, vault.
    pub async fn accept_change(&mut self, address: &Address) -> Result<Change> {
        let Some(contact) = self.vault.contact_at(address)? else {
            return Ok(Change::None);
        };
        let before = contact.identity;
        if before.is_none() && contact.changed.is_none() {
            return Ok(Change::None);
        }
        if before.is_some() && self.look_up(address).await? == before {
            return match contact.changed {
                Some(_) => Err(Error::ChangedBack(address.to_string())),
                None => Ok(Change::Back),
            };
        }
        self.start_session(contact, true).await?;
        Ok(Change::Accepted)
    }
}
