//! The symmetric chains: one key per message, forgotten as the chain steps on.

use crate::crypto::siv::SivKey;
use crate::crypto::{kdf, label, mac};
use crate::error::{Error, Limit};
use crate::wire::MessageId;

/// The most messages that one frame may jump over in a chain (SPEC section 9).
///
/// It bounds the work that an unauthenticated frame causes. What is left of an older chain when a new one begins is not a
/// jump: of that no more keys are walked than are kept.
pub const MAX_JUMP: u32 = 2000;

crate::secret! {
    /// Key of a chain, between two messages.
    pub(crate) struct ChainKey(32), duplicate;
    /// Key of one message of a chain; the SIV key comes from it and from the message id.
    pub(crate) struct MessageKey(32);
}

impl MessageKey {
    /// Derives the key that seals one message: a fresh one per message id, so that a state that
    /// was rolled back does not use a key twice.
    pub(crate) fn siv_key(&self, message_id: &MessageId) -> SivKey {
        kdf::hkdf(&message_id.0, &[self.expose_bytes()], label::MESSAGE_SIV)
    }
}

/// A chain key together with the number of the message that it is for.
pub(crate) struct Chain {
    pub(crate) key: ChainKey,
    pub(crate) n: u32,
}

impl Chain {
    /// Starts a chain at its first message.
    pub(crate) const fn new(key: ChainKey) -> Self {
        Self { key, n: 0 }
    }

    /// Gives the number of messages between this point and message `n`, if a frame may jump so far.
    ///
    /// # Errors
    ///
    /// [`Limit::Replayed`] if the chain is past `n`, [`Limit::SkipTooFar`] if `n` is more than
    /// [`MAX_JUMP`] ahead.
    pub(crate) fn jump_to(&self, n: u32) -> Result<u32, Error> {
        let jump = n.checked_sub(self.n).ok_or(Limit::Replayed)?;
        if jump > MAX_JUMP {
            return Err(Limit::SkipTooFar.into());
        }
        Ok(jump)
    }

    /// Gives the key of the current message.
    ///
    /// # Errors
    ///
    /// [`Limit::CounterEnd`] at the last number: counters do not wrap, so it is never used.
    pub(crate) fn message_key(&self) -> Result<MessageKey, Error> {
        self.following()?;
        Ok(mac::derive(self.key.expose_bytes(), label::MESSAGE_KEY))
    }

    /// Steps on to the next message; the key before it can no longer be computed.
    ///
    /// # Errors
    ///
    /// [`Limit::CounterEnd`] at the last number; the chain is unchanged.
    pub(crate) fn pass(&mut self) -> Result<(), Error> {
        self.n = self.following()?;
        self.key = mac::derive(self.key.expose_bytes(), label::NEXT_CHAIN_KEY);
        Ok(())
    }

    /// Takes the key of the current message and steps on.
    ///
    /// # Errors
    ///
    /// [`Limit::CounterEnd`] at the last number; the chain is unchanged.
    pub(crate) fn take(&mut self) -> Result<MessageKey, Error> {
        let key = self.message_key()?;
        self.pass()?;
        Ok(key)
    }

    /// Copies the chain, for the next state of a session.
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            key: self.key.duplicate(),
            n: self.n,
        }
    }

    fn following(&self) -> Result<u32, Error> {
        self.n.checked_add(1).ok_or(Error::Limit(Limit::CounterEnd))
    }
}
