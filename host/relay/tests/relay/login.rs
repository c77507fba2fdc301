//! Proving an identity, and every way of failing to.

use hostchat_core::wire::relay::{Call, Login, RELAY_VERSION, Reason};
use hostchat_core::wire::{Bytes, Name, RelayName};

use crate::client::{Bound, Client, Got, Person};
use crate::harness::{TestRelay, also_on_nats};

/// Tries a login made from what the connection is bound to; a refusal must end the connection.
async fn attempt(relay: &TestRelay, make: impl FnOnce(&Bound) -> Login) -> Option<Reason> {
    let mut client = Client::connect(&relay.place).await;
    let login = make(&client.bound);
    let got = client.call(Call::Login(login)).await;
    if let Got::Refused(_, refusal) = got {
        assert_eq!(client.next().await, Got::Closing(refusal));
        assert_eq!(client.next().await, Got::End);
    }
    got.reason()
}

also_on_nats!(a_name_belongs_to_the_identity_that_registered_it,);

#[tokio::test]
async fn a_name_belongs_to_the_identity_that_registered_it() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, mallory) = (Person::new("alice"), Person::new("alice"));
    let unknown = attempt(&relay, |b| b.login(&alice, alice.user())).await;
    assert_eq!(unknown, Some(Reason::UnknownName));
    for account in [alice.register(), alice.register(), alice.user()] {
        assert_eq!(attempt(&relay, |b| b.login(&alice, account)).await, None);
    }
    for account in [mallory.user(), mallory.register()] {
        let got = attempt(&relay, |b| b.login(&mallory, account)).await;
        assert_eq!(got, Some(Reason::NameTaken));
    }
    let place = relay.place.clone();
    let mut bob = Client::register(&place, &Person::new("bob")).await;
    assert_eq!(
        bob.call(Call::LookUp(alice.name.clone())).await,
        Got::Binding(2, alice.claim)
    );
    let nobody = Name::parse("nobody").unwrap();
    let got = bob.call(Call::LookUp(nobody)).await;
    assert_eq!(got.reason(), Some(Reason::UnknownName));
}

type Forge = fn(&Bound, &Person, &Person) -> Login;

/// Each case differs from a correct login in one respect.
const FORGERIES: [(&str, Forge); 12] = [
    ("one bit of the signature", |bound, alice, _| {
        let mut login = bound.login(alice, alice.user());
        login.signature.0[40] ^= 1;
        login
    }),
    ("no signature", |bound, alice, _| Login {
        signature: Bytes([0; 64]),
        ..bound.login(alice, alice.user())
    }),
    ("somebody else's signature", |bound, alice, mallory| Login {
        signature: bound.login(mallory, alice.user()).signature,
        ..bound.login(alice, alice.user())
    }),
    ("another challenge", |bound, alice, _| {
        let other = Bound {
            challenge: [7; 32],
            ..bound.clone()
        };
        other.login(alice, alice.user())
    }),
    ("another TLS connection", |bound, alice, _| {
        let other = Bound {
            exporter: [7; 32],
            ..bound.clone()
        };
        other.login(alice, alice.user())
    }),
    ("signed for another relay", |bound, alice, _| {
        let other = Bound {
            dialled: RelayName::parse("other.example:7443").unwrap(),
            ..bound.clone()
        };
        other.login(alice, alice.user())
    }),
    (
        "signed for another relay, sent as for this",
        |bound, alice, _| {
            let other = Bound {
                dialled: RelayName::parse("other.example:7443").unwrap(),
                ..bound.clone()
            };
            Login {
                dialled: bound.dialled.clone(),
                ..other.login(alice, alice.user())
            }
        },
    ),
    ("signed for another account", |bound, alice, mallory| {
        Login {
            account: alice.user(),
            ..bound.login(alice, mallory.user())
        }
    }),
    ("another DH key than signed", |bound, alice, mallory| {
        let mut login = bound.login(alice, alice.user());
        login.identity.dh = mallory.claim.dh;
        login
    }),
    ("another identity than signed", |bound, alice, mallory| {
        Login {
            identity: mallory.claim,
            ..bound.login(alice, alice.user())
        }
    }),
    ("identity without a binding signature", |bound, alice, _| {
        let mut login = bound.login(alice, alice.user());
        login.identity.signature.0[0] ^= 1;
        login
    }),
    // With the key of order 1, R = identity and s = 0 satisfy the equation for every message.
    ("small-order key", |bound, alice, _| {
        let mut login = bound.login(alice, alice.user());
        login.identity.sign = Bytes([0; 32]);
        login.identity.sign.0[0] = 1;
        login.identity.signature = Bytes([0; 64]);
        login.identity.signature.0[0] = 1;
        login.signature = login.identity.signature;
        login
    }),
];

#[tokio::test]
async fn a_login_that_differs_in_anything_is_refused() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, mallory) = (Person::new("alice"), Person::new("mallory"));
    for person in [&alice, &mallory] {
        Client::register(&relay.place, person).await;
    }
    for (what, forge) in FORGERIES {
        let got = attempt(&relay, |bound| forge(bound, &alice, &mallory)).await;
        assert_eq!(got, Some(Reason::LoginFailed), "{what}");
    }
    assert_eq!(
        attempt(&relay, |b| b.login(&alice, alice.user())).await,
        None
    );
}

#[tokio::test]
async fn a_recorded_login_is_worth_nothing_on_another_connection() {
    let relay = TestRelay::start(|_| {}).await;
    let alice = Person::new("alice");
    Client::register(&relay.place, &alice).await;
    let mut recorded = None;
    let first = attempt(&relay, |b| {
        let login = b.login(&alice, alice.user());
        recorded = Some(login.clone());
        login
    });
    assert_eq!(first.await, None);
    let replayed = attempt(&relay, |_| recorded.unwrap()).await;
    assert_eq!(replayed, Some(Reason::LoginFailed));
}

#[tokio::test]
async fn another_version_is_told_so() {
    let relay = TestRelay::start(|_| {}).await;
    let alice = Person::new("alice");
    // 1 is that of clients before generations. `Client::connect` has seen that the challenge says 2.
    assert_eq!(RELAY_VERSION, 2);
    for version in [0, 1, 3, 255] {
        let got = attempt(&relay, |bound| Login {
            version,
            ..bound.login(&alice, alice.register())
        });
        assert_eq!(got.await, Some(Reason::Version));
    }
}

#[tokio::test]
async fn the_login_comes_first_and_once() {
    let relay = TestRelay::start(|_| {}).await;
    let alice = Person::new("alice");
    let mut client = Client::connect(&relay.place).await;
    assert_eq!(
        client.call(Call::Ping).await.reason(),
        Some(Reason::BadRequest)
    );
    assert_eq!(client.next().await, Got::End);

    let mut client = Client::register(&relay.place, &alice).await;
    let again = client.bound.login(&alice, alice.user());
    let got = client.call(Call::Login(again)).await;
    assert_eq!(got.reason(), Some(Reason::BadRequest));
    assert!(
        matches!(client.call(Call::Ping).await, Got::Done(_)),
        "and nothing changed"
    );
}

#[tokio::test]
async fn every_configured_name_may_be_dialled() {
    let names = ["relay.example:7443", "10.0.0.1:99"].map(|n| RelayName::parse(n).unwrap());
    let own = names.clone();
    let relay = TestRelay::start(|config| config.names = own.to_vec()).await;
    assert_eq!(relay.place.name, names[0], "the first is shown");
    let alice = Person::new("alice");
    for name in names {
        let got = attempt(&relay, |bound| {
            let bound = Bound {
                dialled: name,
                ..bound.clone()
            };
            bound.login(&alice, alice.register())
        });
        assert_eq!(got.await, None);
    }
    let by_address = attempt(&relay, |bound| {
        let bound = Bound {
            dialled: RelayName::parse(&relay.place.dial.to_string()).unwrap(),
            ..bound.clone()
        };
        bound.login(&alice, alice.user())
    });
    assert_eq!(
        by_address.await,
        Some(Reason::LoginFailed),
        "not configured"
    );
}
