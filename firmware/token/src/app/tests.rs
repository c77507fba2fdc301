//! What a thief finds on the flash: nothing from the past, even with the PIN.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use hostchat_core::icd::{Command, Reply, SessionInfo};
use hostchat_core::wire::{Address, Bytes, PrekeyBundle, PrekeyKind};

use crate::app::App;
use crate::env::Env as _;
use crate::records::{MAX_RECORDS, RecordId};
use crate::store::{Growth, MAX_STORED};
use crate::testing::{Bench, TestEnv, TestPin, now};

const PIN: TestPin = TestPin {
    prs: [1; 32],
    wrap: [2; 32],
};

fn address(name: &str) -> Address {
    Address::parse(&alloc::format!("{name}@relay.example:1")).unwrap()
}

fn prekey(bench: &mut Bench, kind: PrekeyKind) -> hostchat_core::wire::Prekey {
    match bench.call(&Command::NewPrekey { kind, now: 1000 }).unwrap() {
        Reply::Prekey(prekey) => prekey,
        other => panic!("{other:?}"),
    }
}

/// Two tokens with a session between them.
fn two() -> [(Bench, Address); 2] {
    let (mut a, mut b) = (Bench::blank(1), Bench::blank(2));
    a.init(PIN).unwrap();
    b.init(PIN).unwrap();
    let Ok(Reply::Identity(identity)) = b.call(&Command::Identity) else {
        panic!("no identity")
    };
    let bundle = PrekeyBundle {
        identity,
        last_resort: prekey(&mut b, PrekeyKind::LastResort),
        one_time: Some(prekey(&mut b, PrekeyKind::OneTime)),
    };
    let (own, peer) = (address("a"), address("b"));
    let start = Command::Start {
        own: own.clone(),
        peer: peer.clone(),
        bundle,
        now: 1000,
        accept_changed: false,
    };
    assert!(matches!(a.call(&start), Ok(Reply::Established { .. })));
    [(a, own), (b, peer)]
}

fn send(from: &mut Bench, to: &mut (Bench, Address), content: &[u8]) {
    let envelope = match from
        .call(&Command::Seal {
            peer: to.1.clone(),
            content,
        })
        .unwrap()
    {
        Reply::Sealed { envelope, .. } => envelope.to_vec(),
        other => panic!("{other:?}"),
    };
    let open = Command::Open {
        own: to.1.clone(),
        envelope: &envelope,
        accept_changed: false,
    };
    let hash = match to.0.call(&open).unwrap() {
        Reply::Opened(opened) => opened.hash,
        other => panic!("{other:?}"),
    };
    to.0.done(&Command::Commit { hash }).unwrap();
}

/// Everything secret that is on the flash now: slot keys, and the plaintext of every sealed record.
fn secrets(bench: &mut Bench) -> (Vec<[u8; 32]>, Vec<Vec<u8>>) {
    let app = bench.app().unwrap();
    let master = &app.keyring.as_ref().unwrap().master;
    let (mut keys, mut plain) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; MAX_STORED];
    for id in RecordId::all()
        .filter(|id| app.store.has(*id))
        .collect::<Vec<_>>()
    {
        if id == RecordId::TRIES {
            continue;
        }
        keys.push(*now(app.store.slot_key(id)).unwrap().expose_bytes());
        if id != RecordId::PIN {
            let length = now(app.store.read_sealed(master, id, &mut buffer))
                .unwrap()
                .unwrap();
            plain.push(buffer[16..16 + length].to_vec());
        }
    }
    (keys, plain)
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.windows(16)
}

/// The keys in all slots that are neither blank nor zeroed, read as a thief would.
fn keys_in_slots(dump: &[u8]) -> Vec<[u8; 32]> {
    let mut keys = Vec::new();
    for page in dump.chunks(4096).take(3) {
        for slot in page[16..].chunks_exact(40) {
            if slot.iter().any(|byte| *byte != 0) && slot.iter().any(|byte| *byte != 0xFF) {
                keys.push(*slot[6..].first_chunk().unwrap());
            }
        }
    }
    keys
}

#[cfg_attr(test, test)]
pub fn after_a_hundred_messages_the_flash_holds_no_key_of_the_past() {
    let [mut a, mut b] = two();
    let (mut past_keys, mut past_plain) = (BTreeSet::new(), BTreeSet::<Vec<u8>>::new());
    for round in 0..100_u8 {
        // Both directions, and runs of one direction, so that root, chain and message keys all turn over.
        if round % 3 == 0 || round == 1 {
            send(&mut a.0, &mut b, &[round; 30]);
        } else {
            send(&mut b.0, &mut a, &[round; 30]);
        }
        for bench in [&mut a.0, &mut b.0] {
            let (keys, plain) = secrets(bench);
            past_keys.extend(keys);
            past_plain.extend(
                plain
                    .iter()
                    .flat_map(|plain| windows(plain))
                    .map(<[u8]>::to_vec),
            );
        }
    }
    assert!(past_keys.len() > 200, "{}", past_keys.len());
    for bench in [&mut a.0, &mut b.0] {
        let (live, plain) = secrets(bench);
        let dump = bench.flash.snapshot().dump().to_vec();
        let on_flash: BTreeSet<&[u8]> = windows(&dump).collect();
        let old = past_keys.iter().filter(|key| !live.contains(key));
        let hits = old.filter(|key| on_flash.contains(&key[..16])).count();
        assert_eq!(hits, 0, "slot keys of the past");
        // The plaintext of records is nowhere, neither of the past nor of now.
        assert_eq!(
            past_plain
                .iter()
                .filter(|secret| on_flash.contains(&secret[..]) && !constant(secret))
                .count(),
            0
        );
        assert!(
            plain
                .iter()
                .flat_map(|plain| windows(plain))
                .all(|now| constant(now) || !on_flash.contains(now))
        );
        // So a thief who has the PIN as well can open what there is now, and nothing else.
        let (mut found, mut expected) = (keys_in_slots(&dump), live);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

/// Bytes that say nothing.
fn constant(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == bytes[0])
}

#[cfg_attr(test, test)]
pub fn a_deleted_contact_and_a_used_prekey_leave_no_key() {
    let [mut a, mut b] = two();
    let (before, _) = secrets(&mut b.0);
    send(&mut a.0, &mut b, b"uses the one-time prekey");
    let (with, _) = secrets(&mut b.0);
    b.0.done(&Command::Forget { peer: a.1.clone() }).unwrap();
    let (after, _) = secrets(&mut b.0);
    let dump = b.0.flash.snapshot().dump().to_vec();
    let mut gone = 0;
    for key in before
        .iter()
        .chain(&with)
        .filter(|key| !after.contains(key))
    {
        assert!(!dump.windows(16).any(|window| window == &key[..16]));
        gone += 1;
    }
    assert!(gone >= 2, "{gone}");
}

#[cfg_attr(test, test)]
pub fn a_lock_leaves_no_secret_in_ram() {
    let [mut a, mut b] = two();
    send(&mut a.0, &mut b, b"something");
    send(&mut b.0, &mut a, b"something else");
    let Ok(Reply::StorageKey(Bytes(storage))) = a.0.call(&Command::StorageKey) else {
        panic!("no key")
    };
    assert_ne!(storage, [0; 32]);
    let app = a.0.app().unwrap();
    assert!(app.keyring.is_some());
    app.lock();
    assert!(
        app.keyring.is_none()
            && app.channel.is_none()
            && app.run.is_none()
            && app.memory.replies.request.is_none()
    );
    let room = &app.memory.room;
    assert!(room.current.is_empty() && room.next.is_empty());
    assert!(room.record.iter().all(|byte| *byte == 0));
    assert!(room.cards.len() == 0 && app.memory.replies.last.is_empty());
}

/// Where things lie in a session record of format 2: birth and crossing behind version and flags, then the origin.
const BIRTH: usize = 2;
const CROSSES: usize = 6;
const ORIGIN: usize = 10;

fn put(app: &mut App<TestEnv>, id: RecordId, buffer: &mut [u8], length: usize) {
    let (rng, master) = (
        app.env.rng().unwrap(),
        &app.keyring.as_ref().unwrap().master,
    );
    now(app
        .store
        .put_sealed(rng, master, id, Growth::Update, buffer, length))
    .unwrap();
}

/// Turns the session records of a token into format 1, with these numbers in place of their births.
fn to_format_1(bench: &mut Bench, used: impl Fn(u32) -> u32) {
    let app = bench.app().unwrap();
    for id in RecordId::sessions() {
        let mut buffer = vec![0; MAX_STORED];
        let master = &app.keyring.as_ref().unwrap().master;
        let read = now(app.store.read_sealed(master, id, &mut buffer)).unwrap();
        let Some(length) = read else { continue };
        let record = &mut buffer[16..16 + length];
        let birth = u32::from_le_bytes(*record[BIRTH..].first_chunk().unwrap());
        let (flags, number) = ([record[1] & 3], used(birth).to_le_bytes());
        if record[0] == 1 {
            // Not written since the last time.
            record[BIRTH..CROSSES].copy_from_slice(&number);
            put(app, id, &mut buffer, length);
            continue;
        }
        let origin = [1, 17, 17, 5, 21][usize::from(record[ORIGIN])];
        let address = ORIGIN + origin + 16;
        let address_len = usize::from(record[address]);
        let ratchet = address + 2 + address_len + 128;
        assert_eq!((record[0], record[ratchet]), (2, 2));
        // No key of a skipped message is there, so that a ratchet without ages is one byte different.
        let old = [
            &[1][..],
            &flags,
            &number,
            &record[ORIGIN..ratchet],
            &[1],
            &record[ratchet + 1..],
        ];
        let old = old.concat();
        assert_eq!(old.len(), length - (ORIGIN - CROSSES));
        buffer[16..16 + old.len()].copy_from_slice(&old);
        put(app, id, &mut buffer, old.len());
    }
    // There was no generation record.
    now(app.store.delete(RecordId::GENERATION)).unwrap();
    assert!(bench.power_cycle());
    bench.unlock(PIN).unwrap();
}

/// Own, answered, superseded, current.
fn sessions(bench: &mut Bench, peer: &Address) -> Vec<[bool; 4]> {
    let Ok(Reply::Sessions(sessions)) = bench.call(&Command::Sessions { peer: peer.clone() })
    else {
        panic!("no sessions")
    };
    let shape = |s: &SessionInfo| [s.own, s.answered, s.superseded, s.current];
    sessions.iter().map(shape).collect()
}

#[cfg_attr(test, test)]
pub fn sessions_of_format_1_are_what_they_were_and_are_written_in_format_2() {
    let [mut a, mut b] = two();
    to_format_1(&mut a.0, |birth| birth);
    assert_eq!(sessions(&mut a.0, &b.1), [[true, false, false, true]]);
    send(&mut a.0, &mut b, b"first");
    to_format_1(&mut b.0, |birth| birth + 6);
    assert_eq!(sessions(&mut b.0, &a.1), [[false, true, false, true]]);
    send(&mut b.0, &mut a, b"answer");
    to_format_1(&mut a.0, |birth| birth + 40);
    assert_eq!(
        sessions(&mut a.0, &b.1),
        [[true, true, false, true]],
        "whether it was answered follows from its ratchet"
    );
    // A new one is younger, whatever the number was; the highest number was the current session.
    let Ok(Reply::Identity(identity)) = b.0.call(&Command::Identity) else {
        panic!("no identity")
    };
    let start = Command::Start {
        own: a.1.clone(),
        peer: b.1.clone(),
        bundle: PrekeyBundle {
            identity,
            last_resort: prekey(&mut b.0, PrekeyKind::LastResort),
            one_time: None,
        },
        now: 1000,
        accept_changed: false,
    };
    assert!(matches!(a.0.call(&start), Ok(Reply::Established { .. })));
    let both = [[true, true, true, false], [true, false, false, true]];
    assert_eq!(sessions(&mut a.0, &b.1), both);
    to_format_1(&mut a.0, |birth| birth);
    assert_eq!(sessions(&mut a.0, &b.1), both);
    to_format_1(&mut a.0, |birth| 100 - birth);
    assert_eq!(
        sessions(&mut a.0, &b.1),
        [[true, false, true, false], [true, true, false, true]]
    );
    // The next write is in format 2, which keeps the number.
    send(&mut a.0, &mut b, b"on the older one");
    let app = a.0.app().unwrap();
    let master = &app.keyring.as_ref().unwrap().master;
    let mut versions: Vec<_> = RecordId::sessions()
        .filter_map(|id| {
            let mut buffer = vec![0; MAX_STORED];
            now(app.store.read_sealed(master, id, &mut buffer))
                .unwrap()
                .map(|_| buffer[16])
        })
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 2]);
    assert!(a.0.power_cycle());
    a.0.unlock(PIN).unwrap();
    assert_eq!(
        sessions(&mut a.0, &b.1),
        [[true, false, true, false], [true, true, false, true]]
    );
}

#[cfg_attr(test, test)]
pub fn the_application_fits_a_microcontroller() {
    use crate::app::Memory;

    let memory = size_of::<Memory>();
    let app = size_of::<App<TestEnv, &mut Memory>>();
    let mut bench = Bench::blank(1);
    let request = size_of_val(&bench.app().unwrap().answer(&mut []));
    #[cfg(test)]
    std::println!(
        "memory {memory} bytes, application {app} bytes, one request under way {request} bytes"
    );
    assert!(memory <= 66 * 1024, "{memory} bytes");
    assert!(app <= 20 * 1024, "{app} bytes");
    assert!(request <= 8 * 1024, "{request} bytes");
    assert!(RecordId::all().count() == MAX_RECORDS);
}
