//! ML-KEM-768 (FIPS 203), always in hybrid with X25519.
//!
//! A private key is kept as its 64-byte seed and expanded for each use. The functions need 36 to 43 KB of
//! stack on a microcontroller: they are never inlined, so that the stack is given back when they return, and no value of
//! the crate leaves them.

use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::{B32, Ciphertext, DecapsulationKey768, EncapsulationKey768, MlKem768};
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, Peer};
use crate::secret::KdfOutput as _;

/// Length of an encapsulation key in bytes.
pub const ENCAPSULATION_KEY_LEN: usize = 1184;

/// Length of a ciphertext in bytes.
pub const CIPHERTEXT_LEN: usize = 1088;

crate::secret! {
    /// An ML-KEM-768 private key as its seed d ‖ z.
    pub struct KemSecret(64);
    /// The shared secret of an encapsulation: input to a key derivation.
    pub struct SharedSecret(32);
}

impl KemSecret {
    /// Computes the encapsulation key.
    #[must_use]
    #[inline(never)]
    pub fn encapsulation_key(&self) -> [u8; ENCAPSULATION_KEY_LEN] {
        self.key().encapsulation_key().to_bytes().into()
    }

    /// Opens a ciphertext; a forged one gives an unrelated secret (implicit rejection, FIPS 203 section 6.3).
    #[must_use]
    #[inline(never)]
    pub fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> SharedSecret {
        let ciphertext: &Ciphertext<MlKem768> = ciphertext.into();
        take_shared(self.key().decapsulate(ciphertext))
    }

    fn key(&self) -> DecapsulationKey768 {
        DecapsulationKey768::from_seed((*self.expose_bytes()).into())
    }
}

/// Makes a fresh secret for the holder of `key`.
///
/// # Errors
/// `Peer::BadEncapsulationKey` if the key fails the modulus check (FIPS 203 section 7.2).
pub fn encapsulate<R: CryptoRng + ?Sized>(
    key: &[u8; ENCAPSULATION_KEY_LEN],
    rng: &mut R,
) -> Result<([u8; CIPHERTEXT_LEN], SharedSecret), Error> {
    let mut m = Zeroizing::new([0; 32]);
    rng.fill_bytes(m.as_mut());
    danger_encapsulate_with(key, &m)
}

/// Encapsulates with given randomness, which nothing but a test of the public vectors should do.
///
/// # Errors
/// `Peer::BadEncapsulationKey` if the key fails the modulus check (FIPS 203 section 7.2).
#[doc(hidden)]
#[inline(never)]
pub fn danger_encapsulate_with(
    key: &[u8; ENCAPSULATION_KEY_LEN],
    m: &[u8; 32],
) -> Result<([u8; CIPHERTEXT_LEN], SharedSecret), Error> {
    let key = EncapsulationKey768::new(key.into()).map_err(|_| Peer::BadEncapsulationKey)?;
    let m: &B32 = m.into();
    let (ciphertext, shared) = key.encapsulate_deterministic(m);
    Ok((ciphertext.into(), take_shared(shared)))
}

fn take_shared(mut shared: ml_kem::SharedKey) -> SharedSecret {
    let secret = SharedSecret::from_kdf(|out| out.copy_from_slice(&shared));
    shared.as_mut_slice().zeroize();
    secret
}
