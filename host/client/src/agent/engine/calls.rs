//! The calls: what a client does for each, and what it answers.

use hostchat_core::wire::Address;
use serde::Serialize;
use serde_json::Value;

use super::Client;
use super::contact::Exported;
use super::turn::Teller;
use crate::error::{Error, Result};
use crate::model::address::hex;
use crate::model::answer::{
    Account, BlockedEntry, Change, ContactEntry, Deleted, Export, HistoryEntry, OutboxEntry,
    OutboxState, Peer, RequestEntry, SafetyNumber, Status, status,
};
use crate::model::call::Call;
use crate::model::event::RequestEvent;
use crate::model::{Asked, Contact, Direction, Request, What};
use crate::vault::{Outgoing, Payload};

/// An answer as it travels.
pub(super) fn value(answer: impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(|_| Error::Internal("an answer"))
}

impl Client {
    /// Does what is asked for, and gives the answer of its kind.
    pub(super) async fn execute(&mut self, call: &Call, teller: &mut Teller) -> Result<Value> {
        match call.clone() {
            Call::Resolve(call) => value(self.resolve(&call.peer)?),
            Call::HasWaiting(call) => value(self.has_waiting(&call.to)?),
            Call::Showing(call) => value(self.showing(&call.ids)?),
            Call::Shown(call) => value(self.shown(&call.ids)?),
            Call::Status(_) => value(self.how_things_stand()?),
            Call::Resume(_) => {
                self.resume().await?;
                self.show_notices(teller)?;
                value(self.settle(teller).await?)
            }
            Call::Whoami(_) => value(Account {
                address: self.address(),
                fingerprint: hex(&self.identity().fingerprint()),
                visible: self.is_visible(),
                relay: self.relay().to_string(),
            }),
            Call::Export(call) => {
                let exported = match call.peer {
                    Some(peer) => {
                        let contact = self.contact(&peer)?;
                        self.export(&contact)?
                    }
                    None => self.export_own(),
                };
                value(Export {
                    export: exported.to_text(),
                    address: exported.address,
                })
            }
            Call::Contacts(_) => value(self.list_contacts()?),
            Call::Requests(call) => {
                if let Some(from) = call.from.as_ref().filter(|_| call.check) {
                    self.check_requests(from).await?;
                }
                value(self.list_requests(call.from.as_ref())?)
            }
            Call::SafetyNumber(call) => value(self.safety_number_with(&call.peer, call.compared)?),
            Call::Rename(call) => {
                let contact = self.contact(&call.peer)?;
                let contact = self.rename(&contact, &call.name)?;
                value(entry(&contact, 0))
            }
            Call::Delete(call) => {
                let contact = self.contact(&call.peer)?;
                let (unsent, unconfirmed) = self.delete(&contact, call.history).await?;
                value(Deleted {
                    peer: contact.address,
                    unsent,
                    unconfirmed,
                })
            }
            Call::Block(call) => {
                let address = self.resolve(&call.peer)?;
                self.set_blocked(&address, call.blocked).await?;
                value(address)
            }
            Call::Blocked(_) => {
                let contacts = self.vault.contacts()?;
                let blocked = self.blocked().await?.into_iter().map(|address| {
                    let contact = contacts.iter().find(|c| c.address == address);
                    let name = contact.map(|contact| contact.name.clone());
                    BlockedEntry { address, name }
                });
                value(blocked.collect::<Vec<_>>())
            }
            Call::Import(call) => {
                let contact = self.import(&Exported::parse(&call.text)?)?;
                let blocked = self.vault.blocked_among([&contact.address])?;
                value(ContactEntry {
                    blocked: !blocked.is_empty(),
                    ..entry(&contact, 0)
                })
            }
            Call::History(call) => value(self.past(call.peer.as_deref(), call.last)?),
            Call::Outbox(_) => value(self.list_outbox()?),
            Call::Remove(call) => {
                let content = crate::model::address::unhex(&call.content)
                    .ok_or_else(|| Error::Usage("an id has 32 hexadecimal digits".into()))?;
                value(
                    self.vault
                        .remove_text(hostchat_core::wire::Bytes(content))?,
                )
            }
            Call::Who(_) => {
                self.tell_policy(teller).await?;
                value(self.who().await?)
            }
            Call::SetVisible(call) => value(self.set_visible(call.visible).await?),
            Call::LastSender(_) => {
                let Some(address) = self.vault.last_sender()? else {
                    return Ok(Value::Null);
                };
                let name = self.vault.contact_at(&address)?.map(|contact| contact.name);
                value(Some(Peer { address, name }))
            }
            Call::Collect(_) => {
                teller.quiet = true;
                value(self.collect(teller).await?)
            }
            Call::HasForged(call) => value(self.has_dropped_forged(&call.peer)),
            Call::AcceptFirst(call) => {
                let read = self
                    .accept_first(&call.from, call.accept_changed, teller)
                    .await?;
                self.finish(&call.from, teller).await?;
                value(read)
            }
            Call::AcceptChange(call) => {
                let change = self.accept_change(&call.peer).await?;
                if change == Change::Accepted {
                    self.finish(&call.peer, teller).await?;
                }
                value(change)
            }
            Call::Unlock(_) => Ok(Value::Null),
            Call::Decline(call) => value(self.decline(&call.from)?),
            // The first by the engine, which goes on meanwhile; the others by the hub.
            Call::Send(_)
            | Call::Receive(_)
            | Call::AwaitRequest(_)
            | Call::AcceptCode(_)
            | Call::Lock(_)
            | Call::Stop(_)
            | Call::Answer(_)
            | Call::Cancel(_) => Err(Error::Internal("a call at the wrong place")),
        }
    }

    /// Shows what came from somebody, and sends what is due.
    pub(super) async fn finish(&mut self, from: &Address, teller: &mut Teller) -> Result<()> {
        teller.only = Some(from.clone());
        self.told = 0;
        self.show_new(teller)?;
        self.settle(teller).await
    }

    fn how_things_stand(&mut self) -> Result<Status> {
        let address = self.address();
        let generations = self.vault.generations()?;
        let outbox = self.vault.outbox()?;
        let stopped = generations.as_ref().filter(|g| g.stopped);
        Ok(Status {
            address,
            stopped: stopped.is_some(),
            stopped_at: stopped.and_then(|g| g.surprised_at),
            goes_back_to: stopped.map(|g| g.dated),
            outbox: outbox.iter().filter(|entry| entry.is_text()).count(),
            unconfirmed: self.vault.unconfirmed()?.len(),
            unopened: self.vault.unopened()?.len(),
            forged: generations.as_ref().map_or(0, |g| g.forged),
            forged_names: self.vault.forged_names()?,
            strangers: generations.as_ref().map_or(0, |g| g.strangers),
        })
    }

    fn list_contacts(&mut self) -> Result<Vec<ContactEntry>> {
        let mut texts = self.vault.outbox()?;
        texts.retain(Outgoing::is_text);
        let contacts = self.vault.contacts()?;
        let addresses = contacts.iter().map(|contact| &contact.address);
        let blocked = self.vault.blocked_among(addresses)?;
        let entries = contacts.iter().map(|contact| {
            let waiting = texts.iter().filter(|e| e.to == contact.address).count();
            ContactEntry {
                blocked: blocked.contains(&contact.address),
                ..entry(contact, waiting)
            }
        });
        Ok(entries.collect())
    }

    pub(super) fn list_requests(&mut self, from: Option<&Address>) -> Result<Vec<RequestEntry>> {
        let mut requests = self.vault.requests()?;
        requests.retain(|request| from.is_none_or(|from| request.from == *from));
        let mut listed = Vec::with_capacity(requests.len());
        for request in requests {
            let changed = self.is_changed(&request)?;
            listed.push(RequestEntry {
                id: request.id,
                request: RequestEvent::new(&request, changed),
            });
        }
        Ok(listed)
    }

    pub(super) fn request(&mut self, id: i64) -> Result<Request> {
        let requests = self.vault.requests()?;
        let found = requests.into_iter().find(|request| request.id == id);
        found
            .filter(|request| request.asked != Asked::First)
            .ok_or_else(|| Error::Nothing("this request is not there any more".into()))
    }

    fn safety_number_with(&mut self, peer: &str, compared: bool) -> Result<SafetyNumber> {
        let contact = self.contact(peer)?;
        let number = self.safety_number(&contact)?;
        if contact.changed.is_some() {
            return Err(Error::IdentityChanged(contact.address.to_string()));
        }
        if compared {
            self.mark_compared(&contact)?;
        }
        Ok(SafetyNumber {
            number,
            verified: compared || contact.trust.is_verified(),
            peer: contact.address,
            name: contact.name,
        })
    }

    fn past(&mut self, peer: Option<&str>, last: u32) -> Result<Vec<HistoryEntry>> {
        let peer = peer.map(|peer| self.resolve(peer)).transpose()?;
        let contacts = self.vault.contacts()?;
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let messages = self.vault.history(peer.as_ref(), last)?.into_iter();
        let entries = messages.map(|message| {
            let contact = contacts.iter().find(|c| c.address == message.peer);
            let unknown = message.what == What::Unknown;
            HistoryEntry {
                id: message.id,
                name: contact.map_or_else(|| message.peer.to_string(), |c| c.name.clone()),
                peer: message.peer,
                direction: message.direction,
                text: if unknown {
                    Default::default()
                } else {
                    message.text
                },
                unknown,
                sent_at: message.sent_at,
                received_at: message.received_at,
                stored_at: message.stored_at,
                message_id: hex(&message.message_id.0),
                verified: message.verified,
                sent: (message.direction == Direction::Out)
                    .then_some(message.sent)
                    .flatten(),
            }
        });
        Ok(entries.collect())
    }

    fn list_outbox(&mut self) -> Result<Vec<OutboxEntry>> {
        let sent = self.vault.unconfirmed()?.into_iter();
        let mut texts: Vec<OutboxEntry> = sent
            .filter(|sent| !sent.queued)
            .map(|sent| OutboxEntry {
                content: hex(&sent.message.content.0),
                peer: sent.message.peer,
                sent_at: sent.message.sent_at,
                text: sent.message.text,
                state: OutboxState::Unconfirmed,
            })
            .collect();
        for outgoing in self.vault.outbox()? {
            if let Payload::Note {
                id,
                sent_at,
                again,
                with_code,
                text,
                ..
            } = outgoing.payload
            {
                let is_held = with_code && !self.vault.is_verified(&outgoing.to)?;
                texts.push(OutboxEntry {
                    content: hex(&id.0),
                    peer: outgoing.to,
                    sent_at,
                    text,
                    state: match (again, is_held) {
                        (true, _) => OutboxState::Again,
                        (false, false) => OutboxState::Queued,
                        (false, true) => OutboxState::Held,
                    },
                });
            }
        }
        Ok(texts)
    }
}

/// A contact as it is listed.
fn entry(contact: &Contact, outbox: usize) -> ContactEntry {
    let fingerprint = contact
        .identity
        .and_then(|claim| claim.verify().ok())
        .map(|identity| hex(&identity.fingerprint()));
    ContactEntry {
        name: contact.name.clone(),
        address: contact.address.clone(),
        status: status(contact).into(),
        verified: contact.identity.is_some()
            && contact.changed.is_none()
            && contact.trust.is_verified(),
        changed: contact.changed.is_some(),
        fingerprint,
        outbox,
        blocked: false,
    }
}
