//! Text and bytes that mean something to a shell, to SQL, to a page or to a terminal: refused, or stored and given back as
//! they are.

use std::collections::BTreeMap;

use futures_util::SinkExt;
use hostchat_core::wire::MAX_ENVELOPE;
use hostchat_core::wire::codec;
use hostchat_core::wire::relay::{Account, Call, Kind, Reason, Request};
use tokio_tungstenite::tungstenite::Message;

use crate::admin::admin;
use crate::client::{Client, Person, message};
use crate::harness::{TestRelay, also_on_nats, program};

also_on_nats!(
    names_that_are_none_are_refused_and_change_nothing,
    what_was_stored_comes_back_as_it_was,
);

const HOSTILE: [&str; 24] = [
    "'; DROP TABLE account; --",
    "' OR '1'='1",
    "bob' --",
    "bob\" UNION SELECT body",
    "bob%",
    "b_b*",
    ">",
    "bob.>",
    "$JS.API.STREAM.DELETE.x",
    "../../etc/passwd",
    "/etc/passwd",
    "$(touch /tmp/x)",
    "`reboot`",
    "bob; reboot",
    "--dir=/",
    "-rf",
    "<script>alert(1)</script>",
    "%3Cscript%3E",
    "\u{1b}[2J\u{1b}]0;x\u{7}",
    "bob\r\nSet-Cookie: a=b",
    "bob\0",
    "\u{202e}bob",
    "BOB",
    "bob\u{301}",
];

/// Names that are allowed, and mean something elsewhere.
const NAMES: [&str; 8] = [
    "select",
    "null",
    "0",
    "a--",
    "rm.-rf",
    "drop.table_account",
    "con",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
];

/// Stands for a hostile name until its request is encoded: the types let none be made.
const STAND_IN: &str = "stand-in";

/// The request with another text in the place of [`STAND_IN`].
fn with_name(call: Call<'_>, name: &str) -> Vec<u8> {
    let mut buf = [0; 4096];
    let bytes = codec::encode(&Request { id: 1, call }, &mut buf).unwrap();
    let field = [&[STAND_IN.len() as u8], STAND_IN.as_bytes()].concat();
    let at = bytes.windows(field.len()).position(|part| part == field);
    let (before, rest) = bytes.split_at(at.unwrap());
    let length = [u8::try_from(name.len()).unwrap()];
    [before, &length, name.as_bytes(), &rest[field.len()..]].concat()
}

async fn send_raw(client: &mut Client, bytes: Vec<u8>) -> Option<Reason> {
    client.ws.send(Message::Binary(bytes.into())).await.unwrap();
    client.next().await.reason()
}

fn open(config: &mut hostchat_relay::Config) {
    let limits = &mut config.limits;
    for rate in [
        &mut limits.connects,
        &mut limits.calls,
        &mut limits.registrations,
    ] {
        rate.per_minute = 0;
    }
}

#[tokio::test]
async fn names_that_are_none_are_refused_and_change_nothing() {
    let relay = TestRelay::start(open).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&relay.place, &bob).await;
    drop(Client::register(&relay.place, &alice).await);
    let stand_in = Person::new(STAND_IN);
    for name in HOSTILE {
        let calls = [
            message(&stand_in, 1, Kind::Message, b"body"),
            Call::TakePrekeys(stand_in.name.clone()),
            Call::LookUp(stand_in.name.clone()),
        ];
        for call in calls {
            let mut client = Client::login(&relay.place, &alice).await;
            let bytes = with_name(call, name);
            let reason = send_raw(&mut client, bytes).await;
            assert_eq!(reason, Some(Reason::BadRequest), "{name:?}");
        }
        let mut client = Client::connect(&relay.place).await;
        let register = Account::Register {
            name: stand_in.name.clone(),
            invitation: heapless::Vec::new(),
        };
        let login = Call::Login(client.bound.login(&stand_in, register));
        let bytes = with_name(login, name);
        let reason = send_raw(&mut client, bytes).await;
        assert_eq!(reason, Some(Reason::BadRequest), "{name:?}");
    }
    assert_eq!(to.drain(true).await, []);
    let users = admin(relay.folder.path(), &["users", "--json"]).await;
    let users: Vec<serde_json::Value> = serde_json::from_slice(&users.stdout).unwrap();
    let names: Vec<_> = users.iter().map(|user| &user["name"]).collect();
    assert_eq!(names, ["alice", "bob"]);
}

/// Bodies and message ids of every byte, and of text that could be a command.
#[tokio::test]
async fn what_was_stored_comes_back_as_it_was() {
    let relay = TestRelay::start(open).await;
    let bob = Person::new("bob");
    let mut to = Client::register(&relay.place, &bob).await;
    let mut bodies: Vec<Vec<u8>> = HOSTILE.iter().map(|text| text.as_bytes().into()).collect();
    bodies.extend((0..=255).step_by(17).map(|byte| vec![byte; 300]));
    bodies.push((0..=255).collect());
    bodies.push(Vec::new());
    bodies.push(vec![0xa5; MAX_ENVELOPE]);
    let mut sent = BTreeMap::new();
    for (n, name) in NAMES.into_iter().enumerate() {
        let mut from = Client::register(&relay.place, &Person::new(name)).await;
        for body in bodies.iter().skip(n).step_by(NAMES.len()) {
            // Text where it can be.
            let mut id = *b"'; DELETE FROM x";
            id[15] = sent.len() as u8;
            let got = from.send(&bob, u128::from_be_bytes(id), body).await;
            assert!(got.is_stored(), "{got:?}");
            sent.insert((name.to_owned(), id), body.clone());
        }
    }
    let delivered = to.drain(true).await;
    let count = delivered.len();
    let delivered: BTreeMap<_, _> = delivered
        .into_iter()
        .map(|d| ((d.sender.name().as_str().to_owned(), d.message_id), d.body))
        .collect();
    assert_eq!(delivered.len(), count, "each once");
    assert!(delivered == sent, "{} of {}", delivered.len(), sent.len());
}

/// Before they ask a relay: there is none.
#[test]
fn the_operators_commands_take_no_name_that_is_none() {
    let folder = crate::harness::init();
    let dir = folder.path().to_str().unwrap();
    for name in HOSTILE.into_iter().filter(|name| !name.contains('\0')) {
        for command in [&["user"][..], &["remove", "--yes"]] {
            let arguments = [&["admin", "--dir", dir], command, &["--", name]].concat();
            let output = program(&arguments);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name:?}: {said}");
            assert!(said.contains("no account can have this name"), "{said}");
        }
    }
}
