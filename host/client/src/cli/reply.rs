//! `hostchat reply`

use clap::Args;

use super::context::Context;
use super::prompt;
use crate::agent::How;
use crate::error::{Error, Result};

/// `reply`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat reply \"at nine, yes\"

Goes to the sender of the message that was shown last.")]
pub struct ReplyArgs {
    /// The message; - or nothing reads standard input
    pub text: Option<String>,
}

pub(super) async fn run(context: &Context, args: ReplyArgs) -> Result<()> {
    let mut client = context.online().await?;
    let last = client.vault().last_sender()?;
    let address = last.ok_or_else(|| Error::Nothing("no message to reply to".into()))?;
    if args.text.is_none() && prompt::has_keyboard() {
        let known = client.vault().contact_at(&address)?;
        let name = known.map_or_else(String::new, |contact| format!("{} ", contact.name));
        eprintln!("To {name}({address}):");
    }
    let text = context.text(args.text, false).await?;
    let mut output = context.output;
    client
        .send(&address, &text, How::default(), &mut output)
        .await
}
