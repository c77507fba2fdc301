//! Two token applications, their hosts, and an adversary between them who knows everything that stands in clear.
//!
//! As `two_peers`, one floor up: what is stored, evicted and made current is the tokens' affair here. The hosts do what an
//! adversary can drive them to: they open whatever comes, begin new sessions, lose power, are restored from old copies.
//!
//! Invariants (SPEC section 9.8): a message that is refused writes nothing; a genuine one opens once at most, to exactly
//! its content and sender, and a forged one never; as long as no token was restored, no chain key seals twice. Where a
//! token holds the rules of its sessions (it answers `Sessions`), what was sealed in the last answered session opens,
//! however many forged frames, strangers and unanswered sessions of its own came in between.

use std::collections::HashSet;

use hostchat_core::icd::{Command, OpenedKind, Reply, SessionInfo};
use hostchat_core::wire::{
    Bytes, Envelope, Frame, FrameHeader, MAX_ENVELOPE, MAX_FRAME, SessionId, codec,
};
use hostchat_token::testing::{Bench, RamFlash};

use crate::input::Input;
use crate::tokens::{self, Acquainted, No, PIN, acquainted, address};

/// Most decisions of one run.
const MAX_STEPS: usize = 60;
/// Most envelopes of one run: far from every limit of a session.
const MAX_SEALS: usize = 100;

/// An envelope that a token has sealed.
struct Genuine {
    from: usize,
    envelope: Vec<u8>,
    content: Vec<u8>,
    session: SessionId,
    id: Bytes<16>,
}

struct Side {
    bench: Bench,
    /// Indices of the messages that it has committed.
    committed: HashSet<usize>,
    /// The hash of the open that waits for its commit, and which it is.
    open: Option<(Bytes<32>, usize)>,
    snapshot: Option<(RamFlash, HashSet<usize>)>,
    sessions: Vec<SessionInfo>,
}

struct Run {
    sides: [Side; 2],
    made: Acquainted,
    messages: Vec<Genuine>,
    sealed: HashSet<([u8; 16], [u8; 32], u32)>,
    ids: HashSet<[u8; 16]>,
    restored: bool,
    stranger_came: bool,
}

/// Interprets the input: a byte for each act, and its arguments.
pub fn run(bytes: &[u8]) {
    let made = acquainted();
    assert!(made.is_ok(), "no pairing: {:?}", made.as_ref().err());
    let Ok(made) = made else { return };
    let mut input = Input::new(bytes);
    let mut run = Run::new(made);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        run.act(&mut input);
    }
    run.end();
}

impl Run {
    fn new(made: Acquainted) -> Self {
        let side = |who: usize| Side {
            bench: tokens::unlocked(&made.flashes[who], 11 + who as u64),
            committed: HashSet::new(),
            open: None,
            snapshot: None,
            sessions: Vec::new(),
        };
        let sides = [side(0), side(1)];
        let mut run = Self {
            sides,
            made,
            messages: Vec::new(),
            sealed: HashSet::new(),
            ids: HashSet::new(),
            restored: false,
            stranger_came: false,
        };
        (0..2).for_each(|side| run.look_at_sessions(side));
        run
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let act = input.byte();
        let side = usize::from(act >> 7);
        match act & 0x7f {
            0..24 => self.seal(side, usize::from(input.byte())),
            24..60 => {
                let which = self.pick(input);
                if let Some(to) = self.messages.get(which).map(|message| 1 - message.from) {
                    self.deliver(to, which, true);
                }
            }
            60..68 => {
                let which = self.pick(input);
                self.deliver(side, which, false);
            }
            68..74 => self.commit(side, input),
            74..90 => self.forge(side, input),
            90..96 => self.alter(side, input),
            96..106 => self.renew(side),
            106..110 => self.stranger(),
            110..114 => self.restart(side),
            114..118 => {
                let flash = self.sides[side].bench.flash.snapshot();
                let committed = self.sides[side].committed.clone();
                self.sides[side].snapshot = Some((flash, committed));
            }
            118 => self.restore(side),
            119..122 => {
                self.sides[side].open = None;
                let discarded = self.ask(side, &Command::Discard);
                assert_eq!(discarded, Ok(()));
            }
            _ => {
                for which in 0..self.messages.len() {
                    let to = 1 - self.messages[which].from;
                    self.deliver(to, which, true);
                }
            }
        }
    }

    fn ask(&mut self, side: usize, command: &Command<'_>) -> Result<(), No> {
        tokens::ask(&mut self.sides[side].bench, command, tokens::done)
    }

    fn pick(&self, input: &mut Input<'_>) -> usize {
        let back = usize::from(input.byte());
        self.messages.len().saturating_sub(1 + back)
    }

    fn seal(&mut self, side: usize, length: usize) {
        if self.messages.len() >= MAX_SEALS {
            return;
        }
        let content = vec![self.messages.len() as u8; length * 3];
        // An open that waits for its commit holds its session.
        if self.sides[side].open.take().is_some() {
            assert_eq!(self.ask(side, &Command::Discard), Ok(()));
        }
        let sealed = tokens::seal(&mut self.sides[side].bench, 1 - side, &content);
        let Ok(envelope) = sealed else {
            assert!(self.restored, "no session to seal in: {sealed:?}");
            return;
        };
        let frame = frame_of(&envelope).and_then(|frame| Frame::parse(frame).ok());
        let Some(Frame {
            header, message_id, ..
        }) = frame
        else {
            assert!(frame.is_some(), "not an envelope of a frame");
            return;
        };
        assert!(self.ids.insert(message_id.0), "a message id comes twice");
        let place = (header.session.0, header.ratchet_key.0, header.n);
        let is_new = self.sealed.insert(place);
        assert!(is_new || self.restored, "a chain key has sealed twice");
        self.messages.push(Genuine {
            from: side,
            envelope,
            content,
            session: header.session,
            id: message_id,
        });
    }

    fn deliver(&mut self, to: usize, which: usize, commit: bool) {
        let must = self.must_open(to, which);
        let Some(message) = self.messages.get(which) else {
            return;
        };
        let side = &mut self.sides[to];
        let before = side.bench.flash.lock().operations();
        let opened = tokens::open(&mut side.bench, to, &message.envelope);
        let written = side.bench.flash.lock().operations() - before;
        assert_eq!(written, 0, "an open wrote");
        side.open = None;
        let read = match opened {
            Ok(read) => read,
            Err(error) => {
                assert!(!must, "message {which} is lost: {error:?}");
                return;
            }
        };
        assert_ne!(message.from, to, "an own message opens");
        assert!(!side.committed.contains(&which), "a message opens again");
        assert!(read.content == message.content, "another content");
        assert_eq!(read.message_id, message.id);
        assert_eq!(read.peer, address(message.from));
        assert_eq!(read.identity, self.made.bundles[message.from].identity);
        side.open = Some((read.hash, which));
        if commit {
            self.finish(to);
        }
        let mine = self.sides[to].sessions.iter();
        if read.kind == OpenedKind::Message && commit {
            // A session that opened something is there.
            assert!(
                mine.len() == 0
                    || mine
                        .clone()
                        .any(|s| s.session == self.messages[which].session)
            );
        }
    }

    /// Commits what is open.
    fn finish(&mut self, side: usize) {
        let Some((hash, which)) = self.sides[side].open.take() else {
            return;
        };
        let committed = tokens::commit(&mut self.sides[side].bench, hash);
        assert_eq!(committed, Ok(()), "message {which} cannot be committed");
        self.sides[side].committed.insert(which);
        self.look_at_sessions(side);
    }

    /// A commit of what is open, or of something else.
    fn commit(&mut self, side: usize, input: &mut Input<'_>) {
        if input.flag() {
            self.finish(side);
            return;
        }
        let before = self.sides[side].bench.flash.lock().operations();
        let hash = Bytes(input.array());
        let committed = tokens::commit(&mut self.sides[side].bench, hash);
        assert!(committed.is_err(), "something else is committed");
        let after = self.sides[side].bench.flash.lock().operations();
        assert_eq!(after, before, "a refused commit wrote");
    }

    /// Whether a message has to open: nobody was set back, the token holds the rules, and the session is the last one that
    /// was answered.
    fn must_open(&self, to: usize, which: usize) -> bool {
        let (Some(message), side) = (self.messages.get(which), &self.sides[to]) else {
            return false;
        };
        let answered = side.sessions.iter().rfind(|session| session.answered);
        message.from != to
            && !self.restored
            && !side.committed.contains(&which)
            && answered.is_some_and(|session| session.session == message.session)
    }

    /// What the adversary made: refused, and nothing is written.
    fn refuse(&mut self, to: usize, envelope: &[u8]) {
        let side = &mut self.sides[to];
        let before = side.bench.flash.lock().operations();
        let opened = tokens::open(&mut side.bench, to, envelope);
        assert!(opened.is_err(), "a forged message opens");
        let written = side.bench.flash.lock().operations() - before;
        assert_eq!(written, 0, "a forged message wrote");
        side.open = None;
        self.look_at_sessions(to);
    }

    /// A genuine header with other numbers or another key, around a random id and body, behind a genuine prefix or none.
    fn forge(&mut self, to: usize, input: &mut Input<'_>) {
        let which = self.pick(input);
        let Some(message) = self.messages.get(which) else {
            return;
        };
        let envelope = codec::decode::<Envelope<'_>>(&message.envelope);
        let Ok(envelope) = envelope else { return };
        let Some(Ok(genuine)) = envelope.frame().map(Frame::parse) else {
            return;
        };
        let mut header: FrameHeader = genuine.header.clone();
        let how = input.byte();
        match how % 8 {
            0 => header.n = 5_000,
            1 => header.n = header.n.wrapping_add(u32::from(input.number())),
            2 => header.pn = u32::from(input.number()),
            3 => header.ratchet_key = Bytes(input.array()),
            4 => header.session = Bytes(input.array()),
            5 => header.ratchet_key = Bytes([0; 32]),
            6 => (header.n, header.pn) = (u32::MAX, u32::MAX),
            _ => {}
        }
        let mut frame = codec::encode_vec::<_, MAX_FRAME>(&header).unwrap_or_default();
        let id = input.array::<16>();
        let parts: [&[u8]; 3] = if self.ids.contains(&id) {
            [&[], &[], &[]]
        } else {
            [&id, &genuine.tag, genuine.ciphertext]
        };
        for part in parts {
            let _ = frame.extend_from_slice(part);
        }
        let forged = match (how >> 4, envelope) {
            (0..8, _) => Envelope::Message { frame: &frame },
            (8..12, Envelope::Confirmed { confirm, .. }) => Envelope::Confirmed {
                confirm,
                frame: &frame,
            },
            (_, Envelope::First { mut header, .. }) => {
                if how >> 4 < 14 {
                    header.ephemeral = Bytes(input.array());
                }
                Envelope::First {
                    header,
                    frame: &frame,
                }
            }
            _ => Envelope::Message { frame: &frame },
        };
        let forged = codec::encode_vec::<_, MAX_ENVELOPE>(&forged).unwrap_or_default();
        self.refuse(to, &forged);
    }

    /// A genuine envelope whose frame is altered in one bit: behind a session that is there nobody looks at the prefix.
    fn alter(&mut self, to: usize, input: &mut Input<'_>) {
        let which = self.pick(input);
        let Some(message) = self.messages.get(which) else {
            return;
        };
        let mut envelope = message.envelope.clone();
        let length = frame_of(&envelope).map_or(0, <[u8]>::len);
        let at = (envelope.len() - length) * 8 + input.index(length * 8);
        match envelope.get_mut(at / 8) {
            Some(byte) => *byte ^= 1 << (at % 8),
            None => return,
        }
        self.refuse(to, &envelope);
    }

    /// The host begins a new session, as one does that was made to believe that the old one is of no use.
    fn renew(&mut self, side: usize) {
        let mut bundle = self.made.bundles[1 - side].clone();
        // The relay gives each one-time prekey away once.
        let one_time = self.made.bundles[1 - side].one_time.take();
        bundle.one_time = one_time;
        self.sides[side].open = None;
        let started = tokens::start(&mut self.sides[side].bench, side, 1 - side, &bundle);
        assert!(started.is_ok(), "no new session: {started:?}");
        self.look_at_sessions(side);
    }

    /// A first message of someone whom the first person does not know.
    fn stranger(&mut self) {
        let side = &mut self.sides[0];
        side.open = None;
        let opened = tokens::open(&mut side.bench, 0, &self.made.stranger);
        let Ok(read) = opened else {
            assert!(self.stranger_came || self.restored, "{:?}", opened.err());
            return;
        };
        assert!(
            !self.stranger_came || self.restored,
            "a first message opens again"
        );
        assert_eq!((read.kind, read.peer), (OpenedKind::First, address(2)));
        assert_eq!(tokens::commit(&mut side.bench, read.hash), Ok(()));
        self.stranger_came = true;
        self.look_at_sessions(0);
    }

    fn restart(&mut self, side: usize) {
        let bench = &mut self.sides[side].bench;
        assert!(bench.power_cycle(), "it does not start");
        assert_eq!(bench.unlock(PIN), Ok(()));
        self.sides[side].open = None;
        self.look_at_sessions(side);
    }

    /// An old copy of a flash in the place of the present one.
    fn restore(&mut self, side: usize) {
        let Some((flash, committed)) = self.sides[side].snapshot.clone() else {
            return;
        };
        self.restored = true;
        let side = &mut self.sides[side];
        let env = side.bench.env.clone();
        side.bench = Bench::new(flash, env);
        assert_eq!(side.bench.unlock(PIN), Ok(()));
        (side.committed, side.open) = (committed, None);
        side.sessions.clear();
    }

    /// The last answered session is never lost but to one that was answered after it.
    fn look_at_sessions(&mut self, side: usize) {
        if self.restored {
            return;
        }
        let peer = address(1 - side);
        let bench = &mut self.sides[side].bench;
        let now = tokens::ask(bench, &Command::Sessions { peer }, |reply| match reply {
            Reply::Sessions(sessions) => Some(sessions.to_vec()),
            _ => None,
        });
        // A token of the time before these rules does not know the question.
        let Ok(now) = now else { return };
        assert!(now.iter().filter(|session| session.current).count() <= 1);
        let before = &self.sides[side].sessions;
        if let Some(last) = before.iter().rfind(|session| session.answered) {
            let there = |session: &SessionInfo| session.session == last.session;
            let younger = |session: &SessionInfo| session.answered && !before.contains(session);
            assert!(
                now.iter().any(there) || now.iter().any(younger),
                "the last answered session is gone"
            );
        }
        self.sides[side].sessions = now;
    }

    /// What is on its way comes, and both can still seal.
    fn end(&mut self) {
        for which in 0..self.messages.len() {
            let to = 1 - self.messages[which].from;
            self.deliver(to, which, true);
        }
        (0..2).for_each(|side| self.seal(side, 1));
    }
}

fn frame_of(envelope: &[u8]) -> Option<&[u8]> {
    codec::decode::<Envelope<'_>>(envelope).ok()?.frame()
}
