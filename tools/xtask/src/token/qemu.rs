//! QEMU's mps2-an386.
//!
//! ```text
//!  pty ◀── this program ── socket ──▶ UART0
//!           └ "0": closed ── socket ──▶ UART1 (stands for DTR)
//!  DIR: token.flash, entropy, button ◀── semihosting ──▶ the image
//! ```
//!
//! QEMU's own `-serial pty` would not tell the image that the host has closed the port.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{Folder, Machine, failed, wires};
use crate::step::Failed;

/// Bytes of the emulated flash chip; `firmware/boards/src/qemu/flash.rs` has the same number.
const FLASH_BYTES: usize = 1 << 20;

pub(super) fn start(image: &Path, folder: &Folder, button: &Path) -> Result<Machine, Failed> {
    make_flash(folder)?;
    let (ours, theirs) = wires()?;
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
            &format!("socket,id=port,fd={}", theirs.port.as_raw_fd()),
        ])
        .args([
            "-chardev",
            &format!("socket,id=line,fd={}", theirs.line.as_raw_fd()),
        ])
        .args(["-serial", "chardev:port", "-serial", "chardev:line"])
        .arg("-semihosting-config")
        .arg(semihosting(button))
        .arg("-kernel")
        .arg(image);
    Machine::start(command, folder, ours)
}

/// A blank flash chip, unless there is one.
fn make_flash(folder: &Folder) -> Result<(), Failed> {
    let flash = folder.path.join("token.flash");
    if !flash.exists() {
        let new = folder.path.join("token.flash.new");
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
    Ok(())
}

/// The option that allows files to the image and tells it where the button is. QEMU wants commas doubled.
fn semihosting(button: &Path) -> OsString {
    let button = button.to_string_lossy().replace(',', ",,");
    format!("enable=on,target=native,arg={button}").into()
}
