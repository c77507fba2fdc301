//! What stands before every frame until a frame of the peer opens.
//!
//! Kept in the form in which it leaves: the encoding of an [`Envelope`] whose last field, the frame,
//! is still empty. An established session's prefix is the one byte that says "message".

use heapless::{Vec, VecView};

use crate::error::{Decode, Error, Misuse};
use crate::wire::{Confirm, Envelope, FirstHeader, codec};

/// The longest prefix in bytes: a first-message header with two addresses of full length.
pub(crate) const MAX_PREFIX: usize = 1600;

/// The front of the envelopes that a session seals.
pub(crate) struct Prefix(Vec<u8, MAX_PREFIX>);

impl Prefix {
    /// No prefix at all: the state of the empty session.
    pub(crate) const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The front of a plain message.
    pub(crate) fn message() -> Result<Self, Error> {
        Self::encode(&Envelope::Message { frame: &[] })
    }

    /// The front of message 3 of a pairing.
    pub(crate) fn confirmed(confirm: Confirm) -> Result<Self, Error> {
        Self::encode(&Envelope::Confirmed {
            confirm,
            frame: &[],
        })
    }

    /// The front of a first message.
    pub(crate) fn first(header: FirstHeader) -> Result<Self, Error> {
        Self::encode(&Envelope::First { header, frame: &[] })
    }

    /// Reads a prefix back from storage.
    ///
    /// # Errors
    ///
    /// `Decode` if it is not the front of an envelope that carries a frame.
    pub(crate) fn restore(bytes: &[u8]) -> Result<Self, Error> {
        let too_long = Error::Decode(Decode::TooLong);
        let mut whole = Vec::<u8, { MAX_PREFIX + 1 }>::new();
        whole.extend_from_slice(bytes).map_err(|_| too_long)?;
        whole.push(0).map_err(|_| too_long)?;
        match codec::decode::<Envelope<'_>>(&whole)?.frame() {
            Some([]) => Vec::from_slice(bytes).map(Self).map_err(|_| too_long),
            _ => Err(Error::Decode(Decode::Malformed)),
        }
    }

    /// Gives the bytes for storage.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Copies the prefix, for the next state of a session.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }

    /// Starts an envelope that will hold a frame of `frame_len` bytes, replacing what was in `out`.
    ///
    /// # Errors
    ///
    /// [`Misuse::WrongState`] for the empty session, [`Misuse::BufferTooSmall`] if it does not fit.
    pub(crate) fn begin(&self, frame_len: usize, out: &mut VecView<u8>) -> Result<(), Error> {
        if self.0.is_empty() {
            return Err(Error::ApiMisuse(Misuse::WrongState));
        }
        let len = codec::encode_vec::<_, 5>(&frame_len)?;
        out.clear();
        out.extend_from_slice(&self.0)
            .and_then(|()| out.extend_from_slice(&len))
            .map_err(|_| Error::ApiMisuse(Misuse::BufferTooSmall))
    }

    fn encode(envelope: &Envelope<'_>) -> Result<Self, Error> {
        let mut whole = codec::encode_vec::<_, { MAX_PREFIX + 1 }>(envelope)?;
        // The last byte is the length of the empty frame.
        whole.pop();
        Vec::from_slice(&whole)
            .map(Self)
            .map_err(|_| Error::ApiMisuse(Misuse::BufferTooSmall))
    }
}
