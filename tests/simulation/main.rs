//! Histories on the real core, token application and client, in one thread and in virtual time.
//!
//! `cargo test -p hostchat-tests --features simulation --test simulation`; a failed history names its seed.

mod world;
