//! Ratchet frames: header ‖ message id ‖ SIV output (SPEC §9.4).

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::error::{Decode, Error};
use crate::wire::{Bytes, FRAME_VERSION, MAX_FRAME, SUITE, codec};

/// 16 random bytes drawn at the seal; relay and receiver drop repeats by it.
pub type MessageId = Bytes<16>;
/// 16 bytes derived in the handshake that began the session.
pub type SessionId = Bytes<16>;

/// Longest header extension, in bytes; receivers of this version refuse any that is not empty.
pub const MAX_EXTENSION: usize = 32;

/// The clear part of a frame, authenticated as associated data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHeader {
    /// Protocol version.
    pub version: u8,
    /// Cipher suite.
    pub suite: u8,
    /// The session.
    pub session: SessionId,
    /// The sender's current X25519 ratchet key.
    pub ratchet_key: Bytes<32>,
    /// Number of messages in the sender's previous chain.
    pub pn: u32,
    /// Number of this message in its chain, from 0.
    pub n: u32,
    /// Room for a later revision (a post-quantum ratchet); empty in this one.
    pub extension: Vec<u8, MAX_EXTENSION>,
}

/// A frame taken apart; nothing in it is authenticated yet.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The decoded header, version and suite checked.
    pub header: FrameHeader,
    /// The header's exact bytes.
    pub header_bytes: &'a [u8],
    /// The message id.
    pub message_id: MessageId,
    /// SIV tag, 16 bytes.
    pub tag: [u8; 16],
    /// Ciphertext, at least one padding block.
    pub ciphertext: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a frame of at most [`MAX_FRAME`] bytes apart.
    ///
    /// # Errors
    /// `Decode`, for a foreign version or suite `Decode(Version)` and `Decode(Suite)`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_FRAME {
            return Err(Error::Decode(Decode::TooLong));
        }
        if bytes
            .first()
            .is_some_and(|&version| version != FRAME_VERSION)
        {
            return Err(Error::Decode(Decode::Version));
        }
        let (header, rest) = codec::decode_prefix::<FrameHeader>(bytes)?;
        if header.suite != SUITE {
            return Err(Error::Decode(Decode::Suite));
        }
        if !header.extension.is_empty() {
            return Err(Error::Decode(Decode::Malformed));
        }
        let truncated = Error::Decode(Decode::Truncated);
        let (message_id, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (tag, ciphertext) = rest.split_first_chunk().ok_or(truncated)?;
        let header_bytes = bytes
            .get(..bytes.len() - rest.len() - 16)
            .ok_or(truncated)?;
        Ok(Self {
            header,
            header_bytes,
            message_id: Bytes(*message_id),
            tag: *tag,
            ciphertext,
        })
    }
}
