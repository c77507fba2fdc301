//! `hostchat-relay invite`: lets somebody register where registration is by invitation.

use clap::Args;

use super::{Folder, nats};
use crate::config::{Config, Registration, Storage};
use crate::error::Error;
use crate::invitation;
use crate::store::Sqlite;
use crate::store::nats::invite;

/// Make an invitation to register; works while the relay runs.
#[derive(Args)]
#[command(after_help = "\
Example:
  hostchat-relay invite --dir r --uses 5

The invitation is printed once and stored only as a hash.")]
pub(super) struct Invite {
    #[command(flatten)]
    folder: Folder,
    /// How many accounts may be registered with it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
}

impl Invite {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        let invitation = invitation::draw()?;
        let bytes = invitation.as_bytes();
        match config.store {
            Storage::Nats => {
                let kept = invite(nats::options(&config)?, bytes, self.uses);
                nats::block_on(kept)?.map_err(Error::Nats)?;
            }
            Storage::Sqlite => {
                let wall_ms = config.clock.wall_ms();
                Sqlite::invite(&config.database, bytes, self.uses, wall_ms).map_err(|source| {
                    Error::Store {
                        path: config.database,
                        source,
                    }
                })?;
            }
        }
        println!("{invitation}");
        if config.registration != Registration::Invitation {
            eprintln!(
                "note: registration is {} in relay.toml, so that invitations are not asked for",
                config.registration
            );
        }
        Ok(())
    }
}
