//! How bytes reach a token or a relay.
//!
//! ```text
//!  token::Driver ── trait Link ──┬── memory: the token application inside this process
//!                                └── serial: COBS frames on a port, which usb finds
//!  relay::Connection ──────────── websocket over TLS 1.3
//! ```

mod holder;
pub mod memory;
mod proxy;
pub mod serial;
pub mod tls;
pub mod usb;
pub mod websocket;
pub(crate) mod words;

use std::os::fd::BorrowedFd;

use hostchat_core::icd::{Activity, MAX_LINK};

use crate::error::{Holder, Result};

/// One encoded message of the host-token link.
pub type LinkBuffer = heapless::Vec<u8, MAX_LINK>;

/// A way to a token: one request under way at a time.
pub trait Link {
    /// Sends an encoded [`hostchat_core::icd::ToToken`] and waits for the encoded answer to it.
    ///
    /// Signs of life go to `alive`; when it returns `true` the touch that is waited for is given up.
    ///
    /// # Errors
    /// `TokenSilent`, `TokenStuck`, `TokenUnplugged`, `NotAToken`.
    fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut LinkBuffer,
        alive: &mut dyn FnMut(Option<Activity>) -> bool,
    ) -> Result<()>;

    /// What it is called in messages: `the software token` or the port's path.
    fn describe(&self) -> &str;

    /// What becomes readable when the token goes away, if it can.
    fn port(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Passes over what came while nothing was asked.
    ///
    /// # Errors
    /// `TokenUnplugged`.
    fn idle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Another program that may take what the token says, or mix in.
    fn also_open(&self) -> Option<Holder> {
        None
    }
}
