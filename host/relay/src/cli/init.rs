//! `hostchat-relay init`: a folder with configuration and certificate.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use clap::Args;
use hostchat_core::wire::RelayName;

use super::Folder;
use crate::config::{self, Registration};
use crate::error::Error;
use crate::tls;

/// Make a relay: writes relay.toml and a self-signed certificate into a folder.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay init --dir r
  hostchat-relay init --dir /var/lib/hostchat-relay --listen 0.0.0.0:7443 --name relay.example:7443 --registration invitation

It never overwrites: an existing relay.toml, cert.pem or key.pem is an error.")]
pub(super) struct Init {
    #[command(flatten)]
    folder: Folder,
    /// Where to listen; port 0 takes a free one at each start.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// The host:port that clients dial; without it, the address listened on.
    #[arg(long, value_name = "HOST:PORT")]
    name: Option<String>,
    /// Who may register a name.
    #[arg(long, value_enum, default_value_t)]
    registration: Registration,
    /// Ask nothing, even at a terminal.
    #[arg(long, short)]
    yes: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Error> {
        let folder = &self.folder.dir;
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let config = folder.join(config::FILE);
        for path in [&config, &certificate, &key] {
            if path.symlink_metadata().is_ok() {
                return Err(Error::Exists(path.clone()));
            }
        }
        let name = self.name()?;
        make_folder(folder)?;
        let text = config::template(self.listen, name.as_ref(), self.registration);
        let (chain, private) = tls::self_signed(self.hosts(name.as_ref()))?;
        write_new(&key, &private, 0o600)?;
        write_new(&certificate, &chain, 0o644)?;
        // Last: a folder with a configuration is complete.
        write_new(&config, &text, 0o644)?;
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(Error::io(folder.display().to_string()))?;
        println!("made a relay in {}", folder.display());
        println!(
            "certificate fingerprint: {}",
            tls::fingerprint(&certificate)?
        );
        println!(
            "start it with: hostchat-relay run --dir {}",
            folder.display()
        );
        Ok(())
    }

    /// The name given, asked for, or none where the address listened on will do.
    fn name(&self) -> Result<Option<RelayName>, Error> {
        if let Some(name) = &self.name {
            return parse_name(name).map(Some);
        }
        let must_ask = self.listen.ip().is_unspecified();
        if self.yes || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return if must_ask {
                Err(Error::Argument(format!(
                    "{} is no address that clients can dial: give --name host:port",
                    self.listen
                )))
            } else {
                Ok(None)
            };
        }
        let usual = if must_ask {
            String::new()
        } else {
            self.listen.to_string()
        };
        print!("host:port that clients will dial [{usual}]: ");
        io::stdout().flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        match line.trim() {
            "" if !must_ask => Ok(None),
            text => parse_name(text).map(Some),
        }
    }

    /// What the certificate is for.
    fn hosts(&self, name: Option<&RelayName>) -> Vec<String> {
        let own = self.listen.ip();
        let mut hosts: Vec<String> = name
            .map(|name| name.host().to_owned())
            .into_iter()
            .collect();
        if !own.is_unspecified() {
            hosts.push(own.to_string());
        }
        if own.is_loopback() {
            hosts.push("localhost".to_owned());
        }
        hosts.dedup();
        hosts
    }
}

fn parse_name(text: &str) -> Result<RelayName, Error> {
    RelayName::parse(text).map_err(|_| {
        Error::Argument(format!(
            "{text:?} is not host:port in lower case, as in relay.example:7443"
        ))
    })
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(Error::io(folder.display().to_string()))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::io(path.display().to_string()))
}
