//! What went wrong, as it is told: built from an error once, below the faces, and the same over a socket.

use serde::{Deserialize, Serialize};

use super::{Error, Exit};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// One word for programs.
    pub kind: String,
    /// The exit code of a command that ends with it.
    pub exit: Exit,
    /// What went wrong; escaped.
    pub message: String,
    /// What to do about it; escaped.
    pub hint: String,
}

impl Fault {
    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        match error {
            Error::Fault(fault) => fault.clone(),
            error => Self {
                kind: <&str>::from(error).into(),
                exit: error.exit(),
                message: error.to_string(),
                hint: error.hint(),
            },
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit as Self
    }
}

impl From<u8> for Exit {
    /// A code of a newer version is none that this one can explain.
    fn from(code: u8) -> Self {
        let known = super::EXIT_CODES.iter();
        let mut known = known.map(|(exit, _)| *exit);
        known
            .find(|exit| *exit as u8 == code)
            .unwrap_or(Self::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_the_same_on_the_other_side_of_a_socket() {
        let error = Error::IdentityChanged("bob@h:1".into());
        let fault = Fault::from(&error);
        assert!(fault.is("identity_changed"), "{fault:?}");
        let text = serde_json::to_string(&fault).unwrap();
        let back = Error::from(serde_json::from_str::<Fault>(&text).unwrap());
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!((back.exit(), back.hint()), (error.exit(), error.hint()));
        assert_eq!(Exit::from(99), Exit::Internal);
    }
}
