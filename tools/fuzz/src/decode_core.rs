//! Every decoder of the core: no panic, and one encoding for each value.
//!
//! The first byte names the decoder, the others are its input. The list is append-only, as the corpus counts on it.

use hostchat_core::handshake::pair::Pending;
use hostchat_core::handshake::{Code, IdentityKeys, PrekeySecret};
use hostchat_core::icd::link::Hello;
use hostchat_core::icd::{
    Answered, Command, ContactInfo, FromToken, Generations, Log, Offered, Opened, Reply,
    SessionInfo, Status, ToToken,
};
use hostchat_core::ratchet::{MAX_SKIPPED, MAX_STORED, Session};
use hostchat_core::wire::content::MAX_TEXT;
use hostchat_core::wire::relay::{Answer, Call, Delivery, Event, Login, Request};
use hostchat_core::wire::{
    Account, Address, Confirm, Content, Envelope, EnvelopeBytes, FirstHeader, Frame, FrameHeader,
    Generation, IdentityClaim, MAX_FRAME, MAX_PADDED, Name, PairAnswer, PairOffer, Prekey,
    PrekeyBundle, PrekeyKind, PrekeyRef, Quiet, RelayName, codec, pad,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

/// A decoder and its name in the corpus.
pub type Decoder = (&'static str, fn(&[u8]));

/// A decoder of the wire: what it takes encodes to the same bytes, and no shorter or longer input does.
macro_rules! wire {
    ($type:ty) => {
        |bytes: &[u8]| {
            let Ok(value) = codec::decode::<$type>(bytes) else {
                return;
            };
            let mut out = vec![0; bytes.len()];
            let encoded = codec::encode(&value, &mut out).map(|encoded| &*encoded);
            assert_eq!(encoded, Ok(bytes), "another encoding");
            let shorter = bytes.len().checked_sub(1).and_then(|end| bytes.get(..end));
            if let Some(shorter) = shorter {
                assert!(codec::decode::<$type>(shorter).is_err(), "truncated");
            }
            let longer = [bytes, &[0]].concat();
            assert!(codec::decode::<$type>(&longer).is_err(), "trailing byte");
        }
    };
}

/// The decoders by number.
pub const DECODERS: &[Decoder] = &[
    ("Envelope", wire!(Envelope<'_>)),
    ("Content", content),
    ("Quiet", wire!(Quiet)),
    ("Request", wire!(Request<'_>)),
    ("Call", wire!(Call<'_>)),
    ("Event", wire!(Event<'_>)),
    ("Answer", wire!(Answer<'_>)),
    ("ToToken", wire!(ToToken<'_>)),
    ("FromToken", wire!(FromToken<'_>)),
    ("Command", wire!(Command<'_>)),
    ("Reply", wire!(Reply<'_>)),
    ("frame", frame),
    ("session", session),
    ("prekey secret", prekey_secret),
    ("pending", pending),
    ("identity keys", identity_keys),
    ("Address", address),
    ("Name", name),
    ("RelayName", relay_name),
    ("identity", identity),
    ("padding", padding),
    ("code", code),
    ("PairOffer", wire!(PairOffer)),
    ("PairAnswer", wire!(PairAnswer)),
    ("FirstHeader", wire!(FirstHeader)),
    ("Confirm", wire!(Confirm)),
    ("Prekey", wire!(Prekey)),
    ("PrekeyBundle", wire!(PrekeyBundle)),
    ("PrekeyKind", wire!(PrekeyKind)),
    ("PrekeyRef", wire!(PrekeyRef)),
    ("Generation", wire!(Generation)),
    ("Account", wire!(Account)),
    ("Login", wire!(Login)),
    ("Delivery", wire!(Delivery<'_>)),
    ("Hello", wire!(Hello)),
    ("FrameHeader", wire!(FrameHeader)),
    ("Status", wire!(Status)),
    ("Log", wire!(Log)),
    ("Opened", wire!(Opened<'_>)),
    ("ContactInfo", wire!(ContactInfo)),
    ("Generations", wire!(Generations)),
    ("SessionInfo", wire!(SessionInfo)),
    ("Offered", wire!(Offered)),
    ("Answered", wire!(Answered)),
];

/// Runs one decoder.
pub fn run(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let (_, decoder) = DECODERS[usize::from(*which) % DECODERS.len()];
    decoder(rest);
}

fn content(bytes: &[u8]) {
    wire!(Content<'_>)(bytes);
    if let Ok(Content::Text { text, .. } | Content::Note { text, .. }) = codec::decode(bytes) {
        assert!(text.len() <= MAX_TEXT, "a text of {} bytes", text.len());
    }
}

fn frame(bytes: &[u8]) {
    wire!(FrameHeader)(bytes);
    let Ok(frame) = Frame::parse(bytes) else {
        return;
    };
    let parts = [
        frame.header_bytes,
        &frame.message_id.0,
        &frame.tag,
        frame.ciphertext,
    ];
    assert_eq!(parts.concat(), bytes, "a frame is its parts");
    assert!(bytes.len() <= MAX_FRAME);
    let header = codec::encode_vec::<_, 128>(&frame.header);
    assert_eq!(header.as_deref(), Ok(frame.header_bytes));
}

/// A stored session that loads is stored the same, and works on without a panic, whatever keys it has.
fn session(bytes: &[u8]) {
    let mut session = Box::new(Session::empty());
    if session.load(bytes).is_err() {
        assert!(session.is_empty(), "a refused session leaves nothing");
        return;
    }
    assert!(stored(&session) == bytes, "another stored form");
    assert!(session.skipped() <= MAX_SKIPPED && !session.is_empty());
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let (mut envelope, mut next) = (EnvelopeBytes::new(), Box::new(Session::empty()));
    let mut plain = heapless::Vec::<u8, MAX_PADDED>::new();
    if session.seal(b"content", &mut rng, &mut envelope).is_err() {
        assert!(stored(&session) == bytes, "a refused seal changes nothing");
        return;
    }
    let sealed = codec::decode::<Envelope<'_>>(&envelope).map(|envelope| envelope.frame());
    assert!(matches!(sealed, Ok(Some(_))), "not an envelope of a frame");
    if let Ok(Some(frame)) = sealed {
        let own = session.open(&mut next, frame, &mut plain);
        assert!(own.is_err() && next.is_empty(), "an own frame opens");
    }
}

fn stored(session: &Session) -> Vec<u8> {
    let mut out = vec![0; MAX_STORED];
    let length = session.store(&mut out);
    assert!(length.is_ok(), "{length:?}");
    out.truncate(length.unwrap_or(0));
    out
}

fn prekey_secret(bytes: &[u8]) {
    if let Ok(secret) = PrekeySecret::load(bytes) {
        let mut out = [0; PrekeySecret::LEN];
        assert_eq!(secret.store(&mut out), Ok(bytes.len()));
        assert_eq!(out, bytes);
    }
}

fn pending(bytes: &[u8]) {
    if let Ok(pending) = Pending::load(bytes) {
        let mut out = vec![0; Pending::MAX_LEN];
        let length = pending.store(&mut out);
        assert_eq!(length, Ok(bytes.len()));
        assert!(out.starts_with(bytes));
    }
}

fn identity_keys(bytes: &[u8]) {
    if let Ok(keys) = IdentityKeys::load(bytes) {
        let mut out = [0; IdentityKeys::LEN];
        assert_eq!(keys.store(&mut out), Ok(bytes.len()));
        assert_eq!(out, bytes);
    }
}

fn address(bytes: &[u8]) {
    wire!(Address)(bytes);
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(address) = Address::parse(text)
    {
        assert_eq!(address.as_str(), text);
        assert_eq!(Address::new(&address.name(), &address.relay()), address);
        name(address.name().as_str().as_bytes());
        relay_name(address.relay().as_str().as_bytes());
    }
}

fn name(bytes: &[u8]) {
    wire!(Name)(bytes);
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(name) = Name::parse(text)
    {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains('@') && !text.is_empty());
    }
}

fn relay_name(bytes: &[u8]) {
    wire!(RelayName)(bytes);
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(relay) = RelayName::parse(text)
    {
        assert_eq!(relay.as_str(), text);
        let host = relay.host();
        let brackets = text.starts_with('[');
        assert_eq!(brackets, host.parse::<core::net::Ipv6Addr>().is_ok());
        let again = if brackets {
            format!("[{host}]:{}", relay.port())
        } else {
            format!("{host}:{}", relay.port())
        };
        assert_eq!(again, text);
    }
}

fn identity(bytes: &[u8]) {
    wire!(IdentityClaim)(bytes);
    if let Ok(claim) = codec::decode::<IdentityClaim>(bytes)
        && let Ok(identity) = claim.verify()
    {
        assert_eq!(identity.to_bytes(), bytes);
        assert_eq!(identity.safety_number(&identity).len(), 60);
    }
}

fn padding(bytes: &[u8]) {
    let mut in_place = heapless::Vec::<u8, MAX_PADDED>::new();
    let fits = in_place.extend_from_slice(bytes).is_ok();
    let Ok(content) = pad::unpad(bytes) else {
        assert!(!fits || pad::unpad_in_place(&mut in_place).is_err());
        return;
    };
    let mut again = heapless::Vec::<u8, MAX_PADDED>::new();
    assert_eq!(pad::pad(content, &mut again), Ok(bytes.len()));
    assert_eq!(again, bytes);
    assert_eq!(pad::unpad_in_place(&mut in_place), Ok(()));
    assert_eq!(in_place, content);
}

fn code(bytes: &[u8]) {
    if let Ok(code) = Code::from_digits(bytes) {
        assert_eq!(code.expose_digits().as_slice(), bytes);
    }
}
