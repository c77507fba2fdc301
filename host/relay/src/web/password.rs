//! The operator's password: a file that holds its Argon2id hash, mode 0600, beside relay.toml.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use hostchat_core::crypto::hash::sha256;

use crate::error::Error;

/// Name of the file in the relay's folder.
pub(crate) const FILE: &str = "admin.password";
/// Shortest password, in bytes: a few words. Whoever copies the file can guess at leisure.
pub(crate) const SHORTEST: usize = 12;
/// Longest password, in bytes.
pub(crate) const LONGEST: usize = 1024;
/// Longest hash in its text form, in bytes; ours have 97.
const LONGEST_HASH: u64 = 512;

/// A hash as it stands in the file.
#[derive(Clone)]
pub(crate) struct Hash(String);

impl Hash {
    /// Reads the file; `None` if there is none, and so no admin page.
    pub(crate) fn load(path: &Path) -> io::Result<Option<Self>> {
        use std::io::Read as _;
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(LONGEST_HASH).read_to_string(&mut text)?;
        let text = text.trim();
        if !text.starts_with("$argon2id$") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not an Argon2id hash",
            ));
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// Tells one hash from another, without being one.
    pub(crate) fn id(&self) -> [u8; 32] {
        sha256(&[self.0.as_bytes()])
    }

    /// Whether it is the hash of `password`; takes some tens of milliseconds and 19 MiB.
    pub(crate) fn matches(&self, password: &[u8]) -> bool {
        Argon2::default()
            .verify_password(password, self.0.as_str())
            .is_ok()
    }
}

/// Hashes `password` into the file, in place of one that is there.
///
/// # Errors
/// `Argument` for its length; `Io`.
pub(crate) fn set(path: &Path, password: &[u8]) -> Result<(), Error> {
    if !(SHORTEST..=LONGEST).contains(&password.len()) {
        return Err(Error::Argument(format!(
            "a password has {SHORTEST} to {LONGEST} bytes"
        )));
    }
    let hash: argon2::PasswordHash = Argon2::default()
        .hash_password(password)
        .map_err(|error| Error::Argument(format!("the password cannot be hashed: {error}")))?;
    let write = || {
        let partial = path.with_extension("partial");
        // Left by a command that was interrupted.
        let _ = fs::remove_file(&partial);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        writeln!(file, "{hash}")?;
        // Root may set it for the relay's own user, who has to read it.
        if rustix::process::geteuid().is_root() {
            let folder = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
            std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&partial, path)?;
        path.parent().map_or(Ok(()), |f| File::open(f)?.sync_all())
    };
    write().map_err(Error::io(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_kept_as_an_argon2id_hash_that_only_it_matches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(Hash::load(&path).unwrap().is_none());
        for bad in [&b"short"[..], &[b'x'; LONGEST + 1]] {
            assert!(matches!(set(&path, bad), Err(Error::Argument(_))));
        }
        assert!(!path.exists());
        set(&path, b"correct horse battery").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        assert!(!text.contains("horse"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(4711), Some(4712)).unwrap();
            set(&path, b"correct horse battery").unwrap();
            let file = fs::metadata(&path).unwrap();
            assert_eq!((file.uid(), file.gid()), (4711, 4712), "the relay's user");
        }
        let hash = Hash::load(&path).unwrap().unwrap();
        assert!(hash.matches(b"correct horse battery"));
        for wrong in [
            &b""[..],
            b"correct horse battery ",
            b"Correct horse battery",
        ] {
            assert!(!hash.matches(wrong));
        }
        // The same password again is another hash: sessions of the one before end.
        set(&path, b"correct horse battery").unwrap();
        assert_ne!(Hash::load(&path).unwrap().unwrap().id(), hash.id());
        fs::write(&path, "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA").unwrap();
        assert!(Hash::load(&path).is_err());
    }
}
