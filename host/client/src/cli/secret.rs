//! PINs and passphrases: where they come from, and which new ones are good enough.

use std::path::Path;

use zeroize::Zeroizing;
use zxcvbn::zxcvbn;

use super::prompt;
use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::model::{Pin, TokenKind};

/// Guesses a second of somebody with the file of a software token: Argon2id with 64 MiB on about five graphics cards.
const GUESSES: f64 = 10_000.0;
/// What a new passphrase has to withstand at least, in seconds: a day of such guesses.
const LEAST: f64 = 86_400.0;
/// Nobody's first guesses: a PIN has eight tries.
const FIRST_GUESSES: f64 = 100.0;

/// What unlocks a token, as its user calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// Of a hardware token.
    Pin,
    /// Of a software token.
    Passphrase,
}

impl From<TokenKind> for Secret {
    fn from(kind: TokenKind) -> Self {
        match kind {
            TokenKind::Serial => Self::Pin,
            TokenKind::Software => Self::Passphrase,
        }
    }
}

impl Secret {
    fn question(self, new: bool) -> &'static str {
        match (self, new) {
            (Self::Pin, false) => "PIN of the token: ",
            (Self::Pin, true) => "New PIN of the token: ",
            (Self::Passphrase, false) => "Passphrase: ",
            (Self::Passphrase, true) => "New passphrase: ",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pin => "PIN",
            Self::Passphrase => "passphrase",
        }
    }

    /// Reads the present one: the first line of `file`, or what is typed.
    ///
    /// # Errors
    /// `NoTerminal`, `NoAnswer`, `BadPin`, `Io`.
    pub(super) fn present(self, file: Option<&Path>) -> Result<Pin> {
        match file {
            Some(file) => self.of_file(file),
            None => {
                let typed = self
                    .terminal("--pin-file")?
                    .ask_hidden(self.question(false))?;
                Pin::new(typed).map_err(|why| self.bad(why))
            }
        }
    }

    /// Reads a new one, which is typed twice, until it is good enough; `option` names the file.
    ///
    /// # Errors
    /// `NoTerminal`, `NoAnswer`, `BadPin`, `Io`.
    pub(super) fn choose(self, file: Option<&Path>, option: &'static str) -> Result<Pin> {
        if let Some(file) = file {
            let pin = self.of_file(file)?;
            self.judge(&pin)?;
            return Ok(pin);
        }
        let mut terminal = self.terminal(option)?;
        loop {
            let typed = terminal.ask_hidden(self.question(true))?;
            let judged = Pin::new(typed)
                .map_err(|why| self.bad(why))
                .and_then(|pin| self.judge(&pin).map(|praise| (pin, praise)));
            let (pin, praise) = match judged {
                Ok(judged) => judged,
                Err(why @ Error::BadPin(_)) => {
                    terminal.discard_typed();
                    terminal.say(&format!("{why}: {}.", why.hint()));
                    continue;
                }
                Err(other) => return Err(other),
            };
            if let Some(praise) = praise {
                terminal.say(&praise);
            }
            let again = Pin::new(terminal.ask_hidden("The same again: ")?);
            if again.is_ok_and(|again| again.equals(&pin)) {
                return Ok(pin);
            }
            terminal.discard_typed();
            terminal.say("The two are not equal. Try again.");
        }
    }

    fn terminal(self, option: &'static str) -> Result<Terminal> {
        Terminal::open().ok_or(Error::NoTerminal {
            what: match self {
                Self::Pin => "the PIN",
                Self::Passphrase => "the passphrase",
            },
            option,
        })
    }

    fn of_file(self, file: &Path) -> Result<Pin> {
        let mut line = prompt::first_line(file)?;
        // Editors of other systems put a mark in front, which nobody has typed.
        if line.starts_with(&[0xef, 0xbb, 0xbf]) {
            line.drain(..3);
        }
        if line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]) {
            return Err(Error::Usage(format!(
                "{} is UTF-16 text: save it as UTF-8",
                file.display()
            )));
        }
        Pin::new(line).map_err(|why| self.bad(why))
    }

    /// Says of which kind it is.
    fn bad(self, why: Error) -> Error {
        match why {
            Error::BadPin(why) => Error::BadPin(format!("the {} {why}", self.name())),
            other => other,
        }
    }

    /// Refuses what is too weak for a new one; says how strong a passphrase is.
    fn judge(self, pin: &Pin) -> Result<Option<String>> {
        pin.check_new().map_err(|why| self.bad(why))?;
        let text = Zeroizing::new(String::from_utf8_lossy(pin.bytes()).into_owned());
        let guesses = 10_f64.powf(zxcvbn(&text, &["hostchat"]).guesses_log10());
        match self {
            Self::Pin if guesses < FIRST_GUESSES => Err(self.bad(Error::BadPin(
                "is one of the first that anybody tries".into(),
            ))),
            Self::Pin => Ok(None),
            Self::Passphrase => {
                let seconds = guesses / GUESSES;
                let lasts = duration(seconds);
                if seconds < LEAST {
                    let why = format!("is too weak: somebody with your files guesses it {lasts}");
                    return Err(self.bad(Error::BadPin(why)));
                }
                Ok(Some(format!(
                    "Strength: somebody with your files guesses it {lasts}, at 10,000 guesses a second."
                )))
            }
        }
    }
}

/// How long a guess takes, roughly.
fn duration(seconds: f64) -> String {
    const STEPS: [(f64, &str); 6] = [
        (60.0, "minutes"),
        (3600.0, "hours"),
        (86_400.0, "days"),
        (30.4 * 86_400.0, "months"),
        (365.25 * 86_400.0, "years"),
        (100.0 * 365.25 * 86_400.0, "centuries"),
    ];
    let unit = STEPS.iter().rev().find(|(length, _)| seconds >= *length);
    match unit {
        None => "within a minute".into(),
        Some((length, unit)) if seconds / length >= 1000.0 => {
            format!("after thousands of {unit}")
        }
        Some((length, unit)) => format!("after about {:.0} {unit}", (seconds / length).max(2.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(secret: Secret, text: &str) -> Result<Option<String>> {
        secret.judge(&Pin::new(Zeroizing::new(text.as_bytes().to_vec()))?)
    }

    #[test]
    fn new_secrets_are_judged_by_what_they_have_to_withstand() {
        for weak in [
            "1234",
            "123456",
            "password",
            "P@ssw0rd1",
            "hostchat2026",
            "qwertyuiop",
            "aaaaaaaaaaaaaaaa",
        ] {
            let why = judge(Secret::Passphrase, weak).unwrap_err();
            assert!(matches!(why, Error::BadPin(_)), "{weak}: {why}");
            assert!(why.to_string().starts_with("the passphrase "), "{why}");
        }
        for strong in ["correct horse battery staple", "vW7$kq!9zLp2"] {
            let praise = judge(Secret::Passphrase, strong).unwrap().unwrap();
            assert!(
                praise.contains("years") || praise.contains("centuries"),
                "{praise}"
            );
        }
        for (pin, good) in [
            ("1234", false),
            ("38412", false),
            ("123456", false),
            ("111111", false),
            ("384126", true),
            ("a long passphrase for a token", true),
        ] {
            assert_eq!(judge(Secret::Pin, pin).is_ok(), good, "{pin}");
        }
    }

    #[test]
    fn durations_are_said_roughly() {
        for (seconds, said) in [
            (0.0, "within a minute"),
            (61.0, "after about 2 minutes"),
            (5.0 * 3600.0, "after about 5 hours"),
            (3.0 * 86_400.0, "after about 3 days"),
            (40.0 * 365.25 * 86_400.0, "after about 40 years"),
            (1e30, "after thousands of centuries"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }
}
