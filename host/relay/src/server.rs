//! The relay as a whole: what its connections share, the accept loop, the sweep, the end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use hostchat_core::wire::RelayName;
use hostchat_core::wire::relay::{Reason, Refusal};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::bucket::Buckets;
use crate::clock::{self, Clock};
use crate::config::{Config, Registration};
use crate::connection;
use crate::error::Error;
use crate::hub::{Hub, Network};
use crate::limits::{Limits, SHUTDOWN_MS, SWEEP_MS};
use crate::store::sqlite::Options;
use crate::store::{AccountId, Outlet, Sqlite, Store, StoreError};
use crate::tls;

/// Milliseconds to wait when the system has no descriptor for another connection.
const ACCEPT_PAUSE_MS: u64 = 100;

/// For whom a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A registered account, wherever it connects from.
    User(AccountId),
    /// Guests may claim any address, so that they count by network.
    Guest(Network),
}

/// Every rate limit.
pub(crate) struct Rates {
    pub(crate) connects: Buckets<Network>,
    pub(crate) registrations: Buckets<Network>,
    pub(crate) calls: Buckets<Caller>,
    pub(crate) sends: Buckets<Caller>,
    pub(crate) pairings: Buckets<Caller>,
    pub(crate) firsts: Buckets<Caller>,
    pub(crate) prekeys_put: Buckets<Caller>,
    pub(crate) prekeys_taken: Buckets<Caller>,
    pub(crate) prekeys_given: Buckets<hostchat_core::wire::Name>,
}

/// What all connections share.
pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) names: Vec<RelayName>,
    pub(crate) registration: Registration,
    pub(crate) guests: bool,
    pub(crate) limits: Limits,
    pub(crate) rates: Rates,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Relay {
    /// What a client is told when the store fails.
    pub(crate) fn refusal(&self, error: &StoreError) -> Refusal {
        match error {
            StoreError::Full => Refusal {
                reason: Reason::RelayFull,
                retry_after_ms: 60_000,
            },
            StoreError::Closed => Refusal {
                reason: Reason::ShuttingDown,
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
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl Server {
    /// Opens the store and loads the certificate.
    ///
    /// # Errors
    /// `Certificate`, `Store`, or `Argument` if the relay has no name that could be dialled.
    pub fn open(config: Config, listener: TcpListener) -> Result<Self, Error> {
        let bound = listener.local_addr()?;
        let mut names = config.names;
        if names.is_empty() {
            names.push(name_of(bound)?);
        }
        let tls = tls::Identity::load(&config.certificate, &config.key)?;
        let hub = Arc::new(Hub::default());
        let options = Options {
            path: config.database.clone(),
            limits: config.limits.clone(),
            clock: Arc::clone(&config.clock),
            danger_synchronous_off: config.danger_synchronous_off,
        };
        let outlet: Arc<dyn Outlet> = Arc::clone(&hub) as _;
        let store = Sqlite::open(options, outlet).map_err(|source| Error::Store {
            path: config.database,
            source,
        })?;
        let limits = config.limits;
        let relay = Relay {
            store: Arc::new(store),
            hub,
            names,
            registration: config.registration,
            guests: config.guests,
            rates: Rates {
                connects: Buckets::new(limits.connects),
                registrations: Buckets::new(limits.registrations),
                calls: Buckets::new(limits.calls),
                sends: Buckets::new(limits.sends),
                pairings: Buckets::new(limits.pairings),
                firsts: Buckets::new(limits.firsts),
                prekeys_put: Buckets::new(limits.prekeys_put),
                prekeys_taken: Buckets::new(limits.prekeys_taken),
                prekeys_given: Buckets::new(limits.prekeys_given),
            },
            limits,
            clock: config.clock,
        };
        Ok(Self {
            relay: Arc::new(relay),
            listener,
            acceptor: TlsAcceptor::from(tls.config()),
            fingerprint: tls.fingerprint().to_owned(),
        })
    }

    /// What clients give to `--relay`: `host:port#fingerprint`.
    #[must_use]
    pub fn address(&self) -> String {
        let name = self.relay.names.first().map_or("", RelayName::as_str);
        format!("{name}#{}", self.fingerprint)
    }

    /// Serves until `shutdown` completes, then ends in order: no new connections, everybody told, queued writes done,
    /// the log copied into the database.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let sweep = tokio::spawn(sweep(Arc::clone(&self.relay)));
        tokio::select! {
            () = shutdown => {}
            () = accept(&self, &mut tasks) => {}
        }
        let Self {
            relay, listener, ..
        } = self;
        drop(listener);
        sweep.abort();
        tracing::info!(connections = tasks.len(), "shutting down");
        relay.hub.close_all(Refusal {
            reason: Reason::ShuttingDown,
            retry_after_ms: 1_000,
        });
        let ended = async { while tasks.join_next().await.is_some() {} };
        clock::timeout(&*relay.clock, SHUTDOWN_MS, ended).await;
        tasks.shutdown().await;
        relay.store.close().await;
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
    Server::open(config, listener)?.run(shutdown).await;
    Ok(())
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
                    tracing::warn!(%error, "cannot accept");
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
        tracing::debug!(%peer, "too many new connections");
        return;
    }
    let limits = &relay.limits;
    let seat = relay
        .hub
        .enter(network, limits.connections, limits.connections_per_address);
    let Some(seat) = seat else {
        tracing::debug!(%peer, "too many connections");
        return;
    };
    // Replies are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let (relay, acceptor) = (Arc::clone(relay), server.acceptor.clone());
    tasks.spawn(connection::serve(relay, acceptor, stream, network, seat));
}

/// Deletes what has expired, in small steps.
async fn sweep(relay: Arc<Relay>) {
    loop {
        loop {
            match relay.store.sweep().await.await {
                Ok(0) => break,
                Ok(rows) => tracing::debug!(rows, "expired"),
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

fn name_of(bound: SocketAddr) -> Result<RelayName, Error> {
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
