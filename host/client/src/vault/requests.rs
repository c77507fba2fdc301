//! Requests: offers of a pairing, and first messages of strangers, which wait for the user.
//!
//! Invariant: strangers can fill a bounded part of the disk only. Of offers the newest stay; of first messages those
//! that came first, since they were acknowledged.

use hostchat_core::wire::{Address, IdentityClaim, SessionStartId};
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Column, Tx, Vault};
use crate::error::Result;

const BODY: Column = Column {
    table: "requests",
    column: "body",
};
const ENVELOPE: Column = Column {
    table: "requests",
    column: "envelope",
};

/// An offer is of no use after this time.
const OFFER_MS: u64 = 10 * 60 * 1000;
/// Most offers kept.
const MAX_OFFERS: usize = 32;
/// Most first messages kept of one sender, who sends each with the prefix until it gets a reply.
const MAX_FIRST_PER_SENDER: usize = 64;
/// Most first messages kept in all.
const MAX_FIRST: usize = 1024;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// That a code is typed: this run of a pairing.
    Code {
        /// The run.
        sid: SessionStartId,
    },
    /// To be heard: a first message without a code.
    First,
}

/// What became of a request that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is stored.
    New,
    /// It is there already, or was answered before.
    Known,
    /// There is no place for it.
    Full,
}

/// Somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number in this vault.
    pub id: i64,
    /// Who, as the envelope says; not authenticated yet.
    pub from: Address,
    /// The identity that the envelope claims.
    pub identity: IdentityClaim,
    /// For what.
    pub asked: Asked,
    /// By our clock, milliseconds since 1970.
    pub received_at: u64,
    /// The envelope as it came.
    pub envelope: Vec<u8>,
}

/// As stored; append-only.
#[derive(Serialize, Deserialize)]
struct Row {
    from: Address,
    identity: IdentityClaim,
    asked: Asked,
    received_at: u64,
}

impl Vault {
    /// Stores a request.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn add_request(
        &mut self,
        from: &Address,
        identity: &IdentityClaim,
        asked: Asked,
        envelope: &[u8],
    ) -> Result<Added> {
        self.write(|tx| {
            let kept = all(tx)?;
            if kept.iter().any(|r| r.envelope == envelope) {
                return Ok(Added::Known);
            }
            match asked {
                Asked::Code { sid } if tx.seen(&tx.sid_mark(&sid))?.is_some() => {
                    return Ok(Added::Known);
                }
                Asked::Code { .. } => {
                    let offers: Vec<_> = kept.iter().filter(|r| r.asked != Asked::First).collect();
                    // A later run of the same person takes the place of the one before.
                    for old in offers
                        .iter()
                        .filter(|r| r.from == *from && r.identity == *identity)
                    {
                        delete(tx, old.id)?;
                    }
                    if let (true, Some(oldest)) = (offers.len() >= MAX_OFFERS, offers.first()) {
                        delete(tx, oldest.id)?;
                    }
                }
                Asked::First => {
                    let firsts = kept.iter().filter(|r| r.asked == Asked::First);
                    let (mut of_sender, mut count) = (0, 0);
                    for request in firsts {
                        count += 1;
                        of_sender += usize::from(request.from == *from);
                    }
                    if count >= MAX_FIRST || of_sender >= MAX_FIRST_PER_SENDER {
                        return Ok(Added::Full);
                    }
                }
            }
            let row = Row {
                from: from.clone(),
                identity: *identity,
                asked,
                received_at: tx.os.now_ms(),
            };
            let insert = "INSERT INTO requests (body, envelope) VALUES (zeroblob(0), zeroblob(0))";
            let id = tx.insert(insert, [], BODY, &row)?;
            tx.put_bytes(id, ENVELOPE, envelope)?;
            Ok(Added::New)
        })
    }

    /// Who asks, the oldest first; offers whose time is over are deleted.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn requests(&mut self) -> Result<Vec<Request>> {
        self.write(|tx| {
            let now = tx.os.now_ms();
            let (live, over): (Vec<_>, Vec<_>) = all(tx)?.into_iter().partition(|r| {
                // A clock that was set back must not keep an offer alive for ever, nor one set forward lose messages.
                r.asked == Asked::First || now.abs_diff(r.received_at) < OFFER_MS
            });
            for request in over {
                delete(tx, request.id)?;
            }
            Ok(live)
        })
    }

    /// Remembers that a run was answered or given up: a repeat of its offer is no request. Gives who asked, if that request
    /// was still there.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn close_run(&mut self, sid: &SessionStartId) -> Result<Option<Address>> {
        self.write(|tx| {
            tx.mark_seen(&tx.sid_mark(sid), 1)?;
            let asked = Asked::Code { sid: *sid };
            let mut from = None;
            for request in all(tx)?.into_iter().filter(|r| r.asked == asked) {
                delete(tx, request.id)?;
                from = Some(request.from);
            }
            Ok(from)
        })
    }

    /// Deletes one request.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn delete_request(&mut self, id: i64) -> Result<()> {
        self.write(|tx| delete(tx, id))
    }

    /// Deletes all requests of one address.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn delete_requests(&mut self, from: &Address) -> Result<()> {
        self.write(|tx| tx.delete_requests(from))
    }
}

impl Tx<'_> {
    fn sid_mark(&self, sid: &SessionStartId) -> [u8; 16] {
        self.sealer.mark(&[b"run", &sid.0])
    }

    /// Deletes all requests of `from`.
    pub(super) fn delete_requests(&self, from: &Address) -> Result<()> {
        all(self)?
            .iter()
            .filter(|r| r.from == *from)
            .try_for_each(|r| delete(self, r.id))
    }
}

fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.transaction
        .execute("DELETE FROM requests WHERE id = ?1", params![id])?;
    Ok(())
}

fn all(tx: &Tx<'_>) -> Result<Vec<Request>> {
    let mut statement = tx
        .transaction
        .prepare_cached("SELECT id, body, envelope FROM requests ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    rows.into_iter()
        .map(|(id, sealed, envelope)| {
            let body = tx.open(id, BODY, &sealed)?;
            let row: Row = tx.open_body(&body)?;
            let envelope = tx.open(id, ENVELOPE, &envelope)?.to_vec();
            Ok(Request {
                id,
                from: row.from,
                identity: row.identity,
                asked: row.asked,
                received_at: row.received_at,
                envelope,
            })
        })
        .collect()
}
