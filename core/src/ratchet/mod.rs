//! The double ratchet: one session between two identities.
//!
//! ```text
//!  root key ──X25519──▶ root key ──X25519──▶ root key          a step for each change of direction
//!      │                    │                    │
//!   chain key            chain key            chain key ──HMAC──▶ chain key ──HMAC──▶ ...
//!      │                    │                    │                    │
//!   message key          message key          message key          message key ──HKDF(message id)──▶ SIV key
//! ```
//!
//! Invariant: **nothing that was not authenticated changes a session.** [`Session::open`] computes the next
//! state beside the present one, and the caller replaces the one by the other at its commit:
//!
//! ```text
//!  session.open(&mut next, frame, &mut plain)?;   // session is as before, whatever the frame
//!  host.keep(&plain);                             // durable
//!  next.store(..);                                // the commit
//! ```
//!
//! A session starts as Olm's does: the initiator's first chain is the chain key of the handshake, under a
//! fresh ratchet key; the responder exists only once it opened a frame of that chain, and its first
//! seal makes a fresh ratchet key and the first Diffie-Hellman step. SPEC section 9.

mod chain;
mod prefix;
mod root;
mod session;
mod skipped;
mod store;

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
pub use skipped::tests as skipped_tests;

pub use chain::MAX_JUMP;
pub use session::{Opened, Plaintext, Session};
pub use skipped::{MAX_SKIPPED, MAX_SKIPPED_STEPS};
pub use store::MAX_STORED;

pub(crate) use chain::ChainKey;
pub(crate) use prefix::Prefix;
pub(crate) use root::RootKey;
pub(crate) use store::{Reader, Writer};
