//! What travels between hosts: addresses, identities, prekeys, envelopes, relay messages.
//!
//! ```text
//!  bytes ──codec::decode──▶ claim (IdentityClaim, Prekey, ...) ──verify──▶ checked value (Identity, ...)
//! ```
//!
//! One decoder is used everywhere ([`codec::decode`]): whole input, canonical, bounded. Every enum that
//! travels is append-only, and `core/tests` pins the bytes of every variant. SPEC §4 to §6, §12.

pub mod address;
pub mod bytes;
pub mod codec;
pub mod content;
pub mod envelope;
pub mod frame;
pub mod generation;
pub mod identity;
pub mod pad;
pub mod prekey;
pub mod relay;

pub use address::{Address, Name, RelayName};
pub use bytes::Bytes;
pub use content::{Content, Quiet};
pub use envelope::{
    Confirm, Envelope, FirstHeader, PairAnswer, PairOffer, PairPublic, SessionStartId,
};
pub use frame::{Frame, FrameHeader, MessageId, SessionId};
pub use generation::Generation;
pub use identity::{Identity, IdentityClaim};
pub use prekey::{Prekey, PrekeyBundle, PrekeyKind, PrekeyRef};
pub use relay::Account;

/// Version of frames, envelopes and stored handshakes. Raising it would end every session; relay and token have versions
/// of their own ([`relay::RELAY_VERSION`], `icd::TOKEN_VERSION`).
pub const FRAME_VERSION: u8 = 1;

/// Cipher suite 1: AES-256-SIV, X25519, ML-KEM-768, Ed25519, HKDF-SHA-256, CPace-ristretto255-SHA512.
pub const SUITE: u8 = 1;

/// Longest content of one message, in bytes; longer text does not fit (SPEC section 6.2).
pub const MAX_CONTENT: usize = 4096;

/// Longest padded content: the Padmé size of `MAX_CONTENT` and its two length bytes.
pub const MAX_PADDED: usize = 4352;

/// Longest frame: header (at most 128), message id (16), tag (16) and padded content.
pub const MAX_FRAME: usize = 128 + 16 + 16 + MAX_PADDED;

/// Longest envelope: a frame and the longest prefix (`FirstHeader`, below 1,700 bytes).
pub const MAX_ENVELOPE: usize = MAX_FRAME + 1700;

/// An encoded [`Envelope`] in a buffer of its own.
pub type EnvelopeBytes = heapless::Vec<u8, MAX_ENVELOPE>;
