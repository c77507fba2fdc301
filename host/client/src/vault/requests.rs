//! Requests: offers of a pairing, and first messages of strangers, which wait for the user.
//!
//! ```text
//!  new ─▶ same envelope, or a run that was answered?  known
//!      ─▶ an offer: takes the place of the one with the same address and identity
//!      ─▶ table full: the oldest request of whoever has most goes           (what nobody checked counts as one person's)
//! ```
//!
//! Invariant: strangers can fill a bounded part of the disk only, and nobody's requests make those of somebody go who
//! has fewer.

use std::collections::HashMap;

use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::{Address, Bytes, IdentityClaim, SessionStartId};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Column, Tx, Vault, unpad};
use crate::error::Result;
use crate::model::{Asked, Request};

const BODY: Column = Column {
    table: "requests",
    column: "body",
};
const ENVELOPE: Column = Column {
    table: "requests",
    column: "envelope",
};

/// An offer is of no use after this time: the code behind it is dead.
const OFFER_MS: u64 = 10 * 60 * 1000;
/// A first message that nobody accepted goes after 30 days, as it would at a relay.
const FIRST_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// No relay delivers an offer that is older: a greater difference is a clock that was set.
const CLOCK_SET_MS: u64 = 24 * 60 * 60 * 1000;
/// Most offers kept: far more than a relay lets through in ten minutes from one network.
const MAX_OFFERS: usize = 256;
/// Most first messages kept.
const MAX_FIRST: usize = 1024;

/// What became of a request that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is stored.
    New {
        /// Nobody asked for the same from there, under this identity, until now.
        news: bool,
        /// Older requests that had to make room.
        removed: u32,
    },
    /// It is there already, or was answered before.
    Known,
}

/// A request on its way into the vault.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Who, as the envelope says.
    pub from: &'a Address,
    /// The identity that the envelope claims.
    pub identity: &'a IdentityClaim,
    /// For what.
    pub asked: Asked,
    /// Who was logged in as its sender, as our relay says.
    pub sender: &'a Address,
    /// The relay of `from` says that the identity is right.
    pub checked: bool,
    /// By the clock of our relay, milliseconds since 1970.
    pub stored_at: u64,
    /// As it came.
    pub envelope: &'a [u8],
}

/// As stored until senders were checked.
#[derive(Serialize, Deserialize)]
struct Row {
    from: Address,
    identity: IdentityClaim,
    asked: Asked,
    received_at: u64,
}

/// As stored; append-only. No [`Row`] begins with this version: its first byte is the length of an address.
#[derive(Serialize, Deserialize)]
struct Row2 {
    version: u8,
    from: Address,
    identity: IdentityClaim,
    asked: Asked,
    received_at: u64,
    sender: Address,
    checked: bool,
    stored_at: u64,
    /// SHA-256 of the envelope.
    digest: Bytes<32>,
}

const ROW2: u8 = 2;

/// A row that was opened.
struct Kept {
    request: Request,
    digest: [u8; 32],
}

impl Vault {
    /// Stores a request.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn add_request(&mut self, asking: &Asking<'_>) -> Result<Added> {
        let digest = sha256(&[asking.envelope]);
        self.write(|tx| {
            let mut kept = all(tx)?;
            if kept.iter().any(|k| k.digest == digest) {
                return Ok(Added::Known);
            }
            if let Asked::Code { sid } = asking.asked
                && tx.seen(&tx.sid_mark(&sid))?.is_some()
            {
                return Ok(Added::Known);
            }
            let mut request = Request {
                id: 0,
                from: asking.from.clone(),
                identity: *asking.identity,
                asked: asking.asked,
                received_at: tx.os.now_ms(),
                sender: asking.sender.clone(),
                checked: asking.checked,
                stored_at: asking.stored_at,
            };
            let news = !kept.iter().any(|k| k.request.is_like(&request));
            if request.asked != Asked::First {
                // A later run of the same person takes the place of the one before.
                for old in kept.extract_if(.., |k| k.request.is_like(&request)) {
                    delete(tx, old.request.id)?;
                }
            }
            let insert = "INSERT INTO requests (body, envelope) VALUES (zeroblob(0), zeroblob(0))";
            request.id = tx.insert(insert, [], BODY, &row(&request, &digest))?;
            tx.put_bytes(request.id, ENVELOPE, asking.envelope)?;
            let is_first = request.asked == Asked::First;
            let most = if is_first { MAX_FIRST } else { MAX_OFFERS };
            let mut same: Vec<Request> = kept
                .into_iter()
                .map(|k| k.request)
                .filter(|r| (r.asked == Asked::First) == is_first)
                .collect();
            same.push(request);
            let mut removed = 0;
            while same.len() > most {
                let at = who_goes(&same);
                delete(tx, same.remove(at).id)?;
                removed += 1;
            }
            Ok(Added::New { news, removed })
        })
    }

    /// Who asks, the oldest first; offers whose time is over are deleted.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn requests(&mut self) -> Result<Vec<Request>> {
        self.expire_requests()?;
        self.read(|tx| Ok(all(tx)?.into_iter().map(|k| k.request).collect()))
    }

    /// Deletes what is too old, and gives how many first messages went.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn expire_requests(&mut self) -> Result<u32> {
        let now = self.os.now_ms();
        // Nothing is old by a clock that is not known.
        let relay_now = if self.knows_relay_time() {
            self.now()
        } else {
            0
        };
        self.write(|tx| {
            let mut expired = 0;
            for request in all(tx)?.into_iter().map(|k| k.request) {
                let by_relay = relay_now.saturating_sub(request.stored_at);
                if request.asked == Asked::First {
                    // Both clocks have to say so: one that was set wrong must not lose messages.
                    let by_us = now.saturating_sub(request.received_at);
                    if by_us >= FIRST_MS && by_relay >= FIRST_MS {
                        delete(tx, request.id)?;
                        expired += 1;
                    }
                    continue;
                }
                // A clock that was set back must not keep an offer alive for ever.
                let by_us = now.abs_diff(request.received_at) >= OFFER_MS;
                if by_us || (OFFER_MS..CLOCK_SET_MS).contains(&by_relay) {
                    delete(tx, request.id)?;
                }
            }
            Ok(expired)
        })
    }

    /// The envelope of a request; `None` if that is gone.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn request_envelope(&mut self, id: i64) -> Result<Option<Vec<u8>>> {
        self.read(|tx| {
            let select = "SELECT envelope FROM requests WHERE id = ?1";
            let sealed: Option<Vec<u8>> = tx
                .transaction
                .query_row(select, params![id], |row| row.get(0))
                .optional()?;
            sealed
                .map(|sealed| Ok(tx.open(id, ENVELOPE, &sealed)?.to_vec()))
                .transpose()
        })
    }

    /// Notes what the relay of `from` says of its identity: requests under that one are checked, others are deleted.
    /// Gives how many were deleted.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn bind_requests(
        &mut self,
        from: &Address,
        identity: Option<&IdentityClaim>,
    ) -> Result<u32> {
        self.write(|tx| {
            let mut forged = 0;
            for Kept { request, digest } in all(tx)?.into_iter().filter(|k| k.request.from == *from)
            {
                if identity != Some(&request.identity) {
                    delete(tx, request.id)?;
                    forged += 1;
                } else if !request.checked {
                    let request = Request {
                        checked: true,
                        ..request
                    };
                    tx.put(request.id, BODY, &row(&request, &digest))?;
                }
            }
            Ok(forged)
        })
    }

    /// Remembers that a run was answered: a repeat of its offer is no request.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn close_run(&mut self, sid: &SessionStartId) -> Result<()> {
        self.write(|tx| close(tx, sid, |_| true).map(|_| ()))
    }

    /// As [`Self::close_run`], for a run that `sender` says is over, who `has` the identity of the request; gives who asked. What is not a request of that sender
    /// leaves no trace: anybody can invent runs.
    ///
    /// # Errors
    /// Those of the vault.
    pub fn end_run(
        &mut self,
        sid: &SessionStartId,
        sender: &Address,
        has: impl Fn(&IdentityClaim) -> bool,
    ) -> Result<Option<Address>> {
        self.write(|tx| {
            let asked = Asked::Code { sid: *sid };
            let theirs = |r: &Request| r.asked == asked && r.sender == *sender && has(&r.identity);
            if !all(tx)?.iter().any(|k| theirs(&k.request)) {
                return Ok(None);
            }
            close(tx, sid, theirs)
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
            .filter(|k| k.request.from == *from)
            .try_for_each(|k| delete(self, k.request.id))
    }
}

/// Which of these has to make room: the oldest of whoever has most. What no relay has vouched for counts together, since
/// there a name costs nothing; among it the address with most loses first.
fn who_goes(requests: &[Request]) -> usize {
    let vouched = |r: &Request| r.checked.then(|| r.sender.clone());
    let mut groups: HashMap<Option<Address>, usize> = HashMap::new();
    let mut unvouched: HashMap<&Address, usize> = HashMap::new();
    for request in requests {
        *groups.entry(vouched(request)).or_default() += 1;
        if !request.checked {
            *unvouched.entry(&request.sender).or_default() += 1;
        }
    }
    let weight = |r: &Request| {
        let group = groups.get(&vouched(r)).copied().unwrap_or_default();
        let own = unvouched.get(&r.sender).copied().unwrap_or_default();
        (group, !r.checked, if r.checked { 0 } else { own })
    };
    let heaviest = requests.iter().map(weight).max();
    // They are in order of age.
    requests
        .iter()
        .position(|r| Some(weight(r)) == heaviest)
        .unwrap_or_default()
}

fn close(
    tx: &Tx<'_>,
    sid: &SessionStartId,
    which: impl Fn(&Request) -> bool,
) -> Result<Option<Address>> {
    tx.mark_seen(&tx.sid_mark(sid), 1)?;
    let asked = Asked::Code { sid: *sid };
    let mut from = None;
    for request in all(tx)?.into_iter().map(|k| k.request) {
        if request.asked == asked && which(&request) {
            delete(tx, request.id)?;
            from = Some(request.from);
        }
    }
    Ok(from)
}

fn delete(tx: &Tx<'_>, id: i64) -> Result<()> {
    tx.transaction
        .prepare_cached("DELETE FROM requests WHERE id = ?1")?
        .execute(params![id])?;
    Ok(())
}

fn row(request: &Request, digest: &[u8; 32]) -> Row2 {
    Row2 {
        version: ROW2,
        from: request.from.clone(),
        identity: request.identity,
        asked: request.asked,
        received_at: request.received_at,
        sender: request.sender.clone(),
        checked: request.checked,
        stored_at: request.stored_at,
        digest: Bytes(*digest),
    }
}

/// All requests in order of age; envelopes stay sealed, except those that were stored without a digest.
fn all(tx: &Tx<'_>) -> Result<Vec<Kept>> {
    let rows = tx.rows("SELECT id, body FROM requests ORDER BY id", [])?;
    rows.into_iter()
        .map(|(id, sealed)| {
            let body = tx.open(id, BODY, &sealed)?;
            if unpad(&body).and_then(<[u8]>::first) == Some(&ROW2) {
                let row: Row2 = tx.open_body(&body)?;
                let request = Request {
                    id,
                    from: row.from,
                    identity: row.identity,
                    asked: row.asked,
                    received_at: row.received_at,
                    sender: row.sender,
                    checked: row.checked,
                    stored_at: row.stored_at,
                };
                let digest = row.digest.0;
                return Ok(Kept { request, digest });
            }
            let row: Row = tx.open_body(&body)?;
            let select = "SELECT envelope FROM requests WHERE id = ?1";
            let sealed: Vec<u8> = tx
                .transaction
                .query_row(select, params![id], |row| row.get(0))?;
            let digest = sha256(&[&tx.open(id, ENVELOPE, &sealed)?]);
            let request = Request {
                id,
                sender: row.from.clone(),
                from: row.from,
                identity: row.identity,
                asked: row.asked,
                received_at: row.received_at,
                checked: false,
                stored_at: row.received_at,
            };
            Ok(Kept { request, digest })
        })
        .collect()
}

#[cfg(test)]
mod tests;
