//! What can go wrong with the program, each with a hint and an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | unexpected error of the system |
//! | 2 | wrong usage of the command line |
//! | 3 | configuration missing, unreadable or wrong; a command would overwrite something |
//! | 4 | cannot listen on the address |
//! | 5 | the database is damaged, of a newer version, or not ours |
//! | 6 | certificate or key missing or wrong |
//! | 7 | another relay runs on this folder |
//! | 8 | disk full |
//! | 9 | the running relay does not answer, or refuses |
//! | 10 | the NATS servers do not answer, or refuse |

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::admin::protocol::Refused;
use crate::store::StoreError;
use crate::words;

/// Why the relay program ends with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something of the operating system.
    #[error("{what}: {}", words::io(source))]
    Io {
        /// What was tried.
        what: String,
        /// How the system answered.
        source: io::Error,
    },
    /// There is no configuration in the folder.
    #[error("there is no relay in {folder}", folder = .0.display())]
    NotARelay(PathBuf),
    /// The configuration cannot be used.
    #[error("{path}: {why}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An argument cannot be used.
    #[error("{0}")]
    Argument(String),
    /// A command found something that it would have to overwrite.
    #[error("{file} exists already", file = .0.display())]
    Exists(PathBuf),
    /// `restore` found a store.
    #[error("there is a store at {file} already", file = .0.display())]
    StoreExists(PathBuf),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", words::io(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// How the system answered.
        source: io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("{path}: {why}", path = .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process holds the folder.
    #[error("another relay runs on {folder}", folder = .0.display())]
    Running(PathBuf),
    /// Nobody answers on the administration socket.
    #[error("no relay answers at {}: {}", path.display(), words::io(source))]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// How the system answered.
        source: io::Error,
    },
    /// The running relay refuses what an administrator asks.
    #[error("{}", .0.text())]
    Refused(Refused),
    /// The store on NATS servers.
    #[error("{0}")]
    Nats(StoreError),
    /// The database.
    #[error("{path}: {source}", path = .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: StoreError,
    },
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Io {
            what: "system error".to_owned(),
            source,
        }
    }
}

impl Error {
    /// Names what was tried when the system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What the operator can do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if is_full(source) => "free some disk space and try again",
            Self::Io { .. } => "check that the path exists and that you may use it",
            Self::NotARelay(_) => "make one with: hostchat-relay init --dir DIR",
            Self::Config { .. } => {
                "correct the line; `hostchat-relay init --dir OTHER` writes a fresh file to compare with"
            }
            Self::Argument(_) => "see: hostchat-relay help",
            Self::Exists(_) => {
                "choose another name, or move what is there away: nothing is overwritten"
            }
            Self::StoreExists(_) => "--force moves it aside",
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another program listens there: stop it, or choose another --listen address"
            }
            Self::Listen { .. } => {
                "choose another --listen address; ports below 1024 need privileges"
            }
            Self::Certificate { .. } => {
                "relay.toml names a PEM certificate chain and its PEM key; `init` in an empty folder makes a new pair"
            }
            Self::Running(_) => "stop it first: two relays cannot share one folder",
            Self::NoAnswer { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "only the relay's own user and root may administer it"
            }
            Self::NoAnswer { .. } => "start it: hostchat-relay run --dir DIR",
            Self::Refused(refused) => refused.hint(),
            Self::Store { source, .. } => source.hint(),
            Self::Nats(source @ StoreError::Unavailable(_)) => source.hint(),
            Self::Nats(_) => "see [nats] in relay.toml, and README.md",
        }
    }

    /// The exit code, as the module's table says.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { source, .. } if is_full(source) => 8,
            Self::Io { .. } => 1,
            Self::Argument(_) => 2,
            Self::NotARelay(_) | Self::Config { .. } | Self::Exists(_) | Self::StoreExists(_) => 3,
            Self::Listen { .. } => 4,
            Self::Store {
                source: StoreError::Full | StoreError::Unwritable,
                ..
            } => 8,
            Self::Store { .. } => 5,
            Self::Certificate { .. } => 6,
            Self::Running(_) => 7,
            Self::NoAnswer { .. } | Self::Refused(_) => 9,
            Self::Nats(_) => 10,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
