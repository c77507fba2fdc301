//! The operator's listener: health, readiness, metrics and the admin page in plain HTTP, apart from what clients reach.
//!
//! It belongs on a loopback address or a network of its own. Only the admin page has a login; the rest says how much,
//! never who. A page on the web can make a browser ask here under a name of its own (DNS rebinding), so requests for
//! other names than ours are refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpStream};

use crate::clock;
use crate::error::Error;
use crate::http::{self, Head};
use crate::limits::{HEALTH_MS, OPERATOR_CONNECTIONS, OPERATOR_MS, WEB_HEAD};
use crate::metrics::Gauges;
use crate::seats;
use crate::server::Relay;
use crate::web;
use crate::web::request::Request;

/// The content type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What a request for another name is told.
const OTHER_HOST: &str = "this listener answers to its own address and to localhost; add other names to operator_names in relay.toml\n";
/// What a request without a name is told.
const NO_HOST: &str = "send one Host header with a host name or an address\n";

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
        tracing::warn!(%address, "others can reach the operator's listener, which is plain HTTP");
    }
    tracing::info!(%address, "listening for the operator");
    Ok(listener)
}

/// Answers until it is aborted.
pub(crate) async fn serve(relay: Arc<Relay>, listener: TcpListener) {
    seats::serve(
        relay,
        OPERATOR_CONNECTIONS,
        OPERATOR_MS,
        |context| listener.poll_accept(context),
        |relay, (mut stream, peer)| async move { answer(&relay, &mut stream, peer).await },
    )
    .await;
}

async fn answer(
    relay: &Arc<Relay>,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> std::io::Result<()> {
    let head = http::read_head(stream, WEB_HEAD, Request::try_parse).await?;
    let Some(Head { request, rest }) = head else {
        return Ok(());
    };
    let own = stream.local_addr()?.ip();
    match request.host() {
        Some(host) if host.is_ours(own, &relay.operator_names) => {}
        Some(_) => return http::respond(stream, "421 Misdirected Request", TEXT, OTHER_HOST).await,
        None => return http::respond(stream, "400 Bad Request", TEXT, NO_HOST).await,
    }
    let get = request.method == "GET";
    let path = request.path.as_str();
    if path == web::ROOT || path.starts_with(web::BELOW) {
        return page(relay, stream, peer, &request, &rest).await;
    }
    let (status, kind, body) = match path {
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
            "here are /healthz, /readyz, /metrics and /admin\n".to_owned(),
        ),
    };
    http::respond(stream, status, kind, &body).await
}

/// The admin page: reads the form, if there is one, and answers.
async fn page(
    relay: &Arc<Relay>,
    stream: &mut TcpStream,
    peer: SocketAddr,
    request: &Request,
    rest: &[u8],
) -> std::io::Result<()> {
    let form = match request.method.as_str() {
        "GET" => None,
        "POST" => match request.form(stream, rest).await? {
            Some(form) => Some(form),
            None => return http::respond(stream, "400 Bad Request", TEXT, "not a form\n").await,
        },
        _ => return http::respond(stream, "405 Method Not Allowed", TEXT, "GET or POST\n").await,
    };
    let web::Response {
        status,
        kind,
        headers,
        body,
    } = web::answer(relay, peer, request, form.as_ref()).await;
    let headers = headers + web::HEADERS;
    http::respond_with(stream, status, kind, &headers, &body).await
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
