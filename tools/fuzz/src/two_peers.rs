//! Two real sessions and an adversary who knows everything that stands in clear.
//!
//! ```text
//!  seal ──▶ all frames ever sealed ──▶ delivered to any side, in any order, again, altered
//!                 └── headers ──▶ forged frames        snapshots ──▶ restored sides
//! ```
//!
//! A small model, which knows no key, says of each genuine frame whether it opens. Invariants (SPEC section 9.8, at
//! this level): a refused frame leaves the state as it was; a frame opens once at most, to exactly its content, on the
//! other side only; a forged one never; as long as no side was restored, no chain key seals twice and what is within
//! the limits opens, whatever was forged in between.

use std::collections::HashSet;

use hostchat_core::ratchet::{MAX_JUMP, MAX_SKIPPED, Plaintext, Session};
use hostchat_core::wire::{Bytes, Envelope, EnvelopeBytes, Frame, FrameHeader, MAX_FRAME, codec};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::input::Input;
use crate::pair_of_sessions::{Ends, FIRST, paired, stored, unpaired};

/// Most seals of one run: enough for a jump that is too far.
const MAX_SEALS: usize = 2_200;
/// Most decisions of one run.
const MAX_STEPS: usize = 300;
/// Most deliveries of one run, but for those at its end.
const MAX_OPENS: usize = 1_000;
/// Steps of the root chain for which a skipped key is there for certain; SPEC forgets it after 30.
const CERTAIN_STEPS: u32 = 25;

/// Keys kept of the rest of a chain that is longer than a jump.
const KEPT_OF_A_LONG_REST: u32 = 256;

/// A frame that a side has sealed.
struct Genuine {
    from: usize,
    bytes: Vec<u8>,
    content: Vec<u8>,
    id: Bytes<16>,
    /// Which of its sender's chains.
    chain: usize,
    pn: u32,
    n: u32,
}

/// What the model knows of a side as a receiver.
#[derive(Clone, Default)]
struct Receiver {
    /// The chain that it receives on, and the next number in it.
    chain: Option<(usize, u32)>,
    /// Chain, number and step of each key that is kept, oldest first.
    skipped: Vec<(usize, u32, u32)>,
    step: u32,
    /// Indices of the frames that it has opened.
    opened: HashSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Opens,
    Refused,
    /// The limits leave it open.
    Either,
}

struct Side {
    session: Box<Session>,
    rng: ChaCha20Rng,
    receiver: Receiver,
    /// Its ratchet keys, in order.
    chains: Vec<[u8; 32]>,
}

struct Run {
    sides: [Side; 2],
    frames: Vec<Genuine>,
    snapshots: Vec<(usize, Vec<u8>, Receiver)>,
    sealed: HashSet<([u8; 32], u32)>,
    ids: HashSet<[u8; 16]>,
    next: Box<Session>,
    plain: Plaintext,
    opens: usize,
    /// A side was set back: what is lost by that is not the ratchet's fault.
    restored: bool,
}

/// Interprets the input: a byte for the handshake, then one for each act, and its arguments.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let ends = if input.flag() { unpaired() } else { paired() };
    let Ok(ends) = ends else {
        assert!(ends.is_ok(), "no handshake: {:?}", ends.as_ref().err());
        return;
    };
    let mut run = Run::new(ends);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        run.act(&mut input);
    }
    run.end();
}

impl Run {
    fn new(ends: &Ends) -> Self {
        let side = |bytes: &[u8], seed| {
            let mut session = Box::new(Session::empty());
            assert_eq!(session.load(bytes), Ok(()));
            Side {
                session,
                rng: ChaCha20Rng::from_seed([seed; 32]),
                receiver: Receiver::default(),
                chains: Vec::new(),
            }
        };
        let mut run = Self {
            sides: [side(&ends.initiator, 2), side(&ends.responder, 3)],
            frames: Vec::new(),
            snapshots: Vec::new(),
            sealed: HashSet::new(),
            ids: HashSet::new(),
            next: Box::new(Session::empty()),
            plain: Plaintext::new(),
            opens: 0,
            restored: false,
        };
        run.note(0, &ends.frame, FIRST.to_vec());
        let first = run.frames.len() - 1;
        run.sides[1].receiver.open(first, &run.frames[first]);
        run
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let act = input.byte();
        let side = usize::from(act >> 7);
        match act & 0x7f {
            0..16 => {
                let length = match input.byte() {
                    length @ 0..=250 => usize::from(length),
                    more => usize::from(more - 250) * 800,
                };
                self.seal(side, length);
            }
            16..31 => {
                let count = match input.byte() % 8 {
                    0..4 => 2,
                    4 => 17,
                    5 => 255,
                    6 => 257,
                    _ => usize::from(input.byte()),
                };
                self.seal_many(side, count);
            }
            31 => self.seal_many(side, 1_999 + usize::from(input.byte() % 3)),
            32..64 => {
                let which = self.pick(input);
                self.deliver(1 - self.frames[which].from, which, true);
            }
            64..72 => {
                let which = self.pick(input);
                self.deliver(side, which, true);
            }
            72..80 => {
                let which = self.pick(input);
                self.deliver(side, which, false);
            }
            80..100 => self.forge(side, input),
            100..112 => self.alter(side, input),
            112..118 => self.store_and_load(side),
            118..122 => {
                if self.snapshots.len() < 4 {
                    let (session, receiver) = self.state(side);
                    self.snapshots.push((side, session, receiver));
                }
            }
            122 => {
                let which = input.index(self.snapshots.len());
                self.restore(which);
            }
            _ => {
                // Everything that is on its way to this side, in order.
                for which in 0..self.frames.len() {
                    if !self.sides[side].receiver.opened.contains(&which) {
                        self.deliver(side, which, true);
                    }
                }
            }
        }
    }

    /// A frame; the newest ones are the likeliest.
    fn pick(&self, input: &mut Input<'_>) -> usize {
        match input.byte() {
            back @ 0..=200 => (self.frames.len() - 1).saturating_sub(usize::from(back)),
            _ => input.index(self.frames.len()),
        }
    }

    /// Of many, the first and the last ones get out.
    fn seal_many(&mut self, side: usize, count: usize) {
        for at in 0..count {
            if self.sealed.len() >= MAX_SEALS {
                return;
            }
            self.seal(side, 0);
            if (8..count.saturating_sub(8)).contains(&at) {
                self.frames.pop();
            }
        }
    }

    fn seal(&mut self, side: usize, length: usize) {
        if self.sealed.len() >= MAX_SEALS {
            return;
        }
        let content: Vec<u8> = (0..length.min(4096))
            .map(|at| (at + self.sealed.len()).to_le_bytes()[0])
            .collect();
        let mut envelope = EnvelopeBytes::new();
        let Side { session, rng, .. } = &mut self.sides[side];
        let sealed = session.seal(&content, rng, &mut envelope);
        assert!(sealed.is_ok(), "a live session does not seal: {sealed:?}");
        let envelope = codec::decode::<Envelope<'_>>(&envelope);
        let frame = envelope.ok().and_then(|envelope| envelope.frame());
        assert!(frame.is_some(), "no frame in the envelope");
        self.note(side, frame.unwrap_or_default(), content);
    }

    /// Remembers a frame that `side` has sealed.
    fn note(&mut self, side: usize, bytes: &[u8], content: Vec<u8>) {
        let frame = Frame::parse(bytes);
        assert!(frame.is_ok(), "an own frame does not parse");
        let Ok(Frame {
            header, message_id, ..
        }) = frame
        else {
            return;
        };
        let key = header.ratchet_key.0;
        assert!(self.ids.insert(message_id.0), "a message id comes twice");
        let is_new = self.sealed.insert((key, header.n));
        assert!(is_new || self.restored, "a chain key has sealed twice");
        let Side {
            chains, receiver, ..
        } = &mut self.sides[side];
        let known = chains.iter().position(|chain| *chain == key);
        let chain = known.unwrap_or(chains.len());
        if known.is_none() {
            // The root chain steps on for a chain of either direction.
            receiver.step += 1;
            chains.push(key);
        }
        self.frames.push(Genuine {
            from: side,
            bytes: bytes.to_vec(),
            content,
            id: message_id,
            chain,
            pn: header.pn,
            n: header.n,
        });
    }

    fn deliver(&mut self, to: usize, which: usize, commit: bool) {
        self.opens += 1;
        if self.opens > MAX_OPENS {
            return;
        }
        let frame = &self.frames[which];
        let side = &mut self.sides[to];
        let verdict = if frame.from == to || side.receiver.opened.contains(&which) {
            Verdict::Refused
        } else if self.restored {
            Verdict::Either
        } else {
            side.receiver.verdict(frame)
        };
        // What it opens is not changed: `open` takes it by a shared reference.
        let opened = side
            .session
            .open(&mut self.next, &frame.bytes, &mut self.plain);
        match opened {
            Ok(opened) => {
                assert_ne!(verdict, Verdict::Refused, "frame {which} opens");
                assert!(*self.plain == *frame.content, "another content");
                assert_eq!(opened.message_id, frame.id);
                assert!(self.next.skipped() <= MAX_SKIPPED);
                if commit {
                    core::mem::swap(&mut side.session, &mut self.next);
                    side.receiver.open(which, frame);
                }
            }
            Err(error) => {
                assert_ne!(verdict, Verdict::Opens, "frame {which}: {error}");
                assert!(self.next.is_empty() && self.plain.is_empty());
            }
        }
    }

    /// A frame that the adversary has made: it must be refused, and change nothing.
    fn refuse(&mut self, to: usize, bytes: &[u8]) {
        let side = &self.sides[to];
        let before = stored(&side.session);
        let opened = side.session.open(&mut self.next, bytes, &mut self.plain);
        assert!(opened.is_err(), "a forged frame opens");
        assert!(self.next.is_empty() && self.plain.is_empty());
        assert!(
            stored(&side.session) == before,
            "a forgery changed the state"
        );
    }

    /// Another header around a random id and body.
    fn forge(&mut self, to: usize, input: &mut Input<'_>) {
        let which = self.pick(input);
        let Ok(genuine) = Frame::parse(&self.frames[which].bytes) else {
            return;
        };
        let (FrameHeader { n, pn, .. }, how) = (genuine.header.clone(), input.byte());
        let mut header = genuine.header.clone();
        let number = |input: &mut Input<'_>, now: u32| match input.byte() {
            0 => now,
            1 => 0,
            2 => MAX_JUMP,
            3 => MAX_JUMP + 1,
            4 => 5_000,
            5 => u32::MAX,
            6 => u32::MAX - 1,
            7 => now.wrapping_sub(1),
            ahead => now.wrapping_add(u32::from(ahead) * 8),
        };
        header.n = number(input, n);
        header.pn = number(input, pn);
        match how % 8 {
            0..3 => {}
            3 => header.ratchet_key = Bytes(input.array()),
            4 => header.ratchet_key = Bytes([0; 32]),
            5 => {
                let other = self.pick(input);
                if let Ok(other) = Frame::parse(&self.frames[other].bytes) {
                    header.ratchet_key = other.header.ratchet_key;
                }
            }
            6 => header.session = Bytes(input.array()),
            _ => {
                let _ = header.extension.push(input.byte());
            }
        }
        let mut forged = codec::encode_vec::<_, MAX_FRAME>(&header).unwrap_or_default();
        // Drawn, as an id that was never sealed.
        let mut id = [0; 16];
        self.sides[to].rng.fill_bytes(&mut id);
        let body = match how >> 6 {
            0 => &[][..],
            1 => genuine.ciphertext,
            2 => &[0; 64],
            _ => input.bytes(72),
        };
        let tag = if how & 8 == 0 { genuine.tag } else { [0; 16] };
        for part in [&id[..], &tag, body] {
            let _ = forged.extend_from_slice(part);
        }
        self.refuse(to, &forged);
    }

    /// A genuine frame with one bit turned over, cut short, or with a byte more.
    fn alter(&mut self, to: usize, input: &mut Input<'_>) {
        let which = self.pick(input);
        let mut bytes = self.frames[which].bytes.clone();
        let at = input.index(bytes.len() * 8);
        match input.byte() % 4 {
            0 => bytes.truncate(at / 8),
            1 => bytes.push(input.byte()),
            _ => bytes[at / 8] ^= 1 << (at % 8),
        }
        self.refuse(to, &bytes);
    }

    fn store_and_load(&mut self, side: usize) {
        let (bytes, _) = self.state(side);
        assert_eq!(self.next.load(&bytes), Ok(()));
        core::mem::swap(&mut self.sides[side].session, &mut self.next);
        let again = stored(&self.sides[side].session);
        assert!(again == Ok(bytes), "another state after a restart");
    }

    fn state(&self, side: usize) -> (Vec<u8>, Receiver) {
        let side = &self.sides[side];
        let bytes = stored(&side.session);
        assert!(bytes.is_ok(), "a live session is not stored: {bytes:?}");
        (bytes.unwrap_or_default(), side.receiver.clone())
    }

    /// Puts an old state in the place of the present one, as `cp` of a home does.
    fn restore(&mut self, which: usize) {
        let Some((side, bytes, receiver)) = self.snapshots.get(which) else {
            return;
        };
        let side = &mut self.sides[*side];
        assert_eq!(side.session.load(bytes), Ok(()));
        side.receiver = receiver.clone();
        self.restored = true;
    }

    /// What is still on its way comes; then both sides are heard once more.
    fn end(&mut self) {
        self.opens = 0;
        for round in 0..2 {
            for which in 0..self.frames.len() {
                let to = 1 - self.frames[which].from;
                if !self.sides[to].receiver.opened.contains(&which) {
                    self.deliver(to, which, true);
                }
            }
            (0..2).for_each(|side| self.seal(side, round));
        }
    }
}

impl Receiver {
    /// Whether a frame that it has not opened yet opens now.
    fn verdict(&self, frame: &Genuine) -> Verdict {
        let skipped = |(chain, n, _): &&(usize, u32, u32)| (*chain, *n) == (frame.chain, frame.n);
        if let Some((_, _, step)) = self.skipped.iter().find(skipped) {
            return if self.step - step <= CERTAIN_STEPS {
                Verdict::Opens
            } else {
                Verdict::Either
            };
        }
        match self.chain {
            Some((chain, _)) if frame.chain < chain => Verdict::Refused,
            Some((chain, next)) if frame.chain == chain => match frame.n.checked_sub(next) {
                Some(0..=MAX_JUMP) => Verdict::Opens,
                _ => Verdict::Refused,
            },
            _ if frame.n > MAX_JUMP => Verdict::Refused,
            _ => Verdict::Opens,
        }
    }

    /// Steps on: the frame with this index has opened.
    fn open(&mut self, which: usize, frame: &Genuine) {
        self.opened.insert(which);
        let place = (frame.chain, frame.n);
        let kept = self.skipped.len();
        self.skipped.retain(|(chain, n, _)| (*chain, *n) != place);
        if self.skipped.len() < kept {
            return;
        }
        let next = match self.chain {
            Some((chain, next)) if chain == frame.chain => next,
            before => {
                self.step += 1;
                if let Some((chain, next)) = before {
                    // Of a rest that is too long only the next keys are kept (SPEC section 9.5).
                    let end = if frame.pn.saturating_sub(next) > MAX_JUMP {
                        next.saturating_add(KEPT_OF_A_LONG_REST)
                    } else {
                        frame.pn
                    };
                    self.skip(chain, next..end);
                }
                0
            }
        };
        self.skip(frame.chain, next..frame.n);
        self.chain = Some((frame.chain, frame.n + 1));
    }

    fn skip(&mut self, chain: usize, numbers: core::ops::Range<u32>) {
        let step = self.step;
        self.skipped.extend(numbers.map(|n| (chain, n, step)));
        let over = self.skipped.len().saturating_sub(MAX_SKIPPED);
        self.skipped.drain(..over);
    }
}
