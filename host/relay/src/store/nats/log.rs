//! The log of who wrote to whom, where the operator wants one: a stream of its own, one record an entry.
//!
//! ```text
//!   stream NAME-log, log_days     NAME.log.SENDER.RECEIVER.MAILBOX-MESSAGE-ID    kind, size
//!                                 NAME.log.OWNER.READER.MAKE-READER-HASH         kind, size of the blob
//! ```
//!
//! The servers delete each record when its time is over. An entry is written, once for each subject, **before** what it
//! tells of: nothing that happened is missing. Where the second write failed (the servers were full, this node died), the
//! entry stays, and is that of the message if its sender tries again.
//!
//! Entries are read from the newest back. Consumers go forward only, but tell when they are made how many records they
//! will deliver: so the place is looked for, by halves, from which on there are as many as are wanted.

use async_nats::HeaderMap;
use async_nats::jetstream::Message as Record;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use bytes::Bytes;
use futures_util::StreamExt as _;
use hostchat_core::wire::Name;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::super::log::{Filter, LogEntry, Logged, Position};
use super::super::{AccountId, NewMessage, ReaderHash, StoreError};
use super::blob_view::Known;
use super::feed::millis;
use super::link::{PATIENCE, PAUSE, TRY, failed};
use super::node::Node;
use super::record::{KIND, hex, number};

/// How long a server keeps a consumer that this node did not take back.
const INACTIVE: Duration = Duration::from_secs(5);
/// Of the body of a message, or of a blob.
const BYTES: &str = "Bytes";
/// From one place that is tried to the next one, while going back.
const STRIDE: u64 = 4;

impl Node {
    /// Whether a log is kept.
    pub(super) fn keeps_log(&self) -> bool {
        self.link.log.is_some()
    }

    /// Logs a message that is about to be stored.
    pub(super) async fn log_message(
        &self,
        mailbox: AccountId,
        new: &NewMessage,
    ) -> Result<(), StoreError> {
        let key = format!("{}-{}", mailbox.0, hex(&new.message_id.0));
        let (kind, bytes) = (Logged::Message(new.kind), new.body.len() as u64);
        self.log_entry(&new.sender_key, new.to.as_str(), &key, kind, bytes)
            .await
    }

    /// Logs that a reader, who is about to end, has fetched a blob.
    pub(super) async fn log_blob(
        &self,
        owner: &Name,
        who: &str,
        reader: &ReaderHash,
        known: &Known,
    ) -> Result<(), StoreError> {
        let key = format!("{}-{}", known.make, hex(reader));
        self.log_entry(owner.as_str(), who, &key, Logged::Blob, known.size)
            .await
    }

    pub(super) async fn log_entry(
        &self,
        sender: &str,
        receiver: &str,
        key: &str,
        kind: Logged,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let subjects = &self.link.subjects;
        let subject = subjects.log_entry(Some(sender), Some(receiver), key);
        let mut headers = HeaderMap::new();
        headers.insert(KIND, kind.number().to_string());
        headers.insert(BYTES, bytes.to_string());
        // Lost is what an earlier try has written.
        let put = self.link.put(subject, headers, Bytes::new(), Some(0));
        put.await.map(|_| ())
    }

    /// Up to `count` entries, newest first; asked for again while servers fail over.
    pub(super) async fn read_log(
        &self,
        filter: &Filter,
        count: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_read_log(filter, count).await {
                Err(StoreError::Unavailable(error)) if Instant::now() < deadline => {
                    tracing::debug!(?error, "the log is read again");
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn try_read_log(
        &self,
        filter: &Filter,
        count: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let Some(stream) = &self.link.log else {
            return Ok(Vec::new());
        };
        let state = stream.get_info().await.map_err(failed)?.state;
        let (mut begin, mut end) = (state.first_sequence.max(1), state.last_sequence + 1);
        if let Some(since) = filter.since {
            begin = begin.max(self.log_from(since).await?);
        }
        if let Some(until) = filter.until {
            end = end.min(self.log_from(until).await?);
        }
        if let Some(before) = filter.before {
            end = end.min(before.number);
        }
        if begin >= end || count == 0 {
            return Ok(Vec::new());
        }
        let wanted = LogReader {
            node: self,
            subject: self.link.subjects.log_entry(
                filter.sender.as_deref(),
                filter.receiver.as_deref(),
                "*",
            ),
        };
        let (from, found) = wanted.place(begin, end, count as u64).await?;
        let mut entries = wanted.read(from, end, found).await?;
        entries.reverse();
        entries.truncate(count);
        Ok(entries)
    }

    /// The first number at this time (milliseconds since 1970) or later, or one beyond the last.
    async fn log_from(&self, at: u64) -> Result<u64, StoreError> {
        // Servers count nanoseconds, until 2262.
        let nanoseconds = at
            .checked_mul(1_000_000)
            .filter(|at| *at <= i64::MAX as u64);
        let Some(nanoseconds) = nanoseconds else {
            return Ok(u64::MAX);
        };
        let start_time = async_nats::datetime::from_nanos(nanoseconds.into());
        let start_time = start_time.map_err(failed)?;
        let all = self.link.subjects.all_log();
        let policy = DeliverPolicy::ByStartTime { start_time };
        let consumer = self.log_consumer(all, policy).await?;
        let first = consumer.cached_info().delivered.stream_sequence + 1;
        self.end_log_consumer(consumer).await;
        Ok(first)
    }

    async fn log_consumer(
        &self,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<PullConsumer, StoreError> {
        let stream = self.link.log.as_ref().ok_or(StoreError::Closed)?;
        let config = pull::Config {
            deliver_policy,
            filter_subject,
            ack_policy: AckPolicy::None,
            num_replicas: 1,
            memory_storage: true,
            inactive_threshold: INACTIVE,
            ..pull::Config::default()
        };
        let made = timeout(TRY, stream.create_consumer(config)).await;
        made.map_err(failed)?.map_err(failed)
    }

    /// It would end by itself; many may be made for one page.
    async fn end_log_consumer(&self, consumer: PullConsumer) {
        if let Some(stream) = &self.link.log {
            let _ = stream.delete_consumer(&consumer.cached_info().name).await;
        }
    }
}

/// Reads the entries of one subject.
struct LogReader<'n> {
    node: &'n Node,
    subject: String,
}

impl LogReader<'_> {
    async fn consumer(&self, start_sequence: u64) -> Result<PullConsumer, StoreError> {
        let policy = DeliverPolicy::ByStartSequence { start_sequence };
        self.node.log_consumer(self.subject.clone(), policy).await
    }

    /// How many entries there are from this number on.
    async fn count_from(&self, number: u64) -> Result<u64, StoreError> {
        let consumer = self.consumer(number).await?;
        let count = consumer.cached_info().num_pending;
        self.node.end_log_consumer(consumer).await;
        Ok(count)
    }

    /// A place between `begin` and `end` with `count` entries between it and `end`, or up to twice as many, and how many
    /// these are; `begin` if there are fewer.
    async fn place(&self, begin: u64, end: u64, count: u64) -> Result<(u64, u64), StoreError> {
        let beyond = self.count_from(end).await?;
        // Too few from `high` on, enough from `low` on.
        let (mut low, mut high, mut step) = (end, end, count);
        let mut found = 0;
        while found < count && low > begin {
            high = low;
            low = end.saturating_sub(step).max(begin);
            step = step.saturating_mul(STRIDE);
            found = self.count_from(low).await?.saturating_sub(beyond);
        }
        while found > 2 * count && high - low > 1 {
            let middle = low + (high - low) / 2;
            let there = self.count_from(middle).await?.saturating_sub(beyond);
            if there < count {
                high = middle;
            } else {
                (low, found) = (middle, there);
            }
        }
        Ok((low, found))
    }

    /// The entries from `from` to before `end`, of which there are `count`, in order. `Unavailable` if some do not come: a
    /// server failed, or their time was over just now.
    async fn read(&self, from: u64, end: u64, count: u64) -> Result<Vec<LogEntry>, StoreError> {
        let mut entries = Vec::new();
        if count == 0 {
            return Ok(entries);
        }
        let consumer = self.consumer(from).await?;
        let batch = consumer.fetch().max_messages(count as usize).expires(TRY);
        let mut records = batch.messages().await.map_err(failed)?;
        let mut missing = count;
        while let Some(record) = records.next().await {
            let record = record.map_err(failed)?;
            let number = record.info().map_err(failed)?.stream_sequence;
            if number >= end {
                // That came meanwhile, after all those.
                missing = 0;
                break;
            }
            missing = missing.saturating_sub(1);
            match self.entry(&record) {
                Some(entry) => entries.push(entry),
                None => {
                    tracing::warn!(subject = ?record.subject.as_str(), "an entry that is not a relay's");
                }
            }
        }
        drop(records);
        self.node.end_log_consumer(consumer).await;
        if missing > 0 {
            let error = format!("{missing} of {count} entries did not come");
            return Err(StoreError::Unavailable(error));
        }
        Ok(entries)
    }

    fn entry(&self, record: &Record) -> Option<LogEntry> {
        let (sender, receiver) = self.node.link.subjects.read_log(&record.subject)?;
        let headers = record.headers.as_ref()?;
        let info = record.info().ok()?;
        Some(LogEntry {
            position: Position {
                at: millis(info.published.unix_timestamp_nanos()),
                number: info.stream_sequence,
            },
            sender,
            receiver,
            kind: Logged::from(number(headers, KIND)?)?,
            bytes: number(headers, BYTES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Subjects;

    #[test]
    fn subjects_of_entries_come_back_and_filters_name_parts_of_them() {
        let subjects = Subjects::new("hostchat");
        let guest = "bob@[::1]:7";
        let subject = subjects.log_entry(Some("alice.b"), Some(guest), "1-00ff");
        assert_eq!(
            subjects.read_log(&subject),
            Some(("alice.b".to_owned(), guest.to_owned()))
        );
        assert_eq!(
            subjects.log_entry(None, Some("bob"), "*"),
            "hostchat.log.*.bob.*"
        );
        for wrong in [
            "hostchat.log.a",
            "hostchat.mail.a.b.c",
            "hostchat.log.X.b.c",
        ] {
            assert_eq!(subjects.read_log(wrong), None, "{wrong}");
        }
    }
}
