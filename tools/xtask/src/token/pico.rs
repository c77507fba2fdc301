//! Raspberry Pi Pico: the UF2 image in `tools/pico-sim`.
//!
//! ```text
//!  pty ◀── this program ── descriptor 3 ──▶ USB host in the emulator ──▶ CDC-ACM of the image
//!           └ "1": opened, "0": closed ── descriptor 4 ──▶ DTR
//! ```

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Folder, Machine, failed, wires};
use crate::setup::debian_packages;
use crate::step::{Failed, Step, program, root};

/// How long a chip may take from power-up to being a USB device, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The emulator's own tests.
pub(crate) fn test_step() -> Step {
    let test = |name: &str| {
        home()
            .join("test")
            .join(name)
            .to_string_lossy()
            .into_owned()
    };
    let tests = ["cpu.test.mjs", "machine.test.mjs"].map(test);
    program("tests of the emulated Pico", "node", &["--test"]).args(&[&tests[0], &tests[1]])
}

/// Installs Node and what the emulator needs of npm, if it is missing or older than the lock file.
pub(super) fn install() -> Result<(), Failed> {
    debian_packages(&[("node", "nodejs"), ("npm", "npm")])?;
    let changed = |name: &str| {
        std::fs::metadata(home().join(name))
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    if changed("node_modules/.package-lock.json") >= changed("package-lock.json") {
        return Ok(());
    }
    println!("installing npm packages: rp2040js");
    let folder = home();
    let arguments = ["ci", "--no-audit", "--no-fund", "--prefix"];
    program("npm", "npm", &arguments)
        .args(&[&folder.to_string_lossy()])
        .run()
}

pub(super) fn start(
    image: &Path,
    folder: &Folder,
    button: &Path,
    trace: bool,
) -> Result<Machine, Failed> {
    let (ours, theirs) = wires()?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "sh", "-c"])
        .arg(format!(
            "exec 3<&{} 4<&{}; exec node \"$@\"",
            theirs.port.as_raw_fd(),
            theirs.line.as_raw_fd()
        ))
        .arg("node")
        .arg(home().join("src/main.mjs"))
        .arg("--image")
        .arg(image)
        .args(["--flash", "token.flash", "--entropy", "entropy"])
        .args(["--control", "control"])
        .arg("--button")
        .arg(button)
        .args(trace.then_some("--trace"));
    let mut machine = Machine::start(command, folder, ours)?;
    wait_until_attached(&mut machine)?;
    Ok(machine)
}

/// Waits for the byte that says that the host in the emulator has found the device.
fn wait_until_attached(machine: &mut Machine) -> Result<(), Failed> {
    let begin = Instant::now();
    loop {
        let mut ends = [PollFd::new(&machine.line, PollFlags::IN)];
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        // An interrupted wait is one that found nothing.
        let _ = poll(&mut ends, Some(&tick));
        if matches!(rustix::io::read(&machine.line, &mut [0; 1]), Ok(1)) {
            return Ok(());
        }
        let ended = machine
            .child
            .try_wait()
            .map_err(failed("watch the emulator"))?;
        if let Some(status) = ended {
            return Err(Failed(format!("the emulator ended ({status})")));
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failed("the image is no USB device".into()));
        }
    }
}

fn home() -> PathBuf {
    root().join("tools/pico-sim")
}
