//! What is kept, confirmed, asked for and answered, over restarts.

use hostchat_core::wire::content::{ContentId, Fate, MAX_IDS, Receipt};
use hostchat_core::wire::{Bytes, MessageId, Quiet, codec};

use super::tests::{TAG, address, identity, incoming, key, open, text};
use super::*;
use crate::model::{IdentityTag, Notice, Sent};

const OTHER: IdentityTag = Bytes([4; 16]);

/// Queues a text, seals it as frame `frame` and has the relay store it; gives its content id.
fn sent(vault: &mut Vault, to: &str, frame: u8, history: bool) -> ContentId {
    sent_at(vault, to, frame, history, 1000)
}

/// As [`sent`], at a time in milliseconds.
fn sent_at(vault: &mut Vault, to: &str, frame: u8, history: bool, at: u64) -> ContentId {
    let to = address(to);
    let payload = text("hello");
    let Payload::Note { id, .. } = payload else {
        panic!("a note")
    };
    vault.queue(&to, payload).unwrap();
    let mut entry = vault.outbox().unwrap().pop().unwrap();
    vault
        .store_envelope(&mut entry, Bytes([frame; 16]), vec![frame], TAG, at)
        .unwrap();
    vault.sent(&entry, Some(TAG), history, at).unwrap();
    id
}

/// The quiet contents that wait for anybody.
fn quiets(vault: &mut Vault) -> Vec<Quiet> {
    let entries = vault.outbox().unwrap().into_iter();
    let inner = entries.filter_map(|entry| match entry.payload {
        Payload::Quiet { inner } => Some(inner),
        _ => None,
    });
    inner.map(|inner| codec::decode(&inner).unwrap()).collect()
}

fn asks(ids: &[u8], all: bool) -> Option<Arrived> {
    Some(Arrived::Unreadable {
        ids: ids.iter().map(|id| Bytes([*id; 16])).collect(),
        all,
    })
}

fn quiet<'a>(
    peer: &'a hostchat_core::wire::Address,
    id: u8,
    quiet: Option<Arrived>,
) -> Incoming<'a> {
    Incoming {
        arrival: None,
        quiet,
        ..incoming(peer, id, id, "")
    }
}

fn fates(vault: &mut Vault) -> Vec<Fate> {
    match quiets(vault).pop() {
        Some(Quiet::Told { fates, .. }) => fates.iter().map(|(_, fate)| *fate).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sent_text_stays_until_its_receipt_with_history_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    let bob = address("bob@h:1");
    let (kept, hidden) = (
        sent(&mut vault, "bob@h:1", 1, true),
        sent(&mut vault, "bob@h:1", 2, false),
    );
    drop(vault);
    let mut vault = open(&dir);
    assert_eq!(vault.unconfirmed().unwrap().len(), 2);
    let history = vault.history(None, 9).unwrap();
    assert_eq!(history.len(), 1, "without history nothing is listed");
    assert_eq!(history[0].sent, Some(Sent::Unconfirmed));
    vault.confirm(&bob, &OTHER, &[kept, hidden], true).unwrap();
    assert_eq!(
        vault.unconfirmed().unwrap().len(),
        2,
        "another identity's receipt says nothing"
    );
    vault
        .confirm(&address("eve@h:1"), &TAG, &[kept, hidden], true)
        .unwrap();
    assert_eq!(vault.unconfirmed().unwrap().len(), 2);
    vault.confirm(&bob, &TAG, &[kept, hidden], true).unwrap();
    assert!(vault.unconfirmed().unwrap().is_empty());
    let history = vault.history(None, 9).unwrap();
    assert_eq!((history.len(), history[0].sent), (1, Some(Sent::Confirmed)));
    let rows: i64 = vault
        .connection
        .query_row("SELECT count(*) FROM messages", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1, "what was kept only for its receipt is gone");
}

#[test]
fn a_receipt_is_queued_with_each_arrival_and_leaves_once() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    assert!(vault.take_in(&incoming(&bob, 1, 7, "a"), true).unwrap());
    drop(vault);
    let mut vault = open(&dir);
    assert_eq!(
        vault.receipts_for(&bob, 9).unwrap(),
        [Bytes([7; 16])],
        "in the transaction of the text"
    );
    vault.queue_receipts(&bob).unwrap();
    assert!(vault.receipts_due().unwrap().is_empty());
    let ids: heapless::Vec<ContentId, 64> = [Bytes([7; 16])].into_iter().collect();
    let state = Receipt::Delivered;
    assert_eq!(quiets(&mut vault), [Quiet::Receipts { state, ids }]);
    // Its sender seals it again: it is not shown twice, but confirmed again.
    assert!(!vault.take_in(&incoming(&bob, 2, 7, "a"), true).unwrap());
    assert_eq!(vault.receipts_due().unwrap(), [bob]);
}

#[test]
fn receipts_that_left_in_a_frame_are_given_again_when_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    vault.take_in(&incoming(&bob, 1, 7, "a"), true).unwrap();
    vault.queue_receipts(&bob).unwrap();
    let mut entry = vault.outbox().unwrap().pop().unwrap();
    vault
        .store_envelope(&mut entry, Bytes([50; 16]), vec![1], TAG, 1)
        .unwrap();
    vault.sent(&entry, Some(TAG), true, 1).unwrap();
    vault
        .take_in(&quiet(&bob, 2, asks(&[50], false)), true)
        .unwrap();
    assert_eq!(fates(&mut vault), [Fate::NothingToShow]);
    assert_eq!(vault.receipts_due().unwrap(), [bob]);
}

#[test]
fn an_answer_seals_again_only_what_no_receipt_has_confirmed_and_only_for_the_same_identity() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    let confirmed = sent(&mut vault, "bob@h:1", 1, false);
    sent(&mut vault, "bob@h:1", 2, true);
    vault.confirm(&bob, &TAG, &[confirmed], true).unwrap();
    let other = Incoming {
        identity: OTHER,
        ..quiet(&bob, 8, asks(&[1, 2, 3], true))
    };
    vault.take_in(&other, true).unwrap();
    assert_eq!(
        fates(&mut vault),
        [Fate::Unknown; 3],
        "whoever has another identity"
    );
    assert!(vault.unconfirmed().unwrap().iter().all(|u| !u.queued));
    vault
        .take_in(&quiet(&bob, 9, asks(&[1, 2, 3], false)), true)
        .unwrap();
    assert_eq!(
        fates(&mut vault),
        [
            Fate::Confirmed { content: confirmed },
            Fate::Again,
            Fate::Unknown
        ]
    );
    let queued: Vec<_> = vault.unconfirmed().unwrap();
    assert!(queued.len() == 1 && queued[0].queued);
    // Asked once more before it left: it is queued once.
    vault
        .take_in(&quiet(&bob, 10, asks(&[2], false)), true)
        .unwrap();
    let notes = vault.outbox().unwrap().into_iter();
    let notes = notes.filter(|e| matches!(e.payload, Payload::Note { .. }));
    assert_eq!(notes.count(), 1);
}

#[test]
fn a_receipt_for_a_later_text_has_earlier_ones_sealed_again_once() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    sent_at(&mut vault, "bob@h:1", 1, true, 1000);
    sent_at(&mut vault, "carol@h:1", 2, true, 1000);
    let overtakes = sent_at(&mut vault, "bob@h:1", 3, false, 2000);
    sent_at(&mut vault, "bob@h:1", 4, true, 3000);
    vault.confirm(&bob, &OTHER, &[overtakes], true).unwrap();
    assert!(vault.outbox().unwrap().is_empty(), "another identity's");
    vault.confirm(&bob, &TAG, &[overtakes], true).unwrap();
    let queued = |vault: &mut Vault| -> Vec<u8> {
        let unconfirmed = vault.unconfirmed().unwrap();
        let queued = unconfirmed.iter().filter(|u| u.queued);
        queued.map(|u| u.message.message_id.0[0]).collect()
    };
    assert_eq!(queued(&mut vault), [1], "not what is newer, nor another's");
    let mut entry = vault.outbox().unwrap().pop().unwrap();
    vault
        .store_envelope(&mut entry, Bytes([5; 16]), vec![5], TAG, 4000)
        .unwrap();
    vault.sent(&entry, Some(TAG), true, 4000).unwrap();
    vault.confirm(&bob, &TAG, &[overtakes], true).unwrap();
    assert_eq!(queued(&mut vault), [0; 0], "the same receipt once more");
}

#[test]
fn the_user_is_told_of_what_these_keys_confirmed_and_this_vault_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    vault.take_in(&incoming(&bob, 1, 7, "here"), true).unwrap();
    for id in [1u8, 2, 3] {
        let id = Bytes([50 + id; 16]);
        vault.note_unopened(&bob, id, false).unwrap();
    }
    vault.ask(&bob, 5).unwrap();
    let delivered = |content: u8| Fate::Confirmed {
        content: Bytes([content; 16]),
    };
    let fates = [(51, delivered(7)), (52, delivered(8)), (60, delivered(9))];
    let fates = fates
        .into_iter()
        .map(|(id, fate)| (MessageId::from([id; 16]), fate));
    let told = Arrived::Told {
        since: 0,
        fates: fates.collect(),
    };
    for id in [20, 21] {
        let answer = quiet(&bob, id, Some(told.clone()));
        vault.take_in(&answer, true).unwrap();
    }
    let notices = vault.notices().unwrap();
    let gone = Notice::GoneFrom {
        peer: bob.clone(),
        count: 1,
    };
    assert_eq!(
        notices.iter().map(|(_, n)| n).collect::<Vec<_>>(),
        [&gone],
        "7 is here, 60 was never asked about, and a repeat says nothing new"
    );
    assert_eq!(vault.unopened().unwrap().len(), 1);
}

#[test]
fn the_longest_answer_fits() {
    let fate = Fate::Confirmed {
        content: Bytes([0xff; 16]),
    };
    let fates = (0..MAX_IDS).map(|n| (Bytes([u8::try_from(n).unwrap(); 16]), fate));
    let told = Quiet::Told {
        since: u64::MAX,
        fates: fates.collect(),
    };
    let payload = Payload::quiet(&told).unwrap();
    let content = payload.content().unwrap();
    let mut buffer = [0; hostchat_core::wire::MAX_CONTENT];
    let encoded = codec::encode(&content, &mut buffer).unwrap();
    assert_eq!(codec::decode(encoded), Ok(content));
}

#[test]
fn an_overflow_asks_for_everything_unconfirmed_at_most_once_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    for n in 0..300u16 {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        vault.note_unopened(&bob, Bytes(id), false).unwrap();
    }
    assert_eq!(vault.unopened().unwrap().len(), 256);
    assert!(vault.ask(&bob, 5).unwrap());
    assert!(!vault.ask(&bob, 6).unwrap(), "one question at a time");
    let Some(Quiet::Unreadable { ids, all }) = quiets(&mut vault).pop() else {
        panic!("no question")
    };
    assert_eq!((ids.len(), all), (64, true));
    // The other end.
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    sent(&mut vault, "bob@h:1", 1, true);
    vault
        .take_in(&quiet(&bob, 2, asks(&[], true)), true)
        .unwrap();
    let requeued = |vault: &mut Vault| vault.unconfirmed().unwrap().iter().all(|u| u.queued);
    assert!(requeued(&mut vault));
    let mut entries = vault.outbox().unwrap().into_iter();
    let entry = entries
        .find(|e| matches!(e.payload, Payload::Note { .. }))
        .unwrap();
    vault.sent(&entry, Some(TAG), true, 2000).unwrap();
    assert_eq!(vault.unconfirmed().unwrap().len(), 1, "sent again, kept on");
    vault
        .take_in(&quiet(&bob, 3, asks(&[], true)), true)
        .unwrap();
    assert!(!requeued(&mut vault), "not again within the hour");
}

#[test]
fn an_answer_is_counted_once_and_told_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    let now = crate::os::now_ms();
    vault
        .save_generations(&Generations::new(now), None)
        .unwrap();
    for id in [1, 2, 3, 4] {
        vault.note_unopened(&bob, Bytes([id; 16]), false).unwrap();
    }
    vault.ask(&bob, now).unwrap();
    let told = |since| {
        let fates = [
            (1, Fate::Lost),
            (2, Fate::Again),
            (3, Fate::Unknown),
            (9, Fate::Lost),
        ];
        let fates = fates
            .into_iter()
            .map(|(id, fate)| (MessageId::from([id; 16]), fate));
        Some(Arrived::Told {
            since,
            fates: fates.collect(),
        })
    };
    vault.take_in(&quiet(&bob, 20, told(0)), true).unwrap();
    let lost = Notice::LostFrom {
        peer: bob.clone(),
        count: 1,
    };
    let notices = |vault: &mut Vault| -> Vec<Notice> {
        vault
            .notices()
            .unwrap()
            .into_iter()
            .map(|(_, n)| n)
            .collect()
    };
    assert_eq!(
        notices(&mut vault),
        std::slice::from_ref(&lost),
        "9 was never asked about, and an unknown one of a contact who forgot nothing is forged"
    );
    assert_eq!(vault.generations().unwrap().unwrap().forged, 1);
    assert_eq!(vault.forged_names().unwrap(), std::slice::from_ref(&bob));
    let left = vault.unopened().unwrap();
    assert_eq!(left.len(), 1);
    vault.take_in(&quiet(&bob, 21, told(0)), true).unwrap();
    assert_eq!(notices(&mut vault), [lost], "a repeat says nothing new");
    vault.note_unopened(&bob, Bytes([3; 16]), false).unwrap();
    vault.take_in(&quiet(&bob, 22, told(now)), true).unwrap();
    assert!(
        matches!(
            notices(&mut vault).pop(),
            Some(Notice::UnknownTo { count: 1, .. })
        ),
        "whoever forgot lately may have sealed it"
    );
}

#[test]
fn what_nobody_confirms_within_45_days_is_told_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut vault = open(&dir);
    sent(&mut vault, "bob@h:1", 1, true);
    sent(&mut vault, "bob@h:1", 2, false);
    let day = 24 * 3600 * 1000;
    vault.set_relay_clock(1000 + KEEP_MS - day);
    vault.give_up_unconfirmed().unwrap();
    assert_eq!(vault.unconfirmed().unwrap().len(), 2);
    vault.set_relay_clock(1000 + KEEP_MS + day);
    vault.give_up_unconfirmed().unwrap();
    assert!(vault.unconfirmed().unwrap().is_empty());
    let history = vault.history(None, 9).unwrap();
    assert_eq!((history.len(), history[0].sent), (1, Some(Sent::Never)));
    let (_, notice) = vault.notices().unwrap().pop().unwrap();
    assert_eq!(
        notice,
        Notice::NeverConfirmed {
            peer: address("bob@h:1"),
            count: 2
        }
    );
    vault.prune_sealed().unwrap();
    assert_eq!(vault.sealed_frame(&Bytes([1; 16])).unwrap(), None);
}

#[test]
fn sizes_and_ids_in_the_file_say_little() {
    let dir = tempfile::tempdir().unwrap();
    let bob = address("bob@h:1");
    let mut vault = open(&dir);
    vault.take_in(&incoming(&bob, 0xa5, 1, "a"), true).unwrap();
    vault.take_in(&incoming(&bob, 0xb6, 2, "no"), true).unwrap();
    vault.contact_or_new(&bob).unwrap();
    vault
        .contact_or_new(&address("roberta.with.a.long.name@h:1"))
        .unwrap();
    let lengths = |sql: &str| -> Vec<i64> {
        let mut statement = vault.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    };
    assert_eq!(
        lengths("SELECT DISTINCT length(body) FROM messages").len(),
        1
    );
    assert_eq!(
        lengths("SELECT DISTINCT length(body) FROM contacts").len(),
        1
    );
    vault
        .connection
        .pragma_update(None, "wal_checkpoint", "TRUNCATE")
        .unwrap();
    drop(vault);
    let bytes = std::fs::read(dir.path().join("vault.db")).unwrap();
    for id in [0xa5u8, 0xb6] {
        assert!(!bytes.windows(16).any(|w| w == [id; 16]), "a raw id");
    }
}

#[test]
fn an_identity_has_one_tag() {
    assert_eq!(identity_tag(&identity(1)), identity_tag(&identity(1)));
    assert_ne!(identity_tag(&identity(1)), identity_tag(&identity(2)));
    let _ = key(1);
}
