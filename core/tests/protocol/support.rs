//! People, their ends of a session, and short ways through a handshake.

use hostchat_core::error::Error;
use hostchat_core::handshake::pair::{Initiator, Pending, respond};
use hostchat_core::handshake::{Code, IdentityKeys, PrekeySecret, first};
use hostchat_core::ratchet::{MAX_STORED, Plaintext, Session};
use hostchat_core::wire::{
    Address, Confirm, Envelope, EnvelopeBytes, FirstHeader, PairAnswer, PairOffer, PrekeyBundle,
    PrekeyKind, codec,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// A moment at which the prekeys of the tests are fresh, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Makes the random number generator of a seed.
pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// One of the two people.
pub(crate) struct Person {
    pub(crate) keys: IdentityKeys,
    pub(crate) address: Address,
    pub(crate) rng: ChaCha20Rng,
}

impl Person {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let mut rng = rng(seed);
        let address = Address::parse(&format!("{name}@relay.example:7443")).unwrap();
        Self {
            keys: IdentityKeys::generate(&mut rng).unwrap(),
            address,
            rng,
        }
    }

    /// Makes prekeys: the last-resort one, perhaps a one-time one, and the bundle that the relay shows.
    pub(crate) fn prekeys(&mut self, with_one_time: bool) -> Prekeys {
        let last_resort = PrekeySecret::generate(PrekeyKind::LastResort, 7, NOW, &mut self.rng);
        let one_time = with_one_time
            .then(|| PrekeySecret::generate(PrekeyKind::OneTime, 42, NOW, &mut self.rng));
        let bundle = PrekeyBundle {
            identity: *self.keys.public().claim(),
            last_resort: last_resort.public(&self.keys),
            one_time: one_time.as_ref().map(|prekey| prekey.public(&self.keys)),
        };
        Prekeys {
            last_resort,
            one_time,
            bundle,
        }
    }
}

/// A receiver's prekeys and what the relay shows of them.
pub(crate) struct Prekeys {
    pub(crate) last_resort: PrekeySecret,
    pub(crate) one_time: Option<PrekeySecret>,
    pub(crate) bundle: PrekeyBundle,
}

/// The two people of most tests.
pub(crate) fn alice_and_bob(seed: u64) -> (Person, Person) {
    (
        Person::new("alice", 2 * seed),
        Person::new("bob", 2 * seed + 1),
    )
}

/// One end of a session, with the place for its next state.
pub(crate) struct End {
    pub(crate) session: Box<Session>,
    pub(crate) next: Box<Session>,
    pub(crate) rng: ChaCha20Rng,
}

impl End {
    pub(crate) fn new(rng: ChaCha20Rng) -> Self {
        Self {
            session: Box::new(Session::empty()),
            next: Box::new(Session::empty()),
            rng,
        }
    }

    pub(crate) fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        let mut out = EnvelopeBytes::new();
        self.session.seal(content, &mut self.rng, &mut out).unwrap();
        out.to_vec()
    }

    /// Opens the frame inside an envelope and commits.
    pub(crate) fn open(&mut self, envelope: &[u8]) -> Result<Vec<u8>, Error> {
        let content = self.peek(envelope)?;
        core::mem::swap(&mut self.session, &mut self.next);
        Ok(content)
    }

    /// Opens the frame inside an envelope without committing.
    pub(crate) fn peek(&mut self, envelope: &[u8]) -> Result<Vec<u8>, Error> {
        let before = stored(&self.session);
        let mut plain = Plaintext::new();
        let result = self
            .session
            .open(&mut self.next, frame_of(envelope), &mut plain);
        assert_eq!(stored(&self.session), before, "open changes nothing");
        if result.is_err() {
            assert!(
                self.next.is_empty() && plain.is_empty(),
                "an error leaves nothing behind"
            );
        }
        result.map(|_| plain.to_vec())
    }

    /// The stored form of the present state.
    pub(crate) fn stored(&self) -> Vec<u8> {
        stored(&self.session)
    }
}

/// The stored form of a session.
pub(crate) fn stored(session: &Session) -> Vec<u8> {
    let mut out = vec![0; MAX_STORED];
    let len = session.store(&mut out).unwrap();
    out.truncate(len);
    out
}

/// The frame inside an envelope.
pub(crate) fn frame_of(envelope: &[u8]) -> &[u8] {
    codec::decode::<Envelope<'_>>(envelope)
        .unwrap()
        .frame()
        .unwrap()
}

/// Takes message 3 of a pairing apart.
pub(crate) fn confirmed(envelope: &[u8]) -> (Confirm, &[u8]) {
    match codec::decode(envelope).unwrap() {
        Envelope::Confirmed { confirm, frame } => (confirm, frame),
        other => panic!("not message 3: {other:?}"),
    }
}

/// Takes a first message apart.
pub(crate) fn first_parts(envelope: &[u8]) -> (FirstHeader, &[u8]) {
    match codec::decode(envelope).unwrap() {
        Envelope::First { header, frame } => (header, frame),
        other => panic!("not a first message: {other:?}"),
    }
}

/// The code of most tests.
pub(crate) fn code() -> Code {
    Code::from_digits(b"493027").unwrap()
}

/// The first two messages of a pairing, with everything that both sides hold after them.
pub(crate) struct Run {
    pub(crate) initiator: Initiator,
    pub(crate) offer: PairOffer,
    pub(crate) pending: Pending,
    pub(crate) answer: PairAnswer,
}

/// Runs the first two messages; `typed` is the code that Bob types.
pub(crate) fn run(a: &mut Person, b: &mut Person, typed: &Code) -> Run {
    let (initiator, offer) =
        Initiator::offer(&a.keys, &a.address, &b.address, &code(), &mut a.rng).unwrap();
    let (pending, answer) = respond(&b.keys, &b.address, typed, &offer, &mut b.rng).unwrap();
    Run {
        initiator,
        offer,
        pending,
        answer,
    }
}

/// Pairs two people: the ends after message 3 with the content "first" was opened.
pub(crate) fn paired(seed: u64) -> (End, End) {
    let (mut a, mut b) = alice_and_bob(seed);
    let Run {
        initiator,
        pending,
        answer,
        ..
    } = run(&mut a, &mut b, &code());
    let (mut end_a, mut end_b) = (End::new(a.rng), End::new(b.rng));
    let peer = initiator
        .confirm(&a.keys, &answer, &mut end_a.session, &mut end_a.rng)
        .unwrap();
    assert_eq!(peer, *b.keys.public());
    let third = end_a.seal(b"first");
    let (confirm, frame) = confirmed(&third);
    let mut plain = Plaintext::new();
    pending
        .open(&confirm, frame, &mut end_b.session, &mut plain)
        .unwrap();
    assert_eq!(plain, b"first");
    (end_a, end_b)
}

/// Begins a session by a first message: the ends after the content "first" was opened.
pub(crate) fn begun(seed: u64, with_one_time: bool) -> (End, End) {
    let (a, mut b) = alice_and_bob(seed);
    let prekeys = b.prekeys(with_one_time);
    let (mut end_a, mut end_b) = (End::new(a.rng), End::new(b.rng));
    let peer = b.keys.public();
    first::start(
        &a.keys,
        &a.address,
        &b.address,
        peer,
        &prekeys.bundle,
        NOW,
        &mut end_a.session,
        &mut end_a.rng,
    )
    .unwrap();
    let envelope = end_a.seal(b"first");
    let (header, frame) = first_parts(&envelope);
    let mut plain = Plaintext::new();
    let accepted = first::accept(
        &b.keys,
        &b.address,
        &header,
        &prekeys.last_resort,
        prekeys.one_time.as_ref(),
        frame,
        &mut end_b.session,
        &mut plain,
    )
    .unwrap();
    assert_eq!(accepted.peer, *a.keys.public());
    assert_eq!(plain, b"first");
    (end_a, end_b)
}
