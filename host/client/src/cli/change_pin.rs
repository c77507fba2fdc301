//! `hostchat change-pin`

use serde_json::json;

use super::run::Context;
use super::{ChangePinArgs, prompt};
use crate::error::Result;

pub(super) async fn run(context: &Context, args: ChangePinArgs) -> Result<()> {
    let locked = context.locked().await?;
    let old = context.pin(locked.question()).await?;
    let file = args.new_pin_file;
    let ask = move || prompt::pin(file.as_deref(), "The new one: ", "--new-pin-file", true);
    let new = context.ask(ask).await?;
    locked.change_pin(old, new).await?;
    context.output.data(
        &json!({"event": "done", "what": "changed PIN"}),
        "the PIN is changed",
    )
}
