//! The store behind its trait: order, outcomes and rollback of grouped writes.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Address, Bytes};
use hostchat_relay::Limits;
use hostchat_relay::clock::ManualClock;
use hostchat_relay::limits::{MESSAGE_OVERHEAD, RECEIVER_BYTES};
use hostchat_relay::store::sqlite::Options;
use hostchat_relay::store::{
    AccountId, Admission, Appended, Message, Nats, NewMessage, Outlet, Registered, Sqlite, Store,
    StoreError, nats as on_servers,
};

use crate::client::Person;
use crate::harness::{WALL, also_on_nats, nats_url, on_nats, run_on_nats, servers};

#[derive(Default)]
struct Collected(Mutex<Vec<u64>>);

impl Outlet for Collected {
    fn stored(&self, _: AccountId, message: Arc<Message>) {
        self.0.lock().unwrap().push(message.number);
    }
}

async fn open(folder: &Path, limits: Limits) -> (Arc<dyn Store>, Arc<Collected>) {
    let collected = Arc::new(Collected::default());
    if on_nats() {
        let options = on_servers::Options {
            servers: servers(folder, vec![nats_url()]),
            limits,
            clock: Arc::new(ManualClock::new(WALL)),
            metrics: Arc::default(),
            log_ms: Some(0),
            remember: false,
        };
        let store = Nats::open(options, Arc::clone(&collected) as _).await;
        return (Arc::new(store.unwrap()), collected);
    }
    let options = Options {
        path: folder.join("relay.db"),
        limits,
        log_ms: 0,
        clock: Arc::new(ManualClock::new(WALL)),
        metrics: Arc::default(),
        danger_synchronous_off: false,
    };
    let store = Sqlite::open(options, Arc::clone(&collected) as _).unwrap();
    (Arc::new(store), collected)
}

async fn register(store: &Arc<dyn Store>, person: &Person) -> AccountId {
    let name = person.name.clone();
    let queued = store.register(name, person.claim, Admission::Open, true);
    match queued.await.await.unwrap() {
        Registered::Account(id) => id,
        other => panic!("{other:?}"),
    }
}

fn new(to: &Person, id: u128, body: &[u8]) -> NewMessage {
    NewMessage {
        to: to.name.clone(),
        sender: Address::parse("alice@relay.example:1").unwrap(),
        sender_key: "alice".to_owned(),
        guest: false,
        fingerprint: Some(Bytes([9; 32])),
        message_id: Bytes(id.to_be_bytes()),
        kind: Kind::Message,
        body: Arc::from(body),
    }
}

/// Everything in a mailbox, page by page.
async fn waiting(store: &Arc<dyn Store>, mailbox: AccountId) -> Vec<Arc<Message>> {
    let mut all: Vec<Arc<Message>> = Vec::new();
    loop {
        let after = all.last().map_or(0, |message| message.number);
        let page = store.page(mailbox, after, 1_000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        let weights: Vec<usize> = page.iter().map(|message| message.weight()).collect();
        let but_last = weights.split_last().unwrap().1;
        assert!(
            but_last.iter().sum::<usize>() < RECEIVER_BYTES,
            "{weights:?}"
        );
        all.extend(page);
    }
}

also_on_nats!(
    large_messages_come_in_small_pages,
    what_is_stored_is_what_was_given,
    a_closed_store_says_so_and_keeps_what_it_had,
    what_is_stored_reaches_the_outlet_in_the_order_of_its_number,
);

#[tokio::test]
async fn large_messages_come_in_small_pages() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), Limits::default()).await;
    let bob = Person::new("bob");
    let mailbox = register(&store, &bob).await;
    for id in 0..40 {
        let body = vec![7; if id < 20 { 6_000 } else { 5 }];
        let stored = store.append(new(&bob, id, &body)).await.await;
        assert_eq!(stored, Ok(Appended::Stored));
    }
    let ids: Vec<u128> = waiting(&store, mailbox)
        .await
        .iter()
        .map(|message| u128::from_be_bytes(message.message_id.0))
        .collect();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    let page = store.page(mailbox, 0, 64).await.unwrap();
    assert_eq!(
        page.len(),
        RECEIVER_BYTES.div_ceil(6_000 + MESSAGE_OVERHEAD)
    );
}

#[test]
fn on_nats_no_more_waits_than_a_node_has_memory_for() {
    run_on_nats(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (store, _) = open(folder.path(), Limits::default()).await;
            let bob = Person::new("bob");
            register(&store, &bob).await;
            let append = async |store: &Arc<dyn Store>, id| {
                let stored = store.append(new(&bob, id, b"x")).await;
                stored.await.unwrap()
            };
            assert_eq!(append(&store, 1).await, Appended::Stored);
            let none = Limits {
                memory_mib: 0,
                ..Limits::default()
            };
            let (small, _) = open(folder.path(), none).await;
            assert_eq!(append(&small, 2).await, Appended::RelayFull);
            assert_eq!(append(&small, 1).await, Appended::Repeat);
        });
    });
}

#[tokio::test]
async fn one_failing_write_of_a_group_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        database_mib: 1,
        sender_percent: 100,
        ..Limits::default()
    };
    let (store, collected) = open(folder.path(), limits).await;
    let bob = Person::new("bob");
    let mailbox = register(&store, &bob).await;
    let big = vec![7; 6000];
    let mut id = 0;
    while store.append(new(&bob, id, &big)).await.await != Err(StoreError::Full) {
        id += 1;
        assert!(id < 1_000, "never full");
    }
    let before = waiting(&store, mailbox).await;
    assert_eq!(before.len() as u128, id);

    // Another connection holds the writer up until all of these stand in its queue: they become one group.
    let holder = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let probe = store.probe().await;
    let too_much = store.append(new(&bob, 5_000, &big)).await;
    let repeat = store.append(new(&bob, 0, &big)).await;
    // Two, since another message may need a page more than one leaves.
    let acknowledged = store.acknowledge(mailbox, before[0].number).await;
    let second = store.acknowledge(mailbox, before[1].number).await;
    let unknown = store.append(new(&Person::new("nobody"), 1, b"")).await;
    let also_too_much = store.append(new(&bob, 5_001, &vec![7; 60_000])).await;
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(probe.await, Ok(()));
    assert_eq!(too_much.await, Err(StoreError::Full));
    assert_eq!(repeat.await, Ok(Appended::Repeat));
    assert_eq!(acknowledged.await, Ok(()));
    assert_eq!(second.await, Ok(()));
    assert_eq!(unknown.await, Ok(Appended::UnknownName));
    assert_eq!(also_too_much.await, Err(StoreError::Full));

    let after = waiting(&store, mailbox).await;
    assert_eq!(after, before[2..]);
    assert_eq!(
        store.append(new(&bob, 5_000, &big)).await.await,
        Ok(Appended::Stored)
    );
    let last = waiting(&store, mailbox).await;
    let numbers: Vec<u64> = before.iter().chain(last.last()).map(|m| m.number).collect();
    assert_eq!(
        *collected.0.lock().unwrap(),
        numbers,
        "handed out only what is stored"
    );
}

#[tokio::test]
async fn what_is_stored_is_what_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), Limits::default()).await;
    let bob = Person::new("bob");
    let mailbox = register(&store, &bob).await;
    let all: Vec<u8> = (0..=255).collect();
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        all.clone(),
        all.repeat(24),
        b"'; DROP TABLE message; --".to_vec(),
        vec![0xff; 6204],
    ];
    for (id, body) in bodies.iter().enumerate() {
        let appended = store.append(new(&bob, id as u128, body)).await.await;
        assert_eq!(appended, Ok(Appended::Stored));
    }
    let page = store.page(mailbox, 0, 100).await.unwrap();
    let returned: Vec<Vec<u8>> = page.iter().map(|m| m.body.to_vec()).collect();
    assert_eq!(returned, bodies);
    assert!(
        page.iter()
            .all(|m| m.sender.as_str() == "alice@relay.example:1")
    );
    assert!(page.is_sorted_by_key(|m| m.number));
}

#[tokio::test]
async fn a_closed_store_says_so_and_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let bob = Person::new("bob");
    let (store, _) = open(folder.path(), Limits::default()).await;
    let mailbox = register(&store, &bob).await;
    // Queued, not awaited: closing finishes it.
    let pending = store.append(new(&bob, 1, b"kept")).await;
    store.close().await;
    assert_eq!(pending.await, Ok(Appended::Stored));
    assert_eq!(
        store.append(new(&bob, 2, b"late")).await.await,
        Err(StoreError::Closed)
    );
    assert_eq!(store.page(mailbox, 0, 1).await, Err(StoreError::Closed));
    let (store, _) = open(folder.path(), Limits::default()).await;
    assert_eq!(*store.page(mailbox, 0, 10).await.unwrap()[0].body, *b"kept");
}

#[tokio::test]
async fn what_is_stored_reaches_the_outlet_in_the_order_of_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let (store, collected) = open(folder.path(), Limits::default()).await;
    let people: Vec<_> = (0..4).map(|n| Person::new(&format!("p{n}"))).collect();
    let mut boxes = Vec::new();
    for person in &people {
        boxes.push(register(&store, person).await);
    }
    let mut pending = Vec::new();
    for id in 0..100u128 {
        pending.push(store.append(new(&people[id as usize % 4], id, b"x")).await);
    }
    for pending in pending {
        assert_eq!(pending.await, Ok(Appended::Stored));
    }
    let mut stored = Vec::new();
    for mailbox in boxes {
        let page = store.page(mailbox, 0, 100).await.unwrap();
        // Of one sender to one receiver: in the order of asking.
        assert!(page.is_sorted_by_key(|m| m.message_id.0));
        stored.extend(page.iter().map(|m| m.number));
    }
    stored.sort_unstable();
    assert_eq!(stored.len(), 100);
    assert_eq!(*collected.0.lock().unwrap(), stored);
}
