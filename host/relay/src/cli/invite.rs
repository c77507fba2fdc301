//! `hostchat-relay invite`: lets somebody register where registration is by invitation.

use std::sync::Arc;

use clap::Args;

use super::{Folder, nats};
use crate::config::{Config, Registration, Storage};
use crate::error::Error;
use crate::invitation;
use crate::store::nats::invite;
use crate::store::{NewInvitation, Sqlite};

/// Make an invitation to register; works while the relay runs.
#[derive(Args)]
#[command(after_help = "\
Example:
  hostchat-relay invite --dir r --uses 5 --days 14 --note 'chess club'

The invitation is printed once and stored only as a hash.")]
pub(super) struct Invite {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    terms: Terms,
}

/// What an invitation is good for.
#[derive(Args)]
pub(super) struct Terms {
    /// How many accounts may be registered with it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) uses: u32,
    /// What to remember of it, as for whom it is: at most 100 characters.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) note: String,
    /// Make it useless after so many days.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) days: Option<u16>,
}

impl Invite {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        let new = self.terms.invitation()?;
        match config.store {
            Storage::Nats => {
                let kept = invite(nats::options(&config)?, &new);
                nats::block_on(kept)?.map_err(Error::Nats)?;
            }
            Storage::Sqlite => {
                let clock = Arc::clone(&config.clock);
                Sqlite::invite(&config.database, &new, clock).map_err(|source| Error::Store {
                    path: config.database,
                    source,
                })?;
            }
        }
        println!("{}", new.words);
        tell_if_not_asked_for(config.registration);
        Ok(())
    }
}

impl Terms {
    /// The invitation that is wanted.
    pub(super) fn invitation(&self) -> Result<NewInvitation, Error> {
        invitation::new(self.uses, &self.note, self.days).ok_or_else(|| {
            Error::Argument(format!(
                "a note is one line of at most {} characters, without control characters",
                invitation::NOTE
            ))
        })
    }
}

/// An invitation that nobody needs, or nobody can use, is told.
pub(super) fn tell_if_not_asked_for(registration: Registration) {
    if registration != Registration::Invitation {
        eprintln!(
            "note: registration is {registration} in relay.toml: the relay does not ask for invitations"
        );
    }
}
