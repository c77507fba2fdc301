//! `hostchat wipe`

use serde_json::json;

use super::run::Context;
use super::{WipeArgs, prompt};
use crate::client::Locked;
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: WipeArgs) -> Result<()> {
    let locked = match context.locked().await {
        // Its keys cannot be saved, but the way to a new beginning must be open.
        Err(Error::TokenDamaged) if args.local && args.yes => {
            Locked::erase_damaged(&context.options()?)?;
            return erased(context);
        }
        other => other?,
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
    if args.local {
        locked.erase().await?;
    } else {
        let pin = context.pin(locked.question()).await?;
        let client = context.stoppable(locked.unlock(pin).await?);
        let mut output = context.output;
        client.wipe(&mut output).await?;
    }
    erased(context)
}

fn erased(context: &Context) -> Result<()> {
    context.output.data(
        &json!({"event": "done", "what": "wiped"}),
        "everything is erased",
    )
}
