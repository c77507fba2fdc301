//! The command line: what can be typed, and one file per command.
//!
//! Every command is a thin call on [`crate::Client`]. Global options stand before or after the command.

mod accept;
mod account;
mod agent;
mod contacts;
mod context;
mod history;
mod init;
mod outbox;
mod output;
mod prompt;
mod recv;
mod reply;
mod requests;
mod run;
mod secret;
mod send;
mod session;
mod stamp;
mod terminal;
mod token;
mod who;
mod whoami;
mod wipe;
mod words;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

pub use accept::AcceptArgs;
pub use account::{AccountAction, AccountArgs, StatusArgs};
pub use agent::{AgentAction, AgentArgs, LockArgs, UnlockArgs};
pub use contacts::{ContactsAction, ContactsArgs};
pub use history::HistoryArgs;
pub use init::InitArgs;
pub use outbox::{OutboxAction, OutboxArgs};
pub use recv::RecvArgs;
pub use reply::ReplyArgs;
pub use run::run;
pub use send::{CodeBy, SendArgs};
pub use token::{ChangePinArgs, TokenAction, TokenArgs};
pub use who::{Switch, WhoArgs};
pub use whoami::WhoamiArgs;
pub use wipe::WipeArgs;

/// Versions of the program and of what it speaks, as `--version` shows them.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (relay protocol 2, token protocol 2)"
);

const ABOUT: &str = "End-to-end encrypted messages from host to host";

const LONG_ABOUT: &str = "\
End-to-end encrypted messages from host to host, with keys that never leave a token.

A relay, which nobody needs to trust, keeps and forwards what is sealed. A six-digit code that goes by SMS or is \
read aloud rules out a man in the middle. The keys are held by a token: a board on a serial port (--token), or, \
when none is named, a software token in the home directory under a passphrase.";

const AFTER: &str = "\
First steps:
  hostchat init --relay relay.example:7443 --name alice
  hostchat send bob \"meet at nine\" --code print     shows a code; give it to bob by SMS or aloud
  hostchat recv --follow

A token that was lost, or whose tries are spent:
  Its keys are gone for good. Make a new identity with `hostchat init` in a new home (--home), or after \
  `hostchat wipe`. Tell your contacts by another way: they see that your identity has changed, nothing is sent to \
  you until they accept it, and it is best to pair again with a code. The operator of the relay can free your old \
  name. History that was sealed under the old token cannot be read any more, by anybody.

`hostchat help exit-codes` lists the exit codes.";

/// Everything that stands on the command line.
#[derive(Debug, Parser)]
#[command(name = "hostchat", version = VERSION, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER)]
#[command(
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(disable_help_subcommand = false, max_term_width = 110)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command; they stand before or after it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory with the account [default: ~/.local/share/hostchat]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "HOSTCHAT_HOME",
        hide_env_values = true,
        value_parser = path_or_empty()
    )]
    pub home: Option<PathBuf>,
    /// Serial port of a hardware token, or `auto` for the one that is plugged in; without it the software token in the
    /// home directory is used
    #[arg(
        long,
        global = true,
        value_name = "PORT",
        env = "HOSTCHAT_TOKEN",
        hide_env_values = true,
        value_parser = path_or_empty()
    )]
    pub token: Option<PathBuf>,
    /// Relay, with the fingerprint of its certificate if it has no public one
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT[#FINGERPRINT]",
        env = "HOSTCHAT_RELAY",
        hide_env_values = true
    )]
    pub relay: Option<String>,
    /// Reads the PIN or passphrase from the first line of FILE; - is standard input
    #[arg(long, global = true, value_name = "FILE")]
    pub pin_file: Option<PathBuf>,
    /// Prints data as JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Keeps no history of the messages that this command sends or shows. What the disk has kept of them is sealed, not
    /// erased: whoever gets token and PIN may find it
    #[arg(long, global = true)]
    pub no_history: bool,
}

/// A path; an empty one is allowed, and means the same as none.
fn path_or_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

impl Global {
    /// Takes empty options out: `HOSTCHAT_TOKEN=` is the usual way to say "none".
    fn without_empty(self) -> Self {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        Self {
            home: self.home.filter(given),
            token: self.token.filter(given),
            relay: self.relay.filter(|relay| !relay.is_empty()),
            ..self
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes an account: keys, a name at a relay, a home directory
    Init(InitArgs),
    /// Sends a message
    Send(SendArgs),
    /// Answers a code, or accepts who writes for the first time
    Accept(AcceptArgs),
    /// Receives messages
    Recv(RecvArgs),
    /// Answers the sender of the last message
    Reply(ReplyArgs),
    /// Lists, verifies, renames, deletes, blocks, exports and imports contacts
    Contacts(ContactsArgs),
    /// Shows past messages
    History(HistoryArgs),
    /// Lists messages that wait, or that nobody has confirmed yet
    Outbox(OutboxArgs),
    /// Shows what waits, what was forged, and whether the account has stopped
    Status(StatusArgs),
    /// Lets an account that has stopped go on
    Account(AccountArgs),
    /// Shows the own address and identity
    Whoami(WhoamiArgs),
    /// Lists who is connected to the relay now
    Who(WhoArgs),
    /// Runs and ends an agent, which holds the account for all your terminals
    Agent(AgentArgs),
    /// Opens the account that an agent holds
    Unlock(UnlockArgs),
    /// Locks the account that an agent holds
    Lock(LockArgs),
    /// Sets a new PIN or passphrase
    ChangePin(ChangePinArgs),
    /// Shows, sets up and erases a token by itself, without an account
    Token(TokenArgs),
    /// Erases the token's keys and the home directory's contents
    Wipe(WipeArgs),
    /// Lists the exit codes
    #[command(after_help = exit_codes())]
    ExitCodes,
}

fn exit_codes() -> String {
    use std::fmt::Write as _;

    crate::error::EXIT_CODES.iter().fold(
        String::from("Example:\n  hostchat exit-codes --json\n\nExit codes:\n"),
        |mut text, (exit, meaning)| {
            let _ = writeln!(text, "  {:>3}  {meaning}", *exit as u8);
            text
        },
    )
}
