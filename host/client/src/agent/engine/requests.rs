//! Who asks: offers of a pairing, and first messages of people without a session, which wait for the user.
//!
//! ```text
//!  delivery ─▶ in order? ─▶ from whom it says, under the identity proved to our relay? ─▶ identity of the address?
//!                                   address at our relay: it says, at once ─┤ another: dropped
//!                                   a contact's elsewhere: as well
//!                                   any other address: its relay is asked when the user names it; until then "not checked"
//!  ─▶ [request] ─▶ told
//! ```
//!
//! Invariant: no stranger makes this computer dial an address; and what is asked under an address with an identity never
//! takes the place of what is asked with another one.

use hostchat_core::wire::relay::Reason;
use hostchat_core::wire::{
    Address, Bytes, FirstHeader, IdentityClaim, MessageId, PairOffer, SUITE,
};

use super::Client;
use super::drops::Kind;
use super::event::{Observer, note, tell};
use super::incoming::Handled;
use crate::crash;
use crate::error::{Error, Result};
use crate::model::event::RequestEvent;
use crate::model::{Asked, Event, Note, Request, Useless};
use crate::relay::Delivered;
use crate::vault::{Added, Asking, Stored};

/// Role of who shows the code (SPEC §7.1).
const INITIATOR: u8 = 1;

/// What is known of an identity that is claimed for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    /// The relay of the address says the same.
    Right,
    /// The relay of the address says otherwise.
    Wrong,
    /// That relay was not asked, or did not say.
    Open,
}

/// Whether somebody who proved this fingerprint to our relay has this identity, as far as our relay says. An identity is public,
/// so that anybody may copy one into an offer.
pub(super) fn proves(proved: Option<Bytes<32>>, identity: &IdentityClaim) -> bool {
    proved.is_none_or(|fingerprint| fingerprint.0 == identity.fingerprint())
}

impl Client {
    /// Keeps an offer of a pairing for the user.
    pub(super) async fn take_offer(
        &mut self,
        offer: &PairOffer,
        delivered: &Delivered,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let (from, identity) = (&offer.public.initiator, &offer.public.identity);
        let own = self.address();
        let in_order = offer.public.suite == SUITE
            && offer.public.role == INITIATOR
            && offer.public.responder == own
            && *from != own
            && self.is_foreign(identity);
        if !in_order {
            return self.dropped(delivered, Useless::Offer, observer);
        }
        self.keep(
            delivered,
            from,
            identity,
            Asked::Code { sid: offer.sid },
            observer,
        )
        .await
    }

    /// A first message: of a known contact it is opened, of others it becomes a request.
    pub(super) async fn take_first(
        &mut self,
        delivered: &Delivered,
        id: MessageId,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        let own = self.address();
        let in_order = header.suite == SUITE
            && header.receiver == own
            && header.sender != own
            && self.is_foreign(&header.identity);
        if !in_order {
            return self.dropped(delivered, Useless::First, observer);
        }
        if self.vault.seen(&id)? == Some(Stored::Committed) {
            return Ok(Handled::Quiet);
        }
        if !proves(delivered.fingerprint, &header.identity) {
            return self.forged(&header.sender, observer);
        }
        let contact = self.vault.contact_at(&header.sender)?;
        match contact.as_ref().and_then(|c| c.identity) {
            Some(known) if known == header.identity => {
                return self.take_message(delivered, id, observer).await;
            }
            _ if delivered.sender != header.sender => {
                return self.forged(&header.sender, observer);
            }
            Some(_) if !self.confirms_change(header, observer).await? => {
                return self.forged(&header.sender, observer);
            }
            _ => {}
        }
        self.hold(delivered, header, observer).await
    }

    /// Keeps a first message for the user, or for later.
    pub(super) async fn hold(
        &mut self,
        delivered: &Delivered,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        // A one-time prekey that is gone was given twice: that is asked for when the user accepts it.
        if !self
            .token
            .prekeys()
            .await?
            .has_last_resort(header.last_resort)
        {
            return self.dropped(delivered, Useless::OtherKeys, observer);
        }
        let (from, identity) = (&header.sender, &header.identity);
        self.keep(delivered, from, identity, Asked::First, observer)
            .await
    }

    /// Keeps what was found in order, unless it does not come from where it says.
    async fn keep(
        &mut self,
        delivered: &Delivered,
        from: &Address,
        identity: &IdentityClaim,
        asked: Asked,
        observer: &mut dyn Observer,
    ) -> Result<Handled> {
        if delivered.sender != *from || !proves(delivered.fingerprint, identity) {
            return self.forged(from, observer);
        }
        let checked = match self.binding_of(from, identity).await? {
            Binding::Wrong => return self.forged(from, observer),
            binding => binding == Binding::Right,
        };
        let added = self.vault.add_request(&Asking {
            from,
            identity,
            asked,
            sender: &delivered.sender,
            checked,
            stored_at: delivered.stored_at,
            envelope: &delivered.body,
        })?;
        crash::point("request-stored");
        let news = match added {
            Added::New { news, removed } => {
                self.drops.count(Kind::Removed, Some(from), removed);
                self.tell_drops_if_drained(observer)?;
                news
            }
            // It may have come before a crash and not have been told; or it was answered, or ended, already.
            Added::Known => {
                let open = |r: &Request| r.asked == asked && r.identity == *identity;
                if !self.vault.requests()?.iter().any(open) {
                    return Ok(Handled::Quiet);
                }
                asked != Asked::First
            }
        };
        if news {
            self.tell_request(from, identity, asked, observer)?;
        }
        Ok(Handled::Asked {
            from: from.clone(),
            identity: *identity,
        })
    }

    /// Counts a request that came in somebody else's name.
    fn forged(&mut self, claimed: &Address, observer: &mut dyn Observer) -> Result<Handled> {
        self.drops.count(Kind::Forged, Some(claimed), 1);
        self.tell_drops_if_drained(observer)?;
        Ok(Handled::Quiet)
    }

    /// Whether an identity is sound, and has none of our own keys.
    fn is_foreign(&self, identity: &IdentityClaim) -> bool {
        let own = self.identity.claim();
        identity.sign != own.sign && identity.dh != own.dh && identity.verify().is_ok()
    }

    /// Asks whether an identity is that of an address: our own relay or that of a contact, and no other.
    async fn binding_of(&mut self, from: &Address, identity: &IdentityClaim) -> Result<Binding> {
        let is = |right| {
            if right {
                Binding::Right
            } else {
                Binding::Wrong
            }
        };
        let is_home = from.relay() == self.home_relay();
        let known = self.known_binding.get(from).copied();
        if known == Some(Some(*identity)) {
            return Ok(Binding::Right);
        }
        let contact = self.vault.contact_at(from)?;
        if !is_home && contact.is_none_or(|c| c.identity.is_none()) {
            // Unless the user has named it, nobody knows.
            return Ok(known.flatten().map_or(Binding::Open, |_| Binding::Wrong));
        }
        if !is_home && known == Some(None) {
            // Its relay could not be asked a while ago.
            return Ok(Binding::Open);
        }
        match self.look_up(from).await {
            Ok(bound) => {
                self.known_binding.insert(from.clone(), bound);
                Ok(is(bound == Some(*identity)))
            }
            // It will not say now; it is asked again when the user names the sender.
            Err(error) if !is_home || matches!(error, Error::RelayRefused { .. }) => {
                self.known_binding.insert(from.clone(), None);
                Ok(Binding::Open)
            }
            Err(other) => Err(other),
        }
    }

    /// The identity that the relay of an address knows for it; `None` if there is no such account.
    pub(super) async fn look_up(&mut self, from: &Address) -> Result<Option<IdentityClaim>> {
        match self.at(&from.relay()).await?.look_up(from.name()).await {
            Ok(bound) => Ok(Some(bound)),
            Err(Error::RelayRefused { refusal, .. }) if refusal.reason == Reason::UnknownName => {
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// The user has named `from`: asks its relay for its identity, if something waits that was not checked, and deletes what
    /// came under another one.
    ///
    /// # Errors
    /// Those of relay and vault.
    pub async fn check_requests(&mut self, from: &Address) -> Result<()> {
        let open = |r: &Request| r.from == *from && !r.checked;
        if !self.vault.requests()?.iter().any(open) {
            return Ok(());
        }
        let bound = self.look_up(from).await?;
        self.known_binding.insert(from.clone(), bound);
        let forged = self.vault.bind_requests(from, bound.as_ref())?;
        self.drops.count(Kind::Forged, Some(from), forged);
        Ok(())
    }

    /// Forgets what relays said: who blocks us, and who is whom.
    pub fn ask_relays_anew(&mut self) {
        self.blocked_by.clear();
        self.known_binding.clear();
    }

    fn tell_request(
        &mut self,
        from: &Address,
        identity: &IdentityClaim,
        asked: Asked,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let requests = self.vault.requests()?;
        let is_first = asked == Asked::First;
        let this = |r: &&Request| {
            r.from == *from && r.identity == *identity && (r.asked == Asked::First) == is_first
        };
        match requests.iter().rfind(this) {
            Some(request) => {
                let changed = self.is_changed(request)?;
                if !is_first && !changed && self.showing_to.as_ref() == Some(from) {
                    // While our own code is shown this is told in another way.
                    return Ok(());
                }
                tell(
                    observer,
                    Event::Request(RequestEvent::new(request, changed)),
                )
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

    /// A known contact seems to write under a new identity: asks its relay. `false` if the relay says otherwise.
    async fn confirms_change(
        &mut self,
        header: &FirstHeader,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let address = &header.sender;
        match self.binding_of(address, &header.identity).await? {
            Binding::Right => {
                let identity = header.identity;
                if let Some(mut contact) = self.vault.contact_at(address)?
                    && contact.changed != Some(identity)
                {
                    contact.changed = Some(identity);
                    self.vault.save_contact(&contact)?;
                    let peer = address.clone();
                    note(observer, Note::Changed { peer })?;
                }
                Ok(true)
            }
            Binding::Wrong => Ok(false),
            // Not known now: it waits as a request, and the relay is asked again when the user accepts it.
            Binding::Open => Ok(true),
        }
    }

    /// Deletes requests that are too old, and counts the first messages among them.
    pub(super) fn expire_requests(&mut self) -> Result<()> {
        let expired = self.vault.expire_requests()?;
        self.drops.count(Kind::Expired, None, expired);
        Ok(())
    }
}
