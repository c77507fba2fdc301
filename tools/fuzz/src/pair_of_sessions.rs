//! Two ends of one session, as a handshake leaves them, made once.

use std::sync::OnceLock;

use hostchat_core::error::Error;
use hostchat_core::handshake::pair::{Initiator, respond};
use hostchat_core::handshake::{Code, IdentityKeys, PrekeySecret, first};
use hostchat_core::ratchet::{MAX_STORED, Plaintext, Session};
use hostchat_core::wire::{Address, Envelope, EnvelopeBytes, PrekeyBundle, PrekeyKind, codec};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

/// The stored form of both ends once the first frame has opened; the initiator comes first.
pub struct Ends {
    /// Sealed one frame, and has heard nothing.
    pub initiator: Vec<u8>,
    /// Opened it, and has said nothing.
    pub responder: Vec<u8>,
    /// The frame.
    pub frame: Vec<u8>,
}

/// The content of the first frame.
pub const FIRST: &[u8] = b"the first";

/// After a pairing with a code.
///
/// # Errors
/// None, unless a handshake is broken.
pub fn paired() -> &'static Result<Ends, Error> {
    static ENDS: OnceLock<Result<Ends, Error>> = OnceLock::new();
    ENDS.get_or_init(pair)
}

/// After a first message without a code.
///
/// # Errors
/// None, unless a handshake is broken.
pub fn unpaired() -> &'static Result<Ends, Error> {
    static ENDS: OnceLock<Result<Ends, Error>> = OnceLock::new();
    ENDS.get_or_init(write_first)
}

/// The stored form of a session.
///
/// # Errors
/// As [`Session::store`].
pub fn stored(session: &Session) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; MAX_STORED];
    let length = session.store(&mut out)?;
    out.truncate(length);
    Ok(out)
}

fn people() -> Result<([IdentityKeys; 2], [Address; 2], ChaCha20Rng), Error> {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let keys = [
        IdentityKeys::generate(&mut rng)?,
        IdentityKeys::generate(&mut rng)?,
    ];
    let addresses = [
        Address::parse("alice@relay.example:7443")?,
        Address::parse("bob@other.example:443")?,
    ];
    Ok((keys, addresses, rng))
}

fn pair() -> Result<Ends, Error> {
    let ([alice, bob], [a, b], mut rng) = people()?;
    let code = Code::from_digits(b"042917")?;
    let (run, offer) = Initiator::offer(&alice, &a, &b, &code, &mut rng)?;
    let (pending, answer) = respond(&bob, &b, &code, &offer, &mut rng)?;
    let (mut ours, mut theirs) = (Box::new(Session::empty()), Box::new(Session::empty()));
    run.confirm(&alice, &answer, &mut ours, &mut rng)?;
    let mut envelope = EnvelopeBytes::new();
    ours.seal(FIRST, &mut rng, &mut envelope)?;
    let mut frame = Vec::new();
    if let Envelope::Confirmed { confirm, frame: f } = codec::decode(&envelope)? {
        pending.open(&confirm, f, &mut theirs, &mut Plaintext::new())?;
        frame = f.to_vec();
    }
    Ok(Ends {
        initiator: stored(&ours)?,
        responder: stored(&theirs)?,
        frame,
    })
}

fn write_first() -> Result<Ends, Error> {
    const NOW: u64 = 1_800_000_000;
    let ([alice, bob], [a, b], mut rng) = people()?;
    let last_resort = PrekeySecret::generate(PrekeyKind::LastResort, 7, NOW, &mut rng);
    let bundle = PrekeyBundle {
        identity: *bob.public().claim(),
        last_resort: last_resort.public(&bob),
        one_time: None,
    };
    let (mut ours, mut theirs) = (Box::new(Session::empty()), Box::new(Session::empty()));
    let known = bob.public();
    first::start(&alice, &a, &b, known, &bundle, NOW, &mut ours, &mut rng)?;
    let mut envelope = EnvelopeBytes::new();
    ours.seal(FIRST, &mut rng, &mut envelope)?;
    let mut frame = Vec::new();
    if let Envelope::First { header, frame: f } = codec::decode(&envelope)? {
        let mut plain = Plaintext::new();
        first::accept(
            &bob,
            &b,
            &header,
            &last_resort,
            None,
            f,
            &mut theirs,
            &mut plain,
        )?;
        frame = f.to_vec();
    }
    Ok(Ends {
        initiator: stored(&ours)?,
        responder: stored(&theirs)?,
        frame,
    })
}
