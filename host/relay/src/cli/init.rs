//! `hostchat-relay init`: a folder with configuration and certificate.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use clap::Args;
use hostchat_core::wire::RelayName;
use hostchat_core::wire::address::DEFAULT_PORT;

use super::Folder;
use crate::config::{self, Registration};
use crate::error::Error;
use crate::tls;

/// Where a relay listens that is for this computer only.
const OWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

/// Make a relay: writes relay.toml and a self-signed certificate into a folder.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay init --dir r
  hostchat-relay init --dir r --name 192.168.1.20:7443
  hostchat-relay init --dir /var/lib/hostchat-relay --name relay.example:7443 --registration invitation

At a terminal it asks for what is not given. With --name alone it listens on the port of the name, on every address of this
computer; with neither, only this computer can reach the relay. It never overwrites: an existing relay.toml, cert.pem or
key.pem is an error.")]
pub(super) struct Init {
    #[command(flatten)]
    folder: Folder,
    /// Where to listen; 0.0.0.0 is every address of this computer, port 0 takes a free one at each start.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The host:port that clients dial: a name or an address of this computer.
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
        let (name, listen) = self.addresses()?;
        make_folder(folder)?;
        let text = config::template(listen, name.as_ref(), self.registration);
        let (chain, private) = tls::self_signed(hosts(listen, name.as_ref()))?;
        write_new(&key, &private, 0o600)?;
        write_new(&certificate, &chain, 0o644)?;
        // Last: a folder with a configuration is complete.
        write_new(&config, &text, 0o644)?;
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(Error::io(folder.display().to_string()))?;
        println!("made a relay in {}", folder.display());
        println!("it listens on: {listen}");
        if let Some(name) = &name {
            println!("clients dial:  {name}");
        }
        println!(
            "certificate fingerprint: {}",
            tls::fingerprint(&certificate)?
        );
        println!(
            "start it with: hostchat-relay run --dir {}",
            folder.display()
        );
        for note in notes(listen, name.as_ref()) {
            println!("note: {note}");
        }
        Ok(())
    }

    /// What clients dial, and where to listen: as given, asked for, or the one as the other says.
    fn addresses(&self) -> Result<(Option<RelayName>, SocketAddr), Error> {
        let given = self.name.as_deref().map(parse_name).transpose()?;
        let asks = !self.yes && io::stdin().is_terminal() && io::stdout().is_terminal();
        let name = match (given, self.listen) {
            (Some(name), _) => Some(name),
            (None, listen) if asks => ask_name(listen)?,
            (None, Some(listen)) if listen.ip().is_unspecified() => {
                return Err(Error::Argument(format!(
                    "{listen} is no address that clients can dial: give --name host:port"
                )));
            }
            (None, _) => None,
        };
        let listen = match (self.listen, &name) {
            (Some(listen), _) => listen,
            (None, Some(name)) if asks => ask_listen(usual_listen(name))?,
            (None, Some(name)) => usual_listen(name),
            (None, None) => OWN,
        };
        Ok((name, listen))
    }
}

/// Asks what clients will dial; `None` for the address listened on.
fn ask_name(listen: Option<SocketAddr>) -> Result<Option<RelayName>, Error> {
    let must = listen.is_some_and(|listen| listen.ip().is_unspecified());
    println!(
        "What will clients dial? A name or an address of this computer and a port, such as relay.example:7443."
    );
    let usual = listen.unwrap_or(OWN);
    let usual = match (must, is_own(usual)) {
        (true, _) => String::new(),
        (false, true) => format!(" [{usual}, for this computer only]"),
        (false, false) => format!(" [{usual}]"),
    };
    ask_until_good(&format!("host:port{usual}: "), |text| match text {
        "" if !must => Ok(None),
        text => parse_name(text).map(Some),
    })
}

fn ask_listen(usual: SocketAddr) -> Result<SocketAddr, Error> {
    println!("Where should it listen? 0.0.0.0 is every address of this computer.");
    ask_until_good(&format!("address:port [{usual}]: "), |text| match text {
        "" => Ok(usual),
        text => text.parse().map_err(|_| {
            Error::Argument(format!(
                "{text:?} is not an address and a port, as in 0.0.0.0:7443"
            ))
        }),
    })
}

/// Asks again where the answer cannot be used.
fn ask_until_good<T>(prompt: &str, read: impl Fn(&str) -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match read(&ask(prompt)?) {
            Err(why) => println!("{why}. Try again."),
            good => return good,
        }
    }
}

fn ask(prompt: &str) -> Result<String, Error> {
    print!("{prompt}");
    io::stdout().flush()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        let why = "no answer: give --name and --listen instead";
        return Err(Error::Argument(why.to_owned()));
    }
    Ok(line.trim().to_owned())
}

/// Where to listen so that a client reaches it by this name: every address, unless the name means this computer itself.
pub(super) fn usual_listen(name: &RelayName) -> SocketAddr {
    let any = match name.host().parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => ip,
        Ok(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) if name.host() == "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, name.port())
}

/// Whether only this computer reaches it.
pub(super) fn is_own(listen: SocketAddr) -> bool {
    listen.ip().is_loopback()
}

/// What the operator should know about these two together.
pub(super) fn notes(listen: SocketAddr, name: Option<&RelayName>) -> Vec<String> {
    let mut notes = Vec::new();
    let dials_own = name.is_none_or(|name| is_own(usual_listen(name)));
    match (is_own(listen), dials_own, name) {
        (true, true, _) => notes.push(
            "only this computer can reach it; for others make it with --name HOST:PORT, a name or an address of this computer"
                .to_owned(),
        ),
        (true, false, Some(name)) => notes.push(format!(
            "it listens on {listen}, which only this computer can reach: clients that dial {name} need something that passes TCP on to it, or another `listen` in relay.toml"
        )),
        _ => {}
    }
    if let Some(name) = name.filter(|name| name.port() != listen.port()) {
        notes.push(format!(
            "clients dial port {}, but it listens on port {}: something has to pass connections on",
            name.port(),
            listen.port()
        ));
    }
    notes
}

/// What the certificate is for.
fn hosts(listen: SocketAddr, name: Option<&RelayName>) -> Vec<String> {
    let own = listen.ip();
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
    hosts.sort();
    hosts.dedup();
    hosts
}

fn parse_name(text: &str) -> Result<RelayName, Error> {
    RelayName::parse(text).map_err(|_| {
        let why = if text.contains(':') {
            "is not host:port in lower case"
        } else {
            "has no port"
        };
        Error::Argument(format!("{text:?} {why}: write it as in relay.example:7443"))
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
