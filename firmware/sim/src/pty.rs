//! The pseudo-terminal that stands for the USB serial port.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::Failure;

/// How long a host may leave a frame unread before the token drops it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The token's end of the pseudo-terminal, and the link to the host's end; the link goes when this is dropped.
pub(crate) struct Pty {
    master: OwnedFd,
    link: PathBuf,
    target: PathBuf,
}

/// What reading the port gave.
pub(crate) enum Input {
    Bytes(usize),
    /// Nothing within the time.
    Quiet,
    /// No host has the port open.
    HungUp,
}

impl Pty {
    /// Makes a pseudo-terminal in raw mode and links `link` to it.
    pub(crate) fn open(link: &Path) -> Result<Self, Failure> {
        let failed = Failure::system("open a pseudo-terminal");
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .map_err(&failed)?;
        grantpt(&master).map_err(&failed)?;
        unlockpt(&master).map_err(&failed)?;
        let name = ptsname(&master, Vec::new()).map_err(&failed)?;
        let slave = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .map_err(&failed)?;
        let mut modes = tcgetattr(&slave).map_err(&failed)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes).map_err(&failed)?;
        drop(slave);
        rustix::io::ioctl_fionbio(&master, true).map_err(&failed)?;

        if link
            .symlink_metadata()
            .is_ok_and(|metadata| !metadata.is_symlink())
        {
            return Err(Failure::LinkTaken(link.to_owned()));
        }
        let new = link.with_extension(format!("new-{}", std::process::id()));
        let target = PathBuf::from(name.to_string_lossy().into_owned());
        std::os::unix::fs::symlink(&target, &new)
            .and_then(|()| std::fs::rename(&new, link))
            .map_err(|error| Failure::Io("make the link", error))?;
        Ok(Self {
            master,
            link: link.to_owned(),
            target,
        })
    }

    /// Where the port is.
    pub(crate) fn link(&self) -> &Path {
        &self.link
    }

    /// Waits for bytes from the host for at most `wait`.
    pub(crate) fn read(&self, buffer: &mut [u8], wait: Duration) -> io::Result<Input> {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(wait))) {
            Err(rustix::io::Errno::INTR) => return Ok(Input::Quiet),
            other => other?,
        };
        let seen = fds.first().map_or(PollFlags::empty(), PollFd::revents);
        if seen.contains(PollFlags::IN) {
            match rustix::io::read(&self.master, buffer) {
                Ok(0) | Err(rustix::io::Errno::IO) => return Ok(Input::HungUp),
                Ok(length) => return Ok(Input::Bytes(length)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Input::Quiet),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if seen.contains(PollFlags::HUP) {
            Input::HungUp
        } else {
            Input::Quiet
        })
    }

    /// Writes a frame; gives up when the host does not read.
    pub(crate) fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.master, bytes) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.master, PollFlags::OUT)];
                    match poll(&mut fds, Some(&timespec(PATIENCE))) {
                        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Forgets what the last host left unread. What comes in stays: it is of the next host, which may have come already.
    pub(crate) fn flush(&self) {
        let _ =
            rustix::termios::tcflush(self.master.as_fd(), rustix::termios::QueueSelector::OFlush);
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if std::fs::read_link(&self.link).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.link);
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec::try_from(wait).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    fn plug_in(pty: &Pty) -> File {
        let mut port = File::options();
        port.read(true).write(true);
        port.open(pty.link()).expect("port opens")
    }

    #[test]
    fn what_the_next_host_says_at_once_is_not_forgotten_with_the_last() {
        let folder = tempfile::tempdir().expect("folder");
        let pty = Pty::open(&folder.path().join("tty")).expect("a pseudo-terminal");
        drop(plug_in(&pty));
        let mut buffer = [0; 16];
        let seen = pty.read(&mut buffer, Duration::ZERO).expect("read");
        assert!(matches!(seen, Input::HungUp));

        let mut next = plug_in(&pty);
        next.write_all(b"hello").expect("written");
        pty.flush();
        let seen = pty
            .read(&mut buffer, Duration::from_secs(60))
            .expect("read");
        assert!(matches!(seen, Input::Bytes(5)), "the hello is there");
    }
}
