//! `hostchat send`

use super::run::Context;
use super::{CodeBy, SendArgs};
use crate::client::How;
use crate::error::Result;

pub(super) async fn run(context: &Context, args: SendArgs) -> Result<()> {
    let mut client = context.online().await?;
    let text = context.text(args.text).await?;
    let address = client.resolve(&args.peer)?;
    let with_code = args.code == Some(CodeBy::Print);
    let how = How {
        with_code,
        accept_changed: args.changed,
    };
    let mut output = context.output;
    client.send(&address, &text, how, &mut output).await
}
