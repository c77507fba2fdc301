//! The relay as a whole: what its connections share, the accept loop, the sweep, the end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hostchat_core::wire::RelayName;
use hostchat_core::wire::relay::{Reason, Refusal};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::clock::{self, Clock};
use crate::config::{Audit, Config, Registration, Storage};
use crate::connection;
use crate::error::Error;
use crate::history::{self, History};
use crate::hub::{Hub, Network};
use crate::limits::{
    BASE_MIB, CERTIFICATE_MS, Limits, NODE_SILENCE, NODE_WORD_MS, SHUTDOWN_MS, SWEEP_MS,
};
use crate::memory;
use crate::metrics::Metrics;
use crate::notices::{Notices, What};
use crate::operator;
use crate::rates::Rates;
use crate::store::nats::{self, Nats, Peers};
use crate::store::sqlite::{self, Sqlite};
use crate::store::{Outlet, Store, StoreError, Swept};
use crate::tls;
use crate::web::Web;
use crate::words;

/// Milliseconds to wait when the system has no descriptor for another connection.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What all connections share.
pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    /// The other nodes on the same store, where there may be any.
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) names: Vec<RelayName>,
    /// Host names of the operator's listener.
    pub(crate) operator_names: Vec<String>,
    pub(crate) registration: Registration,
    pub(crate) guests: bool,
    pub(crate) audit: Audit,
    pub(crate) limits: Limits,
    pub(crate) rates: Arc<Rates>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) notices: Notices,
    pub(crate) history: History,
    pub(crate) web: Web,
    pub(crate) tls: Arc<tls::Identity>,
    /// Uptime of the clock at the start.
    pub(crate) started_ms: u64,
    /// Set when the end begins.
    pub(crate) draining: AtomicBool,
}

impl Relay {
    /// What clients give to `--relay`, with the certificate that is shown now: `host:port#fingerprint`.
    pub(crate) fn address(&self) -> String {
        let name = self.names.first().map_or("", RelayName::as_str);
        format!("{name}#{}", self.tls.fingerprint())
    }

    /// What a client is told when the store fails.
    pub(crate) fn refusal(&self, error: &StoreError) -> Refusal {
        match error {
            StoreError::Full | StoreError::Unwritable => Refusal {
                reason: Reason::RelayFull,
                retry_after_ms: 60_000,
            },
            StoreError::Closed => Refusal {
                reason: Reason::ShuttingDown,
                retry_after_ms: 1_000,
            },
            StoreError::Unavailable(_) => Refusal {
                reason: Reason::Internal,
                retry_after_ms: 1_000,
            },
            _ => self.internal(error),
        }
    }

    /// As [`Relay::refusal`] for reads, which the log has not seen yet.
    pub(crate) fn internal(&self, error: &StoreError) -> Refusal {
        tracing::error!(%error, "the store failed");
        Refusal {
            reason: Reason::Internal,
            retry_after_ms: 10_000,
        }
    }

    /// Makes a refusal of the milliseconds that a bucket names.
    pub(crate) fn limited(&self) -> impl FnOnce(u32) -> Refusal + use<> {
        |retry_after_ms| Refusal {
            reason: Reason::RateLimited,
            retry_after_ms,
        }
    }
}

/// A relay that listens and has its store open, but accepts nobody yet.
pub struct Server {
    relay: Arc<Relay>,
    listener: TcpListener,
    operator: Option<TcpListener>,
    admin: Option<UnixListener>,
    acceptor: TlsAcceptor,
    reload: Reload,
}

/// Asks a running server to read its certificate again, without waiting for the files to look changed.
#[derive(Clone, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks; the log tells what came of it.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

impl Server {
    /// Opens the store and loads the certificate.
    ///
    /// # Errors
    /// `Certificate`, `Store`, or `Argument` if the relay has no name that could be dialled, or too little memory.
    pub async fn open(mut config: Config, listener: TcpListener) -> Result<Self, Error> {
        let bound = listener.local_addr()?;
        let mut names = std::mem::take(&mut config.names);
        if names.is_empty() {
            names.push(name_of(bound)?);
        }
        let tls = Arc::new(tls::Identity::load(&config.certificate, &config.key)?);
        let operator = config.operator.map(operator::listen).transpose()?;
        let metrics = Arc::new(Metrics::default());
        fit_into_memory(&mut config.limits, config.store)?;
        let rates = Arc::new(Rates::new(&config.limits));
        let hub = Arc::new(Hub::new(Arc::clone(&rates), Arc::clone(&config.clock)));
        let outlet: Arc<dyn Outlet> = Arc::clone(&hub) as _;
        let (store, peers) = open_store(&config, Arc::clone(&metrics), outlet).await?;
        // Last, when it is sure that no other relay has the folder; messages go on without it.
        let admin = admin::socket::listen(&config.admin)
            .map_err(|error| {
                let path = config.admin.display();
                let error = words::io(&error);
                tracing::warn!(%path, error, "no administration: the socket cannot be made");
            })
            .ok();
        if config.audit.log_days > 0 {
            let days = config.audit.log_days;
            tracing::info!(days, "keeping a log of who writes to whom");
        }
        let limits = config.limits;
        let relay = Relay {
            store,
            hub,
            peers,
            names,
            operator_names: config.operator_names,
            registration: config.registration,
            guests: config.guests,
            audit: config.audit,
            rates,
            limits,
            started_ms: config.clock.uptime_ms(),
            clock: config.clock,
            metrics,
            notices: Notices::default(),
            history: History::default(),
            web: Web::new(config.password),
            draining: AtomicBool::new(false),
            tls: Arc::clone(&tls),
        };
        Ok(Self {
            relay: Arc::new(relay),
            listener,
            operator,
            admin,
            acceptor: TlsAcceptor::from(tls.config()),
            reload: Reload::default(),
        })
    }

    /// Where the operator's listener listens, if there is one.
    #[must_use]
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.operator.as_ref().and_then(|o| o.local_addr().ok())
    }

    /// A handle by which the running server is asked to read its certificate again.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// What clients give to `--relay`: `host:port#fingerprint`.
    #[must_use]
    pub fn address(&self) -> String {
        self.relay.address()
    }

    /// Serves until `shutdown` completes, then ends in order: no new connections, everybody told, queued writes done,
    /// the log copied into the database.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let mut helpers = JoinSet::new();
        let sweep = tokio::spawn(sweep(Arc::clone(&self.relay)));
        if let Some(listener) = self.operator.take() {
            helpers.spawn(operator::serve(Arc::clone(&self.relay), listener));
            helpers.spawn(history::watch(Arc::clone(&self.relay)));
        }
        if let Some(listener) = self.admin.take() {
            helpers.spawn(admin::socket::serve(Arc::clone(&self.relay), listener));
        }
        helpers.spawn(tell_peers(Arc::clone(&self.relay)));
        let clock = Arc::clone(&self.relay.clock);
        helpers.spawn(watch(
            Arc::clone(&self.relay.tls),
            clock,
            self.reload.clone(),
        ));
        tokio::select! {
            () = shutdown => {}
            () = accept(&self, &mut tasks) => {}
        }
        let Self {
            relay, listener, ..
        } = self;
        drop(listener);
        relay.draining.store(true, Ordering::Relaxed);
        sweep.abort();
        // Not of `tasks`, where one that has ended stays until the next comes.
        let (connections, _) = relay.hub.count();
        tracing::info!(connections, "shutting down");
        relay.hub.close_all(Refusal {
            reason: Reason::ShuttingDown,
            retry_after_ms: 1_000,
        });
        let ended = async { while tasks.join_next().await.is_some() {} };
        clock::timeout(&*relay.clock, SHUTDOWN_MS, ended).await;
        tasks.shutdown().await;
        if let Some(peers) = &relay.peers {
            peers.sees(Vec::new()).await;
        }
        relay.store.close().await;
        // The operator was answered to the end.
        helpers.shutdown().await;
        tracing::info!("stopped");
    }
}

/// Serves on `listener` until `shutdown` completes.
///
/// # Errors
/// As [`Server::open`].
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    Server::open(config, listener).await?.run(shutdown).await;
    Ok(())
}

/// Opens what the configuration says.
async fn open_store(
    config: &Config,
    metrics: Arc<Metrics>,
    outlet: Arc<dyn Outlet>,
) -> Result<(Arc<dyn Store>, Option<Arc<Peers>>), Error> {
    let clock = Arc::clone(&config.clock);
    let limits = config.limits.clone();
    match (config.store, &config.nats) {
        (Storage::Nats, Some(servers)) => {
            let options = nats::Options {
                servers: servers.clone(),
                limits,
                clock,
                metrics,
                log_ms: Some(config.audit.log_ms()),
                remember: false,
            };
            let store = Nats::open(options, outlet).await.map_err(Error::Nats)?;
            let peers = store.peers();
            Ok((Arc::new(store), Some(peers)))
        }
        _ => {
            let options = sqlite::Options {
                path: config.database.clone(),
                limits,
                log_ms: config.audit.log_ms(),
                clock,
                metrics,
                danger_synchronous_off: config.danger_synchronous_off,
            };
            let store = Sqlite::open(options, outlet).map_err(|source| Error::Store {
                path: config.database.clone(),
                source,
            })?;
            Ok((Arc::new(store), None))
        }
    }
}

/// Tells the other nodes whom this one sees and what was taken of rates here, and forgets those that no longer say anything.
async fn tell_peers(relay: Arc<Relay>) {
    let Some(peers) = &relay.peers else {
        return;
    };
    loop {
        peers.spent(relay.rates.spent()).await;
        peers.sees(relay.hub.seen_here()).await;
        relay.hub.forget_silent(NODE_SILENCE);
        let next = relay.clock.uptime_ms() + NODE_WORD_MS;
        relay.clock.sleep_until(next).await;
    }
}

async fn accept(server: &Server, tasks: &mut JoinSet<()>) {
    let relay = &server.relay;
    let mut starved = false;
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, peer) = match server.listener.accept().await {
            Ok(accepted) => {
                starved = false;
                accepted
            }
            Err(error) => {
                // Once, not ten times a second: no descriptors are left, or a client went before it was accepted.
                if !std::mem::replace(&mut starved, true) {
                    tracing::warn!(error = words::io(&error), "cannot accept");
                }
                let pause = relay.clock.uptime_ms() + ACCEPT_PAUSE_MS;
                relay.clock.sleep_until(pause).await;
                continue;
            }
        };
        admit(server, tasks, stream, peer);
    }
}

/// Seats a connection or drops it: a refusal in words would cost a TLS handshake, which is what a flood wants.
fn admit(server: &Server, tasks: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
    let relay = &server.relay;
    let network = Network::from(peer.ip());
    let now = relay.clock.uptime_ms();
    if relay.rates.connects.take(network, now).is_err() {
        turn_away(relay, peer, Reason::RateLimited);
        return;
    }
    let limits = &relay.limits;
    let seat = relay
        .hub
        .enter(network, limits.connections, limits.connections_per_address);
    let Some(seat) = seat else {
        turn_away(relay, peer, Reason::TooManyConnections);
        return;
    };
    relay.metrics.accepted.add(1);
    // Replies are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let (relay, acceptor) = (Arc::clone(relay), server.acceptor.clone());
    tasks.spawn(connection::serve(relay, acceptor, stream, network, seat));
}

/// Counts a connection that is dropped, and says so. Whose it was stands in the log only where it is asked for.
fn turn_away(relay: &Relay, peer: SocketAddr, reason: Reason) {
    relay.metrics.turned_away.add(1);
    tracing::debug!(%peer, ?reason, "a connection is turned away");
    let now = relay.clock.uptime_ms();
    if let Some(unlogged) = relay.notices.take(What::Connection, reason, now) {
        tracing::info!(
            ?reason,
            unlogged,
            "limit reached: a connection is turned away"
        );
    }
}

/// Deletes what has expired, in small steps.
async fn sweep(relay: Arc<Relay>) {
    loop {
        loop {
            match relay.store.sweep().await.await {
                Ok(Swept { rows: 0, .. }) => break,
                Ok(Swept {
                    messages,
                    blobs,
                    rows,
                }) => {
                    relay.metrics.expired.add(messages as u64);
                    relay.metrics.blobs_expired.add(blobs as u64);
                    tracing::debug!(messages, blobs, rows, "expired");
                }
                Err(error) => {
                    tracing::warn!(%error, "sweep failed");
                    break;
                }
            }
        }
        let next = relay.clock.uptime_ms() + SWEEP_MS;
        relay.clock.sleep_until(next).await;
    }
}

/// Reads the certificate again when its files have changed, or when asked to.
async fn watch(tls: Arc<tls::Identity>, clock: Arc<dyn Clock>, reload: Reload) {
    let mut seen = tls.stamp();
    loop {
        let next = clock.uptime_ms() + CERTIFICATE_MS;
        let asked = tokio::select! {
            () = reload.0.notified() => true,
            () = clock.sleep_until(next) => false,
        };
        let stamp = tls.stamp();
        if !asked && stamp == seen {
            continue;
        }
        seen = stamp;
        match tls.reload() {
            Ok(true) => {
                let fingerprint = tls.fingerprint();
                tracing::info!(
                    fingerprint,
                    "serving another certificate; clients that pin need its fingerprint"
                );
            }
            Ok(false) => tracing::info!("the certificate is the same as before"),
            // Perhaps only half of the pair is there: the next change is looked at again.
            Err(error) => {
                tracing::warn!(%error, "the certificate cannot be used; serving the one before")
            }
        }
    }
}

/// Takes no more connections than fit into the memory that the relay may have.
pub(crate) fn fit_into_memory(limits: &mut Limits, storage: Storage) -> Result<(), Error> {
    if let Some(given) = memory::given_mib().filter(|given| *given < limits.memory_mib) {
        tracing::warn!(
            given,
            memory_mib = limits.memory_mib,
            "the system gives less memory"
        );
        limits.memory_mib = given;
    }
    let fitting = limits.fitting_connections(storage);
    if fitting == 0 {
        return Err(Error::Argument(format!(
            "no connection fits into {} MiB of memory: give memory_mib in relay.toml more than {BASE_MIB}, twice that on NATS",
            limits.memory_mib
        )));
    }
    if fitting < limits.connections {
        tracing::warn!(
            connections = limits.connections,
            fitting,
            memory_mib = limits.memory_mib,
            "not all connections fit into the memory"
        );
        limits.connections = fitting;
    }
    Ok(())
}

pub(crate) fn name_of(bound: SocketAddr) -> Result<RelayName, Error> {
    let wrong = || {
        Error::Argument(format!(
            "the relay listens on {bound}, which nobody can dial: set `names` in relay.toml"
        ))
    };
    if bound.ip().is_unspecified() {
        return Err(wrong());
    }
    RelayName::parse(&bound.to_string()).map_err(|_| wrong())
}
