//! Sending: from the outbox, through the token, to the receiver's relay.
//!
//! ```text
//!  queue_text ─▶ [outbox] ─▶ flush: token seals ─▶ [outbox: envelope] ─▶ relay: stored ─▶ [history]
//!                  disk                               disk                  disk there       disk
//! ```
//!
//! Invariant: the messages for one contact leave in the order in which they were queued.

use std::collections::HashMap;

use hostchat_core::icd::TokenError;
use hostchat_core::wire::content::MAX_TEXT;
use hostchat_core::wire::relay::{Kind, Reason};
use hostchat_core::wire::{Address, Bytes, Content, Envelope, MAX_CONTENT, RelayName, codec};
use zeroize::Zeroizing;

use super::Client;
use super::event::{Event, Observer, note, tell};
use crate::crash;
use crate::error::{Error, Exit, Result};
use crate::os;
use crate::vault::{Contact, Outgoing, Payload, Trust};

/// An answer to a code that was not sent by then is of no use.
const ANSWER_MS: u64 = 10 * 60 * 1000;

/// How a text is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Pair with a one-time code first.
    pub with_code: bool,
    /// The user accepts that the contact's identity has changed.
    pub accept_changed: bool,
}

/// What a flush left behind: for each contact whose messages could not all leave, why. A contact that blocks us is there
/// once; after that its messages stay without a word until it is time to ask again.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Why the messages for a contact stay.
    pub left: HashMap<Address, Error>,
}

impl Client {
    /// Sends a text: into the outbox, durably, then to the receiver's relay, with whatever else can leave.
    ///
    /// # Errors
    /// `Usage` for a text that cannot be sent. `Queued` with the reason if the relay cannot take it now; the errors of
    /// a pairing, `IdentityChanged` and `Interrupted` as they are, and `RelayRefused` if the receiver blocks us: the text
    /// stays in the outbox then too. Those of token and vault.
    pub async fn send(
        &mut self,
        to: &Address,
        text: &str,
        how: How,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let entry = self.queue_text(to, text)?;
        let Err(why) = self.deliver(to, how, observer).await else {
            if how.with_code {
                self.adopt_requests(observer).await?;
                self.tell_drops(true, observer)?;
            }
            return Ok(());
        };
        if is_unknown_name(&why) && self.forget_unknown(to, entry)? {
            return Err(why);
        }
        tell(
            observer,
            &Event::Queued {
                peer: to,
                why: &why,
            },
        )?;
        Err(match why.exit() {
            // It does not leave by itself later.
            _ if is_blocked(&why) => why,
            Exit::Relay | Exit::Refused | Exit::Contact => Error::Queued(Box::new(why)),
            _ => why,
        })
    }

    /// Puts a text into the outbox.
    fn queue_text(&mut self, to: &Address, text: &str) -> Result<i64> {
        if text.is_empty() {
            return Err(Error::Usage("the message is empty".into()));
        }
        if text.len() > MAX_TEXT {
            let length = text.len();
            return Err(Error::Usage(format!(
                "the message has {length} bytes; at most {MAX_TEXT} are possible"
            )));
        }
        if *to == self.address() {
            return Err(Error::Usage("this is your own address".into()));
        }
        let text = Zeroizing::new(text.to_owned());
        let payload = Payload::Text {
            id: Bytes(os::random()),
            sent_at: os::now_ms(),
            text,
        };
        let entry = self.vault.queue(to, payload)?;
        crash::point("outbox-stored");
        Ok(entry)
    }

    async fn deliver(&mut self, to: &Address, how: How, observer: &mut dyn Observer) -> Result<()> {
        if how.with_code {
            self.pair(to, how.accept_changed, observer).await?;
        } else {
            self.ensure_session(to, how.accept_changed).await?;
        }
        self.blocked_by.remove(to);
        match self.flush(observer).await?.left.remove(to) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Takes a text for an account that does not exist out again, and the contact that was made for it.
    fn forget_unknown(&mut self, to: &Address, entry: i64) -> Result<bool> {
        let Some(contact) = self.vault.contact_at(to)?.filter(|c| c.identity.is_none()) else {
            return Ok(false);
        };
        self.vault.drop_outgoing(entry)?;
        if contact.expected.is_none() && !self.vault.outbox()?.iter().any(|e| e.to == *to) {
            self.vault.delete_contact(&contact, false)?;
        }
        Ok(true)
    }

    /// Sends everything in the outbox that can leave, in order.
    ///
    /// # Errors
    /// Those of token and vault; what only concerns one contact or relay is in the result.
    pub async fn flush(&mut self, observer: &mut dyn Observer) -> Result<Flushed> {
        let mut flushed = Flushed::default();
        let mut dead: HashMap<RelayName, String> = HashMap::new();
        for mut entry in self.vault.outbox()? {
            if flushed.left.contains_key(&entry.to) || self.blocked_by.contains(&entry.to) {
                continue;
            }
            let relay = entry.to.relay();
            let sent = match dead.get(&relay) {
                Some(why) => Err(Error::RelayUnreachable {
                    relay: relay.to_string(),
                    why: why.clone(),
                }),
                None => self.send_entry(&mut entry, observer).await,
            };
            match sent {
                Ok(()) => {}
                Err(error) if is_ours(&error) => return Err(error),
                Err(error) => {
                    if let Error::RelayUnreachable { why, .. } = &error {
                        dead.insert(relay, why.clone());
                    }
                    if is_blocked(&error) {
                        self.blocked_by.insert(entry.to.clone());
                    }
                    flushed.left.insert(entry.to, error);
                }
            }
        }
        Ok(flushed)
    }

    /// Sends one entry.
    pub(super) async fn send_entry(
        &mut self,
        entry: &mut Outgoing,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut verified = false;
        if let Payload::PairAnswer { made_at } = entry.payload {
            if os::now_ms().abs_diff(made_at) >= ANSWER_MS {
                return self.vault.drop_outgoing(entry.id);
            }
        } else {
            let contact = self.reachable(&entry.to).await?;
            verified = contact.trust.is_verified();
            if entry.sealed.is_none() {
                self.seal(entry).await?;
            }
        }
        let Some((message_id, envelope)) = entry.sealed.clone() else {
            return Err(Error::Internal("nothing to send"));
        };
        let kind = match codec::decode::<Envelope<'_>>(&envelope) {
            Ok(Envelope::First { .. }) => Kind::First,
            Ok(Envelope::PairOffer(_) | Envelope::PairAnswer(_) | Envelope::PairEnded { .. }) => {
                Kind::Pairing
            }
            Ok(Envelope::Message { .. } | Envelope::Confirmed { .. }) => Kind::Message,
            Err(_) => return Err(Error::Internal("the token sealed something else")),
        };
        let relay = entry.to.relay();
        self.at(&relay)
            .await?
            .send(entry.to.name(), message_id, kind, &envelope)
            .await?;
        crash::point("relay-stored");
        self.vault.sent(entry, self.keeps_history())?;
        crash::point("sent-marked");
        match &entry.payload {
            Payload::Text { .. } => tell(
                observer,
                &Event::Sent {
                    peer: &entry.to,
                    message_id,
                    verified,
                },
            ),
            _ => Ok(()),
        }
    }

    /// Lets the token seal an entry and keeps the result.
    async fn seal(&mut self, entry: &mut Outgoing) -> Result<()> {
        let content = match &entry.payload {
            Payload::Text { id, sent_at, text } => Content::Text {
                id: *id,
                sent_at: *sent_at,
                text,
            },
            Payload::Empty => Content::Empty,
            Payload::SessionEnded => Content::SessionEnded,
            Payload::PairAnswer { .. } => return Err(Error::Internal("nothing to seal")),
        };
        let mut plain = Zeroizing::new(vec![0; MAX_CONTENT]);
        let length = codec::encode(&content, &mut plain)
            .map_err(|_| Error::Internal("content too long"))?
            .len();
        plain.truncate(length);
        let sealed = match self.token.seal(entry.to.clone(), plain).await {
            Err(Error::Token(TokenError::UnknownContact)) => {
                return Err(Error::NoSession(entry.to.to_string()));
            }
            other => other?,
        };
        crash::point("token-sealed");
        self.vault
            .store_envelope(entry, sealed.message_id, sealed.envelope)?;
        crash::point("frame-stored");
        Ok(())
    }

    /// The contact at `address` if a message may go to it: a session exists, and its relay knows the same identity.
    async fn reachable(&mut self, address: &Address) -> Result<Contact> {
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

    /// Begins a session without a code if there is none; with `accept_changed` also in place of one whose identity changed.
    ///
    /// # Errors
    /// `IdentityChanged`; those of relay, token, vault.
    pub async fn ensure_session(&mut self, address: &Address, accept_changed: bool) -> Result<()> {
        let contact = self.vault.contact_or_new(address)?;
        let contact = self.with_identity(contact).await?;
        match (contact.identity, contact.changed) {
            (Some(_), None) => Ok(()),
            (_, Some(_)) if !accept_changed => Err(Error::IdentityChanged(address.to_string())),
            _ => self.start_session(contact, accept_changed).await,
        }
    }

    /// Begins a session by the prekeys that lie at the contact's relay.
    pub(super) async fn start_session(
        &mut self,
        mut contact: Contact,
        accept_changed: bool,
    ) -> Result<()> {
        let address = contact.address.clone();
        let bundle = self
            .at(&address.relay())
            .await?
            .take_prekeys(address.name())
            .await?;
        let claimed = bundle.identity;
        let unexpected = contact.expected.is_some_and(|expected| expected != claimed);
        let started = if unexpected && !accept_changed {
            Err(Error::Token(TokenError::IdentityChanged))
        } else {
            self.token
                .start(self.address(), address.clone(), bundle, accept_changed)
                .await
        };
        match started {
            Ok((identity, _)) => {
                crash::point("session-started");
                if contact.identity != Some(identity) {
                    contact.trust = Trust::Unverified;
                }
                if contact
                    .expected
                    .is_some_and(|expected| expected != identity)
                {
                    contact.expected = None;
                }
                contact.identity = Some(identity);
                contact.changed = None;
                self.vault.save_contact(&contact)?;
                self.vault.reseal_outgoing(&address)?;
                self.bound.insert(address);
                Ok(())
            }
            Err(Error::Token(TokenError::IdentityChanged)) => {
                contact.changed = Some(claimed);
                self.vault.save_contact(&contact)?;
                Err(Error::IdentityChanged(address.to_string()))
            }
            Err(Error::Token(TokenError::Prekey)) => Err(Error::PrekeysOld(address.to_string())),
            Err(Error::Token(TokenError::Authentication | TokenError::PeerMisbehaved)) => {
                Err(Error::RelayProtocol {
                    relay: address.relay().to_string(),
                    why: "prekeys that are not those of the receiver",
                })
            }
            Err(other) => Err(other),
        }
    }

    /// Sends what is due at the end of a command.
    ///
    /// # Errors
    /// Those of token and vault.
    pub async fn settle(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.flush_noting(observer).await?;
        self.adopt_requests(observer).await?;
        self.tell_drops(true, observer)?;
        self.leave().await
    }

    /// Sends what is due in the course of receiving; what cannot leave is noted and stays.
    pub(super) async fn flush_noting(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let flushed = self.flush(observer).await?;
        for (peer, why) in flushed.left {
            if !matches!(why, Error::NoSession(_)) {
                note(
                    observer,
                    "outbox",
                    format!("messages for {peer} stay in the outbox: {why}"),
                )?;
            }
        }
        Ok(())
    }
}

fn is_unknown_name(error: &Error) -> bool {
    matches!(error, Error::RelayRefused { refusal, .. } if refusal.reason == Reason::UnknownName)
}

fn is_blocked(error: &Error) -> bool {
    matches!(error, Error::RelayRefused { refusal, .. } if refusal.reason == Reason::Blocked)
}

/// Whether an error is of this end and not of one contact or relay.
pub(super) fn is_ours(error: &Error) -> bool {
    matches!(
        error.exit(),
        Exit::Token | Exit::Touch | Exit::Vault | Exit::Io | Exit::Internal | Exit::Interrupted
    )
}

/// Whether the same attempt may succeed a little later.
pub(super) fn is_transient(error: &Error) -> bool {
    match error {
        Error::RelayUnreachable { .. } | Error::RelayGone { .. } => true,
        Error::RelayRefused { refusal, .. } => match refusal.reason {
            // Without a time to wait another program has taken our place: to take it back would go on for ever.
            Reason::TooManyConnections => refusal.retry_after_ms > 0,
            Reason::RateLimited | Reason::Internal | Reason::ShuttingDown | Reason::Timeout => true,
            _ => false,
        },
        _ => false,
    }
}
