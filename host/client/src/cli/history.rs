//! `hostchat history`

use clap::Args;

use super::context::Context;
use crate::error::Result;
use crate::model::call::History;

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
    let mut session = context.session().await?;
    let peer = args.peer;
    let with = peer.as_ref().map_or_else(String::new, |peer| {
        format!(" with {}", crate::escape::escape(peer))
    });
    let last = args.last;
    let messages = session.call(History { peer, last }).await?;
    if messages.is_empty() && last > 0 {
        let next = "`hostchat send` and `hostchat recv` add to it, unless you give --no-history";
        context
            .output
            .empty(&format!("no history{with} yet; {next}"));
    }
    for message in messages {
        context.output.history(&message)?;
    }
    Ok(())
}
