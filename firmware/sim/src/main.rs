//! `hostchat-sim`: the firmware's application as a process on a pseudo-terminal.
//!
//! ```text
//!  hostchat --token LINK ◀── serial frames ──▶ pty ◀──▶ serve.rs (reader, keepalives) ◀──▶ worker: App<HostEnv>
//! ```

mod button;
mod pty;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use hostchat_token::PresencePolicy;
use hostchat_token::host::{self, HostConfig, HostError};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::button::Button;
use crate::pty::Pty;

/// A hostchat key token as a process: the firmware's application behind a pseudo-terminal, its flash in a file.
///
/// Example: hostchat-sim --dir t --link /tmp/tok, and in another terminal: hostchat --token /tmp/tok token
///
/// It ends at Ctrl-C or SIGTERM. For trying things out and for tests: a process protects its keys from nobody who can read
/// the memory of this computer. Exit codes: 0 ended as asked, 1 failed, 2 wrong arguments.
#[derive(Parser)]
#[command(name = "hostchat-sim", version, verbatim_doc_comment)]
struct Arguments {
    /// Folder of the token: its flash is the file token.flash in it. Made if missing.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the serial port appears: a symbolic link to the pseudo-terminal.
    #[arg(long, value_name = "PATH")]
    link: PathBuf,
    /// Who presses the button.
    #[arg(long, value_enum, default_value_t = Presence::Always)]
    presence: Presence,
    /// With `--presence button`: a press is this file being made (the token removes it).
    #[arg(long, value_name = "PATH", required_if_eq("presence", "button"))]
    button: Option<PathBuf>,
    /// Asks for a press for every command, not only for those that need one.
    #[arg(long)]
    touch_everything: bool,
    /// Locks itself after so many minutes without a request; 0: never.
    #[arg(long, value_name = "MINUTES", default_value_t = 0)]
    idle_lock: u32,
}

/// Who presses the button.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Presence {
    /// It presses itself at once.
    Always,
    /// Nobody: every wait for a press times out.
    Never,
    /// A file that appears at `--button`.
    Button,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    // Keys live in this process: neither a core file nor a debugger of the same user gets them.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(Failure::system("limit core dumps"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Failure::system("keep debuggers out"))?;

    std::fs::create_dir_all(&arguments.dir)
        .map_err(|error| Failure::Io("make the token's folder", error))?;
    let button = Button::new(match arguments.presence {
        Presence::Always => button::Finger::Itself,
        Presence::Never => button::Finger::Nobody,
        Presence::Button => button::Finger::File(arguments.button.unwrap_or_default()),
    });
    let presence = if arguments.touch_everything {
        PresencePolicy::Everything
    } else {
        PresencePolicy::Listed
    };
    let config = HostConfig {
        board: "sim",
        wipes: true,
        presence,
        touch: button.source(),
        idle_lock_ms: (arguments.idle_lock > 0).then(|| u64::from(arguments.idle_lock) * 60_000),
    };
    let app = host::open(&arguments.dir.join("token.flash"), config)?;
    let pty = Pty::open(&arguments.link)?;
    serve::serve(app, &pty, &button)
}

/// Why the token does not run.
#[derive(Debug)]
enum Failure {
    Token(HostError),
    Io(&'static str, std::io::Error),
    LinkTaken(PathBuf),
}

impl Failure {
    fn system(what: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |errno| Self::Io(what, errno.into())
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Token(HostError::Busy(_)) => {
                Some("stop that hostchat-sim first, or give this one another --dir")
            }
            Self::Token(HostError::Damaged) => {
                Some("move the file token.flash away to begin with a blank token")
            }
            Self::Token(HostError::NoSpace) => Some("free some space on that disk"),
            Self::LinkTaken(_) => {
                Some("give another --link, or remove that file if it is not needed")
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::Io(what, error) => write!(f, "cannot {what}: {error}"),
            Self::LinkTaken(path) => {
                write!(f, "{} exists and is not a link of ours", path.display())
            }
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Token(error)
    }
}
