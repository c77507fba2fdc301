//! `hostchat reply`

use super::run::Context;
use super::{ReplyArgs, prompt};
use crate::agent::How;
use crate::error::{Error, Result};

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
