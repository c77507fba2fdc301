//! The hostchat key token: commands in, replies out.
//!
//! ```text
//!  transport (USB, pseudo-terminal, in-process) ── ToToken ──▶ App ──▶ FromToken
//!                                                              │
//!                          Env: random numbers, clock, finger ─┤
//!                          Flash: store/ (records) ── slots.rs (keys that can be destroyed)
//! ```
//!
//! No operating system, no allocation: one [`App`] over one [`Env`] runs on boards, in the simulator (`hostchat-sim`)
//! and inside the client as the software token (feature `std`, [`host`]). Feature `testing` adds a flash that loses its
//! power; it allocates.
//!
//! The caller's loop: read a frame, [`App::handle`], write the reply; send keepalives meanwhile; [`App::lock`] when the
//! host goes away.
#![no_std]

#[cfg(any(test, feature = "testing"))]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod app;
pub mod env;
pub mod flash;
#[cfg(feature = "std")]
pub mod host;
pub mod port;
pub mod presence;
pub mod random;
mod records;
mod slots;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// The tests of modules that nobody else sees, for the image that runs them on a chip.
#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
pub mod units {
    pub use crate::store::tests as store;
}

pub use app::{App, StartError};
pub use env::{Env, PresencePolicy, Touch, TouchReason, Uptime};
