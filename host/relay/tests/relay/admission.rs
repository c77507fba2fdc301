//! Who may register, what guests may do, how many may connect.

use hostchat_core::wire::relay::{Account, Call, Kind, Reason};
use hostchat_core::wire::{Address, PrekeyKind};
use hostchat_relay::{Rate, Registration};

use crate::client::{Client, Got, Person, message, tls};
use crate::harness::{TestRelay, also_on_nats, program};

async fn enter(relay: &TestRelay, person: &Person, account: Account) -> Got {
    let mut client = Client::connect(&relay.place).await;
    let login = client.bound.login(person, account);
    client.call(Call::Login(login)).await
}

fn invited(person: &Person, invitation: &str) -> Account {
    Account::Register {
        name: person.name.clone(),
        invitation: invitation.bytes().collect(),
    }
}

also_on_nats!(
    closed_registration_admits_only_who_is_registered,
    guests_look_up_take_and_send_and_nothing_else,
);

#[tokio::test]
async fn closed_registration_admits_only_who_is_registered() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    Client::register(&relay.place, &alice).await;
    let clock = relay.clock.clone();
    let folder = relay.stop().await;
    let closed = |config: &mut hostchat_relay::Config| config.registration = Registration::Closed;
    let relay = TestRelay::start_in(folder, clock, closed).await;
    let got = enter(&relay, &bob, bob.register()).await;
    assert_eq!(got.reason(), Some(Reason::RegistrationClosed));
    for account in [alice.register(), alice.user()] {
        assert_eq!(enter(&relay, &alice, account).await.reason(), None);
    }
}

#[tokio::test]
async fn an_invitation_made_beside_the_running_relay_is_used_up() {
    let relay = TestRelay::start(|config| config.registration = Registration::Invitation).await;
    let dir = relay.folder.path().to_str().unwrap();
    let output = program(&["invite", "--dir", dir, "--uses", "2"]);
    assert!(output.status.success(), "{output:?}");
    let invitation = String::from_utf8(output.stdout).unwrap();
    let invitation = invitation.trim();

    let people: Vec<Person> = ["a", "b", "c"].iter().map(|n| Person::new(n)).collect();
    for wrong in ["", "00000000000000000000"] {
        let got = enter(&relay, &people[0], invited(&people[0], wrong)).await;
        assert_eq!(got.reason(), Some(Reason::RegistrationClosed), "{wrong:?}");
    }
    // A repeat of a registration uses nothing up.
    for (person, reason) in [
        (&people[0], None),
        (&people[0], None),
        (&people[1], None),
        (&people[2], Some(Reason::RegistrationClosed)),
        (&people[1], None),
    ] {
        let got = enter(&relay, person, invited(person, invitation)).await;
        assert_eq!(got.reason(), reason, "{}", person.name);
    }
}

#[tokio::test]
async fn guests_look_up_take_and_send_and_nothing_else() {
    let relay = TestRelay::start(|_| {}).await;
    let (bob, eve) = (Person::new("bob"), Person::new("eve"));
    let mut owner = Client::register(&relay.place, &bob).await;
    let prekey = bob.prekey(PrekeyKind::LastResort, 1);
    owner.call(Call::PutPrekey(prekey)).await;
    owner.drain(true).await;

    let mut guest = Client::guest(&relay.place, &eve, "eve@elsewhere.example:7443").await;
    assert!(matches!(guest.call(Call::Ping).await, Got::Done(_)));
    assert!(matches!(
        guest.call(Call::LookUp(bob.name.clone())).await,
        Got::Binding(..)
    ));
    assert!(matches!(
        guest.call(Call::TakePrekeys(bob.name.clone())).await,
        Got::Bundle(..)
    ));
    let first = message(&bob, 1, Kind::First, b"hello");
    assert!(guest.call(first).await.is_stored());
    let delivery = owner.next().await.delivered();
    assert_eq!(delivery.sender.as_str(), "eve@elsewhere.example:7443");

    for call in [
        Call::Receive,
        Call::PutPrekey(eve.prekey(PrekeyKind::OneTime, 1)),
        Call::PrekeyStock,
        Call::Acknowledge {
            number: delivery.number,
        },
        Call::Who { after: "" },
        Call::SetVisible(true),
        Call::DeleteAccount,
    ] {
        let got = guest.call(call.clone()).await;
        assert_eq!(got.reason(), Some(Reason::GuestsRefused), "{call:?}");
    }
}

#[tokio::test]
async fn a_guest_cannot_appear_as_one_of_ours() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, mallory) = (Person::new("alice"), Person::new("alice"));
    Client::register(&relay.place, &alice).await;
    let ours = Address::new(&alice.name, &relay.place.name);
    let got = enter(&relay, &mallory, Account::Guest(ours)).await;
    assert_eq!(got.reason(), Some(Reason::GuestsRefused));
}

#[tokio::test]
async fn guests_may_be_kept_out() {
    let relay = TestRelay::start(|config| config.guests = false).await;
    let eve = Person::new("eve");
    let address = Address::parse("eve@elsewhere.example:7443").unwrap();
    let got = enter(&relay, &eve, Account::Guest(address)).await;
    assert_eq!(got.reason(), Some(Reason::GuestsRefused));
}

#[tokio::test]
async fn one_account_has_so_many_connections_and_others_have_theirs() {
    let relay = TestRelay::start(|config| {
        config.limits.connections_per_account = 2;
        config.limits.connects.per_minute = 0;
    });
    let relay = relay.await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let first = Client::register(&relay.place, &alice).await;
    let _second = Client::login(&relay.place, &alice).await;
    let got = enter(&relay, &alice, alice.user()).await;
    let refusal = got.refusal().unwrap();
    assert_eq!(refusal.reason, Reason::TooManyConnections);
    assert!(refusal.retry_after_ms > 0);
    Client::register(&relay.place, &bob).await;

    drop(first);
    // The relay notices the end of the first at its own pace.
    while enter(&relay, &alice, alice.user()).await.reason().is_some() {}
}

#[tokio::test]
async fn registrations_from_one_address_are_counted() {
    let rate = Rate {
        burst: 2,
        per_minute: 1,
    };
    let relay = TestRelay::start(|config| config.limits.registrations = rate).await;
    let people: Vec<Person> = ["a", "b", "c"].iter().map(|n| Person::new(n)).collect();
    for person in &people[..2] {
        Client::register(&relay.place, person).await;
    }
    let got = enter(&relay, &people[2], people[2].register()).await;
    let refusal = got.refusal().unwrap();
    assert_eq!(
        (refusal.reason, refusal.retry_after_ms),
        (Reason::RateLimited, 60_000)
    );
    Client::register(&relay.place, &people[0]).await;
    relay.clock.advance(60_000);
    Client::register(&relay.place, &people[2]).await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let relay = TestRelay::start(|config| config.limits.connections_per_address = 2).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let first = Client::register(&relay.place, &alice).await;
    let _second = Client::register(&relay.place, &bob).await;
    let refused = tls(&relay.place, &[&rustls::version::TLS13]).await;
    assert!(refused.is_err(), "dropped before the handshake");
    drop(first);
    while tls(&relay.place, &[&rustls::version::TLS13]).await.is_err() {}
}

/// What a relay that admits people so says to each question of a fresh connection: a new name and a taken one, without an
/// invitation and with one.
async fn may_register(
    relay: TestRelay,
    registration: Registration,
    guests: bool,
) -> (TestRelay, [Option<Reason>; 4]) {
    let clock = relay.clock.clone();
    let folder = relay.stop().await;
    let relay = TestRelay::start_in(folder, clock, |config| {
        config.registration = registration;
        config.guests = guests;
    })
    .await;
    let mut answers = [None; 4];
    let questions = [
        ("new", false),
        ("new", true),
        ("alice", false),
        ("alice", true),
    ];
    for (answer, (name, invited)) in answers.iter_mut().zip(questions) {
        let name = Person::new(name).name;
        let mut client = Client::connect(&relay.place).await;
        let question = || Call::MayRegister {
            name: name.clone(),
            invited,
        };
        *answer = client.call(question()).await.reason();
        // Once, so that nobody tries names one after the other over one connection.
        let again = client.call(question()).await;
        assert_eq!(again.reason(), Some(Reason::BadRequest));
        assert!(again.id().is_none(), "closed");
    }
    (relay, answers)
}

#[tokio::test]
async fn whether_a_name_may_be_registered_is_said_before_the_login_as_far_as_everybody_may_know() {
    let relay = TestRelay::start(|_| {}).await;
    Client::register(&relay.place, &Person::new("alice")).await;
    let taken = Some(Reason::NameTaken);
    let closed = Some(Reason::RegistrationClosed);
    use Registration::{Closed, Invitation, Open};
    let mut relay = relay;
    for (registration, guests, wanted) in [
        (Open, true, [None, None, taken, taken]),
        (Open, false, [None, None, taken, taken]),
        (Invitation, true, [closed, None, closed, taken]),
        // Nobody without an account could look the name up.
        (Invitation, false, [closed, None, closed, None]),
        (Closed, true, [closed; 4]),
    ] {
        let answers;
        (relay, answers) = may_register(relay, registration, guests).await;
        assert_eq!(answers, wanted, "{registration:?}, guests {guests}");
    }
    // A login follows on the same connection.
    let (relay, _) = may_register(relay, Open, true).await;
    let bob = Person::new("bob");
    let mut client = Client::connect(&relay.place).await;
    let question = Call::MayRegister {
        name: bob.name.clone(),
        invited: false,
    };
    assert_eq!(client.call(question.clone()).await.reason(), None);
    let login = client.bound.login(&bob, bob.register());
    assert_eq!(client.call(Call::Login(login)).await.reason(), None);
    // And no question follows a login.
    let got = client.call(question).await;
    assert_eq!(got.reason(), Some(Reason::BadRequest));
}
