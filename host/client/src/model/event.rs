//! What happens to an account, for whoever shows it: owned values with stable names.
//!
//! The names of fields and variants are those of `--json`, and may only be added to.

use hostchat_core::wire::content::ContentId;
use hostchat_core::wire::{Address, MessageId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::address::{hex, unhex};
use super::{Asked, Message, Note, Request, What};
use crate::error::Fault;

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitingFor {
    /// The other has to type the code.
    #[serde(rename = "code")]
    Code,
    /// The sender has to confirm the code that was typed here.
    #[serde(rename = "confirmation")]
    Confirmation,
    /// The sender's next offer, after a wrong code.
    #[serde(rename = "next offer")]
    NextOffer,
    /// Somebody who asks.
    #[serde(rename = "request")]
    Request,
}

/// Something that the user may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A code to give to the other, never through the relay.
    Code {
        /// Who has to type it.
        peer: Address,
        /// Six digits.
        code: Zeroizing<String>,
        /// How long it lives.
        seconds: u64,
    },
    /// The command waits.
    Waiting {
        /// For whom, where that is known.
        peer: Option<Address>,
        /// For what.
        #[serde(rename = "for")]
        what: WaitingFor,
    },
    /// Another code was typed than shown, or somebody is in between.
    WrongCode {
        /// The other.
        peer: Address,
        /// Runs left for this code.
        runs_left: u8,
    },
    /// The one who should type our code has made a code too.
    CrossedCodes {
        /// The other.
        peer: Address,
        /// Whether the other's code can be typed here, now.
        asks: bool,
        /// Of the two, this end shall type the other's code; the other waits.
        types: bool,
    },
    /// The other has typed too many codes, and can type no other for some time.
    PeerMustWait {
        /// The other.
        peer: Address,
        /// Minutes, about.
        minutes: u8,
    },
    /// A pairing with a code is complete.
    Paired {
        /// The other.
        peer: Address,
        /// Always true: a code verifies.
        verified: bool,
        /// 60 digits.
        safety_number: String,
    },
    /// The relay has stored a text.
    Sent {
        /// For whom.
        peer: Address,
        /// The id of its frame.
        #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
        message_id: MessageId,
        /// Its own id, which stays when it has to be sent again.
        #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
        content: ContentId,
        /// It was sent before, and no receipt came.
        again: bool,
        /// Whether the receiver is verified.
        verified: bool,
        /// Always false: the receiver's receipt comes later.
        confirmed: bool,
        /// The text, if it waited in the outbox for another reason than this command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited: Option<Zeroizing<String>>,
    },
    /// A text stays in the outbox.
    Queued {
        /// For whom.
        peer: Address,
        /// Why.
        fault: Fault,
    },
    /// A received text.
    Message(MessageEvent),
    /// Somebody asks to pair or to be heard.
    Request(RequestEvent),
    /// Something in words.
    Note(Note),
}

/// A received text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEvent {
    /// Number in this vault.
    pub id: i64,
    /// Who wrote it.
    pub peer: Address,
    /// What the user calls the sender.
    pub name: String,
    /// The text; anything, from the sender. Empty if it cannot be shown.
    pub text: Zeroizing<String>,
    /// It is of a kind that this version does not know.
    pub unknown: bool,
    /// By the sender's clock, milliseconds since 1970: a claim.
    pub sent_at: u64,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// By the relay's clock, milliseconds since 1970; 0 if that is not known.
    pub stored_at: u64,
    /// The id of its frame.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub message_id: MessageId,
    /// Whether its sender was verified when it came.
    pub verified: bool,
    /// Messages that were missing before it, in vaults of format 1.
    pub missing: u32,
    /// It may have been shown already, before a crash.
    pub maybe_repeat: bool,
}

impl MessageEvent {
    /// A message of the history, as it is told.
    #[must_use]
    pub fn new(message: &Message, name: &str, maybe_repeat: bool) -> Self {
        let unknown = message.what == What::Unknown;
        Self {
            id: message.id,
            peer: message.peer.clone(),
            name: name.into(),
            text: if unknown {
                Zeroizing::default()
            } else {
                message.text.clone()
            },
            unknown,
            sent_at: message.sent_at,
            received_at: message.received_at,
            stored_at: message.stored_at,
            message_id: message.message_id,
            verified: message.verified,
            missing: message.missing,
            maybe_repeat,
        }
    }

    /// The time by which messages are ordered, milliseconds since 1970.
    #[must_use]
    pub fn ordered_at(&self) -> u64 {
        match self.stored_at {
            0 => self.received_at,
            stored_at => stored_at,
        }
    }
}

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEvent {
    /// Who.
    pub peer: Address,
    /// For what.
    pub kind: RequestKind,
    /// The contact is known with another identity.
    pub changed: bool,
    /// The relay of `peer` says that the identity is right.
    pub checked: bool,
    /// Of the identity, 64 hexadecimal digits.
    pub fingerprint: String,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// By the clock of our relay, milliseconds since 1970.
    pub stored_at: u64,
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// That a code is typed.
    Code,
    /// To be heard: a first message without a code.
    First,
}

impl RequestEvent {
    /// A request, as it is told; `changed` if the contact is known with another identity.
    #[must_use]
    pub fn new(request: &Request, changed: bool) -> Self {
        let identity = request.identity.verify().ok();
        Self {
            peer: request.from.clone(),
            kind: match request.asked {
                Asked::Code { .. } => RequestKind::Code,
                Asked::First => RequestKind::First,
            },
            changed,
            checked: request.checked,
            fingerprint: identity.map_or_else(String::new, |i| hex(&i.fingerprint())),
            received_at: request.received_at,
            stored_at: request.stored_at,
        }
    }
}

fn to_hex<S: Serializer>(bytes: &MessageId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(&bytes.0))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MessageId, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = unhex(&text).ok_or_else(|| serde::de::Error::custom("32 digits are expected"))?;
    Ok(hostchat_core::wire::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hostchat_core::wire::RelayName;

    use super::*;
    use crate::error::Error;
    use crate::model::{Held, Names, Stays, Useless};

    fn peer() -> Address {
        Address::parse("alice@h:1").unwrap()
    }

    #[test]
    fn events_come_back_from_their_json() {
        let fault = Fault::from(&Error::CodeExpired);
        let relay = RelayName::parse("h:1").unwrap();
        let notes = [
            Note::KeysOld { since: 1 },
            Note::RegisteredAgain,
            Note::Dropped {
                why: Useless::Held(Held::Fault(fault.clone())),
                names: Names {
                    names: vec![peer()],
                    more: true,
                },
                count: 3,
            },
            Note::Log { relay, days: 7 },
            Note::Outbox {
                peer: peer(),
                why: Stays::WantsCode,
            },
            Note::Permissions {
                path: PathBuf::from("/home/alice"),
                mode: 0o777,
                closed: false,
            },
            Note::Reconnecting {
                fault: fault.clone(),
            },
        ];
        let others = [
            Event::Waiting {
                peer: None,
                what: WaitingFor::NextOffer,
            },
            Event::Sent {
                peer: peer(),
                message_id: hostchat_core::wire::Bytes([7; 16]),
                content: hostchat_core::wire::Bytes([8; 16]),
                again: false,
                verified: true,
                confirmed: false,
                waited: Some(Zeroizing::new("\u{202e}text\n".into())),
            },
            Event::Queued {
                peer: peer(),
                fault,
            },
        ];
        for event in notes.map(Event::Note).into_iter().chain(others) {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(
                serde_json::from_str::<Event>(&text).unwrap(),
                event,
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_events_stay() {
        let event = Event::Note(Note::AskedAgain {
            peer: peer(),
            count: 2,
        });
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"note","kind":"asked_again","peer":"alice@h:1","count":2}"#
        );
        let event = Event::Waiting {
            peer: Some(peer()),
            what: WaitingFor::Code,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"waiting","peer":"alice@h:1","for":"code"}"#
        );
    }
}
