//! Sending: from the outbox, through the token, to the receiver's relay.
//!
//! ```text
//!  queue_text ─▶ [outbox] ─▶ flush: token seals ─▶ [outbox: envelope] ─▶ relay: stored ─▶ [history]
//!                  disk                               disk                  disk there       disk
//! ```
//!
//! Invariant: the messages for one contact leave in the order in which they were queued.

use std::collections::{HashMap, HashSet};

use hostchat_core::handshake::first::MAX_PREKEY_AGE;
use hostchat_core::icd::TokenError;
use hostchat_core::wire::content::{MAX_DELIVERED, MAX_TEXT};
use hostchat_core::wire::relay::{Kind, Reason};
use hostchat_core::wire::{Address, Bytes, Envelope, MAX_CONTENT, PrekeyBundle, RelayName, codec};
use zeroize::Zeroizing;

use super::Client;
use super::event::{Observer, note, tell};
use crate::crash;
use crate::error::{Error, Exit, Fault, Leaves, Result, Waiting};
use crate::model::call::How;
use crate::model::{Contact, Event, Note, Stays, Trust};
use crate::vault::{Outgoing, Payload, identity_tag};

/// An answer to a code that was not sent by then is of no use.
const ANSWER_MS: u64 = 10 * 60 * 1000;

/// A text that is being sent, or what waits for its receiver.
pub(super) struct Sending {
    /// For whom.
    pub(super) to: Address,
    /// The text that was just written.
    entry: Option<i64>,
    how: How,
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
    /// `Usage` for a text that cannot be sent. `Queued` with the reason if the relay cannot take it now, `Kept` with any
    /// other reason, and `RelayRefused` if the receiver blocks us: the text stays in the outbox.
    pub async fn send(
        &mut self,
        to: &Address,
        text: &str,
        how: How,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let sending = self.begin_to_send(to, Some(text), how)?;
        let paired = match how.with_code {
            true => self.pair(to, how.accept_changed, observer).await,
            false => Ok(()),
        };
        self.go_on_sending(&sending, paired, observer).await
    }

    /// Puts a text into the outbox, or finds what waits there for `to`: with a code none of it leaves without it any more.
    ///
    /// # Errors
    /// `Usage` for a text that cannot be sent, and if none waits; those of the vault.
    pub(super) fn begin_to_send(
        &mut self,
        to: &Address,
        text: Option<&str>,
        how: How,
    ) -> Result<Sending> {
        let waits = text.is_some() || self.has_waiting(to)?;
        if !waits {
            let text = format!("the message is empty, and none for {to} waits in the outbox");
            return Err(Error::Usage(text));
        }
        self.without_code = how.without_code.then(|| to.clone());
        let entry = match text {
            Some(text) => Some(self.queue_text(to, text, how.with_code)?),
            None => {
                if how.with_code {
                    self.vault.bind_texts(to)?;
                }
                None
            }
        };
        Ok(Sending {
            to: to.clone(),
            entry,
            how,
        })
    }

    /// Whether a text for `to` waits in the outbox.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn has_waiting(&mut self, to: &Address) -> Result<bool> {
        let outbox = self.vault.outbox()?;
        Ok(outbox.iter().any(|e| e.to == *to && e.is_text()))
    }

    /// Sends what waits for a contact, after the pairing if there was to be one.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(super) async fn go_on_sending(
        &mut self,
        sending: &Sending,
        paired: Result<()>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Sending { to, entry, how } = sending;
        let (to, entry, how) = (to, *entry, *how);
        self.sending = entry;
        let is_paired = how.with_code && paired.is_ok();
        let Err(why) = self.deliver(to, how, paired, observer).await else {
            return Ok(());
        };
        if is_unknown_name(&why)
            && let Some(entry) = entry
            && self.forget_unknown(to, entry)?
        {
            return Err(why);
        }
        // It may have left before something else went wrong.
        if !self.has_waiting(to).unwrap_or(true) {
            return Err(why);
        }
        let (peer, fault) = (to.clone(), Fault::from(&why));
        tell(observer, Event::Queued { peer, fault })?;
        if is_blocked(&why) {
            // It does not leave by itself later.
            return Err(why);
        }
        let with_code = how.with_code && !is_paired || has_no_keys(&why);
        let waits_for_relay = matches!(why.exit(), Exit::Relay | Exit::Refused | Exit::Contact)
            && !matches!(why, Error::WantsCode(_));
        let waiting = Waiting {
            to: to.to_string(),
            // The vault may be what has failed.
            leaves: self.leaves(to, with_code).unwrap_or(Leaves::ByItself),
            why: Box::new(why),
        };
        Err(if waits_for_relay {
            Error::Queued(waiting)
        } else {
            Error::Kept(waiting)
        })
    }

    /// What sends a text that waits for `to`.
    fn leaves(&mut self, to: &Address, with_code: bool) -> Result<Leaves> {
        let contact = self.vault.contact_at(to)?;
        let has_session = contact.is_some_and(|c| c.identity.is_some() && c.changed.is_none());
        let is_verified = has_session && self.vault.is_verified(to)?;
        let outbox = self.vault.outbox()?;
        let wants_code = outbox.iter().any(|e| e.to == *to && e.wants_code()) && !is_verified;
        Ok(match (with_code || wants_code, has_session) {
            (true, has_session) => Leaves::WithCode {
                anyway: has_session && !wants_code,
            },
            (false, true) => Leaves::ByItself,
            (false, false) => Leaves::WithSend,
        })
    }

    /// Puts a text into the outbox.
    fn queue_text(&mut self, to: &Address, text: &str, with_code: bool) -> Result<i64> {
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
        let (id, now) = (Bytes(self.os.random()), self.os.now_ms());
        let entry = self.vault.queue_note(to, id, now, text, with_code)?;
        crash::point("outbox-stored");
        Ok(entry)
    }

    async fn deliver(
        &mut self,
        to: &Address,
        how: How,
        paired: Result<()>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let delivered = match paired {
            Ok(()) => self.begin_and_flush(to, how, observer).await,
            Err(why) => Err(why),
        };
        // The error says it.
        if !matches!(delivered, Err(Error::Stopped { .. })) {
            self.show_notices(observer)?;
        }
        delivered?;
        if how.with_code {
            self.adopt_requests(observer).await?;
            self.tell_drops(true, observer)?;
        }
        Ok(())
    }

    async fn begin_and_flush(
        &mut self,
        to: &Address,
        how: How,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if !how.with_code {
            self.ensure_session(to, how.accept_changed, observer)
                .await?;
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
        let mut behind: HashSet<Address> = HashSet::new();
        // Behind a text that waits for a code, receipts leave, and other texts wait: they stay in order.
        let mut held: HashSet<Address> = HashSet::new();
        let entries = self.vault.outbox()?;
        let texts = entries.iter().filter(|entry| entry.is_text());
        let texts: HashSet<Address> = texts.map(|entry| entry.to.clone()).collect();
        for mut entry in entries {
            let is_behind =
                behind.contains(&entry.to) || held.contains(&entry.to) && entry.is_text();
            if is_behind || self.blocked_by.contains(&entry.to) {
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
                    match error {
                        Error::WantsCode(_) => held.insert(entry.to.clone()),
                        _ => behind.insert(entry.to.clone()),
                    };
                    // Nobody waits for what nobody sees.
                    if texts.contains(&entry.to) {
                        flushed.left.insert(entry.to, error);
                    }
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
        let mut contact = None;
        if let Payload::PairAnswer { made_at } = entry.payload {
            if self.os.now_ms().abs_diff(made_at) >= ANSWER_MS {
                return self.vault.drop_outgoing(entry.id);
            }
        } else {
            let known = self.reachable(&entry.to).await?;
            let may_leave =
                known.trust.is_verified() || self.without_code.as_ref() == Some(&entry.to);
            if entry.wants_code() && !may_leave {
                return Err(Error::WantsCode(entry.to.to_string()));
            }
            if entry.sealed.is_none() {
                self.seal(entry, &known).await?;
            }
            contact = Some(known);
        }
        let Some((message_id, envelope)) = entry.sealed.clone() else {
            return Err(Error::Internal("nothing to send"));
        };
        let kind = match codec::decode::<Envelope<'_>>(&envelope) {
            // Whoever has answered once knows us: the relay's small quota for strangers is not for this.
            Ok(Envelope::First { .. })
                if self.vault.conversation(&entry.to)?.answered.is_some() =>
            {
                Kind::Message
            }
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
        let identity = contact.as_ref().and_then(|c| c.identity);
        let identity = identity.as_ref().map(identity_tag);
        self.vault
            .sent(entry, identity, self.keeps_history(), self.vault.now())?;
        crash::point("sent-marked");
        match &entry.payload {
            Payload::Note {
                id, again, text, ..
            } => tell(
                observer,
                Event::Sent {
                    peer: entry.to.clone(),
                    message_id,
                    content: *id,
                    again: *again,
                    verified: contact.is_some_and(|c| c.trust.is_verified()),
                    confirmed: false,
                    waited: (self.sending != Some(entry.id)).then(|| text.clone()),
                },
            ),
            _ => Ok(()),
        }
    }

    /// Lets the token seal an entry, with receipts that wait, and keeps the result. Without a session that seals a new one
    /// is begun first.
    async fn seal(&mut self, entry: &mut Outgoing, contact: &Contact) -> Result<()> {
        self.prepare_keys().await?;
        let identity = contact
            .identity
            .ok_or_else(|| Error::NoSession(entry.to.to_string()))?;
        let (payload, plain) = self.with_receipts(entry)?;
        let sealed = match self.token.seal(entry.to.clone(), plain.clone()).await {
            Err(Error::Token(TokenError::UnknownContact | TokenError::NoLiveSession)) => {
                self.renew(contact).await?;
                self.token.seal(entry.to.clone(), plain).await
            }
            other => other,
        }?;
        crash::point("token-sealed");
        entry.payload = payload;
        self.vault.store_envelope(
            entry,
            sealed.message_id,
            sealed.envelope,
            identity_tag(&identity),
            self.vault.now(),
        )?;
        crash::point("frame-stored");
        Ok(())
    }

    /// The payload of an entry with as many receipts as leave with it, and its encoding.
    fn with_receipts(&mut self, entry: &Outgoing) -> Result<(Payload, Zeroizing<Vec<u8>>)> {
        let mut payload = entry.payload.clone();
        let mut most = 0;
        if let Payload::Note { delivered, .. } = &payload {
            most = MAX_DELIVERED - delivered.len();
        }
        let mut waiting = self.vault.receipts_for(&entry.to, most)?;
        loop {
            let mut with = payload.clone();
            if let Payload::Note { delivered, .. } = &mut with {
                waiting.iter().for_each(|id| {
                    // As many as there is room for.
                    let _ = delivered.push(*id);
                });
            }
            let content = with.content().ok_or(Error::Internal("nothing to seal"))?;
            let mut plain = Zeroizing::new(vec![0; MAX_CONTENT]);
            if let Ok(length) = codec::encode(&content, &mut plain).map(|encoded| encoded.len()) {
                plain.truncate(length);
                drop(content);
                payload = with;
                return Ok((payload, plain));
            }
            // A long text leaves room for fewer receipts.
            if waiting.pop().is_none() {
                return Err(Error::Internal("content too long"));
            }
        }
    }

    /// Begins a session without a code if there is none; with `accept_changed` also in place of one whose identity changed.
    ///
    /// # Errors
    /// `IdentityChanged`; those of relay, token, vault.
    pub async fn ensure_session(
        &mut self,
        address: &Address,
        accept_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let contact = self.vault.contact_or_new(address)?;
        let contact = self.recheck(contact, observer).await?;
        let contact = self.with_identity(contact).await?;
        // The user may know of a change that we have not seen yet.
        let differs = accept_changed
            && contact.identity.is_some()
            && self.look_up(address).await? != contact.identity;
        match (contact.identity, contact.changed) {
            (Some(_), None) if !differs => Ok(()),
            (_, Some(_)) if !accept_changed => Err(Error::IdentityChanged(address.to_string())),
            _ => self.start_session(contact, accept_changed).await,
        }
    }

    /// Begins a session by the prekeys that lie at the contact's relay.
    pub(super) async fn start_session(
        &mut self,
        contact: Contact,
        accept_changed: bool,
    ) -> Result<()> {
        self.prepare_keys().await?;
        let address = contact.address.clone();
        let bundle = self
            .at(&address.relay())
            .await?
            .take_prekeys(address.name())
            .await?;
        self.begin_with(contact, bundle, accept_changed).await
    }

    /// Begins a session by a bundle of prekeys.
    pub(super) async fn begin_with(
        &mut self,
        mut contact: Contact,
        bundle: PrekeyBundle,
        accept_changed: bool,
    ) -> Result<()> {
        let address = contact.address.clone();
        let claimed = bundle.identity;
        // A token that lost its sessions with a contact does not know that one's identity any more.
        let known = [contact.expected, contact.identity];
        let unexpected = known.into_iter().flatten().any(|known| known != claimed);
        let latest = self.vault.now().max(self.os.now_ms()) / 1000;
        let started = if unexpected && !accept_changed {
            Err(Error::Token(TokenError::IdentityChanged))
        } else if bundle.last_resort.issued > latest.saturating_add(MAX_PREKEY_AGE) {
            // It would be used for as long as its maker's clock is wrong, and its secret is gone long before.
            Err(Error::Token(TokenError::Prekey))
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
                    self.vault.drop_questions(&address)?;
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
        self.queue_receipts()?;
        self.flush_noting(observer).await?;
        self.adopt_requests(observer).await?;
        self.tell_drops(true, observer)?;
        self.leave().await
    }

    /// Sends what is due in the course of receiving; what cannot leave is noted and stays.
    pub(super) async fn flush_noting(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let flushed = self.flush(observer).await?;
        self.told_to_stay
            .retain(|peer, _| flushed.left.contains_key(peer));
        for (peer, why) in flushed.left {
            // While its code is up it is known what these messages wait for.
            if matches!(why, Error::WantsCode(_)) && self.showing_to.as_ref() == Some(&peer) {
                continue;
            }
            let why = match why {
                Error::NoSession(_) => Stays::NoSession,
                Error::WantsCode(_) => Stays::WantsCode,
                why => Stays::Fault(Fault::from(&why)),
            };
            let told = self.told_to_stay.insert(peer.clone(), why.clone());
            if told.as_ref() != Some(&why) {
                note(observer, Note::Outbox { peer, why })?;
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

/// Whether no session can be begun with the keys that the contact has left at its relay.
fn has_no_keys(error: &Error) -> bool {
    match error {
        Error::PrekeysOld(_) => true,
        Error::RelayRefused { refusal, .. } => refusal.reason == Reason::NoPrekeys,
        _ => false,
    }
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
