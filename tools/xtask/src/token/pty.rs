//! The pseudo-terminal, and the bytes between it and the emulator.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::{Finger, Machine, failed};
use crate::step::Failed;

/// Time between two looks at signals, the emulator and the button.
const TICK_MS: i64 = 20;
/// Exit status of an emulator whose chip has reset itself.
const RESET: i32 = 3;

/// Why the relay ended.
pub(super) enum Ended {
    /// A signal asked for it.
    Asked,
    /// The chip has reset itself: it goes off the bus and comes back.
    Reset,
}

/// The pseudo-terminal and the link to it, which goes when this is dropped.
pub(super) struct Pty {
    master: OwnedFd,
    link: PathBuf,
    target: PathBuf,
}

impl Pty {
    pub(super) fn open(link: &Path) -> Result<Self, Failed> {
        let oops = failed("open a pseudo-terminal");
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .map_err(&oops)?;
        grantpt(&master).map_err(&oops)?;
        unlockpt(&master).map_err(&oops)?;
        let name = ptsname(&master, Vec::new()).map_err(&oops)?;
        let slave = rustix::fs::open(
            &name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(&oops)?;
        let mut modes = tcgetattr(&slave).map_err(&oops)?;
        modes.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &modes).map_err(&oops)?;
        drop(slave);
        rustix::io::ioctl_fionbio(&master, true).map_err(&oops)?;
        if link
            .symlink_metadata()
            .is_ok_and(|metadata| !metadata.is_symlink())
        {
            return Err(Failed(format!(
                "{} exists and is not a link of ours",
                link.display()
            )));
        }
        let target = PathBuf::from(name.to_string_lossy().into_owned());
        let new = link.with_extension(format!("new-{}", std::process::id()));
        std::os::unix::fs::symlink(&target, &new)
            .and_then(|()| std::fs::rename(&new, link))
            .map_err(failed("make the link"))?;
        Ok(Self {
            master,
            link: link.to_owned(),
            target,
        })
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if std::fs::read_link(&self.link).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.link);
        }
    }
}

/// Bytes on their way from one end to the other; at most one portion, so that a slow reader slows the writer down.
#[derive(Default)]
struct Portion(Vec<u8>);

impl Portion {
    /// Reads a portion if there is room; `false` at the end of the source.
    fn fill(&mut self, from: impl AsFd) -> Result<bool, Failed> {
        if !self.0.is_empty() {
            return Ok(true);
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(from, &mut buffer) {
            Ok(0) | Err(Errno::IO | Errno::CONNRESET) => Ok(false),
            Ok(length) => {
                self.0
                    .extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(error) => Err(Failed(format!("cannot read the port: {error}"))),
        }
    }

    fn drain(&mut self, to: impl AsFd) -> Result<(), Failed> {
        if self.0.is_empty() {
            return Ok(());
        }
        match rustix::io::write(to, &self.0) {
            Ok(length) => {
                self.0.drain(..length);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::IO | Errno::PIPE) => Ok(()),
            Err(error) => Err(Failed(format!("cannot write the port: {error}"))),
        }
    }
}

/// Carries bytes until a signal or the end of the emulator.
pub(super) fn relay(
    pty: &Pty,
    machine: &mut Machine,
    finger: &mut Finger,
    asked: &AtomicBool,
) -> Result<Ended, Failed> {
    let (mut inward, mut outward) = (Portion::default(), Portion::default());
    let mut connected = false;
    while !asked.load(Ordering::SeqCst) {
        if let Some(status) = machine
            .child
            .try_wait()
            .map_err(failed("watch the emulator"))?
        {
            return if status.code() == Some(RESET) {
                Ok(Ended::Reset)
            } else {
                Err(Failed(format!("the emulator ended ({status})")))
            };
        }
        finger.press();

        let wants = |portion: &Portion| {
            if portion.0.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        let gives = |portion: &Portion| {
            if portion.0.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            }
        };
        let mut ends = [
            PollFd::new(&pty.master, wants(&inward) | gives(&outward)),
            PollFd::new(&machine.port, wants(&outward) | gives(&inward)),
        ];
        match poll(
            &mut ends,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: TICK_MS * 1_000_000,
            }),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failed(format!("cannot wait for the port: {error}"))),
        }
        let seen = ends[0].revents();

        let open = if seen.contains(PollFlags::IN) && inward.0.is_empty() {
            inward.fill(&pty.master)?
        } else {
            !seen.contains(PollFlags::HUP)
        };
        if open {
            if !std::mem::replace(&mut connected, true) {
                let _ = rustix::io::write(&machine.line, b"1");
            }
        } else {
            // Nobody has the port open: what the token says goes nowhere, and the next host must not find it.
            outward.0.clear();
            if std::mem::take(&mut connected) {
                inward.0.clear();
                let _ = rustix::io::write(&machine.line, b"0");
                // Not what comes in: that is of the next host, which may have come already.
                let _ =
                    rustix::termios::tcflush(&pty.master, rustix::termios::QueueSelector::OFlush);
            }
            // Polling a port that is closed returns at once.
            std::thread::sleep(Duration::from_millis(5));
        }
        inward.drain(&machine.port)?;
        outward.fill(&machine.port)?;
        if open {
            outward.drain(&pty.master)?;
        }
    }
    Ok(Ended::Asked)
}
