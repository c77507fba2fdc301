//! The ceiling of memory: as many connections as fit at their worst, and each no worse than reckoned.

use std::process::Command;

use hostchat_core::wire::relay::{BLOB_PART, Call, Kind, WINDOW};
use hostchat_relay::Storage;
use hostchat_relay::limits::{BASE_MIB, CONNECTION_BYTES, Limits};

use crate::blob_store::{MIB, resident};
use crate::blobs::{File, get_from, put};
use crate::client::{Client, Person, message, tls};
use crate::harness::{Place, Process, configure, init, program};

/// Beside [`BASE_MIB`].
const ROOM_MIB: u32 = 10;
/// Parts of a file that each asks for and does not read: more than the system's buffers hold.
const PARTS: u32 = 1_500;
/// Messages that wait for each, more than its window, and nearly as large as there are.
const WAITING: u128 = WINDOW as u128 + 8;
/// More than the caches of the database hold.
const CACHES: usize = 40 * MIB;
const LARGE: usize = 6_000;

async fn is_taken(place: &Place) -> bool {
    tls(place, &[&rustls::version::TLS13]).await.is_ok()
}

#[tokio::test]
async fn memory_stays_below_the_ceiling_and_connections_beyond_it_are_turned_away() {
    let folder = init();
    let memory_mib = BASE_MIB + ROOM_MIB;
    let none = "{ burst = 1, per_minute = 0 }";
    let limits = format!(
        "memory_mib = {memory_mib}\nsender_percent = 100\nregistrations = {none}\ncalls = {none}\nsends = {none}"
    );
    configure(folder.path(), "", &limits);
    // As in the unit: with an arena for each thread, the allocator holds half as much again.
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.env("MALLOC_ARENA_MAX", "2");
    let process = Process::start_as(command, folder.path());
    let place = &process.place;
    let seats = Limits {
        memory_mib,
        ..Limits::default()
    };
    let seats = seats.fitting_connections(Storage::Sqlite);
    assert_eq!(seats, 64);

    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(place, &alice).await;
    let mut to = Client::register(place, &bob).await;
    assert_eq!(to.drain(true).await, []);
    let file = File::new(1, CACHES, 1);
    put(&mut from, &file, file.parts()).await;
    let people: Vec<_> = (2..seats).map(|n| Person::new(&format!("p{n}"))).collect();
    let body = vec![7; LARGE];
    for person in &people {
        drop(Client::register(place, person).await);
        for id in 0..WAITING {
            from.ask(message(person, id, Kind::Message, &body)).await;
        }
        for _ in 0..WAITING {
            assert!(from.next().await.is_stored());
        }
    }
    for _ in 0..2 {
        get_from(&mut to, &file, 0, 0).await;
    }
    // They begin to receive and to fetch, and read nothing of it.
    let before = resident(&process);
    let mut slow = Vec::new();
    for person in &people {
        let mut client = Client::login(place, person).await;
        client.ask(Call::Receive).await;
        for n in 0..PARTS {
            client.ask(file.get(0, n % file.parts())).await;
        }
        slow.push(client);
    }
    for _ in 0..3 {
        assert!(!is_taken(place).await, "one more than fits");
    }
    // More comes for each, and those who read go on.
    for (n, person) in people.iter().enumerate() {
        for id in 0..8 {
            let id = WAITING + id;
            assert!(from.send(person, id, &body).await.is_stored());
        }
        assert!(from.send(&bob, n as u128, b"x").await.is_stored());
        let number = to.next().await.delivered().number;
        to.call(Call::Acknowledge { number }).await;
    }
    let (all, parts) = (resident(&process), PARTS as usize * BLOB_PART / MIB);
    let each = all.saturating_sub(before) / slow.len();
    println!(
        "{} slow readers of {parts} MiB each take {} KiB each; {} MiB of {memory_mib} in all",
        slow.len(),
        each / 1024,
        all / MIB
    );
    assert!(each as u64 <= CONNECTION_BYTES, "{each} bytes each");
    assert!(all <= memory_mib as usize * MIB, "{all} bytes in all");

    // It needs nobody to start it again.
    drop(slow);
    while !is_taken(place).await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut late = Client::login(place, &people[0]).await;
    assert_eq!(late.drain(true).await.len() as u128, WAITING + 8);
}

#[test]
fn too_little_memory_is_an_error_that_says_so() {
    let folder = init();
    configure(folder.path(), "", &format!("memory_mib = {BASE_MIB}"));
    let output = program(&["run", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("memory_mib"), "{said}");
}
