//! Who asks: offers of a pairing, and first messages of people without a session, which wait for the user.

use hostchat_core::wire::{Address, FirstHeader, IdentityClaim, MessageId, PairOffer};

use super::Client;
use super::event::{Event, Observer, note, tell};
use super::incoming::Handled;
use crate::crash;
use crate::error::{Error, Result};
use crate::relay::Delivered;
use crate::vault::{Added, Asked, Request, Stored};

impl Client {
    /// Keeps an offer of a pairing for the user.
    pub(super) fn take_offer(
        &mut self,
        offer: &PairOffer,
        envelope: &[u8],
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let (from, identity) = (&offer.public.initiator, &offer.public.identity);
        let own = self.address();
        let foreign =
            offer.public.responder != own || *from == own || identity == self.identity.claim();
        if foreign || identity.verify().is_err() {
            note(
                observer,
                "dropped",
                "a request to pair that is not in order was dropped",
            )?;
            return Ok(Handled::Quiet);
        }
        let asked = Asked::Code { sid: offer.sid };
        let added = self.vault.add_request(from, identity, asked, envelope)?;
        crash::point("request-stored");
        // It may have come before a crash and not have been told; or it was answered, or ended, already.
        if added != Added::New && !self.vault.requests()?.iter().any(|r| r.asked == asked) {
            return Ok(Handled::Quiet);
        }
        self.tell_request(from, identity, observer)?;
        Ok(Handled::Asked(from.clone()))
    }

    fn tell_request(
        &mut self,
        from: &Address,
        identity: &IdentityClaim,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let requests = self.vault.requests()?;
        match requests
            .iter()
            .rfind(|r| r.from == *from && r.identity == *identity)
        {
            Some(request) => {
                let changed = self.is_changed(request)?;
                tell(observer, &Event::Request { request, changed })
            }
            None => Ok(()),
        }
    }

    /// Whether a request comes under another identity than the one known for its address.
    pub fn is_changed(&mut self, request: &Request) -> Result<bool> {
        let contact = self.vault.contact_at(&request.from)?;
        Ok(contact
            .and_then(|c| c.identity.or(c.expected))
            .is_some_and(|identity| identity != request.identity))
    }

    /// A first message: of a known contact it is opened, of others it becomes a request.
    pub(super) async fn take_first(
        &mut self,
        delivered: &Delivered,
        id: MessageId,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        if header.receiver != self.address() || header.identity.verify().is_err() {
            return self.dropped(delivered, "it is not in order", observer);
        }
        if self.vault.seen(&id)? == Some(Stored::Committed) {
            return Ok(Handled::Quiet);
        }
        let contact = self.vault.contact_at(&header.sender)?;
        match contact.as_ref().and_then(|c| c.identity) {
            Some(known) if known == header.identity => {
                return self.take_message(delivered, id, observer).await;
            }
            Some(_) if !self.confirms_change(header, observer).await? => {
                return self.dropped(
                    delivered,
                    "its sender's relay knows another identity for that name",
                    observer,
                );
            }
            _ => {}
        }
        self.hold(delivered, header, observer)
    }

    /// Keeps a first message for the user, or for later.
    pub(super) fn hold(
        &mut self,
        delivered: &Delivered,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let news = !self
            .vault
            .requests()?
            .iter()
            .any(|r| r.asked == Asked::First && r.from == header.sender);
        let (sender, identity) = (&header.sender, &header.identity);
        let added = self
            .vault
            .add_request(sender, identity, Asked::First, &delivered.body)?;
        if added == Added::Full {
            let why = "there are too many requests; accept or decline some";
            return self.dropped(delivered, why, observer);
        }
        crash::point("request-stored");
        if news {
            self.tell_request(&header.sender, &header.identity, observer)?;
        }
        Ok(Handled::Asked(header.sender.clone()))
    }

    /// A known contact seems to write under a new identity: asks its relay. `false` if the relay says otherwise.
    async fn confirms_change(
        &mut self,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let address = &header.sender;
        let bound = match self.at(&address.relay()).await {
            Ok(relay) => relay.look_up(address.name()).await,
            Err(error) => Err(error),
        };
        match bound {
            Ok(identity) if identity == header.identity => {
                if let Some(mut contact) = self.vault.contact_at(address)?
                    && contact.changed != Some(identity)
                {
                    contact.changed = Some(identity);
                    self.vault.save_contact(&contact)?;
                    note(
                        observer,
                        "changed",
                        Error::IdentityChanged(address.to_string()).to_string(),
                    )?;
                }
                Ok(true)
            }
            Ok(_) => Ok(false),
            // Not known now: it waits as a request, and the relay is asked again when the user accepts it.
            Err(_) => Ok(true),
        }
    }
}
