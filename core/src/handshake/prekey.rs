//! The private half of a prekey.

use rand_core::CryptoRng;

use super::keys::IdentityKeys;
use crate::crypto::dh::DhSecret;
use crate::crypto::kem::KemSecret;
use crate::error::{Decode, Error};
use crate::ratchet::{Reader, Writer};
use crate::wire::{Bytes, Prekey, PrekeyKind};

/// Version of the stored form.
const VERSION: u8 = 1;

/// The private half of a prekey.
pub struct PrekeySecret {
    kind: PrekeyKind,
    id: u32,
    issued: u64,
    pub(super) dh: DhSecret,
    pub(super) kem: KemSecret,
}

impl PrekeySecret {
    /// Length of the stored form in bytes.
    pub const LEN: usize = 1 + 1 + 4 + 8 + 32 + 64;

    /// Makes a prekey; `id` is never given twice by one token, `issued` is in seconds since 1970.
    #[must_use]
    pub fn generate<R: CryptoRng + ?Sized>(
        kind: PrekeyKind,
        id: u32,
        issued: u64,
        rng: &mut R,
    ) -> Self {
        Self {
            kind,
            id,
            issued,
            dh: DhSecret::generate(rng),
            kem: KemSecret::generate(rng),
        }
    }

    /// Reads the stored form, exactly [`Self::LEN`] bytes.
    ///
    /// # Errors
    ///
    /// `Decode` for anything else.
    pub fn load(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let kind = match reader.byte()? {
            0 => PrekeyKind::OneTime,
            1 => PrekeyKind::LastResort,
            _ => return Err(Decode::Malformed.into()),
        };
        let id = reader.number()?;
        let issued = u64::from_le_bytes(reader.array()?);
        let dh = DhSecret::from_slice(reader.bytes(DhSecret::LEN)?)?;
        let kem = KemSecret::from_slice(reader.bytes(KemSecret::LEN)?)?;
        reader.finish()?;
        Ok(Self {
            kind,
            id,
            issued,
            dh,
            kem,
        })
    }

    /// Writes the stored form to the front of `out` and gives its length, [`Self::LEN`].
    ///
    /// # Errors
    ///
    /// `Misuse::BufferTooSmall`.
    pub fn store(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.byte(VERSION)?;
        writer.byte(match self.kind {
            PrekeyKind::OneTime => 0,
            PrekeyKind::LastResort => 1,
        })?;
        writer.number(self.id)?;
        writer.bytes(&self.issued.to_le_bytes())?;
        writer.bytes(self.dh.expose_bytes())?;
        writer.bytes(self.kem.expose_bytes())?;
        Ok(writer.finish())
    }

    /// Computes the public half, signed by the identity, for the relay.
    #[must_use]
    pub fn public(&self, keys: &IdentityKeys) -> Prekey {
        let mut prekey = self.unsigned();
        let signature = prekey.signed_items(keys.public().claim(), |items| {
            keys.signing_key().sign(items)
        });
        prekey.signature = Bytes(signature);
        prekey
    }

    /// One-time or last-resort.
    #[must_use]
    pub fn kind(&self) -> PrekeyKind {
        self.kind
    }

    /// The number that the token gave it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// When it was made, in seconds since 1970 by the host's clock.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// Computes the public half without its signature, as the transcript has it.
    pub(super) fn unsigned(&self) -> Prekey {
        Prekey {
            kind: self.kind,
            id: self.id,
            issued: self.issued,
            dh: Bytes(self.dh.public().0),
            kem: Bytes(self.kem.encapsulation_key()),
            signature: Bytes([0; 64]),
        }
    }
}
