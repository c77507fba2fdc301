//! The connection to the servers: the streams, writes that are compared with what was there, reads of one body.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, LastRawMessageError, LastRawMessageErrorKind,
    RetentionPolicy, Stream,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, HeaderMap, ReconnectToServer};
use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep};

use super::super::StoreError;
use super::Options;
use super::choice::Choice;
use super::record::{Subjects, check_name, is_gone};
use crate::words;

/// Longest time that a read or a write is tried again while servers fail over.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time of one try: a replicated write takes milliseconds, an election a second or two.
pub(super) const TRY: Duration = Duration::from_secs(2);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// A server that fails for so long may be cut off from the others, but not from this node: another one is asked. Some
/// elections take longer, but then it costs nothing.
pub(super) const LEAVE: Duration = Duration::from_secs(4);
/// Between two attempts to connect again, times the number of attempts, up to ten.
const RECONNECT: Duration = Duration::from_millis(50);
/// Compares the revision of a subject with what the writer has seen.
const EXPECT: &str = "Nats-Expected-Last-Subject-Sequence";

/// Where the servers are: `[nats]` in relay.toml.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// `nats://host:port` or `tls://host:port`, the same for all of them. No others are used, whatever these name.
    pub servers: Vec<String>,
    /// Credentials file (JWT and nkey), if they ask for one.
    pub credentials: Option<PathBuf>,
    /// PEM certificates of their authority, if it is not one of the system's; with it, TLS is required.
    pub ca: Option<PathBuf>,
    /// Copies of everything: 1, 3 or 5, at most as many as there are servers.
    #[serde(default = "one")]
    pub replicas: usize,
    /// Begins the names of the streams, so that several relays can share the servers.
    #[serde(default = "usual_name")]
    pub name: String,
}

fn one() -> usize {
    1
}

fn usual_name() -> String {
    "hostchat".to_owned()
}

impl Servers {
    /// Whether every connection must be TLS: where an authority is named, or servers begin with `tls://`.
    ///
    /// # Errors
    /// What is wrong with the list: no servers, or not all of one kind.
    pub fn require_tls(&self) -> Result<bool, String> {
        let scheme = |server: &String| {
            server
                .split_once("://")
                .map(|(scheme, _)| scheme.to_owned())
        };
        let schemes: Option<Vec<String>> = self.servers.iter().map(scheme).collect();
        let schemes = schemes.unwrap_or_default();
        let all = |wanted: &str| schemes.iter().all(|scheme| scheme == wanted);
        // Neither a password nor anything else of an address is repeated here: it may end in a log.
        match schemes.first().map(String::as_str) {
            None => Err("[nats] servers needs nats://host:port or tls://host:port of each server".to_owned()),
            Some("tls") if all("tls") => Ok(true),
            Some("nats") if all("nats") => Ok(self.ca.is_some()),
            Some("nats" | "tls") => Err(
                "[nats] servers begin differently: begin all of them with tls:// for TLS, or all with nats://"
                    .to_owned(),
            ),
            Some(_) => Err("[nats] servers begin with nats:// or tls://".to_owned()),
        }
    }

    /// Whether somebody between this machine and the servers could read and change everything.
    fn is_exposed(&self) -> bool {
        let is_local = |server: &String| {
            let address = server.parse::<async_nats::ServerAddr>();
            address.is_ok_and(|address| {
                let ip = address.host().parse::<std::net::IpAddr>();
                address.host() == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            })
        };
        !self.servers.iter().all(is_local)
    }
}

/// What came of a compared write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Written, with this revision.
    Done(u64),
    /// Something else was there; nothing was written, or an earlier try of this very write was.
    Lost,
}

/// One of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Mail,
    Book,
    Blobs,
}

pub(super) struct Link {
    pub(super) client: Client,
    pub(super) subjects: Subjects,
    /// Of this process, for its marks.
    pub(super) node: String,
    pub(super) name: String,
    replicas: usize,
    context: Context,
    mail: Stream,
    book: Stream,
    blobs: Stream,
    /// Where a log is kept.
    pub(super) log: Option<Stream>,
    /// The first failure since a write was done, or since this server was chosen for failures of another one.
    failing: Mutex<Option<Instant>>,
}

impl Link {
    /// Connects and makes the streams if there are none; of the log as [`Options::log_ms`] says.
    pub(super) async fn connect(options: &Options) -> Result<Self, StoreError> {
        let Options {
            servers,
            limits,
            log_ms,
            ..
        } = options;
        check_name(&servers.name)?;
        if !matches!(servers.replicas, 1 | 3 | 5) || servers.servers.is_empty() {
            let why = "[nats] needs servers, and 1, 3 or 5 replicas";
            return Err(StoreError::Other(why.to_owned()));
        }
        let tls = servers.require_tls().map_err(StoreError::Other)?;
        if !tls && servers.is_exposed() {
            tracing::warn!(
                "NATS without TLS: anyone on the way to the servers can read and change what the relay keeps there"
            );
        }
        let choice = Arc::new(Choice::default());
        let mut connect = ConnectOptions::new()
            .name("hostchat-relay")
            .reconnect_to_server_callback(move |pool, _| {
                let addr = choice.next(&pool);
                async move { addr.map(|addr| ReconnectToServer { addr, delay: None }) }
            })
            .require_tls(tls)
            // They would be taken without TLS, and nobody vouches for them.
            .ignore_discovered_servers()
            .connection_timeout(TRY)
            .ping_interval(TRY)
            .request_timeout(Some(TRY))
            .reconnect_delay_callback(|attempts| {
                RECONNECT * u32::try_from(attempts.min(10)).unwrap_or(10)
            })
            .event_callback(|event| async move {
                tracing::info!(event = ?event.to_string(), "NATS");
            });
        if let Some(ca) = &servers.ca {
            connect = connect.add_root_certificates(ca.clone());
        }
        if let Some(path) = &servers.credentials {
            let opened = connect.credentials_file(path).await;
            connect = opened.map_err(|why| {
                StoreError::Other(format!("{}: {}", path.display(), words::io(&why)))
            })?;
        }
        let client = connect
            .connect(servers.servers.as_slice())
            .await
            .map_err(|error| match (tls, error.kind()) {
                // A server that speaks no TLS answers with something else.
                (true, ConnectErrorKind::Tls | ConnectErrorKind::Io) => unavailable(format!(
                    "{}; TLS is required, since relay.toml names `ca` or tls:// servers",
                    words::nats_connect(&error)
                )),
                _ => unavailable(words::nats_connect(&error)),
            })?;
        let context = jetstream::ContextBuilder::new()
            .timeout(TRY)
            .ack_timeout(TRY)
            .build(client.clone());
        let subjects = Subjects::new(&servers.name);
        let config = |name: String, subject| StreamConfig {
            name,
            subjects: vec![subject],
            num_replicas: servers.replicas,
            max_messages_per_subject: 1,
            retention: RetentionPolicy::Limits,
            // As a key-value bucket: a full stream refuses, it never forgets what is oldest.
            discard: DiscardPolicy::New,
            allow_direct: true,
            ..StreamConfig::default()
        };
        // Not zero, which would mean for ever.
        let age = |ms: u64| Duration::from_millis(ms.max(1_000));
        let mail = StreamConfig {
            max_age: age(limits.message_ms()),
            ..config(format!("{}-mail", servers.name), subjects.all_mail())
        };
        let book = config(format!("KV_{}-book", servers.name), subjects.all_book());
        let blobs = StreamConfig {
            max_age: age(limits.blob_ms()),
            ..config(format!("{}-blobs", servers.name), subjects.all_blobs())
        };
        let log = format!("{}-log", servers.name);
        let log = match *log_ms {
            None => None,
            Some(0) => {
                empty(&context, &log).await?;
                None
            }
            Some(ms) => {
                let log = StreamConfig {
                    max_age: age(ms),
                    ..config(log, subjects.all_log())
                };
                Some(make(&context, log).await?)
            }
        };
        let mut node = [0; 8];
        getrandom::fill(&mut node).map_err(|error| StoreError::Other(error.to_string()))?;
        Ok(Self {
            mail: make(&context, mail).await?,
            book: make(&context, book).await?,
            blobs: make(&context, blobs).await?,
            log,
            name: servers.name.clone(),
            replicas: servers.replicas,
            node: super::record::hex(&node),
            client,
            context,
            subjects,
            failing: Mutex::new(None),
        })
    }

    pub(super) fn context(&self) -> Context {
        self.context.clone()
    }

    pub(super) fn stream(&self, which: Which) -> &Stream {
        match which {
            Which::Mail => &self.mail,
            Which::Book => &self.book,
            Which::Blobs => &self.blobs,
        }
    }

    /// What `stored` promises with the server that this node speaks to.
    pub(super) fn promise(&self) -> String {
        let version = self.client.server_info().version;
        let copies = match self.replicas {
            1 => "one server has written it".to_owned(),
            n => format!("{} of {n} servers have written it", n / 2 + 1),
        };
        let mut promise = format!("nats-server {version}: stored means that {copies}; ");
        promise += if self.is_new() {
            "it is synced to disk before only with `sync_interval: always` in the servers' configuration, which a relay cannot see"
        } else {
            "it is NOT synced to disk before, which needs 2.10 or later: power lost at all of these at once loses up to two minutes"
        };
        if !self.is_safe_in_a_partition() {
            promise += ". USE 2.10 OR LATER: a server of this version that is cut off from the others may lose what is stored";
        }
        promise
    }

    fn is_new(&self) -> bool {
        self.client.is_server_compatible(2, 10, 0)
    }

    /// Of several servers before 2.10, one that is cut off in the middle of an election comes back with records left out, or
    /// numbered differently than the others have them (seen with 2.9.10).
    pub(super) fn is_safe_in_a_partition(&self) -> bool {
        self.replicas == 1 || self.is_new()
    }

    /// Writes a record. With `expect`, only if the subject's last revision is that one (0: there is none).
    ///
    /// A try whose answer was lost may have been done: the next one is then [`Put::Lost`].
    pub(super) async fn put(
        &self,
        subject: String,
        mut headers: HeaderMap,
        body: Bytes,
        expect: Option<u64>,
    ) -> Result<Put, StoreError> {
        if let Some(expect) = expect {
            headers.insert(EXPECT, expect.to_string());
        }
        let deadline = Instant::now() + PATIENCE;
        let mut again = false;
        loop {
            // Repeats are found by this look, so that fewer comparisons fail: servers before 2.10 lose count when one does in
            // the middle of an election. The comparison is for those who write at the same time.
            if let Some(expect) = expect.filter(|expect| again || *expect == 0)
                && self.last(&subject).await?.map_or(0, |last| last.sequence) != expect
            {
                return Ok(Put::Lost);
            }
            again = true;
            let publish = PublishMessage::build()
                .headers(headers.clone())
                .payload(body.clone());
            let sent = self.context.send_publish(subject.clone(), publish).await;
            let error = match sent {
                Ok(ack) => match ack.await {
                    Ok(ack) => {
                        *crate::lock(&self.failing) = None;
                        return Ok(Put::Done(ack.sequence));
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match error.kind() {
                PublishErrorKind::WrongLastSequence => return Ok(Put::Lost),
                PublishErrorKind::MaxPayloadExceeded => {
                    return Err(StoreError::Other(
                        "a message is larger than the servers take".to_owned(),
                    ));
                }
                _ if is_full(&error) => return Err(StoreError::Full),
                _ if Instant::now() >= deadline => return Err(failed(error)),
                _ => tracing::debug!(error = ?error.to_string(), "a write is tried again"),
            }
            self.leave_if_it_fails().await;
            sleep(PAUSE).await;
        }
    }

    /// The body of a record that does not stand for something deleted, if it is still there.
    ///
    /// `number` says where it was seen. Any replica may answer, also one that is behind: what it has there must be of this
    /// subject, and the leader is asked otherwise.
    pub(super) async fn body(
        &self,
        subject: &str,
        number: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let stream = self.stream_of(subject);
        if let Ok(message) = stream.direct_get(number).await
            && *message.subject == *subject
            && !is_gone(&message.headers)
        {
            return Ok(Some(message.payload));
        }
        let last = self.last(subject).await?;
        Ok(last
            .filter(|message| !is_gone(&message.headers))
            .map(|message| message.payload))
    }

    /// The last record of a subject, as the leader knows it.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<StreamMessage>, StoreError> {
        let stream = self.stream_of(subject);
        self.ask_leader(|| stream.get_last_raw_message_by_subject(subject))
            .await
    }

    /// The first record from `number` on, as the leader knows it.
    pub(super) async fn next(
        &self,
        which: Which,
        number: u64,
    ) -> Result<Option<StreamMessage>, StoreError> {
        let stream = self.stream(which);
        self.ask_leader(|| stream.get_first_raw_message_by_subject(">", number))
            .await
    }

    /// Asks the leader for a record, again while servers fail over.
    async fn ask_leader<F>(&self, ask: impl Fn() -> F) -> Result<Option<StreamMessage>, StoreError>
    where
        F: Future<Output = Result<StreamMessage, LastRawMessageError>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match ask().await {
                Ok(message) => return Ok(Some(message)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    return Ok(None);
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(failed(error));
                }
                Err(_) => {}
            }
            self.leave_if_it_fails().await;
            sleep(PAUSE).await;
        }
    }

    /// Called when something failed; connects to another server when no write was done for [`LEAVE`].
    /// That something is read means nothing: a leader that is cut off reads what it has.
    async fn leave_if_it_fails(&self) {
        let leave = {
            let mut failing = crate::lock(&self.failing);
            let since = failing.get_or_insert_with(Instant::now);
            let leave = since.elapsed() >= LEAVE;
            if leave {
                *since = Instant::now();
            }
            leave
        };
        if leave {
            self.leave().await;
        }
    }

    /// Connects to another server, or to the same one where no other can be reached.
    pub(super) async fn leave(&self) {
        tracing::warn!("NATS fails: another server is asked");
        // What fails here is that the client has ended.
        let _ = self.client.force_reconnect().await;
    }

    fn stream_of(&self, subject: &str) -> &Stream {
        if self.subjects.is_mail(subject) {
            &self.mail
        } else if self.subjects.is_blob(subject) {
            &self.blobs
        } else if let (true, Some(log)) = (self.subjects.is_log(subject), &self.log) {
            log
        } else {
            &self.book
        }
    }

    /// Makes numbers of messages begin at `number`, in a stream that holds nothing.
    pub(super) async fn skip_to(&self, number: u64) -> Result<(), StoreError> {
        let skipped = self.mail.purge().sequence(number).await;
        skipped.map_err(failed)?;
        let mark = self.subjects.mail_mark();
        match self.put(mark, HeaderMap::new(), Bytes::new(), None).await? {
            Put::Done(next) if next >= number => Ok(()),
            _ => Err(StoreError::Other(
                "this server cannot begin with a given number".to_owned(),
            )),
        }
    }

    /// Deletes everything under a filter.
    pub(super) async fn purge(&self, which: Which, filter: String) -> Result<(), StoreError> {
        let stream = self.stream(which);
        let purge = || stream.purge().filter(filter.clone()).into_future();
        try_purge(purge).await
    }

    /// Deletes the record of a subject of the book, unless there is a later one than this.
    pub(super) async fn purge_book_until(
        &self,
        subject: String,
        revision: u64,
    ) -> Result<(), StoreError> {
        let stream = self.stream(Which::Book);
        let purge = || {
            let purge = stream.purge().filter(subject.clone());
            // Up to the one before this.
            purge.sequence(revision.saturating_add(1)).into_future()
        };
        try_purge(purge).await
    }
}

/// Purges, again while servers fail over.
async fn try_purge<T, E: Into<BoxError>, F: Future<Output = Result<T, E>>>(
    purge: impl Fn() -> F,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match purge().await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(failed(error));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Opens a stream, made or brought to what the configuration says.
async fn make(context: &Context, config: StreamConfig) -> Result<Stream, StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A cluster that has just started has no leader yet.
        let error = match context.get_or_create_stream(config.clone()).await {
            Ok(stream) => {
                let found = &stream.cached_info().config;
                if found.max_age == config.max_age && found.num_replicas == config.num_replicas {
                    return Ok(stream);
                }
                match context.update_stream(config.clone()).await {
                    Ok(_) => continue,
                    Err(error) => words::nats(&error),
                }
            }
            Err(error) => words::nats(&error),
        };
        if Instant::now() >= deadline {
            return Err(StoreError::Unavailable(format!(
                "the stream {} cannot be made: {error}",
                config.name
            )));
        }
        sleep(PAUSE * 4).await;
    }
}

/// Deletes everything in a stream that is there. Nodes that still write to it find it.
async fn empty(context: &Context, name: &str) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match context.get_stream(name).await {
            Ok(stream) => match stream.purge().await {
                Ok(_) => return Ok(()),
                Err(error) => words::nats(&error),
            },
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(answer)
                    if answer.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    return Ok(());
                }
                _ => words::nats(&error),
            },
        };
        if Instant::now() >= deadline {
            return Err(StoreError::Unavailable(format!(
                "the stream {name} cannot be emptied: {error}"
            )));
        }
        sleep(PAUSE * 4).await;
    }
}

/// As [`async_nats::Error`].
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the client of the servers says, in our words.
pub(super) fn failed(error: impl Into<BoxError>) -> StoreError {
    let error = error.into();
    unavailable(words::nats(&*error))
}

pub(super) fn unavailable(why: impl Into<String>) -> StoreError {
    StoreError::Unavailable(why.into())
}

/// Whether the servers have no room: of the account, of the stream, of the disk.
fn is_full(error: &jetstream::context::PublishError) -> bool {
    let source = std::error::Error::source(error);
    let answer = source.and_then(|source| source.downcast_ref::<jetstream::Error>());
    answer.is_some_and(|answer| {
        matches!(
            answer.error_code(),
            ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::STREAM_STORE_FAILED
                | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        )
    })
}
