//! The agent: whoever holds a home, and the faces that share it.
//!
//! ```text
//!  face ─▶ Handle ─▶ hub ─▶ engine ─▶ token, vault, relay
//! ```

mod engine;
mod handle;
mod hub;
mod protocol;
mod socket;

pub use engine::*;
pub use handle::Handle;
pub use hub::{Manners, Out};
