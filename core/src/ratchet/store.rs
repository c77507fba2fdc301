//! The stored form of a session: versioned, canonical, only ever inside a sealed record (SPEC section 13).
//!
//! All numbers are little-endian; there is one encoding of each state, and garbage is refused.

use super::chain::{Chain, ChainKey, MessageKey};
use super::prefix::{MAX_PREFIX, Prefix};
use super::root::RootKey;
use super::session::{Active, Receiving, Sending, Session};
use super::skipped::MAX_SKIPPED;
use crate::crypto::dh::{DhPublic, DhSecret};
use crate::error::{Decode, Error, Misuse};
use crate::wire::Bytes;

/// Version of the stored form. Version 1 had no ages; its keys begin again at 0.
const VERSION: u8 = 2;

/// Length of one stored key of a skipped message in bytes: chain tag, number, key, and its age.
const SKIPPED_LEN: usize = 8 + 4 + 32 + 1;

/// The longest stored session in bytes; without keys of skipped messages and after the handshake it is below 300.
pub const MAX_STORED: usize =
    1 + 16 + 32 + 105 + 69 + 2 + MAX_PREFIX + 2 + MAX_SKIPPED * SKIPPED_LEN;

impl Session {
    /// Writes the stored form to the front of `out` and gives its length, at most [`MAX_STORED`].
    ///
    /// # Errors
    ///
    /// [`Misuse::BufferTooSmall`] if it does not fit, [`Misuse::WrongState`] for the empty session.
    pub fn store(&self, out: &mut [u8]) -> Result<usize, Error> {
        if self.is_empty() {
            return Err(Misuse::WrongState.into());
        }
        let mut writer = Writer::new(out);
        writer.byte(VERSION)?;
        writer.bytes(&self.id.0)?;
        writer.bytes(self.root.expose_bytes())?;
        match &self.sending {
            Sending::Waiting { pn } => {
                writer.byte(0)?;
                writer.number(*pn)?;
            }
            Sending::Active(active) => {
                writer.byte(1)?;
                writer.bytes(active.ratchet.expose_bytes())?;
                writer.bytes(&active.public.0)?;
                writer.chain(&active.chain)?;
                writer.number(active.pn)?;
            }
        }
        match &self.receiving {
            None => writer.byte(0)?,
            Some(receiving) => {
                writer.byte(1)?;
                writer.bytes(&receiving.ratchet_key.0)?;
                writer.chain(&receiving.chain)?;
            }
        }
        writer.length(self.prefix.as_bytes().len())?;
        writer.bytes(self.prefix.as_bytes())?;
        writer.length(self.skipped.len())?;
        for (chain, n, key) in self.skipped.iter() {
            writer.bytes(chain)?;
            writer.number(n)?;
            writer.bytes(key)?;
        }
        writer.bytes(self.skipped.ages())?;
        Ok(writer.finish())
    }

    /// Replaces this state by the one stored in `bytes`.
    ///
    /// # Errors
    ///
    /// `Decode` if `bytes` are not exactly one stored session; this state is the empty one then.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.clear();
        let result = self.read(Reader::new(bytes));
        if result.is_err() {
            self.clear();
        }
        result
    }

    fn read(&mut self, mut reader: Reader<'_>) -> Result<(), Error> {
        let version = reader.byte()?;
        if !matches!(version, 1 | VERSION) {
            return Err(Decode::Version.into());
        }
        self.id = Bytes(reader.array()?);
        self.root = RootKey::from_slice(reader.bytes(RootKey::LEN)?)?;
        self.sending = match reader.byte()? {
            0 => Sending::Waiting {
                pn: reader.number()?,
            },
            1 => Sending::Active(Active {
                ratchet: DhSecret::from_slice(reader.bytes(DhSecret::LEN)?)?,
                public: DhPublic(reader.array()?),
                chain: reader.chain()?,
                pn: reader.number()?,
            }),
            _ => return Err(Decode::Malformed.into()),
        };
        self.receiving = match reader.byte()? {
            0 => None,
            1 => Some(Receiving {
                ratchet_key: DhPublic(reader.array()?),
                chain: reader.chain()?,
            }),
            _ => return Err(Decode::Malformed.into()),
        };
        if self.is_empty() {
            return Err(Decode::Malformed.into());
        }
        let len = reader.length()?;
        self.prefix = Prefix::restore(reader.bytes(len)?)?;
        for _ in 0..reader.length()? {
            let (chain, n) = (reader.array()?, reader.number()?);
            let key = MessageKey::from_slice(reader.bytes(MessageKey::LEN)?)?;
            self.skipped.restore(chain, n, &key)?;
        }
        if version == VERSION {
            self.skipped
                .restore_ages(reader.bytes(self.skipped.len())?)?;
        }
        reader.finish()
    }
}

/// Appends fields to the front of a buffer.
pub(crate) struct Writer<'b> {
    out: &'b mut [u8],
    used: usize,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(out: &'b mut [u8]) -> Self {
        Self { out, used: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.used + bytes.len();
        let place = self
            .out
            .get_mut(self.used..end)
            .ok_or(Misuse::BufferTooSmall)?;
        place.copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }

    pub(crate) fn byte(&mut self, byte: u8) -> Result<(), Error> {
        self.bytes(&[byte])
    }

    pub(crate) fn number(&mut self, number: u32) -> Result<(), Error> {
        self.bytes(&number.to_le_bytes())
    }

    /// Writes a length of two bytes.
    pub(crate) fn length(&mut self, length: usize) -> Result<(), Error> {
        let length = u16::try_from(length).map_err(|_| Misuse::BadArgument)?;
        self.bytes(&length.to_le_bytes())
    }

    fn chain(&mut self, chain: &Chain) -> Result<(), Error> {
        self.bytes(chain.key.expose_bytes())?;
        self.number(chain.n)
    }

    /// Gives the number of bytes written.
    pub(crate) fn finish(self) -> usize {
        self.used
    }
}

/// Takes fields off the front of a buffer.
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'b [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Decode::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Decode::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a length of two bytes.
    pub(crate) fn length(&mut self) -> Result<usize, Error> {
        self.array()
            .map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    /// Reads the version byte.
    pub(crate) fn version(&mut self, version: u8) -> Result<(), Error> {
        if self.byte()? == version {
            Ok(())
        } else {
            Err(Decode::Version.into())
        }
    }

    fn chain(&mut self) -> Result<Chain, Error> {
        Ok(Chain {
            key: ChainKey::from_slice(self.bytes(ChainKey::LEN)?)?,
            n: self.number()?,
        })
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Decode::TrailingBytes.into())
        }
    }
}
