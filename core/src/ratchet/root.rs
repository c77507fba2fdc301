//! The root chain: each Diffie-Hellman step mixes a fresh secret in and starts a message chain.

use super::chain::Chain;
use crate::crypto::dh::{DhPublic, DhSecret};
use crate::crypto::kdf::Prk;
use crate::crypto::label;
use crate::error::Error;

crate::secret! {
    /// Key of the root chain.
    pub(crate) struct RootKey(32), duplicate;
}

impl RootKey {
    /// Takes one Diffie-Hellman step: the next root key and the chain that it starts.
    ///
    /// # Errors
    ///
    /// `Peer::AllZeroShared` if the peer's key contributes nothing.
    pub(crate) fn step(&self, own: &DhSecret, peer: &DhPublic) -> Result<(Self, Chain), Error> {
        let shared = own.agree(peer)?;
        let prk = Prk::extract(self.expose_bytes(), &[shared.expose_bytes()]);
        Ok((
            prk.expand(label::ROOT_KEY),
            Chain::new(prk.expand(label::CHAIN_KEY)),
        ))
    }
}
