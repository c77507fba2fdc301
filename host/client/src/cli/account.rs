//! `hostchat account` and `hostchat status`

use clap::{Args, Subcommand};
use hostchat_core::wire::Address;
use serde_json::json;

use super::context::Context;
use super::words::{counted, named};
use crate::error::{Result, goes_back};
use crate::os;

/// `status`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat status")]
pub struct StatusArgs {}

/// `account`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat account resume

A home stops when it finds, twice within 24 hours, that its keys are older than keys that were used: then two copies of \
it are in use, or the relay lies. It also stops, at once, when the relay says what cannot be. Use one copy only, and let it \
go on with `hostchat account resume`.")]
pub struct AccountArgs {
    /// What to do
    #[command(subcommand)]
    pub action: AccountAction,
}

/// What `account` can do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AccountAction {
    /// Goes on with the keys of this home, after a stop
    Resume,
}

pub(super) async fn run(context: &Context, args: AccountArgs) -> Result<()> {
    match args.action {
        AccountAction::Resume => {
            let mut client = context.online().await?;
            client.resume().await?;
            let mut output = context.output;
            client.show_notices(&mut output)?;
            client.settle(&mut output).await?;
            context.output.data(
                &json!({"event": "done", "what": "resumed"}),
                "this account goes on with the keys of this home",
            )
        }
    }
}

pub(super) async fn status(context: &Context, _args: StatusArgs) -> Result<()> {
    let mut client = context.client().await?;
    let address = client.address();
    let generations = client.vault().generations()?;
    let outbox = client.vault().outbox()?;
    let outbox = outbox.iter().filter(|entry| entry.is_text()).count();
    let unconfirmed = client.vault().unconfirmed()?.len();
    let unopened = client.vault().unopened()?.len();
    let stopped = generations.as_ref().filter(|g| g.stopped);
    let stopped = stopped.map(|g| (g.surprised_at, g.dated));
    let (forged, strangers) = generations.map_or((0, 0), |g| (g.forged, g.strangers));
    let forged_at = client.vault().forged_names()?;
    let value = json!({
        "event": "status",
        "address": address.as_str(),
        "stopped": stopped.is_some(),
        "stopped_at": stopped.and_then(|(at, _)| at),
        "goes_back_to": stopped.map(|(_, since)| since),
        "outbox": outbox,
        "unconfirmed": unconfirmed,
        "unopened": unopened,
        "forged": forged,
        "forged_names": forged_at.iter().map(Address::as_str).collect::<Vec<_>>(),
        "strangers": strangers,
    });
    let mut lines = vec![format!("you are {address}")];
    if let Some((at, since)) = stopped {
        let at = at.map_or_else(String::new, |at| format!(" at {}", os::local(at)));
        lines.push(format!(
            "stopped{at}: a second copy of these keys is in use, or the relay lies; {}",
            goes_back(since)
        ));
        lines.push("`hostchat account resume` goes on with this home".into());
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    lines.push(format!(
        "{} in the outbox, {} not confirmed",
        counted(count(outbox), "text", "texts"),
        counted(count(unconfirmed), "message", "messages")
    ));
    if unopened > 0 {
        lines.push(format!(
            "{} could not be opened yet; the senders are asked",
            counted(
                count(unopened),
                "message or receipt",
                "messages or receipts"
            )
        ));
    }
    if forged > 0 {
        lines.push(format!(
            "{} in the name of {} were forged",
            counted(forged, "message", "messages"),
            named(&forged_at)
        ));
    }
    if strangers > 0 {
        lines.push(format!(
            "{} so far could not be opened and came from nobody who is a contact",
            counted(strangers, "message or receipt", "messages or receipts")
        ));
    }
    context.output.data(&value, &lines.join("\n"))
}
