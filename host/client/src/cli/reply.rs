//! `hostchat reply`

use super::run::Context;
use super::{ReplyArgs, prompt};
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: ReplyArgs) -> Result<()> {
    let mut client = context.client().await?;
    let last = client.vault().last_sender()?;
    let address = last.ok_or_else(|| Error::Nothing("no message to reply to".into()))?;
    let text = prompt::text(args.text.as_deref())?;
    client.queue_text(&address, &text)?;
    let mut output = context.output;
    client.send(&address, false, &mut output).await
}
