//! The token as its host sees it: whole conversations, power cuts, random commands, stored images.
//!
//! Counts can be set: `HOSTCHAT_SEQUENCES` (random command sequences), `HOSTCHAT_CUTS` (cuts at every n-th flash operation
//! instead of every one).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

mod contacts;
mod conversation;
mod golden;
mod limits;
mod pin;
mod power;
mod presence;
mod support;
mod wear;
