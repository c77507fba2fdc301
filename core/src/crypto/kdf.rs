//! HKDF-SHA-256 (RFC 5869), typed: a label goes in, the key that it is for comes out.

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;
use zeroize::Zeroize as _;

use super::label::Label;
use crate::error::{Error, Misuse};
use crate::secret::KdfOutput;

/// The longest output of one expansion in bytes (RFC 5869 section 2.3).
pub const MAX_OUTPUT: usize = 255 * 32;

crate::secret! {
    /// A pseudorandom key: what HKDF-Extract gives and HKDF-Expand takes.
    pub struct Prk(32);
}

impl Prk {
    /// Does HKDF-Extract over the concatenation of `ikm`.
    #[must_use]
    pub fn extract(salt: &[u8], ikm: &[&[u8]]) -> Self {
        let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
        for part in ikm {
            extract.input_ikm(part);
        }
        let (mut prk, _) = extract.finalize();
        let key = Self::from_kdf(|out| out.copy_from_slice(&prk));
        prk.as_mut_slice().zeroize();
        key
    }

    /// Does HKDF-Expand with `label` as the info, into the key of type `K`.
    ///
    /// The length is checked at compile time.
    #[must_use]
    pub fn expand<K: KdfOutput>(&self, label: Label) -> K {
        const { assert!(K::LEN <= MAX_OUTPUT, "longer than HKDF can give") };
        K::from_kdf(|out| {
            #[expect(
                clippy::expect_used,
                reason = "the only error is the length, which was checked above"
            )]
            self.danger_expand_bytes(label.as_bytes(), out)
                .expect("length was checked");
        })
    }

    /// Does HKDF-Expand with any info into bare bytes, which nothing but a test of the public vectors should do.
    ///
    /// # Errors
    /// `Misuse::BadArgument` if `out` is longer than [`MAX_OUTPUT`].
    #[doc(hidden)]
    pub fn danger_expand_bytes(&self, info: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let hkdf =
            Hkdf::<Sha256>::from_prk(self.expose_bytes()).map_err(|_| Misuse::BadArgument)?;
        hkdf.expand(info, out)
            .map_err(|_| Misuse::BadArgument.into())
    }
}

/// Does extract and expand at once, for the derivations that give one key only.
#[must_use]
pub fn hkdf<K: KdfOutput>(salt: &[u8], ikm: &[&[u8]], label: Label) -> K {
    Prk::extract(salt, ikm).expand(label)
}
