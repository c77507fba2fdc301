//! The one-time code: six digits, drawn by the token, only ever a CPace password.

use rand_core::CryptoRng;

use crate::error::{Decode, Error};
use crate::secret::{KdfOutput as _, ct_eq};

crate::secret! {
    /// The digits in ASCII.
    struct Digits(6);
}

/// A six-digit code, a secret until its runs are over.
pub struct Code(Digits);

impl Code {
    /// Length of a code in digits.
    pub const LEN: usize = 6;

    /// Draws a uniform code.
    #[must_use]
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        // 250 of 256 byte values give each digit equally often; the others are drawn again.
        let mut digit = || {
            loop {
                let mut byte = [0];
                rng.fill_bytes(&mut byte);
                if byte[0] < 250 {
                    return b'0' + byte[0] % 10;
                }
            }
        };
        Self(Digits::from_kdf(|digits| {
            digits.iter_mut().for_each(|place| *place = digit())
        }))
    }

    /// Takes six ASCII digits, as a user typed them (spaces and hyphens are the caller's to drop).
    ///
    /// # Errors
    ///
    /// [`Decode::Malformed`] for anything else.
    pub fn from_digits(digits: &[u8]) -> Result<Self, Error> {
        if digits.len() != Self::LEN || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Decode::Malformed.into());
        }
        Digits::from_slice(digits).map(Self)
    }

    /// Reveals the digits, to show them to the user or to run the exchange.
    #[must_use]
    pub fn expose_digits(&self) -> &[u8; Self::LEN] {
        self.0.expose_bytes()
    }

    /// Compares in constant time.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        ct_eq(self.0.expose_bytes(), other.0.expose_bytes())
    }
}
