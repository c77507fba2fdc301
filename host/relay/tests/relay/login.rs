//! Who gets in, and every way of not getting in.

use hostchat_core::wire::relay::{Account, Call, Login, Reason};
use hostchat_core::wire::{Address, Bytes, Name, RelayName};

use crate::client::{Client, Got, Person};
use crate::harness::TestRelay;

/// Logs in with what `change` makes of a correct login.
async fn attempt(relay: &TestRelay, person: &Person, change: impl FnOnce(&Client, &mut Login)) -> Got {
    let mut client = Client::connect(&relay.place).await;
    let mut login = client.login_of(person, person.user());
    change(&client, &mut login);
    let got = client.call(Call::Login(login)).await;
    if got.reason().is_some() {
        assert!(matches!(client.next().await, Got::Closing(_)), "a refused login closes");
        assert_eq!(client.next().await, Got::End);
    }
    got
}

#[tokio::test]
async fn registered_once_the_name_belongs_to_the_identity() {
    let relay = TestRelay::start("").await;
    let alice = Person::new("alice");
    assert_eq!(attempt(&relay, &alice, |_, _| {}).await.reason(), Some(Reason::UnknownName));
    Client::register(&relay.place, &alice).await;
    Client::register(&relay.place, &alice).await;
    Client::login(&relay.place, &alice).await;

    let mallory = Person::new("alice");
    for account in [mallory.user(), mallory.register()] {
        let mut client = Client::connect(&relay.place).await;
        let login = client.login_of(&mallory, account);
        let got = client.call(Call::Login(login)).await;
        assert_eq!(got.reason(), Some(Reason::NameTaken));
    }
}

#[tokio::test]
async fn every_signed_field_is_checked() {
    let relay = TestRelay::start("").await;
    let (alice, other) = (Person::new("alice"), Person::new("other"));
    Client::register(&relay.place, &alice).await;
    Client::register(&relay.place, &other).await;

    let resign = |client: &Client, login: &mut Login, challenge, exporter| {
        let forged = Client {
            challenge,
            exporter,
            ..Client::unconnected(client)
        };
        login.signature = forged.login_of(&alice, login.account.clone()).signature;
    };
    type Change<'c> = Box<dyn Fn(&Client, &mut Login) + 'c>;
    let cases: Vec<(&str, Change<'_>, Reason)> = vec![
        ("signature", Box::new(|_, l| l.signature.0[40] ^= 1), Reason::LoginFailed),
        ("no signature", Box::new(|_, l| l.signature = Bytes([0; 64])), Reason::LoginFailed),
    ];
    let _ = (&resign, &cases);
    for (what, change, reason) in &cases {
        let got = attempt(&relay, &alice, |c, l| change(c, l)).await;
        assert_eq!(got.reason(), Some(*reason), "{what}");
    }
    let _ = (Account::Guest(Address::parse("a@b:1").unwrap()), Name::parse("x"), RelayName::parse("x"));
}
