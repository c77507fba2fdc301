//! The terminal on which questions are asked: the controlling one, also where standard input or output lead elsewhere.
//!
//! Nothing that is typed goes through a buffer of the standard library, which nobody wipes.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcsetattr,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// No line that is asked for is longer.
const MAX_LINE: usize = 4096;
/// The special character of a terminal that is none (`_POSIX_VDISABLE` of Linux).
const NO_KEY: u8 = 0;
/// The key that suspends a program.
const CTRL_Z: u8 = 0x1a;

/// A terminal, with its settings before a question that turns its echo off.
pub(super) struct Terminal {
    input: File,
    output: File,
    settings: Option<Termios>,
}

impl Terminal {
    /// Opens the terminal; `None` if nobody sits in front of one.
    pub(super) fn open() -> Option<Self> {
        let controlling = File::options().read(true).write(true).open("/dev/tty");
        let (input, output) = match controlling {
            Ok(tty) => (tty.try_clone().ok()?, tty),
            // A terminal that controls nothing, as containers have them.
            Err(_) if io::stdin().is_terminal() && io::stderr().is_terminal() => (
                rustix::io::dup(io::stdin()).ok()?.into(),
                rustix::io::dup(io::stderr()).ok()?.into(),
            ),
            Err(_) => return None,
        };
        let settings = tcgetattr(&input).ok();
        Some(Self {
            input,
            output,
            settings,
        })
    }

    /// Asks a question and reads the line that is typed, without its end.
    ///
    /// # Errors
    /// `NoAnswer` at the end of the input; `Io`; `Usage` if the line is too long.
    pub(super) fn ask(&mut self, question: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.output
            .write_all(question.as_bytes())
            .map_err(|why| Error::io("cannot write to the terminal", why))?;
        line(&self.input, "the terminal")?.ok_or(Error::NoAnswer)
    }

    /// As [`Self::ask`]; what is typed is not shown, and Ctrl-Z does nothing: the shell would have no echo either.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) fn ask_hidden(&mut self, question: &str) -> Result<Zeroizing<Vec<u8>>> {
        // Before the question is shown: who answers at once shall not see the answer either.
        self.hide();
        let mut typed = self.ask(question);
        self.restore();
        // Whoever pressed it did not mean a character of a secret.
        if let Ok(typed) = &mut typed {
            typed.retain(|byte| *byte != CTRL_Z);
        }
        // The line end was not shown either.
        let _ = self.output.write_all(b"\n");
        typed
    }

    /// Forgets what was typed and not read yet: it was not meant for the question that comes next.
    pub(super) fn discard_typed(&self) {
        let _ = tcflush(&self.input, QueueSelector::IFlush);
    }

    /// Shows a line.
    pub(super) fn say(&mut self, text: &str) {
        // A terminal that is gone is found out by the question that follows.
        let _ = writeln!(self.output, "{text}");
    }

    /// Shows nothing that is typed until the value is dropped, for the time between questions for a secret.
    pub(super) fn quiet(self) -> Quiet {
        self.hide();
        Quiet(self)
    }

    fn hide(&self) {
        if let Some(settings) = &self.settings {
            let mut hidden = settings.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            hidden.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
            let _ = tcsetattr(&self.input, OptionalActions::Now, &hidden);
        }
    }

    /// Sets it as it was opened.
    pub(super) fn restore(&self) {
        if let Some(settings) = &self.settings {
            let _ = tcsetattr(&self.input, OptionalActions::Now, settings);
        }
    }
}

/// A terminal that shows nothing of what is typed.
pub(super) struct Quiet(Terminal);

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.restore();
    }
}

/// The next line of `from`, without its end; `None` at the end. Nothing behind the line is read.
///
/// # Errors
/// `Io`; `Usage` if it is too long.
pub(super) fn line(from: impl AsFd, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    loop {
        let mut byte = Zeroizing::new([0]);
        match rustix::io::read(&from, byte.as_mut_slice()) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) if byte[0] == b'\n' => {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            Ok(_) if line.len() == MAX_LINE => {
                return Err(Error::Usage(format!("the line in {name} is too long")));
            }
            Ok(_) => line.push(byte[0]),
            Err(Errno::INTR) => {}
            Err(why) => return Err(Error::io(format!("cannot read {name}"), why.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    #[test]
    fn a_line_is_cut_at_its_end_and_bounded_and_nothing_behind_it_is_read() {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        };
        let read = |file: &File| line(file, "x").map(|line| line.map(|line| line.to_vec()));
        let two = file(b"1234\nrest");
        assert_eq!(read(&two).unwrap(), Some(b"1234".to_vec()));
        assert_eq!(read(&two).unwrap(), Some(b"rest".to_vec()));
        assert_eq!(read(&two).unwrap(), None);
        assert_eq!(read(&file(b"1234\r\n")).unwrap(), Some(b"1234".to_vec()));
        let blanks = file(b"pass phrase ");
        assert_eq!(read(&blanks).unwrap(), Some(b"pass phrase ".to_vec()));
        assert_eq!(read(&file(b"\n")).unwrap(), Some(Vec::new()));
        assert!(read(&file(&[b'x'; MAX_LINE])).is_ok());
        assert!(read(&file(&[b'x'; MAX_LINE + 1])).is_err());
    }
}
