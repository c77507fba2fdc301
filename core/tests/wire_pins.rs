//! The bytes of every variant of every enum that travels are pinned: formats are append-only.
//!
//! `core/tests/golden/wire.txt` has one line per variant. A new variant does not compile here until it has a row, and
//! gets its line with `HOSTCHAT_REGENERATE=1`, which adds lines and refuses to change one.

#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hostchat_core::icd::link::{FromToken, Hello, ToToken};
use hostchat_core::icd::{
    Act, Activity, Answered, Command, ContactInfo, Generations, Lifecycle, LinkError, Log,
    LogEntry, Offered, Opened, OpenedKind, Reply, SessionInfo, Status, TokenError,
};
use hostchat_core::wire::content::{Fate, Receipt};
use hostchat_core::wire::relay::{
    Account, Answer, Call, Delivery, Event, Kind, Login, Reason, Refusal, Request,
};
use hostchat_core::wire::{
    Address, Bytes, Confirm, Content, Envelope, FirstHeader, FrameHeader, Generation,
    IdentityClaim, Name, PairAnswer, PairOffer, PairPublic, Prekey, PrekeyBundle, PrekeyKind,
    PrekeyRef, Quiet, RelayName, codec,
};
use serde::{Deserialize, Serialize};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire.txt");

/// Encodes each value, checks that it decodes to the same value, and that the match covers all variants.
macro_rules! pin {
    ($lines:ident, $type:ty { $($pattern:pat => $value:expr),+ $(,)? }) => {
        fn row(value: &$type) -> &'static str {
            match value { $($pattern => stringify!($pattern)),+ }
        }
        $(
            let value: $type = $value;
            assert_eq!(row(&value), stringify!($pattern));
            add(&mut $lines, stringify!($type), stringify!($pattern), &value);
        )+
    };
}

fn add<T>(lines: &mut BTreeMap<String, String>, of: &str, row: &str, value: &T)
where
    T: Serialize + PartialEq + std::fmt::Debug,
    for<'a> T: Same<'a>,
{
    let bytes: heapless::Vec<u8, 8192> = codec::encode_vec(value).expect("fits");
    T::assert_decodes_to(&bytes, value);
    let clean = |text: &str| {
        text.split_whitespace()
            .collect::<String>()
            .replace("'_", "")
    };
    assert!(
        lines
            .insert(format!("{} {}", clean(of), clean(row)), hex::encode(&bytes))
            .is_none()
    );
}

/// Decoding, for types with and without a lifetime.
trait Same<'a> {
    fn assert_decodes_to(bytes: &'a [u8], value: &Self);
}

macro_rules! same {
    ($($type:ident),+; $($borrowed:ident),+) => {
        $(impl<'a> Same<'a> for $type {
            fn assert_decodes_to(bytes: &'a [u8], value: &Self) { check::<$type>(bytes, value) }
        })+
        $(impl<'a> Same<'a> for $borrowed<'static> {
            fn assert_decodes_to(bytes: &'a [u8], value: &Self) { check::<$borrowed<'_>>(bytes, value) }
        })+
    };
}

same!(Account, Fate, Kind, Quiet, Reason, Receipt, Act, Activity, Lifecycle, LinkError, TokenError, OpenedKind, PrekeyKind, FrameHeader,
    PrekeyBundle; Envelope, Content, Call, Event, Answer, ToToken, FromToken, Command, Reply, Request);

fn check<'a, T: Serialize + Deserialize<'a> + PartialEq + std::fmt::Debug>(
    bytes: &'a [u8],
    value: &T,
) {
    assert_eq!(&codec::decode::<T>(bytes).expect("decodes"), value);
    let mut longer = bytes.to_vec();
    longer.push(0);
    let longer: &'static [u8] = longer.leak();
    assert!(
        codec::decode::<T>(longer).is_err(),
        "trailing byte accepted"
    );
    for end in 0..bytes.len() {
        assert!(
            codec::decode::<T>(&bytes[..end]).is_err(),
            "cut to {end} bytes accepted"
        );
    }
}

fn claim() -> IdentityClaim {
    IdentityClaim {
        sign: Bytes([1; 32]),
        dh: Bytes([2; 32]),
        signature: Bytes([3; 64]),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("canonical")
}

fn public<const KEM: usize>(role: u8) -> PairPublic<KEM> {
    PairPublic {
        role,
        suite: 1,
        initiator: address("a@h:1"),
        responder: address("b@h:2"),
        identity: claim(),
        ephemeral: Bytes([4; 32]),
        kem: Bytes([5; KEM]),
    }
}

fn offer() -> PairOffer {
    PairOffer {
        sid: Bytes([6; 16]),
        share: Bytes([7; 32]),
        public: public(1),
    }
}

fn answer() -> PairAnswer {
    PairAnswer {
        sid: Bytes([6; 16]),
        share: Bytes([8; 32]),
        public: public(2),
        tag: Bytes([9; 32]),
    }
}

fn prekey(kind: PrekeyKind) -> Prekey {
    Prekey {
        kind,
        id: 300,
        issued: 1_700_000_000,
        dh: Bytes([10; 32]),
        kem: Bytes([11; 1184]),
        signature: Bytes([12; 64]),
    }
}

fn bundle() -> PrekeyBundle {
    PrekeyBundle {
        identity: claim(),
        last_resort: prekey(PrekeyKind::LastResort),
        one_time: Some(prekey(PrekeyKind::OneTime)),
    }
}

fn generation() -> Generation {
    Generation {
        number: 300,
        random: Bytes([13; 16]),
    }
}

fn prekey_refs<const N: usize>() -> heapless::Vec<PrekeyRef, N> {
    [prekey(PrekeyKind::OneTime).reference()]
        .into_iter()
        .collect()
}

fn refusal() -> Refusal {
    Refusal {
        reason: Reason::RateLimited,
        retry_after_ms: 1500,
    }
}

fn lines() -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    hosts(&mut lines);
    relay(&mut lines);
    token(&mut lines);
    lines
}

fn hosts(lines: &mut BTreeMap<String, String>) {
    let mut lines = lines;
    {
        pin!(lines, PrekeyKind { PrekeyKind::OneTime => PrekeyKind::OneTime, PrekeyKind::LastResort => PrekeyKind::LastResort });
    }
    {
        pin!(lines, PrekeyBundle { PrekeyBundle { .. } => bundle() });
    }
    {
        pin!(lines, FrameHeader { FrameHeader { .. } => FrameHeader {
            version: 1, suite: 1, session: Bytes([1; 16]), ratchet_key: Bytes([2; 32]), pn: 128, n: 3,
            extension: heapless::Vec::new(),
        } });
    }
    {
        pin!(lines, Envelope<'static> {
            Envelope::PairOffer(_) => Envelope::PairOffer(offer()),
            Envelope::PairAnswer(_) => Envelope::PairAnswer(answer()),
            Envelope::PairEnded { .. } => Envelope::PairEnded { sid: Bytes([6; 16]), runs_left: 2 },
            Envelope::Message { .. } => Envelope::Message { frame: b"frame" },
            Envelope::Confirmed { .. } => Envelope::Confirmed {
                confirm: Confirm { sid: Bytes([6; 16]), tag: Bytes([9; 32]) }, frame: b"frame",
            },
            Envelope::First { .. } => Envelope::First {
                header: FirstHeader {
                    suite: 1, identity: claim(), sender: address("a@h:1"), receiver: address("b@h:2"),
                    last_resort: 7, one_time: Some(8), ephemeral: Bytes([1; 32]), kem: Bytes([2; 1088]),
                },
                frame: b"frame",
            },
        });
    }
    {
        pin!(lines, Content<'static> {
            Content::Empty => Content::Empty,
            Content::Text { .. } => Content::Text { id: Bytes([1; 16]), sent_at: 1_700_000_000_000, text: "h\u{e9}" },
            Content::SessionEnded => Content::SessionEnded,
            Content::Note { .. } => Content::Note {
                id: Bytes([1; 16]), sent_at: 1_700_000_000_000, number: 300, delivered: [Bytes([2; 16])].into_iter().collect(),
                reply_to: Some(Bytes([3; 16])), timer: Some(3600), text: "h\u{e9}",
            },
            Content::Quiet { .. } => Content::Quiet { inner: b"inner" },
        });
    }
    {
        pin!(lines, Quiet {
            Quiet::Receipts { .. } => Quiet::Receipts { state: Receipt::Delivered, ids: [Bytes([1; 16])].into_iter().collect() },
            Quiet::Unreadable { .. } => Quiet::Unreadable { ids: [Bytes([1; 16])].into_iter().collect(), all: true },
            Quiet::Told { .. } => Quiet::Told {
                since: 1_700_000_000_000, fates: [(Bytes([1; 16]), Fate::Lost)].into_iter().collect(),
            },
        });
    }
    {
        pin!(lines, Receipt { Receipt::Delivered => Receipt::Delivered, Receipt::Read => Receipt::Read });
    }
    {
        pin!(lines, Fate {
            Fate::Again => Fate::Again, Fate::Delivered => Fate::Delivered, Fate::NothingToShow => Fate::NothingToShow,
            Fate::Lost => Fate::Lost, Fate::Unknown => Fate::Unknown,
            Fate::Confirmed { .. } => Fate::Confirmed { content: Bytes([1; 16]) },
        });
    }
}

fn relay(lines: &mut BTreeMap<String, String>) {
    let mut lines = lines;
    let name = || Name::parse("bob").expect("canonical");
    {
        pin!(lines, Account {
            Account::User(_) => Account::User(name()),
            Account::Register { .. } => Account::Register { name: name(), invitation: heapless::Vec::from_slice(b"inv").expect("fits") },
            Account::Guest(_) => Account::Guest(address("a@h:1")),
        });
    }
    {
        pin!(lines, Kind { Kind::Pairing => Kind::Pairing, Kind::First => Kind::First, Kind::Message => Kind::Message });
    }
    {
        pin!(lines, Request<'static> { Request { .. } => Request { id: 200, call: Call::Ping } });
    }
    {
        pin!(lines, Call<'static> {
            Call::Login(_) => Call::Login(Login {
                version: 1, account: Account::User(name()), identity: claim(),
                dialled: RelayName::parse("h:1").expect("canonical"), signature: Bytes([5; 64]), visible: true,
            }),
            Call::PutPrekey(_) => Call::PutPrekey(prekey(PrekeyKind::OneTime)),
            Call::PrekeyStock => Call::PrekeyStock,
            Call::LookUp(_) => Call::LookUp(name()),
            Call::TakePrekeys(_) => Call::TakePrekeys(name()),
            Call::Send { .. } => Call::Send { to: name(), message_id: Bytes([1; 16]), kind: Kind::Message, body: b"body" },
            Call::Receive => Call::Receive,
            Call::Acknowledge { .. } => Call::Acknowledge { number: 1 << 40 },
            Call::Who { .. } => Call::Who { after: "al" },
            Call::SetVisible(_) => Call::SetVisible(true),
            Call::DeleteAccount => Call::DeleteAccount,
            Call::Ping => Call::Ping,
            Call::Policy => Call::Policy,
            Call::SetBlocked { .. } => Call::SetBlocked { who: address("a@h:1"), blocked: true },
            Call::Blocked { .. } => Call::Blocked { after: "a@h:1" },
            Call::PutBlob { .. } => Call::PutBlob {
                blob: Bytes([1; 16]), size: 20_000, readers: heapless::Vec::from_slice(&[Bytes([2; 32])]).expect("fits"),
            },
            Call::PutPart { .. } => Call::PutPart { blob: Bytes([1; 16]), index: 300, bytes: b"part" },
            Call::GetBlob { .. } => Call::GetBlob { blob: Bytes([1; 16]), reader: Bytes([3; 16]) },
            Call::GetPart { .. } => Call::GetPart { blob: Bytes([1; 16]), reader: Bytes([3; 16]), index: 300 },
            Call::EndBlob { .. } => Call::EndBlob { blob: Bytes([1; 16]), reader: Bytes([3; 16]) },
            Call::DeleteBlob { .. } => Call::DeleteBlob { blob: Bytes([1; 16]) },
            Call::Generation { .. } => Call::Generation { from: Generation::NONE, to: generation() },
            Call::TakeLastResort(_) => Call::TakeLastResort(name()),
            Call::Prekeys => Call::Prekeys,
            Call::DropPrekeys => Call::DropPrekeys,
            Call::MayRegister { .. } => Call::MayRegister { name: name(), invited: true },
        });
    }
    {
        pin!(lines, Event<'static> {
            Event::Challenge { .. } => Event::Challenge { version: 1, challenge: Bytes([1; 32]), software: "0.1.0" },
            Event::Reply { .. } => Event::Reply { id: 200, answer: Answer::Done },
            Event::Deliver(_) => Event::Deliver(Delivery {
                number: 9, sender: address("a@h:1"), stored_at: 1_700_000_000_000, message_id: Bytes([1; 16]), body: b"body",
                fingerprint: Some(Bytes([2; 32])),
            }),
            Event::Drained => Event::Drained,
            Event::Closing(_) => Event::Closing(refusal()),
        });
    }
    {
        pin!(lines, Answer<'static> {
            Answer::Done => Answer::Done,
            Answer::Stored => Answer::Stored,
            Answer::PrekeyStock { .. } => Answer::PrekeyStock { one_time: 16, last_resort_issued: 1_700_000_000, last_resort_id: 2 },
            Answer::Binding(_) => Answer::Binding(claim()),
            Answer::Bundle(_) => Answer::Bundle(bundle()),
            Answer::Online { .. } => Answer::Online { names: heapless::Vec::from_slice(&["a", "b"]).expect("fits"), more: false },
            Answer::Refused(_) => Answer::Refused(refusal()),
            Answer::Policy { .. } => Answer::Policy { log_days: 30 },
            Answer::Blocked { .. } => Answer::Blocked { addresses: heapless::Vec::from_slice(&["a@h:1"]).expect("fits"), more: false },
            Answer::Blob { .. } => Answer::Blob { size: 20_000, parts: 2, expires_in: 86_400 },
            Answer::Part { .. } => Answer::Part { bytes: b"part" },
            Answer::Generation(_) => Answer::Generation(generation()),
            Answer::Prekeys { .. } => Answer::Prekeys {
                one_time: prekey_refs(), last_resort: Some(PrekeyRef { id: 2, issued: 1_700_000_000 }),
            },
        });
    }
    {
        pin!(lines, Reason {
            Reason::BadRequest => Reason::BadRequest,
            Reason::Version => Reason::Version,
            Reason::LoginFailed => Reason::LoginFailed,
            Reason::UnknownName => Reason::UnknownName,
            Reason::NameTaken => Reason::NameTaken,
            Reason::RegistrationClosed => Reason::RegistrationClosed,
            Reason::GuestsRefused => Reason::GuestsRefused,
            Reason::MailboxFull => Reason::MailboxFull,
            Reason::RelayFull => Reason::RelayFull,
            Reason::RateLimited => Reason::RateLimited,
            Reason::TooManyConnections => Reason::TooManyConnections,
            Reason::NoPrekeys => Reason::NoPrekeys,
            Reason::Internal => Reason::Internal,
            Reason::ShuttingDown => Reason::ShuttingDown,
            Reason::TooLarge => Reason::TooLarge,
            Reason::Timeout => Reason::Timeout,
            Reason::Blocked => Reason::Blocked,
            Reason::QuotaFull => Reason::QuotaFull,
            Reason::UnknownBlob => Reason::UnknownBlob,
            Reason::Suspended => Reason::Suspended,
        });
    }
}

fn token(lines: &mut BTreeMap<String, String>) {
    let mut lines = lines;
    let (own, peer) = (|| address("a@h:1"), || address("b@h:2"));
    {
        pin!(lines, Lifecycle { Lifecycle::Blank => Lifecycle::Blank, Lifecycle::Ready => Lifecycle::Ready, Lifecycle::Damaged => Lifecycle::Damaged });
    }
    {
        pin!(lines, Activity { Activity::Processing => Activity::Processing, Activity::TouchNeeded => Activity::TouchNeeded });
    }
    {
        pin!(lines, OpenedKind { OpenedKind::Message => OpenedKind::Message, OpenedKind::Paired => OpenedKind::Paired, OpenedKind::First => OpenedKind::First });
    }
    {
        pin!(lines, ToToken<'static> {
            ToToken::Hello => ToToken::Hello,
            ToToken::UnlockStart { .. } => ToToken::UnlockStart { init: false, sid: Bytes([1; 16]), share: Bytes([2; 32]), version: 1 },
            ToToken::UnlockFinish { .. } => ToToken::UnlockFinish { tag: Bytes([1; 32]), body: b"body" },
            ToToken::Sealed { .. } => ToToken::Sealed { counter: 300, body: b"body" },
            ToToken::Cancel => ToToken::Cancel,
            ToToken::Reset => ToToken::Reset,
        });
    }
    {
        pin!(lines, FromToken<'static> {
            FromToken::Hello(_) => FromToken::Hello(Hello {
                version: 1, lifecycle: Lifecycle::Ready, token_id: Bytes([1; 16]), salt: Bytes([2; 16]), tries: 8, tries_now: 3,
                firmware: "0.1.0".try_into().expect("fits"), board: "sim".try_into().expect("fits"),
            }),
            FromToken::UnlockAnswer { .. } => FromToken::UnlockAnswer { share: Bytes([1; 32]), version: 1, tag: Bytes([2; 32]) },
            FromToken::Sealed { .. } => FromToken::Sealed { counter: 0, body: b"body" },
            FromToken::Keepalive(_) => FromToken::Keepalive(Activity::TouchNeeded),
            FromToken::Refused(_) => FromToken::Refused(LinkError::Locked),
            FromToken::Done => FromToken::Done,
        });
    }
    {
        pin!(lines, LinkError {
            LinkError::BadRequest => LinkError::BadRequest,
            LinkError::Locked => LinkError::Locked,
            LinkError::Blank => LinkError::Blank,
            LinkError::NotBlank => LinkError::NotBlank,
            LinkError::WrongPin { .. } => LinkError::WrongPin { tries: 7, tries_now: 2 },
            LinkError::TriesOfPowerCycleSpent => LinkError::TriesOfPowerCycleSpent,
            LinkError::TriesSpent => LinkError::TriesSpent,
            LinkError::NoTouch => LinkError::NoTouch,
            LinkError::Cancelled => LinkError::Cancelled,
            LinkError::Version => LinkError::Version,
            LinkError::Storage => LinkError::Storage,
            LinkError::Random => LinkError::Random,
            LinkError::Busy => LinkError::Busy,
        });
    }
    {
        pin!(lines, TokenError {
            TokenError::BadRequest => TokenError::BadRequest,
            TokenError::NoTouch => TokenError::NoTouch,
            TokenError::Cancelled => TokenError::Cancelled,
            TokenError::Storage => TokenError::Storage,
            TokenError::Random => TokenError::Random,
            TokenError::SessionsFull => TokenError::SessionsFull,
            TokenError::PrekeysFull => TokenError::PrekeysFull,
            TokenError::ReplayMemoryFull => TokenError::ReplayMemoryFull,
            TokenError::UnknownContact => TokenError::UnknownContact,
            TokenError::UnknownSession => TokenError::UnknownSession,
            TokenError::IdentityChanged => TokenError::IdentityChanged,
            TokenError::Authentication => TokenError::Authentication,
            TokenError::Replayed => TokenError::Replayed,
            TokenError::TooFarAhead => TokenError::TooFarAhead,
            TokenError::PeerMisbehaved => TokenError::PeerMisbehaved,
            TokenError::WrongAddress => TokenError::WrongAddress,
            TokenError::Malformed => TokenError::Malformed,
            TokenError::Version => TokenError::Version,
            TokenError::NoCode => TokenError::NoCode,
            TokenError::WrongCode { .. } => TokenError::WrongCode { runs_left: 2 },
            TokenError::TooManyAnswers { .. } => TokenError::TooManyAnswers { seconds: 599 },
            TokenError::TooManyPending => TokenError::TooManyPending,
            TokenError::Prekey => TokenError::Prekey,
            TokenError::TooLong => TokenError::TooLong,
            TokenError::WrongPin => TokenError::WrongPin,
            TokenError::NothingToCommit => TokenError::NothingToCommit,
            TokenError::Uncommitted => TokenError::Uncommitted,
            TokenError::NoLiveSession => TokenError::NoLiveSession,
        });
    }
    {
        pin!(lines, Command<'static> {
            Command::Status => Command::Status,
            Command::Identity => Command::Identity,
            Command::ChangePin { .. } => Command::ChangePin { wrap: Bytes([1; 32]), new_salt: Bytes([2; 16]), new_prs: Bytes([3; 32]), new_wrap: Bytes([4; 32]) },
            Command::Lock => Command::Lock,
            Command::Wipe => Command::Wipe,
            Command::Login { .. } => Command::Login {
                account: Account::Guest(own()), dialled: RelayName::parse("h:1").expect("canonical"),
                challenge: Bytes([1; 32]), exporter: Bytes([2; 32]),
            },
            Command::NewPrekey { .. } => Command::NewPrekey { kind: PrekeyKind::OneTime, now: 1_700_000_000 },
            Command::PairBegin { .. } => Command::PairBegin { own: own(), peer: peer(), accept_changed: false },
            Command::PairOffer => Command::PairOffer,
            Command::PairConfirm { .. } => Command::PairConfirm { answer: answer() },
            Command::PairEnd => Command::PairEnd,
            Command::PairAnswer { .. } => Command::PairAnswer { own: own(), offer: offer(), code: Bytes(*b"123456"), accept_changed: false },
            Command::Start { .. } => Command::Start { own: own(), peer: peer(), bundle: bundle(), now: 1_700_000_000, accept_changed: true },
            Command::Seal { .. } => Command::Seal { peer: peer(), content: b"content" },
            Command::Open { .. } => Command::Open { own: own(), envelope: b"envelope", accept_changed: false },
            Command::Commit { .. } => Command::Commit { hash: Bytes([1; 32]) },
            Command::Discard => Command::Discard,
            Command::NextContact { .. } => Command::NextContact { after: Some(peer()) },
            Command::Forget { .. } => Command::Forget { peer: peer() },
            Command::StorageKey => Command::StorageKey,
            Command::Random => Command::Random,
            Command::Log => Command::Log,
            Command::Generations => Command::Generations,
            Command::PlanGeneration { .. } => Command::PlanGeneration { next: generation() },
            Command::AdoptGeneration { .. } => Command::AdoptGeneration { current: generation(), supersede: true },
            Command::Prekeys => Command::Prekeys,
            Command::DropPrekeys => Command::DropPrekeys,
            Command::ForgetPrekey { .. } => Command::ForgetPrekey { id: 300 },
            Command::Sessions { .. } => Command::Sessions { peer: peer() },
            Command::FindContact { .. } => Command::FindContact { session: Bytes([1; 16]) },
        });
    }
    {
        pin!(lines, Reply<'static> {
            Reply::Done => Reply::Done,
            Reply::Failed(_) => Reply::Failed(TokenError::BadRequest),
            Reply::Status(_) => Reply::Status(Status {
                sessions: 1, sessions_max: 128, one_time_prekeys: 16, last_resort_id: 1, last_resort_issued: 1_700_000_000, pending: 0, slot_erases: 5,
            }),
            Reply::Identity(_) => Reply::Identity(claim()),
            Reply::Signature(_) => Reply::Signature(Bytes([1; 64])),
            Reply::Prekey(_) => Reply::Prekey(prekey(PrekeyKind::OneTime)),
            Reply::Code(_) => Reply::Code(Bytes(*b"123456")),
            Reply::Offered(_) => Reply::Offered(Offered { offer: offer(), runs_left: 2 }),
            Reply::Established { .. } => Reply::Established { peer: claim(), session: Bytes([1; 16]) },
            Reply::Answered(_) => Reply::Answered(Answered { answer: answer(), answers_left: 2 }),
            Reply::Sealed { .. } => Reply::Sealed { message_id: Bytes([1; 16]), envelope: b"envelope" },
            Reply::Opened(_) => Reply::Opened(Opened {
                kind: OpenedKind::Paired, hash: Bytes([1; 32]), peer: peer(), identity: claim(), verified: true,
                message_id: Bytes([2; 16]), missing: 1, reply_due: true, content: b"content",
            }),
            Reply::Contact(_) => Reply::Contact(Some(ContactInfo {
                address: peer(), identity: claim(), verified: true, session: Bytes([1; 16]), sessions: 2, note: heapless::String::new(),
            })),
            Reply::StorageKey(_) => Reply::StorageKey(Bytes([1; 32])),
            Reply::Random(_) => Reply::Random(Bytes([1; 32])),
            Reply::Log(_) => Reply::Log(Log {
                now_ms: 300, entries: [LogEntry { at_ms: 200, act: Act::Seal, done: true }].into_iter().collect(),
            }),
            Reply::Generations(_) => Reply::Generations(Generations { current: generation(), next: Some(generation()), sessions_lost: 1 }),
            Reply::Prekeys { .. } => Reply::Prekeys { one_time: prekey_refs(), last_resort: prekey_refs() },
            Reply::Sessions(_) => Reply::Sessions([SessionInfo {
                session: Bytes([1; 16]), own: true, answered: false, superseded: false, current: true,
            }].into_iter().collect()),
        });
    }
    {
        pin!(lines, Act {
            Act::Unlock => Act::Unlock,
            Act::Init => Act::Init,
            Act::ChangePin => Act::ChangePin,
            Act::Wipe => Act::Wipe,
            Act::Login => Act::Login,
            Act::NewPrekey => Act::NewPrekey,
            Act::ShowCode => Act::ShowCode,
            Act::AnswerCode => Act::AnswerCode,
            Act::Confirm => Act::Confirm,
            Act::Start => Act::Start,
            Act::Seal => Act::Seal,
            Act::Open => Act::Open,
            Act::Forget => Act::Forget,
            Act::StorageKey => Act::StorageKey,
            Act::Generation => Act::Generation,
            Act::Supersede => Act::Supersede,
            Act::DropPrekeys => Act::DropPrekeys,
        });
    }
}

#[test]
fn every_variant_has_the_bytes_it_was_released_with() {
    let now = lines();
    let golden: BTreeMap<String, String> = std::fs::read_to_string(GOLDEN)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let (row, bytes) = line.rsplit_once(' ')?;
            Some((row.to_owned(), bytes.to_owned()))
        })
        .collect();
    for (row, bytes) in &golden {
        assert_eq!(now.get(row), Some(bytes), "{row} changed its bytes");
    }
    if std::env::var_os("HOSTCHAT_REGENERATE").is_some() {
        let mut text = String::new();
        for (row, bytes) in &now {
            let _ = writeln!(text, "{row} {bytes}");
        }
        std::fs::write(GOLDEN, text).expect("golden file written");
    } else {
        assert_eq!(
            now.len(),
            golden.len(),
            "rows without golden bytes: HOSTCHAT_REGENERATE=1 adds them"
        );
    }
    println!("{} variants pinned", now.len());
}
