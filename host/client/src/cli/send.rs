//! `hostchat send`

use super::run::Context;
use super::{CodeBy, SendArgs, prompt};
use crate::client::{Client, Event, Observer};
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: SendArgs) -> Result<()> {
    let mut client = context.client().await?;
    let text = prompt::text(args.text.as_deref())?;
    let address = client.resolve(&args.peer)?;
    client.queue_text(&address, &text)?;
    let mut output = context.output;
    match args.code {
        None => client.send(&address, args.changed, &mut output).await,
        Some(CodeBy::Print) => with_code(&mut client, &address, args.changed, &mut output).await,
    }
}

async fn with_code(
    client: &mut Client,
    address: &hostchat_core::wire::Address,
    changed: bool,
    output: &mut super::output::Output,
) -> Result<()> {
    match client.pair(address, changed, output).await {
        Ok(()) => client.send(address, false, output).await,
        Err(why) => {
            let told = output.event(&Event::Queued {
                peer: address,
                why: &why,
            });
            told.map_err(|why| Error::io("cannot write the output", why))?;
            Err(why)
        }
    }
}
