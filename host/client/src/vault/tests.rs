//! The vault as a whole: order, crashes between its steps, and files that are not what they should be.

use hostchat_core::wire::{Address, Bytes, IdentityClaim};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::error::Exit;
use crate::model::{Asked, IdentityTag, What};

pub(super) fn key(byte: u8) -> StorageKey {
    StorageKey::from_bytes([byte; 32])
}

pub(super) fn open(dir: &TempDir) -> Vault {
    Vault::open(&dir.path().join("vault.db"), &key(1), Os::default()).unwrap()
}

pub(super) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(super) fn identity(byte: u8) -> IdentityClaim {
    IdentityClaim {
        sign: Bytes([byte; 32]),
        dh: Bytes([byte; 32]),
        signature: Bytes([byte; 64]),
    }
}

pub(super) fn text(text: &str) -> Payload {
    Payload::Note {
        id: Bytes(crate::os::random()),
        sent_at: 7,
        number: 1,
        delivered: heapless::Vec::new(),
        again: false,
        with_code: false,
        text: Zeroizing::new(text.to_owned()),
    }
}

pub(super) fn incoming<'a>(peer: &'a Address, id: u8, content: u8, text: &'a str) -> Incoming<'a> {
    Incoming {
        peer,
        message_id: Bytes([id; 16]),
        stored_at: 9,
        verified: true,
        arrival: Some(Arrival {
            content: Bytes([content; 16]),
            sent_at: 5,
            number: 0,
            what: What::Text,
            text,
        }),
        delivered: &[],
        quiet: None,
        identity: TAG,
        reply_due: false,
    }
}

/// For whom everything is sealed here.
pub(super) const TAG: IdentityTag = Bytes([3; 16]);

#[test]
fn the_outbox_keeps_its_order_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (bob, carol) = (address("bob@h:1"), address("carol@h:1"));
    let mut vault = open(&dir);
    for (to, what) in [(&bob, "one"), (&carol, "two"), (&bob, "three")] {
        vault.queue(to, text(what)).unwrap();
    }
    drop(vault);
    let mut vault = open(&dir);
    let mut entries = vault.outbox().unwrap();
    let texts: Vec<_> = entries
        .iter()
        .map(|e| (e.to.clone(), e.payload.clone()))
        .collect();
    assert_eq!(
        texts.iter().map(|(to, _)| to).collect::<Vec<_>>(),
        [&bob, &carol, &bob]
    );
    vault
        .store_envelope(&mut entries[0], Bytes([9; 16]), vec![1, 2, 3], TAG, 8)
        .unwrap();
    drop(vault);
    let mut vault = open(&dir);
    let entries = vault.outbox().unwrap();
    assert_eq!(entries[0].sealed, Some((Bytes([9; 16]), vec![1, 2, 3])));
    assert_eq!(entries[0].payload, texts[0].1);
    vault.sent(&entries[0], Some(TAG), true, 8).unwrap();
    assert_eq!(vault.outbox().unwrap().len(), 2);
    let history = vault.history(Some(&bob), 10).unwrap();
    assert_eq!((history.len(), history[0].text.as_str()), (1, "one"));
    vault.reseal_outgoing(&bob).unwrap();
    assert!(vault.outbox().unwrap().iter().all(|e| e.sealed.is_none()));
}

#[test]
fn without_history_nothing_sent_or_shown_stays() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    vault.queue(&bob, text("secret")).unwrap();
    let entry = vault.outbox().unwrap().remove(0);
    vault.sent(&entry, Some(TAG), false, 8).unwrap();
    vault
        .take_in(&incoming(&bob, 1, 1, "hidden"), true)
        .unwrap();
    let (message, _) = vault.to_show(0, 1).unwrap().remove(0);
    vault.mark_showing(message.id).unwrap();
    vault.mark_shown(&message, false).unwrap();
    assert!(vault.history(None, 10).unwrap().is_empty());
    assert_eq!(vault.last_sender().unwrap(), Some(bob));
    assert_eq!(vault.seen(&Bytes([1; 16])).unwrap(), Some(Stored::Stored));
}

#[test]
fn a_message_is_stored_once_however_often_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    assert_eq!(vault.seen(&Bytes([1; 16])).unwrap(), None);
    assert!(vault.take_in(&incoming(&bob, 1, 1, "a"), true).unwrap());
    drop(vault);
    let mut vault = open(&dir);
    assert_eq!(vault.seen(&Bytes([1; 16])).unwrap(), Some(Stored::Stored));
    assert!(
        !vault.take_in(&incoming(&bob, 1, 1, "a"), true).unwrap(),
        "the same frame"
    );
    assert!(
        !vault.take_in(&incoming(&bob, 2, 1, "a"), true).unwrap(),
        "the same content sealed again"
    );
    assert!(
        vault
            .take_in(&incoming(&address("eve@h:1"), 3, 1, "a"), true)
            .unwrap(),
        "another sender"
    );
    vault.mark_committed(&Bytes([1; 16])).unwrap();
    assert_eq!(
        vault.seen(&Bytes([1; 16])).unwrap(),
        Some(Stored::Committed)
    );
    assert!(!vault.take_in(&incoming(&bob, 1, 1, "a"), true).unwrap());
    assert_eq!(
        vault.seen(&Bytes([1; 16])).unwrap(),
        Some(Stored::Committed),
        "no way back"
    );
}

#[test]
fn messages_are_shown_in_order_and_a_cut_showing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    for (id, text) in [(1, "one"), (2, "two"), (3, "three")] {
        vault.take_in(&incoming(&bob, id, id, text), true).unwrap();
    }
    let (first, shown) = vault.to_show(0, 1).unwrap().remove(0);
    assert_eq!((first.text.as_str(), shown), ("one", Shown::New));
    vault.mark_showing(first.id).unwrap();
    drop(vault);
    let mut vault = open(&dir);
    let (again, shown) = vault.to_show(0, 1).unwrap().remove(0);
    assert_eq!((again.id, shown), (first.id, Shown::Perhaps));
    vault.mark_shown(&again, true).unwrap();
    let (second, shown) = vault.to_show(0, 1).unwrap().remove(0);
    assert_eq!((second.text.as_str(), shown), ("two", Shown::New));
    assert_eq!(
        vault.history(None, 10).unwrap().len(),
        1,
        "what was not shown is not history"
    );
}

#[test]
fn a_first_reply_is_queued_once_with_the_message_that_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    for id in 1..=3 {
        vault
            .take_in(
                &Incoming {
                    reply_due: true,
                    arrival: None,
                    ..incoming(&bob, id, id, "")
                },
                true,
            )
            .unwrap();
    }
    let entries = vault.outbox().unwrap();
    assert_eq!(
        entries.iter().map(|e| &e.payload).collect::<Vec<_>>(),
        [&Payload::Empty]
    );
}

#[test]
fn contacts_have_one_name_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let a = vault.contact_or_new(&address("bob@h:1")).unwrap();
    let mut b = vault.contact_or_new(&address("bob@other:2")).unwrap();
    assert_eq!((a.name.as_str(), b.name.as_str()), ("bob", "bob@other:2"));
    assert_eq!(vault.contact_or_new(&address("bob@h:1")).unwrap(), a);
    b.name = "bob".into();
    assert!(matches!(vault.save_contact(&b), Err(Error::NameInUse(_))));
    b.name = "rob".into();
    b.changed = Some(identity(1));
    vault.save_contact(&b).unwrap();
    assert_eq!(vault.contact_at(&b.address).unwrap(), Some(b.clone()));
    vault.queue(&b.address, text("x")).unwrap();
    vault.delete_contact(&b, true).unwrap();
    assert!(vault.outbox().unwrap().is_empty());
    assert_eq!(vault.contacts().unwrap(), [a]);
}

#[test]
fn a_run_that_was_answered_does_not_ask_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let alice = address("alice@h:1");
    let asked = Asked::Code {
        sid: Bytes([4; 16]),
    };
    let is_new = |added: Added| matches!(added, Added::New { .. });
    assert!(is_new(ask(&mut vault, &alice, asked, &[1])));
    vault.close_run(&Bytes([4; 16])).unwrap();
    assert!(vault.requests().unwrap().is_empty());
    drop(vault);
    let mut vault = open(&dir);
    assert_eq!(ask(&mut vault, &alice, asked, &[1]), Added::Known);
    assert!(vault.requests().unwrap().is_empty());
}

fn ask(vault: &mut Vault, from: &Address, asked: Asked, envelope: &[u8]) -> Added {
    let asking = Asking {
        from,
        identity: &identity(1),
        asked,
        sender: from,
        checked: true,
        stored_at: 1,
        envelope,
    };
    vault.add_request(&asking).unwrap()
}

#[test]
fn no_text_and_no_name_lies_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let bob = address("bobinator@relay.example:1");
    vault.contact_or_new(&bob).unwrap();
    vault.queue(&bob, text("PLAINTEXT-OUT")).unwrap();
    vault
        .take_in(&incoming(&bob, 1, 1, "PLAINTEXT-IN"), true)
        .unwrap();
    ask(&mut vault, &bob, Asked::First, b"ENVELOPE-BYTES");
    let (message, _) = vault.to_show(0, 1).unwrap().remove(0);
    vault.mark_shown(&message, true).unwrap();
    drop(vault);
    let mut seen = 0;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        seen += bytes.len();
        for secret in ["PLAINTEXT", "bobinator", "relay.example", "ENVELOPE"] {
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret.as_bytes()),
                "{secret}"
            );
        }
    }
    assert!(seen > 4096);
}

#[test]
fn another_tokens_vault_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let path = dir.path().join("vault.db");
    let error = Vault::open(&path, &key(2), Os::default()).err().unwrap();
    assert!(matches!(error, Error::VaultOtherToken(_)), "{error}");
    assert_eq!(error.exit(), Exit::Vault);
    assert!(Vault::open(&path, &key(1), Os::default()).is_ok());
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let path = dir.path().join("vault.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "user_version", schema::VERSION + 1)
        .unwrap();
    drop(connection);
    let error = Vault::open(&path, &key(1), Os::default()).err().unwrap();
    assert!(
        matches!(
            error,
            Error::VaultNewer {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.hint(), "update hostchat");
}

#[test]
fn what_is_no_database_is_called_damaged() {
    for content in [
        &b"not a database at all, but long enough to be taken for one"[..],
        &[0xff; 9000],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.db");
        std::fs::write(&path, content).unwrap();
        let error = Vault::open(&path, &key(1), Os::default()).err().unwrap();
        assert!(matches!(error, Error::VaultDamaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "left as it was");
    }
}

#[test]
fn an_altered_row_is_found_and_moved_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let bob = address("bob@h:1");
    vault.queue(&bob, text("one")).unwrap();
    vault.queue(&bob, text("two")).unwrap();
    let swap = "UPDATE outbox SET body = (SELECT body FROM outbox AS o WHERE o.id = 3 - outbox.id)";
    vault.connection.execute(swap, []).unwrap();
    let error = vault.outbox().unwrap_err();
    assert!(matches!(error, Error::VaultDamaged { .. }), "{error}");
    vault
        .connection
        .execute("UPDATE outbox SET body = zeroblob(40)", [])
        .unwrap();
    assert!(matches!(
        vault.outbox().unwrap_err(),
        Error::VaultDamaged { .. }
    ));
}

#[test]
fn every_commit_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let vault = open(&dir);
    let pragma = |name: &str| -> String {
        vault
            .connection
            .pragma_query_value(None, name, |row| {
                row.get::<_, rusqlite::types::Value>(0)
                    .map(|value| format!("{value:?}"))
            })
            .unwrap()
    };
    assert_eq!(pragma("synchronous"), "Integer(2)", "FULL");
    assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
    assert_eq!(pragma("secure_delete"), "Integer(1)");
}
