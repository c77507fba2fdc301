//! First messages that were kept, and are opened: because the user accepts their sender, or because that is a contact by now.
//!
//! ```text
//!  request (first) ─▶ the sender's relay is asked for its identity ─▶ token opens ─▶ as any message
//!  request (first) of a contact, under its identity: once nothing for it waits to be sealed ─▶ token opens ─▶ ..
//! ```

use hostchat_core::icd::TokenError;
use hostchat_core::wire::{Address, Envelope, Frame, IdentityClaim, MessageId, codec};

use super::Client;
use super::drops::Kind;
use super::event::{Observer, note};
use crate::crash;
use crate::error::{Error, Fault, Result};
use crate::model::{Asked, Held, Note, Request, Useless};
use crate::vault::Outgoing;

/// What became of a first message that was kept.
enum Opening {
    /// It is stored with the other messages.
    Opened,
    /// It was stored before.
    Repeat,
    /// It was written for a prekey that is gone; the request is still there.
    Stale(MessageId),
    /// The token will never open it.
    Refused(TokenError),
}

impl Client {
    /// Opens the first messages of a sender, after its relay was asked for its identity. Those for a prekey that is gone are
    /// asked for in a new session; `false` if there is nothing to read until they come.
    ///
    /// # Errors
    /// `Binding` if that relay knows another identity; `IdentityChanged` without `accept_changed`; `Unreadable` if the token
    /// opens none of them; `Nothing`; those of relay, token, vault.
    pub async fn accept_first(
        &mut self,
        from: &Address,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let requests = self.first_messages(Some(from))?;
        if requests.is_empty() {
            return Err(Error::Nothing(format!("{from} has not written")));
        }
        let bound = self.at(&from.relay()).await?.look_up(from.name()).await?;
        let forged = self.vault.bind_requests(from, Some(&bound))?;
        self.drops.count(Kind::Forged, Some(from), forged);
        let (mut any, mut opened, mut refused) = (false, false, None);
        let mut stale = Vec::new();
        for request in requests.iter().filter(|r| r.identity == bound) {
            any = true;
            if self.is_changed(request)? && !accept_changed {
                return Err(Error::IdentityChanged(from.to_string()));
            }
            match self.open_held(request, accept_changed, observer).await? {
                Opening::Opened | Opening::Repeat => opened = true,
                Opening::Stale(id) => stale.push((request.id, id)),
                Opening::Refused(why) => refused = Some(why),
            }
        }
        if !stale.is_empty() {
            self.ensure_session_to_ask(from, &bound, accept_changed)
                .await?;
            self.ask_anew(from, &stale, observer)?;
        }
        match refused {
            Some(why) if !opened && stale.is_empty() => Err(Error::Unreadable {
                from: from.to_string(),
                why,
            }),
            Some(why) => self.some_refused(from, why).map(|()| opened),
            None if any => Ok(opened),
            None => Err(Error::Binding(from.to_string())),
        }
    }

    /// Opens the first messages of those who are contacts by now, under the same identity, and shows them.
    pub(super) async fn adopt_requests(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let mut any = false;
        for request in self.first_messages(None)? {
            let contact = self.vault.contact_at(&request.from)?;
            let known = contact
                .filter(|c| c.changed.is_none())
                .and_then(|c| c.identity);
            // What waits is to be sealed in the session that is there: message 3 of a pairing must not be overtaken.
            if known != Some(request.identity) || self.has_unsealed(&request.from)? {
                continue;
            }
            match self.open_held(&request, false, observer).await {
                Ok(Opening::Opened | Opening::Repeat) => any = true,
                Ok(Opening::Stale(id)) => {
                    self.ask_anew(&request.from, &[(request.id, id)], observer)?;
                    any = true;
                }
                Ok(Opening::Refused(why)) => self.some_refused(&request.from, why)?,
                Err(Error::Token(error @ (TokenError::Storage | TokenError::Random))) => {
                    return Err(error.into());
                }
                Err(Error::Token(error)) => {
                    let why = Held::Fault(Fault::from(&Error::Token(error)));
                    let peer = request.from.clone();
                    note(observer, Note::Held { peer, why })?;
                }
                Err(other) => return Err(other),
            }
        }
        if any {
            self.show_new(observer)?;
            self.flush_noting(observer).await?;
        }
        self.tell_drops_if_drained(observer)
    }

    /// Begins a session with somebody whose first message cannot be opened, unless there is one: for the last-resort prekey
    /// alone, since a relay that gives one prekey twice may give others twice. A crash behind it leaves the requests, which are
    /// then those of a contact.
    async fn ensure_session_to_ask(
        &mut self,
        from: &Address,
        identity: &IdentityClaim,
        accept_changed: bool,
    ) -> Result<()> {
        let contact = self.vault.contact_at(from)?;
        let is_known = contact.is_some_and(|c| c.identity == Some(*identity));
        if is_known && self.current_session(from).await?.is_some() {
            return Ok(());
        }
        let relay = self.at(&from.relay()).await?;
        let bundle = relay.take_last_resort(from.name()).await?;
        if bundle.identity != *identity {
            return Err(Error::Binding(from.to_string()));
        }
        let contact = self.vault.contact_or_new(from)?;
        self.begin_with(contact, bundle, accept_changed).await
    }

    /// Asks a contact for what first messages carried whose prekey is gone, in place of the requests.
    fn ask_anew(
        &mut self,
        from: &Address,
        stale: &[(i64, MessageId)],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        for (request, id) in stale {
            self.vault.note_unopened(from, *id, false)?;
            crash::point("unopened-stored");
            self.vault.delete_request(*request)?;
        }
        self.vault.ask(from, self.os.now_ms())?;
        let count = u32::try_from(stale.len()).unwrap_or(u32::MAX);
        let peer = from.clone();
        note(observer, Note::AskedAgain { peer, count })
    }

    fn first_messages(&mut self, from: Option<&Address>) -> Result<Vec<Request>> {
        let mut requests = self.vault.requests()?;
        requests.retain(|r| r.asked == Asked::First && from.is_none_or(|from| r.from == *from));
        Ok(requests)
    }

    fn has_unsealed(&mut self, peer: &Address) -> Result<bool> {
        let is_verified = self.vault.is_verified(peer)?;
        let outbox = self.vault.outbox()?;
        // A text that waits for a code may wait for long.
        let due = |e: &Outgoing| e.sealed.is_none() && (is_verified || !e.wants_code());
        Ok(outbox.iter().any(|e| e.to == *peer && due(e)))
    }

    fn some_refused(&mut self, from: &Address, why: TokenError) -> Result<()> {
        let why = Useless::Refused(Fault::from(&Error::Token(why)));
        self.drops.count(Kind::Useless(why), Some(from), 1);
        Ok(())
    }

    async fn open_held(
        &mut self,
        request: &Request,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<Opening> {
        let Some(envelope) = self.vault.request_envelope(request.id)? else {
            return Ok(Opening::Repeat);
        };
        self.prepare_keys().await?;
        let opened = self
            .token
            .open_message(self.address(), envelope.clone(), accept_changed)
            .await;
        let opening = match opened {
            Ok(opened) => {
                let session = super::incoming::session_of(&envelope);
                self.take_opened(opened, session, request.stored_at, observer)
                    .await?;
                Opening::Opened
            }
            Err(Error::Token(TokenError::Replayed)) if self.was_stored(&envelope)? => {
                Opening::Repeat
            }
            Err(Error::Token(TokenError::Prekey)) => match message_id(&envelope) {
                Some(id) => return Ok(Opening::Stale(id)),
                None => Opening::Refused(TokenError::Prekey),
            },
            Err(Error::Token(TokenError::IdentityChanged)) => {
                return Err(Error::IdentityChanged(request.from.to_string()));
            }
            Err(Error::Token(
                error @ (TokenError::SessionsFull
                | TokenError::ReplayMemoryFull
                | TokenError::Storage
                | TokenError::Random
                | TokenError::BadRequest
                | TokenError::Uncommitted),
            )) => return Err(error.into()),
            Err(Error::Token(error)) => Opening::Refused(error),
            Err(other) => return Err(other),
        };
        self.vault.delete_request(request.id)?;
        Ok(opening)
    }

    /// Whether the message in an envelope is in the vault.
    fn was_stored(&mut self, envelope: &[u8]) -> Result<bool> {
        match message_id(envelope) {
            Some(id) => Ok(self.vault.seen(&id)?.is_some()),
            None => Ok(false),
        }
    }
}

/// The id of the message in an envelope.
fn message_id(envelope: &[u8]) -> Option<MessageId> {
    let envelope = codec::decode::<Envelope<'_>>(envelope).ok()?;
    let frame = Frame::parse(envelope.frame()?).ok()?;
    Some(frame.message_id)
}
