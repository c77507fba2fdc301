//! `hostchat-relay migrate`: from a database file to NATS servers, and back.

use clap::Args;

use super::check::describe;
use super::copy::from_copy;
use super::{Folder, lock, nats};
use crate::config::{Config, Storage};
use crate::error::Error;
use crate::store::nats::{Counts, to_file, to_servers};

/// Copy the store from the database to NATS servers, or from them to a database; every relay on it must be stopped.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay migrate --dir r --to nats
  hostchat-relay migrate --dir r --to sqlite

The servers are those of [nats] in relay.toml; the file is its `database`. What is copied stays where it was; there may
be nothing yet where it goes. Accounts, prekeys, invitations, messages, files and remembered ids are copied, the log of
who wrote to whom is not. Then change `store` in relay.toml.")]
pub(super) struct Migrate {
    #[command(flatten)]
    folder: Folder,
    /// Where to.
    #[arg(long, value_enum)]
    to: Storage,
}

impl Migrate {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        let _lock = lock(&self.folder.dir)?;
        let options = nats::options(&config)?;
        match self.to {
            Storage::Nats => {
                let copied = nats::block_on(to_servers(&config.database, options))?;
                println!(
                    "copied: {}",
                    counts(&copied.map_err(nats::of_file(&config.database))?)
                );
            }
            Storage::Sqlite => {
                let copied = nats::block_on(to_file(options, &config.database))?;
                println!("copied: {}", describe(&copied.map_err(from_copy)?));
            }
        }
        Ok(())
    }
}

/// What is on the servers, in one line.
pub(super) fn counts(counts: &Counts) -> String {
    let Counts {
        accounts,
        messages,
        bytes,
        blobs,
        blob_bytes,
        ..
    } = counts;
    format!(
        "accounts {accounts}, messages {messages} ({bytes} bytes), files {blobs} ({blob_bytes} bytes)"
    )
}
