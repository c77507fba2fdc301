//! What can go wrong, in words for people: a message, a hint, and an exit code for scripts.
//!
//! No variant holds a secret or text that a peer chose freely: names and addresses are checked ASCII, and everything
//! else from outside goes through [`crate::escape`] before it gets here.

mod exit;
mod fault;
mod hint;

use std::io;
use std::path::PathBuf;

use hostchat_core::icd::TOKEN_VERSION;
use hostchat_core::icd::{LinkError, TokenError};
use hostchat_core::wire::relay::RELAY_VERSION;
use hostchat_core::wire::relay::Refusal;

pub use exit::{EXIT_CODES, Exit};
pub use fault::Fault;
use hint::{holder_text, link_text, reason_text, token_text, tries, tries_text};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who holds a serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the program, escaped.
    pub program: String,
}

/// What sends a message that waits in the outbox. Nobody has to write it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// The next command that reaches the relay.
    ByItself,
    /// `hostchat send` to that contact: there is no session yet.
    WithSend,
    /// `hostchat send --code` to that contact.
    WithCode {
        /// There is a session: without a code it leaves by itself.
        anyway: bool,
    },
}

/// A message that waits in the outbox after a command that failed.
#[derive(Debug)]
pub struct Waiting {
    /// For whom, as an address.
    pub to: String,
    /// What sends it.
    pub leaves: Leaves,
    /// Why it waits.
    pub why: Box<Error>,
}

/// Everything that can go wrong in the client.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// An input is needed and there is no terminal to ask on.
    #[error("{what} is needed, and there is no terminal to ask on")]
    NoTerminal {
        /// What is needed.
        what: &'static str,
        /// The option that gives it.
        option: &'static str,
    },

    /// No account in this home directory.
    #[error("no account in {}", .0.display())]
    NotInitialised(PathBuf),
    /// An account is there already.
    #[error("{} holds the account {address} already", path.display())]
    AlreadyInitialised {
        /// The home.
        path: PathBuf,
        /// Its address.
        address: String,
    },
    /// Another program uses this home.
    #[error("{} is in use by another hostchat{}", path.display(), pid.map_or_else(String::new, |p| format!(" (process {p})")))]
    HomeLocked {
        /// The home.
        path: PathBuf,
        /// The other process, where known.
        pid: Option<u32>,
        /// Where it can be talked to, where known.
        socket: Option<PathBuf>,
    },
    /// Nobody holds the home.
    #[error("no agent runs")]
    NoAgent,
    /// The home was locked while something went on.
    #[error("the home was locked")]
    Locked,
    /// Another program has used this home, and has ended before it answered.
    #[error("the hostchat that held this home has ended before it answered")]
    HolderGone,
    /// The home is somebody else's.
    #[error("you may not use the directory {}: it belongs to {owner}", path.display())]
    HomeDenied {
        /// The home, or a directory above it.
        path: PathBuf,
        /// Its owner.
        owner: String,
    },
    /// The configuration cannot be used.
    #[error("{} cannot be used: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },

    /// Wrong PIN or passphrase.
    #[error("{}{}", if tries.is_some() { "wrong PIN, or not your token" } else { "wrong passphrase" }, tries_text(*tries, *tries_now))]
    WrongPin {
        /// Tries left in all; `None` for a software token, which does not count.
        tries: Option<u8>,
        /// Tries left before the next power cycle.
        tries_now: Option<u8>,
    },
    /// No tries left until the token is plugged in again.
    #[error("no tries of the PIN are left until the token is plugged in again ({tries} in all)")]
    TriesOfPowerCycleSpent {
        /// Tries left in all.
        tries: u8,
    },
    /// No tries left.
    #[error("no tries of the PIN are left: the token has erased its keys")]
    TriesSpent,
    /// The PIN or passphrase cannot be used.
    #[error("{0}")]
    BadPin(String),

    /// The token's port cannot be opened.
    #[error("cannot open the token at {path}: {why}")]
    TokenAbsent {
        /// The port.
        path: String,
        /// What the system says.
        why: String,
    },
    /// Another program holds the port.
    #[error("the token at {path} is held by {}", holder_text(holder))]
    TokenBusy {
        /// The port.
        path: String,
        /// Who, where it can be found out.
        holder: Option<Holder>,
    },
    /// This user may not open the port.
    #[error("you may not open the token's port {0}: permission denied")]
    TokenDenied(String),
    /// Nothing was heard for too long.
    #[error("the token at {path} does not answer{}", also_open(also))]
    TokenSilent {
        /// The port.
        path: String,
        /// Another program that has the port open, and may take what the token says.
        also: Option<Holder>,
    },
    /// It says that it works, and does nothing else.
    #[error("the token at {0} works on one request without an end")]
    TokenStuck(String),
    /// The port went away.
    #[error("the token at {0} was unplugged")]
    TokenUnplugged(String),
    /// Another protocol version, or no token at all.
    #[error("the token speaks protocol version {theirs}, this program {TOKEN_VERSION}")]
    TokenVersion {
        /// What it said.
        theirs: u8,
    },
    /// What came back is not of a token.
    #[error(
        "what answers at {path} is not a hostchat token of protocol version {TOKEN_VERSION}{}",
        also_open(also)
    )]
    NotAToken {
        /// The port.
        path: String,
        /// Another program that has the port open, and may mix in.
        also: Option<Holder>,
    },
    /// An answer does not belong to the session with the token: it was altered, repeated, or meant for somebody else.
    #[error(
        "an answer of the token at {path} does not belong to this session{}",
        also_open(also)
    )]
    TokenAnswer {
        /// The port.
        path: String,
        /// Another program that has the port open, and may mix in.
        also: Option<Holder>,
    },
    /// The token has no PIN and no keys yet.
    #[error("the token is blank")]
    TokenBlank,
    /// The token is initialised already.
    #[error("the token is initialised already")]
    TokenNotBlank,
    /// The token's store cannot be read.
    #[error("the token's storage is damaged")]
    TokenDamaged,
    /// The token of a home has no keys.
    #[error("the token is blank: it is not the token of this home, or it was erased")]
    TokenErased,
    /// The keys of a software token cannot be read.
    #[error("the software token's file {} {why}", path.display())]
    NoKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The home belongs to a token of the other kind.
    #[error("{}", if *serial { "this home belongs to a hardware token" } else { "this home belongs to its own software token" })]
    TokenKind {
        /// Whether the home belongs to a token on a port.
        serial: bool,
    },
    /// The token refused outside the channel.
    #[error("the token refused: {}", link_text(*.0))]
    Link(LinkError),
    /// The token refused a command.
    #[error("the token refused: {}", token_text(*.0))]
    Token(TokenError),
    /// No touch in time, or cancelled.
    #[error("{}", if *cancelled { "cancelled at the token" } else { "the token was not touched in time" })]
    NoTouch {
        /// Cancelled rather than timed out.
        cancelled: bool,
    },

    /// The relay cannot be reached.
    #[error("cannot reach the relay {relay}: {why}")]
    RelayUnreachable {
        /// The relay.
        relay: String,
        /// What the system says, escaped.
        why: String,
    },
    /// The certificate is not the right one.
    #[error("the relay {relay} shows a certificate that is not to be trusted: {why}")]
    RelayCertificate {
        /// The relay.
        relay: String,
        /// What is wrong with it.
        why: String,
    },
    /// A public certificate is not valid now, by this computer's clock.
    #[error("the relay {relay} shows a certificate that is not to be trusted: {why}")]
    RelayCertificateDate {
        /// The relay.
        relay: String,
        /// The date of this computer, and when the certificate is valid.
        why: String,
    },
    /// Another protocol version.
    #[error("the relay {relay} speaks protocol version {theirs}, this program {RELAY_VERSION}")]
    RelayVersion {
        /// The relay.
        relay: String,
        /// What it said; 0 if it refused ours.
        theirs: u8,
    },
    /// The relay sent what no honest relay sends.
    #[error("the relay {relay} broke the protocol: {why}")]
    RelayProtocol {
        /// The relay.
        relay: String,
        /// What it did.
        why: &'static str,
    },
    /// The connection ended.
    #[error("the connection to the relay {relay} ended: {why}")]
    RelayGone {
        /// The relay.
        relay: String,
        /// Why, escaped.
        why: String,
    },
    /// The relay refused.
    #[error("the relay {relay} refused: {}", reason_text(refusal.reason))]
    RelayRefused {
        /// The relay.
        relay: String,
        /// Its reason.
        refusal: Refusal,
    },

    /// The home relay does not know this account any more, and does not register it again.
    #[error("the relay {relay} has forgotten your account: {}", reason_text(refusal.reason))]
    AccountForgotten {
        /// The relay.
        relay: String,
        /// Why it does not register it.
        refusal: Refusal,
    },

    /// The message stays in the outbox, since a relay or the contact cannot take it now.
    #[error("not sent yet, kept in the outbox: {}", .0.why)]
    Queued(Waiting),
    /// Something else went wrong; the message was in the outbox by then, and stays there.
    #[error("{}", .0.why)]
    Kept(Waiting),

    /// The code is used up.
    #[error("wrong code, or somebody is in between: this code is dead")]
    CodeDead,
    /// Another code was typed than shown; nothing more to try with here.
    #[error("wrong code, or somebody is in between{}", if *.runs_left == 0 { ": this code is dead".to_owned() } else { format!(" ({} left for this code)", tries(*.runs_left)) })]
    WrongCode {
        /// Runs left for this code.
        runs_left: u8,
    },
    /// Ten minutes are over.
    #[error("the code has expired")]
    CodeExpired,
    /// The other end gave up.
    #[error("{peer} ended the pairing")]
    PairingEnded {
        /// Who.
        peer: String,
    },
    /// The other end is silent, and its code is over.
    #[error("nothing came from {peer}, and its code has expired by now")]
    CodeOver {
        /// Who showed the code.
        peer: String,
    },
    /// This run was answered before, and the answer was lost or is under way.
    #[error("this request was answered already")]
    AnsweredAlready,
    /// One code is shown at a time.
    #[error("a code for {peer} is shown already")]
    CodeUp {
        /// Whose.
        peer: String,
    },
    /// A request for a code that the token cannot answer, ever.
    #[error("the request of {from} cannot be answered: {}", token_text(*why))]
    BadOffer {
        /// Who asks, as the request says.
        from: String,
        /// What the token found.
        why: TokenError,
    },
    /// Three unconfirmed answers within ten minutes.
    #[error("three codes were typed within ten minutes without a confirmation")]
    TooManyAnswers {
        /// Seconds until the next.
        seconds: u16,
    },

    /// No such contact.
    #[error("no contact named {0}")]
    UnknownContact(String),
    /// That name is in use.
    #[error("another contact is named {0} already")]
    NameInUse(String),
    /// What lies at the relay for first messages is too old.
    #[error(
        "the keys that {0} has left for first messages are older than 45 days, or from the future, by this computer's clock"
    )]
    PrekeysOld(String),
    /// There is no session yet.
    #[error("{0} has not been reached yet: no session")]
    NoSession(String),
    /// Another identity was seen, and the relay names the known one now.
    #[error("the relay names the identity that you know {0} by, and no new one")]
    ChangedBack(String),
    /// A text that was written to leave after a code.
    #[error("a message for {0} waits for a code: it was written to leave after one")]
    WantsCode(String),
    /// The identity changed.
    #[error("the identity of {0} has changed")]
    IdentityChanged(String),
    /// The identity that the sender's home relay knows is another one.
    #[error(
        "the home relay of {0} knows another identity for that name: someone else made this request"
    )]
    Binding(String),
    /// What somebody wrote without a code cannot be opened, and was asked for again.
    #[error("nothing that {0} has written can be read yet")]
    AskedAgain(String),
    /// What somebody wrote without a code cannot be opened.
    #[error("what {from} wrote to you cannot be opened: {}", token_text(*why))]
    Unreadable {
        /// Who, as the request says.
        from: String,
        /// What the token found.
        why: TokenError,
    },
    /// Text that is no exported identity.
    #[error("this is not an exported identity: {0}")]
    BadExport(&'static str),

    /// The vault cannot be read.
    #[error("the vault {} is damaged: {why}", path.display())]
    VaultDamaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: &'static str,
    },
    /// The vault was made by a newer version.
    #[error("the vault {} was made by a newer hostchat (format {found}, this program knows {known})", path.display())]
    VaultNewer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The vault was sealed by another token.
    #[error("the vault {} was sealed by another token", .0.display())]
    VaultOtherToken(PathBuf),
    /// The database failed.
    #[error("the vault cannot be used: {0}")]
    Database(#[source] rusqlite::Error),

    /// The keys of this account are used elsewhere too, or the relay lies.
    #[error(
        "this account has stopped: a second copy of its keys is in use, or the relay lies; {}",
        goes_back(*since)
    )]
    Stopped {
        /// To when this home goes back, milliseconds since 1970; 0 if that is not known.
        since: u64,
    },
    /// There is nothing to do.
    #[error("{0}")]
    Nothing(String),
    /// Nobody asks.
    #[error("no pending requests")]
    NobodyAsks,
    /// A file or stream failed.
    #[error("{what}: {}", plain(why))]
    Io {
        /// What was attempted.
        what: String,
        /// What the system says.
        #[source]
        why: io::Error,
    },
    /// The input ended where an answer was asked for.
    #[error("the input ended before an answer")]
    NoAnswer,
    /// Interrupted.
    #[error("interrupted")]
    Interrupted,
    /// What an agent says.
    #[error("{}", .0.message)]
    Fault(Fault),
    /// A fault of this program.
    #[error("internal fault: {0}")]
    Internal(&'static str),
}

/// To when a home goes back, milliseconds since 1970; 0 if its vault was made anew and does not know.
pub(crate) fn goes_back(since: u64) -> String {
    match since {
        0 => "this home's history is gone, and with it the date of its keys".into(),
        since => format!("this home goes back to {}", crate::os::local(since)),
    }
}

/// Who else has a port open, as the end of a sentence.
fn also_open(also: &Option<Holder>) -> String {
    also.as_ref().map_or_else(String::new, |also| {
        format!(
            "; {} has this port open as well",
            holder_text(&Some(also.clone()))
        )
    })
}

impl Error {
    /// Describes a failed operation on a file or stream.
    pub fn io(what: impl Into<String>, why: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            why,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NoTouch => Self::NoTouch { cancelled: false },
            TokenError::Cancelled => Self::NoTouch { cancelled: true },
            TokenError::WrongCode { runs_left: 0 } => Self::CodeDead,
            TokenError::WrongCode { runs_left } => Self::WrongCode { runs_left },
            TokenError::NoCode => Self::CodeExpired,
            TokenError::TooManyAnswers { seconds } => Self::TooManyAnswers { seconds },
            TokenError::WrongPin => Self::WrongPin {
                tries: None,
                tries_now: None,
            },
            other => Self::Token(other),
        }
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::NoTouch => Self::NoTouch { cancelled: false },
            LinkError::Cancelled => Self::NoTouch { cancelled: true },
            LinkError::Blank => Self::TokenBlank,
            LinkError::NotBlank => Self::TokenNotBlank,
            LinkError::WrongPin { tries, tries_now } => {
                let counted = |n: u8| (n != u8::MAX).then_some(n);
                Self::WrongPin {
                    tries: counted(tries),
                    tries_now: counted(tries_now),
                }
            }
            LinkError::TriesSpent => Self::TriesSpent,
            other => Self::Link(other),
        }
    }
}

/// What the system says about an error, without the number and never with control characters.
pub(crate) fn plain(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::InvalidData => return "it is not UTF-8 text".into(),
        io::ErrorKind::UnexpectedEof => return "it ends too early".into(),
        _ => {}
    }
    let text = why.to_string();
    let text = match text.split_once("failed to lookup address information: ") {
        Some((_, reason)) => format!("its name cannot be looked up ({reason})"),
        None => text,
    };
    let text = text.split(" (os error").next().unwrap_or_default();
    crate::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_pin_tells_what_is_left() {
        let error = Error::from(LinkError::WrongPin {
            tries: 5,
            tries_now: 2,
        });
        assert_eq!(
            error.to_string(),
            "wrong PIN, or not your token; 5 tries left, 2 of them before it has to be plugged in again"
        );
        let error = Error::from(LinkError::WrongPin {
            tries: 255,
            tries_now: 255,
        });
        assert_eq!(error.to_string(), "wrong passphrase");
    }

    #[test]
    fn versions_say_what_to_update() {
        assert_eq!(
            Error::TokenVersion {
                theirs: TOKEN_VERSION + 1
            }
            .hint(),
            "update hostchat"
        );
        assert_eq!(
            Error::TokenVersion { theirs: 0 }.hint(),
            "update the token's firmware"
        );
    }
}
