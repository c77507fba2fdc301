//! What happens while a command runs, for whoever watches.

use std::io;

use hostchat_core::wire::content::ContentId;
use hostchat_core::wire::{Address, MessageId};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::{Message, Notice, Request};

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// The other has to type the code.
    Code,
    /// The sender has to confirm the code that was typed here.
    Confirmation,
    /// The sender's next offer, after a wrong code.
    NextOffer,
    /// Somebody who asks.
    Request,
}

/// Something that the user may want to know.
#[derive(Debug)]
pub enum Event<'a> {
    /// A code to give to the other, never through the relay.
    Code {
        /// Who has to type it.
        peer: &'a Address,
        /// Six digits.
        code: &'a str,
        /// How long it lives.
        seconds: u64,
    },
    /// The command waits.
    Waiting {
        /// For whom, where that is known.
        peer: Option<&'a Address>,
        /// For what.
        what: WaitingFor,
    },
    /// Another code was typed than shown, or somebody is in between.
    WrongCode {
        /// The other.
        peer: &'a Address,
        /// Runs left for this code.
        runs_left: u8,
    },
    /// The one who should type our code has made a code too.
    CrossedCodes {
        /// The other.
        peer: &'a Address,
        /// Whether the other's code can be typed here, now.
        asks: bool,
        /// Of the two, this end shall type the other's code; the other waits.
        types: bool,
    },
    /// The other has typed too many codes, and can type no other for some time.
    PeerMustWait {
        /// The other.
        peer: &'a Address,
        /// Minutes, about.
        minutes: u8,
    },
    /// A pairing with a code is complete.
    Paired {
        /// The other.
        peer: &'a Address,
        /// 60 digits.
        safety_number: &'a str,
    },
    /// The relay has stored a text.
    Sent {
        /// For whom.
        peer: &'a Address,
        /// The id of its frame.
        message_id: MessageId,
        /// Its own id, which stays when it has to be sent again.
        content: ContentId,
        /// It was sent before, and no receipt came.
        again: bool,
        /// The text, if it waited in the outbox for another reason than this command.
        waited: Option<&'a str>,
        /// Whether the receiver is verified.
        verified: bool,
    },
    /// A text stays in the outbox.
    Queued {
        /// For whom.
        peer: &'a Address,
        /// Why.
        why: &'a Error,
    },
    /// A received text; the observer shows it before it returns.
    Message {
        /// The message.
        message: &'a Message,
        /// What the user calls the sender.
        name: &'a str,
        /// It may have been shown already, before a crash.
        maybe_repeat: bool,
    },
    /// Somebody asks to pair or to be heard.
    Request {
        /// The request.
        request: &'a Request,
        /// The contact is known with another identity.
        changed: bool,
    },
    /// Something that the user has to be told once.
    Notice(&'a Notice),
    /// Things of one kind that were not taken, or went.
    Counted {
        /// One word for programs.
        kind: &'static str,
        /// A sentence for people, escaped.
        text: String,
        /// How many, since it was told last.
        count: u64,
    },
    /// Anything else.
    Note {
        /// One word for programs.
        kind: &'static str,
        /// A sentence for people, escaped.
        text: String,
    },
}

/// Whoever watches a command.
pub trait Observer {
    /// Takes note of an event; for a message, shows it lastingly before it returns.
    ///
    /// # Errors
    /// Those of the output; the command ends then, and what was not shown is shown the next time.
    fn event(&mut self, event: &Event<'_>) -> io::Result<()>;

    /// Asks for the code that `peer` has made, while other things go on; `types` as in [`Event::CrossedCodes`]. `None`:
    /// nobody can be asked.
    fn ask_code(&mut self, _peer: &Address, _types: bool) -> Option<TypedCode> {
        None
    }
}

/// Comes when somebody has typed a code, or nothing.
pub type TypedCode = oneshot::Receiver<Option<Zeroizing<[u8; 6]>>>;

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn event(&mut self, _event: &Event<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// Tells the observer.
pub(super) fn tell(observer: &mut dyn Observer, event: &Event<'_>) -> Result<()> {
    observer
        .event(event)
        .map_err(|why| Error::io("cannot write the output", why))
}

/// Tells the observer something in words.
pub(crate) fn note(
    observer: &mut dyn Observer,
    kind: &'static str,
    text: impl Into<String>,
) -> Result<()> {
    tell(
        observer,
        &Event::Note {
            kind,
            text: text.into(),
        },
    )
}
