//! What went wrong, as it is told: built from an error once, below the faces.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The exit code of a command that ends with it.
    pub exit: u8,
    /// What went wrong; escaped.
    pub message: String,
    /// What to do about it; escaped.
    pub hint: String,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        Self {
            exit: error.exit() as u8,
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}
