//! The administration protocol: one line of JSON there, one line of JSON back, then the connection ends.
//!
//! ```text
//!  {"version":1,"call":{"users":{"after":null}}}
//!  {"version":1,"answer":{"users":{"users":[..],"more":false}}}
//! ```
//!
//! Append-only: a call or a field may be added, never changed; a reader ignores fields of answers that it does not know.
//! Times are milliseconds since 1970. Nothing here has room for the content of a message or a key.

use hostchat_core::wire::Name;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// One line to the relay.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub call: Call,
}

/// What an operator may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// How the relay is doing.
    Status,
    /// Its limits.
    Limits,
    /// A page of accounts, in order of their names.
    Users {
        /// The last name of the page before.
        after: Option<Name>,
    },
    /// One account.
    User {
        /// Its name.
        name: Name,
    },
    /// Deletes an account with its mailbox, prekeys and files, and closes its connections.
    Remove {
        /// Its name.
        name: Name,
    },
    /// Makes an invitation.
    Invite {
        /// How many accounts may be registered with it.
        uses: u32,
        /// What the operator wants to remember of it, up to 100 characters.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// Days after which it is useless; not there for never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        days: Option<u16>,
    },
    /// The invitations that can still be used.
    Invitations,
    /// Makes an invitation useless.
    Withdraw {
        /// [`Invitation::id`].
        id: String,
    },
    /// A page of the log of who wrote to whom, newest first.
    Log(LogQuery),
    /// Lets nobody log in to an account and closes its connections. Its mailbox takes messages as before.
    Suspend {
        /// Its name.
        name: Name,
    },
    /// Lets the owner of a suspended account log in again.
    Resume {
        /// Its name.
        name: Name,
    },
}

/// Which entries of the log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogQuery {
    /// Only of this sender: a name, or the address of a guest.
    pub from: Option<String>,
    /// Only to this receiver: a name, or the address of a guest.
    pub to: Option<String>,
    /// Only at this time or later.
    pub since: Option<u64>,
    /// Only before this time.
    pub until: Option<u64>,
    /// Only before this entry, the last of the page before: its time and number.
    pub before: Option<(u64, u64)>,
}

/// One line from the relay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u32,
    /// The answer.
    pub answer: Answer,
}

/// What the relay answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Call::Status`].
    Status(Box<Status>),
    /// To [`Call::Limits`].
    Limits(Box<Limits>),
    /// To [`Call::Users`].
    Users {
        /// At most a page.
        users: Vec<User>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// To [`Call::User`].
    User(User),
    /// To [`Call::Remove`], [`Call::Withdraw`], [`Call::Suspend`] and [`Call::Resume`].
    Done,
    /// To [`Call::Invite`]: the words, which are shown only now.
    Invitation(String),
    /// To [`Call::Invitations`].
    Invitations(Vec<Invitation>),
    /// Not done; nothing changed.
    Refused(Refused),
    /// To [`Call::Log`].
    Log {
        /// At most a page.
        entries: Vec<LogEntry>,
        /// Whether there are more, older ones.
        more: bool,
    },
}

/// Why the relay refuses an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Not a request, or longer than one.
    BadRequest,
    /// Another version of this protocol.
    Version,
    /// No account of this name.
    UnknownName,
    /// No invitation with this id.
    UnknownInvitation,
    /// As many invitations as allowed can still be used.
    TooManyInvitations,
    /// The disk is full.
    Full,
    /// The relay shuts down.
    ShuttingDown,
    /// The store failed; the relay's log says how.
    Internal,
    /// No log is kept.
    LogOff,
}

impl Refused {
    /// The reason in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "not a request",
            Self::Version => "the running relay is of another version",
            Self::UnknownName => "no account has this name",
            Self::UnknownInvitation => "no invitation that can be used has this id",
            Self::TooManyInvitations => "too many invitations can still be used",
            Self::Full => "the disk is full, or takes no writes",
            Self::ShuttingDown => "the relay shuts down",
            Self::Internal => "the store failed",
            Self::LogOff => "this relay keeps no log of who wrote to whom",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::BadRequest | Self::Version => {
                "restart the relay, so that it is the same program as this"
            }
            Self::UnknownName => "see: hostchat-relay admin users",
            Self::UnknownInvitation => "see: hostchat-relay admin invitations",
            Self::TooManyInvitations => "withdraw some: hostchat-relay admin withdraw ID",
            Self::Full => "free some disk space and try again",
            Self::ShuttingDown => "try again when it runs",
            Self::Internal => "the relay's log says how",
            Self::LogOff => "log_days in [audit] of relay.toml turns it on, from the next start on",
        }
    }
}

/// How the relay is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the running program.
    pub software: String,
    /// `host:port` under which clients dial it.
    pub names: Vec<String>,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// Of these, accounts that have logged in.
    pub logged_in: u64,
    /// `open`, `invitation` or `closed`.
    pub registration: String,
    /// Whether accounts of other relays may send here.
    pub guests: bool,
    /// Registered accounts.
    pub accounts: u64,
    /// Invitations that can still be used.
    pub invitations: u64,
    /// Messages that wait in mailboxes.
    pub messages: u64,
    /// Messages stored since the start, and bytes of their bodies.
    pub stored: u64,
    /// Bytes of those.
    pub stored_bytes: u64,
    /// Messages delivered since the start, repeats included.
    pub delivered: u64,
    /// Bytes of those.
    pub delivered_bytes: u64,
    /// Writes that wait for the disk.
    pub waiting_writes: u64,
    /// Size of the database, if known.
    pub database_bytes: Option<u64>,
    /// Free space where it lies, if known.
    pub disk_free_bytes: Option<u64>,
    /// Days for which it is kept who wrote to whom; 0 for not at all.
    #[serde(default)]
    pub log_days: u16,
    /// Files that accounts left and nobody has deleted.
    #[serde(default)]
    pub files: u64,
    /// Bytes of these, as announced.
    #[serde(default)]
    pub file_bytes: u64,
    /// When all this was so.
    #[serde(default)]
    pub at: u64,
    /// What users give to `hostchat init --relay`: `host:port#fingerprint`.
    #[serde(default)]
    pub address: String,
}

/// One message that was stored, or one file that a reader has fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When.
    pub at: u64,
    /// Its number, in one row with those of messages.
    pub number: u64,
    /// The name of a user, the whole address of a guest.
    pub from: String,
    /// Whose mailbox, or who fetched it: the name of a user, the whole address of a guest.
    pub to: String,
    /// `pairing`, `first`, `message` or `file`; `suspended` and `resumed`, which the operator did.
    pub kind: String,
    /// Size of the sealed body.
    pub bytes: u64,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: Name,
    /// Connections that are logged in now.
    pub connections: u64,
    /// Whether its owner lets others see it.
    pub visible: bool,
    /// When it was registered.
    pub registered_at: u64,
    /// Messages that wait in its mailbox.
    pub messages: u64,
    /// Bytes of their bodies, which are sealed.
    pub bytes: u64,
    /// One-time prekeys left.
    pub one_time_prekeys: u64,
    /// Files that it left and nobody has deleted.
    #[serde(default)]
    pub files: u64,
    /// Bytes of these, as announced; they are sealed.
    #[serde(default)]
    pub file_bytes: u64,
    /// Whether the operator lets nobody log in to it.
    #[serde(default)]
    pub suspended: bool,
    /// The last day on which its owner logged in, `2026-11-21`, if that is known: days only, no times.
    #[serde(default)]
    pub last_seen: Option<String>,
}

/// An invitation that can still be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Names it without saying its words.
    pub id: String,
    /// When it was made.
    pub created_at: u64,
    /// How many accounts may still be registered with it.
    pub uses_left: u32,
    /// What the operator noted.
    #[serde(default)]
    pub note: String,
    /// When it ends; `null` for never.
    #[serde(default)]
    pub expires_at: Option<u64>,
}

/// Reads a request.
///
/// # Errors
/// `Version` or `BadRequest`.
pub fn request_from(line: &[u8]) -> Result<Call, Refused> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = serde_json::from_slice(line).map_err(|_| Refused::BadRequest)?;
    if versioned.version != VERSION {
        return Err(Refused::Version);
    }
    let request: Request = serde_json::from_slice(line).map_err(|_| Refused::BadRequest)?;
    Ok(request.call)
}

/// Writes one line.
///
/// # Errors
/// None that happens with the types of this file.
pub fn line_of(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_they_were_published() {
        for line in [
            r#"{"version":1,"call":"status"}"#,
            r#"{"version":1,"call":"limits"}"#,
            r#"{"version":1,"call":{"users":{"after":null}}}"#,
            r#"{"version":1,"call":{"users":{"after":"alice"}}}"#,
            r#"{"version":1,"call":{"user":{"name":"alice"}}}"#,
            r#"{"version":1,"call":{"remove":{"name":"alice"}}}"#,
            r#"{"version":1,"call":{"invite":{"uses":3}}}"#,
            r#"{"version":1,"call":{"invite":{"uses":3,"note":"for zoe","days":7}}}"#,
            r#"{"version":1,"call":{"suspend":{"name":"alice"}}}"#,
            r#"{"version":1,"call":{"resume":{"name":"alice"}}}"#,
            r#"{"version":1,"call":"invitations"}"#,
            r#"{"version":1,"call":{"withdraw":{"id":"00ff"}}}"#,
            r#"{"version":1,"call":{"log":{"from":"a@h:1","to":"b","since":1,"until":null,"before":[2,3]}}}"#,
        ] {
            let call = request_from(line.as_bytes()).unwrap();
            let version = VERSION;
            let again = line_of(&Request { version, call }).unwrap();
            assert_eq!(String::from_utf8(again).unwrap(), format!("{line}\n"));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (line, why) in [
            ("", Refused::BadRequest),
            ("[]", Refused::BadRequest),
            (r#"{"call":"status"}"#, Refused::BadRequest),
            (r#"{"version":1}"#, Refused::BadRequest),
            (r#"{"version":1,"call":"stop"}"#, Refused::BadRequest),
            (
                r#"{"version":1,"call":"status","more":1}"#,
                Refused::BadRequest,
            ),
            (r#"{"version":2,"call":{"new":1}}"#, Refused::Version),
            (
                r#"{"version":1,"call":{"user":{"name":"'; DROP TABLE account"}}}"#,
                Refused::BadRequest,
            ),
            (
                r#"{"version":1,"call":{"user":{"name":"a\u001b[2J"}}}"#,
                Refused::BadRequest,
            ),
        ] {
            assert_eq!(request_from(line.as_bytes()).unwrap_err(), why, "{line}");
        }
    }
}
