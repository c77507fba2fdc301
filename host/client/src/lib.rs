//! The hostchat client: everything that the `hostchat` program does, as a library.
//!
//! ```text
//!  cli (one file per command)
//!   │  calls, answers, events: in this process, or over the socket of whoever holds the home
//!   ▼
//!  agent::Handle ─▶ hub ─▶ engine (Client) ──┬── token::Token ──▶ transport::{memory, serial}     keys, sessions: never here
//!                                            ├── vault::Vault                                     sealed contacts, history, outbox
//!                                            └── relay::{Dial, Connection} ──▶ transport::websocket   mailboxes, prekeys
//!  model                                      values that all of them say to each other
//! ```
//! `cargo xtask check` holds which folder may name which.
//!
//! One invariant: **what is acknowledged is on disk first, and what is on disk is shown once.** A crash at any point
//! loses nothing that a relay or a peer was told to be safe, and no message key is used twice.

pub mod agent;
pub mod cli;

pub mod crash;
pub mod error;
pub mod escape;
pub mod home;
pub mod model;
pub mod os;
pub mod relay;
pub mod token;
pub mod transport;
pub mod vault;

pub use agent::{Client, Observer, Options};
pub use error::{Error, Result};
