//! Every limit of the relay in one place, each with its reason; `[limits]` in `relay.toml` overrides them.
//!
//! A limit that is reached is an answer with a reason and, where waiting helps, `retry_after_ms`; nothing is dropped
//! silently and no other user notices.

use hostchat_core::wire::relay::PREKEY_STOCK;
use serde::{Deserialize, Serialize};

use crate::config::Storage;

/// Most calls of one connection that wait for the store; the relay reads no further until some are answered.
///
/// Enough for a full group commit from a single pipelining client, and at most 512 KiB of parts of blobs. Parts that are
/// read do not wait: the next request is looked at once the part before it was taken by the client's connection, so that
/// one who reads slowly holds one part here, and what is in the buffers of TLS and WebSocket.
pub const IN_FLIGHT: usize = 64;
/// Most bytes that wait in a connection's TLS for a client that does not read: one full record.
pub const TLS_BUFFER: usize = 16 * 1024;
/// Most bytes of messages, each with [`MESSAGE_OVERHEAD`], that wait in memory for one receiver, and as many again that were
/// read from the store: what does not fit stays in the store. Small messages fill the window of deliveries with it.
pub const RECEIVER_BYTES: usize = 32 * 1024;
/// What a message takes in memory beside its body, in bytes.
pub const MESSAGE_OVERHEAD: usize = 256;
/// What one connection takes at most, in bytes: TLS and WebSocket, both queues of [`RECEIVER_BYTES`], a request. 111 KiB were
/// measured of connections that asked for everything and read nothing, with two arenas of glibc's allocator.
pub const CONNECTION_BYTES: u64 = 160 * 1024;
/// What the relay takes beside its connections, in MiB: 12 for itself, 37 for the caches of the database, 8 for the queue of
/// writes, the rest for token buckets in a flood of addresses and for what the allocator does not give back.
pub const BASE_MIB: u32 = 96;
/// What a message that waits on NATS takes in a node's memory, in bytes, at its worst. Measured with a million messages in a
/// thousand mailboxes: 643 bytes each from users, 983 each from guests with an identity of their own and the longest address.
/// (At each NATS server it takes 287 to 543 bytes of disk besides its body.)
pub const NATS_MESSAGE_BYTES: u64 = 1_000;
/// Most writes that wait for the writer thread, over all connections: at most 8 MiB of parts of blobs.
pub const WRITE_QUEUE: usize = 1024;
/// Most writes in one transaction: beyond a few hundred, a larger group no longer pays for its latency.
pub const GROUP: usize = 512;
/// Longest HTTP request head, in bytes: ours need 300; larger ones are refused before they are parsed.
pub const MAX_HTTP_HEAD: usize = 4096;
/// Longest time that one write to a client may take, in milliseconds, before the connection is given up.
pub const WRITE_TIMEOUT_MS: u64 = 30_000;
/// Longest time from the TCP connection to the end of the HTTP head, in milliseconds: a slow line, not a slow loris.
pub const HANDSHAKE_MS: u64 = 15_000;
/// Longest time that a graceful shutdown waits for connections, in milliseconds.
pub const SHUTDOWN_MS: u64 = 5_000;
/// Milliseconds that the store may take to prove its health: longer than a slow sync, shorter than who asks will wait.
pub const HEALTH_MS: u64 = 2_000;
/// Connections at once on the operator's listener: a Prometheus, a load balancer, a person.
pub const OPERATOR_CONNECTIONS: usize = 16;
/// Longest time of one request on the operator's listener, in milliseconds.
pub const OPERATOR_MS: u64 = 5_000;
/// Connections at once on the administration socket: a person, a script, and one that hangs.
pub const ADMIN_CONNECTIONS: usize = 4;
/// Longest time of one exchange on the administration socket, in milliseconds: a removal empties a full mailbox.
pub const ADMIN_MS: u64 = 15_000;
/// Longest administration request, in bytes: a command with two addresses.
pub const ADMIN_REQUEST: usize = 2048;
/// Longest administration answer, in bytes: a full page of rows.
pub const ADMIN_ANSWER: usize = 256 * 1024;
/// Most accounts or log entries in one answer: at 300 bytes each they stay far below [`ADMIN_ANSWER`], and counting
/// that many full mailboxes keeps a reader busy for less than a second.
pub const ADMIN_PAGE: usize = 100;
/// Longest time, in milliseconds, in which all accounts are looked at for a table in another order than that of the names:
/// most of [`OPERATOR_MS`], enough for tens of thousands.
pub const ADMIN_SCAN_MS: u64 = 3_000;
/// Most senders that one account blocks, more than a person does by hand. On NATS the list is one header: whole addresses
/// of 135 bytes make 35 KB of it, and servers take 64.
pub const BLOCKED: usize = 256;
/// Most invitations that can still be used; more are refused, so that the list of them stays one page.
pub const INVITATIONS: usize = 1000;
/// Longest request head on the operator's listener, in bytes: a browser sends the cookies of every program on the host.
pub const WEB_HEAD: usize = 16 * 1024;
/// Longest form of the admin page, in bytes: a password and a token.
pub const WEB_FORM: usize = 4096;
/// Sessions of the admin page at once: a few operators with a few browsers.
pub const WEB_SESSIONS: usize = 16;
/// Milliseconds without a request after which a session ends.
pub const WEB_IDLE_MS: u64 = 30 * 60_000;
/// Milliseconds after which a session ends in any case: a working day.
pub const WEB_LIFE_MS: u64 = 12 * 3_600_000;
/// Attempts to log in on the admin page per IP address (/64 for IPv6) that are answered at once: typing errors, not guessing.
/// Those beyond take turns, all addresses together, and each turn takes [`WEB_TURN_MS`].
pub const WEB_ATTEMPTS: Rate = Rate {
    burst: 5,
    per_minute: 2,
};
/// Milliseconds of one attempt to log in that waits its turn: 86,400 guesses a day at most, each of 12 bytes or more, and
/// whoever knows the password waits about a second.
pub const WEB_TURN_MS: u64 = 1_000;
/// Attempts that wait for their turn: the last of them is still answered within [`OPERATOR_MS`].
pub const WEB_TURNS: usize = 4;
/// Lines of the log for each kind of refusal: an operator sees it begin, and then every ten seconds that it goes on.
pub const NOTICES: Rate = Rate {
    burst: 5,
    per_minute: 6,
};
/// Milliseconds between two samples for the charts.
pub const HISTORY_MS: u64 = 60_000;
/// Samples kept: a day and a little, 50 KiB.
pub const HISTORY_SAMPLES: usize = 1500;
/// Milliseconds between two looks at the certificate's files: two `stat` calls each.
pub const CERTIFICATE_MS: u64 = 10_000;
/// Milliseconds between two sweeps for expired messages; expired ones are not delivered even before the sweep.
pub const SWEEP_MS: u64 = 60_000;
/// Most rows of one kind that one transaction of a sweep removes, so that no sender waits long for it; of the parts of
/// deleted blobs they are 4 MiB.
pub const SWEEP_ROWS: usize = 500;
/// Most token buckets kept per kind of limit: 64 Ki entries are about 4 MiB.
pub const MAX_BUCKETS: usize = 65_536;
/// Milliseconds between two words of a node about whom it sees: presence elsewhere is at most that old.
pub const NODE_WORD_MS: u64 = 2_000;
/// Words that a node may miss before it counts as gone: two that were lost, and a slow third.
pub const NODE_SILENCE: u32 = 3;
/// Most callers of one kind of rate in one word of a node about what was spent there: with a dozen kinds it stays below half
/// of what a server takes, the rest comes two seconds later.
pub const NODE_SPENT: usize = 1_000;
/// Longest time, in milliseconds, that a pause between two runs of the relay counts towards expiry: one day.
///
/// So a wall clock that is years wrong at start cannot expire a single message by more than a day.
pub const MAX_GAP_MS: u64 = 24 * 3_600_000;

/// A token bucket: `burst` at once, `per_minute` in the long run; `per_minute = 0` turns the limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many at once after a pause.
    pub burst: u32,
    /// How many per minute in the long run; 0 for no limit.
    pub per_minute: u32,
}

/// What one relay allows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all: below common descriptor limits. No more than [`Limits::fitting_connections`].
    pub connections: usize,
    /// What the relay may take of the machine's memory, in MiB: all connections at their worst, and itself. Those in use
    /// take a tenth of that.
    pub memory_mib: u32,
    /// Connections per IP address (per /64 for IPv6): a household or an office behind one address.
    pub connections_per_address: usize,
    /// Connections per account: a person's few devices and their half-open predecessors.
    pub connections_per_account: usize,
    /// Seconds from the challenge to the login: a token waits for a press for up to 30 s before it signs.
    pub login_seconds: u32,
    /// Seconds of silence after which a connection is closed; pings go out after a third of that.
    pub idle_seconds: u32,
    /// New connections per IP address: reconnects after a relay restart, several homes behind one address.
    pub connects: Rate,
    /// Registrations per IP address: a family at once, not a name grabber.
    pub registrations: Rate,
    /// Calls of any kind per account, acknowledgements of outstanding deliveries excepted: a busy pipelined client.
    pub calls: Rate,
    /// Messages sent per account: far above what people type, low enough that one account cannot fill the disk.
    pub sends: Rate,
    /// Pairing messages sent per account: three codes of three runs each with room; guessing is no use beyond.
    pub pairings: Rate,
    /// Pairing messages of all guests of one IP address (/64 for IPv6) to one mailbox: with the time that each of them lies
    /// there, fewer than the share of all guests. Identities cost nothing, networks do.
    pub guest_pairings: Rate,
    /// First messages sent per account: a person writes to few strangers; a spammer to many.
    pub firsts: Rate,
    /// Prekeys left per account, and stocks dropped: a token fills up its sixteen at once, then one for each that is used.
    pub prekeys_put: Rate,
    /// Advances of its generation per account, each a write: one at each login and one for 64 messages sealed or opened,
    /// so that a full mailbox (10,000) and a burst of sends (2,000) are 190 at once, and then 64 times as many messages.
    pub generations: Rate,
    /// Prekey bundles taken per account, with a one-time key or without: each may take one away from others.
    pub prekeys_taken: Rate,
    /// One-time prekeys given out per owner: beyond that only the last-resort key, so that nobody can drain them.
    pub prekeys_given: Rate,
    /// Changes of its block list per account: a whole list at once, then what a person types.
    pub blocks: Rate,
    /// New blobs announced per account: as many at once as one may have; each may cost as much as 128 messages.
    pub blobs_put: Rate,
    /// Messages in one mailbox: a month away from the keyboard.
    pub mailbox_messages: u32,
    /// Bytes of bodies in one mailbox, in MiB: the messages above at their usual size.
    pub mailbox_mib: u32,
    /// Pairing messages in one mailbox: more cannot be looked at in ten minutes.
    pub mailbox_pairings: u32,
    /// First messages in one mailbox: more requests of strangers than anybody reads.
    pub mailbox_firsts: u32,
    /// Percentage of a mailbox (of each figure above) that one sender may fill: nobody locks the others out alone. A guest is
    /// counted by the identity proved at the login, since any guest may claim any address.
    pub sender_percent: u32,
    /// Percentage that all guests together may fill: each may make as many identities as it likes.
    pub guests_percent: u32,
    /// Days until an unfetched message expires, and for which message ids are remembered.
    pub message_days: u32,
    /// Minutes until an unfetched pairing message expires: the life of a code.
    pub pairing_minutes: u32,
    /// One-time prekeys kept per account: a client leaves 8, a token makes 16. No more than [`Limits::prekey_stock`].
    pub one_time_prekeys: u32,
    /// Largest blob, in MiB: films and disk images go another way; at 10 Mbit/s it takes four minutes.
    pub blob_mib: u32,
    /// Blobs that one account may have here: a busy month of files that nobody has fetched yet.
    pub account_blobs: u32,
    /// Bytes of the blobs of one account, in MiB, as announced: so an upload once begun can be finished.
    pub account_blobs_mib: u32,
    /// Bytes of all blobs, in MiB, as announced: half of the database, so that files never keep messages out.
    pub blobs_mib: u32,
    /// Days until a blob expires that some reader has not fetched, or that was never finished: as long as the message
    /// that tells of it.
    pub blob_days: u32,
    /// Largest database, in MiB: the disk is shared with the system.
    pub database_mib: u32,
    /// Free disk space, in MiB, below which no new message or part of a blob is taken: acknowledgements and the log still need room.
    pub disk_floor_mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |burst, per_minute| Rate { burst, per_minute };
        Self {
            connections: 4096,
            memory_mib: 1536,
            connections_per_address: 256,
            connections_per_account: 8,
            login_seconds: 45,
            idle_seconds: 90,
            connects: rate(600, 600),
            registrations: rate(20, 2),
            calls: rate(4_000, 60_000),
            sends: rate(2_000, 600),
            pairings: rate(30, 3),
            guest_pairings: rate(16, 1),
            firsts: rate(60, 6),
            prekeys_put: rate(128, 12),
            generations: rate(300, 60),
            prekeys_taken: rate(60, 6),
            prekeys_given: rate(32, 4),
            blocks: rate(300, 30),
            blobs_put: rate(256, 60),
            mailbox_messages: 10_000,
            mailbox_mib: 64,
            mailbox_pairings: 64,
            mailbox_firsts: 256,
            sender_percent: 25,
            guests_percent: 50,
            message_days: 30,
            pairing_minutes: 10,
            one_time_prekeys: PREKEY_STOCK as u32,
            blob_mib: 256,
            account_blobs: 256,
            account_blobs_mib: 1024,
            blobs_mib: 8192,
            blob_days: 30,
            database_mib: 16_384,
            disk_floor_mib: 64,
        }
    }
}

impl Limits {
    /// How many connections fit into the memory, each at its worst: half of it is for them on NATS.
    #[must_use]
    pub fn fitting_connections(&self, storage: Storage) -> usize {
        let for_them = match storage {
            Storage::Sqlite => self.memory_mib,
            Storage::Nats => self.memory_mib / 2,
        };
        let room = mib(for_them.saturating_sub(BASE_MIB));
        usize::try_from(room / CONNECTION_BYTES).unwrap_or(usize::MAX)
    }

    /// How many messages may wait on NATS, whose nodes keep a list of them: in the other half of the memory.
    #[must_use]
    pub fn nats_messages(&self) -> u64 {
        mib(self.memory_mib) / 2 / NATS_MESSAGE_BYTES
    }

    /// How many one-time prekeys of one account are taken: one answer lists them all.
    #[must_use]
    pub fn prekey_stock(&self) -> u32 {
        self.one_time_prekeys.min(PREKEY_STOCK as u32)
    }

    /// How long a message is kept, in milliseconds.
    #[must_use]
    pub fn message_ms(&self) -> u64 {
        u64::from(self.message_days) * 24 * 3_600_000
    }

    /// How long a pairing message is kept, in milliseconds.
    #[must_use]
    pub fn pairing_ms(&self) -> u64 {
        u64::from(self.pairing_minutes) * 60_000
    }

    /// The bytes that one mailbox may hold.
    #[must_use]
    pub fn mailbox_bytes(&self) -> u64 {
        mib(self.mailbox_mib)
    }

    /// The bytes that one blob may have.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        mib(self.blob_mib)
    }

    /// The bytes that the blobs of one account may have.
    #[must_use]
    pub fn account_blobs_bytes(&self) -> u64 {
        mib(self.account_blobs_mib)
    }

    /// The bytes that all blobs may have.
    #[must_use]
    pub fn blobs_bytes(&self) -> u64 {
        mib(self.blobs_mib)
    }

    /// How long a blob is kept, in milliseconds.
    #[must_use]
    pub fn blob_ms(&self) -> u64 {
        u64::from(self.blob_days) * 24 * 3_600_000
    }
}

/// Mebibytes as bytes.
pub(crate) fn mib(mib: u32) -> u64 {
    u64::from(mib) * 1024 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairings_of_guests_of_one_network_never_fill_the_share_of_all_guests() {
        let limits = Limits::default();
        let Rate { burst, per_minute } = limits.guest_pairings;
        // They lie there until the sweep after their time.
        let lie = limits.pairing_minutes + u32::try_from(SWEEP_MS.div_ceil(60_000)).unwrap();
        let share = limits.mailbox_pairings * limits.guests_percent / 100;
        assert!(burst + per_minute * lie < share);
    }
}
