//! Clients that send what no client should: each loses its own connection and nothing else.

use std::time::Duration;

use futures_util::SinkExt;
use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::codec;
use hostchat_core::wire::relay::{Call, Kind, MAX_RELAY_MESSAGE, Reason, Request, SUBPROTOCOL};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Got, Person, message, tls};
use crate::harness::{Place, TestRelay, rounds};

/// Sends one HTTP request over TLS and returns everything that comes back.
async fn http(place: &Place, request: &str) -> String {
    let mut stream = tls(place, &[&rustls::version::TLS13]).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end may come as a reset when the relay did not want the rest.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_health_check_asks_the_store() {
    let relay = TestRelay::start(|_| {}).await;
    let answer = http(&relay.place, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");

    // Another process holds the database for longer than the check waits.
    let path = relay.folder.path().join("relay.db");
    let holder = rusqlite::Connection::open(path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let place = relay.place.clone();
    let check =
        tokio::spawn(async move { http(&place, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await });
    while !check.is_finished() {
        relay.clock.advance(1_000);
        tokio::task::yield_now().await;
    }
    let answer = check.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn other_http_requests_get_an_answer_and_the_end() {
    let relay = TestRelay::start(|_| {}).await;
    let upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let long = "X: y\r\n".repeat(2_000);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404"),
        (
            "POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "GET /../relay.db HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "404",
        ),
        (
            "GET /hostchat HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "400",
        ),
        (format!("GET /hostchat HTTP/1.1\r\n{upgrade}\r\n"), "400"),
        (
            format!(
                "GET /hostchat HTTP/1.1\r\n{upgrade}Sec-WebSocket-Protocol: hostchat.2\r\n\r\n"
            ),
            "400",
        ),
        (
            format!(
                "GET /hostchat HTTP/1.1\r\n{upgrade}Sec-WebSocket-Protocol: chat, {SUBPROTOCOL}\r\n\r\n"
            ),
            "101",
        ),
        ("\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), "400"),
        (format!("GET /healthz HTTP/1.1\r\n{long}"), "4"),
    ] {
        let answer = if status == "101" {
            let head = upgraded(&relay.place, &request).await;
            let time = head.split("\r\nhostchat-time: ").nth(1).unwrap_or("");
            let time = time.split("\r\n").next().unwrap_or("").parse::<u64>();
            assert!(time.is_ok_and(|ms| ms > 1_700_000_000_000), "{head}");
            head
        } else {
            http(&relay.place, &request).await
        };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request:.60} got {answer}"
        );
    }
}

/// The head of the answer to an upgrade.
async fn upgraded(place: &Place, request: &str) -> String {
    let mut stream = tls(place, &[&rustls::version::TLS13]).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let relay = TestRelay::start(|_| {}).await;
    let mut stream = TcpStream::connect(relay.place.dial).await.unwrap();
    stream.write_all(&tls_1_2_hello()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // A fatal (2) alert (21): protocol_version (70), RFC 8446 §6.2.
    assert_eq!(answer[0], 21);
    assert_eq!(answer[5..], [2, 70]);
    assert!(tls(&relay.place, &[&rustls::version::TLS13]).await.is_ok());
}

/// A ClientHello as of RFC 5246: no supported_versions, good suites, groups and signatures.
fn tls_1_2_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([0x42; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let groups = [0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17];
    let signatures = [0, 13, 0, 6, 0, 4, 4, 3, 8, 4];
    hello.extend([0, 20]);
    hello.extend(groups);
    hello.extend(signatures);
    let length = hello.len() as u8;
    let header = [22, 3, 1, 0, length + 4, 1, 0, 0, length];
    [&header[..], &hello].concat()
}

#[tokio::test]
async fn slow_handshakes_end_in_time() {
    let relay = TestRelay::start(|_| {}).await;
    // One says nothing, one stops within TLS, one within the HTTP head.
    let mut silent = TcpStream::connect(relay.place.dial).await.unwrap();
    let mut half = TcpStream::connect(relay.place.dial).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut head = tls(&relay.place, &[&rustls::version::TLS13]).await.unwrap();
    head.write_all(b"GET /hostchat HT").await.unwrap();
    let mut end = [0; 1];
    let ended = async {
        let _ = silent.read(&mut end).await;
        let _ = half.read(&mut end).await;
        let _ = head.read(&mut end).await;
    };
    tokio::pin!(ended);
    // The relay starts each clock when it accepts; time passes until all three are gone.
    loop {
        relay.clock.advance(hostchat_relay::limits::HANDSHAKE_MS);
        let turn = tokio::time::timeout(Duration::from_millis(20), &mut ended);
        if turn.await.is_ok() {
            break;
        }
    }
    Client::register(&relay.place, &Person::new("alice")).await;
}

#[tokio::test]
async fn oversized_messages_close_before_they_are_taken() {
    let relay = TestRelay::start(|_| {}).await;
    let alice = Person::new("alice");
    for size in [MAX_RELAY_MESSAGE + 1, 1 << 20] {
        let mut client = Client::register(&relay.place, &alice).await;
        let _ = client.ws.send(Message::Binary(vec![0; size].into())).await;
        // The relay does not read the rest, so that its words may be lost in a reset.
        let got = client.next().await;
        assert!(
            got == Got::End || got.reason() == Some(Reason::TooLarge),
            "{got:?}"
        );
    }
    let mut client = Client::register(&relay.place, &alice).await;
    let text = Message::Text("hello".into());
    client.ws.send(text).await.unwrap();
    assert_eq!(client.next().await.reason(), Some(Reason::BadRequest));
}

/// Bytes that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 += 1;
        let hash = sha256(&[&self.0.to_be_bytes()]);
        usize::from_be_bytes(*hash.first_chunk().unwrap()) >> 1
    }
}

#[tokio::test]
async fn malformed_requests_close_their_connection_and_change_nothing() {
    let relay = TestRelay::start(|config| {
        config.limits.connects.per_minute = 0;
        config.limits.calls.per_minute = 0;
    });
    let relay = relay.await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&relay.place, &bob).await;
    drop(Client::register(&relay.place, &alice).await);
    let mut buf = vec![0; 4096];
    let call = message(&bob, 1, Kind::Message, b"some body");
    let good = codec::encode(&Request { id: 1, call }, &mut buf)
        .unwrap()
        .to_vec();

    let mut wrong: Vec<Vec<u8>> = vec![vec![], vec![0xff; 100], vec![1, 0xff]];
    wrong.extend((0..good.len()).map(|n| good[..n].to_vec()));
    wrong.push([&good[..], b"x"].concat());
    let overlong_id = [&[0x81, 0x00], &good[1..]].concat();
    wrong.push(overlong_id);
    for bytes in wrong {
        let mut client = Client::login(&relay.place, &alice).await;
        client
            .ws
            .send(Message::Binary(bytes.clone().into()))
            .await
            .unwrap();
        assert_eq!(
            client.next().await.reason(),
            Some(Reason::BadRequest),
            "{bytes:02x?}"
        );
        assert_eq!(client.next().await, Got::End);
    }
    assert_eq!(to.drain(true).await, []);
}

#[tokio::test]
async fn altered_requests_never_stop_the_relay() {
    let relay = TestRelay::start(|config| {
        config.limits.connects.per_minute = 0;
        config.limits.calls.per_minute = 0;
    });
    let relay = relay.await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    Client::register(&relay.place, &bob).await;
    let mut client = Client::register(&relay.place, &alice).await;
    // Two who behave, and go on all the while.
    let (carol, dan) = (Person::new("carol"), Person::new("dan"));
    let mut from = Client::register(&relay.place, &carol).await;
    let mut to = Client::register(&relay.place, &dan).await;
    assert_eq!(to.drain(true).await, []);
    let mut noise = Noise(1);
    let calls = [
        message(&bob, 1, Kind::First, b"body"),
        Call::TakePrekeys(bob.name.clone()),
        Call::PutPrekey(alice.prekey(hostchat_core::wire::PrekeyKind::OneTime, 1)),
        Call::Who { after: "alice" },
        Call::Acknowledge { number: 300 },
    ];
    let mut buf = vec![0; 4096];
    for round in 0..rounds("HOSTCHAT_REQUESTS", 1_000) {
        if round % 100 == 0 {
            let got = from.send(&dan, u128::from(round), b"x").await;
            assert!(got.is_stored(), "round {round}: {got:?}");
            let number = to.next().await.delivered().number;
            let got = to.call(Call::Acknowledge { number }).await;
            assert!(matches!(got, Got::Done(_)), "round {round}: {got:?}");
        }
        let call = calls[noise.next() % calls.len()].clone();
        let mut bytes = codec::encode(&Request { id: round, call }, &mut buf)
            .unwrap()
            .to_vec();
        for _ in 0..=noise.next() % 3 {
            let at = noise.next() % bytes.len();
            bytes[at] = noise.next() as u8;
        }
        // May have become Receive, DeleteAccount or Login: all are answered, refused or the end.
        let _ = client.ws.send(Message::Binary(bytes.into())).await;
        if matches!(client.next().await, Got::End | Got::Closing(_)) {
            client = Client::register(&relay.place, &alice).await;
        }
    }
    assert!(client.call(Call::Ping).await != Got::End);
    let answer = http(&relay.place, "GET /healthz HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
