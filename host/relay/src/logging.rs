//! Structured logs without contents: names, numbers, sizes and reasons, never a body, a key or a signature.
//!
//! Names reach a log only as the wire's checked `Name` and `Address` (ASCII without controls); anything else of a peer
//! is logged with `Debug`, which escapes.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::error::Error;

/// Sends logs to standard error in the format and with the filter asked for.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Error::Argument(format!("--log {filter:?}: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start in one process (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
