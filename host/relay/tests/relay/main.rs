//! The relay from outside: real TLS, real WebSockets, a real database, and clients that do not always behave.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]
#![expect(unreachable_pub, reason = "a test has no outside")]

mod admin;
mod admission;
mod audit;
mod blob_store;
mod blobs;
mod blocks;
mod browser;
mod client;
mod cluster;
mod configuration;
mod desk;
mod durability;
mod failover;
mod flips;
mod generations;
mod golden;
mod harness;
mod hostile;
mod init;
mod injection;
mod limits;
mod login;
mod mailbox;
mod memory;
mod migrate;
mod nats;
mod nats_tls;
mod network;
mod operator;
mod page;
mod prekeys;
mod presence;
mod program;
mod store;
mod upkeep;
mod web;
