//! How two identities come to a session: pairing with a code, and the first message without one.
//!
//! ```text
//!  pairing        Initiator::offer ──PairOffer──▶ respond
//!                 Initiator::confirm ◀──PairAnswer── Pending
//!                 Session::seal ──Confirmed, frame──▶ Pending::open ──▶ Session
//!
//!  first message  start (PrekeyBundle)
//!                 Session::seal ──First, frame──▶ accept ──▶ Session
//! ```
//!
//! Invariant: **a session exists only between two ends that agree on both identities, both addresses, the suite and
//! every byte of the handshake.** All of them are in the transcript hash that salts the keys, and a side has
//! a session only after a tag under these keys was right. Each step is a value that the next one consumes.
//! SPEC sections 7 and 8.

pub mod code;
pub mod first;
mod keys;
pub mod pair;
mod prekey;

pub use code::Code;
pub use keys::IdentityKeys;
pub use prekey::PrekeySecret;
