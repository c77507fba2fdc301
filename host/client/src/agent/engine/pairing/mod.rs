//! Pairing with a one-time code: the end that shows it, the end that types it, and both at once.

mod crossing;
mod showing;
mod typing;

pub use typing::Confirmation;
