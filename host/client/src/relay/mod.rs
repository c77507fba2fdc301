//! A logged-in connection to a relay.
//!
//! ```text
//!  call() ──▶ writer task ──▶ relay          calls are pipelined; replies are matched by id
//!         ◀── reader task ◀──
//!  next() ◀──────┘  deliveries, at most WINDOW at a time
//! ```
//!
//! Invariant: whatever a relay sends, memory is bounded, and a message is trusted no further than its form: who wrote
//! it and what it says is decided by the token.

mod backoff;
mod calls;
mod connection;
mod line;

pub use backoff::Backoff;
pub use connection::{Connection, Delivered, Login, Pushed};
pub use line::{Dial, Dialled, Line, Network};
