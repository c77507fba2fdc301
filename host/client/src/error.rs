//! What can go wrong, in words for people: a message, a hint, and an exit code for scripts.
//!
//! No variant holds a secret or text that a peer chose freely: names and addresses are checked ASCII, and everything
//! else from outside goes through [`crate::escape`] before it gets here.

use std::io;
use std::path::PathBuf;

use hostchat_core::icd::{LinkError, TokenError};
use hostchat_core::wire::relay::{Reason, Refusal};
use hostchat_core::wire::{Address, PROTOCOL_VERSION, RelayName};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the program ends with; the numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// A fault of this program, or one that no other code describes.
    Internal = 1,
    /// The command line is wrong, or needs a terminal.
    Usage = 2,
    /// The home directory.
    Home = 3,
    /// The PIN or passphrase.
    Pin = 4,
    /// The token.
    Token = 5,
    /// The relay cannot be reached or is not the right one.
    Relay = 6,
    /// The relay refused.
    Refused = 7,
    /// The message is kept in the outbox.
    Queued = 8,
    /// The pairing did not come about.
    Pairing = 9,
    /// The contact.
    Contact = 10,
    /// The contact's identity has changed.
    Changed = 11,
    /// The vault.
    Vault = 12,
    /// No touch, or cancelled at the token.
    Touch = 13,
    /// Reading or writing files, standard input or output.
    Io = 14,
    /// There is nothing to accept or to reply to.
    Nothing = 15,
    /// Interrupted by Ctrl-C or a signal.
    Interrupted = 130,
}

/// All exit codes with what they mean, for the help and the README.
pub const EXIT_CODES: &[(Exit, &str)] = &[
    (Exit::Success, "done"),
    (
        Exit::Internal,
        "a fault of the program itself, or one that no other code describes",
    ),
    (
        Exit::Usage,
        "wrong command line, or a PIN, code or answer is needed and there is no terminal to ask on",
    ),
    (
        Exit::Home,
        "home directory: not initialised, initialised already, in use by another program, damaged",
    ),
    (Exit::Pin, "wrong PIN or passphrase, or no tries left"),
    (
        Exit::Token,
        "token: absent, unplugged, held by another program, blank, damaged, of another version or owner",
    ),
    (
        Exit::Relay,
        "relay: not reachable, wrong certificate, other protocol version, broke the protocol",
    ),
    (
        Exit::Refused,
        "the relay refused: name unknown or taken, mailbox or relay full, too many requests, ...",
    ),
    (
        Exit::Queued,
        "the message was not delivered to the relay; it is kept in the outbox and leaves later",
    ),
    (
        Exit::Pairing,
        "pairing failed: wrong code, code expired, ended by the other side, too many answers",
    ),
    (
        Exit::Contact,
        "no such contact, or the name is ambiguous, or it cannot be reached",
    ),
    (
        Exit::Changed,
        "the identity of the contact has changed; nothing is sent until you accept it",
    ),
    (
        Exit::Vault,
        "vault: damaged, made by a newer version, or sealed by another token",
    ),
    (
        Exit::Touch,
        "the token was not touched in time, or the request was cancelled",
    ),
    (
        Exit::Io,
        "reading or writing failed: disk full, no permission, closed pipe",
    ),
    (
        Exit::Nothing,
        "nothing to do: nobody asks, or there is no message to reply to",
    ),
    (
        Exit::Interrupted,
        "interrupted; a message not sent yet stays in the outbox",
    ),
];

/// Who holds a serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the program, escaped.
    pub program: String,
}

/// Everything that can go wrong in the client.
#[derive(Debug, thiserror::Error)]
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
        address: Address,
    },
    /// Another program uses this home.
    #[error("{} is in use by another hostchat{}", path.display(), pid.map_or_else(String::new, |p| format!(" (process {p})")))]
    HomeLocked {
        /// The home.
        path: PathBuf,
        /// The other process, where known.
        pid: Option<u32>,
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
    #[error("wrong PIN, or not your token{}", tries_text(*tries, *tries_now))]
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
    BadPin(&'static str),

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
    /// Nothing was heard for too long.
    #[error("the token at {0} does not answer")]
    TokenSilent(String),
    /// The port went away.
    #[error("the token at {0} was unplugged")]
    TokenUnplugged(String),
    /// Another protocol version, or no token at all.
    #[error("the token speaks protocol version {theirs}, this program {PROTOCOL_VERSION}")]
    TokenVersion {
        /// What it said.
        theirs: u8,
    },
    /// What came back is not of a token.
    #[error("what answers at {0} is not a hostchat token of protocol version {PROTOCOL_VERSION}")]
    NotAToken(String),
    /// The token has no PIN and no keys yet.
    #[error("the token is blank")]
    TokenBlank,
    /// The token is initialised already.
    #[error("the token is initialised already")]
    TokenNotBlank,
    /// The token's store cannot be read.
    #[error("the token's storage is damaged")]
    TokenDamaged,
    /// The home belongs to a token of the other kind.
    #[error("{}", if *serial { "this home belongs to a hardware token" } else { "this home belongs to its own software token" })]
    TokenKind {
        /// Whether the home belongs to a token on a port.
        serial: bool,
    },
    /// The token holds another identity than the home.
    #[error("this is not the token that this home belongs to")]
    OtherToken,
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
        relay: RelayName,
        /// What the system says, escaped.
        why: String,
    },
    /// The certificate is not the right one.
    #[error("the relay {relay} shows a certificate that is not to be trusted: {why}")]
    RelayCertificate {
        /// The relay.
        relay: RelayName,
        /// What is wrong with it.
        why: String,
    },
    /// Another protocol version.
    #[error("the relay {relay} speaks protocol version {theirs}, this program {PROTOCOL_VERSION}")]
    RelayVersion {
        /// The relay.
        relay: RelayName,
        /// What it said; 0 if it refused ours.
        theirs: u8,
    },
    /// The relay sent what no honest relay sends.
    #[error("the relay {relay} broke the protocol: {why}")]
    RelayProtocol {
        /// The relay.
        relay: RelayName,
        /// What it did.
        why: &'static str,
    },
    /// The connection ended.
    #[error("the connection to the relay {relay} ended: {why}")]
    RelayGone {
        /// The relay.
        relay: RelayName,
        /// Why, escaped.
        why: String,
    },
    /// The relay refused.
    #[error("the relay {relay} refused: {}", reason_text(refusal.reason))]
    RelayRefused {
        /// The relay.
        relay: RelayName,
        /// Its reason.
        refusal: Refusal,
    },

    /// The message stays in the outbox.
    #[error("not sent yet, kept in the outbox: {0}")]
    Queued(#[source] Box<Error>),

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
    #[error("the other side ended the pairing")]
    PairingEnded,
    /// Three unconfirmed answers within ten minutes.
    #[error("three codes were typed within ten minutes without a confirmation")]
    TooManyAnswers {
        /// Seconds until the next.
        seconds: u16,
    },

    /// No such contact.
    #[error("no contact named {0}")]
    UnknownContact(String),
    /// More than one contact of that name.
    #[error("more than one contact is named {0}")]
    AmbiguousContact(String),
    /// That name is in use.
    #[error("another contact is named {0} already")]
    NameInUse(String),
    /// There is no session yet.
    #[error("{0} has not been reached yet: no session")]
    NoSession(Address),
    /// The identity changed.
    #[error("the identity of {0} has changed")]
    IdentityChanged(Address),
    /// The identity that the sender's home relay knows is another one.
    #[error(
        "the home relay of {0} knows another identity for that name: this request is not to be trusted"
    )]
    Binding(Address),
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

    /// Nobody asks.
    #[error("{0}")]
    Nothing(String),
    /// A file or stream failed.
    #[error("{what}: {why}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system says.
        #[source]
        why: io::Error,
    },
    /// Interrupted.
    #[error("interrupted")]
    Interrupted,
    /// A fault of this program.
    #[error("internal fault: {0}")]
    Internal(&'static str),
}

impl Error {
    /// Describes a failed operation on a file or stream.
    pub fn io(what: impl Into<String>, why: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            why,
        }
    }

    /// The exit code of a program that ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::NoTerminal { .. } => Exit::Usage,
            Self::NotInitialised(_)
            | Self::AlreadyInitialised { .. }
            | Self::HomeLocked { .. }
            | Self::Config { .. } => Exit::Home,
            Self::WrongPin { .. }
            | Self::TriesOfPowerCycleSpent { .. }
            | Self::TriesSpent
            | Self::BadPin(_) => Exit::Pin,
            Self::TokenAbsent { .. }
            | Self::TokenBusy { .. }
            | Self::TokenSilent(_)
            | Self::TokenUnplugged(_)
            | Self::TokenVersion { .. }
            | Self::NotAToken(_)
            | Self::TokenBlank
            | Self::TokenNotBlank
            | Self::TokenDamaged
            | Self::TokenKind { .. }
            | Self::OtherToken
            | Self::Link(_)
            | Self::Token(_) => Exit::Token,
            Self::NoTouch { .. } => Exit::Touch,
            Self::RelayUnreachable { .. }
            | Self::RelayCertificate { .. }
            | Self::RelayVersion { .. }
            | Self::RelayProtocol { .. }
            | Self::RelayGone { .. } => Exit::Relay,
            Self::RelayRefused { .. } => Exit::Refused,
            Self::Queued(_) => Exit::Queued,
            Self::CodeDead
            | Self::WrongCode { .. }
            | Self::CodeExpired
            | Self::PairingEnded
            | Self::TooManyAnswers { .. } => Exit::Pairing,
            Self::UnknownContact(_)
            | Self::AmbiguousContact(_)
            | Self::NameInUse(_)
            | Self::NoSession(_)
            | Self::Binding(_)
            | Self::BadExport(_) => Exit::Contact,
            Self::IdentityChanged(_) => Exit::Changed,
            Self::VaultDamaged { .. } | Self::VaultNewer { .. } | Self::VaultOtherToken(_) => {
                Exit::Vault
            }
            Self::Database(error) => {
                if is_disk_full(error) {
                    Exit::Io
                } else {
                    Exit::Vault
                }
            }
            Self::Nothing(_) => Exit::Nothing,
            Self::Io { .. } => Exit::Io,
            Self::Interrupted => Exit::Interrupted,
            Self::Internal(_) => Exit::Internal,
        }
    }

    /// What the user can do about it, one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Usage(_) => "`hostchat help` and `hostchat COMMAND --help` show what is possible".into(),
            Self::NoTerminal { option, .. } => format!("give it with {option} FILE, or {option} - for standard input"),
            Self::NotInitialised(_) => {
                "`hostchat init --relay HOST:PORT --name NAME` makes one; --home or HOSTCHAT_HOME names another place".into()
            }
            Self::AlreadyInitialised { .. } => "use it, give another --home, or `hostchat wipe` to begin anew".into(),
            Self::HomeLocked { .. } => "end the other program (perhaps `hostchat recv --follow`) and try again".into(),
            Self::Config { .. } => "repair the file by hand or from a backup".into(),
            Self::WrongPin { tries: None, .. } => {
                "try again; without the passphrase the keys are lost and only `hostchat wipe` helps".into()
            }
            Self::WrongPin { .. } => "try again with care: when no tries are left the keys are erased".into(),
            Self::TriesOfPowerCycleSpent { .. } => "unplug the token, plug it in and try again".into(),
            Self::TriesSpent => "`hostchat wipe` makes the token usable again, with a new identity; contacts have to \
                                 pair again, and the old history cannot be read any more"
                .into(),
            Self::BadPin(_) => "choose another one".into(),
            Self::TokenAbsent { .. } => "is it plugged in? --token names its port, for example /dev/ttyACM0".into(),
            Self::TokenBusy { .. } => "end that program and try again".into(),
            Self::TokenSilent(_) => "unplug it and plug it in again; is this port really the token's?".into(),
            Self::TokenUnplugged(_) => "plug it in and repeat the command; nothing acknowledged was lost".into(),
            Self::TokenVersion { theirs } if *theirs > PROTOCOL_VERSION => "update hostchat".into(),
            Self::TokenVersion { .. } => "update the token's firmware".into(),
            Self::NotAToken(_) => "check --token; if it is a token, update its firmware or this program".into(),
            Self::TokenBlank => "`hostchat init` sets its PIN and makes its keys".into(),
            Self::TokenNotBlank => "give its PIN, or erase it with `hostchat wipe`".into(),
            Self::TokenDamaged => "`hostchat wipe` erases it; its keys cannot be saved".into(),
            Self::TokenKind { serial: true } => "name its port with --token or HOSTCHAT_TOKEN".into(),
            Self::TokenKind { serial: false } => "leave --token out and unset HOSTCHAT_TOKEN, or give another --home".into(),
            Self::OtherToken | Self::VaultOtherToken(_) => {
                "plug in the right token or give its home with --home; after the loss of a token begin anew in another home: \
                 the old history cannot be read without it"
                    .into()
            }
            Self::Link(LinkError::Busy) => "wait until the other request is done".into(),
            Self::Link(LinkError::Random) | Self::Token(TokenError::Random) => {
                "do not use this token: its random generator fails".into()
            }
            Self::Token(TokenError::SessionsFull) => "delete a contact: `hostchat contacts delete NAME`".into(),
            Self::Link(_) | Self::Token(_) => "repeat the command; if it stays so, plug the token in again".into(),
            Self::NoTouch { .. } => "repeat the command and press the token's button when its light shows waiting".into(),
            Self::RelayUnreachable { .. } => "is the relay running and the address right? check the network".into(),
            Self::RelayCertificate { .. } => "ask the operator for the address with its present fingerprint \
                                              (HOST:PORT#FINGERPRINT) and give it with --relay; if it should not have \
                                              changed, somebody is in between"
                .into(),
            Self::RelayVersion { theirs, .. } if *theirs > PROTOCOL_VERSION => "update hostchat".into(),
            Self::RelayVersion { .. } => "the relay has to be updated, or this program".into(),
            Self::RelayProtocol { .. } => "do not trust this relay; tell its operator".into(),
            Self::RelayGone { .. } => "try again; what was not acknowledged is still there".into(),
            Self::RelayRefused { refusal, .. } => refusal_hint(*refusal),
            Self::Queued(why) => format!("it leaves with the next `hostchat send` or `recv`; {}", why.hint()),
            Self::CodeDead => "make sure that you talk to the right person, then make a new code with \
                               `hostchat send NAME --code print`"
                .into(),
            Self::WrongCode { runs_left: 0 } => "ask the sender for a new code".into(),
            Self::WrongCode { .. } => "run `hostchat accept` again and type the code with care".into(),
            Self::CodeExpired => "codes live ten minutes; the sender makes a new one with `hostchat send NAME --code print`".into(),
            Self::PairingEnded => "the sender has to make a new code with `hostchat send NAME --code print`".into(),
            Self::TooManyAnswers { seconds } => format!("wait {seconds} seconds; restarting does not help"),
            Self::UnknownContact(_) => "`hostchat contacts` lists them; an address is written NAME@HOST:PORT".into(),
            Self::AmbiguousContact(_) => "write the whole address, NAME@HOST:PORT".into(),
            Self::NameInUse(_) => "choose another name".into(),
            Self::NoSession(_) => "`hostchat send NAME TEXT --code print` begins one with a code".into(),
            Self::IdentityChanged(_) => "ask the contact by another way whether the token or computer was replaced; if so, \
                                         `hostchat accept NAME --changed`, or pair anew with `hostchat send NAME --code print --changed`"
                .into(),
            Self::Binding(_) => "decline it: `hostchat accept NAME --decline`".into(),
            Self::BadExport(_) => "`hostchat whoami --export` makes one".into(),
            Self::VaultDamaged { .. } => "restore vault.db from a backup, or move it away: the keys are in the token, \
                                          but history and outbox are lost"
                .into(),
            Self::VaultNewer { .. } => "update hostchat".into(),
            Self::Database(error) if is_disk_full(error) => "make room on the disk and repeat the command".into(),
            Self::Database(_) => "are the disk and the permissions of the home directory in order?".into(),
            Self::Nothing(_) => "`hostchat recv` looks for new messages and requests".into(),
            Self::Io { why, .. } if why.kind() == io::ErrorKind::StorageFull => {
                "make room on the disk and repeat the command".into()
            }
            Self::Io { .. } => "check the path, the permissions and the room on the disk".into(),
            Self::Interrupted => "nothing was lost; repeat the command when you like".into(),
            Self::Internal(_) => "please report this".into(),
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
    let text = why.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    crate::escape::escape(text).into_owned()
}

fn is_disk_full(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DiskFull)
    )
}

fn tries(n: u8) -> String {
    if n == 1 {
        "1 try".into()
    } else {
        format!("{n} tries")
    }
}

fn tries_text(all: Option<u8>, now: Option<u8>) -> String {
    match (all, now) {
        (Some(all), Some(now)) if now < all => format!(
            "; {} left, {now} of them before it has to be plugged in again",
            tries(all)
        ),
        (Some(all), _) => format!("; {} left", tries(all)),
        (None, _) => String::new(),
    }
}

fn holder_text(holder: &Option<Holder>) -> String {
    holder.as_ref().map_or_else(
        || "another program".into(),
        |h| format!("{} (process {})", h.program, h.pid),
    )
}

fn link_text(error: LinkError) -> &'static str {
    match error {
        LinkError::BadRequest => "not expected now",
        LinkError::Locked => "it is locked",
        LinkError::Blank => "it is blank",
        LinkError::NotBlank => "it is initialised already",
        LinkError::WrongPin { .. } => "wrong PIN",
        LinkError::TriesOfPowerCycleSpent => "no tries are left until it is plugged in again",
        LinkError::TriesSpent => "no tries are left",
        LinkError::NoTouch => "no touch",
        LinkError::Cancelled => "cancelled",
        LinkError::Version => "another protocol version",
        LinkError::Storage => "its storage failed",
        LinkError::Random => "its random generator failed",
        LinkError::Busy => "it is busy with another request",
    }
}

fn token_text(error: TokenError) -> &'static str {
    match error {
        TokenError::BadRequest => "not expected now",
        TokenError::NoTouch => "no touch",
        TokenError::Cancelled => "cancelled",
        TokenError::Storage => "its storage failed",
        TokenError::Random => "its random generator failed",
        TokenError::SessionsFull => "no place for another session",
        TokenError::PrekeysFull => "no place for another prekey",
        TokenError::ReplayMemoryFull => "its memory of first messages is full",
        TokenError::UnknownContact => "it knows no such contact",
        TokenError::UnknownSession => "it knows no session for this message",
        TokenError::IdentityChanged => "the identity has changed",
        TokenError::Authentication => "a signature or tag does not match",
        TokenError::Replayed => "this was used before",
        TokenError::TooFarAhead => "too many messages are missing before this one",
        TokenError::PeerMisbehaved => "the other side broke the protocol",
        TokenError::WrongAddress => "it is addressed to somebody else",
        TokenError::Malformed => "it is malformed",
        TokenError::Version => "another version or suite",
        TokenError::NoCode => "no code is held",
        TokenError::WrongCode { .. } => "wrong code",
        TokenError::TooManyAnswers { .. } => "too many answers",
        TokenError::TooManyPending => "three answers wait for their confirmation already",
        TokenError::Prekey => "the prekey is unknown, used or too old",
        TokenError::TooLong => "the content is too long",
        TokenError::WrongPin => "wrong PIN",
        TokenError::NothingToCommit => "nothing to commit",
        TokenError::Uncommitted => "an earlier message is not committed yet",
    }
}

fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::BadRequest => "not a valid request",
        Reason::Version => "protocol version not spoken",
        Reason::LoginFailed => "login failed",
        Reason::UnknownName => "no such account",
        Reason::NameTaken => "the name belongs to another identity",
        Reason::RegistrationClosed => "registration is closed, or the invitation is not valid",
        Reason::GuestsRefused => "it does not admit guests",
        Reason::MailboxFull => "the mailbox of the receiver is full",
        Reason::RelayFull => "its disk is full",
        Reason::RateLimited => "too many requests",
        Reason::TooManyConnections => "too many connections",
        Reason::NoPrekeys => "the receiver has left no keys for first messages",
        Reason::Internal => "an error inside the relay",
        Reason::ShuttingDown => "it is shutting down",
        Reason::TooLarge => "the message is too large",
        Reason::Timeout => "too slow",
    }
}

fn refusal_hint(refusal: Refusal) -> String {
    let later = match refusal.retry_after_ms {
        0 => String::from("try again later"),
        ms => format!("try again in {} s", ms.div_ceil(1000)),
    };
    match refusal.reason {
        Reason::UnknownName => "check the name; `hostchat who` lists who is connected".into(),
        Reason::NameTaken => {
            "choose another --name; after the loss of a token the operator can free the old one"
                .into()
        }
        Reason::RegistrationClosed => {
            "ask the operator for an account or an invitation (--invitation FILE)".into()
        }
        Reason::GuestsRefused => {
            "get an account on that relay: another --home, `hostchat init --relay ...`".into()
        }
        Reason::NoPrekeys => "begin with a code: `hostchat send NAME TEXT --code print`".into(),
        Reason::LoginFailed => {
            "is --relay the name by which the relay knows itself, without a proxy that ends TLS?"
                .into()
        }
        Reason::Version => "update hostchat or the relay".into(),
        Reason::BadRequest | Reason::TooLarge => {
            "this should not happen; are both ends of the same version?".into()
        }
        _ => later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_all_described() {
        for (i, (a, text)) in EXIT_CODES.iter().enumerate() {
            assert!(!text.is_empty());
            assert!(
                EXIT_CODES
                    .iter()
                    .skip(i + 1)
                    .all(|(b, _)| *a as u8 != *b as u8),
                "{a:?}"
            );
        }
        assert!(
            EXIT_CODES
                .iter()
                .any(|(e, _)| *e == Error::Interrupted.exit())
        );
    }

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
        assert_eq!(error.to_string(), "wrong PIN, or not your token");
    }

    #[test]
    fn versions_say_what_to_update() {
        assert_eq!(
            Error::TokenVersion {
                theirs: PROTOCOL_VERSION + 1
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
