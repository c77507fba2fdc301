//! `cargo xtask token`: a board's own image in an emulator, as a serial port on a pseudo-terminal.
//!
//! ```text
//!  hostchat --token LINK ◀──▶ pty ◀──▶ this program ◀── port ──▶ emulator: the image
//!                              └ opened "1", closed "0" ── line ──▶ │
//!  DIR: token.flash, entropy, button ◀─────────────────────────────┘
//!       control (pico: tools/pico-sim/src/control.mjs)
//! ```
//!
//! If this program dies, even by `kill -9`, the kernel kills the emulator with it; a lock that both hold keeps a second
//! token off the same flash file.

pub(crate) mod pico;
mod pty;
mod qemu;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::firmware::{Board, Log, build};
use crate::setup::debian_packages;
use crate::step::Failed;
use pty::{Ended, Pty, relay};

/// How long a start waits for an emulator that is being killed to let go of its flash.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long this program holds the button down, and then leaves it alone.
const PRESS: Duration = Duration::from_millis(300);

/// What `cargo xtask token` is given.
#[derive(Args)]
pub(crate) struct TokenArguments {
    /// The board.
    #[arg(long, value_enum)]
    board: Board,
    /// Where the serial port appears: a symbolic link to the pseudo-terminal.
    #[arg(long, value_name = "PATH")]
    link: PathBuf,
    /// Folder of the token: its flash is the file token.flash in it. Made if missing [default: token-BOARD].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The button is this file: it is down while the file is there (qemu: a press is the file being made, and the token
    /// removes it). Without it, it is pressed by itself.
    #[arg(long, value_name = "PATH")]
    button: Option<PathBuf>,
    /// Prints how long answers take, in the chip's own time (pico).
    #[arg(long)]
    trace: bool,
    /// Runs this image instead of building one.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// Installs what runs the images of a board, if it is missing.
pub(crate) fn emulator(board: Board) -> Result<(), Failed> {
    debian_packages(&[("setpriv", "util-linux")])?;
    match board {
        Board::Pico => pico::install(),
        Board::Qemu => debian_packages(&[("qemu-system-arm", "qemu-system-arm")]),
        Board::Nrf52840 | Board::Pico2 => Err(no_emulator(board)),
    }
}

/// Runs the token until a signal asks it to end.
pub(crate) fn token(arguments: &TokenArguments) -> Result<(), Failed> {
    let board = arguments.board;
    emulator(board)?;
    let image = match &arguments.image {
        Some(image) => image.clone(),
        None => build(board, Log::None)?,
    };
    let image = std::path::absolute(image).map_err(failed("find the image"))?;
    if !image.is_file() {
        return Err(Failed(format!("there is no image at {}", image.display())));
    }
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&asked)).map_err(failed("take signals"))?;
    }
    let dir = arguments.dir.clone();
    let folder = Folder::open(&dir.unwrap_or_else(|| format!("token-{}", board.feature()).into()))?;
    let mut finger = Finger::new(board, arguments.button.as_deref(), &folder.path)?;
    loop {
        let mut machine = match board {
            Board::Pico => pico::start(&image, &folder, &finger.path, arguments.trace)?,
            Board::Qemu => qemu::start(&image, &folder, &finger.path)?,
            Board::Nrf52840 | Board::Pico2 => return Err(no_emulator(board)),
        };
        let pty = Pty::open(&arguments.link)?;
        println!("ready: {}", arguments.link.display());
        io::stdout().flush().map_err(failed("print"))?;
        match relay(&pty, &mut machine, &mut finger, &asked)? {
            Ended::Asked => return Ok(()),
            Ended::Reset => eprintln!("the token has reset itself"),
        }
    }
}

fn no_emulator(board: Board) -> Failed {
    Failed(format!(
        "there is no emulator of {} here; pico and qemu have one",
        board.feature()
    ))
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

    /// A source of random numbers, unless there is one.
    fn furnish(&self) -> Result<(), Failed> {
        let entropy = self.path.join("entropy");
        if entropy.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("/dev/urandom", entropy)
                .map_err(failed("link the source of random numbers"))?;
        }
        Ok(())
    }
}

/// Who presses the button, and where.
struct Finger {
    path: PathBuf,
    /// Since when this program presses it; `None`: somebody else does.
    own: Option<Instant>,
    /// The token removes the file of a press that it has taken; otherwise the button is down while the file is there.
    taken_away: bool,
    down: bool,
}

impl Finger {
    fn new(board: Board, button: Option<&Path>, folder: &Path) -> Result<Self, Failed> {
        let path = button.map_or_else(|| Ok(folder.join("button")), std::path::absolute);
        Ok(Self {
            path: path.map_err(failed("find the button"))?,
            own: button.is_none().then(Instant::now),
            taken_away: board == Board::Qemu,
            down: false,
        })
    }

    /// To be called now and then: presses, and lets go.
    fn press(&mut self) {
        let Some(since) = self.own else {
            return;
        };
        // What fails is tried again.
        if self.taken_away {
            let _ = File::create(&self.path);
            return;
        }
        let down = since.elapsed().as_millis() / PRESS.as_millis() % 2 == 1;
        if down != self.down {
            let done = if down {
                File::create(&self.path).map(drop)
            } else {
                std::fs::remove_file(&self.path)
            };
            self.down = down == done.is_ok();
        }
    }
}

/// The emulator; killed when dropped.
struct Machine {
    child: Child,
    port: OwnedFd,
    line: OwnedFd,
}

/// One side of the two wires to an emulator: the port's bytes, and whether the port is open.
struct Wires {
    port: OwnedFd,
    line: OwnedFd,
}

/// Our side and the emulator's.
fn wires() -> Result<(Wires, Wires), Failed> {
    let wire = || {
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
    let (port, line) = (wire()?, wire()?);
    let side = |port, line| Wires { port, line };
    Ok((side(port.0, line.0), side(port.1, line.1)))
}

impl Machine {
    /// Starts an emulator in the token's folder. `command` is one of setpriv's, so that the kernel kills the emulator if
    /// this program is killed.
    fn start(mut command: Command, folder: &Folder, wires: Wires) -> Result<Self, Failed> {
        command
            .current_dir(&folder.path)
            // Ctrl-C is for this program, which then ends the emulator.
            .process_group(0)
            .stdin(Stdio::null());
        Ok(Self {
            child: command.spawn().map_err(failed("start the emulator"))?,
            port: wires.port,
            line: wires.line,
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
