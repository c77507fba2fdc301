//! The agent: whatever acts for an account, below the faces that show it.

mod engine;

pub use engine::*;
