//! The command line: one file per command.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::fs::FlockOperation;

use crate::error::Error;

mod admin;
mod check;
mod configuration;
mod copy;
mod fingerprint;
mod init;
mod invite;
mod migrate;
mod nats;
mod run;

const EXAMPLES: &str = "\
Examples:
  hostchat-relay init --dir r
  hostchat-relay run --dir r
  hostchat-relay backup --dir r --to backup.db

Exit codes: 0 done, 1 system error, 2 wrong usage, 3 configuration, 4 cannot listen, 5 database damaged or newer,
6 certificate, 7 already running, 8 disk full, 9 the running relay does not answer or refuses, 10 NATS does not answer.";

/// Store and forward for hostchat: sees addresses, sizes and times, never a plaintext or a key.
#[derive(Parser)]
#[command(name = "hostchat-relay", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    Run(run::Run),
    Invite(invite::Invite),
    Fingerprint(fingerprint::Fingerprint),
    Check(check::Check),
    Backup(copy::Backup),
    Restore(copy::Restore),
    Migrate(migrate::Migrate),
    Admin(admin::Admin),
}

/// The folder that every command works in.
#[derive(Args)]
struct Folder {
    /// The relay's folder: configuration, certificate, database.
    #[arg(long, value_name = "DIR", env = "HOSTCHAT_RELAY_DIR")]
    dir: PathBuf,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Cli {
    /// Does what the command line says; errors go to standard error with a hint.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Init(init) => init.run(),
            Command::Run(run) => run.run(),
            Command::Invite(invite) => invite.run(),
            Command::Fingerprint(fingerprint) => fingerprint.run(),
            Command::Check(check) => check.run(),
            Command::Backup(backup) => backup.run(),
            Command::Restore(restore) => restore.run(),
            Command::Migrate(migrate) => migrate.run(),
            Command::Admin(admin) => admin.run(),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::from(error.exit_code())
            }
        }
    }
}

fn complain(error: &Error) {
    eprintln!("error: {error}");
    eprintln!("hint: {}", error.hint());
}

/// Takes the folder for this process alone; the system gives it back however the process ends.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("relay.lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io(path.display().to_string()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Running(folder.to_owned())),
        Err(error) => Err(Error::io(path.display().to_string())(error.into())),
    }
}
