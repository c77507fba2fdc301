//! HMAC-SHA-256 (RFC 2104) with 32-byte keys: confirmation tags and the symmetric chains.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroize as _;

use super::label::Label;
use crate::error::Error;
use crate::secret::{KdfOutput, ct_eq};

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 32;

crate::secret! {
    /// A key for the tags of one role.
    pub struct MacKey(32);
}

/// Computes the tag over the concatenation of `parts`.
#[must_use]
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; TAG_LEN] {
    // HMAC pads a key with zeros to a block of 64 bytes: done here, so that the constructor cannot fail.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&block).into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Checks a tag over the concatenation of `parts` in constant time.
///
/// # Errors
/// `Error::Authentication` if it does not match.
pub fn verify(key: &[u8; 32], parts: &[&[u8]], tag: &[u8; TAG_LEN]) -> Result<(), Error> {
    if ct_eq(&hmac_sha256(key, parts), tag) {
        Ok(())
    } else {
        Err(Error::Authentication)
    }
}

/// Derives the 32-byte key of type `K` as HMAC(key, label): one step of a symmetric chain.
#[must_use]
pub fn derive<K: KdfOutput>(key: &[u8; 32], label: Label) -> K {
    const { assert!(K::LEN == TAG_LEN, "a chain step gives 32 bytes") };
    let mut derived = hmac_sha256(key, &[label.as_bytes()]);
    let typed = K::from_kdf(|out| out.copy_from_slice(&derived));
    derived.zeroize();
    typed
}
