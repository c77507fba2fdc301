//! `hostchat agent`, `hostchat lock` and `hostchat unlock`

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::session::Session;
use crate::agent::Handle;
use crate::error::{Error, Result};
use crate::model::call::{Lock, Stop, Unlock};

/// `agent`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat agent run &
  hostchat unlock
  hostchat recv --follow          in one terminal
  hostchat send bob \"hi\"         in another, without a passphrase
  hostchat agent stop

An agent holds the account, so that you unlock it once and all your terminals share it. While it is unlocked it receives \
messages, which wait until a command shows them. Any program of yours can send and read then: lock it when you leave. Without \
an agent the first command that runs serves the others for as long as it runs.")]
pub struct AgentArgs {
    /// What to do
    #[command(subcommand)]
    pub action: AgentAction,
}

/// What `agent` can do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AgentAction {
    /// Runs an agent until Ctrl-C, or `hostchat agent stop`
    Run,
    /// Ends the agent, when what it is doing is done
    Stop,
}

/// `unlock`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat unlock")]
pub struct UnlockArgs {}

/// `lock`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat lock")]
pub struct LockArgs {}

pub(super) async fn run(context: &Context, args: AgentArgs) -> Result<()> {
    match args.action {
        AgentAction::Run => serve(context).await,
        AgentAction::Stop => {
            let mut session = found(context).await?;
            session.call(Stop {}).await?;
            let value = json!({"event": "done", "what": "stopped"});
            context.output.data(&value, "the agent ends")
        }
    }
}

async fn serve(context: &Context) -> Result<()> {
    let mut handle = Handle::serve(&context.options()?).await?;
    context.tell(handle.opened())?;
    let value = json!({"event": "agent", "process": std::process::id()});
    let text =
        "this agent holds the account: `hostchat unlock` opens it, `hostchat agent stop` ends it";
    context.output.data(&value, text)?;
    let result = tokio::select! {
        () = handle.ended() => Ok(()),
        () = context.stop.wished() => Err(Error::Interrupted),
    };
    context.left(handle);
    result
}

pub(super) async fn unlock(context: &Context, _args: UnlockArgs) -> Result<()> {
    found(context).await?.call(Unlock {}).await?;
    let value = json!({"event": "done", "what": "unlocked"});
    context
        .output
        .data(&value, "the account is open to all your programs")
}

pub(super) async fn lock(context: &Context, _args: LockArgs) -> Result<()> {
    found(context).await?.call(Lock {}).await?;
    let value = json!({"event": "done", "what": "locked"});
    context.output.data(&value, "the account is locked")
}

/// A talk with whoever holds the home.
async fn found(context: &Context) -> Result<Session<'_>> {
    let handle = Handle::find(&context.options()?, context.manners()).await?;
    Session::over(context, handle.ok_or(Error::NoAgent)?)
}
