//! Where PIN, code, text and answers come from: a terminal, a file, standard input; never an argument.
//!
//! Standard input is read once for all that is wanted from it, line by line, in the order of the questions.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::path::Path;

use hostchat_core::wire::content::MAX_TEXT;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::token::Pin;

/// No line that is asked for is longer.
const MAX_LINE: u64 = 4096;

/// Whether somebody sits in front: standard input and error are a terminal.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// The terminal's settings before a question that turns its echo off.
pub(super) struct Terminal(Option<(File, Termios)>);

impl Terminal {
    /// Remembers the settings, if there is a terminal.
    pub(super) fn remember() -> Self {
        let terminal = File::open("/dev/tty").ok();
        Self(terminal.and_then(|tty| tcgetattr(&tty).ok().map(|settings| (tty, settings))))
    }

    /// Turns the echo off, before the question is shown: who answers at once shall not see the answer either.
    fn hide(&self) {
        if let Some((tty, settings)) = &self.0 {
            let mut hidden = settings.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(tty, OptionalActions::Now, &hidden);
        }
    }

    /// Sets them again.
    pub(super) fn restore(self) {
        if let Some((tty, settings)) = self.0 {
            let _ = tcsetattr(&tty, OptionalActions::Now, &settings);
        }
    }
}

/// Reads a PIN or passphrase: from `file`, or hidden from the terminal; a new one is asked for twice.
///
/// # Errors
/// `NoTerminal`, `BadPin`, `Io`.
pub(super) fn pin(
    file: Option<&Path>,
    question: &str,
    option: &'static str,
    new: bool,
) -> Result<Pin> {
    let pin = match file {
        Some(file) => Pin::new(first_line(file)?)?,
        None if is_interactive() => {
            let first = hidden(question)?;
            if new {
                first.check_new()?;
                if !hidden("The same again: ")?.equals(&first) {
                    return Err(Error::BadPin("the two are not equal"));
                }
            }
            first
        }
        None => {
            return Err(Error::NoTerminal {
                what: "the PIN or passphrase",
                option,
            });
        }
    };
    if new {
        pin.check_new()?;
    }
    Ok(pin)
}

fn hidden(question: &str) -> Result<Pin> {
    let terminal = Terminal::remember();
    terminal.hide();
    let typed = rpassword::prompt_password(question);
    terminal.restore();
    let typed = typed.map_err(|why| match why.kind() {
        io::ErrorKind::Interrupted => Error::Interrupted,
        _ => Error::io("cannot read from the terminal", why),
    })?;
    Pin::new(Zeroizing::new(typed.into_bytes()))
}

/// The first line of a file, or the next of standard input for `-`, without its end.
///
/// # Errors
/// `Io`; `Usage` if it is too long.
pub(super) fn first_line(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    if file == Path::new("-") {
        return line_of(&mut io::stdin().lock(), "standard input").map(Option::unwrap_or_default);
    }
    let name = file.display().to_string();
    let opened = File::open(file).map_err(|why| Error::io(format!("cannot read {name}"), why))?;
    line_of(&mut BufReader::new(opened), &name).map(Option::unwrap_or_default)
}

fn line_of(from: &mut impl io::BufRead, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    let mut limited = from.take(MAX_LINE);
    limited
        .read_until(b'\n', &mut line)
        .map_err(|why| Error::io(format!("cannot read {name}"), why))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if limited.limit() == 0 {
        return Err(Error::Usage(format!("the line in {name} is too long")));
    }
    Ok(Some(line))
}

/// Whether standard input is a terminal: whoever sits there can say what to send.
pub(super) fn has_keyboard() -> bool {
    io::stdin().is_terminal()
}

/// The text of a message: the argument, or standard input for `-` or nothing; `waits` if others wait in the outbox.
///
/// # Errors
/// `Usage` if it is too long or not UTF-8; `NoTerminal`-like `Usage` if there is nothing to read; `Io`.
pub(super) fn text(argument: Option<&str>, waits: bool) -> Result<Zeroizing<String>> {
    if let Some(text) = argument.filter(|text| *text != "-") {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    if has_keyboard() {
        eprintln!("Type the message; Ctrl-D on an empty line ends it.");
        if waits {
            eprintln!("Ctrl-D alone sends only what waits in the outbox.");
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let most = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX) + 3;
    let mut limited = io::stdin().lock().take(most);
    limited
        .read_to_end(&mut bytes)
        .map_err(|why| Error::io("cannot read standard input", why))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.len() > MAX_TEXT {
        return Err(Error::Usage(format!(
            "the message is longer than {MAX_TEXT} bytes"
        )));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Error::Usage("the message is not UTF-8 text".into())),
    }
}

/// A file as text, `-` for standard input; at most 64 KiB.
///
/// # Errors
/// `Io`, also for what is not text.
pub(super) fn file_text(file: &Path) -> Result<String> {
    let io = |why| Error::io(format!("cannot read {}", file.display()), why);
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin()
            .lock()
            .take(65_536)
            .read_to_string(&mut text)
            .map_err(io)?;
    } else {
        File::open(file)
            .map_err(io)?
            .take(65_536)
            .read_to_string(&mut text)
            .map_err(io)?;
    }
    Ok(text)
}

/// Asks a question on the terminal and reads the answer.
///
/// # Errors
/// `Interrupted` at the end of the input; `Io`.
pub(super) fn ask(question: &str) -> Result<String> {
    eprint!("{question}");
    let _ = io::stderr().flush();
    match line_of(&mut io::stdin().lock(), "the terminal")? {
        Some(line) => Ok(String::from_utf8_lossy(&line).trim().to_owned()),
        None => Err(Error::Interrupted),
    }
}

/// Asks for yes or no.
///
/// # Errors
/// As [`ask`].
pub(super) fn confirm(question: &str) -> Result<bool> {
    Ok(matches!(
        ask(&format!("{question} [y/N] "))?
            .to_ascii_lowercase()
            .as_str(),
        "y" | "yes"
    ))
}

/// Codes, one after the other: typed, or the lines of a file.
pub(super) enum Codes {
    /// From the terminal.
    Typed,
    /// From a file.
    Lines(Box<dyn io::BufRead + Send>),
    /// From standard input.
    Standard,
}

impl Codes {
    /// Opens the source.
    ///
    /// # Errors
    /// `NoTerminal`, `Io`.
    pub(super) fn open(file: Option<&Path>) -> Result<Self> {
        match file {
            Some(file) if file == Path::new("-") => Ok(Self::Standard),
            Some(file) => {
                let opened = File::open(file)
                    .map_err(|why| Error::io(format!("cannot read {}", file.display()), why))?;
                Ok(Self::Lines(Box::new(BufReader::new(opened))))
            }
            None if is_interactive() => Ok(Self::Typed),
            None => Err(Error::NoTerminal {
                what: "the code",
                option: "--code-file",
            }),
        }
    }

    /// The next code: six digits, spaces and hyphens between them passed over. `None` when there are no more.
    ///
    /// # Errors
    /// `Usage` for what is not six digits; `Io`.
    pub(super) fn next(&mut self, question: &str) -> Result<Option<Zeroizing<[u8; 6]>>> {
        let line = match self {
            Self::Typed => return Self::typed(question),
            Self::Lines(lines) => line_of(lines, "the code file")?,
            Self::Standard => line_of(&mut io::stdin().lock(), "standard input")?,
        };
        let Some(line) = line.filter(|line| !line.is_empty()) else {
            return Ok(None);
        };
        six_digits(&line)
            .map(Some)
            .ok_or_else(|| Error::Usage("a code has six digits".into()))
    }

    fn typed(question: &str) -> Result<Option<Zeroizing<[u8; 6]>>> {
        loop {
            let line = Zeroizing::new(ask(question)?);
            if line.is_empty() {
                return Ok(None);
            }
            if let Some(code) = six_digits(line.as_bytes()) {
                return Ok(Some(code));
            }
            eprintln!("A code has six digits; nothing typed gives up.");
        }
    }
}

fn six_digits(typed: &[u8]) -> Option<Zeroizing<[u8; 6]>> {
    let digits = Zeroizing::new(
        typed
            .iter()
            .copied()
            .filter(|b| !matches!(b, b' ' | b'-' | b'\t' | b'\r'))
            .collect::<Vec<u8>>(),
    );
    let code: [u8; 6] = digits.as_slice().try_into().ok()?;
    code.iter()
        .all(u8::is_ascii_digit)
        .then(|| Zeroizing::new(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_six_digits_in_any_grouping() {
        for typed in ["123456", "123 456", "12-34-56", " 123456\r"] {
            assert_eq!(
                six_digits(typed.as_bytes()).as_deref(),
                Some(b"123456"),
                "{typed}"
            );
        }
        for typed in ["", "12345", "1234567", "12345a", "１２３４５６"] {
            assert!(six_digits(typed.as_bytes()).is_none(), "{typed}");
        }
    }

    #[test]
    fn a_line_is_cut_at_its_end_and_bounded() {
        let line =
            |bytes: &[u8]| line_of(&mut BufReader::new(bytes), "x").map(|l| l.map(|l| l.to_vec()));
        assert_eq!(line(b"1234\nrest").unwrap(), Some(b"1234".to_vec()));
        assert_eq!(line(b"1234\r\n").unwrap(), Some(b"1234".to_vec()));
        assert_eq!(
            line(b"pass phrase ").unwrap(),
            Some(b"pass phrase ".to_vec())
        );
        assert_eq!(line(b"").unwrap(), None);
        assert!(line(&[b'x'; 5000]).is_err());
    }
}
