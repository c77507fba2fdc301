//! From arguments to an exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use super::output::Output;
use super::{
    Cli, Command, accept, account, agent, contacts, history, init, outbox, recv, reply, send,
    token, who, whoami, wipe,
};
use crate::agent::Stop;
use crate::error::{Error, Exit, Result, Waiting};

/// How long a command may take to leave things in order after Ctrl-C; a second Ctrl-C ends it at once.
const GRACE: Duration = Duration::from_secs(3);

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
    let stop = Stop::default();
    let context = Context::new(cli.global.without_empty(), output, stop.clone());
    let command = async {
        let done = execute(cli.command, &context).await;
        context.let_go().await;
        done
    };
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
        Command::Agent(args) => agent::run(context, args).await,
        Command::Unlock(args) => agent::unlock(context, args).await,
        Command::Lock(args) => agent::lock(context, args).await,
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
