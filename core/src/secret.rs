//! Secrets are newtypes by role: what one key is for, another cannot be passed for.
//!
//! A type made by [`secret!`](crate::secret!) has no `Debug`, `Display`, `Clone`, `PartialEq` or serde implementation, is
//! zeroized on drop and compared in constant time:
//!
//! ```
//! hostchat_core::secret! {
//!     /// Opens the door.
//!     pub struct DoorKey(32);
//! }
//! let key = DoorKey::from_bytes([7; 32]);
//! assert!(key.ct_eq(&DoorKey::from_bytes([7; 32])));
//! ```
//!
//! None of the following compiles:
//!
//! ```compile_fail
//! hostchat_core::secret! { pub struct DoorKey(32); }
//! println!("{:?}", DoorKey::from_bytes([7; 32]));
//! ```
//! ```compile_fail
//! hostchat_core::secret! { pub struct DoorKey(32); }
//! let copy = DoorKey::from_bytes([7; 32]).clone();
//! ```
//! ```compile_fail
//! hostchat_core::secret! { pub struct DoorKey(32); }
//! let same = DoorKey::from_bytes([7; 32]) == DoorKey::from_bytes([7; 32]);
//! ```
//! ```compile_fail
//! hostchat_core::secret! { pub struct DoorKey(32); pub struct BoxKey(32); }
//! let same = DoorKey::from_bytes([7; 32]).ct_eq(&BoxKey::from_bytes([7; 32]));
//! ```
//!
//! What Rust cannot promise: a value that is moved may leave its old bytes behind on the stack. Long-lived secrets are
//! therefore built in place ([`KdfOutput`], `generate`) and passed by reference.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::error::{Decode, Error};

#[doc(hidden)]
pub use rand_core::CryptoRng;
#[doc(hidden)]
pub use zeroize::ZeroizeOnDrop;

/// A value that a key derivation can produce: a typed key rather than a byte array.
pub trait KdfOutput: Sized {
    /// Length of the value in bytes.
    const LEN: usize;

    /// Builds the value by letting `fill` write exactly [`LEN`](Self::LEN) bytes, in place.
    fn from_kdf(fill: impl FnOnce(&mut [u8])) -> Self;
}

/// Derived public identifiers (a session id) are plain bytes; there is no such implementation for key sizes.
impl KdfOutput for [u8; 16] {
    const LEN: usize = 16;

    fn from_kdf(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut id = [0; 16];
        fill(&mut id);
        id
    }
}

/// The storage behind every type made by [`secret!`](crate::secret!): `N` bytes that are zeroized on drop.
#[doc(hidden)]
#[derive(ZeroizeOnDrop)]
pub struct SecretBytes<const N: usize>([u8; N]);

impl<const N: usize> SecretBytes<N> {
    #[must_use]
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > N {
            return Err(Decode::TrailingBytes.into());
        }
        let mut secret = Self([0; N]);
        match <&[u8; N]>::try_from(bytes) {
            Ok(exact) => secret.0 = *exact,
            Err(_) => return Err(Decode::Truncated.into()),
        }
        Ok(secret)
    }

    #[must_use]
    pub fn fill_with(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut secret = Self([0; N]);
        fill(&mut secret.0);
        secret
    }

    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    pub fn wipe(&mut self) {
        self.0.zeroize();
    }
}

/// Compares two byte strings in constant time for equal lengths; different lengths differ at once.
#[must_use]
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Defines secrets: newtypes over `[u8; N]` without `Debug`, `Clone`, `PartialEq` or serde, zeroized on drop.
///
/// `secret! { /// What it is for.  pub struct RootKey(32); }` gives `RootKey::{LEN, from_bytes, from_slice, generate,
/// expose_bytes, ct_eq}` and [`KdfOutput`]. A role that has to be copied (a ratchet computes
/// its next state beside the present one) says so: `pub struct RootKey(32), duplicate;` adds `duplicate`.
#[macro_export]
macro_rules! secret {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident($len:expr) $(, $duplicate:ident)?;)+) => {$(
        $(#[$meta])*
        $vis struct $name($crate::secret::SecretBytes<{ $len }>);

        #[allow(dead_code, reason = "not every role needs every method")]
        impl $name {
            /// Length in bytes.
            $vis const LEN: usize = $len;

            /// Takes the bytes over; the caller's copy is the caller's to wipe.
            #[must_use]
            $vis const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self($crate::secret::SecretBytes::new(bytes))
            }

            /// Copies the bytes from a slice of exactly `LEN` bytes.
            ///
            /// # Errors
            /// `Decode::Truncated` or `Decode::TrailingBytes` for any other length.
            $vis fn from_slice(bytes: &[u8]) -> Result<Self, $crate::error::Error> {
                $crate::secret::SecretBytes::from_slice(bytes).map(Self)
            }

            /// Draws a uniform value.
            #[must_use]
            $vis fn generate<R: $crate::secret::CryptoRng + ?Sized>(rng: &mut R) -> Self {
                Self($crate::secret::SecretBytes::fill_with(|bytes| rng.fill_bytes(bytes)))
            }

            /// Reveals the bytes.
            #[must_use]
            $vis const fn expose_bytes(&self) -> &[u8; $len] {
                self.0.expose()
            }

            /// Compares in constant time.
            #[must_use]
            $vis fn ct_eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0)
            }

            /// Overwrites the value with zeros before its time is over.
            $vis fn wipe(&mut self) {
                self.0.wipe();
            }

            $(
                /// Makes a second copy.
                #[must_use]
                $vis fn $duplicate(&self) -> Self {
                    Self($crate::secret::SecretBytes::new(*self.0.expose()))
                }
            )?
        }

        impl $crate::secret::ZeroizeOnDrop for $name {}

        impl $crate::secret::KdfOutput for $name {
            const LEN: usize = $len;

            fn from_kdf(fill: impl FnOnce(&mut [u8])) -> Self {
                Self($crate::secret::SecretBytes::fill_with(fill))
            }
        }
    )+};
}

// `crate::secret::secret!` is the same macro.
pub use secret;
