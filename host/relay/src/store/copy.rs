//! Copies of a store: taken while the relay runs, and put back while it does not.
//!
//! Both write a file beside the final one, sync it, check it as a whole, and only then give it its name: whatever stops
//! the machine meanwhile, a name never stands for half a store.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::check::{self, Report, check};
use super::sqlite::{folder_of, sync_folder, with_suffix};
use super::{StoreError, schema};

/// Why a copy was not made.
#[derive(Debug)]
pub enum CopyError {
    /// This file is in the way.
    Exists(PathBuf),
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// This store is the trouble.
    Store(PathBuf, StoreError),
}

/// Copies the store in `from` to the new file `to`, readable by its owner only; a relay may run meanwhile.
///
/// # Errors
/// `Exists` if there is something at `to`; the copy is checked, so that damage is found now and not when it is needed.
pub fn backup(from: &Path, to: &Path) -> Result<Report, CopyError> {
    if to.symlink_metadata().is_ok() {
        return Err(CopyError::Exists(to.to_owned()));
    }
    let connection = check::open(from).map_err(store(from))?;
    let recognised = schema::recognise(&connection).map_err(store(from))?;
    if recognised.version == 0 {
        return Err(store(from)(StoreError::NotOurs));
    }
    let partial = Partial::make(to)?;
    // SQLite takes an empty file for a new one; the text of a path that is not UTF-8 cannot be bound.
    let name = partial.0.to_str().ok_or_else(|| {
        let why = io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8");
        CopyError::File(to.to_owned(), why)
    })?;
    // One statement reads one state of the database, without holding up the writer.
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| store(to)(error.into()))?;
    drop(connection);
    partial.finish(to)
}

/// Puts the store in `from` at `to`. With `force`, a store that is there is moved aside; its new name is returned.
///
/// The caller makes sure that no relay runs on `to`.
///
/// # Errors
/// `Exists` if there is a store at `to` and no `force`; `Store` if `from` is not a good store of this version or older.
pub fn restore(
    from: &Path,
    to: &Path,
    force: bool,
) -> Result<(Report, Option<PathBuf>), CopyError> {
    if to.symlink_metadata().is_ok() && !force {
        return Err(CopyError::Exists(to.to_owned()));
    }
    let log = with_suffix(from, "-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let why = "it has a log beside it, so that it is no backup but a store in use: take a backup of it";
        return Err(store(from)(StoreError::Other(why.to_owned())));
    }
    let partial = Partial::make(to)?;
    let copy = || {
        let mut target = OpenOptions::new().write(true).open(&partial.0)?;
        io::copy(&mut File::open(from)?, &mut target)
    };
    copy().map_err(|error| CopyError::File(from.to_owned(), error))?;
    partial.check().map_err(|error| match error {
        CopyError::Store(_, why) => CopyError::Store(from.to_owned(), why),
        other => other,
    })?;
    let aside = move_aside(to)?;
    let report = partial.finish(to)?;
    Ok((report, aside))
}

/// A file that gets its name when it is whole, and goes when that fails.
pub(super) struct Partial(pub(super) PathBuf);

impl Partial {
    pub(super) fn make(target: &Path) -> Result<Self, CopyError> {
        let path = with_suffix(target, ".partial");
        // Left by a copy that was interrupted.
        let _ = fs::remove_file(&path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| CopyError::File(path.clone(), error))?;
        Ok(Self(path))
    }

    fn check(&self) -> Result<Report, CopyError> {
        let report = check(&self.0).map_err(store(&self.0))?;
        match report.problems.first() {
            None => Ok(report),
            Some(first) => Err(store(&self.0)(StoreError::Damaged(first.clone()))),
        }
    }

    /// Checks the file, makes it durable and gives it its name, which nothing may have.
    pub(super) fn finish(self, target: &Path) -> Result<Report, CopyError> {
        // Copied beside a running relay, it would look like one that was left by a crash. A file of an older format has no
        // such mark.
        if let Ok(copy) = Connection::open(&self.0) {
            let _ = copy.execute("UPDATE counter SET running = 0", []);
        }
        let report = self.check().map_err(|error| match error {
            CopyError::Store(_, why) => CopyError::Store(target.to_owned(), why),
            other => other,
        })?;
        let publish = || {
            File::open(&self.0)?.sync_all()?;
            match fs::hard_link(&self.0, target) {
                // A file system without links.
                Err(_) if target.symlink_metadata().is_err() => fs::rename(&self.0, target),
                linked => linked,
            }
        };
        publish().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CopyError::Exists(target.to_owned()),
            _ => CopyError::File(target.to_owned(), error),
        })?;
        drop(self);
        sync_folder(target).map_err(store(target))?;
        Ok(report)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(with_suffix(&self.0, suffix));
        }
    }
}

/// Gives a store another name, with whatever belongs to it.
fn move_aside(path: &Path) -> Result<Option<PathBuf>, CopyError> {
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    // A store that is whole takes its log in when it is closed; of a damaged one all files are moved.
    if let Ok(connection) = Connection::open(path) {
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    let aside = (1u32..)
        .map(|n| with_suffix(path, &format!(".before-{n}")))
        .find(|aside| aside.symlink_metadata().is_err())
        .unwrap_or_else(|| with_suffix(path, ".before"));
    // The log first: without its log the database is an older state, but a log would spoil another database.
    for suffix in ["-wal", "-shm", ""] {
        let old = with_suffix(path, suffix);
        match fs::rename(&old, with_suffix(&aside, suffix)) {
            Err(error) if suffix.is_empty() || error.kind() != io::ErrorKind::NotFound => {
                return Err(CopyError::File(old, error));
            }
            _ => {}
        }
    }
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| CopyError::File(path.to_owned(), error))?;
    Ok(Some(aside))
}

fn store(path: &Path) -> impl FnOnce(StoreError) -> CopyError + use<> {
    let path = path.to_owned();
    move |source| CopyError::Store(path, source)
}
