//! Who is here, and who does not want to be seen.

use hostchat_core::wire::relay::{Call, ONLINE_PAGE, Reason};

use crate::client::{Client, Got, Person};
use crate::harness::{TestRelay, also_on_nats};

also_on_nats!(
    who_lists_the_connected_in_order_and_forgets_who_leaves,
    whoever_hides_stays_hidden_on_later_connections,
);

async fn who(client: &mut Client, after: &str) -> (Vec<String>, bool) {
    match client.call(Call::Who { after }).await {
        Got::Online(_, names, more) => (names, more),
        got => panic!("{got:?}"),
    }
}

/// Asks until the relay has noticed what happened on another connection.
async fn wait_for(client: &mut Client, names: &[&str]) {
    while who(client, "").await.0 != names {}
}

#[tokio::test]
async fn who_lists_the_connected_in_order_and_forgets_who_leaves() {
    let relay = TestRelay::start(|_| {}).await;
    let mut clients = Vec::new();
    for name in ["carol", "alice", "bob"] {
        clients.push(Client::register(&relay.place, &Person::new(name)).await);
    }
    let mut carol = clients.remove(0);
    assert_eq!(
        who(&mut carol, "").await,
        (["alice", "bob", "carol"].map(String::from).into(), false)
    );
    assert_eq!(who(&mut carol, "alice").await.0, ["bob", "carol"]);
    assert_eq!(who(&mut carol, "b").await.0, ["bob", "carol"]);
    assert_eq!(who(&mut carol, "zoe").await.0, [""; 0]);
    for wrong in ["Bob", "bob@x", "'; DROP TABLE account; --"] {
        let got = carol.call(Call::Who { after: wrong }).await;
        assert_eq!(got.reason(), Some(Reason::BadRequest), "{wrong}");
    }
    drop(clients);
    wait_for(&mut carol, &["carol"]).await;
}

#[tokio::test]
async fn whoever_hides_stays_hidden_on_later_connections() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut watcher = Client::register(&relay.place, &alice).await;
    let mut hider = Client::register(&relay.place, &bob).await;
    let second = Client::login(&relay.place, &bob).await;
    assert_eq!(who(&mut watcher, "").await.0, ["alice", "bob"]);
    hider.call(Call::SetVisible(false)).await;
    assert_eq!(
        who(&mut watcher, "").await.0,
        ["alice"],
        "on all connections"
    );
    drop((hider, second));
    let mut hider = Client::login(&relay.place, &bob).await;
    assert_eq!(who(&mut watcher, "").await.0, ["alice"]);
    hider.call(Call::SetVisible(true)).await;
    assert_eq!(who(&mut watcher, "").await.0, ["alice", "bob"]);
}

#[tokio::test]
async fn a_connection_may_hide_by_its_login() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut watcher = Client::register(&relay.place, &alice).await;
    drop(Client::register(&relay.place, &bob).await);
    let mut client = Client::connect(&relay.place).await;
    let mut login = client.bound.login(&bob, bob.user());
    login.visible = false;
    assert!(matches!(
        client.call(Call::Login(login)).await,
        Got::Done(_)
    ));
    wait_for(&mut watcher, &["alice"]).await;
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let relay = TestRelay::start(|config| config.limits.registrations.per_minute = 0).await;
    let mut clients = Vec::new();
    for n in 0..ONLINE_PAGE + 5 {
        let person = Person::new(&format!("user{n:03}"));
        clients.push(Client::register(&relay.place, &person).await);
    }
    let (first, more) = who(&mut clients[0], "").await;
    assert_eq!((first.len(), more), (ONLINE_PAGE, true));
    let (second, more) = who(&mut clients[0], first.last().unwrap()).await;
    assert_eq!((second.len(), more), (5, false));
    let all: Vec<_> = first.into_iter().chain(second).collect();
    assert!(all.iter().is_sorted());
    assert_eq!(all.first().map(String::as_str), Some("user000"));
}
