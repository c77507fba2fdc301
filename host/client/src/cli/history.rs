//! `hostchat history`

use super::HistoryArgs;
use super::run::Context;
use crate::error::Result;

pub(super) async fn run(context: &Context, args: HistoryArgs) -> Result<()> {
    let mut client = context.client().await?;
    let peer = args
        .peer
        .as_deref()
        .map(|peer| client.resolve(peer))
        .transpose()?;
    let contacts = client.vault().contacts()?;
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);
    for message in client.vault().history(peer.as_ref(), last)? {
        let contact = contacts.iter().find(|c| c.address == message.peer);
        let name = contact.map_or_else(|| message.peer.to_string(), |c| c.name.clone());
        context.output.history(&message, &name)?;
    }
    Ok(())
}
