//! The private half of an identity.

use rand_core::CryptoRng;

use crate::crypto::dh::DhSecret;
use crate::crypto::label;
use crate::crypto::sign::SigningKey;
use crate::error::{Error, Misuse, Peer};
use crate::ratchet::{Reader, Writer};
use crate::wire::{Bytes, Identity, IdentityClaim, SUITE};

/// The two private keys of an identity, and the public half that they give.
pub struct IdentityKeys {
    sign: SigningKey,
    dh: DhSecret,
    public: Identity,
}

impl IdentityKeys {
    /// Length of the stored form in bytes: Ed25519 seed, X25519 private key.
    pub const LEN: usize = 64;

    /// Makes a new identity.
    ///
    /// # Errors
    ///
    /// None that a sound random number generator can cause.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        Self::new(SigningKey::generate(rng), DhSecret::generate(rng))
    }

    /// Puts an identity together and signs its public half; Ed25519 signs deterministically, so the
    /// public half is always the same.
    ///
    /// # Errors
    ///
    /// None for keys that were drawn at random.
    pub fn new(sign: SigningKey, dh: DhSecret) -> Result<Self, Error> {
        let keys = Self::put_together(sign, dh);
        keys.public.claim().verify()?;
        Ok(keys)
    }

    fn put_together(sign: SigningKey, dh: DhSecret) -> Self {
        let (dh_public, sign_public) = (dh.public(), sign.verifying_key());
        let claim = IdentityClaim {
            sign: Bytes(*sign_public.as_bytes()),
            dh: Bytes(dh_public.0),
            signature: Bytes(sign.sign(&[label::IDENTITY.as_bytes(), &[SUITE], &dh_public.0])),
        };
        let public = Identity::own(claim, sign_public);
        Self { sign, dh, public }
    }

    /// Reads the stored form, exactly [`Self::LEN`] bytes. The public half is computed, not checked: it was when the
    /// identity was made, and a chip needs a third of a second for that.
    ///
    /// # Errors
    ///
    /// `Decode` for another length.
    pub fn load(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let sign = SigningKey::from_slice(reader.bytes(SigningKey::LEN)?)?;
        let dh = DhSecret::from_slice(reader.bytes(DhSecret::LEN)?)?;
        reader.finish()?;
        Ok(Self::put_together(sign, dh))
    }

    /// Writes the stored form to the front of `out` and gives its length, [`Self::LEN`].
    ///
    /// # Errors
    ///
    /// [`Misuse::BufferTooSmall`].
    pub fn store(&self, out: &mut [u8]) -> Result<usize, Error> {
        if out.len() < Self::LEN {
            return Err(Misuse::BufferTooSmall.into());
        }
        let mut writer = Writer::new(out);
        writer.bytes(self.sign.expose_bytes())?;
        writer.bytes(self.dh.expose_bytes())?;
        Ok(writer.finish())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &Identity {
        &self.public
    }

    /// The key that signs prekeys and logins.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.sign
    }

    /// The X25519 key of the handshakes.
    pub(crate) fn dh(&self) -> &DhSecret {
        &self.dh
    }

    /// Checks a peer's claim: sound keys, bound by a signature, and not our own.
    pub(crate) fn check_peer(&self, claim: &IdentityClaim) -> Result<Identity, Error> {
        let own = self.public.claim();
        if claim.sign == own.sign || claim.dh == own.dh {
            return Err(Peer::OwnIdentity.into());
        }
        claim.verify()
    }
}
