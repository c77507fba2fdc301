//! The unlock and the channel, both ends together, with everything that can be altered altered.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use hostchat_core::error::{Decode, Error, Limit, Peer};
use hostchat_core::icd::{
    Channel, FromToken, HostUnlock, LinkError, MAX_LINK, TOKEN_VERSION, ToToken, TokenUnlock,
    UnlockKind,
};
use hostchat_core::wire::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const ID: Bytes<16> = Bytes([1; 16]);
const SALT: Bytes<16> = Bytes([2; 16]);

type Frame = heapless::Vec<u8, MAX_LINK>;

struct Start {
    sid: Bytes<16>,
    share: Bytes<32>,
    version: u8,
}

fn start(kind: UnlockKind, prs: &[u8], seed: u64) -> (HostUnlock, Start) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (host, message) = HostUnlock::start(kind, &ID, &SALT, prs, &mut rng).expect("starts");
    let ToToken::UnlockStart {
        sid,
        share,
        version,
        init,
    } = message
    else {
        panic!("another message: {message:?}")
    };
    assert_eq!(init, kind == UnlockKind::Init);
    (
        host,
        Start {
            sid,
            share,
            version,
        },
    )
}

fn answer(
    kind: UnlockKind,
    prs: &[u8],
    start: &Start,
) -> Result<(TokenUnlock, FromToken<'static>), Error> {
    let mut rng = ChaCha20Rng::seed_from_u64(99);
    TokenUnlock::answer(
        kind,
        &ID,
        &SALT,
        prs,
        start.sid,
        start.share,
        start.version,
        &mut rng,
    )
}

fn unlocked(seed: u64) -> (Channel, Channel) {
    let (host, first) = start(UnlockKind::Unlock, b"prs", seed);
    let (token, second) = answer(UnlockKind::Unlock, b"prs", &first).expect("answers");
    let (mut host, tag) = host.finish(&second).expect("right PIN");
    let mut body = Frame::new();
    assert_eq!(host.seal(b"wrapping key", &mut body), Ok(0));
    let mut secret = heapless::Vec::new();
    let mut token = token.finish(&tag, &body, &mut secret).expect("right PIN");
    assert_eq!(secret, b"wrapping key");
    let (mut ok, mut plain) = (Frame::new(), Frame::new());
    assert_eq!(token.seal(b"ok", &mut ok), Ok(0));
    host.open(0, &ok, &mut plain).expect("message 4");
    (host, token)
}

#[test]
fn both_ends_of_a_right_pin_share_a_channel() {
    let (mut host, mut token) = unlocked(1);
    for n in 1..200u64 {
        let (mut sealed, mut plain) = (Frame::new(), Frame::new());
        let message = vec![n as u8; (n * 20) as usize];
        assert_eq!(host.seal(&message, &mut sealed), Ok(n));
        token.open(n, &sealed, &mut plain).expect("opens");
        assert_eq!(plain, message[..]);
        assert_eq!(token.seal(&message, &mut sealed), Ok(n));
        host.open(n, &sealed, &mut plain).expect("opens");
        assert_eq!(plain, message[..]);
    }
}

#[test]
fn a_wrong_pin_is_seen_by_the_host_and_by_the_token() {
    let (host, first) = start(UnlockKind::Unlock, b"right", 1);
    let (_, second) = answer(UnlockKind::Unlock, b"wrong", &first).expect("answers");
    assert_eq!(host.finish(&second).err(), Some(Error::Authentication));

    let (host, first) = start(UnlockKind::Unlock, b"right", 2);
    let (_, second) = answer(UnlockKind::Unlock, b"right", &first).expect("answers");
    let (mut host, _) = host.finish(&second).expect("right");
    let (other, _) = answer(UnlockKind::Unlock, b"wrong", &first).expect("answers");
    let mut body = Frame::new();
    host.seal(b"w", &mut body).expect("seals");
    let finished = other.finish(&Bytes([0; 32]), &body, &mut heapless::Vec::new());
    assert_eq!(finished.err(), Some(Error::Authentication));
}

#[test]
fn unlock_and_initialisation_do_not_mix() {
    let (host, first) = start(UnlockKind::Init, b"", 1);
    let (_, second) = answer(UnlockKind::Unlock, b"", &first).expect("answers");
    assert_eq!(host.finish(&second).err(), Some(Error::Authentication));
}

#[test]
fn any_bit_of_message_2_altered_is_refused() {
    let altered = |change: &dyn Fn(&mut Bytes<32>, &mut u8, &mut Bytes<32>)| {
        let (host, first) = start(UnlockKind::Unlock, b"prs", 3);
        let (_, second) = answer(UnlockKind::Unlock, b"prs", &first).expect("answers");
        let FromToken::UnlockAnswer {
            mut share,
            mut version,
            mut tag,
        } = second
        else {
            panic!("another message")
        };
        change(&mut share, &mut version, &mut tag);
        host.finish(&FromToken::UnlockAnswer {
            share,
            version,
            tag,
        })
        .is_ok()
    };
    assert!(altered(&|_, _, _| ()), "unaltered must pass");
    for bit in 0..256 {
        assert!(!altered(&|share, _, _| share.0[bit / 8] ^= 1 << (bit % 8)));
        assert!(!altered(&|_, _, tag| tag.0[bit / 8] ^= 1 << (bit % 8)));
    }
    for bit in 0..8 {
        assert!(!altered(&|_, version, _| *version ^= 1 << bit));
    }
}

#[test]
fn a_reflected_share_an_identity_point_and_a_foreign_version_are_refused() {
    let (host, first) = start(UnlockKind::Unlock, b"prs", 4);
    let reflected = FromToken::UnlockAnswer {
        share: first.share,
        version: 1,
        tag: Bytes([0; 32]),
    };
    assert_eq!(
        host.finish(&reflected).err(),
        Some(Error::PeerMisbehaved(Peer::Reflected))
    );
    let identity = Start {
        share: Bytes([0; 32]),
        ..first
    };
    assert_eq!(
        answer(UnlockKind::Unlock, b"prs", &identity).err(),
        Some(Error::PeerMisbehaved(Peer::BadPoint))
    );
    let foreign = Start {
        version: TOKEN_VERSION + 1,
        ..start(UnlockKind::Unlock, b"prs", 5).1
    };
    assert_eq!(
        answer(UnlockKind::Unlock, b"prs", &foreign).err(),
        Some(Error::Decode(Decode::Version))
    );
    let (host, _) = start(UnlockKind::Unlock, b"prs", 4);
    let refused = FromToken::Refused(LinkError::Busy);
    assert!(host.finish(&refused).is_err());
}

#[test]
fn replayed_skipped_altered_and_reflected_channel_frames_change_nothing() {
    let (mut host, mut token) = unlocked(6);
    let (mut one, mut two, mut plain) = (Frame::new(), Frame::new(), Frame::new());
    host.seal(b"one", &mut one).expect("seals");
    host.seal(b"two", &mut two).expect("seals");
    assert_eq!(
        token.open(2, &two, &mut plain),
        Err(Error::Limit(Limit::Replayed))
    );
    assert_eq!(token.open(1, &two, &mut plain), Err(Error::Authentication));
    assert!(plain.is_empty(), "nothing unauthenticated is left behind");
    for bit in 0..one.len() * 8 {
        let mut bad = one.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(token.open(1, &bad, &mut plain), Err(Error::Authentication));
    }
    for end in 0..16 {
        assert_eq!(
            token.open(1, &one[..end], &mut plain),
            Err(Error::Decode(Decode::Truncated))
        );
    }
    assert_eq!(
        host.open(1, &one, &mut plain),
        Err(Error::Authentication),
        "reflected"
    );
    token.open(1, &one, &mut plain).expect("still in step");
    assert_eq!(
        token.open(1, &one, &mut plain),
        Err(Error::Limit(Limit::Replayed))
    );
    token.open(2, &two, &mut plain).expect("still in step");
    assert_eq!(plain, b"two");
}
