//! Pairing with a one-time code: the end that shows it, the end that types it, and both at once.

mod crossing;
mod showing;
mod typing;

pub(super) use showing::{ShowStep, Showing};
pub use typing::Confirmation;
pub(super) use typing::code_over;
