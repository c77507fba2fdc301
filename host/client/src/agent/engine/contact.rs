//! Contacts: found by what the user types, renamed, verified, exported and imported.

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::{Address, Bytes, Identity, IdentityClaim};

use super::Client;
use crate::error::{Error, Result};
use crate::model::address::{PeerText, RelayAddress, account_name, hex, unhex};
use crate::model::{Contact, Trust};

/// A public identity with its address, as text for another hostchat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Where.
    pub address: Address,
    /// Who.
    pub identity: IdentityClaim,
}

const EXPORT: &str = "hostchat-identity-1";

impl Exported {
    /// One line: kind, address, 128 bytes of the identity, and a checksum against mistakes in copying.
    pub fn to_text(&self) -> String {
        let key = hex(&bytes_of(&self.identity));
        let sum = checksum(&self.address, &key);
        format!("{EXPORT} {} {key} {sum}", self.address)
    }

    /// Takes such a line, wherever it was broken.
    ///
    /// # Errors
    /// `BadExport`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        if words.next() != Some(EXPORT) {
            return Err(Error::BadExport(
                "it does not begin with hostchat-identity-1",
            ));
        }
        let address = words
            .next()
            .and_then(|word| Address::parse(word).ok())
            .ok_or(Error::BadExport("no address"))?;
        let text: String = words.collect();
        // A text that is cut in the middle of a character has no digits there.
        let (digits, sum) = text
            .split_at_checked(256)
            .ok_or(Error::BadExport("it is not complete"))?;
        let bytes: [u8; 128] = unhex(digits).ok_or(Error::BadExport("it is not complete"))?;
        if sum != checksum(&address, digits) {
            return Err(Error::BadExport(
                "its checksum does not match: it was altered or copied wrongly",
            ));
        }
        let part = |from: usize| -> [u8; 32] {
            let mut out = [0; 32];
            out.copy_from_slice(bytes.get(from..from + 32).unwrap_or(&[0; 32]));
            out
        };
        let mut signature = [0; 64];
        signature.copy_from_slice(bytes.get(64..).unwrap_or(&[0; 64]));
        let identity = IdentityClaim {
            sign: Bytes(part(0)),
            dh: Bytes(part(32)),
            signature: Bytes(signature),
        };
        identity
            .verify()
            .map_err(|_| Error::BadExport("its signature does not match"))?;
        Ok(Self { address, identity })
    }
}

fn bytes_of(identity: &IdentityClaim) -> [u8; 128] {
    let mut bytes = [0; 128];
    let parts = identity
        .sign
        .0
        .iter()
        .chain(&identity.dh.0)
        .chain(&identity.signature.0);
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = *from;
    }
    bytes
}

fn checksum(address: &Address, key: &str) -> String {
    let sum = sha256(&[
        EXPORT.as_bytes(),
        b" ",
        address.as_str().as_bytes(),
        b" ",
        key.as_bytes(),
    ]);
    hex(sum.get(..4).unwrap_or_default())
}

impl Client {
    /// Finds out whom the user means: a contact's name, an account of the own relay, or an address. A pin is remembered.
    ///
    /// # Errors
    /// `Usage`; those of the vault.
    pub fn resolve(&mut self, typed: &str) -> Result<Address> {
        match PeerText::parse(typed)? {
            PeerText::Address(address, pin) => {
                self.vault.save_relay_pin(&RelayAddress {
                    name: address.relay(),
                    pin,
                })?;
                Ok(address)
            }
            PeerText::Name(name) => {
                match self.vault.contacts()?.into_iter().find(|c| c.name == name) {
                    Some(contact) => Ok(contact.address),
                    None => Ok(Address::new(&account_name(&name)?, &self.home_relay())),
                }
            }
        }
    }

    /// The contact that the user means.
    ///
    /// # Errors
    /// `UnknownContact`; those of [`Self::resolve`].
    pub fn contact(&mut self, typed: &str) -> Result<Contact> {
        let address = self.resolve(typed)?;
        let unknown = || Error::UnknownContact(crate::escape::escape(typed).into_owned());
        self.vault.contact_at(&address)?.ok_or_else(unknown)
    }

    /// The 60 digits to compare with a contact.
    ///
    /// # Errors
    /// `NoSession` if its identity is not known yet.
    pub fn safety_number(&self, contact: &Contact) -> Result<String> {
        let identity = identity_of(contact)?;
        Ok(self.identity.safety_number(&identity).as_str().to_owned())
    }

    /// Notes that the user compared the safety number and found it equal.
    ///
    /// # Errors
    /// `NoSession`, `IdentityChanged`; those of the vault.
    pub fn mark_compared(&mut self, contact: &Contact) -> Result<Contact> {
        identity_of(contact)?;
        if contact.changed.is_some() {
            return Err(Error::IdentityChanged(contact.address.to_string()));
        }
        let trust = if contact.trust == Trust::Code {
            Trust::Code
        } else {
            Trust::Compared
        };
        let contact = Contact {
            trust,
            ..contact.clone()
        };
        self.vault.save_contact(&contact)?;
        Ok(contact)
    }

    /// Gives a contact another name.
    ///
    /// # Errors
    /// `Usage` for what is no name; `NameInUse`; those of the vault.
    pub fn rename(&mut self, contact: &Contact, name: &str) -> Result<Contact> {
        let contact = Contact {
            name: account_name(name)?.as_str().into(),
            ..contact.clone()
        };
        self.vault.save_contact(&contact)?;
        Ok(contact)
    }

    /// Deletes a contact, its sessions, and what waits for it; gives how many texts were not sent, and how many that were sent
    /// nobody has confirmed.
    ///
    /// # Errors
    /// Those of token and vault.
    pub async fn delete(&mut self, contact: &Contact, history: bool) -> Result<(usize, usize)> {
        let to = &contact.address;
        let outbox = self.vault.outbox()?.into_iter();
        let waiting = outbox.filter(|e| e.to == *to && e.is_text()).count();
        let unconfirmed = self.vault.unconfirmed()?.into_iter();
        let unconfirmed = unconfirmed.filter(|u| u.message.peer == *to && !u.queued);
        let unconfirmed = unconfirmed.count();
        self.token.forget(to.clone()).await?;
        self.vault.delete_contact(contact, history)?;
        Ok((waiting, unconfirmed))
    }

    /// Lets the home relay take nothing more from an address, or take from it again; contact or not.
    ///
    /// # Errors
    /// `Usage` for the own address; those of the relay and the vault.
    pub async fn set_blocked(&mut self, who: &Address, blocked: bool) -> Result<()> {
        if *who == self.address() {
            return Err(Error::Usage("this is your own address".into()));
        }
        let home = self.home_relay();
        self.at(&home)
            .await?
            .set_blocked(who.clone(), blocked)
            .await?;
        self.vault.note_blocked(who, blocked)
    }

    /// From whom the home relay takes nothing for this account, in order.
    ///
    /// # Errors
    /// Those of the relay and the vault.
    pub async fn blocked(&mut self) -> Result<Vec<Address>> {
        let home = self.home_relay();
        let blocked = self.at(&home).await?.blocked().await?;
        self.vault.note_all_blocked(&blocked)?;
        Ok(blocked)
    }

    /// The own public identity as text.
    pub fn export_own(&self) -> Exported {
        Exported {
            address: self.address(),
            identity: *self.identity.claim(),
        }
    }

    /// The public identity of a contact as text.
    ///
    /// # Errors
    /// `NoSession` if it is not known yet.
    pub fn export(&self, contact: &Contact) -> Result<Exported> {
        let identity = *identity_of(contact)?.claim();
        Ok(Exported {
            address: contact.address.clone(),
            identity,
        })
    }

    /// Adds a contact that has to turn up with this identity.
    ///
    /// # Errors
    /// `IdentityChanged` if the contact is known with another one; `Usage` for the own; those of the vault.
    pub fn import(&mut self, exported: &Exported) -> Result<Contact> {
        if exported.address == self.address() || exported.identity == *self.identity.claim() {
            return Err(Error::Usage("this is your own identity".into()));
        }
        let mut contact = self.vault.contact_or_new(&exported.address)?;
        match contact.identity {
            Some(known) if known != exported.identity => {
                return Err(Error::IdentityChanged(exported.address.to_string()));
            }
            _ => contact.expected = Some(exported.identity),
        }
        self.vault.save_contact(&contact)?;
        Ok(contact)
    }
}

/// The checked identity of a contact.
fn identity_of(contact: &Contact) -> Result<Identity> {
    let claim = contact
        .identity
        .or(contact.expected)
        .ok_or_else(|| Error::NoSession(contact.address.to_string()))?;
    claim
        .verify()
        .map_err(|_| Error::Internal("an identity that is not sound was kept"))
}
