//! What commands need that work on NATS servers.

use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::error::Error;
use crate::store::StoreError;
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

/// Tells what is wrong with the file that is copied from what is wrong with the servers.
pub(super) fn of_file(path: &Path) -> impl Fn(StoreError) -> Error {
    |source| match source {
        StoreError::Damaged(_) | StoreError::Newer { .. } | StoreError::NotOurs => Error::Store {
            path: path.to_owned(),
            source,
        },
        other => Error::Nats(other),
    }
}

/// Runs to the end on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("cannot start"))?;
    Ok(runtime.block_on(future))
}
