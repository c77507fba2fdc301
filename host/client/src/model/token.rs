//! Tokens, and what unlocks them.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Which kind of token holds the keys of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// The software token in the home itself.
    Software,
    /// A token on a serial port.
    Serial,
}

/// A PIN or passphrase as it was typed; wiped when dropped.
pub struct Pin(Zeroizing<Vec<u8>>);

impl Pin {
    /// Fewest bytes of a new PIN.
    pub const MIN: usize = 6;
    /// Most bytes of a PIN.
    pub const MAX: usize = 1024;

    /// Takes what was typed, without its line end.
    ///
    /// # Errors
    /// `BadPin` if it is empty or longer than [`Self::MAX`] bytes.
    pub fn new(typed: Zeroizing<Vec<u8>>) -> Result<Self> {
        match typed.len() {
            0 => Err(Error::BadPin("is empty".into())),
            n if n > Self::MAX => Err(Error::BadPin("is longer than 1024 bytes".into())),
            _ => Ok(Self(typed)),
        }
    }

    /// Refuses what is too short for a new PIN.
    ///
    /// # Errors
    /// `BadPin`.
    pub fn check_new(&self) -> Result<()> {
        if self.0.len() < Self::MIN {
            Err(Error::BadPin(format!(
                "has fewer than {} characters",
                Self::MIN
            )))
        } else {
            Ok(())
        }
    }

    /// What was typed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are equal, in constant time for equal lengths.
    pub fn equals(&self, other: &Self) -> bool {
        hostchat_core::secret::ct_eq(&self.0, &other.0)
    }
}
