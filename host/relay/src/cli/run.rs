//! `hostchat-relay run`: serves until told to stop.

use std::io::Write;
use std::net::SocketAddr;

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::configuration::is_open_to_others;
use super::init::{is_own, usual_listen};
use super::{Folder, LogFormat, lock};
use crate::config::Config;
use crate::error::Error;
use crate::logging;
use crate::server::Server;

/// Descriptors beside those of connections: databases, listeners, logs.
const OWN_DESCRIPTORS: u64 = 64;

/// Run the relay; prints its address with fingerprint once it listens.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay run --dir r
  hostchat-relay run --dir r --listen 127.0.0.1:0 --log debug --log-format json

The first line on standard output is host:port#fingerprint: what users give to `hostchat init --relay`. Logs go to
standard error. SIGTERM and Ctrl-C stop it in order: queued messages are stored, clients are told, exit code 0.
SIGHUP reads the certificate again.")]
pub(super) struct Run {
    #[command(flatten)]
    folder: Folder,
    /// Listen here instead of where relay.toml says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// What to log: error, warn, info, debug, trace, or filters as in RUST_LOG.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "HOSTCHAT_RELAY_LOG"
    )]
    log: String,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Error> {
        logging::start(&self.log, self.log_format)?;
        let mut config = Config::load(&self.folder.dir)?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        let _lock = lock(&self.folder.dir)?;
        if config.danger_synchronous_off {
            tracing::warn!("danger_synchronous_off: acknowledged messages may be lost");
        }
        if is_open_to_others(&config.key) {
            let path = config.key.display();
            tracing::warn!(%path, "others can read the key of the certificate: chmod 600");
        }
        raise_descriptor_limit(config.limits.connections);
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Error::io("cannot start"))?
            .block_on(serve(config))
    }
}

/// Takes as many descriptors as the system lets us: the limit that shells set is far below `connections`.
fn raise_descriptor_limit(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What it was is what it stays.
    let _ = setrlimit(Resource::Nofile, limit);
    let most = getrlimit(Resource::Nofile).current;
    let wanted = OWN_DESCRIPTORS.saturating_add(connections as u64);
    if let Some(most) = most.filter(|most| *most < wanted) {
        tracing::warn!(
            most,
            connections,
            "too few file descriptors for all connections"
        );
    }
}

async fn serve(config: Config) -> Result<(), Error> {
    let (mut terminate, mut interrupt, mut hangup) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let bound = listener.local_addr()?;
    let names = config.names.clone();
    let server = Server::open(config, listener).await?;
    let line = server.address();
    tracing::info!(%bound, address = line, "listening");
    if let Some(name) = names
        .iter()
        .find(|name| is_own(bound) && !is_own(usual_listen(name)))
    {
        tracing::warn!(
            %bound, %name,
            "only this computer can reach it, but clients dial it by another name: see `listen` in relay.toml"
        );
    }
    // Whoever started us may have closed the pipe; the relay goes on.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    let reload = server.reload();
    server
        .run(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    Some(()) = hangup.recv() => reload.now(),
                }
            }
        })
        .await;
    Ok(())
}
