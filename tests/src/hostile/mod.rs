//! A relay whose operator is the adversary, and everything that such a relay can think of.
//!
//! ```text
//!  hostchat ══ TLS, pinned to this very relay ══▶ server ──▶ state: accounts, prekeys, mailboxes in memory
//!                                                   │ asks, before anything is kept or answered
//!                                                   ▼
//!                                               Adversary: mail, binding, bundle, reply
//!                                        (alter: every field of every message; mallory: a peer of its own)
//! ```
//!
//! Without hooks it behaves as an honest relay does, except that it stores repeats twice: so a test shows first
//! that the way is open, then attacks, then takes the hooks away and shows that nothing was lost.

pub mod alter;
pub mod caller;
pub mod device;
pub mod hooks;
pub mod mallory;
mod server;
mod state;

pub use caller::Caller;
pub use device::{Device, Received};
pub use hooks::{Adversary, Call, Frame, Mail, Outgoing, event};
pub use mallory::Mallory;
pub use server::HostileRelay;
pub use state::State;
