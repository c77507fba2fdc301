//! `hostchat recv`

use std::path::Path;
use std::time::Duration;

use super::RecvArgs;
use super::run::Context;
use crate::client::{Event, Observer as _};
use crate::error::{Error, Result};

/// How often a token that was unplugged is looked for.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &Context, args: RecvArgs) -> Result<()> {
    // A PIN from standard input cannot be read a second time.
    let again = args.follow && context.global.pin_file.as_deref() != Some(Path::new("-"));
    let mut unplugged = false;
    loop {
        let why = match receive(context, args.follow).await {
            Err(why) if again => why,
            other => return other,
        };
        match why {
            Error::TokenUnplugged(_) => {
                unplugged = true;
                let text = format!("{why}; plug it in again to go on");
                let event = Event::Note {
                    kind: "unplugged",
                    text,
                };
                let mut output = context.output;
                output
                    .event(&event)
                    .map_err(|why| Error::io("cannot write the output", why))?;
            }
            Error::TokenAbsent { .. } | Error::TokenSilent(_) if unplugged => {}
            other => return Err(other),
        }
        context.pause(LOOK).await?;
    }
}

async fn receive(context: &Context, follow: bool) -> Result<()> {
    let mut client = context.online().await?;
    let mut output = context.output;
    client.receive(follow, &mut output).await
}
