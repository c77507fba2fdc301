//! Unlock and channel: a PIN is a CPace password, then AES-SIV with exact counters (SPEC §10.3).
//!
//! ```text
//!  host                                              token
//!   HostUnlock::start ──── UnlockStart ───────▶ TokenUnlock::answer     (a try is charged before this answer leaves)
//!   HostUnlock::finish ◀── UnlockAnswer ──────
//!                      ──── UnlockFinish ─────▶ TokenUnlock::finish ──▶ Channel + W
//!   Channel            ◀── Sealed{0} ─────────
//! ```
//!
//! Invariant: a counter value is used once per key; a frame with any other than the expected one is refused and
//! changes nothing.

use heapless::Vec;
use rand_core::CryptoRng;

use super::TOKEN_VERSION;
use crate::crypto::hash::Transcript;
use crate::crypto::kdf::Prk;
use crate::crypto::label::{self, Label};
use crate::crypto::pake::{Cpace, Isk, Role};
use crate::crypto::siv::{SivKey, TAG_LEN};
use crate::crypto::{hash, mac};
use crate::error::{Decode, Error, Limit, Misuse};
use crate::icd::link::{FromToken, ToToken};
use crate::wire::{Bytes, SUITE};

/// What a run is for; each has its own CPace channel identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockKind {
    /// The token has a PIN; both ends know its CPace password.
    Unlock,
    /// The token is blank; the password is empty, the cable is trusted, a touch is needed.
    Init,
}

impl UnlockKind {
    fn ci(self, token_id: &Bytes<16>, salt: &Bytes<16>) -> Result<Vec<u8, 96>, Error> {
        let label = match self {
            Self::Unlock => label::UNLOCK_CI,
            Self::Init => label::INIT_CI,
        };
        let mut ci = Vec::new();
        let mut fits = true;
        hash::lv_cat(
            &[label.as_bytes(), &[SUITE], &token_id.0, &salt.0],
            &mut |part| {
                fits &= ci.extend_from_slice(part).is_ok();
            },
        );
        if fits {
            Ok(ci)
        } else {
            Err(Error::ApiMisuse(Misuse::BufferTooSmall))
        }
    }
}

/// The keys that a run ends with.
struct Keys {
    th: [u8; 32],
    prk: Prk,
}

impl Keys {
    fn derive(
        kind: UnlockKind,
        ci: &[u8],
        start: &Start,
        share: &Bytes<32>,
        version: u8,
        isk: &Isk,
    ) -> Self {
        let label = match kind {
            UnlockKind::Unlock => label::UNLOCK_TH,
            UnlockKind::Init => label::INIT_TH,
        };
        let th = Transcript::new()
            .item(label.as_bytes())
            .item(ci)
            .item(&start.sid.0)
            .item(&start.share.0)
            .item(&ad(Role::Initiator, start.version))
            .item(&share.0)
            .item(&ad(Role::Responder, version))
            .finish();
        Self {
            prk: Prk::extract(&th, &[isk.expose_bytes()]),
            th,
        }
    }

    fn tag(&self, label: Label) -> Bytes<32> {
        let key = self.prk.expand::<mac::MacKey>(label);
        Bytes(mac::hmac_sha256(key.expose_bytes(), &[&self.th]))
    }

    fn check(&self, label: Label, tag: &Bytes<32>) -> Result<(), Error> {
        let key = self.prk.expand::<mac::MacKey>(label);
        mac::verify(key.expose_bytes(), &[&self.th], &tag.0)
    }

    fn direction(&self, label: Label, name: &'static [u8; 3]) -> Direction {
        Direction {
            key: self.prk.expand::<SivKey>(label),
            name,
            counter: 0,
        }
    }
}

fn ad(role: Role, version: u8) -> [u8; 2] {
    let role = match role {
        Role::Initiator => 1,
        Role::Responder => 2,
    };
    [role, version]
}

struct Start {
    sid: Bytes<16>,
    share: Bytes<32>,
    version: u8,
}

/// The host's half of an unlock, between its first and second message.
pub struct HostUnlock {
    kind: UnlockKind,
    cpace: Cpace,
    start: Start,
    ci: Vec<u8, 96>,
}

impl HostUnlock {
    /// Begins a run with a token that said `token_id` and `salt`; `prs` is the CPace password, empty for `Init`.
    ///
    /// # Errors
    /// None that input can cause.
    pub fn start<R: CryptoRng + ?Sized>(
        kind: UnlockKind,
        token_id: &Bytes<16>,
        salt: &Bytes<16>,
        prs: &[u8],
        rng: &mut R,
    ) -> Result<(Self, ToToken<'static>), Error> {
        let ci = kind.ci(token_id, salt)?;
        let mut sid = [0; 16];
        rng.fill_bytes(&mut sid);
        let (cpace, share) = Cpace::start(prs, &ci, &sid, rng);
        let start = Start {
            sid: Bytes(sid),
            share: Bytes(share),
            version: TOKEN_VERSION,
        };
        let message = ToToken::UnlockStart {
            init: kind == UnlockKind::Init,
            sid: start.sid,
            share: start.share,
            version: TOKEN_VERSION,
        };
        Ok((
            Self {
                kind,
                cpace,
                start,
                ci,
            },
            message,
        ))
    }

    /// Takes message 2 and gives the channel and the tag of message 3; the caller seals W as its first message.
    ///
    /// # Errors
    /// `Authentication`: wrong PIN, or not this token. `PeerMisbehaved` for a bad share, `Decode` for another message.
    pub fn finish(self, answer: &FromToken<'_>) -> Result<(Channel, Bytes<32>), Error> {
        let FromToken::UnlockAnswer {
            share,
            version,
            tag,
        } = answer
        else {
            return Err(Error::Decode(Decode::Malformed));
        };
        let (own, peer) = (
            ad(Role::Initiator, self.start.version),
            ad(Role::Responder, *version),
        );
        let isk = self
            .cpace
            .finish(Role::Initiator, &[&own], &share.0, &[&peer])?;
        let keys = Keys::derive(self.kind, &self.ci, &self.start, share, *version, &isk);
        keys.check(label::CHANNEL_CONFIRM_B, tag)?;
        let channel = Channel {
            send: keys.direction(label::CHANNEL_H2T, b"h2t"),
            receive: keys.direction(label::CHANNEL_T2H, b"t2h"),
        };
        Ok((channel, keys.tag(label::CHANNEL_CONFIRM_A)))
    }
}

/// The token's half of an unlock, between its answer and the host's second message.
pub struct TokenUnlock {
    keys: Keys,
}

impl TokenUnlock {
    /// Answers message 1. The caller has charged the try, durably, before it calls this.
    ///
    /// # Errors
    /// `PeerMisbehaved` for a bad share, `Decode(Version)` for another protocol version.
    #[expect(
        clippy::too_many_arguments,
        reason = "three of them are the fields of message 1"
    )]
    pub fn answer<R: CryptoRng + ?Sized>(
        kind: UnlockKind,
        token_id: &Bytes<16>,
        salt: &Bytes<16>,
        prs: &[u8],
        sid: Bytes<16>,
        share: Bytes<32>,
        version: u8,
        rng: &mut R,
    ) -> Result<(Self, FromToken<'static>), Error> {
        if version != TOKEN_VERSION {
            return Err(Error::Decode(Decode::Version));
        }
        let ci = kind.ci(token_id, salt)?;
        let (cpace, own_share) = Cpace::start(prs, &ci, &sid.0, rng);
        let start = Start {
            sid,
            share,
            version,
        };
        let (own, peer) = (
            ad(Role::Responder, TOKEN_VERSION),
            ad(Role::Initiator, version),
        );
        let isk = cpace.finish(Role::Responder, &[&own], &share.0, &[&peer])?;
        let keys = Keys::derive(kind, &ci, &start, &Bytes(own_share), TOKEN_VERSION, &isk);
        let answer = FromToken::UnlockAnswer {
            share: Bytes(own_share),
            version: TOKEN_VERSION,
            tag: keys.tag(label::CHANNEL_CONFIRM_B),
        };
        Ok((Self { keys }, answer))
    }

    /// Takes message 3: checks the host's tag and opens what it sealed (W, or PRS ‖ W) into `secret`.
    ///
    /// # Errors
    /// `Authentication`: the host does not know the PIN.
    pub fn finish(
        self,
        tag: &Bytes<32>,
        body: &[u8],
        secret: &mut Vec<u8, 64>,
    ) -> Result<Channel, Error> {
        self.keys.check(label::CHANNEL_CONFIRM_A, tag)?;
        let mut channel = Channel {
            send: self.keys.direction(label::CHANNEL_T2H, b"t2h"),
            receive: self.keys.direction(label::CHANNEL_H2T, b"h2t"),
        };
        channel.open(0, body, secret)?;
        Ok(channel)
    }
}

struct Direction {
    key: SivKey,
    name: &'static [u8; 3],
    counter: u64,
}

impl Direction {
    fn open(&mut self, tag: &[u8; TAG_LEN], body: &mut [u8], next: u64) -> Result<(), Error> {
        let ad: [&[u8]; 2] = [self.name, &self.counter.to_be_bytes()];
        self.key.open_in_place(&ad, body, tag)?;
        self.counter = next;
        Ok(())
    }
}

/// The channel of an unlocked token: one key and one exact counter per direction.
pub struct Channel {
    send: Direction,
    receive: Direction,
}

impl Channel {
    /// Seals `plain` into `out` (tag ‖ ciphertext) and returns the counter that goes with it.
    ///
    /// # Errors
    /// `ApiMisuse(BufferTooSmall)`; `Limit(Exhausted)` after 2^64 − 1 messages.
    pub fn seal<const N: usize>(
        &mut self,
        plain: &[u8],
        out: &mut Vec<u8, N>,
    ) -> Result<u64, Error> {
        let small = Error::ApiMisuse(Misuse::BufferTooSmall);
        out.clear();
        out.extend_from_slice(&[0; TAG_LEN]).or(Err(small))?;
        out.extend_from_slice(plain).or(Err(small))?;
        self.seal_in_place(out)
    }

    /// Seals what stands behind the first 16 bytes of `body`, which become the tag, and returns the counter that goes
    /// with it.
    ///
    /// # Errors
    /// `ApiMisuse(BufferTooSmall)` if `body` has no place for a tag; `Limit(Exhausted)` after 2^64 − 1 messages.
    pub fn seal_in_place(&mut self, body: &mut [u8]) -> Result<u64, Error> {
        let counter = self.send.counter;
        let next = counter
            .checked_add(1)
            .ok_or(Error::Limit(Limit::Exhausted))?;
        let (tag, plain) = body
            .split_first_chunk_mut::<TAG_LEN>()
            .ok_or(Error::ApiMisuse(Misuse::BufferTooSmall))?;
        *tag = self
            .send
            .key
            .seal_in_place(&[self.send.name, &counter.to_be_bytes()], plain);
        self.send.counter = next;
        Ok(counter)
    }

    /// Opens `sealed` into `plain` if `counter` is the expected one.
    ///
    /// # Errors
    /// `Limit(Replayed)` for another counter, `Authentication`, `Decode(Truncated)`; nothing changes then.
    pub fn open<const N: usize>(
        &mut self,
        counter: u64,
        sealed: &[u8],
        plain: &mut Vec<u8, N>,
    ) -> Result<(), Error> {
        let next = self.expect(counter)?;
        let (tag, body) = sealed
            .split_first_chunk::<TAG_LEN>()
            .ok_or(Error::Decode(Decode::Truncated))?;
        plain.clear();
        plain
            .extend_from_slice(body)
            .map_err(|_| Error::Decode(Decode::TooLong))?;
        let opened = self.receive.open(tag, plain, next);
        if opened.is_err() {
            plain.clear();
        }
        opened
    }

    /// Opens `sealed` where it stands if `counter` is the expected one, and returns the part that is the plaintext.
    ///
    /// # Errors
    /// As [`Self::open`]; what was not authentic is overwritten with zeros.
    pub fn open_in_place<'b>(
        &mut self,
        counter: u64,
        sealed: &'b mut [u8],
    ) -> Result<&'b mut [u8], Error> {
        let next = self.expect(counter)?;
        let (tag, body) = sealed
            .split_first_chunk_mut::<TAG_LEN>()
            .ok_or(Error::Decode(Decode::Truncated))?;
        self.receive.open(tag, body, next)?;
        Ok(body)
    }

    /// Refuses any other counter than the expected one; gives the one after it.
    fn expect(&self, counter: u64) -> Result<u64, Error> {
        if counter != self.receive.counter {
            return Err(Error::Limit(Limit::Replayed));
        }
        counter.checked_add(1).ok_or(Error::Limit(Limit::Exhausted))
    }
}
