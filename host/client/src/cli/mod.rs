//! The command line: what can be typed, and one file per command.
//!
//! Every command is a thin call on [`crate::Client`]. Global options stand before or after the command.

mod accept;
mod account;
mod contacts;
mod history;
mod init;
mod notice;
mod outbox;
mod output;
mod prompt;
mod recv;
mod reply;
mod requests;
mod run;
mod secret;
mod send;
mod stamp;
mod terminal;
mod token;
mod who;
mod whoami;
mod wipe;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

pub use run::run;

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

/// `init`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat init --relay relay.example:7443 --name alice
  hostchat init --relay 127.0.0.1:7443#3b5f... --name alice --pin-file pin.txt
  hostchat init --relay relay.example --name alice --token /dev/ttyACM0

The relay prints its address with fingerprint. Without a fingerprint its certificate has to be a public one. \
The software token's file is sealed under the passphrase; it counts no tries, since a copied file would not \
count them either: choose a passphrase that cannot be guessed. For a hardware token the cable is trusted while \
it is initialised; do it on a computer of your own, and press its button when its light shows waiting. \
An init that was interrupted can be repeated.")]
pub struct InitArgs {
    /// Name wanted at the relay: 1 to 32 of a-z 0-9 . _ -
    #[arg(long)]
    pub name: String,
    /// Reads an invitation from the first line of FILE, where the relay asks for one; - is standard input
    #[arg(long, value_name = "FILE")]
    pub invitation: Option<PathBuf>,
    /// Does not let others see in `who` that this account is connected
    #[arg(long)]
    pub hidden: bool,
}

/// How a code reaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CodeBy {
    /// Shows it here, to be given on by SMS or aloud
    Print,
    /// Sends what waits for a code without one
    None,
}

/// `send`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat send bob \"meet at nine\" --code print
  hostchat send bob \"no code needed now\"
  echo \"from a script\" | hostchat send bob@relay.example:7443 - --pin-file pin.txt

With --code a six-digit code is shown. Give it to the other by SMS or aloud, never through the relay; the other \
types it into `hostchat accept`. The command waits until the code was typed, for ten minutes at most and three \
tries; the message stays in the outbox until then, and after Ctrl-C too. `hostchat send bob --code print`, without a \
text, makes a code for what waits: do not write it again. It leaves after a code only; `--code none` sends it without one.
Without --code a contact that is not known yet gets a request, and stays unverified until safety numbers are \
compared (`hostchat contacts verify bob`) or a code is used.
A message that the relay cannot take now stays in the outbox (exit code 8) and leaves with the next send or recv. One \
for somebody who blocks you stays there as well (exit code 7), until they do not; `hostchat contacts delete` deletes it.")]
pub struct SendArgs {
    /// Contact, NAME at the own relay, or NAME@HOST:PORT (the first time with #FINGERPRINT, if the relay has no public certificate)
    pub peer: String,
    /// The message, at most 4000 bytes; - or nothing reads standard input. If that is empty, what waits in the outbox is sent
    pub text: Option<String>,
    /// Pairs with a one-time code first
    #[arg(long, value_name = "HOW", value_enum)]
    pub code: Option<CodeBy>,
    /// Accepts that the contact's identity has changed
    #[arg(long)]
    pub changed: bool,
}

/// `accept`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat accept                             lists who asks; on a terminal asks for the code
  hostchat accept alice --code-file code.txt
  hostchat accept alice --decline
  hostchat accept alice --changed             accepts that the identity of alice has changed

Before you type a code make sure that it is from the person who asks. A code has three tries. Requests from another \
relay are listed as \"not checked\" until you name them: only then is that relay asked who they are. A first message \
without a code is shown after its sender's identity was compared with the sender's relay; the sender stays \
unverified.")]
pub struct AcceptArgs {
    /// Who; needed without a terminal
    pub peer: Option<String>,
    /// Reads codes from FILE, one per line, the next line after a wrong one; - is standard input
    #[arg(long, value_name = "FILE")]
    pub code_file: Option<PathBuf>,
    /// Declines the request
    #[arg(long, conflicts_with = "code_file")]
    pub decline: bool,
    /// Accepts that the identity of this contact has changed
    #[arg(long, conflicts_with = "decline")]
    pub changed: bool,
    /// Waits up to SECONDS for a request
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
}

/// `recv`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat recv
  hostchat recv --follow --json | jq -r 'select(.event==\"message\") | .text'

Without --follow it ends when the mailbox is empty. A message marked \"may have been shown already\" was being \
shown when the program was interrupted. Control characters in texts are shown as \\u{..}.")]
pub struct RecvArgs {
    /// Stays and shows messages as they arrive, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// `outbox`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat outbox
  hostchat outbox remove 3fa9c1d2
  hostchat outbox --json | jq -r 'select(.state==\"unconfirmed\") | .peer'

A message is confirmed when the recipient's hostchat says that it has stored it. Until then you keep it for 45 days, \
also with --no-history, and send it again when a new session makes that necessary. What you remove is not sent, or not sent again; nobody can take \
back what has left.")]
pub struct OutboxArgs {
    /// What to do; nothing lists
    #[command(subcommand)]
    pub action: Option<OutboxAction>,
}

/// What `outbox` can do.
#[derive(Debug, Subcommand)]
pub enum OutboxAction {
    /// Removes a message: it is not sent, or not sent again
    Remove {
        /// Its id as listed, or the beginning of it
        id: String,
    },
}

/// `status`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat status")]
pub struct StatusArgs {}

/// `account`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat account resume

A home stops when it finds, twice within 24 hours, that its keys are older than keys that were used: then two copies of \
it are in use, or the relay lies. It also stops, at once, when the relay says what cannot be. Use one copy only, and let it \
go on with `hostchat account resume`.")]
pub struct AccountArgs {
    /// What to do
    #[command(subcommand)]
    pub action: AccountAction,
}

/// What `account` can do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AccountAction {
    /// Goes on with the keys of this home, after a stop
    Resume,
}

/// `reply`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat reply \"at nine, yes\"

Goes to the sender of the message that was shown last.")]
pub struct ReplyArgs {
    /// The message; - or nothing reads standard input
    pub text: Option<String>,
}

/// `contacts`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat contacts
  hostchat contacts verify alice
  hostchat contacts rename alice ally
  hostchat contacts export alice > alice.txt
  hostchat contacts import bob.txt
  hostchat contacts block mallory
  hostchat contacts unblock mallory@relay.example:7443
  hostchat contacts blocked

A block is kept by your relay, which then refuses what they send to you and gives them no keys to begin with; what it \
had before still arrives. It is of one account: somebody of another relay can come back under another address, and \
where anybody may register, at yours with another name. Whoever is blocked can find out, by writing to you. They need \
not be contacts: NAME is that of a contact or of an account at your relay, or NAME@HOST:PORT.")]
pub struct ContactsArgs {
    /// What to do; nothing lists
    #[command(subcommand)]
    pub action: Option<ContactsAction>,
}

/// What `contacts` can do.
#[derive(Debug, Subcommand)]
pub enum ContactsAction {
    /// Lists contacts and who asks to be one
    List,
    /// Shows the safety number to compare, and notes that it was compared
    Verify {
        /// The contact
        name: String,
        /// Notes that both of you see the same number; without it a terminal asks
        #[arg(long)]
        compared: bool,
    },
    /// Gives a contact another name, on this computer only
    Rename {
        /// The contact
        name: String,
        /// The new name
        new_name: String,
    },
    /// Deletes a contact, its sessions and what waits for it in the outbox; its history stays
    Delete {
        /// The contact
        name: String,
        /// Deletes the messages exchanged with it too
        #[arg(long)]
        history: bool,
    },
    /// Lets your relay refuse what somebody sends to you, and says so to them
    Block {
        /// Contact, NAME at the own relay, or NAME@HOST:PORT
        name: String,
    },
    /// Lets your relay take again what somebody sends to you
    Unblock {
        /// Contact, NAME at the own relay, or NAME@HOST:PORT
        name: String,
    },
    /// Lists whom you block
    Blocked,
    /// Prints the public identity of a contact as text
    Export {
        /// The contact
        name: String,
    },
    /// Adds a contact from an exported identity
    Import {
        /// The file; - is standard input
        file: PathBuf,
    },
}

/// `history`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat history
  hostchat history alice --last 20 --json")]
pub struct HistoryArgs {
    /// Only messages from and to this contact
    pub peer: Option<String>,
    /// How many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub last: u32,
}

/// `whoami`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat whoami
  hostchat whoami --export > me.txt")]
pub struct WhoamiArgs {
    /// Prints the public identity as text that others import
    #[arg(long)]
    pub export: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// `who`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat who
  hostchat who --visible off")]
pub struct WhoArgs {
    /// Lets others see that this account is connected, or not
    #[arg(long, value_enum)]
    pub visible: Option<Switch>,
}

/// `token`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat token --token auto
  hostchat token info --token /dev/ttyACM0 --json
  hostchat token init --token /dev/ttyACM0
  hostchat token sessions --token /dev/ttyACM0
  hostchat token sessions --token /dev/ttyACM0 --delete bob@relay.example:7443
  hostchat token log --token /dev/ttyACM0
  hostchat token wipe --token /dev/ttyACM0 --yes

`info` needs no PIN. `sessions` says of each contact whether the token has its keys from a pairing by code; whom you have \
verified, `hostchat contacts` says: that stays when the token begins anew after damage. `auto` finds the token that is plugged in. If the port may not be opened, install the udev rule \
that comes with hostchat (70-hostchat-token.rules).")]
pub struct TokenArgs {
    /// What to do; nothing is `info`
    #[command(subcommand)]
    pub action: Option<TokenAction>,
}

/// What `token` can do.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Shows firmware, chip, how the keys are protected there, and the tries of the PIN that are left
    Info,
    /// Sets the PIN of a blank hardware token and makes its keys; `hostchat init` does this too
    Init,
    /// Sets a new PIN
    ChangePin(ChangePinArgs),
    /// Lists the contacts that the token has keys for, how many more fit, and the wear of its flash
    Sessions {
        /// Deletes the keys for this contact, NAME@HOST:PORT
        #[arg(long, value_name = "ADDRESS")]
        delete: Option<String>,
    },
    /// Shows what the token was asked lately, since it was plugged in: kinds and times
    Log,
    /// Erases a hardware token without its PIN; it has to be touched
    Wipe {
        /// Does it without asking
        #[arg(long)]
        yes: bool,
    },
}

/// `change-pin`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat change-pin
  hostchat change-pin --pin-file old.txt --new-pin-file new.txt")]
pub struct ChangePinArgs {
    /// Reads the new PIN or passphrase from the first line of FILE; - is standard input, after the old one
    #[arg(long, value_name = "FILE")]
    pub new_pin_file: Option<PathBuf>,
}

/// `wipe`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat wipe --yes
  hostchat wipe --yes --local                without the PIN, when it is forgotten

Tells the contacts that the sessions have ended and deletes the account at the relay, where these can be reached, \
then erases the keys and the vault. Nothing of it can be brought back.")]
pub struct WipeArgs {
    /// Does it without asking
    #[arg(long)]
    pub yes: bool,
    /// Erases here only; needs no PIN and no relay. The name at the relay stays taken
    #[arg(long)]
    pub local: bool,
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
