//! Semihosting: files of the host, as ARM's "Semihosting for AArch32 and AArch64" defines the calls.
//!
//! Paths are relative to the folder that QEMU was started in. A call stops the processor until the host has answered.

use core::cell::Cell;
use core::ffi::CStr;
use core::fmt::{self, Write as _};

use cortex_m_semihosting::{debug, nr, syscall};

/// The host refused, or gave less than it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError;

/// How a file is opened: the numbers of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Mode {
    /// `rb`.
    Read = 1,
    /// `r+b`.
    Update = 3,
}

/// An open file of the host.
#[derive(Debug)]
pub struct File(usize);

impl File {
    /// Opens an existing file.
    ///
    /// # Errors
    ///
    /// [`HostError`] if it cannot be opened.
    pub fn open(path: &CStr, mode: Mode) -> Result<Self, HostError> {
        let arguments = [path.as_ptr() as usize, mode as usize, path.count_bytes()];
        // SAFETY: SYS_OPEN reads the three words and the path of that length, which outlive the call.
        let handle = unsafe { syscall(nr::OPEN, &arguments) };
        if handle == usize::MAX {
            Err(HostError)
        } else {
            Ok(Self(handle))
        }
    }

    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// [`HostError`] if it has none.
    pub fn length(&self) -> Result<usize, HostError> {
        // SAFETY: SYS_FLEN reads one word, which outlives the call.
        let length = unsafe { syscall(nr::FLEN, &[self.0]) };
        if length == usize::MAX {
            Err(HostError)
        } else {
            Ok(length)
        }
    }

    /// Goes to a byte.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the file cannot.
    pub fn seek(&mut self, offset: usize) -> Result<(), HostError> {
        // SAFETY: SYS_SEEK reads two words, which outlive the call.
        done(unsafe { syscall(nr::SEEK, &[self.0, offset]) })
    }

    /// Fills `out` from where the file is.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the file ends before, or cannot be read.
    pub fn read(&mut self, out: &mut [u8]) -> Result<(), HostError> {
        let arguments = [self.0, out.as_mut_ptr() as usize, out.len()];
        // SAFETY: SYS_READ writes at most the length given to the buffer given, which is borrowed mutably meanwhile;
        // the arguments carry its address as an integer that was exposed by the cast.
        done(unsafe { syscall(nr::READ, &arguments) })
    }

    /// Writes all of `bytes` where the file is.
    ///
    /// # Errors
    ///
    /// [`HostError`] if not everything was written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        let arguments = [self.0, bytes.as_ptr() as usize, bytes.len()];
        // SAFETY: SYS_WRITE reads the length given from the buffer given, which outlives the call.
        done(unsafe { syscall(nr::WRITE, &arguments) })
    }
}

/// Removes a file of the host; `false` if there is none.
#[must_use]
pub fn remove(path: &CStr) -> bool {
    // SAFETY: SYS_REMOVE reads two words and the path of that length, which outlive the call.
    let result = unsafe { syscall(nr::REMOVE, &[path.as_ptr() as usize, path.count_bytes()]) };
    result == 0
}

/// Copies the command line that QEMU was given (`-semihosting-config arg=...`), which ends in a zero byte.
///
/// # Errors
///
/// [`HostError`] if it does not fit.
pub fn command_line(out: &mut [u8]) -> Result<(), HostError> {
    let arguments = Cell::new([out.as_mut_ptr() as usize, out.len()]);
    // SAFETY: SYS_GET_CMDLINE writes at most the length given to the buffer given, and the length it used to the second
    // word, which a `Cell` allows; the buffer is borrowed mutably meanwhile.
    done(unsafe { syscall(nr::GET_CMDLINE, &arguments) })
}

/// Writes a line to the host's standard error. Never to be given anything from a command.
pub fn print(line: fmt::Arguments<'_>) {
    let mut text = Text(heapless::Vec::new());
    // A line that is too long is cut.
    let _ = writeln!(text, "{line}");
    if text.0.push(0).is_err()
        && let Some(last) = text.0.last_mut()
    {
        *last = 0;
    }
    // SAFETY: SYS_WRITE0 reads up to the zero byte, which is there, in a buffer that outlives the call.
    unsafe { cortex_m_semihosting::syscall1(nr::WRITE0, text.0.as_ptr() as usize) };
}

/// Ends the emulator with a message: the board's way to fail, never a hang.
pub fn fail(what: fmt::Arguments<'_>) -> ! {
    print(format_args!("token-qemu: {what}"));
    debug::exit(debug::EXIT_FAILURE);
    // An emulator that was not told to obey: a reset is the next best thing.
    cortex_m::peripheral::SCB::sys_reset()
}

fn done(result: usize) -> Result<(), HostError> {
    if result == 0 { Ok(()) } else { Err(HostError) }
}

struct Text(heapless::Vec<u8, 256>);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.capacity() - self.0.len();
        let fits = text
            .as_bytes()
            .get(..room.min(text.len()))
            .unwrap_or_default();
        self.0.extend_from_slice(fits).map_err(|_| fmt::Error)
    }
}
