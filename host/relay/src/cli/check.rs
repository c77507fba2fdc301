//! `hostchat-relay check`: whether the store holds together.

use clap::Args;

use super::{Folder, configuration, migrate, nats};
use crate::config::{Config, Storage};
use crate::error::Error;
use crate::store::StoreError;
use crate::store::check::{Report, check};
use crate::store::nats::check_servers;

/// Check the store: the file, what its rows refer to, its counters and sums; works while the relay runs.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay check --dir r
  hostchat-relay check --dir r --config

It changes nothing. --config looks at relay.toml, the certificate and the key instead of the store, as `run` would, and at
what in them does not fit together; do it before a restart. Exit code 0 if a relay could start with them, 3 if relay.toml is
wrong, 6 if the certificate or the key is. With store = \"nats\" it reads every record on the servers but not the bodies, whose checksums the
servers keep, and says what `stored` promises with them; it leaves a mark there, as nodes do. Exit code 0 if the store is good, 5 if not (10 for NATS); what is wrong is listed, one line each.")]
pub(super) struct Check {
    #[command(flatten)]
    folder: Folder,
    /// Check the configuration, the certificate and the key instead of the store.
    #[arg(long)]
    config: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        if self.config {
            return configuration::check(&config);
        }
        if config.store == Storage::Nats {
            return check_nats(&config);
        }
        let path = config.database;
        let wrong = |source| Error::Store {
            path: path.clone(),
            source,
        };
        let report = check(&path).map_err(wrong)?;
        for problem in &report.problems {
            println!("wrong: {problem:?}");
        }
        match report.problems.len() {
            0 => {
                println!("good: {}", describe(&report));
                if report.in_use {
                    println!(
                        "a relay runs on it, or did not end in order and will recover at its next start"
                    );
                }
                Ok(())
            }
            1 => Err(wrong(StoreError::Damaged("one thing is wrong".to_owned()))),
            n => Err(wrong(StoreError::Damaged(format!("{n} things are wrong")))),
        }
    }
}

fn check_nats(config: &Config) -> Result<(), Error> {
    let counts = nats::block_on(check_servers(nats::options(config)?))?.map_err(Error::Nats)?;
    match counts.strange {
        0 => {
            println!(
                "good, as far as the records go: {}",
                migrate::counts(&counts)
            );
            println!("{}", counts.promise);
            Ok(())
        }
        n => {
            let why = format!("{n} records cannot be read");
            Err(Error::Nats(StoreError::Damaged(why)))
        }
    }
}

/// A report in one line.
pub(super) fn describe(report: &Report) -> String {
    let Report {
        format,
        accounts,
        mailboxes,
        messages,
        bytes,
        prekeys,
        log,
        blobs,
        blob_bytes,
        ..
    } = report;
    format!(
        "format {format}, accounts {accounts}, prekeys {prekeys}, messages {messages} ({bytes} bytes) in {mailboxes} mailboxes, log entries {log}, files {blobs} ({blob_bytes} bytes)"
    )
}
