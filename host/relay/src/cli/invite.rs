//! `hostchat-relay invite`: lets somebody register where registration is by invitation.

use clap::Args;

use super::Folder;
use crate::config::{Config, Registration};
use crate::error::Error;
use crate::store::Sqlite;

/// Crockford's base32: no letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an invitation: 100 random bits.
const LENGTH: usize = 20;

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
        let mut random = [0; LENGTH];
        getrandom::fill(&mut random)
            .map_err(|error| Error::Argument(format!("no random numbers: {error}")))?;
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(byte % 32)]);
        let invitation: String = random.iter().map(letter).collect();
        let wall_ms = config.clock.wall_ms();
        Sqlite::invite(&config.database, invitation.as_bytes(), self.uses, wall_ms).map_err(
            |source| Error::Store {
                path: config.database,
                source,
            },
        )?;
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
