//! `hostchat-relay fingerprint`: what clients pin.

use clap::Args;

use super::Folder;
use crate::config::Config;
use crate::error::Error;
use crate::tls;

/// Print the SHA-256 fingerprint of the relay's certificate.
#[derive(Args)]
#[command(after_help = "\
Example:
  hostchat-relay fingerprint --dir r")]
pub(super) struct Fingerprint {
    #[command(flatten)]
    folder: Folder,
}

impl Fingerprint {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        println!("{}", tls::fingerprint(&config.certificate)?);
        Ok(())
    }
}
