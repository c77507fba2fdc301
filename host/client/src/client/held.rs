//! First messages that were kept, and are opened: because the user accepts their sender, or because that is a contact by now.
//!
//! ```text
//!  request (first) ─▶ the sender's relay is asked for its identity ─▶ token opens ─▶ as any message
//!  request (first) of a contact, under its identity: once nothing for it waits to be sealed ─▶ token opens ─▶ ..
//! ```

use hostchat_core::icd::TokenError;
use hostchat_core::wire::{Address, Envelope, Frame, codec};

use super::Client;
use super::drops::Kind;
use super::event::{Observer, note};
use crate::error::{Error, Result};
use crate::vault::{Asked, Request};

/// What became of a first message that was kept.
enum Opening {
    /// It is stored with the other messages.
    Opened,
    /// It was stored before.
    Repeat,
    /// The token will never open it.
    Refused(TokenError),
}

impl Client {
    /// Opens the first messages of a sender, after its relay was asked for its identity.
    ///
    /// # Errors
    /// `Binding` if that relay knows another identity; `IdentityChanged` without `accept_changed`; `Unreadable` if the token
    /// opens none of them; `Nothing`; those of relay, token, vault.
    pub async fn accept_first(
        &mut self,
        from: &Address,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let requests = self.first_messages(Some(from))?;
        if requests.is_empty() {
            return Err(Error::Nothing(format!("{from} has not written")));
        }
        let bound = self.at(&from.relay()).await?.look_up(from.name()).await?;
        let forged = self.vault.bind_requests(from, Some(&bound))?;
        self.drops.count(Kind::Forged, "", Some(from), forged);
        let (mut any, mut opened, mut refused) = (false, false, None);
        for request in requests.iter().filter(|r| r.identity == bound) {
            any = true;
            if self.is_changed(request)? && !accept_changed {
                return Err(Error::IdentityChanged(from.to_string()));
            }
            match self.open_held(request, accept_changed, observer).await? {
                Opening::Opened | Opening::Repeat => opened = true,
                Opening::Refused(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) if !opened => Err(Error::Unreadable {
                from: from.to_string(),
                why,
            }),
            Some(why) => self.some_refused(from, why),
            None if any => Ok(()),
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
                Ok(Opening::Refused(why)) => self.some_refused(&request.from, why)?,
                Err(Error::Token(error @ (TokenError::Storage | TokenError::Random))) => {
                    return Err(error.into());
                }
                Err(Error::Token(error)) => {
                    let why = Error::Token(error);
                    let text = format!("a first message of {} waits: {why}", request.from);
                    note(observer, "held", text)?;
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

    fn first_messages(&mut self, from: Option<&Address>) -> Result<Vec<Request>> {
        let mut requests = self.vault.requests()?;
        requests.retain(|r| r.asked == Asked::First && from.is_none_or(|from| r.from == *from));
        Ok(requests)
    }

    fn has_unsealed(&mut self, peer: &Address) -> Result<bool> {
        let outbox = self.vault.outbox()?;
        Ok(outbox.iter().any(|e| e.to == *peer && e.sealed.is_none()))
    }

    fn some_refused(&mut self, from: &Address, why: TokenError) -> Result<()> {
        let why = Error::Token(why).to_string();
        self.drops.count(Kind::Useless, &why, Some(from), 1);
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
        let id = codec::decode::<Envelope<'_>>(envelope)
            .ok()
            .and_then(|envelope| Frame::parse(envelope.frame()?).ok())
            .map(|frame| frame.message_id);
        match id {
            Some(id) => Ok(self.vault.seen(&id)?.is_some()),
            None => Ok(false),
        }
    }
}
