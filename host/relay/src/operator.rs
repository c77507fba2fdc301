//! The operator's listener: health, readiness and metrics in plain HTTP, apart from what clients reach.
//!
//! It has no login: it belongs on a loopback address or a network of its own. It says how much, never who.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::http::Method;

use crate::clock;
use crate::error::Error;
use crate::http;
use crate::limits::{HEALTH_MS, OPERATOR_CONNECTIONS, OPERATOR_MS};
use crate::metrics::Gauges;
use crate::server::Relay;

/// The content type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Listens for the operator.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = bind().map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the operator's listener has no login, and others can reach it");
    }
    tracing::info!(%address, "listening for the operator");
    Ok(listener)
}

/// Answers until it is aborted.
pub(crate) async fn serve(relay: Arc<Relay>, listener: TcpListener) {
    let seats = Arc::new(Semaphore::new(OPERATOR_CONNECTIONS));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // No descriptors: the clients' accept loop says so.
            let pause = relay.clock.uptime_ms() + OPERATOR_MS;
            relay.clock.sleep_until(pause).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            continue;
        };
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            let answer = answer(&relay, &mut stream);
            // Whoever asked may have gone, or take too long.
            let _ = clock::timeout(&*relay.clock, OPERATOR_MS, answer).await;
            drop(seat);
        });
    }
}

async fn answer(relay: &Relay, stream: &mut TcpStream) -> std::io::Result<()> {
    let Some(head) = http::read_head(stream).await? else {
        return Ok(());
    };
    let get = head.request.method() == Method::GET;
    let (status, kind, body) = match head.request.uri().path() {
        "/healthz" if get => health(healthy(relay).await),
        "/readyz" if get && relay.draining.load(Ordering::Relaxed) => (
            "503 Service Unavailable",
            TEXT,
            "shutting down\n".to_owned(),
        ),
        "/readyz" if get => health(healthy(relay).await),
        "/metrics" if get => ("200 OK", METRICS, relay.metrics.text(&gauges(relay))),
        _ => (
            "404 Not Found",
            TEXT,
            "here are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    };
    http::respond(stream, status, kind, &body).await
}

fn health(healthy: bool) -> (&'static str, &'static str, String) {
    if healthy {
        ("200 OK", TEXT, "ok\n".to_owned())
    } else {
        let why = "the store does not answer\n".to_owned();
        ("503 Service Unavailable", TEXT, why)
    }
}

/// Whether the store writes, durably, within [`HEALTH_MS`].
pub(crate) async fn healthy(relay: &Relay) -> bool {
    let probe = async { relay.store.probe().await.await.is_ok() };
    clock::timeout(&*relay.clock, HEALTH_MS, probe).await == Some(true)
}

fn gauges(relay: &Relay) -> Gauges {
    let (connections, logged_in) = relay.hub.count();
    let state = relay.store.state();
    Gauges {
        connections,
        logged_in,
        waiting_writes: state.waiting,
        disk_free: state.disk_free,
        database_bytes: state.bytes,
        uptime_ms: relay.clock.uptime_ms().saturating_sub(relay.started_ms),
    }
}
