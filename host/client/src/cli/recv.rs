//! `hostchat recv`

use super::RecvArgs;
use super::run::Context;
use crate::error::Result;

pub(super) async fn run(context: &Context, args: RecvArgs) -> Result<()> {
    let mut client = context.online().await?;
    let mut output = context.output;
    client.receive(args.follow, &mut output).await
}
