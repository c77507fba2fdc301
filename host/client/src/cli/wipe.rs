//! `hostchat wipe`

use serde_json::json;

use super::run::Context;
use super::{WipeArgs, prompt};
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: WipeArgs) -> Result<()> {
    let locked = context.locked().await?;
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
    context.output.data(
        &json!({"event": "done", "what": "wiped"}),
        "everything is erased",
    )
}
