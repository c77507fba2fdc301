//! The home directory: configuration, lock, and where the software token and the vault lie.
//!
//! ```text
//! ~/.local/share/hostchat/        0700
//!   config.toml                   who and where; nothing secret
//!   token.flash                   the software token's flash, sealed under the passphrase
//!   vault.db                      contacts, history, outbox, sealed under the token's storage key
//!   lock                          held while a program uses the directory
//! ```

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use hostchat_core::wire::{Address, Name};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::TokenKind;
use crate::model::address::RelayAddress;

/// What `config.toml` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// Version of this format.
    format: u32,
    name: String,
    relay: String,
    token: TokenKind,
    /// Whether `init` came to its end.
    registered: bool,
    visible: bool,
}

/// The account of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The account's name at the relay.
    pub name: Name,
    /// The home relay, with its pin.
    pub relay: RelayAddress,
    /// What holds the keys.
    pub token: TokenKind,
    /// Whether `init` came to its end.
    pub registered: bool,
    /// Whether others may see in `who` that the account is connected.
    pub visible: bool,
}

const FORMAT: u32 = 1;

impl Config {
    /// The account's address.
    pub fn address(&self) -> Address {
        Address::new(&self.name, &self.relay.name)
    }

    /// Reads the text of a configuration; `path` is for the error.
    ///
    /// # Errors
    /// `Config`.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let file = toml::from_str(text).map_err(|error: toml::de::Error| Error::Config {
            path: path.into(),
            why: crate::escape::escape(error.message()).into_owned(),
        })?;
        Self::from_file(path, &file)
    }

    /// The text that [`Self::parse`] reads.
    ///
    /// # Errors
    /// `Internal`, which no value of this type gives.
    pub fn to_text(&self) -> Result<String> {
        toml::to_string(&self.to_file()).map_err(|_| Error::Internal("configuration"))
    }

    fn from_file(path: &Path, file: &ConfigFile) -> Result<Self> {
        let bad = |why: &str| Error::Config {
            path: path.into(),
            why: why.into(),
        };
        if file.format != FORMAT {
            return Err(bad(
                "its format is not one that this version knows; update hostchat",
            ));
        }
        Ok(Self {
            name: Name::parse(&file.name).map_err(|_| bad("`name` is not a name"))?,
            relay: RelayAddress::parse(&file.relay)
                .map_err(|_| bad("`relay` is not HOST:PORT[#FINGERPRINT]"))?,
            token: file.token,
            registered: file.registered,
            visible: file.visible,
        })
    }

    fn to_file(&self) -> ConfigFile {
        ConfigFile {
            format: FORMAT,
            name: self.name.as_str().into(),
            relay: self.relay.to_string(),
            token: self.token,
            registered: self.registered,
            visible: self.visible,
        }
    }
}

/// The files of an account, the configuration last; `lock` says nothing about it.
const FILES: [&str; 6] = [
    "vault.db",
    "vault.db-wal",
    "vault.db-shm",
    "token.flash",
    "config.new",
    "config.toml",
];

/// A part of a home that other users could read or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// A file of the home, or its directory.
    pub path: PathBuf,
    /// Its permissions when this program took the home.
    pub mode: u32,
    /// Whether they were taken away since. Those of a directory are not: there may be more in it than the home.
    pub closed: bool,
}

/// A home directory that this program holds until the value is dropped.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    opened: Vec<Opened>,
    /// Its lock ends with the file handle, however the program ends.
    lock: File,
}

impl Home {
    /// Where the home is if nothing is said: `$XDG_DATA_HOME/hostchat`, else `~/.local/share/hostchat`.
    ///
    /// # Errors
    /// `Usage` if neither `XDG_DATA_HOME` nor `HOME` is set.
    pub fn default_path() -> Result<PathBuf> {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        set("XDG_DATA_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("hostchat"))
            .ok_or_else(|| Error::Usage("HOME is not set: name a directory with --home".into()))
    }

    /// Makes the directory if it is not there, and takes its lock.
    ///
    /// # Errors
    /// `HomeLocked`, `HomeDenied`, `Io`.
    pub fn create(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|why| {
                denied(path, &why).unwrap_or_else(|| {
                    Error::io(format!("cannot make the directory {}", path.display()), why)
                })
            })?;
        Self::lock(path)
    }

    /// Takes the lock of a home that exists.
    ///
    /// # Errors
    /// `NotInitialised`, `HomeLocked`, `HomeDenied`, `Io`.
    pub fn open(path: &Path) -> Result<Self> {
        match fs::metadata(path.join("config.toml")) {
            Ok(_) => Self::lock(path),
            Err(why) => Err(denied(path, &why).unwrap_or_else(|| match why.kind() {
                io::ErrorKind::NotFound => Error::NotInitialised(path.into()),
                _ => Error::io(format!("cannot use the directory {}", path.display()), why),
            })),
        }
    }

    fn lock(path: &Path) -> Result<Self> {
        let io = |why| {
            denied(path, &why).unwrap_or_else(|| {
                Error::io(format!("cannot use the directory {}", path.display()), why)
            })
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // What a link leads to would be written over.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path.join("lock"))
            .map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let (pid, socket) = holder(lock);
                return Err(Error::HomeLocked {
                    path: path.into(),
                    pid,
                    socket,
                });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        // Only a help for people: who holds the lock is known to the kernel.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self {
            path: path.into(),
            opened: close(path),
            lock,
        })
    }

    /// Whether the directory is still the one that this program holds: what is written to one that was deleted is lost.
    pub fn is_there(&self) -> bool {
        let place = |found: fs::Metadata| (found.dev(), found.ino());
        let there = fs::symlink_metadata(self.path.join("lock")).map(place);
        let held = self.lock.metadata().map(place);
        there.is_ok_and(|there| held.is_ok_and(|held| there == held))
    }

    /// Tells whoever finds the lock held where this program can be talked to.
    ///
    /// # Errors
    /// `Io`.
    pub fn name_socket(&self, socket: &Path) -> Result<()> {
        let name = socket.as_os_str().as_bytes();
        (&self.lock)
            .write_all(&[name, b"\n"].concat())
            .map_err(|why| Error::io("cannot write the lock of the home", why))
    }

    /// What other users could read or change when this program took the home.
    pub fn opened(&self) -> &[Opened] {
        &self.opened
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The software token's file.
    pub fn token_file(&self) -> PathBuf {
        self.path.join("token.flash")
    }

    /// The vault's file.
    pub fn vault_file(&self) -> PathBuf {
        self.path.join("vault.db")
    }

    /// Reads the configuration, `None` if there is none yet.
    ///
    /// # Errors
    /// `Config`, `Io`.
    pub fn config(&self) -> Result<Option<Config>> {
        let path = self.path.join("config.toml");
        let text = match read_config(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::InvalidInput => {
                return Err(Error::Config {
                    path,
                    why: "it is no file of an account".into(),
                });
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                return Err(Error::Config {
                    path,
                    why: "it is not text".into(),
                });
            }
            Err(why) => return Err(Error::io(format!("cannot read {}", path.display()), why)),
        };
        Config::parse(&path, &text).map(Some)
    }

    /// Writes the configuration, durably and in one step.
    ///
    /// # Errors
    /// `Io`.
    pub fn save(&self, config: &Config) -> Result<()> {
        let path = self.path.join("config.toml");
        let text = config.to_text()?;
        self.replace(&path, text.as_bytes())
            .map_err(|why| Error::io(format!("cannot write {}", path.display()), why))
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.path)?.sync_all()
    }

    /// Deletes everything that belongs to the account, the configuration last.
    ///
    /// # Errors
    /// `Io`; what was deleted until then stays deleted.
    pub fn erase(&self) -> Result<()> {
        for name in FILES {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("cannot delete {}", path.display()), why));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes the permissions of other users away from the files of a home, and finds out whether they may change its directory.
fn close(home: &Path) -> Vec<Opened> {
    let mode = |found: fs::Metadata| found.permissions().mode() & 0o777;
    let directory = fs::metadata(home).ok().map(mode);
    let directory = directory.filter(|mode| mode & 0o022 != 0);
    let directory = directory.map(|mode| Opened {
        path: home.to_owned(),
        mode,
        closed: false,
    });
    let files = FILES.into_iter().filter_map(|name| {
        let path = home.join(name);
        // A link leads out of the home, and a folder is none of its files: neither is ours to close.
        let found = fs::symlink_metadata(&path)
            .ok()
            .filter(fs::Metadata::is_file)?;
        let mode = Some(mode(found)).filter(|mode| mode & 0o077 != 0)?;
        let closed = fs::set_permissions(&path, Permissions::from_mode(mode & 0o700)).is_ok();
        Some(Opened { path, mode, closed })
    });
    directory.into_iter().chain(files).collect()
}

/// Who holds a lock, and where it can be talked to, as far as it has said so.
fn holder(lock: File) -> (Option<u32>, Option<PathBuf>) {
    let mut text = Vec::new();
    let _ = lock.take(8192).read_to_end(&mut text);
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    // A line without its end is still being written.
    let mut line = || lines.next().and_then(|line| line.strip_suffix(b"\n"));
    let pid = line().and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
    let socket = line().map(|path| PathBuf::from(OsStr::from_bytes(path)));
    (pid, socket)
}

/// Reads a configuration; `InvalidInput` for what is no regular file, or too long for one.
fn read_config(path: &Path) -> io::Result<String> {
    const LONGEST: u64 = 65_536;
    // To open a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    let length = File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    if u64::try_from(length).unwrap_or(LONGEST) < LONGEST {
        Ok(text)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// The error for a home that may not be used, with whose it is.
fn denied(path: &Path, why: &io::Error) -> Option<Error> {
    if why.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    // What cannot be looked at lies in a directory of somebody else.
    let (path, found) = path
        .ancestors()
        .find_map(|path| Some((path, fs::metadata(path).ok()?)))?;
    let owner = if found.uid() == rustix::process::geteuid().as_raw() {
        "you, and its permissions forbid it".into()
    } else {
        user(found.uid())
    };
    Some(Error::HomeDenied {
        path: path.into(),
        owner,
    })
}

/// A user in words.
fn user(uid: u32) -> String {
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| crate::escape::escape(name).into_owned())
    });
    name.map_or_else(|| format!("user {uid}"), |name| format!("the user {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            name: Name::parse("alice").unwrap(),
            relay: RelayAddress::parse("127.0.0.1:7443").unwrap(),
            token: TokenKind::Software,
            registered: false,
            visible: true,
        }
    }

    #[test]
    fn a_configuration_comes_back_and_foreign_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(&dir.path().join("a/b")).unwrap();
        assert_eq!(home.config().unwrap(), None);
        home.save(&config()).unwrap();
        assert_eq!(home.config().unwrap(), Some(config()));
        let path = home.path().join("config.toml");
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            good.replace("format = 1", "format = 2"),
            good.replace("alice", "Alice"),
            good.replace("7443", "99999"),
            good.replace("visible = true", "visible = 3"),
            format!("{good}\nmore = 1\n"),
            String::from("\u{1b}]0;x"),
            format!("{good}\n#{}", "x".repeat(70_000)),
        ] {
            fs::write(&path, bad).unwrap();
            let error = home.config().unwrap_err();
            assert!(matches!(error, Error::Config { .. }), "{error}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
        for special in ["/dev/zero", "/dev/tty"] {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(special, &path).unwrap();
            let error = home.config().unwrap_err();
            assert!(matches!(error, Error::Config { .. }), "{error}");
        }
    }

    #[test]
    fn a_home_that_was_deleted_or_made_anew_is_not_the_one_that_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home");
        let home = Home::create(&path).unwrap();
        assert!(home.is_there());
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert!(!home.is_there());
        let _other = Home::create(&path).unwrap();
        assert!(!home.is_there());
    }

    #[test]
    fn one_program_at_a_time_and_the_other_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(dir.path()).unwrap();
        let error = Home::create(dir.path()).unwrap_err();
        assert!(
            matches!(error, Error::HomeLocked { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        drop(home);
        assert!(Home::create(dir.path()).is_ok());
    }

    #[test]
    fn only_the_owner_can_look_inside() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(&dir.path().join("h")).unwrap();
        home.save(&config()).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        let file = home.path().join("config.toml");
        assert_eq!((mode(home.path()), mode(&file)), (0o700, 0o600));
        assert_eq!(home.opened(), []);
        // Somebody has opened them: the file is closed again, and both are told.
        let path = home.path().to_owned();
        drop(home);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let home = Home::open(&path).unwrap();
        assert_eq!((mode(&path), mode(&file)), (0o777, 0o600));
        let said: Vec<(u32, bool)> = home.opened().iter().map(|o| (o.mode, o.closed)).collect();
        assert_eq!(said, [(0o777, false), (0o644, true)]);
        // What is no file of the home stays as it is.
        drop(home);
        let (folder, other) = (path.join("vault.db"), path.join("other"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert!(Home::open(&path).is_ok());
        assert_eq!(mode(&folder), 0o755);
        fs::remove_file(path.join("lock")).unwrap();
        fs::write(&other, "keep").unwrap();
        std::os::unix::fs::symlink(&other, path.join("lock")).unwrap();
        assert!(Home::open(&path).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "keep");
    }
}
