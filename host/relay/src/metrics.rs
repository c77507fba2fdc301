//! What the relay counts about itself, as Prometheus reads it: sums only, no names and no addresses.
//!
//! Counters are relaxed atomics that the working code adds to; everything else is looked at when somebody asks.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hostchat_core::wire::relay::Reason;

/// Upper ends of the buckets of commit times in microseconds, from a fast disk's sync to a stall.
const BUCKETS: [u64; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000, 10_000_000,
];

/// Every reason with its label, in the order of the wire.
const REASONS: [(Reason, &str); 20] = [
    (Reason::BadRequest, "bad_request"),
    (Reason::Version, "version"),
    (Reason::LoginFailed, "login_failed"),
    (Reason::UnknownName, "unknown_name"),
    (Reason::NameTaken, "name_taken"),
    (Reason::RegistrationClosed, "registration_closed"),
    (Reason::GuestsRefused, "guests_refused"),
    (Reason::MailboxFull, "mailbox_full"),
    (Reason::RelayFull, "relay_full"),
    (Reason::RateLimited, "rate_limited"),
    (Reason::TooManyConnections, "too_many_connections"),
    (Reason::NoPrekeys, "no_prekeys"),
    (Reason::Internal, "internal"),
    (Reason::ShuttingDown, "shutting_down"),
    (Reason::TooLarge, "too_large"),
    (Reason::Timeout, "timeout"),
    (Reason::Blocked, "blocked"),
    (Reason::QuotaFull, "quota_full"),
    (Reason::UnknownBlob, "unknown_blob"),
    (Reason::Suspended, "suspended"),
];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The relay's counters since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) turned_away: Counter,
    pub(crate) logins: Counter,
    pub(crate) stored: Counter,
    pub(crate) stored_bytes: Counter,
    pub(crate) delivered: Counter,
    pub(crate) delivered_bytes: Counter,
    pub(crate) expired: Counter,
    pub(crate) blobs_announced: Counter,
    pub(crate) blob_stored_bytes: Counter,
    pub(crate) blob_read_bytes: Counter,
    pub(crate) blobs_expired: Counter,
    pub(crate) writes: Counter,
    pub(crate) failed_commits: Counter,
    refusals: [Counter; REASONS.len()],
    commits: [Counter; BUCKETS.len() + 1],
    commit_us: Counter,
}

/// What is looked at when somebody asks.
pub(crate) struct Gauges {
    pub(crate) connections: usize,
    pub(crate) logged_in: usize,
    pub(crate) waiting_writes: usize,
    pub(crate) disk_free: Option<u64>,
    pub(crate) database_bytes: Option<u64>,
    pub(crate) uptime_ms: u64,
}

impl Metrics {
    /// Counts an answer that refuses.
    pub(crate) fn refused(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.add(1);
        }
    }

    /// Counts a commit and the time that it took.
    pub(crate) fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|end| *end < us);
        if let Some(counter) = self.commits.get(bucket) {
            counter.add(1);
        }
        self.commit_us.add(us);
    }

    /// All of it in the text format of Prometheus.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let mut out = Text(String::with_capacity(6 * 1024));
        out.gauge("connections", "Open connections.", gauges.connections);
        out.gauge(
            "logged_in",
            "Open connections of accounts that have logged in.",
            gauges.logged_in,
        );
        out.gauge(
            "write_queue",
            "Writes that wait for the writer.",
            gauges.waiting_writes,
        );
        if let Some(free) = gauges.disk_free {
            out.gauge(
                "disk_free_bytes",
                "Free space where the database lies.",
                free,
            );
        }
        if let Some(bytes) = gauges.database_bytes {
            out.gauge(
                "database_bytes",
                "Size of the database with its write-ahead log.",
                bytes,
            );
        }
        let uptime = Seconds(gauges.uptime_ms.saturating_mul(1000));
        out.gauge("uptime_seconds", "Time since the start.", uptime);
        for (name, help, counter) in [
            (
                "connections_accepted",
                "TCP connections taken.",
                &self.accepted,
            ),
            (
                "connections_turned_away",
                "TCP connections dropped at once: too many.",
                &self.turned_away,
            ),
            ("logins", "Logins that succeeded.", &self.logins),
            (
                "messages_stored",
                "Messages made durable, repeats excepted.",
                &self.stored,
            ),
            (
                "message_stored_bytes",
                "Bytes of their bodies.",
                &self.stored_bytes,
            ),
            (
                "messages_delivered",
                "Messages handed to a receiver, repeats included.",
                &self.delivered,
            ),
            (
                "message_delivered_bytes",
                "Bytes of their bodies.",
                &self.delivered_bytes,
            ),
            (
                "messages_expired",
                "Messages deleted unfetched.",
                &self.expired,
            ),
            (
                "blobs_announced",
                "Files announced, repeats excepted.",
                &self.blobs_announced,
            ),
            (
                "blob_stored_bytes",
                "Bytes of parts of files made durable, repeats excepted.",
                &self.blob_stored_bytes,
            ),
            (
                "blob_read_bytes",
                "Bytes of parts of files handed to a reader, repeats included.",
                &self.blob_read_bytes,
            ),
            (
                "blobs_expired",
                "Files deleted before every reader had them.",
                &self.blobs_expired,
            ),
            ("writes", "Writes committed.", &self.writes),
            (
                "commits_failed",
                "Transactions rolled back.",
                &self.failed_commits,
            ),
        ] {
            out.head(&format!("{name}_total"), help, "counter");
            out.sample(&format!("{name}_total"), "", counter.get());
        }
        out.head(
            "refusals_total",
            "Calls and logins refused, by reason.",
            "counter",
        );
        for ((_, reason), counter) in REASONS.iter().zip(&self.refusals) {
            let label = format!("{{reason=\"{reason}\"}}");
            out.sample("refusals_total", &label, counter.get());
        }
        self.commit_histogram(&mut out);
        out.0
    }

    fn commit_histogram(&self, out: &mut Text) {
        let name = "commit_seconds";
        out.head(
            name,
            "Time of one transaction with its sync, which many writes share.",
            "histogram",
        );
        let mut count = 0;
        for (bucket, counter) in self.commits.iter().enumerate() {
            count += counter.get();
            let end = BUCKETS.get(bucket).copied().map(Seconds);
            let end = end.map_or("+Inf".to_owned(), |end| end.to_string());
            let label = format!("{{le=\"{end}\"}}");
            out.sample("commit_seconds_bucket", &label, count);
        }
        out.sample("commit_seconds_sum", "", Seconds(self.commit_us.get()));
        out.sample("commit_seconds_count", "", count);
    }
}

/// Microseconds, written as decimal seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            self.0,
            "# HELP hostchat_relay_{name} {help}\n# TYPE hostchat_relay_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "hostchat_relay_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, help, "gauge");
        self.sample(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_place() {
        for (place, (reason, _)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
        let metrics = Metrics::default();
        metrics.refused(Reason::Timeout);
        assert_eq!(metrics.refusals[15].get(), 1);
    }

    #[test]
    fn a_commit_counts_in_every_bucket_that_holds_it() {
        let metrics = Metrics::default();
        for us in [250, 251, 3_000_000, 60_000_000] {
            metrics.committed(Duration::from_micros(us));
        }
        let gauges = Gauges {
            connections: 3,
            logged_in: 2,
            waiting_writes: 1,
            disk_free: None,
            database_bytes: Some(4096),
            uptime_ms: 1_500,
        };
        let text = metrics.text(&gauges);
        for line in [
            "hostchat_relay_commit_seconds_bucket{le=\"0.000250\"} 1",
            "hostchat_relay_commit_seconds_bucket{le=\"0.000500\"} 2",
            "hostchat_relay_commit_seconds_bucket{le=\"2.000000\"} 2",
            "hostchat_relay_commit_seconds_bucket{le=\"10.000000\"} 3",
            "hostchat_relay_commit_seconds_bucket{le=\"+Inf\"} 4",
            "hostchat_relay_commit_seconds_sum 63.000501",
            "hostchat_relay_commit_seconds_count 4",
            "hostchat_relay_connections 3",
            "hostchat_relay_uptime_seconds 1.500000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("disk_free"));
    }
}
