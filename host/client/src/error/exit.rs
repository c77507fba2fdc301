//! Exit codes, for scripts: append-only.

use serde::{Deserialize, Serialize};

use super::Error;
use super::hint::is_disk_full;

/// What the program ends with; the numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
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
    /// A message that was accepted cannot be opened.
    Unreadable = 16,
    /// The account has stopped until the user gives word.
    Stopped = 17,
    /// Another program uses the home.
    InUse = 18,
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
        "home directory: not initialised, initialised already, somebody else's, damaged",
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
        "the relay refused: name unknown or taken, blocked by the receiver, relay full, too many requests, ...",
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
        "the identity of the contact has changed, or seems to; nothing that waits is sent before your next word",
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
        Exit::Unreadable,
        "what you accepted cannot be opened: it was deleted, or its sender is asked for it again",
    ),
    (
        Exit::Stopped,
        "the account has stopped: a second copy of its keys is in use, or the relay lies",
    ),
    (
        Exit::InUse,
        "another hostchat uses the home directory: nothing was sent or changed; repeat the command later",
    ),
    (
        Exit::Interrupted,
        "interrupted; a message not sent yet stays in the outbox",
    ),
];

impl Error {
    /// The exit code of a program that ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::NoTerminal { .. } => Exit::Usage,
            Self::NotInitialised(_)
            | Self::AlreadyInitialised { .. }
            | Self::HomeDenied { .. }
            | Self::Config { .. } => Exit::Home,
            Self::HomeLocked { .. } | Self::HolderGone => Exit::InUse,
            Self::WrongPin { .. }
            | Self::TriesOfPowerCycleSpent { .. }
            | Self::TriesSpent
            | Self::BadPin(_)
            | Self::Locked => Exit::Pin,
            Self::TokenAbsent { .. }
            | Self::TokenBusy { .. }
            | Self::TokenDenied(_)
            | Self::TokenSilent { .. }
            | Self::TokenStuck(_)
            | Self::TokenUnplugged(_)
            | Self::TokenVersion { .. }
            | Self::NotAToken { .. }
            | Self::TokenAnswer { .. }
            | Self::TokenBlank
            | Self::TokenNotBlank
            | Self::TokenDamaged
            | Self::TokenErased
            | Self::NoKeys { .. }
            | Self::TokenKind { .. }
            | Self::Link(_)
            | Self::Token(_) => Exit::Token,
            Self::NoTouch { .. } => Exit::Touch,
            Self::RelayUnreachable { .. }
            | Self::RelayCertificate { .. }
            | Self::RelayCertificateDate { .. }
            | Self::RelayVersion { .. }
            | Self::RelayProtocol { .. }
            | Self::RelayGone { .. } => Exit::Relay,
            Self::RelayRefused { .. } | Self::AccountForgotten { .. } => Exit::Refused,
            Self::Queued(_) => Exit::Queued,
            Self::Kept(waiting) => waiting.why.exit(),
            Self::CodeDead
            | Self::CodeUp { .. }
            | Self::WrongCode { .. }
            | Self::CodeExpired
            | Self::PairingEnded { .. }
            | Self::CodeOver { .. }
            | Self::AnsweredAlready
            | Self::BadOffer { .. }
            | Self::TooManyAnswers { .. } => Exit::Pairing,
            Self::UnknownContact(_)
            | Self::NameInUse(_)
            | Self::PrekeysOld(_)
            | Self::NoSession(_)
            | Self::WantsCode(_)
            | Self::Binding(_)
            | Self::BadExport(_) => Exit::Contact,
            Self::IdentityChanged(_) | Self::ChangedBack(_) => Exit::Changed,
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
            Self::Stopped { .. } => Exit::Stopped,
            Self::Unreadable { .. } | Self::AskedAgain(_) => Exit::Unreadable,
            Self::Nothing(_) | Self::NobodyAsks | Self::NoAgent => Exit::Nothing,
            Self::Io { .. } => Exit::Io,
            Self::NoAnswer | Self::Interrupted => Exit::Interrupted,
            Self::Internal(_) => Exit::Internal,
            Self::Fault(fault) => fault.exit,
        }
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
        assert!(EXIT_CODES.iter().any(|(e, _)| *e == Exit::Interrupted));
    }
}
