//! `hostchat reply`

use super::ReplyArgs;
use super::run::Context;
use crate::client::How;
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: ReplyArgs) -> Result<()> {
    let mut client = context.online().await?;
    let last = client.vault().last_sender()?;
    let address = last.ok_or_else(|| Error::Nothing("no message to reply to".into()))?;
    let text = context.text(args.text, false).await?;
    let mut output = context.output;
    client
        .send(&address, &text, How::default(), &mut output)
        .await
}
