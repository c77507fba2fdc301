//! `hostchat send`

use super::run::Context;
use super::{CodeBy, SendArgs, prompt};
use crate::agent::How;
use crate::error::Result;

pub(super) async fn run(context: &Context, args: SendArgs) -> Result<()> {
    let mut client = context.online().await?;
    let address = client.resolve(&args.peer)?;
    let with_code = args.code == Some(CodeBy::Print);
    let how = How {
        with_code,
        without_code: args.code == Some(CodeBy::None),
        accept_changed: args.changed,
    };
    let mut output = context.output;
    // Without a text, what waits is sent; nobody has to write it again.
    let waits = args.text.is_none() && client.has_waiting(&address)?;
    if waits && with_code && prompt::has_keyboard() {
        return client.send_waiting(&address, how, &mut output).await;
    }
    let read_nothing = args.text.is_none();
    let text = context.text(args.text, waits).await?;
    if read_nothing && text.is_empty() {
        return client.send_waiting(&address, how, &mut output).await;
    }
    client.send(&address, &text, how, &mut output).await
}
