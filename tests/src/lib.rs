//! The harness of what crosses crates: real programs, a real database, real sockets.
//!
//! ```text
//!  World ── relay() ──▶ Relay (hostchat-relay)
//!    ├───── home() ───▶ Home (hostchat, software token)
//!    └───── sim() ────▶ Sim (hostchat-sim on a pseudo-terminal) ◀── home_on()
//! ```
//!
//! `simulation`, behind a feature, is another world: real clients and tokens in one thread, with virtual time.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a harness: what fails here fails the test"
)]

pub mod control;
pub mod hostile;
pub mod process;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod world;

pub use control::{Button, Control};
pub use process::{Ended, PATIENCE, Running, program};
pub use world::{Home, Relay, Sim, World, free_port};
