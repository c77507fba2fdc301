//! `hostchat wipe`

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::prompt;
use crate::agent::Locked;
use crate::error::{Error, Result};

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

pub(super) async fn run(context: &Context, args: WipeArgs) -> Result<()> {
    let locked = match context.locked().await {
        // No keys are left to erase, but the way to a new beginning must be open.
        Err(Error::NoKeys { .. }) if args.local => None,
        // An `init` that came to no end has left a token's file.
        Err(Error::NotInitialised(home)) if args.local && home.join("token.flash").exists() => None,
        other => Some(other?),
    };
    if !args.yes {
        if !prompt::is_interactive() {
            return Err(Error::Usage("without a terminal `wipe` needs --yes".into()));
        }
        let question = "Erase the keys, the contacts and the history for good?";
        if !context.ask(move || prompt::confirm(question)).await? {
            return Ok(());
        }
    }
    match locked {
        None => Locked::erase_without_keys(&context.options()?)?,
        Some(locked) if args.local => locked.erase().await?,
        Some(locked) => {
            let pin = context.pin(locked.kind().into()).await?;
            let client = context.stoppable(locked.unlock(pin).await?);
            let mut output = context.output;
            client.wipe(&mut output).await?;
        }
    }
    context.output.data(
        &json!({"event": "done", "what": "wiped"}),
        "everything is erased",
    )
}
