//! What people see: everything that clients tell their users, in order.

use std::io;

use hostchat::agent::Observer;
use hostchat::model::{Event, Note};

/// Something that somebody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Whose client.
    pub who: String,
    /// Which copy of their home.
    pub copy: usize,
    /// What.
    pub what: What,
}

/// What somebody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A text that came.
    Text {
        /// Whose.
        from: String,
        /// The text.
        text: String,
        /// It says that it may be a repeat.
        maybe_repeat: bool,
    },
    /// A text was stored at the relay.
    Sent {
        /// For whom.
        to: String,
    },
    /// A text stays in the outbox.
    Queued {
        /// For whom.
        to: String,
        /// Why.
        why: String,
    },
    /// Somebody asks.
    Request {
        /// Who.
        from: String,
    },
    /// A pairing is complete.
    Paired {
        /// With whom.
        peer: String,
    },
    /// Six digits.
    Code(String),
    /// What is told in words.
    Note(Note),
    /// Anything else, as its debug text.
    Other(String),
}

/// Writes down what a command tells.
#[derive(Default)]
pub(super) struct Watcher(pub(super) Vec<What>);

impl Observer for Watcher {
    fn event(&mut self, event: Event) -> io::Result<()> {
        let name = |address: &hostchat_core::wire::Address| address.name().to_string();
        self.0.push(match event {
            Event::Message(message) => What::Text {
                from: name(&message.peer),
                text: message.text.to_string(),
                maybe_repeat: message.maybe_repeat,
            },
            Event::Sent { peer, .. } => What::Sent { to: name(&peer) },
            Event::Queued { peer, fault } => What::Queued {
                to: name(&peer),
                why: fault.message,
            },
            Event::Request(request) => What::Request {
                from: name(&request.peer),
            },
            Event::Paired { peer, .. } => What::Paired { peer: name(&peer) },
            Event::Code { code, .. } => What::Code(code.to_string()),
            Event::Note(note) => What::Note(note),
            other => What::Other(format!("{other:?}")),
        });
        Ok(())
    }
}
