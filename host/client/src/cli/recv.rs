//! `hostchat recv`

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::context::Context;
use crate::error::{Fault, Result};
use crate::model::call::{Receive, Status};
use crate::model::{Event, Note};

/// `recv`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat recv
  hostchat recv --follow --json | jq -r 'select(.event==\"message\") | .text'

Without --follow it ends when the mailbox is empty. A message marked \"may have been shown already\" was being \
shown when the program was interrupted. Control characters in texts are shown as \\u{..}.")]
pub struct RecvArgs {
    /// Stays and shows messages as they arrive, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

/// How often a token that was unplugged is looked for.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &Context, args: RecvArgs) -> Result<()> {
    // A PIN from standard input cannot be read a second time.
    let again = args.follow && context.global.pin_file.as_deref() != Some(Path::new("-"));
    let mut unplugged = false;
    loop {
        let why = match receive(context, args.follow).await {
            Err(why) if again => Fault::from(&why),
            other => return other,
        };
        if why.is("holder_gone") {
            // Somebody else takes its place, or this program does.
            continue;
        }
        if why.is("token_unplugged") {
            unplugged = true;
            context
                .output
                .event(&Event::Note(Note::Unplugged { fault: why }))?;
        } else {
            let absent = ["token_absent", "token_denied", "token_silent"];
            if !(unplugged && absent.iter().any(|kind| why.is(kind))) {
                return Err(why.into());
            }
        }
        context.pause(LOOK).await?;
    }
}

async fn receive(context: &Context, follow: bool) -> Result<()> {
    let mut session = context.session().await?;
    let received = session.call(Receive { follow }).await;
    // A program sees that nothing came.
    if received.is_ok() && !session.has_printed() && !context.output.json {
        let unopened = session.call(Status {}).await?.unopened;
        let unopened = u64::try_from(unopened).unwrap_or(u64::MAX);
        context
            .output
            .event(&Event::Note(Note::NothingNew { unopened }))?;
    }
    session.close().await;
    received
}
