//! `hostchat reply`

use clap::Args;

use super::context::Context;
use super::prompt;
use crate::error::{Error, Result};
use crate::model::call::{How, LastSender, Send};

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
    let mut session = context.session().await?;
    let last = session.call(LastSender {}).await?;
    let to = last.ok_or_else(|| Error::Nothing("no message to reply to".into()))?;
    if args.text.is_none() && prompt::has_keyboard() {
        let name = to.name.map_or_else(String::new, |name| format!("{name} "));
        eprintln!("To {name}({}):", to.address);
    }
    let text = context.text(args.text, false).await?;
    let send = Send {
        to: to.address,
        text: Some(text),
        how: How::default(),
    };
    session.call(send).await
}
