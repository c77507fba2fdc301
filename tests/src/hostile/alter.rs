//! Every field of every message, altered in turn: by re-encoding what was decoded, and by single bits.

use hostchat_core::wire::{
    Address, Bytes, Confirm, Envelope, FirstHeader, FrameHeader, IdentityClaim, MAX_FRAME,
    PairPublic, Prekey, PrekeyBundle, codec,
};

use super::mallory::{Mallory, encode};

/// An altered form of a message.
#[derive(Clone, Debug)]
pub struct Altered {
    /// What was altered, in words.
    pub what: String,
    /// The encoded result.
    pub bytes: Vec<u8>,
}

/// Values of the right form that belong to somebody else, to put in the place of the right ones.
pub struct Foreign {
    /// A sound identity.
    pub identity: IdentityClaim,
    /// A point that decodes.
    pub share: Bytes<32>,
    /// A sound X25519 key.
    pub dh: Bytes<32>,
    /// A sound encapsulation key.
    pub kem: Bytes<1184>,
}

/// A list of named changes of a value.
type Changes<T> = Vec<Change<T>>;
type Change<T> = (String, Box<dyn Fn(&mut T)>);

macro_rules! changes {
    ($type:ty; $($name:literal: $change:expr),* $(,)?) => {
        vec![$(change::<$type>($name, $change)),*]
    };
}

/// A change with its name.
fn change<T>(name: &'static str, change: impl Fn(&mut T) + 'static) -> Change<T> {
    (name.to_owned(), Box::new(change))
}

impl Foreign {
    /// Values of the adversary's.
    pub fn of(mallory: &mut Mallory, own: &Address, peer: &Address) -> Self {
        let (_, offer) = mallory.offer(own, peer, "271828");
        Self {
            identity: offer.public.identity,
            share: offer.share,
            dh: offer.public.ephemeral,
            kem: offer.public.kem,
        }
    }
}

/// Applies each change to a copy; what changes nothing is left out.
fn each<T: Clone + PartialEq>(
    place: &str,
    honest: &T,
    changes: Changes<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Vec<Altered> {
    let mut all = Vec::new();
    for (name, change) in changes {
        let mut value = honest.clone();
        change(&mut value);
        if value != *honest {
            all.push(Altered {
                what: format!("{place}{name}"),
                bytes: encode(&value),
            });
        }
    }
    all
}

fn flip<const N: usize>(bytes: &mut Bytes<N>, at: usize) {
    if let Some(byte) = bytes.0.get_mut(at) {
        *byte ^= 1;
    }
}

fn renamed(address: &Address) -> Address {
    let other = format!("x{}", address.as_str());
    Address::parse(&other).unwrap_or_else(|_| address.clone())
}

fn elsewhere(address: &Address) -> Address {
    let other = format!("{}@elsewhere.example:7443", address.name());
    Address::parse(&other).unwrap_or_else(|_| address.clone())
}

fn identity_changes<T: 'static>(
    foreign: &Foreign,
    of: fn(&mut T) -> &mut IdentityClaim,
) -> Changes<T> {
    let other = foreign.identity;
    changes! {
        T;
        "identity": move |value| *of(value) = other,
        "identity.sign": move |value| of(value).sign = other.sign,
        "identity.sign, one bit": move |value| flip(&mut of(value).sign, 0),
        "identity.sign, zero": move |value| of(value).sign = Bytes([0; 32]),
        "identity.dh": move |value| of(value).dh = other.dh,
        "identity.dh, one bit": move |value| flip(&mut of(value).dh, 31),
        "identity.dh, zero": move |value| of(value).dh = Bytes([0; 32]),
        "identity.signature": move |value| of(value).signature = other.signature,
        "identity.signature, one bit": move |value| flip(&mut of(value).signature, 63),
    }
}

fn public_changes<const KEM: usize>(foreign: &Foreign) -> Changes<PairPublic<KEM>> {
    let dh = foreign.dh;
    let mut all: Changes<PairPublic<KEM>> = changes! {
        PairPublic<KEM>;
        "role, none": |public| public.role = 0,
        "role, the other": |public| public.role ^= 3,
        "role, large": |public| public.role = 255,
        "suite, none": |public| public.suite = 0,
        "suite, the next": |public| public.suite = 2,
        "initiator, another name": |public| public.initiator = renamed(&public.initiator),
        "initiator, another relay": |public| public.initiator = elsewhere(&public.initiator),
        "responder, another name": |public| public.responder = renamed(&public.responder),
        "responder, another relay": |public| public.responder = elsewhere(&public.responder),
        "addresses exchanged": |public| std::mem::swap(&mut public.initiator, &mut public.responder),
        "both addresses one": |public| public.initiator = public.responder.clone(),
        "ephemeral": move |public| public.ephemeral = dh,
        "ephemeral, one bit": |public| flip(&mut public.ephemeral, 5),
        "ephemeral, zero": |public| public.ephemeral = Bytes([0; 32]),
        "ephemeral, one": |public| public.ephemeral = small_order(),
        "kem, first bit": |public| flip(&mut public.kem, 0),
        "kem, last bit": |public| flip(&mut public.kem, KEM - 1),
        "kem, in the middle": |public| flip(&mut public.kem, KEM / 2),
        "kem, zero": |public| public.kem = Bytes([0; KEM]),
        "kem, not reduced": |public| public.kem = Bytes([0xff; KEM]),
    };
    all.extend(identity_changes(foreign, |public: &mut PairPublic<KEM>| {
        &mut public.identity
    }));
    all
}

/// The point of order four of Curve25519 whose coordinate is 1: every agreement with it is zero.
fn small_order() -> Bytes<32> {
    let mut one = [0; 32];
    one[0] = 1;
    Bytes(one)
}

fn share_changes<T: 'static>(foreign: &Foreign, of: fn(&mut T) -> &mut Bytes<32>) -> Changes<T> {
    let other = foreign.share;
    changes! {
        T;
        "share": move |value| *of(value) = other,
        "share, one bit": move |value| flip(of(value), 1),
        "share, the identity": move |value| *of(value) = Bytes([0; 32]),
        "share, no point": move |value| *of(value) = Bytes([0xff; 32]),
    }
}

fn tag_changes<T: 'static>(of: fn(&mut T) -> &mut Bytes<32>) -> Changes<T> {
    changes! {
        T;
        "tag, first bit": move |value| flip(of(value), 0),
        "tag, last bit": move |value| flip(of(value), 31),
        "tag, zero": move |value| *of(value) = Bytes([0; 32]),
    }
}

fn sid_changes<T: 'static>(of: fn(&mut T) -> &mut Bytes<16>) -> Changes<T> {
    changes! {
        T;
        "sid, one bit": move |value| flip(of(value), 0),
        "sid, zero": move |value| *of(value) = Bytes([0; 16]),
    }
}

fn first_changes(foreign: &Foreign) -> Changes<FirstHeader> {
    let dh = foreign.dh;
    let mut all: Changes<FirstHeader> = changes! {
        FirstHeader;
        "suite, none": |header| header.suite = 0,
        "suite, the next": |header| header.suite = 2,
        "sender, another name": |header| header.sender = renamed(&header.sender),
        "sender, another relay": |header| header.sender = elsewhere(&header.sender),
        "receiver, another name": |header| header.receiver = renamed(&header.receiver),
        "receiver, another relay": |header| header.receiver = elsewhere(&header.receiver),
        "addresses exchanged": |header| std::mem::swap(&mut header.sender, &mut header.receiver),
        "last_resort": |header| header.last_resort = header.last_resort.wrapping_add(1),
        "last_resort, none": |header| header.last_resort = 0,
        "one_time, left out": |header| header.one_time = None,
        "one_time, another": |header| header.one_time = Some(header.one_time.map_or(1, |id| id + 1)),
        "one_time, the last resort": |header| header.one_time = Some(header.last_resort),
        "ephemeral": move |header| header.ephemeral = dh,
        "ephemeral, one bit": |header| flip(&mut header.ephemeral, 7),
        "ephemeral, zero": |header| header.ephemeral = Bytes([0; 32]),
        "ephemeral, one": |header| header.ephemeral = small_order(),
        "kem, first bit": |header| flip(&mut header.kem, 0),
        "kem, last bit": |header| flip(&mut header.kem, 1087),
        "kem, zero": |header| header.kem = Bytes([0; 1088]),
    };
    all.extend(identity_changes(foreign, |header: &mut FirstHeader| {
        &mut header.identity
    }));
    all
}

/// Every field of the frame in turn, and its length.
fn frames(frame: &[u8], foreign: &Foreign) -> Vec<Altered> {
    let Ok((header, rest)) = codec::decode_prefix::<FrameHeader>(frame) else {
        return Vec::new();
    };
    let dh = foreign.dh;
    let changes: Changes<FrameHeader> = changes! {
        FrameHeader;
        "version, none": |header| header.version = 0,
        "version, the next": |header| header.version = 2,
        "suite, none": |header| header.suite = 0,
        "suite, the next": |header| header.suite = 2,
        "session": |header| flip(&mut header.session, 3),
        "ratchet key": move |header| header.ratchet_key = dh,
        "ratchet key, one bit": |header| flip(&mut header.ratchet_key, 9),
        "ratchet key, zero": |header| header.ratchet_key = Bytes([0; 32]),
        "ratchet key, one": |header| header.ratchet_key = small_order(),
        "pn, one more": |header| header.pn = header.pn.wrapping_add(1),
        "pn, at the limit": |header| header.pn = 2_000,
        "pn, huge": |header| header.pn = u32::MAX,
        "n, one more": |header| header.n = header.n.wrapping_add(1),
        "n, one less": |header| header.n = header.n.wrapping_sub(1),
        "n, at the limit": |header| header.n = 2_000,
        "n, huge": |header| header.n = u32::MAX,
        "extension": |header| { let _ = header.extension.push(1); },
    };
    let mut all = each("frame.", &header, changes, |header| {
        let mut bytes = codec::encode_vec::<_, 128>(header)
            .expect("a header fits")
            .to_vec();
        bytes.extend_from_slice(rest);
        bytes
    });

    let start = frame.len() - rest.len();
    let places = [
        ("message id, first bit", start),
        ("message id, last bit", start + 15),
        ("tag, first bit", start + 16),
        ("tag, last bit", start + 31),
        ("ciphertext, first bit", start + 32),
        ("ciphertext, last bit", frame.len() - 1),
    ];
    for (what, at) in places {
        let mut bytes = frame.to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        all.push(altered("frame.", what, bytes));
    }
    let lengths = [
        ("no ciphertext", start + 32),
        ("no tag", start + 16),
        ("no message id", start),
        ("a byte less", frame.len() - 1),
    ];
    for (what, len) in lengths {
        all.push(altered(
            "frame.",
            what,
            frame.iter().copied().take(len).collect(),
        ));
    }
    let longer = frame.iter().copied().chain([0]).collect();
    all.push(altered("frame.", "a byte more", longer));
    let doubled: Vec<u8> = frame.iter().chain(rest).copied().take(MAX_FRAME).collect();
    all.push(altered("frame.", "a second ciphertext", doubled));
    all.push(altered("frame.", "nothing at all", Vec::new()));
    all
}

fn altered(place: &str, what: &str, bytes: Vec<u8>) -> Altered {
    Altered {
        what: format!("{place}{what}"),
        bytes,
    }
}

/// Every field of an envelope altered in turn, and every other kind of envelope made of its parts.
///
/// # Panics
/// If `body` is no envelope.
pub fn fields(body: &[u8], foreign: &Foreign) -> Vec<Altered> {
    let envelope: Envelope<'_> = codec::decode(body).expect("an envelope to alter");
    match &envelope {
        Envelope::PairOffer(offer) => {
            let mut changes = share_changes(foreign, |offer: &mut _| offer_share(offer));
            changes.extend(sid_changes(|offer: &mut hostchat_core::wire::PairOffer| {
                &mut offer.sid
            }));
            let mut all = each("offer.", offer, changes, |offer| {
                encode(&Envelope::PairOffer(offer.clone()))
            });
            all.extend(each(
                "offer.",
                &offer.public,
                public_changes(foreign),
                |public| {
                    let mut offer = offer.clone();
                    offer.public = public.clone();
                    encode(&Envelope::PairOffer(offer))
                },
            ));
            all
        }
        Envelope::PairAnswer(answer) => {
            type Answer = hostchat_core::wire::PairAnswer;
            let mut changes = share_changes(foreign, |answer: &mut Answer| &mut answer.share);
            changes.extend(sid_changes(|answer: &mut Answer| &mut answer.sid));
            changes.extend(tag_changes(|answer: &mut Answer| &mut answer.tag));
            let mut all = each("answer.", answer, changes, |answer| {
                encode(&Envelope::PairAnswer(answer.clone()))
            });
            all.extend(each(
                "answer.",
                &answer.public,
                public_changes(foreign),
                |public| {
                    let mut answer = answer.clone();
                    answer.public = public.clone();
                    encode(&Envelope::PairAnswer(answer))
                },
            ));
            all
        }
        Envelope::PairEnded { sid, runs_left } => {
            let changes: Changes<(Bytes<16>, u8)> = changes! {
            (Bytes<16>, u8);
                    "sid": |ended| flip(&mut ended.0, 0),
                    "runs_left, none": |ended| ended.1 = 0,
                    "runs_left, more": |ended| ended.1 = 255,
                };
            each(
                "ended.",
                &(*sid, *runs_left),
                changes,
                |(sid, runs_left)| {
                    encode(&Envelope::PairEnded {
                        sid: *sid,
                        runs_left: *runs_left,
                    })
                },
            )
        }
        Envelope::Message { frame } => frames(frame, foreign)
            .into_iter()
            .map(|altered| Altered {
                bytes: encode(&Envelope::Message {
                    frame: &altered.bytes,
                }),
                what: altered.what,
            })
            .collect(),
        Envelope::Confirmed { confirm, frame } => confirmed(confirm, frame, foreign),
        Envelope::First { header, frame } => {
            let mut all = each("first.", header, first_changes(foreign), |header| {
                encode(&Envelope::First {
                    header: header.clone(),
                    frame,
                })
            });
            for altered in frames(frame, foreign) {
                all.push(Altered {
                    bytes: encode(&Envelope::First {
                        header: header.clone(),
                        frame: &altered.bytes,
                    }),
                    what: altered.what,
                });
            }
            all.push(altered(
                "first.",
                "without its header",
                encode(&Envelope::Message { frame }),
            ));
            all
        }
    }
}

fn offer_share(offer: &mut hostchat_core::wire::PairOffer) -> &mut Bytes<32> {
    &mut offer.share
}

fn confirmed(confirm: &Confirm, frame: &[u8], foreign: &Foreign) -> Vec<Altered> {
    let mut changes = sid_changes(|confirm: &mut Confirm| &mut confirm.sid);
    changes.extend(tag_changes(|confirm: &mut Confirm| &mut confirm.tag));
    let mut all = each("confirm.", confirm, changes, |confirm| {
        encode(&Envelope::Confirmed {
            confirm: *confirm,
            frame,
        })
    });
    for altered in frames(frame, foreign) {
        all.push(Altered {
            bytes: encode(&Envelope::Confirmed {
                confirm: *confirm,
                frame: &altered.bytes,
            }),
            what: altered.what,
        });
    }
    all.push(altered(
        "confirm.",
        "without its prefix",
        encode(&Envelope::Message { frame }),
    ));
    all
}

/// Every field of a prekey bundle altered in turn.
pub fn bundles(bundle: &PrekeyBundle, foreign: &Foreign) -> Vec<(String, PrekeyBundle)> {
    let prekey = |foreign: &Foreign| -> Changes<Prekey> {
        let (dh, kem) = (foreign.dh, foreign.kem);
        changes! {
        Prekey;
            "kind": |prekey| prekey.kind = match prekey.kind {
                hostchat_core::wire::PrekeyKind::OneTime => hostchat_core::wire::PrekeyKind::LastResort,
                hostchat_core::wire::PrekeyKind::LastResort => hostchat_core::wire::PrekeyKind::OneTime,
            },
            "id": |prekey| prekey.id = prekey.id.wrapping_add(1),
            "issued, later": |prekey| prekey.issued += 1,
            "issued, long ago": |prekey| prekey.issued = 0,
            "issued, never": |prekey| prekey.issued = u64::MAX,
            "dh": move |prekey| prekey.dh = dh,
            "dh, zero": |prekey| prekey.dh = Bytes([0; 32]),
            "kem": move |prekey| prekey.kem = kem,
            "kem, one bit": |prekey| flip(&mut prekey.kem, 600),
            "kem, not reduced": |prekey| prekey.kem = Bytes([0xff; 1184]),
            "signature": |prekey| flip(&mut prekey.signature, 0),
            "signature, zero": |prekey| prekey.signature = Bytes([0; 64]),
        }
    };
    let mut changes: Changes<PrekeyBundle> =
        identity_changes(foreign, |bundle: &mut PrekeyBundle| &mut bundle.identity);
    for (name, change) in prekey(foreign) {
        changes.push((
            format!("last_resort.{name}"),
            Box::new(move |bundle| change(&mut bundle.last_resort)),
        ));
    }
    for (name, change) in prekey(foreign) {
        changes.push((
            format!("one_time.{name}"),
            Box::new(move |bundle| {
                if let Some(prekey) = &mut bundle.one_time {
                    change(prekey);
                }
            }),
        ));
    }
    changes.push((
        "last_resort in both places".to_owned(),
        Box::new(|bundle| bundle.one_time = Some(bundle.last_resort)),
    ));
    changes.push((
        "one_time in both places".to_owned(),
        Box::new(|bundle| bundle.last_resort = bundle.one_time.unwrap_or(bundle.last_resort)),
    ));
    let mut all = Vec::new();
    for (name, change) in changes {
        let mut altered = bundle.clone();
        change(&mut altered);
        if altered != *bundle {
            all.push((name, altered));
        }
    }
    all
}

/// The bytes with one bit altered, at every `step`-th byte in turn.
pub fn bits(body: &[u8], step: usize) -> impl Iterator<Item = Altered> {
    (0..body.len()).step_by(step.max(1)).map(move |at| {
        let mut bytes = body.to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
        altered("", &format!("bit {} of byte {at}", at % 8), bytes)
    })
}

/// The bytes cut short at every `step`-th length, and with something after the end.
pub fn lengths(body: &[u8], step: usize) -> impl Iterator<Item = Altered> {
    let longer = body.iter().copied().chain([0]).collect();
    (0..body.len())
        .step_by(step.max(1))
        .map(|len| {
            altered(
                "",
                &format!("cut to {len}"),
                body.iter().copied().take(len).collect(),
            )
        })
        .chain([altered("", "a byte after the end", longer)])
}
