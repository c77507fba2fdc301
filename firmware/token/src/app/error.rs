//! One place where inner errors become what the host is told.

use core::fmt;

use hostchat_core::error::{Decode, Error, Limit, Peer};
use hostchat_core::icd::{LinkError, TokenError};

use crate::store::StoreError;

/// Why a token could not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The flash could not be read or written.
    Flash,
    /// The flash has sizes that this application cannot work with.
    Geometry,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flash => "the flash of the token failed",
            Self::Geometry => "the flash of the token has the wrong size",
        })
    }
}

impl core::error::Error for StartError {}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Geometry => Self::Geometry,
            StoreError::Flash | StoreError::Full | StoreError::Damaged => Self::Flash,
        }
    }
}

impl From<StoreError> for LinkError {
    fn from(_: StoreError) -> Self {
        Self::Storage
    }
}

/// A failed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed(pub(super) TokenError);

impl From<TokenError> for Failed {
    fn from(error: TokenError) -> Self {
        Self(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(match error {
            StoreError::Full => TokenError::SessionsFull,
            StoreError::Flash | StoreError::Damaged | StoreError::Geometry => TokenError::Storage,
        })
    }
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self(match error {
            LinkError::NoTouch => TokenError::NoTouch,
            LinkError::Cancelled => TokenError::Cancelled,
            LinkError::Random => TokenError::Random,
            LinkError::Storage => TokenError::Storage,
            _ => TokenError::BadRequest,
        })
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(match error {
            Error::Decode(Decode::Version | Decode::Suite) => TokenError::Version,
            Error::Decode(_) => TokenError::Malformed,
            Error::PeerMisbehaved(Peer::WrongAddress) => TokenError::WrongAddress,
            Error::PeerMisbehaved(Peer::Unknown) => TokenError::UnknownSession,
            Error::PeerMisbehaved(Peer::IdentityChanged) => TokenError::IdentityChanged,
            Error::PeerMisbehaved(_) => TokenError::PeerMisbehaved,
            Error::Authentication => TokenError::Authentication,
            Error::Limit(Limit::SkipTooFar) => TokenError::TooFarAhead,
            Error::Limit(Limit::Replayed) => TokenError::Replayed,
            Error::Limit(Limit::TooLong) => TokenError::TooLong,
            Error::Limit(Limit::Expired) => TokenError::Prekey,
            Error::Limit(Limit::CounterEnd) => TokenError::TooFarAhead,
            _ => TokenError::BadRequest,
        })
    }
}
