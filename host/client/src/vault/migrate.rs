//! From format 1 to format 2: bodies are padded, ids keyed, days sealed, and messages learn what healing needs.
//!
//! It runs inside the transaction that changes the tables: a vault is of one format or of the other.

use hostchat_core::wire::{Address, Bytes, MessageId, codec};
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::generation::Generations;
use super::messages::{self};
use super::outbox;
use super::payload::RowPayload;
use super::{Column, Tx, encode};
use crate::error::Result;
use crate::model::{Direction, Message, What};

/// Columns whose bodies only have to be padded, and how they are read.
const BODIES: &[(Column, &str)] = &[
    (
        Column {
            table: "contacts",
            column: "body",
        },
        "SELECT id, body FROM contacts",
    ),
    (
        Column {
            table: "relays",
            column: "body",
        },
        "SELECT id, body FROM relays",
    ),
    (
        Column {
            table: "requests",
            column: "body",
        },
        "SELECT id, body FROM requests",
    ),
    (
        Column {
            table: "prekeys",
            column: "body",
        },
        "SELECT id, body FROM prekeys",
    ),
];

/// A row of `messages` in format 1.
#[derive(Serialize, Deserialize)]
struct MessageRow1<'a> {
    direction: Direction,
    peer: Address,
    message_id: MessageId,
    sent_at: u64,
    received_at: u64,
    missing: u32,
    verified: bool,
    text: &'a str,
}

/// A row of `outbox` in format 1.
#[derive(Serialize, Deserialize)]
struct OutboxRow1<'a> {
    to: Address,
    message_id: Option<MessageId>,
    #[serde(borrow)]
    payload: RowPayload<'a>,
}

/// Brings the values up; the tables of format 2 are there already.
pub(super) fn to_2(tx: &Tx<'_>) -> Result<()> {
    for (place, sql) in BODIES {
        for (id, plain) in opened(tx, *place, sql)? {
            tx.put_bytes(id, *place, &padded(&plain)?)?;
        }
    }
    for (id, plain) in opened(tx, messages::BODY, "SELECT id, body FROM messages")? {
        let row: MessageRow1<'_> = decode(tx, &plain)?;
        let incoming = row.direction == Direction::In;
        let message = Message {
            id,
            direction: row.direction,
            peer: row.peer,
            message_id: row.message_id,
            sent_at: row.sent_at,
            received_at: row.received_at,
            stored_at: if incoming { row.received_at } else { 0 },
            missing: row.missing,
            verified: row.verified,
            content: Bytes([0; 16]),
            number: 0,
            session: None,
            identity: None,
            what: What::Text,
            sent: None,
            text: zeroize::Zeroizing::new(row.text.to_owned()),
        };
        messages::put(tx, &message)?;
    }
    for (id, plain) in opened(tx, outbox::BODY, "SELECT id, body FROM outbox")? {
        let row: OutboxRow1<'_> = decode(tx, &plain)?;
        outbox::put_row(tx, id, row.to, row.message_id, row.payload)?;
    }
    seen(tx)?;
    tx.save_generations(&Generations::new(tx.os.now_ms()))
}

/// `seen` becomes `arrived`: an id becomes a mark under the vault's key, so that the relay's ids say nothing here.
fn seen(tx: &Tx<'_>) -> Result<()> {
    let mut statement = tx.transaction.prepare("SELECT id, state, day FROM seen")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(Vec<u8>, i64, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    for (id, state, day) in rows {
        let id: [u8; 16] = id
            .try_into()
            .map_err(|_| tx.damaged("an id has another length"))?;
        let day = u32::try_from(day).unwrap_or(u32::MAX);
        tx.mark_arrived_on(&id, state, day)?;
    }
    drop(statement);
    tx.transaction.execute_batch("DROP TABLE seen")?;
    // The value under this key is sealed as any other; only its padding is new.
    let last = Column {
        table: "meta",
        column: "last sender",
    };
    let sql = "SELECT value FROM meta WHERE key = 'last sender'";
    let mut statement = tx.transaction.prepare(sql)?;
    let values = statement.query_map([], |row| row.get(0))?;
    let values: Vec<Vec<u8>> = values.collect::<rusqlite::Result<_>>()?;
    for sealed in values {
        let plain = tx.open(0, last, &sealed)?;
        let text = std::str::from_utf8(&plain)
            .ok()
            .and_then(|text| Address::parse(text).ok())
            .ok_or_else(|| tx.damaged("a value cannot be decoded"))?;
        let sealed = tx.seal_body(0, last, &text)?;
        tx.transaction.execute(
            "UPDATE meta SET value = ?1 WHERE key = 'last sender'",
            params![sealed],
        )?;
    }
    Ok(())
}

fn opened(
    tx: &Tx<'_>,
    place: Column,
    sql: &str,
) -> Result<Vec<(i64, zeroize::Zeroizing<Vec<u8>>)>> {
    tx.rows(sql, [])?
        .into_iter()
        .map(|(id, sealed)| Ok((id, tx.open(id, place, &sealed)?)))
        .collect()
}

fn decode<'b, T: Serialize + Deserialize<'b>>(tx: &Tx<'_>, bytes: &'b [u8]) -> Result<T> {
    codec::decode(bytes).map_err(|_| tx.damaged("a value cannot be decoded"))
}

/// Pads an encoding that is there already.
fn padded(plain: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    encode(&Raw(plain))
}

/// Bytes that are an encoding: serialised as they are.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple as _;

        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for byte in self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::messages::Stored;
    use super::super::tests::{address, key};
    use super::super::{MAX_BODY, Sealer, Vault, schema};
    use super::*;
    use crate::os::Os;

    /// Of messages, and as many ids besides.
    const ROWS: u32 = 20_000;

    fn id_of(n: u32) -> MessageId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_le_bytes());
        Bytes(id)
    }

    /// A vault of format 1 with so many texts from alice.
    fn make_old(dir: &TempDir) {
        let mut vault = Connection::open(dir.path().join("vault.db")).unwrap();
        schema::prepare(&vault).unwrap();
        let sealer = Sealer::new(&key(1));
        let tx = vault.transaction().unwrap();
        tx.execute_batch(schema::MIGRATIONS[0]).unwrap();
        let meta = "INSERT INTO meta (key, value) VALUES ('commitment', ?1)";
        tx.execute(meta, params![sealer.commitment().as_slice()])
            .unwrap();
        let mut buffer = [0; MAX_BODY];
        for n in 1..=ROWS {
            let text = format!("text {n}");
            let row = MessageRow1 {
                direction: Direction::In,
                peer: address("alice@relay.example:7443"),
                message_id: id_of(n),
                sent_at: 1,
                received_at: u64::from(n),
                missing: 0,
                verified: true,
                text: &text,
            };
            let plain = codec::encode(&row, &mut buffer).unwrap();
            let sealed = sealer.seal(messages::BODY, i64::from(n), plain);
            tx.prepare_cached("INSERT INTO messages (id, state, body) VALUES (?1, 2, ?2)")
                .unwrap()
                .execute(params![n, sealed])
                .unwrap();
            tx.prepare_cached("INSERT INTO seen (id, state, day) VALUES (?1, 1, 1)")
                .unwrap()
                .execute(params![id_of(n).0.as_slice()])
                .unwrap();
        }
        tx.pragma_update(None, "user_version", 1).unwrap();
        tx.commit().unwrap();
    }

    #[test]
    fn twenty_thousand_messages_are_brought_up_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        make_old(&dir);
        let bytes = || std::fs::metadata(dir.path().join("vault.db")).map(|file| file.len());
        let before = bytes().unwrap();
        let start = std::time::Instant::now();
        let open = || Vault::open(&dir.path().join("vault.db"), &key(1), Os::default()).unwrap();
        let mut vault = open();
        println!("{ROWS} messages in {:?}", start.elapsed());
        for _ in 0..2 {
            let messages = vault.history(None, ROWS as usize + 1).unwrap();
            assert_eq!(messages.len(), ROWS as usize);
            for (message, n) in messages.iter().zip(1..) {
                assert_eq!(
                    (message.text.as_str(), message.message_id, message.stored_at),
                    (format!("text {n}").as_str(), id_of(n), u64::from(n))
                );
            }
            for n in [1, ROWS / 2, ROWS] {
                assert_eq!(vault.seen(&id_of(n)).unwrap(), Some(Stored::Committed));
            }
            assert_eq!(vault.seen(&id_of(ROWS + 1)).unwrap(), None);
            drop(vault);
            println!("{} bytes became {}", before, bytes().unwrap());
            vault = open();
        }
    }
}
