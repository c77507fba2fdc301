//! `cargo xtask token`: a board's own image in an emulator, as a serial port on a pseudo-terminal.
//!
//! ```text
//!  hostchat --token LINK ◀──▶ pty ◀──▶ this program ◀── socket ──▶ QEMU UART0
//!                              └ closed ──▶ "0" ── socket ──▶ QEMU UART1 (stands for DTR)
//!  DIR: token.flash, entropy, button ◀── semihosting ──▶ the image
//! ```
//!
//! QEMU's own `-serial pty` would not tell the image that the host has closed the port. If this program dies, even by
//! `kill -9`, the kernel kills QEMU with it; a lock that both hold keeps a second token off the same flash file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::firmware::{Board, build_step, image};
use crate::setup::debian_packages;
use crate::step::Failed;

/// Bytes of the emulated flash chip; `firmware/boards/src/qemu/flash.rs` has the same number.
const FLASH_BYTES: usize = 1 << 20;
/// How long a start waits for an emulator that is being killed to let go of its flash.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks at signals, the emulator and the button.
const TICK_MS: i64 = 20;

/// What `cargo xtask token` is given.
#[derive(Args)]
pub(crate) struct TokenArguments {
    /// The board.
    #[arg(long, value_enum)]
    board: Board,
    /// Where the serial port appears: a symbolic link to the pseudo-terminal.
    #[arg(long, value_name = "PATH")]
    link: PathBuf,
    /// Folder of the token: its flash is the file token.flash in it. Made if missing.
    #[arg(long, value_name = "DIR", default_value = "token-qemu")]
    dir: PathBuf,
    /// A press of the button is this file being made (the token removes it). Without it, it is pressed by itself.
    #[arg(long, value_name = "PATH")]
    button: Option<PathBuf>,
    /// Runs this image instead of building one.
    #[arg(long, value_name = "ELF")]
    image: Option<PathBuf>,
}

/// Installs what runs images, if it is missing.
pub(crate) fn emulator() -> Result<(), Failed> {
    debian_packages(&[
        ("qemu-system-arm", "qemu-system-arm"),
        ("setpriv", "util-linux"),
    ])
}

/// Runs the token until a signal asks it to end.
pub(crate) fn token(arguments: &TokenArguments) -> Result<(), Failed> {
    emulator()?;
    let elf = match &arguments.image {
        Some(elf) => elf.clone(),
        None => {
            build_step(arguments.board).run()?;
            image(arguments.board)
        }
    };
    let elf = std::path::absolute(elf).map_err(failed("find the image"))?;
    if !elf.is_file() {
        return Err(Failed(format!("there is no image at {}", elf.display())));
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(failed("take signals"))?;
    }
    let folder = Folder::open(&arguments.dir)?;
    let finger = Finger::new(arguments.button.as_deref(), &folder.path)?;
    let pty = Pty::open(&arguments.link)?;
    let mut machine = Machine::start(&elf, &folder, finger.path())?;
    println!("ready: {}", arguments.link.display());
    io::stdout().flush().map_err(failed("print"))?;
    relay(&pty, &mut machine, &finger, &ended)
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failed {
    move |error| Failed(format!("cannot {what}: {error}"))
}

/// The folder of one token, locked for as long as this program or its emulator lives.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn open(path: &Path) -> Result<Self, Failed> {
        std::fs::create_dir_all(path).map_err(failed("make the token's folder"))?;
        let path = std::fs::canonicalize(path).map_err(failed("find the token's folder"))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed("make the lock file"))?;
        let begin = Instant::now();
        while let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK || begin.elapsed() > LOCK_PATIENCE {
                return Err(Failed(format!(
                    "the token in {} is in use by another process; give this one another --dir",
                    path.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // The emulator inherits the lock: it holds as long as either lives.
        fcntl_setfd(&lock, FdFlags::empty()).map_err(failed("share the lock"))?;
        let folder = Self { path, _lock: lock };
        folder.furnish()?;
        Ok(folder)
    }

    /// A blank flash chip and a source of random numbers, unless they are there.
    fn furnish(&self) -> Result<(), Failed> {
        let flash = self.path.join("token.flash");
        if !flash.exists() {
            let new = self.path.join("token.flash.new");
            File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&new)
                .and_then(|mut file| file.write_all(&vec![0xFF; FLASH_BYTES]))
                .and_then(|()| std::fs::rename(&new, &flash))
                .map_err(failed("make the flash file"))?;
        }
        let entropy = self.path.join("entropy");
        if entropy.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("/dev/urandom", entropy)
                .map_err(failed("link the source of random numbers"))?;
        }
        Ok(())
    }
}

/// Who presses the button.
enum Finger {
    /// This program, whenever the token has taken the last press.
    Itself(PathBuf),
    /// Whoever makes the file.
    Outside(PathBuf),
}

impl Finger {
    fn new(button: Option<&Path>, folder: &Path) -> Result<Self, Failed> {
        match button {
            Some(path) => {
                let path = std::path::absolute(path).map_err(failed("find the button"))?;
                Ok(Self::Outside(path))
            }
            None => Ok(Self::Itself(folder.join("button"))),
        }
    }

    fn path(&self) -> &Path {
        let (Self::Itself(path) | Self::Outside(path)) = self;
        path
    }

    fn press(&self) {
        if let Self::Itself(path) = self {
            // A press that fails is tried again at the next tick.
            let _ = File::create(path);
        }
    }
}

/// The emulator; killed when dropped.
struct Machine {
    child: Child,
    /// UART0.
    port: OwnedFd,
    /// UART1.
    line: OwnedFd,
}

impl Machine {
    fn start(elf: &Path, folder: &Folder, button: &Path) -> Result<Self, Failed> {
        let pair = || {
            let (ours, theirs) = socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )
            .map_err(failed("make a socket"))?;
            fcntl_setfd(&theirs, FdFlags::empty()).map_err(failed("share a socket"))?;
            rustix::io::ioctl_fionbio(&ours, true).map_err(failed("set up a socket"))?;
            Ok((ours, theirs))
        };
        let ((port, port_theirs), (line, line_theirs)) = (pair()?, pair()?);
        // setpriv: if this program is killed, the kernel kills the emulator with it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-arm"])
            .args([
                "-M",
                "mps2-an386",
                "-display",
                "none",
                "-monitor",
                "none",
                "-nodefaults",
                "-nic",
                "none",
            ])
            .args([
                "-chardev",
                &format!("socket,id=port,fd={}", port_theirs.as_raw_fd()),
            ])
            .args([
                "-chardev",
                &format!("socket,id=line,fd={}", line_theirs.as_raw_fd()),
            ])
            .args(["-serial", "chardev:port", "-serial", "chardev:line"])
            .arg("-semihosting-config")
            .arg(semihosting(button))
            .arg("-kernel")
            .arg(elf)
            .current_dir(&folder.path)
            // Ctrl-C is for this program, which then ends the emulator.
            .process_group(0)
            .stdin(Stdio::null());
        let child = command.spawn().map_err(failed("start qemu-system-arm"))?;
        Ok(Self { child, port, line })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The option that allows files to the image and tells it where the button is. QEMU wants commas doubled.
fn semihosting(button: &Path) -> OsString {
    let button = button.to_string_lossy().replace(',', ",,");
    format!("enable=on,target=native,arg={button}").into()
}

/// The pseudo-terminal and the link to it, which goes when this is dropped.
struct Pty {
    master: OwnedFd,
    link: PathBuf,
    target: PathBuf,
}

impl Pty {
    fn open(link: &Path) -> Result<Self, Failed> {
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
fn relay(
    pty: &Pty,
    machine: &mut Machine,
    finger: &Finger,
    ended: &AtomicBool,
) -> Result<(), Failed> {
    let (mut inward, mut outward) = (Portion::default(), Portion::default());
    let mut connected = false;
    while !ended.load(Ordering::SeqCst) {
        if let Some(status) = machine
            .child
            .try_wait()
            .map_err(failed("watch the emulator"))?
        {
            return Err(Failed(format!("the emulator ended ({status})")));
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
            connected = true;
        } else {
            // Nobody has the port open: what the token says goes nowhere, and the next host must not find it.
            outward.0.clear();
            if std::mem::take(&mut connected) {
                inward.0.clear();
                let _ = rustix::io::write(&machine.line, b"0");
                let _ =
                    rustix::termios::tcflush(&pty.master, rustix::termios::QueueSelector::IOFlush);
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
    Ok(())
}
