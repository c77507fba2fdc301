//! From arguments to an exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::output::Output;
use super::secret::Secret;
use super::terminal::Terminal;
use super::{
    Cli, Command, Global, accept, account, contacts, history, init, outbox, prompt, recv, reply,
    send, token, who, whoami, wipe,
};
use crate::agent::{Client, Locked, Options, note};
use crate::error::{Error, Exit, Result, Waiting};
use crate::home::Home;
use crate::model::Pin;
use crate::model::address::RelayAddress;
use crate::token::OnNotice;
use crate::transport::usb;

/// How long a command may take to leave things in order after Ctrl-C; a second Ctrl-C ends it at once.
const GRACE: Duration = Duration::from_secs(3);

/// What every command gets.
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) output: Output,
    stop: crate::agent::Stop,
}

impl Context {
    pub(super) fn options(&self) -> Result<Options> {
        let relay = self
            .global
            .relay
            .as_deref()
            .map(RelayAddress::parse)
            .transpose()?;
        let token = match &self.global.token {
            Some(port) if port == Path::new(usb::AUTO) => Some(usb::only_port()?),
            other => other.clone(),
        };
        Ok(Options {
            home: self.global.home.clone(),
            token,
            relay,
            no_history: self.global.no_history,
        })
    }

    pub(super) fn on_notice(&self) -> OnNotice {
        let output = self.output;
        Box::new(move |notice| output.notice(notice))
    }

    /// Asks somebody or something, without keeping connections from going on, until Ctrl-C.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let terminal = Terminal::open();
        let answer = tokio::task::spawn_blocking(question);
        tokio::select! {
            answer = answer => answer.map_err(|_| Error::Internal("question"))?,
            () = self.stop.wished() => {
                // A hidden question has turned the echo off.
                if let Some(terminal) = terminal {
                    terminal.restore();
                }
                eprintln!();
                Err(Error::Interrupted)
            }
        }
    }

    pub(super) async fn pin(&self, secret: Secret) -> Result<Pin> {
        let file = self.global.pin_file.clone();
        self.ask(move || secret.present(file.as_deref())).await
    }

    pub(super) async fn text(
        &self,
        argument: Option<String>,
        waits: bool,
    ) -> Result<Zeroizing<String>> {
        self.ask(move || prompt::text(argument.as_deref(), waits))
            .await
    }

    /// Opens the home without a PIN.
    pub(super) async fn locked(&self) -> Result<Locked> {
        let locked = Locked::open(&self.options()?, self.on_notice()).await?;
        self.tell_opened(locked.home())?;
        Ok(locked)
    }

    /// Tells what other users could read or change in a home.
    pub(super) fn tell_opened(&self, home: &Home) -> Result<()> {
        let mut output = self.output;
        for opened in home.opened() {
            let path = opened.path.display();
            let text = if opened.closed {
                format!(
                    "other users could open {path} (mode {:o}); it is closed to them now",
                    opened.mode
                )
            } else {
                format!(
                    "other users can change {path} (mode {:o}): close it with `chmod go-w {path}`",
                    opened.mode
                )
            };
            note(&mut output, "permissions", text)?;
        }
        Ok(())
    }

    /// Opens the home and unlocks its token.
    pub(super) async fn client(&self) -> Result<Client> {
        let locked = self.locked().await?;
        let mut client = self.unlock(locked, false).await?;
        let mut output = self.output;
        client.tell_of_new_vault(&mut output).await?;
        Ok(client)
    }

    /// As [`Self::client`], for a command that needs the relay: connects while the PIN is stretched.
    pub(super) async fn online(&self) -> Result<Client> {
        let locked = self.locked().await?;
        self.unlock(locked, true).await
    }

    /// Unlocks with what is typed; a passphrase, which costs no tries, may be wrong twice.
    async fn unlock(&self, mut locked: Locked, connects: bool) -> Result<Client> {
        let secret = Secret::from(locked.kind());
        let mut again = if self.global.pin_file.is_none() && secret == Secret::Passphrase {
            2
        } else {
            0
        };
        // A token takes a while to say that the first one was wrong: nobody sees what is typed meanwhile.
        let quiet = self
            .global
            .pin_file
            .is_none()
            .then(Terminal::open)
            .flatten();
        let _quiet = quiet.map(Terminal::quiet);
        loop {
            let pin = self.pin(secret).await?;
            if connects {
                locked.connect_early();
            }
            match locked.try_pin(pin).await {
                Err(Error::WrongPin { .. }) if again > 0 => {
                    again -= 1;
                    if let Some(mut terminal) = Terminal::open() {
                        terminal.say("Wrong passphrase. Try again.");
                    }
                }
                other => {
                    other?;
                    return locked
                        .open_vault()
                        .await
                        .map(|client| self.stoppable(client));
                }
            }
        }
    }

    /// Waits, until Ctrl-C at most.
    pub(super) async fn pause(&self, time: Duration) -> Result<()> {
        self.unless_stopped(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
        .await
    }

    /// Does something until Ctrl-C at most.
    pub(super) async fn unless_stopped<T>(
        &self,
        what: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = what => done,
            () = self.stop.wished() => Err(Error::Interrupted),
        }
    }

    /// Lets Ctrl-C reach a client.
    pub(super) fn stoppable(&self, client: Client) -> Client {
        client.with_stop(self.stop.clone())
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors.
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::from(Exit::Success as u8);
            }
            if wants_json() {
                let what = match error.kind() {
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                        "a command is missing".into()
                    }
                    _ => first_paragraph(&error.to_string()),
                };
                Output { json: true }.error(&Error::Usage(what));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let output = Output {
        json: cli.global.json,
    };
    match dispatch(cli, output) {
        Ok(()) => ExitCode::from(Exit::Success as u8),
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit() as u8)
        }
    }
}

/// Whether the arguments, which could not be parsed, ask for JSON.
fn wants_json() -> bool {
    std::env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// What clap says, without its usage and tips.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let text = lines.join(" ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

fn dispatch(cli: Cli, output: Output) -> Result<()> {
    if matches!(cli.command, Command::ExitCodes) {
        return exit_codes(output);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::io("cannot start the runtime", why))?;
    let result = runtime.block_on(interruptible(cli, output));
    // A name look-up or a token's thread that still works must not hold the end of the program up.
    runtime.shutdown_background();
    result
}

async fn interruptible(cli: Cli, output: Output) -> Result<()> {
    let signals = |why| Error::io("cannot listen for signals", why);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let stop = crate::agent::Stop::default();
    let context = Context {
        global: cli.global.without_empty(),
        output,
        stop: stop.clone(),
    };
    let command = execute(cli.command, &context);
    tokio::pin!(command);
    tokio::select! {
        result = &mut command => return result,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.wish();
    tokio::select! {
        result = &mut command => match result {
            // Whatever came of it, the user ended it.
            Ok(()) | Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(Error::Queued(waiting)) => Err(Error::Kept(Waiting {
                why: Box::new(Error::Interrupted),
                ..waiting
            })),
            other => other,
        },
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
        () = tokio::time::sleep(GRACE) => Err(Error::Interrupted),
    }
}

async fn execute(command: Command, context: &Context) -> Result<()> {
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Send(args) => send::run(context, args).await,
        Command::Accept(args) => accept::run(context, args).await,
        Command::Recv(args) => recv::run(context, args).await,
        Command::Reply(args) => reply::run(context, args).await,
        Command::Contacts(args) => contacts::run(context, args).await,
        Command::History(args) => history::run(context, args).await,
        Command::Outbox(args) => outbox::run(context, args).await,
        Command::Status(args) => account::status(context, args).await,
        Command::Account(args) => account::run(context, args).await,
        Command::Whoami(args) => whoami::run(context, args).await,
        Command::Who(args) => who::run(context, args).await,
        Command::ChangePin(args) => token::change_pin(context, args).await,
        Command::Token(args) => token::run(context, args).await,
        Command::Wipe(args) => wipe::run(context, args).await,
        Command::ExitCodes => exit_codes(context.output),
    }
}

fn exit_codes(output: Output) -> Result<()> {
    for (exit, meaning) in crate::error::EXIT_CODES {
        let code = *exit as u8;
        let value = serde_json::json!({"event": "exit_code", "code": code, "meaning": meaning});
        output.data(&value, &format!("{code:>3}  {meaning}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command()
            .get_subcommands()
            .filter(|c| c.get_name() != "help")
        {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("Example:") && help.contains("hostchat "),
                "{}",
                command.get_name()
            );
        }
    }
}
