//! What a face can ask of whoever holds a home, and what it gets for it.

use hostchat_core::wire::{Address, Name};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Removed;
use super::address::{hex, unhex};
use super::answer::{
    Account, BlockedEntry, Change, ContactEntry, Deleted, HistoryEntry, OutboxEntry, Peer,
    RequestEntry,
};

/// A call with its answer.
pub trait Kind: Clone + Into<Call> {
    /// What it gives.
    type Answer: Serialize + DeserializeOwned;
}

macro_rules! calls {
    ($($(#[doc = $doc:literal])+ $name:ident $fields:tt -> $answer:ty;)+) => {
        /// Everything that can be asked for.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Call {
            $($(#[doc = $doc])+ $name($name),)+
        }

        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, Serialize, Deserialize)]
            pub struct $name $fields

            impl From<$name> for Call {
                fn from(call: $name) -> Self {
                    Self::$name(call)
                }
            }

            impl Kind for $name {
                type Answer = $answer;
            }
        )+
    };
}

calls! {
    /// Gives whom the user means, who need not be a contact; a fingerprint is remembered.
    Resolve {
        /// As it was typed: a contact, a name at the own relay, or NAME@HOST:PORT[#FINGERPRINT].
        pub peer: String,
    } -> Address;
    /// Sends a text, or what waits.
    Send {
        /// For whom.
        pub to: Address,
        /// The text; without one, what waits in the outbox is sent.
        pub text: Option<Zeroizing<String>>,
        /// How.
        pub how: How,
    } -> ();
    /// Says whether a text for somebody waits in the outbox.
    HasWaiting {
        /// For whom.
        pub to: Address,
    } -> bool;
    /// Receives: until the mailbox is empty, or until it is cancelled.
    Receive {
        /// Goes on when the mailbox is empty.
        pub follow: bool,
    } -> ();
    /// Takes the right to show messages, and notes that they are about to be shown; gives those that nobody else shows.
    Showing {
        /// Their numbers.
        pub ids: Vec<i64>,
    } -> Vec<i64>;
    /// Notes that messages were shown.
    Shown {
        /// Their numbers.
        pub ids: Vec<i64>,
    } -> ();
    /// Says how things stand.
    Status {} -> super::answer::Status;
    /// Lets an account that has stopped go on.
    Resume {} -> ();
    /// Gives the own account.
    Whoami {} -> Account;
    /// Gives a public identity as text: the own one, or that of a contact.
    Export {
        /// The contact, as it was typed.
        pub peer: Option<String>,
    } -> super::answer::Export;
    /// Lists the contacts.
    Contacts {} -> Vec<ContactEntry>;
    /// Lists who asks.
    Requests {
        /// Only this one.
        pub from: Option<Address>,
        /// Its relay is asked who it is.
        pub check: bool,
    } -> Vec<RequestEntry>;
    /// Gives the number to compare with a contact.
    SafetyNumber {
        /// The contact, as it was typed.
        pub peer: String,
        /// Notes that both have seen the same.
        pub compared: bool,
    } -> super::answer::SafetyNumber;
    /// Gives a contact another name.
    Rename {
        /// The contact, as it was typed.
        pub peer: String,
        /// The name.
        pub name: String,
    } -> ContactEntry;
    /// Deletes a contact.
    Delete {
        /// The contact, as it was typed.
        pub peer: String,
        /// The messages exchanged with it too.
        pub history: bool,
    } -> Deleted;
    /// Lets the relay refuse what somebody sends, or take it again.
    Block {
        /// Whom, as it was typed.
        pub peer: String,
        /// Refuse.
        pub blocked: bool,
    } -> Address;
    /// Lists whom the relay refuses.
    Blocked {} -> Vec<BlockedEntry>;
    /// Adds a contact from an exported identity.
    Import {
        /// The text.
        pub text: String,
    } -> ContactEntry;
    /// Lists past messages, the oldest first.
    History {
        /// Only those with this one, as it was typed.
        pub peer: Option<String>,
        /// So many, the newest.
        pub last: u32,
    } -> Vec<HistoryEntry>;
    /// Lists texts that wait, or that nobody has confirmed.
    Outbox {} -> Vec<OutboxEntry>;
    /// Removes a text from the outbox.
    Remove {
        /// Its id, 32 hexadecimal digits.
        pub content: String,
    } -> Option<Removed>;
    /// Lists who is connected to the home relay.
    Who {} -> Vec<Name>;
    /// Lets others see that the account is connected, or not.
    SetVisible {
        /// They see it.
        pub visible: bool,
    } -> ();
    /// Gives who wrote the message that was shown last.
    LastSender {} -> Option<Peer>;
    /// Takes in what lies in the mailbox without showing requests; gives those who asked and have given up meanwhile.
    Collect {} -> Vec<Address>;
    /// Waits until somebody asks.
    AwaitRequest {
        /// Only this one counts.
        pub from: Option<Address>,
        /// At most.
        pub seconds: u64,
    } -> ();
    /// Says whether requests in somebody's name were dropped, since somebody else had made them.
    HasForged {
        /// In whose name.
        pub peer: Address,
    } -> bool;
    /// Answers the code of somebody, who is asked for until it is right or dead; `false` if none was given.
    AcceptCode {
        /// The request.
        pub request: i64,
        /// The user accepts that the identity has changed.
        pub accept_changed: bool,
    } -> bool;
    /// Opens what somebody has written without a code; `false` if nothing can be read yet.
    AcceptFirst {
        /// Who.
        pub from: Address,
        /// The user accepts that the identity has changed.
        pub accept_changed: bool,
    } -> bool;
    /// Accepts that the identity of a contact has changed.
    AcceptChange {
        /// Who.
        pub peer: Address,
    } -> Change;
    /// Declines what somebody asks.
    Decline {
        /// Who.
        pub from: Address,
    } -> ();
    /// Unlocks the token and opens the vault.
    Unlock {} -> ();
    /// Locks: the keys are gone from memory, and connections are closed.
    Lock {} -> ();
    /// Ends an agent.
    Stop {} -> ();
    /// Answers a question of the holder.
    Answer {
        /// Which.
        pub ask: u64,
        /// With what; nothing gives it up.
        pub answer: Option<Typed>,
    } -> ();
    /// Ends a call that goes on.
    Cancel {
        /// The number that it was made with.
        pub id: u64,
    } -> ();
}

impl Send {
    /// The text.
    #[must_use]
    pub fn text_str(&self) -> Option<&str> {
        self.text.as_ref().map(|text| text.as_str())
    }
}

impl Call {
    /// Whether it needs the relay, so that connecting to it may begin at once.
    #[must_use]
    pub fn needs_relay(&self) -> bool {
        matches!(
            self,
            Self::Send(_)
                | Self::Unlock(_)
                | Self::Receive(_)
                | Self::Resume(_)
                | Self::Block(_)
                | Self::Blocked(_)
                | Self::Who(_)
                | Self::SetVisible(_)
                | Self::Collect(_)
                | Self::AwaitRequest(_)
                | Self::AcceptCode(_)
                | Self::AcceptFirst(_)
                | Self::AcceptChange(_)
        )
    }
}

/// What somebody has typed: text, or bytes that are none.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Typed {
    /// Text.
    Text(Zeroizing<String>),
    /// Bytes.
    Hex {
        /// Two hexadecimal digits each.
        hex: Zeroizing<String>,
    },
}

impl Typed {
    /// What was typed.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(Zeroizing::new(text.into())),
            Err(_) => Self::Hex {
                hex: Zeroizing::new(hex(bytes)),
            },
        }
    }

    /// The bytes; `None` for digits that are none.
    #[must_use]
    pub fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = match self {
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Hex { hex } => {
                let pairs = hex.as_bytes().chunks(2);
                let byte = |pair: &[u8]| unhex::<1>(std::str::from_utf8(pair).ok()?);
                pairs.map(|pair| byte(pair).map(|[byte]| byte)).collect()
            }
        };
        bytes.map(Zeroizing::new)
    }
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(..)")
    }
}

/// How a text is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// Pair with a one-time code first.
    pub with_code: bool,
    /// Send what waits for a code without one.
    pub without_code: bool,
    /// The user accepts that the contact's identity has changed.
    pub accept_changed: bool,
}

/// A question of the holder, to the face whose call needs the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Ask {
    /// The PIN or passphrase.
    Pin {
        /// Of a hardware token.
        hardware: bool,
        /// What was given before was wrong.
        again: bool,
    },
    /// The code of somebody who asks to pair.
    Code {
        /// Who.
        peer: Address,
    },
    /// The code that the peer has made, while the own one is shown.
    CrossedCode {
        /// Who.
        peer: Address,
        /// Of the two, this end shall type the other's code.
        types: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_typed_comes_back_and_shows_in_no_log() {
        for bytes in [b"a long passphrase".as_slice(), b"", b"caf\xe9", &[0, 255]] {
            let typed = Typed::of(bytes);
            let text = serde_json::to_string(&typed).unwrap();
            let back: Typed = serde_json::from_str(&text).unwrap();
            assert_eq!(back.bytes().unwrap().as_slice(), bytes, "{text}");
            assert_eq!(format!("{typed:?}"), "Typed(..)");
        }
        let odd: Typed = serde_json::from_str(r#"{"hex":"0g"}"#).unwrap();
        assert!(odd.bytes().is_none());
    }
}
