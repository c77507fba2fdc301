//! What the operator decides: `relay.toml`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hostchat_core::wire::RelayName;
use serde::{Deserialize, Deserializer};

use crate::admin;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::limits::Limits;
use crate::store::nats::Servers;
use crate::web::password;

/// Name of the configuration file in the relay's folder.
pub const FILE: &str = "relay.toml";

/// Who may register a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Anybody who can connect.
    #[default]
    Open,
    /// Who holds an invitation made by `hostchat-relay invite`.
    Invitation,
    /// Nobody; registered accounts go on.
    Closed,
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Invitation => "invitation",
            Self::Closed => "closed",
        })
    }
}

/// Where a relay keeps what it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// In a file of its own.
    #[default]
    Sqlite,
    /// On NATS servers, which several relays share.
    Nats,
}

/// What is kept about users beyond what the service needs: nothing, unless the operator says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Days for which it is kept who wrote to whom, when and how much; 0 for not at all.
    pub log_days: u16,
}

impl Audit {
    /// The same in milliseconds.
    #[must_use]
    pub fn log_ms(&self) -> u64 {
        u64::from(self.log_days) * 24 * 3_600_000
    }
}

/// Everything that a relay is told before it runs.
#[derive(Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where health and metrics are served to the operator; nowhere by default.
    pub operator: Option<SocketAddr>,
    /// The names by which the operator's browser and programs may call that listener, besides its address and localhost.
    pub operator_names: Vec<String>,
    /// The names under which clients dial it; empty for the address that it listens on.
    pub names: Vec<RelayName>,
    /// Who may register.
    pub registration: Registration,
    /// Whether accounts of other relays may send here.
    pub guests: bool,
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// Where everything is kept.
    pub store: Storage,
    /// SQLite database.
    pub database: PathBuf,
    /// NATS servers; `store = "nats"` needs them.
    pub nats: Option<Servers>,
    /// Where `hostchat-relay admin` reaches the running relay: a Unix socket for the same user only.
    pub admin: PathBuf,
    /// The hash of the operator's password for the admin page; without the file there is no page.
    pub password: PathBuf,
    /// What is kept about users beyond what the service needs.
    pub audit: Audit,
    /// Limits.
    pub limits: Limits,
    /// Never syncs the database: loses acknowledged messages when the machine goes down. For tests that must fail.
    pub danger_synchronous_off: bool,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    operator: Option<SocketAddr>,
    #[serde(default)]
    operator_names: Vec<Host>,
    #[serde(default)]
    names: Vec<Name>,
    #[serde(default)]
    registration: Registration,
    #[serde(default = "yes")]
    guests: bool,
    #[serde(default = "default_certificate")]
    certificate: PathBuf,
    #[serde(default = "default_key")]
    key: PathBuf,
    #[serde(default)]
    store: Storage,
    #[serde(default = "default_database")]
    database: PathBuf,
    nats: Option<Servers>,
    #[serde(default)]
    audit: Audit,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    danger_synchronous_off: bool,
}

struct Name(RelayName);

struct Host(String);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A host is what a relay's name has before its port.
        match RelayName::parse(&format!("{text}:1")) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(serde::de::Error::custom(format!(
                "{text:?} is not a host name in lower case, without a port"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        RelayName::parse(&text).map(Self).map_err(|_| {
            serde::de::Error::custom(format!("{text:?} is not host:port in lower case"))
        })
    }
}

fn yes() -> bool {
    true
}

fn default_certificate() -> PathBuf {
    "cert.pem".into()
}

fn default_key() -> PathBuf {
    "key.pem".into()
}

fn default_database() -> PathBuf {
    "relay.db".into()
}

impl Config {
    /// Reads `relay.toml` in `folder`; paths in it are relative to the folder.
    ///
    /// # Errors
    /// `NotARelay` if there is none, `Config` with the line that is wrong.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let wrong = |why| Error::Config {
            path: path.clone(),
            why,
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotARelay(folder.to_owned()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(wrong(error.to_string()));
            }
            Err(error) => return Err(Error::io(path.display().to_string())(error)),
        };
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if file.store == Storage::Nats && file.nats.is_none() {
            let why = "store = \"nats\" needs a section [nats] with servers";
            return Err(wrong(why.to_owned()));
        }
        if let Some(nats) = &file.nats {
            nats.require_tls().map_err(wrong)?;
        }
        let nats = file.nats.map(|nats| Servers {
            credentials: nats.credentials.map(|path| folder.join(path)),
            ca: nats.ca.map(|path| folder.join(path)),
            ..nats
        });
        Ok(Self {
            listen: file.listen,
            operator: file.operator,
            operator_names: file.operator_names.into_iter().map(|host| host.0).collect(),
            names: file.names.into_iter().map(|name| name.0).collect(),
            registration: file.registration,
            guests: file.guests,
            certificate: folder.join(file.certificate),
            key: folder.join(file.key),
            store: file.store,
            database: folder.join(file.database),
            nats,
            admin: folder.join(admin::SOCKET),
            password: folder.join(password::FILE),
            audit: file.audit,
            limits: file.limits,
            danger_synchronous_off: file.danger_synchronous_off,
            clock: Arc::new(SystemClock::new()),
        })
    }
}

/// The text of a fresh `relay.toml`.
pub(crate) fn template(
    listen: SocketAddr,
    name: Option<&RelayName>,
    registration: Registration,
) -> String {
    let names = name.map(|name| format!("\"{name}\"")).unwrap_or_default();
    format!(
        r#"# hostchat relay. Lines that begin with # show the defaults.

# Where it listens; port 0 takes any free one.
listen = "{listen}"

# The names (host:port, lower case) under which clients dial this relay. A login for any other name is refused, since a
# login is signed for one name. Empty: the address it listens on. The first one is shown to users.
names = [{names}]

# Who may register a name: "open", "invitation" (see: hostchat-relay invite), or "closed".
registration = "{registration}"

# Whether users of other relays may send messages to accounts here.
# guests = true

# TLS: PEM files, relative to this one. `init` made a self-signed pair, which clients pin by its fingerprint. A pair
# from a public authority works as well; clients then need no fingerprint. Do not put a proxy that ends TLS in front:
# logins are bound to the TLS connection and would fail.
# Replaced files are taken within seconds, or at once on SIGHUP; connections stay.
# certificate = "cert.pem"
# key = "key.pem"

# Health and metrics (/healthz, /readyz, /metrics) in plain HTTP without a login, for the operator alone. Off by default.
# operator = "127.0.0.1:9443"

# Host names by which a browser or Prometheus may ask there. Its address and localhost always may; all others are refused,
# so that no page on the web can reach it through your browser.
# operator_names = ["relay.lan"]

# The database. Back it up with: hostchat-relay backup --dir DIR --to FILE
# database = "relay.db"

# Or keep everything on NATS servers with JetStream, so that several relays serve the same accounts; README.md says what
# to know. Copy what there is with: hostchat-relay migrate --dir DIR --to nats
# store = "nats"
# [nats]
# servers = ["nats://10.0.0.1:4222", "nats://10.0.0.2:4222", "nats://10.0.0.3:4222"]
# replicas = 3
# credentials = "nats.creds"
# For TLS begin all servers with tls://. `ca` names their authority if it is not one of the system's, and requires TLS too.
# ca = "nats-ca.pem"

# A log of who wrote to whom, when and how much (never what), kept for this many days; 0, the default, keeps none and
# deletes what was kept. See: hostchat-relay admin log. Tell your users if you turn it on.
# [audit]
# log_days = 7

# Limits; README.md says what each is for. Rates are token buckets; per_minute = 0 turns one off.
[limits]
# connections = 4096
# memory_mib = 1536
# message_days = 30
# mailbox_messages = 10000
# mailbox_mib = 64
# blob_mib = 256
# account_blobs_mib = 1024
# blobs_mib = 8192
# blob_days = 30
# database_mib = 16384
# disk_floor_mib = 64
# sends = {{ burst = 2000, per_minute = 600 }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_read_back_and_unknown_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = RelayName::parse("relay.example:7443").unwrap();
        let listen: SocketAddr = "127.0.0.1:7443".parse().unwrap();
        let text = template(listen, Some(&name), Registration::Invitation);
        std::fs::write(folder.path().join(FILE), &text).unwrap();
        let config = Config::load(folder.path()).unwrap();
        assert_eq!(config.listen, listen);
        assert_eq!(config.names, [name]);
        assert_eq!(config.registration, Registration::Invitation);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.audit, Audit { log_days: 0 });
        assert!(config.guests && !config.danger_synchronous_off);

        assert_eq!((config.store, config.nats), (Storage::Sqlite, None));

        for wrong in [
            "listn = 1",
            "[limits]\nsend = 1",
            "names = [\"UPPER:1\"]",
            "operator_names = [\"UPPER\"]",
            "operator_names = [\"relay.lan:9443\"]",
            "store = \"nats\"",
            "store = \"nats\"\n[nats]\nserver = \"nats://h:1\"",
            "[nats]\nservers = []",
            "[nats]\nservers = [\"h:1\"]",
            "[nats]\nservers = [\"ws://h:1\"]",
            "[nats]\nservers = [\"nats://h:1\", \"h:2\"]",
            "[nats]\nservers = [\"nats://h:1\", \"tls://h:2\"]",
            "[nats]\nca = \"ca.pem\"\nservers = [\"tls://h:1\", \"nats://h:2\"]",
        ] {
            std::fs::write(
                folder.path().join(FILE),
                format!("listen = \"[::1]:1\"\n{wrong}"),
            )
            .unwrap();
            assert!(
                matches!(Config::load(folder.path()), Err(Error::Config { .. })),
                "{wrong}"
            );
        }
        assert!(matches!(
            Config::load(Path::new("/nowhere")),
            Err(Error::NotARelay(_))
        ));
    }

    #[test]
    fn the_numbers_shown_in_the_template_are_the_defaults() {
        let text = template("127.0.0.1:1".parse().unwrap(), None, Registration::Open);
        let (_, limits) = text.split_once("[limits]\n").unwrap();
        let shown: String = limits.lines().map(|l| format!("{}\n", &l[2..])).collect();
        assert_eq!(toml::from_str::<Limits>(&shown).unwrap(), Limits::default());
        assert!(shown.lines().count() >= 6);
    }
}
