//! The commands of an unlocked token, one method each, with owned arguments and answers.

use hostchat_core::icd::{
    Answered, Command, ContactInfo, Generations, Log, Offered, OpenedKind, Reply, SessionInfo,
    Status,
};
use hostchat_core::wire::{
    Account, Address, Bytes, Generation, IdentityClaim, MessageId, PairAnswer, PairOffer, Prekey,
    PrekeyBundle, PrekeyKind, PrekeyRef, RelayName, SessionId,
};
use zeroize::Zeroizing;

use super::Token;
use crate::error::{Error, Result};
use crate::model::Pin;
use hostchat_core::icd::Hello;

hostchat_core::secret! {
    /// Key under which the host seals its own store.
    pub struct StorageKey(32);
}

/// Which prekeys a token keeps, or a relay has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prekeys {
    /// One-time prekeys.
    pub one_time: Vec<PrekeyRef>,
    /// The last-resort prekey in use.
    pub last_resort: Option<PrekeyRef>,
    /// Last-resort prekeys of before that still open; only a token has them.
    pub older: Vec<PrekeyRef>,
}

impl Prekeys {
    /// Whether a last-resort prekey still opens first messages.
    #[must_use]
    pub fn has_last_resort(&self, id: u32) -> bool {
        let mut live = self.last_resort.iter().chain(&self.older);
        live.any(|key| key.id == id)
    }
}

/// A sealed message, ready for a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedMessage {
    /// In clear in the frame as well.
    pub message_id: MessageId,
    /// An encoded envelope.
    pub envelope: Vec<u8>,
}

/// An opened, uncommitted message.
pub struct OpenedMessage {
    /// How it came to be.
    pub kind: OpenedKind,
    /// For the commit.
    pub hash: Bytes<32>,
    /// Who wrote it: authenticated.
    pub peer: Address,
    /// The writer's identity: authenticated.
    pub identity: IdentityClaim,
    /// Whether the contact is verified by a code.
    pub verified: bool,
    /// In clear in the frame as well.
    pub message_id: MessageId,
    /// Messages still missing before this one.
    pub missing: u32,
    /// Whether the other still waits for a first reply.
    pub reply_due: bool,
    /// The content; wiped when dropped.
    pub content: Zeroizing<Vec<u8>>,
}

impl Token {
    /// Asks the token who it is.
    ///
    /// # Errors
    /// As [`super::Driver::hello`].
    pub async fn hello(&self) -> Result<Hello> {
        self.call(|driver| driver.hello()).await
    }

    /// Unlocks.
    ///
    /// # Errors
    /// As [`super::Driver::unlock`].
    pub async fn unlock(&self, pin: Pin) -> Result<Hello> {
        self.call(move |driver| driver.unlock(&pin)).await
    }

    /// Initialises.
    ///
    /// # Errors
    /// As [`super::Driver::initialise`].
    pub async fn initialise(&self, pin: Pin) -> Result<Hello> {
        self.call(move |driver| driver.initialise(&pin)).await
    }

    /// Sets a new PIN.
    ///
    /// # Errors
    /// As [`super::Driver::change_pin`].
    pub async fn change_pin(&self, old: Pin, new: Pin) -> Result<()> {
        self.call(move |driver| driver.change_pin(&old, &new)).await
    }

    /// Locks.
    ///
    /// # Errors
    /// As [`super::Driver::lock`].
    pub async fn lock(&self) -> Result<()> {
        self.call(super::Driver::lock).await
    }

    /// Erases everything without a PIN.
    ///
    /// # Errors
    /// As [`super::Driver::reset`].
    pub async fn reset(&self) -> Result<()> {
        self.call(|driver| driver.reset()).await
    }

    /// Erases all keys of an unlocked token.
    ///
    /// # Errors
    /// `NoTouch`; those of the link.
    pub async fn wipe(&self) -> Result<()> {
        self.call(|driver| driver.done(&Command::Wipe)).await
    }

    /// Counters for people.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn status(&self) -> Result<Status> {
        self.call(|driver| {
            driver.command(&Command::Status, |reply| match reply {
                Reply::Status(status) => Some(status),
                _ => None,
            })
        })
        .await
    }

    /// What the token was asked since the power came on.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn log(&self) -> Result<Log> {
        self.call(|driver| {
            driver.command(&Command::Log, |reply| match reply {
                Reply::Log(log) => Some(log),
                _ => None,
            })
        })
        .await
    }

    /// The own public identity.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn identity(&self) -> Result<IdentityClaim> {
        self.call(|driver| {
            driver.command(&Command::Identity, |reply| match reply {
                Reply::Identity(identity) => Some(identity),
                _ => None,
            })
        })
        .await
    }

    /// The key that seals the host's own store.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn storage_key(&self) -> Result<StorageKey> {
        self.call(|driver| {
            driver.command(&Command::StorageKey, |reply| match reply {
                Reply::StorageKey(key) => Some(StorageKey::from_bytes(key.0)),
                _ => None,
            })
        })
        .await
    }

    /// Signs a login.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn login(
        &self,
        account: Account,
        dialled: RelayName,
        challenge: Bytes<32>,
        exporter: Bytes<32>,
    ) -> Result<Bytes<64>> {
        self.call(move |driver| {
            driver.command(
                &Command::Login {
                    account,
                    dialled,
                    challenge,
                    exporter,
                },
                |reply| match reply {
                    Reply::Signature(signature) => Some(signature),
                    _ => None,
                },
            )
        })
        .await
    }

    /// Makes and keeps a prekey.
    ///
    /// # Errors
    /// `Token(PrekeysFull)`; those of the link.
    pub async fn new_prekey(&self, kind: PrekeyKind) -> Result<Prekey> {
        self.call(move |driver| {
            driver.command(
                &Command::NewPrekey {
                    kind,
                    now: driver.os.now_s(),
                },
                |reply| match reply {
                    Reply::Prekey(prekey) => Some(prekey),
                    _ => None,
                },
            )
        })
        .await
    }

    /// The generation of its keys.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn generations(&self) -> Result<Generations> {
        self.call(|driver| {
            driver.command(&Command::Generations, |reply| match reply {
                Reply::Generations(generations) => Some(generations),
                _ => None,
            })
        })
        .await
    }

    /// Notes the generation that is about to be asked for.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn plan_generation(&self, next: Generation) -> Result<()> {
        self.call(move |driver| driver.done(&Command::PlanGeneration { next }))
            .await
    }

    /// Makes a generation the current one; with `supersede` all sessions only open from now on.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn adopt_generation(&self, current: Generation, supersede: bool) -> Result<()> {
        self.call(move |driver| driver.done(&Command::AdoptGeneration { current, supersede }))
            .await
    }

    /// Which prekeys it keeps.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn prekeys(&self) -> Result<Prekeys> {
        self.call(|driver| {
            driver.command(&Command::Prekeys, |reply| match reply {
                Reply::Prekeys {
                    one_time,
                    mut last_resort,
                } => Some(Prekeys {
                    one_time: one_time.to_vec(),
                    last_resort: last_resort.pop(),
                    older: last_resort.to_vec(),
                }),
                _ => None,
            })
        })
        .await
    }

    /// Deletes all one-time prekeys.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn drop_prekeys(&self) -> Result<()> {
        self.call(|driver| driver.done(&Command::DropPrekeys)).await
    }

    /// Deletes a one-time prekey.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn forget_prekey(&self, id: u32) -> Result<()> {
        self.call(move |driver| driver.done(&Command::ForgetPrekey { id }))
            .await
    }

    /// The sessions of a contact, by birth.
    ///
    /// # Errors
    /// `Token(UnknownContact)`; those of the link.
    pub async fn sessions(&self, peer: Address) -> Result<Vec<SessionInfo>> {
        self.call(move |driver| {
            driver.command(&Command::Sessions { peer }, |reply| match reply {
                Reply::Sessions(sessions) => Some(sessions.to_vec()),
                _ => None,
            })
        })
        .await
    }

    /// The contact of a session.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn find_contact(&self, session: SessionId) -> Result<Option<ContactInfo>> {
        self.call(move |driver| {
            driver.command(&Command::FindContact { session }, |reply| match reply {
                Reply::Contact(contact) => Some(contact),
                _ => None,
            })
        })
        .await
    }

    /// Draws a code.
    ///
    /// # Errors
    /// `NoTouch`; those of the link.
    pub async fn pair_begin(
        &self,
        own: Address,
        peer: Address,
        accept_changed: bool,
    ) -> Result<Zeroizing<[u8; 6]>> {
        self.call(move |driver| {
            driver.command(
                &Command::PairBegin {
                    own,
                    peer,
                    accept_changed,
                },
                |reply| match reply {
                    Reply::Code(code) => Some(Zeroizing::new(code.0)),
                    _ => None,
                },
            )
        })
        .await
    }

    /// Starts a run: message 1.
    ///
    /// # Errors
    /// `CodeExpired`; those of the link.
    pub async fn pair_offer(&self) -> Result<Offered> {
        self.call(|driver| {
            driver.command(&Command::PairOffer, |reply| match reply {
                Reply::Offered(offered) => Some(offered),
                _ => None,
            })
        })
        .await
    }

    /// Takes message 2 of the run.
    ///
    /// # Errors
    /// `WrongCode`, `CodeDead`, `CodeExpired`, `Token(IdentityChanged)`; those of the link.
    pub async fn pair_confirm(&self, answer: PairAnswer) -> Result<(IdentityClaim, SessionId)> {
        self.call(move |driver| driver.command(&Command::PairConfirm { answer }, established))
            .await
    }

    /// Forgets the code.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn pair_end(&self) -> Result<()> {
        self.call(|driver| driver.done(&Command::PairEnd)).await
    }

    /// Answers message 1 with the code that the user typed.
    ///
    /// # Errors
    /// `TooManyAnswers`, `NoTouch`, `Token(IdentityChanged)`, ...; those of the link.
    pub async fn pair_answer(
        &self,
        own: Address,
        offer: PairOffer,
        code: Zeroizing<[u8; 6]>,
        accept_changed: bool,
    ) -> Result<Answered> {
        self.call(move |driver| {
            let command = Command::PairAnswer {
                own,
                offer,
                code: Bytes(*code),
                accept_changed,
            };
            driver.command(&command, |reply| match reply {
                Reply::Answered(answered) => Some(answered),
                _ => None,
            })
        })
        .await
    }

    /// Begins a session without a code.
    ///
    /// # Errors
    /// `Token(IdentityChanged)`, `Token(Prekey)`, `Token(Authentication)`, ...; those of the link.
    pub async fn start(
        &self,
        own: Address,
        peer: Address,
        bundle: PrekeyBundle,
        accept_changed: bool,
    ) -> Result<(IdentityClaim, SessionId)> {
        self.call(move |driver| {
            driver.command(
                &Command::Start {
                    own,
                    peer,
                    bundle,
                    now: driver.os.now_s(),
                    accept_changed,
                },
                established,
            )
        })
        .await
    }

    /// Seals content for a contact.
    ///
    /// # Errors
    /// `Token(UnknownContact)`; those of the link.
    pub async fn seal(&self, peer: Address, content: Zeroizing<Vec<u8>>) -> Result<SealedMessage> {
        self.call(move |driver| {
            driver.command(
                &Command::Seal {
                    peer,
                    content: &content,
                },
                |reply| match reply {
                    Reply::Sealed {
                        message_id,
                        envelope,
                    } => Some(SealedMessage {
                        message_id,
                        envelope: envelope.to_vec(),
                    }),
                    _ => None,
                },
            )
        })
        .await
    }

    /// Opens an envelope that carries a frame; writes nothing.
    ///
    /// # Errors
    /// What the token refuses; those of the link.
    pub async fn open_message(
        &self,
        own: Address,
        envelope: Vec<u8>,
        accept_changed: bool,
    ) -> Result<OpenedMessage> {
        self.call(move |driver| {
            driver.command(
                &Command::Open {
                    own,
                    envelope: &envelope,
                    accept_changed,
                },
                |reply| match reply {
                    Reply::Opened(opened) => Some(OpenedMessage {
                        kind: opened.kind,
                        hash: opened.hash,
                        peer: opened.peer,
                        identity: opened.identity,
                        verified: opened.verified,
                        message_id: opened.message_id,
                        missing: opened.missing,
                        reply_due: opened.reply_due,
                        content: Zeroizing::new(opened.content.to_vec()),
                    }),
                    _ => None,
                },
            )
        })
        .await
    }

    /// Makes the uncommitted open lasting.
    ///
    /// # Errors
    /// `Token(NothingToCommit)`; those of the link.
    pub async fn commit(&self, hash: Bytes<32>) -> Result<()> {
        self.call(move |driver| driver.done(&Command::Commit { hash }))
            .await
    }

    /// Forgets the uncommitted open.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn discard(&self) -> Result<()> {
        self.call(|driver| driver.done(&Command::Discard)).await
    }

    /// What the token knows about the contact at `address`.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn contact(&self, address: Address) -> Result<Option<ContactInfo>> {
        let contacts = self.contacts().await?;
        Ok(contacts.into_iter().find(|c| c.address == address))
    }

    /// All contacts that the token has sessions with.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn contacts(&self) -> Result<Vec<ContactInfo>> {
        self.call(|driver| {
            let (mut contacts, mut after) = (Vec::new(), None);
            // A token that never comes to an end is none.
            while contacts.len() <= usize::from(u16::MAX) {
                let next =
                    driver.command(&Command::NextContact { after }, |reply| match reply {
                        Reply::Contact(contact) => Some(contact),
                        _ => None,
                    })?;
                let Some(contact) = next else { break };
                after = Some(contact.address.clone());
                contacts.push(contact);
            }
            Ok(contacts)
        })
        .await
    }

    /// Deletes all sessions of a contact; one that the token does not know is no error.
    ///
    /// # Errors
    /// Those of the link.
    pub async fn forget(&self, peer: Address) -> Result<()> {
        match self
            .call(move |driver| driver.done(&Command::Forget { peer }))
            .await
        {
            Err(Error::Token(hostchat_core::icd::TokenError::UnknownContact)) => Ok(()),
            other => other,
        }
    }
}

fn established(reply: Reply<'_>) -> Option<(IdentityClaim, SessionId)> {
    match reply {
        Reply::Established { peer, session } => Some((peer, session)),
        _ => None,
    }
}
