//! An identity of the adversary's own, with which it answers, asks and writes in the place of others.

use hostchat_core::handshake::pair::{Initiator, Pending, respond};
use hostchat_core::handshake::{Code, IdentityKeys, PrekeySecret, first};
use hostchat_core::ratchet::Session;
use hostchat_core::wire::relay::{Account, Kind, Login, RELAY_VERSION, login_items};
use hostchat_core::wire::{
    Address, Bytes, Content, Envelope, EnvelopeBytes, Identity, IdentityClaim, MAX_CONTENT,
    MAX_ENVELOPE, MessageId, PairAnswer, PairOffer, PrekeyBundle, PrekeyKind, RelayName, codec,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::hooks::Mail;

/// The adversary as a peer: everything that hostchat-core gives to anybody.
pub struct Mallory {
    keys: IdentityKeys,
    rng: ChaCha20Rng,
    session: Box<Session>,
}

/// A prekey bundle of the adversary with its secrets.
pub struct Bait {
    /// What is shown.
    pub bundle: PrekeyBundle,
    /// Secret of the last-resort prekey.
    pub last_resort: PrekeySecret,
    /// Secret of the one-time prekey.
    pub one_time: PrekeySecret,
}

impl Mallory {
    /// A new identity; the same seed gives the same one.
    ///
    /// # Panics
    /// If no keys can be made.
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Self {
            keys: IdentityKeys::generate(&mut rng).expect("keys"),
            rng,
            session: Box::new(Session::empty()),
        }
    }

    /// Its identity.
    pub fn identity(&self) -> &Identity {
        self.keys.public()
    }

    /// Its identity as it travels.
    pub fn claim(&self) -> IdentityClaim {
        *self.keys.public().claim()
    }

    /// Fresh random bytes.
    pub fn bytes<const N: usize>(&mut self) -> Bytes<N> {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        Bytes(bytes)
    }

    /// Message 1 in the name of `own`, under a guessed code.
    ///
    /// # Panics
    /// If the code is none, or both addresses are one.
    pub fn offer(&mut self, own: &Address, peer: &Address, code: &str) -> (Initiator, PairOffer) {
        Initiator::offer(&self.keys, own, peer, &guess(code), &mut self.rng).expect("an offer")
    }

    /// Message 2 to an offer that was meant for `own`, under a guessed code.
    ///
    /// # Panics
    /// If the code is none, or the offer is not for `own`.
    pub fn answer(
        &mut self,
        own: &Address,
        code: &str,
        offer: &PairOffer,
    ) -> (Pending, PairAnswer) {
        respond(&self.keys, own, &guess(code), offer, &mut self.rng).expect("an answer")
    }

    /// Says whether message 2 of the other shows that the code was guessed; if so, the session is Mallory's.
    pub fn guessed(&mut self, run: Initiator, answer: &PairAnswer) -> bool {
        run.confirm(&self.keys, answer, &mut self.session, &mut self.rng)
            .is_ok()
    }

    /// Begins a session from a bundle in the name of `own`; [`Mallory::write`] seals under it.
    ///
    /// # Panics
    /// If the bundle cannot be used.
    pub fn begin(&mut self, own: &Address, peer: &Address, bundle: &PrekeyBundle, now: u64) {
        let identity = bundle.identity.verify().expect("an identity");
        let (keys, session) = (&self.keys, &mut self.session);
        let rng = &mut self.rng;
        first::start(keys, own, peer, &identity, bundle, now, session, rng).expect("a session");
    }

    /// Seals a text under the session that was begun or guessed.
    ///
    /// # Panics
    /// If there is no session.
    pub fn write(&mut self, text: &str) -> Vec<u8> {
        let id = self.bytes();
        let content = Content::Text {
            id,
            sent_at: 1_800_000_000_000,
            text,
        };
        let content = codec::encode_vec::<_, MAX_CONTENT>(&content).expect("a content");
        self.write_raw(&content)
    }

    /// Seals any content.
    ///
    /// # Panics
    /// If there is no session, or the content is too long.
    pub fn write_raw(&mut self, content: &[u8]) -> Vec<u8> {
        let mut out = EnvelopeBytes::new();
        self.session
            .seal(content, &mut self.rng, &mut out)
            .expect("a sealed message");
        out.to_vec()
    }

    /// Prekeys of its own.
    pub fn bait(&mut self, now: u64) -> Bait {
        let mut make = |kind, id| PrekeySecret::generate(kind, id, now, &mut self.rng);
        let last_resort = make(PrekeyKind::LastResort, 1);
        let one_time = make(PrekeyKind::OneTime, 2);
        Bait {
            bundle: PrekeyBundle {
                identity: self.claim(),
                last_resort: last_resort.public(&self.keys),
                one_time: Some(one_time.public(&self.keys)),
            },
            last_resort,
            one_time,
        }
    }

    /// A login, signed for what is given.
    pub fn login(
        &self,
        account: Account,
        dialled: &RelayName,
        challenge: &[u8; 32],
        exporter: &[u8; 32],
    ) -> Login {
        let identity = self.claim();
        let text = account.signed_text();
        let signature = login_items(text, dialled, challenge, exporter, &identity, |items| {
            Bytes(self.keys.signing_key().sign(items))
        });
        Login {
            version: RELAY_VERSION,
            identity,
            dialled: dialled.clone(),
            signature,
            visible: true,
            account,
        }
    }

    /// A mail in anybody's name, under a message id of its own, from whoever has logged in as mallory.
    pub fn mail(&mut self, sender: &Address, to: &Address, kind: Kind, body: Vec<u8>) -> Mail {
        Mail {
            to: to.name(),
            sender: sender.clone(),
            message_id: self.bytes::<16>() as MessageId,
            kind,
            body,
            fingerprint: Some(Bytes(self.claim().fingerprint())),
        }
    }
}

/// Encodes an envelope.
///
/// # Panics
/// If it is longer than an envelope may be.
pub fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    codec::encode_vec::<_, MAX_ENVELOPE>(envelope)
        .expect("an envelope fits")
        .to_vec()
}

fn guess(code: &str) -> Code {
    Code::from_digits(code.as_bytes()).expect("six digits")
}
