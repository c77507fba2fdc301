//! Files: put part by part, read by who has a token, gone after the last reader; `blob_store` has their limits and load.

use std::collections::BTreeMap;

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::Bytes;
use hostchat_core::wire::relay::{BLOB_PART, BLOB_READERS, Call, Reason};
use serde_json::{Value, json};

use crate::admin::admin;
use crate::blob_store::{MIB, count, swept};
use crate::client::{Client, Got, Person};
use crate::harness::{
    Process, TestRelay, also_on_nats, configure, init, nats_url, on_nats, servers,
};

/// Sealed bytes, as far as a relay can tell.
pub struct File {
    id: [u8; 16],
    pub bytes: Vec<u8>,
    tokens: Vec<[u8; 16]>,
}

impl File {
    pub fn new(id: u128, size: usize, readers: usize) -> Self {
        let token = |n: usize| {
            let hash = sha256(&[&id.to_be_bytes(), &n.to_be_bytes()]);
            hash[..16].try_into().unwrap()
        };
        // No two parts are the same.
        let words =
            (0..size.div_ceil(8) as u64).map(|n| ((n << 8) | (id as u64 & 0xff)).to_be_bytes());
        let mut bytes: Vec<u8> = words.flatten().collect();
        bytes.truncate(size);
        Self {
            id: id.to_be_bytes(),
            bytes,
            tokens: (0..readers).map(token).collect(),
        }
    }

    pub fn announce(&self) -> Call<'static> {
        let readers = self.tokens.iter();
        Call::PutBlob {
            blob: Bytes(self.id),
            size: self.bytes.len() as u64,
            readers: readers.map(|t| Bytes(sha256(&[t]))).collect(),
        }
    }

    pub fn parts(&self) -> u32 {
        self.bytes.len().div_ceil(BLOB_PART) as u32
    }

    pub fn part(&self, index: u32) -> &[u8] {
        let from = index as usize * BLOB_PART;
        &self.bytes[from..self.bytes.len().min(from + BLOB_PART)]
    }

    pub fn put(&self, index: u32) -> Call<'_> {
        self.put_bytes(index, self.part(index))
    }

    fn put_bytes<'b>(&self, index: u32, bytes: &'b [u8]) -> Call<'b> {
        Call::PutPart {
            blob: Bytes(self.id),
            index,
            bytes,
        }
    }

    pub fn look(&self, reader: usize) -> Call<'static> {
        Call::GetBlob {
            blob: Bytes(self.id),
            reader: Bytes(self.tokens[reader]),
        }
    }

    pub fn get(&self, reader: usize, index: u32) -> Call<'static> {
        Call::GetPart {
            blob: Bytes(self.id),
            reader: Bytes(self.tokens[reader]),
            index,
        }
    }

    pub fn end(&self, reader: usize) -> Call<'static> {
        Call::EndBlob {
            blob: Bytes(self.id),
            reader: Bytes(self.tokens[reader]),
        }
    }

    pub fn delete(&self) -> Call<'static> {
        Call::DeleteBlob {
            blob: Bytes(self.id),
        }
    }
}

/// Announces a file and puts what is missing of it, up to `until` parts, with many on their way.
pub async fn put(client: &mut Client, file: &File, until: u32) {
    let Got::Blob(_, _, from, _) = client.call(file.announce()).await else {
        panic!("not announced");
    };
    put_from(client, file, from, until).await;
}

pub async fn put_from(client: &mut Client, file: &File, from: u32, until: u32) {
    let (mut asked, mut stored) = (from, from);
    while stored < until {
        while asked < until && asked < stored + 32 {
            client.ask(file.put(asked)).await;
            asked += 1;
        }
        let got = client.next().await;
        assert!(got.is_stored(), "{got:?}");
        stored += 1;
    }
}

/// Reads a file from a part on, with many requests on their way; answers come in order.
pub async fn get_from(client: &mut Client, file: &File, reader: usize, from: u32) -> Vec<u8> {
    let (mut asked, mut bytes) = (from, Vec::new());
    for index in from..file.parts() {
        while asked < file.parts() && asked < index + 16 {
            client.ask(file.get(reader, asked)).await;
            asked += 1;
        }
        bytes.extend(part(client.next().await));
    }
    bytes
}

#[track_caller]
pub fn part(got: Got) -> Vec<u8> {
    match got {
        Got::Part(_, bytes) => bytes,
        got => panic!("no part: {got:?}"),
    }
}

/// Size, parts, seconds left.
#[track_caller]
pub fn blob(got: Got) -> (u64, u32, u32) {
    match got {
        Got::Blob(_, size, parts, left) => (size, parts, left),
        got => panic!("no blob: {got:?}"),
    }
}

pub async fn done(client: &mut Client, call: Call<'_>) {
    let got = client.call(call).await;
    assert!(matches!(got, Got::Done(_)), "{got:?}");
}

pub async fn refused(client: &mut Client, call: Call<'_>) -> Option<Reason> {
    client.call(call).await.reason()
}

pub async fn people(relay: &TestRelay) -> (Client, Client, Client) {
    let place = &relay.place;
    (
        Client::register(place, &Person::new("alice")).await,
        Client::register(place, &Person::new("bob")).await,
        Client::guest(place, &Person::new("carol"), "carol@else.example:1").await,
    )
}

pub const UNKNOWN: Option<Reason> = Some(Reason::UnknownBlob);
const BAD: Option<Reason> = Some(Reason::BadRequest);

also_on_nats!(
    a_file_reaches_two_readers_one_a_guest_and_goes_with_the_last,
    an_upload_goes_on_after_a_kill_and_a_download_on_another_connection,
    parts_come_in_order_whole_and_repeats_change_nothing,
    only_a_token_opens_a_file_and_only_its_owner_changes_it,
    announcements_that_are_no_good_are_refused,
    a_deleted_account_leaves_no_file,
    the_operator_sees_how_many_and_how_large,
);

#[tokio::test]
async fn a_file_reaches_two_readers_one_a_guest_and_goes_with_the_last() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, mut guest) = people(&relay).await;
    let file = File::new(1, 3 * BLOB_PART + 5, 2);
    let size = file.bytes.len() as u64;
    let (announced, parts, left) = blob(alice.call(file.announce()).await);
    assert_eq!((announced, parts), (size, 0));
    assert!(left.abs_diff(30 * 86_400) <= 5, "{left} seconds");
    assert_eq!(blob(bob.call(file.look(0)).await).1, 0);
    assert_eq!(refused(&mut bob, file.get(0, 0)).await, UNKNOWN);

    put(&mut alice, &file, 2).await;
    // What is there can be read before the rest is.
    assert_eq!(part(bob.call(file.get(0, 1)).await), file.part(1));
    assert_eq!(refused(&mut bob, file.get(0, 2)).await, UNKNOWN);
    put_from(&mut alice, &file, 2, 4).await;
    assert_eq!(blob(alice.call(file.announce()).await).1, 4);
    let (got, parts, left) = blob(guest.call(file.look(1)).await);
    assert_eq!((got, parts), (size, 4));
    assert!(left.abs_diff(30 * 86_400) <= 60, "{left} seconds");
    for (reader, client) in [&mut bob, &mut guest].into_iter().enumerate() {
        assert!(get_from(client, &file, reader, 0).await == file.bytes);
    }
    assert_eq!(refused(&mut bob, file.get(0, 4)).await, UNKNOWN);

    for _ in 0..2 {
        done(&mut bob, file.end(0)).await;
        assert_eq!(refused(&mut bob, file.look(0)).await, UNKNOWN);
        assert_eq!(refused(&mut bob, file.get(0, 0)).await, UNKNOWN);
    }
    // The announcement is still the same one.
    assert_eq!(blob(alice.call(file.announce()).await).1, 4);
    assert!(get_from(&mut guest, &file, 1, 0).await == file.bytes);
    for _ in 0..2 {
        done(&mut guest, file.end(1)).await;
        assert_eq!(refused(&mut guest, file.look(1)).await, UNKNOWN);
    }
    assert_eq!(refused(&mut alice, file.put(3)).await, UNKNOWN);
    // The id is free again, and nothing of before is left.
    put(&mut alice, &file, 1).await;
    assert_eq!(blob(bob.call(file.look(0)).await).1, 1);
}

#[tokio::test]
async fn an_upload_goes_on_after_a_kill_and_a_download_on_another_connection() {
    let folder = init();
    if on_nats() {
        let name = servers(folder.path(), Vec::new()).name;
        let url = nats_url();
        let section = format!("store = \"nats\"\n[nats]\nservers = [\"{url}\"]\nname = \"{name}\"");
        configure(folder.path(), &section, "");
    }
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let file = File::new(7, 600 * BLOB_PART + 100, 1);
    let mut acknowledged = 0;
    for kill_after in [1, 150, 400] {
        let mut process = Process::start(folder.path());
        let mut from = Client::register(&process.place, &alice).await;
        let (_, there, _) = blob(from.call(file.announce()).await);
        assert!(there >= acknowledged, "{there} of {acknowledged} parts");
        // More than a full pipeline, and less than the next time begins with.
        let until = kill_after + 2 * hostchat_relay::limits::IN_FLIGHT as u32;
        assert!(there < kill_after && until < file.parts());
        let mut ids = BTreeMap::new();
        for index in there..until {
            ids.insert(from.ask(file.put(index)).await, index);
        }
        while acknowledged < kill_after {
            let Got::Stored(id) = from.next().await else {
                panic!("not stored");
            };
            acknowledged = acknowledged.max(ids[&id] + 1);
        }
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }
    let process = Process::start(folder.path());
    let mut from = Client::register(&process.place, &alice).await;
    let mut to = Client::register(&process.place, &bob).await;
    let (_, there, _) = blob(from.call(file.announce()).await);
    assert!(there >= acknowledged, "{there} of {acknowledged} parts");
    // What was acknowledged is whole before the rest comes.
    for index in 0..there {
        assert_eq!(part(to.call(file.get(0, index)).await), file.part(index));
    }
    put(&mut from, &file, file.parts()).await;
    let mut bytes = Vec::new();
    for index in 0..25 {
        bytes.extend(part(to.call(file.get(0, index)).await));
    }
    drop(to);
    let mut to = Client::login(&process.place, &bob).await;
    bytes.extend(get_from(&mut to, &file, 0, 25).await);
    assert!(bytes == file.bytes, "equal");
}

#[tokio::test]
async fn parts_come_in_order_whole_and_repeats_change_nothing() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let file = File::new(1, 2 * BLOB_PART + 7, 1);
    assert_eq!(refused(&mut alice, file.put(0)).await, UNKNOWN);
    blob(alice.call(file.announce()).await);
    let whole = vec![0xee; BLOB_PART + 1];
    for (index, length) in [
        (1, BLOB_PART),
        (2, 7),
        (3, 0),
        (u32::MAX, BLOB_PART),
        (0, 0),
        (0, BLOB_PART - 1),
        (0, BLOB_PART + 1),
    ] {
        let call = file.put_bytes(index, &whole[..length]);
        assert_eq!(refused(&mut alice, call).await, BAD, "{index}, {length}");
    }
    put(&mut alice, &file, 2).await;
    for length in [6, 8, BLOB_PART] {
        let call = file.put_bytes(2, &whole[..length]);
        assert_eq!(refused(&mut alice, call).await, BAD, "{length}");
    }
    // Other bytes in a repeat are not looked at.
    let repeat = alice.call(file.put_bytes(0, &whole[..BLOB_PART])).await;
    assert!(repeat.is_stored(), "{repeat:?}");
    let call = file.put_bytes(0, &whole[..7]);
    assert_eq!(refused(&mut alice, call).await, BAD);
    for _ in 0..2 {
        assert!(alice.call(file.put(2)).await.is_stored());
    }
    assert_eq!(refused(&mut alice, file.put_bytes(3, &[])).await, BAD);
    assert_eq!(
        refused(&mut alice, file.put_bytes(3, &whole[..7])).await,
        BAD
    );
    assert!(get_from(&mut bob, &file, 0, 0).await == file.bytes);

    // What fits a whole number of parts has no empty one at its end.
    let even = File::new(2, 2 * BLOB_PART, 1);
    put(&mut alice, &even, 2).await;
    assert_eq!(refused(&mut alice, even.put_bytes(2, &[])).await, BAD);
    assert!(get_from(&mut bob, &even, 0, 0).await == even.bytes);
}

#[tokio::test]
async fn only_a_token_opens_a_file_and_only_its_owner_changes_it() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, mut guest) = people(&relay).await;
    let file = File::new(1, BLOB_PART, 1);
    let other = File::new(2, BLOB_PART, 1);
    put(&mut alice, &file, 1).await;
    put(&mut alice, &other, 1).await;
    for client in [&mut alice, &mut bob, &mut guest] {
        for token in [
            other.tokens[0],
            [0; 16],
            sha256(&[&file.tokens[0]])[..16].try_into().unwrap(),
        ] {
            let (blob, reader) = (Bytes(file.id), Bytes(token));
            assert_eq!(
                refused(client, Call::GetBlob { blob, reader }).await,
                UNKNOWN
            );
            let call = Call::GetPart {
                blob,
                reader,
                index: 0,
            };
            assert_eq!(refused(client, call).await, UNKNOWN);
            done(client, Call::EndBlob { blob, reader }).await;
        }
    }
    // A guest leaves nothing here.
    let no_guests = Some(Reason::GuestsRefused);
    assert_eq!(refused(&mut guest, file.announce()).await, no_guests);
    assert_eq!(refused(&mut guest, file.put(0)).await, no_guests);
    assert_eq!(refused(&mut guest, file.delete()).await, no_guests);
    // The same id of another account is another file.
    assert_eq!(refused(&mut bob, file.put(0)).await, UNKNOWN);
    done(&mut bob, file.delete()).await;
    let bobs = File {
        bytes: vec![0xbb; 9],
        tokens: vec![[0xbb; 16]],
        ..File::new(1, 0, 0)
    };
    put(&mut bob, &bobs, 1).await;
    assert_eq!(part(guest.call(file.get(0, 0)).await), file.bytes);
    assert_eq!(part(guest.call(bobs.get(0, 0)).await), bobs.bytes);
    for _ in 0..2 {
        done(&mut bob, bobs.delete()).await;
        assert_eq!(refused(&mut guest, bobs.look(0)).await, UNKNOWN);
    }
    assert_eq!(part(guest.call(file.get(0, 0)).await), file.bytes);
}

#[tokio::test]
async fn announcements_that_are_no_good_are_refused() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let announce = |size, readers: &[u8]| Call::PutBlob {
        blob: Bytes([5; 16]),
        size,
        readers: readers.iter().map(|n| Bytes([*n; 32])).collect(),
    };
    let too_large = Some(Reason::TooLarge);
    for (size, readers, reason) in [
        (0, &[1][..], BAD),
        (1, &[], BAD),
        (1, &[1, 2, 1], BAD),
        (256 * MIB as u64 + 1, &[1], too_large),
        (u64::from(u32::MAX) * BLOB_PART as u64 + 1, &[1], too_large),
        (u64::MAX, &[1], too_large),
    ] {
        let got = refused(&mut alice, announce(size, readers)).await;
        assert_eq!(got, reason, "{size} {readers:?}");
    }
    let first = announce(20_000, &[1, 2]);
    assert_eq!(blob(alice.call(first).await).1, 0);
    for (size, readers) in [(20_001, &[1, 2][..]), (20_000, &[1]), (20_000, &[1, 2, 3])] {
        let got = refused(&mut alice, announce(size, readers)).await;
        assert_eq!(got, BAD, "{size} {readers:?}");
    }
    // In whatever order they stand.
    assert_eq!(blob(alice.call(announce(20_000, &[2, 1])).await).0, 20_000);
    let many: Vec<u8> = (0..BLOB_READERS as u8).collect();
    assert_eq!(refused(&mut bob, announce(1, &many)).await, None);
}

#[tokio::test]
async fn a_deleted_account_leaves_no_file() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    let file = File::new(1, 3 * BLOB_PART, 1);
    let bobs = File::new(2, 10, 1);
    put(&mut alice, &file, 2).await;
    put(&mut bob, &bobs, 1).await;
    done(&mut alice, Call::DeleteAccount).await;
    assert_eq!(refused(&mut bob, file.look(0)).await, UNKNOWN);
    assert_eq!(refused(&mut bob, file.get(0, 0)).await, UNKNOWN);
    assert_eq!(part(bob.call(bobs.get(0, 0)).await), bobs.bytes);
    let mut new = Client::register(&relay.place, &Person::new("alice")).await;
    assert_eq!(refused(&mut new, file.put(2)).await, UNKNOWN);
    assert_eq!(blob(new.call(file.announce()).await).1, 0);
    if !on_nats() {
        swept(&relay).await;
        assert_eq!(count(&relay.folder.path().join("relay.db"), "blob_part"), 1);
    }
}

#[tokio::test]
async fn the_operator_sees_how_many_and_how_large() {
    let relay = TestRelay::start(|_| {}).await;
    let (mut alice, mut bob, _) = people(&relay).await;
    put(&mut alice, &File::new(1, 1000, 1), 1).await;
    put(&mut alice, &File::new(2, 100_000, 1), 3).await;
    put(&mut bob, &File::new(3, 24, 1), 0).await;
    let value = async |arguments: &[&str]| {
        let output = admin(relay.folder.path(), arguments).await;
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let status = value(&["status", "--json"]).await;
    assert_eq!(status["files"], json!(3));
    assert_eq!(status["file_bytes"], json!(101_024));
    let users = value(&["users", "--json"]).await;
    for (at, files, bytes) in [(0, 2, 101_000), (1, 1, 24)] {
        assert_eq!(users[at]["files"], json!(files));
        assert_eq!(users[at]["file_bytes"], json!(bytes));
    }
    done(&mut alice, File::new(2, 100_000, 1).delete()).await;
    assert_eq!(
        value(&["user", "alice", "--json"]).await["file_bytes"],
        json!(1000)
    );
    let table = admin(relay.folder.path(), &["users"]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    let head = table.lines().next().unwrap();
    assert!(head.ends_with("KEYS  FILES"), "{table}");
}
