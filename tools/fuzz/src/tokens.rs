//! Tokens on a bench, initialised and acquainted once, and the host's questions to them.

use hostchat_core::icd::{Command, OpenedKind, Reply, TokenError};
use hostchat_core::wire::{
    Address, Bytes, IdentityClaim, MessageId, Prekey, PrekeyBundle, PrekeyKind, SessionId,
};
use hostchat_token::testing::{Bench, RamFlash, Silence, TestEnv, TestPin};

/// The host's clock, seconds since 1970.
pub(crate) const TODAY: u64 = 1_800_000_000;
/// The PIN of every token.
pub(crate) const PIN: TestPin = TestPin {
    prs: [1; 32],
    wrap: [2; 32],
};

/// People with a token; the third is a stranger to the other two.
pub(crate) const NAMES: [&str; 3] = [
    "alice@relay.example:7443",
    "bob@relay.example:7443",
    "mallory@other.example:1",
];

/// Flashes of people who have paired and heard from each other, and what a stranger wrote to the first of them.
#[derive(Clone)]
pub(crate) struct Acquainted {
    pub(crate) flashes: [RamFlash; 2],
    /// With one-time prekeys; made once, as a relay has them.
    pub(crate) bundles: [PrekeyBundle; 2],
    pub(crate) stranger: Vec<u8>,
}

/// A message that opened.
pub(crate) struct Read {
    pub(crate) kind: OpenedKind,
    pub(crate) hash: Bytes<32>,
    pub(crate) peer: Address,
    pub(crate) identity: IdentityClaim,
    pub(crate) message_id: MessageId,
    pub(crate) content: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// The token says so.
    Failed(TokenError),
    /// It says nothing, or something else.
    Silent(Silence),
}

/// Two people who know each other. Made once a thread; a copy costs 400 KB of memory.
pub(crate) fn acquainted() -> Result<Acquainted, No> {
    thread_local! {
        static MADE: Result<Acquainted, No> = acquaint();
    }
    MADE.with(Clone::clone)
}

/// A token over a copy of a flash, with random numbers that it has not seen before, unlocked.
pub(crate) fn unlocked(flash: &RamFlash, seed: u64) -> Bench {
    let mut bench = Bench::new(flash.clone(), TestEnv::new(seed));
    let unlocked = bench.unlock(PIN);
    assert_eq!(unlocked, Ok(()), "the PIN is right");
    bench
}

pub(crate) fn address(who: usize) -> Address {
    let parsed = Address::parse(NAMES[who % NAMES.len()]);
    assert!(parsed.is_ok());
    parsed.unwrap_or_else(|_| unreachable!("asserted above"))
}

/// Asks, and takes the reply that is wanted.
pub(crate) fn ask<T>(
    bench: &mut Bench,
    command: &Command<'_>,
    take: impl FnOnce(Reply<'_>) -> Option<T>,
) -> Result<T, No> {
    match bench.call(command) {
        Ok(Reply::Failed(error)) => Err(No::Failed(error)),
        Ok(reply) => take(reply).ok_or(No::Silent(Silence::Nonsense)),
        Err(silence) => Err(No::Silent(silence)),
    }
}

pub(crate) fn seal(bench: &mut Bench, to: usize, content: &[u8]) -> Result<Vec<u8>, No> {
    let peer = address(to);
    ask(
        bench,
        &Command::Seal { peer, content },
        |reply| match reply {
            Reply::Sealed { envelope, .. } => Some(envelope.to_vec()),
            _ => None,
        },
    )
}

pub(crate) fn open(bench: &mut Bench, own: usize, envelope: &[u8]) -> Result<Read, No> {
    let command = Command::Open {
        own: address(own),
        envelope,
        accept_changed: false,
    };
    ask(bench, &command, |reply| match reply {
        Reply::Opened(opened) => Some(Read {
            kind: opened.kind,
            hash: opened.hash,
            peer: opened.peer,
            identity: opened.identity,
            message_id: opened.message_id,
            content: opened.content.to_vec(),
        }),
        _ => None,
    })
}

pub(crate) fn commit(bench: &mut Bench, hash: Bytes<32>) -> Result<(), No> {
    ask(bench, &Command::Commit { hash }, done)
}

pub(crate) fn done(reply: Reply<'_>) -> Option<()> {
    matches!(reply, Reply::Done).then_some(())
}

pub(crate) fn start(
    bench: &mut Bench,
    own: usize,
    peer: usize,
    bundle: &PrekeyBundle,
) -> Result<SessionId, No> {
    let command = Command::Start {
        own: address(own),
        peer: address(peer),
        bundle: bundle.clone(),
        now: TODAY,
        accept_changed: false,
    };
    ask(bench, &command, |reply| match reply {
        Reply::Established { session, .. } => Some(session),
        _ => None,
    })
}

pub(crate) fn prekey(bench: &mut Bench, kind: PrekeyKind) -> Result<Prekey, No> {
    ask(
        bench,
        &Command::NewPrekey { kind, now: TODAY },
        |reply| match reply {
            Reply::Prekey(prekey) => Some(prekey),
            _ => None,
        },
    )
}

/// A bundle of this token, with a fresh one-time prekey.
pub(crate) fn bundle(bench: &mut Bench) -> Result<PrekeyBundle, No> {
    let identity = ask(bench, &Command::Identity, |reply| match reply {
        Reply::Identity(identity) => Some(identity),
        _ => None,
    })?;
    Ok(PrekeyBundle {
        identity,
        last_resort: prekey(bench, PrekeyKind::LastResort)?,
        one_time: Some(prekey(bench, PrekeyKind::OneTime)?),
    })
}

fn acquaint() -> Result<Acquainted, No> {
    let [mut a, mut b, mut mallory] =
        [1, 2, 3].map(|seed| Bench::new(RamFlash::new(40), TestEnv::new(seed)));
    for bench in [&mut a, &mut b, &mut mallory] {
        bench.init(PIN).map_err(No::Silent)?;
    }
    let begin = Command::PairBegin {
        own: address(0),
        peer: address(1),
        accept_changed: false,
    };
    let code = ask(&mut a, &begin, |reply| match reply {
        Reply::Code(code) => Some(code),
        _ => None,
    })?;
    let offer = ask(&mut a, &Command::PairOffer, |reply| match reply {
        Reply::Offered(offered) => Some(offered.offer),
        _ => None,
    })?;
    let command = Command::PairAnswer {
        own: address(1),
        offer,
        code,
        accept_changed: false,
    };
    let answer = ask(&mut b, &command, |reply| match reply {
        Reply::Answered(answered) => Some(answered.answer),
        _ => None,
    })?;
    ask(&mut a, &Command::PairConfirm { answer }, |reply| {
        matches!(reply, Reply::Established { .. }).then_some(())
    })?;
    let hello = seal(&mut a, 1, b"hello")?;
    let read = open(&mut b, 1, &hello)?;
    commit(&mut b, read.hash)?;
    let reply = seal(&mut b, 0, b"hello yourself")?;
    let read = open(&mut a, 0, &reply)?;
    commit(&mut a, read.hash)?;
    let mut bundles = [bundle(&mut a)?, bundle(&mut b)?];
    start(&mut mallory, 2, 0, &bundles[0])?;
    // The relay gives each one-time prekey away once.
    bundles[0].one_time = Some(prekey(&mut a, PrekeyKind::OneTime)?);
    let stranger = seal(&mut mallory, 0, b"you do not know me")?;
    Ok(Acquainted {
        flashes: [a.flash.snapshot(), b.flash.snapshot()],
        bundles,
        stranger,
    })
}
