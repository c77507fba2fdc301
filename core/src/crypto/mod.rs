//! The only door to cryptographic crates: suite 1, one file per algorithm.
//!
//! | module | algorithm | feature |
//! |---|---|---|
//! | [`label`] | every domain-separation label | `wire` |
//! | [`hash`] | SHA-256, length-prefixed concatenation, transcripts | `wire` |
//! | [`sign`] | Ed25519, strict | `wire` |
//! | `siv` | AES-256-SIV (RFC 5297) | `icd` |
//! | `kdf`, `mac` | HKDF-SHA-256, HMAC-SHA-256 | `icd` |
//! | `pake` | CPace, CPACE-RISTR255-SHA512 (draft 21) | `icd` |
//! | `stretch` | Argon2id, 64 MiB, t = 3, p = 1 | `icd` |
//! | `dh` | X25519, contributory | `protocol` |
//! | `kem` | ML-KEM-768 (FIPS 203) | `protocol` |
//!
//! Random numbers are an argument everywhere: `&mut R where R: rand_core::CryptoRng + ?Sized`. Names that begin with
//! `danger_` exist for the public test vectors and break a rule that the safe function beside them keeps.

pub mod hash;
pub mod label;
pub mod sign;

#[cfg(feature = "icd")]
pub mod kdf;
#[cfg(feature = "icd")]
pub mod mac;
#[cfg(feature = "icd")]
pub mod pake;
#[cfg(feature = "icd")]
pub mod siv;
#[cfg(feature = "icd")]
pub mod stretch;

#[cfg(feature = "protocol")]
pub mod dh;
#[cfg(feature = "protocol")]
pub mod kem;
