//! Administration of a running relay: who uses it and how much, never what they write.
//!
//! ```text
//!  hostchat-relay admin ── admin.sock (mode 0600) ── socket ──┐
//!                                                             ├──▶ calls below ──▶ store, hub
//!  a browser ───────────── the operator's listener ── web ────┘
//! ```
//!
//! Everything shown is metadata: messages lie in the store sealed, and the relay has no key to any of them.

use hostchat_core::wire::relay::{Kind, Reason};
use hostchat_core::wire::{Address, Name};

use crate::invitation;
use crate::limits::{ADMIN_PAGE, ADMIN_SCAN_MS, INVITATIONS};
use crate::server::Relay;
use crate::store::{AccountRow, Filter, Invited, Logged, Position, StoreError};

pub mod protocol;
pub(crate) mod show;
pub(crate) mod socket;

use protocol::{Answer, Call, Invitation, LogEntry, LogQuery, Refused, Status, User};

/// Name of the socket in the relay's folder.
pub const SOCKET: &str = "admin.sock";

/// Does what is asked.
pub(crate) async fn answer(relay: &Relay, call: Call) -> Answer {
    let done = match call {
        Call::Status => status(relay).await.map(|s| Answer::Status(Box::new(s))),
        Call::Limits => Ok(Answer::Limits(Box::new(relay.limits.clone()))),
        Call::Users { after } => users(relay, after)
            .await
            .map(|(users, more)| Answer::Users { users, more }),
        Call::User { name } => user(relay, name).await.map(Answer::User),
        Call::Remove { name } => remove(relay, name).await.map(|()| Answer::Done),
        Call::Suspend { name } => suspend(relay, name, true).await.map(|()| Answer::Done),
        Call::Resume { name } => suspend(relay, name, false).await.map(|()| Answer::Done),
        Call::Invite { uses, note, days } => {
            let invited = invite(relay, uses, &note, days).await;
            invited.map(Answer::Invitation)
        }
        Call::Invitations => invitations(relay).await.map(Answer::Invitations),
        Call::Log(query) => log(relay, query)
            .await
            .map(|(entries, more)| Answer::Log { entries, more }),
        Call::Withdraw { id } => withdraw(relay, id).await.map(|()| Answer::Done),
    };
    done.unwrap_or_else(Answer::Refused)
}

/// How the relay is doing.
pub(crate) async fn status(relay: &Relay) -> Result<Status, Refused> {
    let totals = relay.store.totals().await.map_err(refused)?;
    let (connections, logged_in) = relay.hub.count();
    let state = relay.store.state();
    let metrics = &relay.metrics;
    Ok(Status {
        software: env!("CARGO_PKG_VERSION").to_owned(),
        names: relay.names.iter().map(ToString::to_string).collect(),
        uptime_ms: relay.clock.uptime_ms().saturating_sub(relay.started_ms),
        connections: connections as u64,
        logged_in: logged_in as u64,
        registration: relay.registration.to_string(),
        guests: relay.guests,
        accounts: totals.accounts,
        invitations: totals.invitations,
        messages: totals.messages,
        stored: metrics.stored.get(),
        stored_bytes: metrics.stored_bytes.get(),
        delivered: metrics.delivered.get(),
        delivered_bytes: metrics.delivered_bytes.get(),
        waiting_writes: state.waiting as u64,
        database_bytes: state.bytes,
        disk_free_bytes: state.disk_free,
        log_days: relay.audit.log_days,
        files: totals.blobs,
        file_bytes: totals.blob_bytes,
        at: relay.clock.wall_ms(),
        address: relay.address(),
    })
}

/// A page of accounts after a name, and whether there are more.
pub(crate) async fn users(
    relay: &Relay,
    after: Option<Name>,
) -> Result<(Vec<User>, bool), Refused> {
    let rows = relay.store.accounts(after, ADMIN_PAGE + 1).await;
    let mut rows = rows.map_err(refused)?;
    let more = rows.len() > ADMIN_PAGE;
    rows.truncate(ADMIN_PAGE);
    Ok((
        rows.into_iter().map(|row| shown(relay, row)).collect(),
        more,
    ))
}

/// The first accounts in some order.
pub(crate) struct Scan {
    pub(crate) users: Vec<User>,
    /// How many were looked at.
    pub(crate) looked_at: u64,
    /// Whether these were all.
    pub(crate) all: bool,
}

/// A page of all accounts in this order. Every account has to be looked at, for no longer than an operator waits.
pub(crate) async fn users_by(
    relay: &Relay,
    compare: impl Fn(&User, &User) -> std::cmp::Ordering,
) -> Result<Scan, Refused> {
    let end = relay.clock.uptime_ms().saturating_add(ADMIN_SCAN_MS);
    let mut scan = Scan {
        users: Vec::new(),
        looked_at: 0,
        all: false,
    };
    let mut after = None;
    while !scan.all && relay.clock.uptime_ms() < end {
        let (page, more) = users(relay, after).await?;
        after = page.last().map(|user| user.name.clone());
        scan.looked_at += page.len() as u64;
        scan.all = !more || after.is_none();
        scan.users.extend(page);
        // Stable: equal ones stay in the order of their names.
        scan.users.sort_by(&compare);
        scan.users.truncate(ADMIN_PAGE);
    }
    Ok(scan)
}

/// One account.
pub(crate) async fn user(relay: &Relay, name: Name) -> Result<User, Refused> {
    let row = relay.store.account_row(name).await.map_err(refused)?;
    row.map(|row| shown(relay, row)).ok_or(Refused::UnknownName)
}

/// Deletes an account, durably, then closes its connections.
pub(crate) async fn remove(relay: &Relay, name: Name) -> Result<(), Refused> {
    let account = relay.store.account(name.clone()).await.map_err(refused)?;
    let account = account.ok_or(Refused::UnknownName)?;
    let deleted = relay.store.delete_account(account.id).await;
    deleted.await.map_err(refused)?;
    relay.hub.close_account(account.id, Reason::UnknownName);
    tracing::info!(%name, "account removed by the operator");
    Ok(())
}

/// Suspends an account, durably, and closes its connections; or lets its owner log in again.
pub(crate) async fn suspend(relay: &Relay, name: Name, suspended: bool) -> Result<(), Refused> {
    let account = relay.store.account(name.clone()).await.map_err(refused)?;
    let account = account.ok_or(Refused::UnknownName)?;
    let kept = relay.store.suspend(account.id, suspended).await;
    kept.await.map_err(refused)?;
    if suspended {
        relay.hub.close_account(account.id, Reason::Suspended);
        tracing::info!(%name, "account suspended by the operator");
    } else {
        tracing::info!(%name, "account resumed by the operator");
    }
    Ok(())
}

/// Makes an invitation, with a note for the operator, that ends after some days if they are given.
pub(crate) async fn invite(
    relay: &Relay,
    uses: u32,
    note: &str,
    days: Option<u16>,
) -> Result<String, Refused> {
    let new = invitation::new(uses, note, days).ok_or(Refused::BadRequest)?;
    let words = new.words.clone();
    let kept = relay.store.invite(new, INVITATIONS).await;
    match kept.await.map_err(refused)? {
        Invited::Done => Ok(words),
        Invited::TooMany => Err(Refused::TooManyInvitations),
    }
}

/// The invitations that can still be used.
pub(crate) async fn invitations(relay: &Relay) -> Result<Vec<Invitation>, Refused> {
    let rows = relay.store.invitations().await.map_err(refused)?;
    let shown = rows.into_iter().map(|row| Invitation {
        id: row.id,
        created_at: row.created_at,
        uses_left: row.uses_left,
        note: row.note,
        expires_at: row.expires_at,
    });
    Ok(shown.collect())
}

/// Makes an invitation useless.
pub(crate) async fn withdraw(relay: &Relay, id: String) -> Result<(), Refused> {
    let withdrawn = relay.store.withdraw(id).await.await.map_err(refused)?;
    withdrawn.then_some(()).ok_or(Refused::UnknownInvitation)
}

/// A page of the log, newest first, and whether there are more.
pub(crate) async fn log(relay: &Relay, query: LogQuery) -> Result<(Vec<LogEntry>, bool), Refused> {
    if relay.audit.log_days == 0 {
        return Err(Refused::LogOff);
    }
    let filter = Filter {
        sender: query.from.map(|from| party(relay, &from)).transpose()?,
        receiver: query.to.map(|to| party(relay, &to)).transpose()?,
        since: query.since,
        until: query.until,
        before: query.before.map(|(at, number)| Position { at, number }),
    };
    let rows = relay.store.log(filter, ADMIN_PAGE + 1).await;
    let mut rows = rows.map_err(refused)?;
    let more = rows.len() > ADMIN_PAGE;
    rows.truncate(ADMIN_PAGE);
    let entries = rows.into_iter().map(|row| LogEntry {
        at: row.position.at,
        number: row.position.number,
        from: row.sender,
        to: row.receiver,
        kind: kind_text(row.kind).to_owned(),
        bytes: row.bytes,
    });
    Ok((entries.collect(), more))
}

/// A sender or receiver as the log has it: users of this relay by name, however they are addressed.
fn party(relay: &Relay, text: &str) -> Result<String, Refused> {
    if let Ok(name) = Name::parse(text) {
        return Ok(name.to_string());
    }
    let address = Address::parse(text).map_err(|_| Refused::BadRequest)?;
    Ok(if relay.names.contains(&address.relay()) {
        address.name().to_string()
    } else {
        address.to_string()
    })
}

fn kind_text(kind: Logged) -> &'static str {
    match kind {
        Logged::Message(Kind::Pairing) => "pairing",
        Logged::Message(Kind::First) => "first",
        Logged::Message(Kind::Message) => "message",
        Logged::Blob => "file",
        Logged::Suspended => "suspended",
        Logged::Resumed => "resumed",
    }
}

fn shown(relay: &Relay, row: AccountRow) -> User {
    User {
        name: row.name,
        connections: relay.hub.connections_of(row.id) as u64,
        visible: row.visible,
        registered_at: row.registered_at,
        messages: row.messages,
        bytes: row.bytes,
        one_time_prekeys: row.one_time_prekeys,
        files: row.blobs,
        file_bytes: row.blob_bytes,
        suspended: row.suspended,
        last_seen: row.seen_day.map(show::day),
    }
}

fn refused(error: StoreError) -> Refused {
    match error {
        StoreError::Full | StoreError::Unwritable => Refused::Full,
        StoreError::Closed => Refused::ShuttingDown,
        _ => {
            tracing::error!(%error, "the store failed");
            Refused::Internal
        }
    }
}
