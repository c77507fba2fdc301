//! What commands need that work on NATS servers.

use std::sync::Arc;

use crate::config::Config;
use crate::error::Error;
use crate::store::nats::Options;

/// The servers that relay.toml names.
pub(super) fn options(config: &Config) -> Result<Options, Error> {
    let Some(servers) = config.nats.clone() else {
        let why = "relay.toml has no section [nats] with servers";
        return Err(Error::Argument(why.to_owned()));
    };
    Ok(Options {
        servers,
        limits: config.limits.clone(),
        clock: Arc::clone(&config.clock),
        metrics: Arc::default(),
        log_ms: None,
        remember: false,
    })
}

/// Runs to the end on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("cannot start"))?;
    Ok(runtime.block_on(future))
}

/// For commands that work on the database file alone.
pub(super) fn needs_file(config: &Config) -> Result<(), Error> {
    if config.store == crate::config::Storage::Nats {
        return Err(Error::Argument(
            "store = \"nats\" keeps nothing in a file: `migrate --to sqlite` copies it into one, with all nodes stopped; NATS has backups of its own".to_owned(),
        ));
    }
    Ok(())
}
