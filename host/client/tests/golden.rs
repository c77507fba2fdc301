//! A whole home of an earlier format opens, and nothing in it is lost.
//!
//! `golden/v1` was made by the programs of commit cc3d31d: alice, who paired with bob by a code, exchanged first messages
//! with carol, ivan and gina (who then lost her keys), imported dave, and was killed here and there. The relay is gone.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hostchat::agent::{Client, Locked, Parts};
use hostchat::home::Home;
use hostchat::model::{Asked, Direction, Message, Pin, TokenKind, Trust};
use hostchat::os::{Os, Surroundings};
use hostchat::relay::Network;
use hostchat::token::{Place, Token};
use hostchat::vault::{Payload, Shown, Stored};
use hostchat_core::icd::Lifecycle;
use hostchat_core::wire::{Address, PrekeyKind, RelayName};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Milliseconds since 1970.
const MADE_AT: u64 = 1_795_800_520_000;
const PASSPHRASE: &str = "a golden passphrase";
/// Bytes of a software token's file; in the folder the blank end is left out.
const FLASH: usize = 1024 * 1024;

/// A copy of the home, to be written to.
fn copy() -> TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let home = tempfile::tempdir().unwrap();
    for name in ["config.toml", "vault.db", "token.flash"] {
        let mut bytes = fs::read(golden.join(name)).unwrap();
        if name == "token.flash" {
            bytes.resize(FLASH, 0xFF);
        }
        fs::write(home.path().join(name), bytes).unwrap();
    }
    home
}

/// The minute in which the home was made.
struct Then;

impl Surroundings for Then {
    fn now_ms(&self) -> u64 {
        MADE_AT
    }

    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            part.copy_from_slice(&hostchat::os::random::<32>()[..part.len()]);
        }
    }
}

async fn open(home: &TempDir) -> Client {
    let (home, os) = (Home::open(home.path()).unwrap(), Os::new(Then));
    let place = Place::Software(home.token_file());
    let token = Token::open(place, os.clone(), Box::new(|_| {}));
    let parts = Parts {
        token: token.await.unwrap(),
        home,
        dial: Arc::new(Network),
        os,
        no_history: false,
    };
    let locked = Locked::of(parts).unwrap();
    let pin = Pin::new(Zeroizing::new(PASSPHRASE.into())).unwrap();
    locked.unlock(pin).await.unwrap()
}

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@127.0.0.1:17443")).unwrap()
}

fn lines(messages: &[Message]) -> Vec<(Direction, String, &str, bool)> {
    messages
        .iter()
        .map(|m| {
            (
                m.direction,
                m.peer.name().to_string(),
                m.text.as_str(),
                m.verified,
            )
        })
        .collect()
}

#[test]
fn the_configuration_of_format_1_is_read() {
    let home = copy();
    let config = Home::open(home.path()).unwrap().config().unwrap().unwrap();
    assert_eq!(config.address(), address("alice"));
    assert_eq!(config.token, TokenKind::Software);
    assert!(config.registered && config.visible && config.relay.pin.is_some());
}

#[tokio::test]
async fn the_token_of_format_1_unlocks_with_its_sessions() {
    let home = copy();
    let client = open(&home).await;
    let token = client.token();
    assert_eq!(token.hello().await.unwrap().lifecycle, Lifecycle::Ready);
    let status = token.status().await.unwrap();
    assert_eq!((status.sessions, status.one_time_prekeys), (4, 16));
    for (name, verified) in [
        ("bob", true),
        ("carol", false),
        ("gina", false),
        ("ivan", false),
    ] {
        let known = token.contact(address(name)).await.unwrap().unwrap();
        assert_eq!(known.verified, verified, "{name}");
    }
}

#[tokio::test]
async fn contacts_of_format_1_keep_their_trust() {
    let home = copy();
    let mut client = open(&home).await;
    let contacts = client.vault().contacts().unwrap();
    let found: Vec<_> = contacts
        .iter()
        .map(|c| {
            let has = [c.identity, c.expected, c.changed].map(|i| i.is_some());
            (c.name.as_str(), c.trust, has)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("bob", Trust::Code, [true, false, false]),
            ("carol", Trust::Unverified, [true, false, false]),
            ("dave", Trust::Unverified, [false, true, false]),
            ("gina", Trust::Unverified, [true, false, true]),
            ("ivan", Trust::Unverified, [true, false, false]),
            ("zoe", Trust::Unverified, [false, false, false]),
        ]
    );
    let other = RelayName::parse("127.0.0.1:17444").unwrap();
    assert_eq!(
        client.vault().relay_pin(&other).unwrap(),
        Some([0x5A; 32]),
        "the pin of another relay"
    );
}

#[tokio::test]
async fn messages_of_format_1_are_there_and_what_was_not_shown_is_shown() {
    let home = copy();
    let mut client = open(&home).await;
    let vault = client.vault();
    let history = vault.history(None, 100).unwrap();
    assert_eq!(
        lines(&history),
        [
            (Direction::Out, "bob".into(), "first, with a code", false),
            (Direction::In, "bob".into(), "an answer from bob", true),
            (
                Direction::Out,
                "carol".into(),
                "hello carol, without a code",
                false
            ),
            (Direction::In, "carol".into(), "hello alice", false),
            (Direction::Out, "gina".into(), "for the first gina", false),
            (Direction::In, "ivan".into(), "ivan writes first", false),
        ]
    );
    let received = &history[1];
    assert!(received.received_at >= received.sent_at && received.missing == 0);
    assert_eq!(
        vault.seen(&received.message_id).unwrap(),
        Some(Stored::Committed)
    );
    assert_eq!(vault.last_sender().unwrap(), Some(address("ivan")));
    for (text, shown, stored) in [
        ("it was being shown", Shown::Perhaps, Stored::Committed),
        ("not shown yet", Shown::New, Stored::Committed),
        ("not committed yet", Shown::New, Stored::Stored),
    ] {
        let (message, how) = vault.to_show(0, 1).unwrap().remove(0);
        assert_eq!((message.text.as_str(), how), (text, shown));
        assert_eq!(vault.seen(&message.message_id).unwrap(), Some(stored));
        vault.mark_shown(&message, true).unwrap();
    }
    assert!(vault.to_show(0, 1).unwrap().is_empty());
    assert_eq!(vault.history(None, 100).unwrap().len(), 9);
}

#[tokio::test]
async fn the_outbox_of_format_1_keeps_order_and_envelopes() {
    let home = copy();
    let mut client = open(&home).await;
    let entries = client.vault().outbox().unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|e| {
            let text = match &e.payload {
                Payload::Note { text, .. } => text.as_str(),
                Payload::PairAnswer { .. } => "an answer to a code",
                other => panic!("{other:?}"),
            };
            (e.to.name().to_string(), text, e.sealed.is_some())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("gina".into(), "for whoever gina is now", false),
            ("bob".into(), "sealed, never sent", true),
            ("harry".into(), "an answer to a code", true),
            ("carol".into(), "neither sealed nor sent", false),
            ("zoe".into(), "to somebody not known yet", false),
        ]
    );
}

#[tokio::test]
async fn requests_and_prekeys_of_format_1_wait_on() {
    let home = copy();
    let mut client = open(&home).await;
    let requests = client.vault().requests().unwrap();
    let found: Vec<_> = requests
        .iter()
        .map(|r| (r.from.name().to_string(), r.asked == Asked::First))
        .collect();
    assert_eq!(found, [("frank".into(), false), ("erin".into(), true)]);
    for request in &requests {
        let envelope = client.vault().request_envelope(request.id).unwrap();
        assert!(envelope.is_some_and(|envelope| envelope.len() > 1000));
    }
    let prekeys = client.vault().prekeys().unwrap();
    assert_eq!(prekeys.len(), 1);
    assert_eq!(prekeys[0].1.kind, PrekeyKind::OneTime);
}
