//! Argon2id (RFC 9106), 64 MiB, t = 3, p = 1, version 1.3: what makes guessing a PIN cost memory and time.
//!
//! The parameters belong to the suite and are never taken from a token or a file: whoever could lower them could
//! make guessing cheap. The work is done on the host; the token never has 64 MiB.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::{Zeroize, Zeroizing};

pub use argon2::Block;

use super::kdf::Prk;
use super::label;
use crate::error::{Error, Misuse};
use crate::secret::KdfOutput as _;

/// Memory in blocks of 1 KiB: 64 MiB.
pub const STRETCH_BLOCKS: usize = 65_536;

/// Passes over the memory.
const PASSES: u32 = 3;

/// Lanes: one, since the host may have only one core to give.
const LANES: u32 = 1;

crate::secret! {
    /// The stretched PIN or passphrase.
    pub struct Stretched(32);
    /// The CPace password that the token keeps.
    pub struct PinPrs(32);
    /// The wrapping key that the token does not keep: it opens the token's sealed keys.
    pub struct PinWrap(32);
}

impl Stretched {
    /// Derives the CPace password.
    #[must_use]
    pub fn prs(&self) -> PinPrs {
        self.as_prk().expand(label::PIN_PRS)
    }

    /// Derives the wrapping key.
    #[must_use]
    pub fn wrap(&self) -> PinWrap {
        self.as_prk().expand(label::PIN_WRAP)
    }

    fn as_prk(&self) -> Prk {
        Prk::from_bytes(*self.expose_bytes())
    }
}

/// Stretches a PIN or passphrase; `memory` holds at least [`STRETCH_BLOCKS`] blocks and is wiped afterwards.
///
/// # Errors
/// `Misuse::BufferTooSmall` if `memory` is too small; `Misuse::BadArgument` if the PIN is longer than Argon2 allows.
pub fn stretch(pin: &[u8], salt: &[u8; 16], memory: &mut [Block]) -> Result<Stretched, Error> {
    let memory = memory
        .get_mut(..STRETCH_BLOCKS)
        .ok_or(Misuse::BufferTooSmall)?;
    let params = Params::new(STRETCH_BLOCKS as u32, PASSES, LANES, Some(Stretched::LEN))
        .map_err(|_| Misuse::BadArgument)?;
    let mut output = Zeroizing::new([0; Stretched::LEN]);
    let done = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(pin, salt, output.as_mut(), &mut *memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    done.map_err(|_| Misuse::BadArgument)?;
    Ok(Stretched::from_kdf(|out| {
        out.copy_from_slice(output.as_ref())
    }))
}
