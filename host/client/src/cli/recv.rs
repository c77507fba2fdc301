//! `hostchat recv`

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use hostchat_core::wire::Address;

use super::context::Context;
use super::output::Output;
use crate::agent::{Observer, TypedCode, note};
use crate::error::{Error, Result};
use crate::model::{Event, Fault, Note};

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
            Err(why) if again => why,
            other => return other,
        };
        match why {
            Error::TokenUnplugged(_) => {
                unplugged = true;
                let fault = Fault::from(&why);
                note(&mut context.output.clone(), Note::Unplugged { fault })?;
            }
            Error::TokenAbsent { .. } | Error::TokenDenied(_) | Error::TokenSilent { .. }
                if unplugged => {}
            other => return Err(other),
        }
        context.pause(LOOK).await?;
    }
}

async fn receive(context: &Context, follow: bool) -> Result<()> {
    let mut client = context.online().await?;
    let mut observer = Counting {
        output: context.output,
        seen: false,
    };
    client.receive(follow, &mut observer).await?;
    // A program sees that nothing came.
    if observer.seen || observer.output.json {
        return Ok(());
    }
    let unopened = u64::try_from(client.vault().unopened()?.len()).unwrap_or(u64::MAX);
    note(&mut observer.output, Note::NothingNew { unopened })
}

/// Prints, and knows whether there was anything to print.
struct Counting {
    output: Output,
    seen: bool,
}

impl Observer for Counting {
    fn event(&mut self, event: Event) -> io::Result<()> {
        self.seen = true;
        self.output.event(event)
    }

    fn ask_code(&mut self, peer: &Address, types: bool) -> Option<TypedCode> {
        self.output.ask_code(peer, types)
    }
}
