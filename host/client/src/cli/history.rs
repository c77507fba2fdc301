//! `hostchat history`

use clap::Args;

use super::context::Context;
use crate::error::Result;

/// `history`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat history
  hostchat history alice --last 20 --json")]
pub struct HistoryArgs {
    /// Only messages from and to this contact
    pub peer: Option<String>,
    /// How many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub last: u32,
}

pub(super) async fn run(context: &Context, args: HistoryArgs) -> Result<()> {
    let mut client = context.client().await?;
    let peer = args
        .peer
        .as_deref()
        .map(|peer| client.resolve(peer))
        .transpose()?;
    let contacts = client.vault().contacts()?;
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);
    let messages = client.vault().history(peer.as_ref(), last)?;
    if messages.is_empty() && last > 0 {
        let with = peer.map_or_else(String::new, |peer| format!(" with {peer}"));
        let next = "`hostchat send` and `hostchat recv` add to it, unless you give --no-history";
        context
            .output
            .empty(&format!("no history{with} yet; {next}"));
    }
    for message in messages {
        let contact = contacts.iter().find(|c| c.address == message.peer);
        let name = contact.map_or_else(|| message.peer.to_string(), |c| c.name.clone());
        context.output.history(&message, &name)?;
    }
    Ok(())
}
