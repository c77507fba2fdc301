//! Errors in words: what is wrong, and what the user can do about it.

use std::io;

use hostchat_core::icd::TOKEN_VERSION;
use hostchat_core::icd::{LinkError, TokenError};
use hostchat_core::wire::relay::RELAY_VERSION;
use hostchat_core::wire::relay::{Reason, Refusal};

use super::{Error, Holder, Leaves, Waiting};

impl Error {
    /// What the user can do about it, one line.
    pub fn hint(&self) -> String {
        match self {
            Self::Fault(fault) => fault.hint.clone(),
            Self::Usage(_) => "`hostchat help` and `hostchat COMMAND --help` show what is possible".into(),
            Self::NoTerminal { option, .. } => format!("give it with {option} FILE, or {option} - for standard input"),
            Self::NotInitialised(_) => {
                "`hostchat init --relay HOST:PORT --name NAME` makes one; --home or HOSTCHAT_HOME names another place".into()
            }
            Self::AlreadyInitialised { .. } => "use it, give another --home, or `hostchat wipe` to begin anew".into(),
            Self::CodeUp { .. } => "nothing was sent or kept. Wait until that code was typed, or end the command that shows it".into(),
            Self::Locked => "`hostchat unlock` opens it again; what waits in the outbox leaves then".into(),
            Self::NoAgent => "`hostchat agent run` starts one".into(),
            Self::HolderGone => "`hostchat outbox` and `hostchat history` show what it has done; then run the command again".into(),
            Self::HomeLocked { .. } => "nothing was sent or changed. End the other program (perhaps `hostchat recv --follow`), or \
                                        wait until it is done, and repeat the command"
                .into(),
            Self::HomeDenied { .. } => {
                "run hostchat as that user, or name a directory of your own with --home or HOSTCHAT_HOME".into()
            }
            Self::Config { .. } => "repair the file by hand or from a backup".into(),
            Self::WrongPin { tries: None, .. } => {
                "try again; without the passphrase the keys are lost and only `hostchat wipe` helps".into()
            }
            Self::WrongPin { .. } => "try again with care: when no tries are left the keys are erased".into(),
            Self::TriesOfPowerCycleSpent { .. } => "unplug the token, plug it in and try again".into(),
            Self::TriesSpent => "`hostchat wipe` makes the token usable again, with a new identity; contacts have to \
                                 pair again, and the old history cannot be read any more"
                .into(),
            Self::BadPin(why) if why.ends_with("is empty") => {
                "type it, or give a file that has it in its first line".into()
            }
            Self::BadPin(why) if why.contains("PIN") => "choose another one, of six or more digits that are no date and no row".into(),
            Self::BadPin(_) => "choose a longer one, of four or more words that do not belong together".into(),
            Self::TokenAbsent { .. } => "is it plugged in? --token names its port, for example /dev/ttyACM0".into(),
            Self::TokenBusy { .. } => "end that program and try again".into(),
            Self::TokenDenied(_) => "install hostchat's udev rule (70-hostchat-token.rules) and plug the token in again; or ask \
                                     to be put into the group that owns the port (`ls -l` shows it), and log in again"
                .into(),
            Self::TokenSilent { also: Some(_), .. }
            | Self::NotAToken { also: Some(_), .. }
            | Self::TokenAnswer { also: Some(_), .. } => "end that program and repeat the command".into(),
            Self::TokenSilent { .. } => "unplug it and plug it in again; is this port really the token's?".into(),
            Self::TokenStuck(_) => "unplug it and plug it in again; if it happens again, write its firmware anew".into(),
            Self::TokenAnswer { .. } => "repeat the command; if it happens again, unplug the token and plug it in again, with \
                                         another cable: something alters what it says"
                .into(),
            Self::TokenUnplugged(_) => "plug it in and repeat the command; nothing acknowledged was lost".into(),
            Self::TokenVersion { theirs } if *theirs > TOKEN_VERSION => "update hostchat".into(),
            Self::TokenVersion { .. } => "update the token's firmware".into(),
            Self::NotAToken { .. } => "check --token; if it is a token, update its firmware or this program".into(),
            Self::TokenBlank => "`hostchat init` sets its PIN and makes its keys".into(),
            Self::TokenNotBlank => "give its PIN, or erase it with `hostchat wipe`".into(),
            Self::TokenDamaged => "`hostchat wipe --local --yes` erases it; its keys cannot be saved".into(),
            Self::TokenErased => "plug in the token of this home. If it was erased its keys are lost: `hostchat wipe --local --yes` \
                                  empties this home, and `hostchat init` makes a new identity"
                .into(),
            Self::NoKeys { .. } => "restore a backup of this home, with all its files. Without one the keys are lost: \
                                    `hostchat wipe --local --yes` empties this home, and `hostchat init` makes a new identity"
                .into(),
            Self::TokenKind { serial: true } => "name its port with --token or HOSTCHAT_TOKEN".into(),
            Self::TokenKind { serial: false } => "leave --token out and unset HOSTCHAT_TOKEN, or give another --home".into(),
            Self::VaultOtherToken(_) => {
                "plug in the right token or give its home with --home; after the loss of a token begin anew in another home: \
                 the old history cannot be read without it"
                    .into()
            }
            Self::Link(LinkError::Busy) => "wait until the other request is done".into(),
            Self::Link(LinkError::Random) | Self::Token(TokenError::Random) => {
                "do not use this token: its random generator fails".into()
            }
            Self::Token(TokenError::SessionsFull) => "delete a contact: `hostchat contacts delete NAME`".into(),
            Self::Link(LinkError::Storage) | Self::Token(TokenError::Storage) => format!("repeat the command; {}", self.mend()),
            Self::Link(_) | Self::Token(_) => {
                "repeat the command; if it happens again, unplug a hardware token and plug it in again".into()
            }
            Self::NoTouch { .. } => "repeat the command and press the token's button when its light shows waiting".into(),
            Self::RelayUnreachable { .. } => "is the relay running and the address right? check the network".into(),
            Self::RelayCertificate { .. } => "ask the operator for the address with its present fingerprint \
                                              and give it with --relay HOST:PORT#FINGERPRINT, or for the relay of a \
                                              contact with NAME@HOST:PORT#FINGERPRINT; if it should not have changed, \
                                              somebody is in between"
                .into(),
            Self::RelayCertificateDate { .. } => "set this computer's clock if it is wrong; otherwise tell the operator of the \
                                                  relay to renew its certificate"
                .into(),
            Self::RelayVersion { theirs, .. } if *theirs > RELAY_VERSION => "update hostchat".into(),
            Self::RelayVersion { .. } => "the relay has to be updated, or this program".into(),
            Self::RelayProtocol { .. } => "do not trust this relay; tell its operator".into(),
            Self::RelayGone { .. } => "try again; what was not acknowledged is still there".into(),
            Self::RelayRefused { refusal, .. } => refusal_hint(*refusal),
            Self::AccountForgotten { relay, refusal } => match refusal.reason {
                Reason::NameTaken => {
                    "somebody else has your name there now. Keys, contacts and history are still here; make an account on \
                     another relay (another --home), and tell your contacts"
                        .into()
                }
                Reason::RegistrationClosed => format!(
                    "keys, contacts and history are still here. Ask the operator of {relay} to open registration for a moment, \
                     and repeat the command: it registers you again"
                ),
                _ => refusal_hint(*refusal),
            },
            Self::Queued(waiting) => match waiting.why.mend() {
                mend if mend.is_empty() => waiting.sent_by(),
                mend => format!("{}; {mend}", waiting.sent_by()),
            },
            Self::Kept(waiting) => waiting.hint(),
            Self::CodeDead => "make sure that you talk to the right person, then make a new code with \
                               `hostchat send NAME --code print`"
                .into(),
            Self::WrongCode { runs_left: 0 } => "ask the sender for a new code".into(),
            Self::WrongCode { .. } => "run `hostchat accept` again and type the code with care".into(),
            Self::CodeExpired => "codes live ten minutes; the sender makes a new one with `hostchat send NAME --code print`".into(),
            Self::AnsweredAlready => "the sender has to make a new code with `hostchat send NAME --code print`".into(),
            Self::PairingEnded { peer } => format!(
                "ask {peer} to make a new code with `hostchat send NAME --code print`. If you had both made one, agree on one of \
                 them: only who types it runs `hostchat accept`"
            ),
            Self::CodeOver { peer } => format!(
                "{peer} has perhaps ended the command that showed the code. Ask for a new one (`hostchat send NAME --code print`) \
                 and run `hostchat accept` again"
            ),
            Self::BadOffer { .. } => "the request is deleted: it was altered on its way, or meant for somebody else; ask the \
                                     sender for a new code"
                .into(),
            Self::TooManyAnswers { seconds } => {
                format!("wait {seconds} seconds; restarting does not help. The sender has been told")
            }
            Self::UnknownContact(_) => "`hostchat contacts` lists them; an address is written NAME@HOST:PORT".into(),
            Self::NameInUse(_) => "choose another name".into(),
            Self::PrekeysOld(_) => "is this computer's clock right? If it is, the contact was not online for long: begin with \
                                    a code, `hostchat send NAME TEXT --code print`"
                .into(),
            Self::NoSession(_) => "`hostchat send NAME TEXT --code print` begins one with a code".into(),
            Self::ChangedBack(to) => format!(
                "did {to} tell you of a new identity? Then the relay lies, or somebody holds the old keys: send nothing. If not, \
                 `hostchat send {to}` goes on as before"
            ),
            Self::WantsCode(to) => format!(
                "`hostchat send {to} --code print` without a text makes a code; `hostchat send {to} --code none` sends it without one"
            ),
            Self::IdentityChanged(_) => "ask the contact by another way whether the token or computer was replaced; if so, \
                                         `hostchat accept NAME --changed`, or pair anew with `hostchat send NAME --code print --changed`"
                .into(),
            Self::Binding(_) => "the request was deleted; ask the contact to write or to send a code again".into(),
            Self::AskedAgain(_) => "`hostchat recv` shows it when it has come again".into(),
            Self::Unreadable { .. } => "it was deleted; ask the sender to write again, or to begin with a code: \
                                        `hostchat send NAME TEXT --code print`"
                .into(),
            Self::BadExport(_) => "`hostchat whoami --export` makes one".into(),
            Self::VaultDamaged { .. } => "restore vault.db from a backup, or move it away: the keys are in the token, \
                                          but history and outbox are lost"
                .into(),
            Self::VaultNewer { .. } => "update hostchat".into(),
            Self::Database(error) if is_disk_full(error) => "make room on the disk and repeat the command".into(),
            Self::Database(_) => "are the disk and the permissions of the home directory in order?".into(),
            Self::Stopped { .. } => {
                "use one copy only; then `hostchat account resume` goes on with this one".into()
            }
            Self::Nothing(_) => "`hostchat recv` looks for new messages and requests".into(),
            Self::NobodyAsks => "a code lives ten minutes: ask its sender for a new one, or wait for it with \
                                 `hostchat accept --wait 600`"
                .into(),
            Self::Io { why, .. } if why.kind() == io::ErrorKind::StorageFull => {
                "make room on the disk and repeat the command".into()
            }
            Self::Io { .. } => "check the path, the permissions and the room on the disk".into(),
            Self::NoAnswer => "repeat the command; nothing was changed by the question".into(),
            Self::Interrupted => "nothing was lost".into(),
            Self::Internal(_) => "please report this".into(),
        }
    }

    /// The same where a message waits in the outbox: what is to be mended. To repeat the command would send it twice.
    fn mend(&self) -> String {
        match self {
            Self::TokenUnplugged(_) => "plug the token in".into(),
            Self::TokenAnswer { also: None, .. } => "if it happens again, unplug the token and plug it in again, with another \
                                                     cable"
                .into(),
            Self::TokenAnswer { .. } | Self::TokenSilent { also: Some(_), .. } | Self::NotAToken { also: Some(_), .. } => {
                "end that program".into()
            }
            Self::NoTouch { .. } => "press the token's button when its light shows waiting".into(),
            Self::Link(LinkError::Busy | LinkError::Random)
            | Self::Token(TokenError::Random | TokenError::SessionsFull) => self.hint(),
            Self::Link(LinkError::Storage) | Self::Token(TokenError::Storage) => {
                "if it happens again, a hardware token is worn out; for a software token make room on the disk, or restore a \
                 backup of this home"
                    .into()
            }
            Self::Link(_) | Self::Token(_) => "if it happens again, unplug a hardware token and plug it in again".into(),
            Self::RelayRefused { refusal, .. } => refusal_mend(*refusal),
            Self::AccountForgotten { relay, refusal } if refusal.reason == Reason::RegistrationClosed => {
                format!("ask the operator of {relay} to open registration for a moment: you are registered again then")
            }
            Self::CodeDead => "make sure that you talk to the right person".into(),
            Self::CodeExpired => "a code lives ten minutes".into(),
            Self::PrekeysOld(_) => {
                "is this computer's clock right? If it is, the contact was not online for a long time".into()
            }
            Self::Database(error) if is_disk_full(error) => "make room on the disk".into(),
            Self::Io { why, .. } if why.kind() == io::ErrorKind::StorageFull => "make room on the disk".into(),
            Self::RelayGone { .. } | Self::NoSession(_) | Self::WantsCode(_) | Self::Interrupted => String::new(),
            other => other.hint(),
        }
    }
}

impl Waiting {
    fn hint(&self) -> String {
        let sent_by = match *self.why {
            // Their hints say what sends it.
            Error::Stopped { .. } | Error::IdentityChanged(_) => String::new(),
            _ => format!(": {}", self.sent_by()),
        };
        match self.why.mend() {
            mend if mend.is_empty() => format!("the message waits in the outbox{sent_by}"),
            mend => format!("{mend}; the message waits in the outbox{sent_by}"),
        }
    }

    /// What sends the message.
    fn sent_by(&self) -> String {
        let to = &self.to;
        let by_itself = "it leaves with the next `hostchat send` or `recv`";
        match self.leaves {
            Leaves::ByItself => by_itself.into(),
            Leaves::WithSend => format!("`hostchat send {to}` without a text sends it"),
            Leaves::WithCode { anyway } => {
                let code =
                    format!("`hostchat send {to} --code print` without a text makes a code for it");
                if anyway {
                    format!("{by_itself}; {code}")
                } else {
                    code
                }
            }
        }
    }
}

pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    // With a full disk, making the write-ahead log's index fails with an I/O error of its own.
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        || error
            .sqlite_error()
            .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

pub(crate) fn tries(n: u8) -> String {
    if n == 1 {
        "1 try".into()
    } else {
        format!("{n} tries")
    }
}

pub(crate) fn tries_text(all: Option<u8>, now: Option<u8>) -> String {
    match (all, now) {
        (Some(all), Some(now)) if now < all => format!(
            "; {} left, {now} of them before it has to be plugged in again",
            tries(all)
        ),
        (Some(all), _) => format!("; {} left", tries(all)),
        (None, _) => String::new(),
    }
}

pub(crate) fn holder_text(holder: &Option<Holder>) -> String {
    holder.as_ref().map_or_else(
        || "another program".into(),
        |h| format!("{} (process {})", h.program, h.pid),
    )
}

pub(crate) fn link_text(error: LinkError) -> &'static str {
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

pub(crate) fn token_text(error: TokenError) -> &'static str {
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
        TokenError::NoLiveSession => "a new session is needed first",
    }
}

pub(crate) fn reason_text(reason: Reason) -> &'static str {
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
        Reason::Blocked => "the receiver takes nothing from you",
        Reason::QuotaFull => "it keeps no more of this for one account",
        Reason::UnknownBlob => "no such file, or not all of it is there",
        Reason::Suspended => "its operator has suspended your account",
    }
}

/// As [`refusal_hint`], for a message that waits in the outbox.
fn refusal_mend(refusal: Refusal) -> String {
    match refusal.reason {
        Reason::MailboxFull
        | Reason::RelayFull
        | Reason::RateLimited
        | Reason::Internal
        | Reason::ShuttingDown
        | Reason::Timeout => match refusal.retry_after_ms {
            0 => String::new(),
            ms => format!("wait {} s before that", ms.div_ceil(1000)),
        },
        Reason::NoPrekeys => String::new(),
        _ => refusal_hint(refusal),
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
        Reason::Blocked => {
            "what you wrote stays in the outbox until they take from you again; `hostchat contacts delete NAME` \
             deletes it with the contact"
                .into()
        }
        Reason::QuotaFull => {
            "`hostchat contacts blocked` lists whom you block; `hostchat contacts unblock NAME` makes room".into()
        }
        Reason::Suspended => {
            "ask the relay's operator; your keys and contacts stay here, and what others send you waits at the relay"
                .into()
        }
        Reason::NoPrekeys => "begin with a code: `hostchat send NAME TEXT --code print`".into(),
        Reason::LoginFailed => {
            "is --relay the name by which the relay knows itself, without a proxy that ends TLS?"
                .into()
        }
        Reason::Version => "update hostchat or the relay".into(),
        Reason::TooManyConnections if refusal.retry_after_ms == 0 => {
            "another program receives for this account: a copy of this home?".into()
        }
        Reason::BadRequest | Reason::TooLarge => {
            "this should not happen; are both ends of the same version?".into()
        }
        _ => later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: Reason) -> Error {
        Error::RelayRefused {
            relay: "h:1".into(),
            refusal: Refusal {
                reason,
                retry_after_ms: 1500,
            },
        }
    }

    /// Everything that can go wrong once a text is in the outbox.
    fn while_sending() -> Vec<Error> {
        let disk_full = || io::Error::from(io::ErrorKind::StorageFull);
        let (relay, why) = (|| "h:1".to_owned(), || "closed".to_owned());
        let mut all = vec![
            Error::TokenUnplugged("/dev/x".into()),
            Error::TokenSilent {
                path: "/dev/x".into(),
                also: None,
            },
            Error::TokenAnswer {
                path: "/dev/x".into(),
                also: None,
            },
            Error::TokenStuck("/dev/x".into()),
            Error::Link(LinkError::Storage),
            Error::Token(TokenError::Storage),
            Error::Token(TokenError::Uncommitted),
            Error::NoTouch { cancelled: false },
            Error::RelayUnreachable {
                relay: relay(),
                why: why(),
            },
            Error::RelayGone {
                relay: relay(),
                why: why(),
            },
            Error::AccountForgotten {
                relay: relay(),
                refusal: Refusal {
                    reason: Reason::RegistrationClosed,
                    retry_after_ms: 0,
                },
            },
            Error::CodeDead,
            Error::CodeExpired,
            Error::PrekeysOld("bob@h:1".into()),
            Error::NoSession("bob@h:1".into()),
            Error::WantsCode("bob@h:1".into()),
            Error::IdentityChanged("bob@h:1".into()),
            Error::Stopped { since: 0 },
            Error::io("cannot write the output", disk_full()),
            Error::Interrupted,
            Error::Internal("x"),
        ];
        let reasons = [
            Reason::UnknownName,
            Reason::GuestsRefused,
            Reason::MailboxFull,
            Reason::RelayFull,
            Reason::RateLimited,
            Reason::NoPrekeys,
            Reason::Internal,
            Reason::ShuttingDown,
            Reason::TooLarge,
            Reason::Timeout,
        ];
        all.extend(reasons.map(refused));
        all
    }

    #[test]
    fn no_hint_tells_to_write_a_message_again_that_waits() {
        for leaves in [
            Leaves::ByItself,
            Leaves::WithSend,
            Leaves::WithCode { anyway: false },
        ] {
            for why in while_sending() {
                let text = why.to_string();
                let waiting = Waiting {
                    to: "bob@h:1".into(),
                    leaves,
                    why: Box::new(why),
                };
                for hint in [waiting.hint(), Error::Queued(waiting).hint()] {
                    for wrong in ["repeat", "again with", "try again", "TEXT", "; ;"] {
                        assert!(!hint.contains(wrong), "{text}: {hint}");
                    }
                    assert!(
                        !hint.starts_with(';') && !hint.ends_with([' ', ';']),
                        "{hint}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_interrupted_code_says_how_to_make_a_new_one_for_what_waits() {
        let hint = |anyway| {
            let waiting = Waiting {
                to: "bob@h:1".into(),
                leaves: Leaves::WithCode { anyway },
                why: Box::new(Error::Interrupted),
            };
            Error::Kept(waiting).hint()
        };
        assert_eq!(
            hint(false),
            "the message waits in the outbox: `hostchat send bob@h:1 --code print` without a text makes a code for it"
        );
        assert_eq!(
            hint(true),
            "the message waits in the outbox: it leaves with the next `hostchat send` or `recv`; \
             `hostchat send bob@h:1 --code print` without a text makes a code for it"
        );
    }
}
