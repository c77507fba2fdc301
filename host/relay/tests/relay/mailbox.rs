//! Leaving, fetching and acknowledging messages.

use hostchat_core::wire::relay::Call;

use crate::client::{Client, Got, Person};
use crate::harness::TestRelay;

#[tokio::test]
async fn a_message_arrives_is_acknowledged_and_does_not_come_again() {
    let relay = TestRelay::start("").await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&relay.place, &bob).await;
    let mut from = Client::register(&relay.place, &alice).await;
    assert_eq!(to.drain(true).await, []);

    assert!(from.send(&bob, 1, b"one").await.is_stored());
    let delivery = to.next().await.delivered();
    assert_eq!(delivery.body, b"one");
    assert_eq!(delivery.message_id, 1u128.to_be_bytes());
    assert_eq!(
        delivery.sender.as_str(),
        format!("alice@{}", relay.place.name)
    );
    let number = delivery.number;
    assert!(matches!(
        to.call(Call::Acknowledge { number }).await,
        Got::Done(_)
    ));

    let mut again = Client::login(&relay.place, &bob).await;
    assert_eq!(again.drain(true).await, []);
}
