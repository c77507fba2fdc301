//! Whoever watches a command.

use std::io;

use hostchat_core::wire::Address;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::{Event, Note};

/// Whoever watches a command.
pub trait Observer {
    /// Takes note of an event; for a message, shows it lastingly before it returns.
    ///
    /// # Errors
    /// Those of the output; the command ends then, and what was not shown is shown the next time.
    fn event(&mut self, event: Event) -> io::Result<()>;

    /// Messages are shown by and by, with [`Client::showing`] and [`Client::shown`], and not by [`Self::event`].
    ///
    /// [`Client::showing`]: super::Client::showing
    /// [`Client::shown`]: super::Client::shown
    fn shows_later(&self) -> bool {
        false
    }

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
    fn event(&mut self, _event: Event) -> io::Result<()> {
        Ok(())
    }
}

/// Tells the observer.
pub(super) fn tell(observer: &mut dyn Observer, event: Event) -> Result<()> {
    observer
        .event(event)
        .map_err(|why| Error::io("cannot write the output", why))
}

/// Tells the observer something in words.
pub(crate) fn note(observer: &mut dyn Observer, note: Note) -> Result<()> {
    tell(observer, Event::Note(note))
}
