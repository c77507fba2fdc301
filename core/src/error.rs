//! One error type for the whole core, sorted by who is at fault.
//!
//! Every value is `Copy` and carries no text and no data from the input, so that an error can be logged, shown or
//! sent anywhere. One place in the host maps an error to what a peer is told (nothing, or a code).

use core::fmt;

/// Says why an operation of the core was refused; the state it was called on is unchanged.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The bytes are not a valid encoding of what was expected.
    Decode(Decode),
    /// The bytes decode, but no honest peer would have sent them.
    PeerMisbehaved(Peer),
    /// A tag, a signature or a commitment did not match.
    Authentication,
    /// The caller broke the contract of a function.
    ApiMisuse(Misuse),
    /// A bound that keeps memory, time or guessing in check was reached.
    Limit(Limit),
}

/// Says what is wrong with an encoding.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decode {
    /// The input ends before the value does.
    Truncated,
    /// The value ends before the input does.
    TrailingBytes,
    /// The value has a shorter or other standard encoding than the one given.
    NotCanonical,
    /// The bytes name no value of the type.
    Malformed,
    /// A list, text or frame is longer than its stated bound.
    TooLong,
    /// The version byte is not one that this code knows.
    Version,
    /// The suite number is not one that this code knows.
    Suite,
    /// The checksum of a frame outside the sealed channel does not match.
    Checksum,
}

/// Says what a peer did that no honest peer does.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A point is undecodable, not canonical, of small order or the identity.
    BadPoint,
    /// An X25519 result was all zero: the public key contributes nothing.
    AllZeroShared,
    /// An ML-KEM encapsulation key fails the modulus check of FIPS 203 section 7.2.
    BadEncapsulationKey,
    /// Our own share, ratchet key or tag came back to us.
    Reflected,
    /// The peer claims our own identity.
    OwnIdentity,
    /// A message names another sender or receiver than the one at hand.
    WrongAddress,
    /// An Ed25519 key has a torsion component.
    TorsionedKey,
    /// Padding holds something other than zeros, or no end mark.
    BadPadding,
    /// A message came on an empty chain without a new ratchet key.
    NoRatchetKey,
    /// The identity differs from the one already known for this address.
    IdentityChanged,
    /// A message names a session, prekey or run that does not exist.
    Unknown,
    /// A role byte, step or field does not belong at this point of the protocol.
    Unexpected,
}

/// Says how the caller broke the contract.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misuse {
    /// The operation does not exist in this state.
    WrongState,
    /// The buffer given cannot hold the result.
    BufferTooSmall,
    /// The content is longer than one message may be.
    ContentTooLong,
    /// More items were given than the construction allows.
    TooManyItems,
    /// An argument has a length or value outside the documented range.
    BadArgument,
}

/// Says which bound was reached.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A frame lies further ahead in its chain than may be skipped.
    SkipTooFar,
    /// The message was already opened, or its key is no longer kept.
    Replayed,
    /// The content is longer than one message may be.
    TooLong,
    /// A deadline has passed, or a prekey is too old.
    Expired,
    /// A fixed-size table has no room left.
    Full,
    /// No tries or runs are left.
    Exhausted,
    /// A counter reached its end and will not wrap.
    CounterEnd,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(why) => write!(f, "cannot decode: {why}"),
            Self::PeerMisbehaved(why) => write!(f, "the peer misbehaved: {why}"),
            Self::Authentication => f.write_str("authentication failed"),
            Self::ApiMisuse(why) => write!(f, "wrong use of the interface: {why}"),
            Self::Limit(why) => write!(f, "limit reached: {why}"),
        }
    }
}

impl fmt::Display for Decode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "input is cut short",
            Self::TrailingBytes => "bytes after the end",
            Self::NotCanonical => "not the canonical encoding",
            Self::Malformed => "malformed",
            Self::TooLong => "too long",
            Self::Version => "unknown version",
            Self::Suite => "unknown suite",
            Self::Checksum => "checksum mismatch",
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPoint => "invalid point",
            Self::AllZeroShared => "all-zero shared secret",
            Self::BadEncapsulationKey => "invalid encapsulation key",
            Self::Reflected => "our own message came back",
            Self::OwnIdentity => "our own identity came back",
            Self::WrongAddress => "wrong address",
            Self::TorsionedKey => "identity key with a torsion component",
            Self::BadPadding => "bad padding",
            Self::NoRatchetKey => "no ratchet key",
            Self::IdentityChanged => "identity changed",
            Self::Unknown => "unknown session, prekey or run",
            Self::Unexpected => "unexpected at this point",
        })
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongState => "wrong state",
            Self::BufferTooSmall => "buffer too small",
            Self::ContentTooLong => "content too long",
            Self::TooManyItems => "too many items",
            Self::BadArgument => "argument out of range",
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SkipTooFar => "frame too far ahead",
            Self::Replayed => "frame already used",
            Self::TooLong => "content too long",
            Self::Expired => "expired",
            Self::Full => "no room left",
            Self::Exhausted => "no tries left",
            Self::CounterEnd => "counter at its end",
        })
    }
}

impl core::error::Error for Error {}

impl From<Decode> for Error {
    fn from(why: Decode) -> Self {
        Self::Decode(why)
    }
}

impl From<Peer> for Error {
    fn from(why: Peer) -> Self {
        Self::PeerMisbehaved(why)
    }
}

impl From<Misuse> for Error {
    fn from(why: Misuse) -> Self {
        Self::ApiMisuse(why)
    }
}

impl From<Limit> for Error {
    fn from(why: Limit) -> Self {
        Self::Limit(why)
    }
}
