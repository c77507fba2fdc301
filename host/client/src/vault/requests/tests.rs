//! Who has to make room, what expires, and rows of before.

use tempfile::TempDir;

use super::*;
use crate::model::{Asked, Request};
use crate::token::StorageKey;

const MINUTE: u64 = 60 * 1000;
const DAY: u64 = 24 * 60 * MINUTE;

fn open(dir: &TempDir) -> Vault {
    let key = StorageKey::from_bytes([1; 32]);
    Vault::open(&dir.path().join("vault.db"), &key, crate::os::Os::default()).unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn identity(byte: u8) -> IdentityClaim {
    IdentityClaim {
        sign: Bytes([byte; 32]),
        dh: Bytes([byte; 32]),
        signature: Bytes([byte; 64]),
    }
}

fn code(n: u16) -> Asked {
    let [a, b] = n.to_be_bytes();
    let mut sid = [7; 16];
    sid[..2].copy_from_slice(&[a, b]);
    Asked::Code { sid: Bytes(sid) }
}

/// Adds a request that our relay says is of its claimed sender.
fn ask(vault: &mut Vault, from: &str, who: u8, asked: Asked, checked: bool, n: u16) -> Added {
    let from = address(from);
    let asking = Asking {
        from: &from,
        identity: &identity(who),
        asked,
        sender: &from,
        checked,
        stored_at: 1_000_000,
        envelope: &[b"envelope".as_slice(), &n.to_be_bytes()].concat(),
    };
    vault.add_request(&asking).unwrap()
}

const NEW: Added = Added::New {
    news: true,
    removed: 0,
};
const MORE: Added = Added::New {
    news: false,
    removed: 0,
};

fn names(vault: &mut Vault) -> Vec<String> {
    let requests = vault.requests().unwrap();
    requests.iter().map(|r| r.from.to_string()).collect()
}

#[test]
fn a_later_offer_takes_the_place_of_one_with_the_same_address_and_identity_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    assert_eq!(ask(&mut vault, "carol@h:1", 1, code(1), true, 1), NEW);
    assert_eq!(ask(&mut vault, "carol@h:1", 2, code(2), false, 2), NEW);
    for n in 3..50 {
        assert_eq!(ask(&mut vault, "carol@h:1", 2, code(n), false, n), MORE);
    }
    let kept: Vec<_> = vault.requests().unwrap();
    let kept: Vec<_> = kept.iter().map(|r| (r.identity, r.asked)).collect();
    assert_eq!(kept, [(identity(1), code(1)), (identity(2), code(49))]);
    assert_eq!(
        ask(&mut vault, "carol@h:1", 1, code(1), true, 1),
        Added::Known
    );
}

#[test]
fn offers_that_nobody_checked_make_room_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    ask(&mut vault, "carol@h:1", 1, code(1), true, 1);
    ask(&mut vault, "dave@far:1", 2, code(2), false, 2);
    for n in 0..300u16 {
        let from = format!("s{n}@fake:1");
        ask(&mut vault, &from, 3, code(n + 10), false, n + 10);
    }
    let names = names(&mut vault);
    assert_eq!(names.len(), MAX_OFFERS);
    assert_eq!(names[0], "carol@h:1");
    assert!(!names.contains(&"dave@far:1".to_owned()));
    assert_eq!(names.last().unwrap(), "s299@fake:1");
}

#[test]
fn a_full_table_takes_a_stranger_and_the_oldest_of_whoever_has_most_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let mut removed = 0;
    let mut add = |vault: &mut Vault, from: &str, checked: bool, n: u16| {
        if let Added::New { removed: more, .. } = ask(vault, from, 1, Asked::First, checked, n) {
            removed += more;
        }
    };
    for n in 0..3u16 {
        add(&mut vault, "early@h:1", true, n);
    }
    add(&mut vault, "guest@far:1", false, 3);
    let most = u16::try_from(MAX_FIRST).unwrap();
    for n in 4..most + 4 {
        add(&mut vault, "mallory@h:1", true, n);
    }
    add(&mut vault, "late@h:1", true, most + 4);
    assert_eq!(removed, 5, "counted, for the user");
    let names = names(&mut vault);
    assert_eq!(names.len(), MAX_FIRST);
    let of = |name: &str| names.iter().filter(|n| *n == name).count();
    assert_eq!(
        (of("early@h:1"), of("guest@far:1"), of("late@h:1")),
        (3, 1, 1)
    );
}

#[test]
fn names_that_cost_nothing_count_together() {
    let mut requests: Vec<Request> = (0..20)
        .map(|n| sample(n, &format!("s{n}@fake:1"), false))
        .collect();
    requests.insert(3, sample(100, "honest@h:1", true));
    requests.insert(0, sample(101, "honest@h:1", true));
    assert_eq!(who_goes(&requests), 1, "the oldest that nobody checked");
    requests.push(sample(102, "s7@fake:1", false));
    let gone = requests.get(who_goes(&requests)).unwrap();
    assert_eq!(gone.id, 7, "among them, of the name with most");
    let honest: Vec<Request> = (0..30).map(|n| sample(n, "many@h:1", true)).collect();
    requests.extend(honest);
    let gone = requests.get(who_goes(&requests)).unwrap();
    assert_eq!(gone.from, address("many@h:1"));
}

fn sample(id: i64, from: &str, checked: bool) -> Request {
    Request {
        id,
        from: address(from),
        identity: identity(1),
        asked: Asked::First,
        received_at: 0,
        sender: address(from),
        checked,
        stored_at: 0,
    }
}

/// Sets the times of all requests back.
fn age(vault: &mut Vault, ours: u64, relays: u64) {
    vault
        .write(|tx| {
            for Kept { request, digest } in all(tx)? {
                let request = Request {
                    received_at: request.received_at - ours,
                    stored_at: request.stored_at - relays,
                    ..request
                };
                tx.put(request.id, BODY, &row(&request, &digest))?;
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn offers_expire_by_the_relays_time_or_by_ours() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    ask(&mut vault, "carol@h:1", 1, code(1), true, 1);
    vault.set_relay_clock(1_000_000 + 9 * MINUTE);
    vault.expire_requests().unwrap();
    assert_eq!(names(&mut vault).len(), 1);
    // A relay's clock that jumps by days says nothing about ten minutes.
    vault.set_relay_clock(1_000_000 + 2 * DAY);
    vault.expire_requests().unwrap();
    assert_eq!(names(&mut vault).len(), 1);
    vault.set_relay_clock(1_000_000 + 10 * MINUTE);
    vault.expire_requests().unwrap();
    assert_eq!(names(&mut vault).len(), 0);
    ask(&mut vault, "carol@h:1", 1, code(2), true, 2);
    age(&mut vault, 10 * MINUTE, 0);
    assert_eq!(names(&mut vault).len(), 0);
}

#[test]
fn first_messages_expire_when_both_clocks_say_thirty_days() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    ask(&mut vault, "carol@h:1", 1, Asked::First, true, 1);
    let relay_now = 1_000_000 + 30 * DAY;
    assert_eq!(vault.expire_requests().unwrap(), 0, "neither");
    age(&mut vault, 30 * DAY, 0);
    assert_eq!(vault.expire_requests().unwrap(), 0, "only ours");
    vault.set_relay_clock(relay_now - DAY);
    assert_eq!(vault.expire_requests().unwrap(), 0);
    vault.set_relay_clock(relay_now);
    assert_eq!(vault.expire_requests().unwrap(), 1);
    assert!(names(&mut vault).is_empty());
}

#[test]
fn what_the_relay_of_an_address_says_keeps_the_right_requests_and_deletes_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    ask(&mut vault, "carol@far:1", 1, code(1), false, 1);
    ask(&mut vault, "carol@far:1", 2, code(2), false, 2);
    ask(&mut vault, "carol@far:1", 2, Asked::First, false, 3);
    ask(&mut vault, "dave@far:1", 2, code(3), false, 4);
    let carol = address("carol@far:1");
    assert_eq!(vault.bind_requests(&carol, Some(&identity(1))).unwrap(), 2);
    let left = vault.requests().unwrap();
    let left: Vec<_> = left.iter().map(|r| (r.asked, r.checked)).collect();
    assert_eq!(left, [(code(1), true), (code(3), false)]);
    assert_eq!(vault.bind_requests(&carol, None).unwrap(), 1);
    assert_eq!(names(&mut vault), ["dave@far:1"]);
}

#[test]
fn only_its_sender_ends_a_run_and_invented_runs_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    ask(&mut vault, "carol@h:1", 1, code(1), true, 1);
    let (Asked::Code { sid }, Asked::Code { sid: invented }) = (code(1), code(2)) else {
        unreachable!()
    };
    let mallory = address("mallory@h:1");
    assert_eq!(vault.end_run(&sid, &mallory, |_| true).unwrap(), None);
    assert_eq!(vault.end_run(&invented, &mallory, |_| true).unwrap(), None);
    let seen = |vault: &mut Vault| -> i64 {
        let count = "SELECT count(*) FROM arrived";
        vault
            .read(|tx| Ok(tx.transaction.query_row(count, [], |row| row.get(0))?))
            .unwrap()
    };
    assert_eq!((names(&mut vault).len(), seen(&mut vault)), (1, 0));
    let carol = address("carol@h:1");
    // Somebody else, who writes under carol's address, ends nothing.
    assert_eq!(vault.end_run(&sid, &carol, |_| false).unwrap(), None);
    assert_eq!((names(&mut vault).len(), seen(&mut vault)), (1, 0));
    let ended = vault.end_run(&sid, &carol, |is| *is == identity(1));
    assert_eq!(ended.unwrap(), Some(carol));
    assert_eq!((names(&mut vault).len(), seen(&mut vault)), (0, 1));
    let again = ask(&mut vault, "carol@h:1", 1, code(1), true, 9);
    assert_eq!(again, Added::Known);
}

#[test]
fn rows_of_before_still_open_and_count_as_not_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let now = crate::os::now_ms();
    vault
        .write(|tx| {
            let row = Row {
                from: address("alice@h:1"),
                identity: identity(1),
                asked: Asked::First,
                received_at: now,
            };
            let insert = "INSERT INTO requests (body, envelope) VALUES (zeroblob(0), zeroblob(0))";
            let id = tx.insert(insert, [], BODY, &row)?;
            tx.put_bytes(id, ENVELOPE, b"envelope\x00\x01")
        })
        .unwrap();
    let old = vault.requests().unwrap().remove(0);
    assert_eq!(
        (old.from.as_str(), old.sender.as_str(), old.checked),
        ("alice@h:1", "alice@h:1", false)
    );
    let envelope = vault.request_envelope(old.id).unwrap();
    assert_eq!(envelope.as_deref(), Some(b"envelope\x00\x01".as_slice()));
    let again = ask(&mut vault, "alice@h:1", 1, Asked::First, true, 1);
    assert_eq!(again, Added::Known);
    vault.bind_requests(&old.from, Some(&identity(1))).unwrap();
    assert!(vault.requests().unwrap().remove(0).checked);
    let envelope = vault.request_envelope(old.id).unwrap();
    assert_eq!(envelope.as_deref(), Some(b"envelope\x00\x01".as_slice()));
}
