//! A connection to relays that do not behave, over a socket in memory and, where time matters, in virtual time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed unwrap is a failed test"
)]

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hostchat::Error;
use hostchat::model::Pin;
use hostchat::os::Os;
use hostchat::relay::{Connection, Login, Pushed};
use hostchat::token::{Place, Token};
use hostchat::transport::websocket::socket_config;
use hostchat_core::wire::relay::{
    Answer, Call, Delivery, Event, Kind, RELAY_VERSION, Reason, Refusal, Request, WINDOW,
};
use hostchat_core::wire::{Account, Address, Bytes, Name, PrekeyRef, RelayName, codec};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use zeroize::Zeroizing;

/// The relay's end of a connection.
struct Relay(WebSocketStream<DuplexStream>);

impl Relay {
    async fn say(&mut self, event: &Event<'_>) {
        let mut buffer = vec![0; 64 * 1024];
        let length = codec::encode(event, &mut buffer).unwrap().len();
        buffer.truncate(length);
        self.0.send(Message::Binary(buffer.into())).await.unwrap();
    }

    async fn answer(&mut self, id: u32, answer: Answer<'_>) {
        self.say(&Event::Reply { id, answer }).await;
    }

    /// The id of the next request, and whether `is` holds for its call.
    async fn hear(&mut self, is: impl Fn(&Call<'_>) -> bool) -> u32 {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => {
                    let request = codec::decode::<Request<'_>>(&bytes).unwrap();
                    assert!(is(&request.call), "{:?}", request.call);
                    return request.id;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn challenge(&mut self, version: u8) {
        let challenge = Bytes([5; 32]);
        self.say(&Event::Challenge {
            version,
            challenge,
            software: "test",
        })
        .await;
    }
}

fn refusal(reason: Reason) -> Refusal {
    Refusal {
        reason,
        retry_after_ms: 1500,
    }
}

fn name() -> RelayName {
    RelayName::parse("relay.example:7443").unwrap()
}

async fn token(dir: &Path) -> Token {
    let token = Token::open(
        Place::NewSoftware(dir.join("token.flash")),
        Os::default(),
        Box::new(|_| {}),
    )
    .await
    .unwrap();
    token
        .initialise(Pin::new(Zeroizing::new(b"384126".to_vec())).unwrap())
        .await
        .unwrap();
    token
}

async fn sockets() -> (WebSocketStream<DuplexStream>, Relay) {
    let (a, b) = tokio::io::duplex(256 * 1024);
    let client = WebSocketStream::from_raw_socket(a, Role::Client, Some(socket_config())).await;
    (
        client,
        Relay(WebSocketStream::from_raw_socket(b, Role::Server, None).await),
    )
}

async fn log_in(
    token: &Token,
    relay: impl AsyncFnOnce(&mut Relay),
) -> (hostchat::Result<Connection>, Relay) {
    let (socket, mut far) = sockets().await;
    let identity = token.identity().await.unwrap();
    let account = Account::User(Name::parse("alice").unwrap());
    let login = Login {
        token,
        account,
        identity,
        visible: true,
    };
    let (connection, ()) = tokio::join!(
        Connection::login(name(), socket, [9; 32], login),
        relay(&mut far)
    );
    (connection, far)
}

async fn connected(token: &Token) -> (Connection, Relay) {
    let (connection, relay) = log_in(token, async |relay| {
        relay.challenge(RELAY_VERSION).await;
        let id = relay.hear(|call| matches!(call, Call::Login(_))).await;
        relay.answer(id, Answer::Done).await;
    })
    .await;
    (connection.unwrap(), relay)
}

fn delivery(number: u64) -> Event<'static> {
    Event::Deliver(Delivery {
        number,
        sender: Address::parse("eve@relay.example:7443").unwrap(),
        stored_at: 0,
        message_id: Bytes([1; 16]),
        body: b"anything",
        fingerprint: Some(Bytes([2; 32])),
    })
}

#[tokio::test]
async fn a_login_is_signed_for_this_relay_challenge_and_connection() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (connection, _relay) = log_in(&token, async |relay| {
        relay.challenge(RELAY_VERSION).await;
        let message = relay.0.next().await.unwrap().unwrap().into_data();
        let request = codec::decode::<Request<'_>>(&message).unwrap();
        let Call::Login(login) = request.call else {
            panic!("{:?}", request.call)
        };
        let identity = login.identity.verify().unwrap();
        let verified = |challenge: [u8; 32], exporter: [u8; 32], dialled: &RelayName| {
            hostchat_core::wire::relay::login_items(
                "alice",
                dialled,
                &challenge,
                &exporter,
                &login.identity,
                |items| {
                    identity
                        .verifying_key()
                        .verify(items, &login.signature.0)
                        .is_ok()
                },
            )
        };
        assert!(verified([5; 32], [9; 32], &name()));
        assert!(!verified([6; 32], [9; 32], &name()));
        assert!(!verified([5; 32], [8; 32], &name()));
        assert!(!verified(
            [5; 32],
            [9; 32],
            &RelayName::parse("other.example:1").unwrap()
        ));
        relay.answer(request.id, Answer::Done).await;
    })
    .await;
    assert!(connection.unwrap().is_alive());
}

#[tokio::test]
async fn relays_of_another_version_or_that_refuse_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (result, _) = log_in(&token, async |relay| {
        relay.challenge(RELAY_VERSION + 1).await
    })
    .await;
    let error = result.err().unwrap();
    assert!(
        matches!(error, Error::RelayVersion { theirs, .. } if theirs == RELAY_VERSION + 1),
        "{error}"
    );
    assert_eq!(error.hint(), "update hostchat");
    let (result, _) = log_in(&token, async |relay| {
        relay.challenge(RELAY_VERSION).await;
        let id = relay.hear(|_| true).await;
        relay
            .answer(id, Answer::Refused(refusal(Reason::Version)))
            .await;
    })
    .await;
    assert!(matches!(result.err().unwrap(), Error::RelayVersion { .. }));
    let (result, _) = log_in(&token, async |relay| {
        relay
            .say(&Event::Closing(refusal(Reason::TooManyConnections)))
            .await;
    })
    .await;
    let error = result.err().unwrap();
    assert!(matches!(error, Error::RelayRefused { .. }), "{error}");
    assert_eq!(error.hint(), "try again in 2 s");
    for bad in [
        Event::Drained,
        delivery(1),
        Event::Reply {
            id: 0,
            answer: Answer::Done,
        },
    ] {
        let (result, _) = log_in(&token, async |relay| relay.say(&bad).await).await;
        assert!(matches!(result.err().unwrap(), Error::RelayProtocol { .. }));
    }
}

#[tokio::test]
async fn answers_are_matched_by_id_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (connection, mut relay) = connected(&token).await;
    let bob = || Name::parse("bob").unwrap();
    let (first, second, third, ()) = tokio::join!(
        connection.send(bob(), Bytes([1; 16]), Kind::Message, b"one"),
        connection.prekeys(),
        connection.look_up(bob()),
        async {
            let a = relay
                .hear(|call| matches!(call, Call::Send { body: b"one", .. }))
                .await;
            let b = relay.hear(|call| matches!(call, Call::Prekeys)).await;
            let c = relay.hear(|call| matches!(call, Call::LookUp(_))).await;
            relay.answer(9999, Answer::Done).await;
            relay
                .answer(c, Answer::Refused(refusal(Reason::UnknownName)))
                .await;
            let stock = Answer::Prekeys {
                one_time: heapless::Vec::new(),
                last_resort: Some(PrekeyRef { id: 5, issued: 4 }),
            };
            relay.answer(b, stock).await;
            relay.answer(a, Answer::Stored).await;
            relay
                .answer(a, Answer::Refused(refusal(Reason::Internal)))
                .await;
        }
    );
    first.unwrap();
    let stock = second.unwrap();
    assert_eq!(stock.last_resort, Some(PrekeyRef { id: 5, issued: 4 }));
    assert!(matches!(third, Err(Error::RelayRefused { .. })));
    assert!(connection.is_alive());
}

#[tokio::test]
async fn a_block_list_is_asked_for_to_its_end_and_has_to_be_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let pages = |pages: &'static [(&'static [&'static str], bool)]| {
        let token = &token;
        async move {
            let (connection, mut relay) = connected(token).await;
            let (list, ()) = tokio::join!(connection.blocked(), async {
                let mut last = "";
                for (page, more) in pages {
                    let id = relay
                        .hear(|call| matches!(call, Call::Blocked { after } if *after == last))
                        .await;
                    let addresses = page.iter().copied().collect();
                    relay
                        .answer(
                            id,
                            Answer::Blocked {
                                addresses,
                                more: *more,
                            },
                        )
                        .await;
                    last = page.last().copied().unwrap_or_default();
                }
            });
            list.map(|list| list.iter().map(Address::to_string).collect::<Vec<_>>())
        }
    };
    let list = pages(&[(&["a@h:1", "b@h:1"], true), (&["c@h:1"], false)]).await;
    assert_eq!(list.unwrap(), ["a@h:1", "b@h:1", "c@h:1"]);
    assert_eq!(pages(&[(&[], false)]).await.unwrap(), [""; 0]);
    let wrong: [&'static [(&'static [&'static str], bool)]; 5] = [
        &[(&["\u{1b}[2Jbob"], false)],
        &[(&[], true)],
        &[(&["b@h:1", "a@h:1"], false)],
        &[(&["a@h:1", "a@h:1"], false)],
        &[(&["b@h:1"], true), (&["a@h:1"], false)],
    ];
    for wrong in wrong {
        let list = pages(wrong).await;
        assert!(
            matches!(list, Err(Error::RelayProtocol { .. })),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (connection, mut relay) = connected(&token).await;
    let (sent, ()) = tokio::join!(
        connection.send(
            Name::parse("bob").unwrap(),
            Bytes([1; 16]),
            Kind::Message,
            b"x"
        ),
        async {
            let id = relay.hear(|_| true).await;
            relay.answer(id, Answer::Done).await;
        }
    );
    assert!(
        matches!(sent, Err(Error::RelayProtocol { .. })),
        "only `Stored` means stored"
    );
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_and_every_call() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let garbage = || Message::Binary(vec![0xff; 40].into());
    for bad in [
        Message::Text("hello".into()),
        garbage(),
        Message::Binary(vec![0; 20_000].into()),
    ] {
        let (mut connection, mut relay) = connected(&token).await;
        let (answer, ()) = tokio::join!(connection.ping(), async {
            relay.hear(|_| true).await;
            relay.0.send(bad.clone()).await.unwrap();
        });
        assert!(answer.is_err(), "{bad:?}");
        assert!(connection.next().await.is_err());
        assert!(!connection.is_alive());
        assert!(connection.ping().await.is_err(), "and stays ended");
    }
    let (mut connection, mut relay) = connected(&token).await;
    relay.challenge(RELAY_VERSION).await;
    assert!(matches!(
        connection.next().await,
        Err(Error::RelayProtocol { .. })
    ));
}

#[tokio::test]
async fn a_flood_of_deliveries_takes_a_bounded_place() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (mut connection, mut relay) = connected(&token).await;
    for number in 0..3 * WINDOW as u64 {
        relay.say(&delivery(number)).await;
    }
    let mut taken = 0;
    let error = loop {
        match connection.next().await {
            Ok(Pushed::Deliver(delivered)) => {
                assert_eq!(delivered.number, taken);
                taken += 1;
            }
            Ok(Pushed::Drained) => panic!("not said"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::RelayProtocol { .. }), "{error}");
    assert!(taken <= WINDOW as u64 + 1, "{taken}");
}

#[tokio::test]
async fn lists_that_are_out_of_order_or_endless_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let pages: [(&[&str], bool); 4] = [
        (&["bob", "alice"], false),
        (&["bob", "bob"], false),
        (&[], true),
        (&["\u{1b}[2J"], false),
    ];
    for (names, more) in pages {
        let (connection, mut relay) = connected(&token).await;
        let names = heapless::Vec::from_slice(names).unwrap();
        let (list, ()) = tokio::join!(connection.who(), async {
            let id = relay
                .hear(|call| matches!(call, Call::Who { after: "" }))
                .await;
            relay.answer(id, Answer::Online { names, more }).await;
        });
        assert!(matches!(list, Err(Error::RelayProtocol { .. })));
    }
    let (connection, mut relay) = connected(&token).await;
    let (list, ()) = tokio::join!(connection.who(), async {
        let id = relay
            .hear(|call| matches!(call, Call::Who { after: "" }))
            .await;
        let names = heapless::Vec::from_slice(&["alice", "bob"]).unwrap();
        relay.answer(id, Answer::Online { names, more: true }).await;
        let id = relay
            .hear(|call| matches!(call, Call::Who { after: "bob" }))
            .await;
        let names = heapless::Vec::from_slice(&["bob"]).unwrap();
        relay.answer(id, Answer::Online { names, more: true }).await;
    });
    assert!(
        matches!(list, Err(Error::RelayProtocol { .. })),
        "the same name again and again"
    );
}

#[tokio::test]
async fn a_relay_that_closes_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (mut connection, mut relay) = connected(&token).await;
    relay.say(&delivery(1)).await;
    relay
        .say(&Event::Closing(refusal(Reason::ShuttingDown)))
        .await;
    assert!(
        matches!(connection.next().await, Ok(Pushed::Deliver(_))),
        "what came before is kept"
    );
    let error = connection.next().await.unwrap_err();
    assert!(
        matches!(error, Error::RelayRefused { refusal, .. } if refusal.reason == Reason::ShuttingDown)
    );
}

#[tokio::test]
async fn a_silent_relay_is_given_up_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (mut connection, relay) = connected(&token).await;
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let error = connection.ping().await.unwrap_err();
    assert!(matches!(error, Error::RelayGone { .. }), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 30);
    let error = connection.next().await.unwrap_err();
    assert!(error.to_string().contains("no sign of life"), "{error}");
    assert!(
        begin.elapsed() <= Duration::from_secs(61),
        "{:?}",
        begin.elapsed()
    );
    drop(relay);
}

#[tokio::test]
async fn an_idle_connection_stays_as_long_as_the_relay_answers_pings() {
    let dir = tempfile::tempdir().unwrap();
    let token = token(dir.path()).await;
    let (mut connection, mut relay) = connected(&token).await;
    tokio::time::pause();
    // Reading is what answers the pings.
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = relay.0.next().await {} });
    let waited = tokio::time::timeout(Duration::from_secs(24 * 3600), connection.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert!(connection.is_alive());
    reading.abort();
}
