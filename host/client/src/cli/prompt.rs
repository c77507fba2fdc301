//! Where codes, texts and answers come from: a terminal, a file, standard input; never an argument but for the text.
//!
//! Standard input is read once for all that is wanted from it, line by line, in the order of the questions.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use hostchat_core::wire::content::MAX_TEXT;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::terminal::{Terminal, line};
use crate::error::{Error, Result};

/// No input for a message is read any further: so much of it is counted, to say how long it is.
const MAX_READ: usize = 1 << 20;

/// Whether somebody sits in front who can be asked.
pub(super) fn is_interactive() -> bool {
    Terminal::open().is_some()
}

/// The first line of a file, or the next of standard input for `-`, without its end.
///
/// # Errors
/// `Io`; `Usage` if it is too long.
pub(super) fn first_line(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let found = if file == Path::new("-") {
        line(io::stdin(), "standard input")
    } else {
        line(open(file)?, &file.display().to_string())
    };
    found.map(Option::unwrap_or_default)
}

fn open(file: &Path) -> Result<File> {
    File::open(file).map_err(|why| Error::io(format!("cannot read {}", file.display()), why))
}

/// Whether standard input is a terminal: whoever sits there can say what to send.
pub(super) fn has_keyboard() -> bool {
    io::stdin().is_terminal()
}

/// The text of a message: the argument, or standard input for `-` or nothing; `waits` if others wait in the outbox.
///
/// # Errors
/// `Usage` if it is too long, blank or not UTF-8; `Io`.
pub(super) fn text(argument: Option<&str>, waits: bool) -> Result<Zeroizing<String>> {
    let bytes = match argument.filter(|text| *text != "-") {
        Some(text) => Zeroizing::new(text.as_bytes().to_vec()),
        None => typed_text(waits)?,
    };
    if bytes.len() > MAX_TEXT {
        return Err(too_long(bytes.len()));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::Usage("the message is not UTF-8 text".into()))?;
    if !text.is_empty() && text.chars().all(is_blank) {
        return Err(Error::Usage("the message consists of blanks only".into()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether a character alone shows nothing: white space, the joiners, and the fillers of Braille and Hangul.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{2800}' | '\u{115f}' | '\u{1160}')
        || matches!(c, '\u{3164}' | '\u{ffa0}' | '\u{feff}' | '\u{ad}')
}

fn typed_text(waits: bool) -> Result<Zeroizing<Vec<u8>>> {
    if has_keyboard() {
        eprintln!("Type the message; Ctrl-D on an empty line ends it.");
        if waits {
            eprintln!("Ctrl-D alone sends only what waits in the outbox.");
        }
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_TEXT));
    let mut chunk = Zeroizing::new([0; 4096]);
    while bytes.len() <= MAX_READ {
        match rustix::io::read(io::stdin(), chunk.as_mut_slice()) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(why) => return Err(Error::io("cannot read standard input", why.into())),
        }
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn too_long(bytes: usize) -> Error {
    let (length, over) = if bytes > MAX_READ {
        ("more than 1 MiB".to_owned(), String::new())
    } else {
        (
            format!("{bytes} bytes"),
            format!(", which is {} too many", bytes - MAX_TEXT),
        )
    };
    Error::Usage(format!(
        "the message has {length}{over}: {MAX_TEXT} bytes fit. (Letters other than a to z take two to four bytes.)"
    ))
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
/// `NoAnswer` at the end of the input; `NoTerminal`, `Io`.
pub(super) fn ask(question: &str) -> Result<String> {
    let line = terminal("an answer", "--yes")?.ask(question)?;
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

fn terminal(what: &'static str, option: &'static str) -> Result<Terminal> {
    Terminal::open().ok_or(Error::NoTerminal { what, option })
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
    Lines(File),
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
            Some(file) => open(file).map(Self::Lines),
            None => terminal("the code", "--code-file").map(|_| Self::Typed),
        }
    }

    /// The next code, `None` when there are no more.
    ///
    /// # Errors
    /// `Usage` for what is not six digits; `NoAnswer`, `Io`.
    pub(super) fn next(&mut self, question: &str) -> Result<Option<Zeroizing<[u8; 6]>>> {
        let line = match self {
            Self::Typed => return Self::typed(question),
            Self::Lines(file) => line(file, "the code file")?,
            Self::Standard => line(io::stdin(), "standard input")?,
        };
        let Some(line) = line.filter(|line| !line.is_empty()) else {
            return Ok(None);
        };
        six_digits(&line)
            .map(Some)
            .ok_or_else(|| Error::Usage("a code has six digits".into()))
    }

    fn typed(question: &str) -> Result<Option<Zeroizing<[u8; 6]>>> {
        let mut terminal = terminal("the code", "--code-file")?;
        loop {
            let line = terminal.ask(question)?;
            if line.trim_ascii().is_empty() {
                return Ok(None);
            }
            if let Some(code) = six_digits(&line) {
                return Ok(Some(code));
            }
            terminal.say("A code has six digits; nothing typed gives up.");
        }
    }
}

/// The six digits in what was typed or pasted: all that are in it, or the only group of six, of any script.
fn six_digits(typed: &[u8]) -> Option<Zeroizing<[u8; 6]>> {
    let typed = std::str::from_utf8(typed).ok()?;
    let all = group(typed);
    if all.len() == 6 {
        return all.as_slice().try_into().ok().map(Zeroizing::new);
    }
    let is_within = |c: char| digit(c).is_some() || c.is_whitespace() || is_dash(c);
    let groups = typed.split(|c| !is_within(c)).map(group);
    let mut codes = groups.filter(|group| group.len() == 6);
    match (codes.next(), codes.next()) {
        (Some(only), None) => only.as_slice().try_into().ok().map(Zeroizing::new),
        _ => None,
    }
}

fn group(typed: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(typed.chars().filter_map(digit).collect())
}

/// What phones put between the halves of a code.
fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{ad}' | '\u{2010}'
            ..='\u{2015}' | '\u{2212}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'
    )
}

/// The first digit, zero, of the scripts that have ten decimal digits of their own (Unicode 16, category Nd, those in use).
const ZEROS: [char; 24] = [
    '0',
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{a8d0}',
    '\u{ff10}',
    '\u{1e950}',
];

/// A digit of any script, in ASCII.
fn digit(c: char) -> Option<u8> {
    ZEROS.iter().find_map(|zero| {
        let value = u32::from(c).checked_sub(u32::from(*zero))?;
        let value = u8::try_from(value).ok().filter(|value| *value < 10)?;
        Some(b'0' + value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_six_digits_in_any_grouping_script_and_sentence() {
        for typed in [
            "123456",
            "123 456",
            "12-34-56",
            " 123456\r",
            "123\u{a0}456",
            "123\u{202f}456",
            "123\u{2013}456",
            "\u{200e}123 456\u{200e}",
            "code: 123 456.",
            "hostchat: alice@relay.example asks. Code 123 456. Valid 10 min. Type it in hostchat only.",
            "１２３４５６",
            "١٢٣٤٥٦",
            "۱۲۳ ۴۵۶",
            "१२३४५६",
            "๑๒๓๔๕๖",
        ] {
            assert_eq!(
                six_digits(typed.as_bytes()).as_deref(),
                Some(b"123456"),
                "{typed}"
            );
        }
        for typed in [
            "",
            "12345",
            "1234567",
            "12345a",
            "123 4567",
            "one of 123456 and 654321",
            "valid 10 min",
        ] {
            assert!(six_digits(typed.as_bytes()).is_none(), "{typed}");
        }
        assert!(six_digits(b"\xff123456").is_none());
    }

    #[test]
    fn digits_of_other_scripts_are_digits() {
        for zero in ZEROS {
            for value in 0..10 {
                let c = char::from_u32(u32::from(zero) + value).unwrap();
                assert!(c.is_numeric(), "{c}");
                assert_eq!(digit(c).map(u32::from), Some(48 + value));
            }
        }
    }

    #[test]
    fn a_text_that_is_too_long_says_by_how_much() {
        let message = |text: &str| text_of(text).unwrap_err().to_string();
        assert!(
            message(&"x".repeat(4003)).contains("4003 bytes, which is 3 too many: 4000 bytes fit")
        );
        assert!(message(&"ж".repeat(2001)).contains("which is 2 too many"));
        assert!(message(" \n\t").contains("blanks only"));
        assert!(message("\u{2800}\u{200d} \u{3164}").contains("blanks only"));
        assert!(text_of("").is_ok() && text_of(" x ").is_ok());
    }

    fn text_of(argument: &str) -> Result<Zeroizing<String>> {
        text(Some(argument), false)
    }
}
