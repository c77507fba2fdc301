//! Store and forward for hostchat: sees addresses, sizes and times, never a plaintext or a key.
//!
//! ```text
//!   TCP ── TLS 1.3 ── HTTP head ─┬─ GET /healthz ──▶ 200 while the store answers
//!                                └─ WebSocket ──▶ login ──▶ connection ──▶ writer thread (one, group commit) ──▶ SQLite
//!                                                              ▲                │ after COMMIT
//!                                                              └──── hub ◀──────┘ deliveries, straight from memory
//! ```
//!
//! One invariant holds everywhere: **`Stored` is answered only after the transaction that holds the message has been
//! committed with a full sync**, and a message is deleted only on its receiver's acknowledgement or on expiry. On NATS,
//! `Stored` means that most servers have it; see [`store::nats`].
//!
//! ```no_run
//! # async fn example() -> Result<(), hostchat_relay::Error> {
//! let config = hostchat_relay::Config::load(std::path::Path::new("r"))?;
//! let listener = tokio::net::TcpListener::bind(config.listen).await?;
//! hostchat_relay::run(config, listener, async { let _ = tokio::signal::ctrl_c().await; }).await
//! # }
//! ```

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod limits;
pub mod metrics;
pub mod store;
pub mod tls;

mod blobs;
mod bucket;
mod calls;
mod connection;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod history;
mod http;
mod hub;
mod inbox;
mod invitation;
mod logging;
mod login;
mod memory;
mod notices;
mod operator;
mod rates;
mod seats;
mod server;
mod socket;
mod web;
mod words;

pub use config::{Audit, Config, Registration, Storage};
pub use error::Error;
pub use limits::{Limits, Rate};
pub use memory::harden;
pub use server::{Server, run};

/// Locks `mutex`; a panic elsewhere does not stop the relay, since no lock here is held across a change in steps.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
