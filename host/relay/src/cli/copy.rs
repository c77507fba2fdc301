//! `hostchat-relay backup` and `hostchat-relay restore`.

use std::path::PathBuf;

use clap::Args;

use super::check::describe;
use super::migrate::counts;
use super::{Folder, lock, nats};
use crate::config::{Config, Storage};
use crate::error::Error;
use crate::store::copy::{self, CopyError};
use crate::store::nats::{to_file, to_servers};

/// Copy the store into a new file, synced and checked; works while the relay runs.
#[derive(Args)]
#[command(after_help = "\
Example:
  hostchat-relay backup --dir r --to backup-2026-08-01.db

On NATS it makes the same file of what is on the servers, but for the log of who wrote to whom. It never overwrites. Keep
cert.pem and key.pem as well: clients pin them.")]
pub(super) struct Backup {
    #[command(flatten)]
    folder: Folder,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Put a backup in the place of the store; the relay must be stopped.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay restore --dir r --from backup-2026-08-01.db
  hostchat-relay restore --dir r --from backup-2026-08-01.db --force

The backup is checked first. A store that is there is an error; with --force it is moved aside, never deleted.
On NATS all nodes must be stopped, and there may be nothing yet on the servers: give [nats] another `name`.")]
pub(super) struct Restore {
    #[command(flatten)]
    folder: Folder,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Move a store that is there aside.
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        let report = match config.store {
            Storage::Sqlite => copy::backup(&config.database, &self.to),
            Storage::Nats => nats::block_on(to_file(nats::options(&config)?, &self.to))?,
        };
        let report = report.map_err(from_copy)?;
        println!("saved: {}", describe(&report));
        Ok(())
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        let _lock = lock(&self.folder.dir)?;
        if config.store == Storage::Nats {
            let restored = nats::block_on(to_servers(&self.from, nats::options(&config)?))?;
            println!(
                "restored: {}",
                counts(&restored.map_err(nats::of_file(&self.from))?)
            );
            return Ok(());
        }
        let (report, aside) = copy::restore(&self.from, &config.database, self.force).map_err(
            |error| match error {
                CopyError::Exists(path) => Error::StoreExists(path),
                other => from_copy(other),
            },
        )?;
        if let Some(aside) = aside {
            println!("the store before is now {}", aside.display());
        }
        println!("restored: {}", describe(&report));
        Ok(())
    }
}

pub(super) fn from_copy(error: CopyError) -> Error {
    match error {
        CopyError::Exists(path) => Error::Exists(path),
        CopyError::File(path, source) => Error::io(path.display().to_string())(source),
        CopyError::Store(path, source) => Error::Store { path, source },
    }
}
