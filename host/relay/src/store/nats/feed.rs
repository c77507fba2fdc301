//! Following a stream: every record once, in order, from the beginning; begun anew where it broke off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::message::Message as Record;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::super::StoreError;
use super::link::{LEAVE, Link, Put, Which, failed, unavailable};

/// How often a server says that it is there while nothing happens.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Silence after which a consumer is given up and made anew.
const SILENCE: Duration = Duration::from_millis(1_200);
/// Longest time in which what this node wrote comes back to it, before its consumer is given up.
const BEHIND: Duration = Duration::from_millis(1_500);
/// How long a server keeps a consumer that nobody listens to.
const INACTIVE: Duration = Duration::from_secs(10);
/// Between two attempts to make a consumer.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time without any progress that somebody waits for a record.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time that a node believes a stream in which nothing happens, before it writes a mark to see.
const DOUBT: Duration = Duration::from_secs(10);
/// Records before the end of the stream from which on a first consumer's gaps are looked into as well.
const NEAR: u64 = 256;
/// Most readers that wait for one mark; the next ones wait for room.
const READERS: usize = 1024;
/// The server asks for a sign that what it sent has arrived.
const STALLED: &str = "Nats-Consumer-Stalled";

/// How far a node has followed a stream.
pub(super) struct Feed {
    pub(super) which: Which,
    applied: watch::Sender<u64>,
    /// The highest record that this node wrote.
    wanted: AtomicU64,
    /// Whether bodies come along.
    bodies: watch::Sender<bool>,
    marks: mpsc::Sender<oneshot::Sender<Result<(), StoreError>>>,
}

/// What a node does with each record: number, time by the servers' clock (milliseconds since 1970), subject, headers,
/// body.
pub(super) type Apply = Box<dyn Fn(u64, u64, &str, &HeaderMap, Bytes) + Send + Sync>;

impl Feed {
    /// Starts to follow; the tasks end when `tasks` is dropped.
    pub(super) fn start(
        link: Arc<Link>,
        which: Which,
        apply: Apply,
        tasks: &mut tokio::task::JoinSet<()>,
    ) -> Arc<Self> {
        let (marks, waiting) = mpsc::channel(READERS);
        let feed = Arc::new(Self {
            which,
            applied: watch::Sender::new(0),
            wanted: AtomicU64::new(0),
            bodies: watch::Sender::new(false),
            marks,
        });
        tasks.spawn(mark(Arc::clone(&link), Arc::clone(&feed), waiting));
        tasks.spawn(follow(link, Arc::clone(&feed), apply));
        feed
    }

    /// Takes bodies along from now on: before there are receivers, headers suffice. No record is applied without one after
    /// this.
    pub(super) fn with_bodies(&self) {
        self.bodies.send_replace(true);
    }

    /// The last record that is known here.
    pub(super) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until a record that this node wrote has come back.
    pub(super) async fn reached(&self, number: u64) -> Result<(), StoreError> {
        self.wanted.fetch_max(number, Ordering::Relaxed);
        let mut applied = self.applied.subscribe();
        // A first start has a long way to go: what counts is that it goes on.
        while *applied.borrow_and_update() < number {
            match timeout(PATIENCE, applied.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(unavailable("the stream cannot be followed")),
            }
        }
        Ok(())
    }

    /// Waits until everything that any node has been told is written is known here.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let (done, result) = oneshot::channel();
        let sent = self.marks.send(done).await;
        sent.map_err(|_| StoreError::Closed)?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Writes a mark for everybody who waits by then: when it comes back, so has all that was written before. Also without
/// anybody, now and then: a replica that is left behind looks like a stream in which nothing happens.
async fn mark(
    link: Arc<Link>,
    feed: Arc<Feed>,
    mut waiting: mpsc::Receiver<oneshot::Sender<Result<(), StoreError>>>,
) {
    let subject = match feed.which {
        Which::Mail => link.subjects.mail_mark(),
        Which::Book => link.subjects.book_mark(),
        Which::Blobs => link.subjects.blob_mark(),
    };
    let mut readers = Vec::new();
    loop {
        let applied = feed.applied();
        match timeout(DOUBT, waiting.recv_many(&mut readers, READERS)).await {
            Ok(0) => return,
            Err(_) if feed.applied() > applied => continue,
            Ok(_) | Err(_) => {}
        }
        let put = link.put(subject.clone(), HeaderMap::new(), Bytes::new(), None);
        let result = match put.await {
            Ok(Put::Done(number)) => feed.reached(number).await,
            Ok(Put::Lost) => Err(unavailable("a mark was refused")),
            Err(error) => Err(error),
        };
        for reader in readers.drain(..) {
            // Whoever asked may have gone.
            let _ = reader.send(result.clone());
        }
    }
}

/// A server may write what it is given and deliver nothing: one that lost its connection to the server of each consumer. So it
/// is left when no consumer delivers a record, or lasts, for [`LEAVE`].
async fn follow(link: Arc<Link>, feed: Arc<Feed>, apply: Apply) {
    let mut failing = None;
    loop {
        let (applied, start) = (feed.applied(), Instant::now());
        let Err(error) = follow_once(&link, &feed, &apply).await else {
            continue;
        };
        tracing::debug!(stream = ?feed.which, %error, "followed anew");
        let worked = feed.applied() > applied || start.elapsed() >= LEAVE;
        let since = failing.get_or_insert(start);
        if worked {
            failing = None;
        } else if since.elapsed() >= LEAVE {
            failing = None;
            link.leave().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows with one consumer until it breaks, or until bodies are wanted that it does not deliver.
async fn follow_once(link: &Link, feed: &Feed, apply: &Apply) -> Result<(), StoreError> {
    let mut bodies = feed.bodies.subscribe();
    let headers_only = !*bodies.borrow_and_update();
    let subject = link.client.new_inbox();
    let mut records = link
        .client
        .subscribe(subject.clone())
        .await
        .map_err(failed)?;
    let start_sequence = *feed.applied.borrow() + 1;
    let config = push::Config {
        deliver_subject: subject,
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        headers_only,
        num_replicas: 1,
        memory_storage: true,
        inactive_threshold: INACTIVE,
        ..push::Config::default()
    };
    let made = link.stream(feed.which).create_consumer(config);
    let made = timeout(BEHIND, made).await.map_err(failed)?;
    made.map_err(failed)?;
    let (mut delivered, mut behind) = (0, None);
    loop {
        let record = tokio::select! {
            biased;
            _ = bodies.changed() => return Ok(()),
            record = timeout(SILENCE, records.next()) => record,
        };
        let record = record.map_err(|_| unavailable("silence"))?;
        let record = record.ok_or(StoreError::Closed)?;
        if record.status.is_some() {
            let stalled = record.headers.as_ref().and_then(|h| h.get(STALLED));
            let answer = record.reply.map(|reply| reply.to_string());
            if let Some(to) = answer.or(stalled.map(|to| to.as_str().to_owned())) {
                link.client
                    .publish(to, Bytes::new())
                    .await
                    .map_err(failed)?;
            }
            // Servers that fail over may forget to deliver; what this node wrote must come back.
            let applied = *feed.applied.borrow();
            if feed.wanted.load(Ordering::Relaxed) <= applied {
                behind = None;
            } else if behind.get_or_insert_with(Instant::now).elapsed() > BEHIND {
                return Err(unavailable("behind"));
            }
            continue;
        }
        let record = Record {
            context: link.context(),
            message: record,
        };
        let info = record.info().map_err(failed)?;
        delivered += 1;
        if info.consumer_sequence != delivered {
            return Err(unavailable("a gap"));
        }
        let number = info.stream_sequence;
        if headers_only && *feed.bodies.borrow() {
            return Ok(());
        }
        if start_sequence > 1 || info.pending < NEAR {
            fill(link, feed, apply, number).await?;
        }
        if number > feed.applied() {
            let none = HeaderMap::new();
            let headers = record.message.headers.as_ref().unwrap_or(&none);
            let body = record.message.payload.clone();
            let time = millis(info.published.unix_timestamp_nanos());
            apply(number, time, &record.message.subject, headers, body);
            feed.applied.send_replace(number);
            behind = None;
        }
    }
}

/// Takes what lies before `until` and was not delivered: numbers are left out where a record was replaced, but a consumer
/// on a replica that was cut off may also begin after records that its replica had not yet (seen with 2.9).
async fn fill(link: &Link, feed: &Feed, apply: &Apply, until: u64) -> Result<(), StoreError> {
    while feed.applied() + 1 < until {
        let Some(record) = link.next(feed.which, feed.applied() + 1).await? else {
            // Not even the record that was delivered: this is one that was the leader before it was cut off.
            return Err(unavailable("the leader knows less than its replica"));
        };
        if record.sequence >= until {
            return Ok(());
        }
        tracing::warn!(stream = ?feed.which, number = record.sequence, "the server left out a record");
        apply(
            record.sequence,
            millis(record.time.unix_timestamp_nanos()),
            &record.subject,
            &record.headers,
            record.payload,
        );
        feed.applied.send_replace(record.sequence);
    }
    Ok(())
}

/// Milliseconds since 1970, of nanoseconds.
pub(super) fn millis(nanoseconds: i128) -> u64 {
    u64::try_from(nanoseconds / 1_000_000).unwrap_or(0)
}
