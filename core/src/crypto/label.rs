//! Every label of the protocol, in one place, distinct and prefix-free.
//!
//! A label says what a hash, a signature, a channel identifier or a derived key is for, so that no value made for one
//! purpose can pass for another. All begin with `hostchat/1 `. None is a prefix of another (a test looks), so that
//! a label followed by other bytes cannot be read as a longer label. [`Label`] has no public constructor: a new
//! purpose gets its line here.

/// A domain-separation label; the bytes are ASCII and public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(&'static str);

impl Label {
    /// Returns the bytes of the label.
    #[must_use]
    pub const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// Returns the label as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Defines the constants and the list of all of them from one table.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $purpose:literal;)+) => {
        $($(#[$doc])* pub const $name: Label = Label(concat!("hostchat/1 ", $purpose));)+

        /// All labels, for the test that they are distinct and prefix-free.
        pub const ALL: &[Label] = &[$($name),+];
    };
}

labels! {
    // Signatures by an identity key.
    /// The X25519 half of an identity.
    IDENTITY = "identity";
    /// A prekey, one-time or last-resort.
    PREKEY = "prekey";
    /// A login at a relay.
    LOGIN = "login";

    // Hashes over public values.
    /// The fingerprint of an identity.
    FINGERPRINT = "fingerprint";
    /// The safety number of two identities.
    SAFETY_NUMBER = "safety number";
    /// The replay mark of a used first message.
    FIRST_MARK = "first mark";

    // Pairing with a code. The channel identifiers end in "ci": "hostchat/1 pair" alone would be a prefix of the rest.
    /// CPace channel identifier of a pairing.
    PAIR_CI = "pair ci";
    /// Transcript hash of a pairing.
    PAIR_TH = "pair th";
    /// Confirmation key of the initiator.
    PAIR_CONFIRM_A = "pair confirm a";
    /// Confirmation key of the responder.
    PAIR_CONFIRM_B = "pair confirm b";
    /// First root key of the session.
    PAIR_ROOT = "pair root";
    /// First chain key of the session.
    PAIR_CHAIN = "pair chain";
    /// Public id of the session.
    PAIR_SESSION_ID = "pair session id";

    // First message without a code.
    /// Transcript hash of a first message.
    FIRST_TH = "first th";
    /// First root key of the session.
    FIRST_ROOT = "first root";
    /// First chain key of the session.
    FIRST_CHAIN = "first chain";
    /// Public id of the session.
    FIRST_SESSION_ID = "first session id";

    // Sessions.
    /// Root chain: the next root key.
    ROOT_KEY = "root key";
    /// Root chain: a fresh chain key.
    CHAIN_KEY = "chain key";
    /// Symmetric chain: the key of one message.
    MESSAGE_KEY = "message key";
    /// Symmetric chain: the next chain key.
    NEXT_CHAIN_KEY = "next chain key";
    /// The AES-SIV key of one message, salted with its id.
    MESSAGE_SIV = "message siv";

    // Host to token.
    /// CPace channel identifier of an unlock.
    UNLOCK_CI = "unlock ci";
    /// Transcript hash of an unlock.
    UNLOCK_TH = "unlock th";
    /// CPace channel identifier of an initialisation.
    INIT_CI = "init ci";
    /// Transcript hash of an initialisation.
    INIT_TH = "init th";
    /// Confirmation key of the host.
    CHANNEL_CONFIRM_A = "channel confirm a";
    /// Confirmation key of the token.
    CHANNEL_CONFIRM_B = "channel confirm b";
    /// Channel key, host to token.
    CHANNEL_H2T = "channel h2t";
    /// Channel key, token to host.
    CHANNEL_T2H = "channel t2h";
    /// The CPace password behind a PIN.
    PIN_PRS = "pin prs";
    /// The wrapping key behind a PIN.
    PIN_WRAP = "pin wrap";
    /// The box on the token that the wrapping key opens.
    PIN_BOX = "pin box";

    // Storage.
    /// A sealed record of the token.
    RECORD = "record";
    /// The key that the host's history is sealed under.
    STORAGE = "storage";
    /// Columns of the host's store.
    VAULT_SEAL = "vault seal";
    /// Keyed marks in the host's store, by which repeats are found.
    VAULT_MARK = "vault mark";
    /// A key commitment, where a key comes from elsewhere.
    COMMITMENT = "commitment";
    /// Mixing of random sources.
    RNG = "rng";
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::ALL;

    #[cfg_attr(test, test)]
    pub fn labels_are_distinct_and_prefix_free() {
        assert!(ALL.len() > 30);
        for (i, a) in ALL.iter().enumerate() {
            let purpose = a.as_str().strip_prefix("hostchat/1 ");
            assert!(purpose.is_some_and(|p| !p.is_empty()), "{a:?}");
            assert!(a.as_str().is_ascii());
            for (j, b) in ALL.iter().enumerate() {
                assert!(
                    i == j || !b.as_str().starts_with(a.as_str()),
                    "{a:?} is a prefix of {b:?}"
                );
            }
        }
    }
}
