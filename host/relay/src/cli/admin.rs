//! `hostchat-relay admin`: asks the running relay over its socket.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use hostchat_core::wire::{Address, Name};
use zeroize::Zeroizing;

use super::Folder;
use super::invite::{Terms, tell_if_not_asked_for};
use crate::admin::protocol::{
    self, Answer, Call, Invitation, LogEntry, LogQuery, Refused, Reply, Status, User,
};
use crate::admin::show;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::error::Error;
use crate::limits::{ADMIN_ANSWER, ADMIN_MS};
use crate::web::password;

/// Administer the running relay: who uses it, how much, invitations, suspension, removal.
#[derive(Args)]
#[command(after_help = "\
Examples:
  hostchat-relay admin --dir r status
  hostchat-relay admin --dir r users --json
  hostchat-relay admin --dir r suspend mallory
  hostchat-relay admin --dir r remove mallory --yes

It speaks to the relay over admin.sock in its folder, which only the relay's own user and root can open. What it shows
are names, counts, sizes and times: neither this command nor the relay can open a message.")]
pub(super) struct Admin {
    #[command(flatten)]
    folder: Folder,
    /// Print JSON, as the relay answers it, instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How the relay is doing.
    Status,
    /// The limits that it runs with.
    Limits,
    /// Every account: presence and usage.
    Users,
    /// One account.
    User {
        /// Its name.
        #[arg(value_parser = name)]
        name: Name,
    },
    /// Delete an account with its mailbox, prekeys and files, and close its connections.
    Remove {
        /// Its name; it is free for others afterwards.
        #[arg(value_parser = name)]
        name: Name,
        /// Ask nothing.
        #[arg(long, short)]
        yes: bool,
    },
    /// Let nobody log in to an account and close its connections; its mailbox goes on taking messages.
    Suspend {
        /// Its name.
        #[arg(value_parser = name)]
        name: Name,
    },
    /// Let the owner of a suspended account log in again.
    Resume {
        /// Its name.
        #[arg(value_parser = name)]
        name: Name,
    },
    /// Make an invitation.
    Invite(Terms),
    /// The invitations that can still be used; their words are not kept.
    Invitations,
    /// Make an invitation useless.
    Withdraw {
        /// Its id, as `invitations` shows it.
        id: String,
    },
    /// Set the operator's password, which turns the admin page on; works without a running relay.
    Password {
        /// Read it from the first line of this file instead of the terminal or standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Remove the password, and with it the page.
        #[arg(long, conflicts_with = "file")]
        off: bool,
    },
    /// The log of who wrote to whom, newest first, where the relay keeps one.
    Log {
        /// Only of this sender: a name, or the address of a guest.
        #[arg(long, value_name = "WHO")]
        from: Option<String>,
        /// Only to this receiver: a name, or the address of a guest who fetched a file.
        #[arg(long, value_name = "WHO", value_parser = who)]
        to: Option<String>,
        /// Only since then: a time (2026-11-21T10:00:00Z) or how long ago (90m, 7d).
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<u64>,
        /// Only before then.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<u64>,
        /// At most so many entries.
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
}

fn moment(text: &str) -> Result<u64, &'static str> {
    show::moment(text, SystemClock::new().wall_ms())
}

fn who(text: &str) -> Result<String, &'static str> {
    let good = Name::parse(text).is_ok() || Address::parse(text).is_ok();
    good.then(|| text.to_owned())
        .ok_or("neither a name nor an address")
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).map_err(|_| "no account can have this name")
}

impl Admin {
    pub(super) fn run(self) -> Result<(), Error> {
        let config = Config::load(&self.folder.dir)?;
        let socket = config.admin;
        let call = match self.command {
            Command::Status => Call::Status,
            Command::Limits => Call::Limits,
            Command::Users => return users(&socket, self.json),
            Command::User { name } => Call::User { name },
            Command::Remove { name, yes } => {
                if !yes {
                    confirm(&name)?;
                }
                Call::Remove { name }
            }
            Command::Suspend { name } => Call::Suspend { name },
            Command::Resume { name } => Call::Resume { name },
            Command::Invite(terms) => {
                // Told here with its reason, which the relay's answer has no room for.
                terms.invitation()?;
                tell_if_not_asked_for(config.registration);
                let Terms { uses, note, days } = terms;
                Call::Invite { uses, note, days }
            }
            Command::Invitations => Call::Invitations,
            Command::Withdraw { id } => Call::Withdraw { id },
            Command::Password { file, off } => {
                let has_page = config.operator.is_some();
                return set_password(&config.password, file.as_deref(), off, has_page);
            }
            Command::Log {
                from,
                to,
                since,
                until,
                count,
            } => {
                let query = LogQuery {
                    from,
                    to,
                    since,
                    until,
                    before: None,
                };
                return log(&socket, query, count, self.json);
            }
        };
        say(&ask(&socket, call)?, self.json)
    }
}

/// Removal cannot be undone: at a terminal it is asked for, elsewhere it needs `--yes`.
fn confirm(name: &Name) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Argument(format!(
            "removing {name} cannot be undone: give --yes"
        )));
    }
    eprint!("remove {name} with its mailbox, prekeys and files, for ever? Type the name again: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim() == name.as_str() {
        Ok(())
    } else {
        Err(Error::Argument("another name: nothing removed".to_owned()))
    }
}

fn set_password(path: &Path, file: Option<&Path>, off: bool, has_page: bool) -> Result<(), Error> {
    let what = Error::io(path.display().to_string());
    if off {
        std::fs::remove_file(path).map_err(what)?;
        eprintln!("removed: there is no admin page, and every session has ended");
        return Ok(());
    }
    let typed = match file {
        Some(file) => {
            let open = File::open(file).map_err(Error::io(file.display().to_string()))?;
            first_line(open)?
        }
        None if io::stdin().is_terminal() => {
            let typed = Zeroizing::new(rpassword::prompt_password("new operator's password: ")?);
            let again = Zeroizing::new(rpassword::prompt_password("the same again: ")?);
            if typed != again {
                return Err(Error::Argument("these two differ: nothing set".to_owned()));
            }
            typed
        }
        None => first_line(io::stdin().lock())?,
    };
    password::set(path, typed.as_bytes())?;
    eprintln!("set; sessions of the password before have ended");
    if !has_page {
        eprintln!("note: `operator` is not set in relay.toml, so that there is no page yet");
    }
    Ok(())
}

/// The first line without its end. Passwords come from here, never from an argument, which others can see.
fn first_line(from: impl Read) -> Result<Zeroizing<String>, Error> {
    let most = password::LONGEST as u64 + 2;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(from.take(most)).read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

/// All pages as one answer.
fn users(socket: &Path, as_json: bool) -> Result<(), Error> {
    let mut all: Vec<User> = Vec::new();
    loop {
        let after = all.last().map(|user| user.name.clone());
        let Answer::Users { users, more } = ask(socket, Call::Users { after })? else {
            return Err(Error::Refused(Refused::Version));
        };
        let none = users.is_empty();
        all.extend(users);
        if !more || none {
            break;
        }
    }
    let answer = Answer::Users {
        users: all,
        more: false,
    };
    say(&answer, as_json)
}

/// As many pages as it takes for `count` entries.
fn log(socket: &Path, mut query: LogQuery, count: usize, as_json: bool) -> Result<(), Error> {
    let mut all: Vec<LogEntry> = Vec::new();
    while all.len() < count {
        let Answer::Log { entries, more } = ask(socket, Call::Log(query.clone()))? else {
            return Err(Error::Refused(Refused::Version));
        };
        query.before = entries.last().map(|entry| (entry.at, entry.number));
        all.extend(entries);
        if !more || query.before.is_none() {
            break;
        }
    }
    all.truncate(count);
    let answer = Answer::Log {
        entries: all,
        more: false,
    };
    say(&answer, as_json)
}

fn say(answer: &Answer, as_json: bool) -> Result<(), Error> {
    if as_json {
        print(&json(answer)?)
    } else if let Some(note) = nothing_in(answer) {
        eprintln!("note: {note}");
        Ok(())
    } else {
        print(&text(answer))
    }
}

/// What there is to say of a list without entries, and what to do next.
fn nothing_in(answer: &Answer) -> Option<&'static str> {
    match answer {
        Answer::Users { users, .. } if users.is_empty() => Some(
            "no accounts yet; give the address that `hostchat-relay admin status` shows to your users, for `hostchat init`",
        ),
        Answer::Invitations(invitations) if invitations.is_empty() => {
            Some("no invitation can be used now; `hostchat-relay admin invite` makes one")
        }
        Answer::Log { entries, .. } if entries.is_empty() => {
            Some("no entries; if you gave --from, --to, --since or --until, leave some of them out")
        }
        _ => None,
    }
}

/// One question and its answer; a refusal is an error.
fn ask(socket: &Path, call: Call) -> Result<Answer, Error> {
    let exchange = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(socket)?;
        // Twice what the relay gives itself.
        let patience = Some(Duration::from_millis(2 * ADMIN_MS));
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        let version = protocol::VERSION;
        stream.write_all(&protocol::line_of(&protocol::Request { version, call })?)?;
        let mut line = Vec::new();
        let most = ADMIN_ANSWER as u64 + 1;
        BufReader::new(stream.take(most)).read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            Ok(line)
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the answer has no end",
            ))
        }
    };
    let line = exchange().map_err(|source| Error::NoAnswer {
        path: socket.to_owned(),
        source,
    })?;
    let reply: Reply =
        serde_json::from_slice(&line).map_err(|_| Error::Refused(Refused::Version))?;
    match reply.answer {
        _ if reply.version != protocol::VERSION => Err(Error::Refused(Refused::Version)),
        Answer::Refused(refused) => Err(Error::Refused(refused)),
        answer => Ok(answer),
    }
}

/// What is inside the answer, without its kind: the caller knows what it asked.
fn json(answer: &Answer) -> Result<String, Error> {
    let text = match answer {
        Answer::Status(status) => serde_json::to_string_pretty(status),
        Answer::Limits(limits) => serde_json::to_string_pretty(limits),
        Answer::Users { users, .. } => serde_json::to_string_pretty(users),
        Answer::User(user) => serde_json::to_string_pretty(user),
        Answer::Done => Ok("{}".to_owned()),
        Answer::Invitation(words) => {
            serde_json::to_string_pretty(&serde_json::json!({ "invitation": words }))
        }
        Answer::Invitations(invitations) => serde_json::to_string_pretty(invitations),
        Answer::Log { entries, .. } => serde_json::to_string_pretty(entries),
        Answer::Refused(refused) => return Err(Error::Refused(*refused)),
    };
    text.map(|text| text + "\n")
        .map_err(|error| Error::from(io::Error::from(error)))
}

fn text(answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => columns(&status_lines(status)),
        Answer::Limits(limits) => {
            let lines = show::limits(limits);
            columns(&lines.into_iter().map(|(k, v)| [k, v]).collect::<Vec<_>>())
        }
        Answer::Users { users, .. } => user_table(users),
        Answer::User(user) => columns(&user_lines(user)),
        Answer::Done => "done\n".to_owned(),
        Answer::Invitation(words) => format!("{}\n", words.escape_debug()),
        Answer::Invitations(invitations) => invitation_table(invitations),
        Answer::Log { entries, .. } => log_table(entries),
        Answer::Refused(refused) => format!("{}\n", refused.text()),
    }
}

fn status_lines(status: &Status) -> Vec<[String; 2]> {
    let line = |name: &str, value: String| [name.to_owned(), value];
    let size = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), show::size);
    vec![
        line("as of", show::time(status.at)),
        line("address", status.address.escape_debug().to_string()),
        line("software", status.software.escape_debug().to_string()),
        line("names", status.names.join(" ").escape_debug().to_string()),
        line("running for", show::duration(status.uptime_ms)),
        line(
            "connections",
            format!("{}, logged in {}", status.connections, status.logged_in),
        ),
        line(
            "registration",
            status.registration.escape_debug().to_string(),
        ),
        line("guests", yes_no(status.guests).to_owned()),
        line(
            "log of who wrote to whom",
            match status.log_days {
                0 => "off".to_owned(),
                days => format!("kept for {days} days"),
            },
        ),
        line("accounts", status.accounts.to_string()),
        line("invitations", status.invitations.to_string()),
        line("messages waiting", status.messages.to_string()),
        line(
            "files",
            format!("{} ({})", status.files, show::size(status.file_bytes)),
        ),
        line(
            "stored since start",
            format!("{} ({})", status.stored, show::size(status.stored_bytes)),
        ),
        line(
            "delivered since start",
            format!(
                "{} ({})",
                status.delivered,
                show::size(status.delivered_bytes)
            ),
        ),
        line("writes waiting", status.waiting_writes.to_string()),
        line("database", size(status.database_bytes)),
        line("disk free", size(status.disk_free_bytes)),
    ]
}

/// So many bytes in so many things, in a few characters.
fn amount(number: u64, bytes: u64) -> String {
    match number {
        0 => "0".to_owned(),
        number => format!("{number}, {}", show::size(bytes)),
    }
}

/// Whether somebody is connected, and whether others may see it.
fn presence(user: &User) -> String {
    let word = match (user.connections, user.visible) {
        _ if user.suspended => return "suspended".to_owned(),
        (0, _) => return "offline".to_owned(),
        (_, true) => "online",
        (_, false) => "hidden",
    };
    match user.connections {
        1 => word.to_owned(),
        several => format!("{word} {several}"),
    }
}

/// An account in a line of at most 80 characters, as long as names and numbers are usual ones.
fn user_table(users: &[User]) -> String {
    let head = [
        "NAME",
        "STATE",
        "REGISTERED",
        "LAST SEEN",
        "MESSAGES",
        // Prekeys.
        "KEYS",
        "FILES",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(users.iter().map(|user| {
        [
            user.name.to_string(),
            presence(user),
            show::date(user.registered_at),
            user.last_seen.clone().unwrap_or_else(|| "-".to_owned()),
            amount(user.messages, user.bytes),
            user.one_time_prekeys.to_string(),
            amount(user.files, user.file_bytes),
        ]
    }));
    columns(&lines)
}

/// All that is known of one account.
fn user_lines(user: &User) -> Vec<[String; 2]> {
    let line = |name: &str, value: String| [name.to_owned(), value];
    let state = if user.suspended {
        "suspended"
    } else {
        "active"
    };
    let seen = user
        .last_seen
        .as_deref()
        .unwrap_or("never, as far as is known");
    vec![
        line("name", user.name.to_string()),
        line("state", state.to_owned()),
        line("connections", user.connections.to_string()),
        line("shown to others", yes_no(user.visible).to_owned()),
        line("registered", show::time(user.registered_at)),
        line("last seen", seen.to_owned()),
        line("messages waiting", amount(user.messages, user.bytes)),
        line("one-time prekeys", user.one_time_prekeys.to_string()),
        line("files", amount(user.files, user.file_bytes)),
    ]
}

fn invitation_table(invitations: &[Invitation]) -> String {
    let mut lines = vec![["ID", "MADE", "ENDS", "USES LEFT", "NOTE"].map(str::to_owned)];
    lines.extend(invitations.iter().map(|invitation| {
        [
            invitation.id.escape_debug().to_string(),
            show::time(invitation.created_at),
            invitation.expires_at.map_or("never".to_owned(), show::time),
            invitation.uses_left.to_string(),
            invitation.note.escape_debug().to_string(),
        ]
    }));
    columns(&lines)
}

fn log_table(entries: &[LogEntry]) -> String {
    let mut lines = vec![["TIME", "FROM", "TO", "KIND", "SIZE"].map(str::to_owned)];
    lines.extend(entries.iter().map(|entry| {
        [
            show::time(entry.at),
            entry.from.escape_debug().to_string(),
            entry.to.escape_debug().to_string(),
            entry.kind.escape_debug().to_string(),
            show::size(entry.bytes),
        ]
    }));
    columns(&lines)
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Lines with their columns aligned to the left.
fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(widths);
        let text: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_users_fits_a_terminal() {
        let user = User {
            name: Name::parse("mallory.home").unwrap(),
            connections: 2,
            visible: false,
            registered_at: 1_790_000_000_000,
            messages: 12,
            bytes: 10_000,
            one_time_prekeys: 32,
            files: 3,
            file_bytes: 100_000_000,
            suspended: false,
            last_seen: Some("2026-09-21".to_owned()),
        };
        let suspended = User {
            connections: 0,
            suspended: true,
            ..user.clone()
        };
        let quiet = User {
            connections: 0,
            messages: 0,
            last_seen: None,
            ..user.clone()
        };
        let table = user_table(&[user, suspended, quiet]);
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        let shown: Vec<_> = table.lines().skip(1).collect();
        assert_eq!(
            shown,
            [
                "mallory.home  hidden 2   2026-09-21  2026-09-21  12, 9.7 KiB  32    3, 95.3 MiB",
                "mallory.home  suspended  2026-09-21  2026-09-21  12, 9.7 KiB  32    3, 95.3 MiB",
                "mallory.home  offline    2026-09-21  -           0            32    3, 95.3 MiB",
            ]
        );
    }
}
