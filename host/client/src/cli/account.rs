//! `hostchat account` and `hostchat status`

use clap::{Args, Subcommand};
use hostchat_core::wire::Address;
use serde_json::json;

use super::context::Context;
use super::words::{counted, named};
use crate::error::{Result, goes_back};
use crate::model::call::{Resume, Status};
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
            context.session().await?.call(Resume {}).await?;
            context.output.data(
                &json!({"event": "done", "what": "resumed"}),
                "this account goes on with the keys of this home",
            )
        }
    }
}

pub(super) async fn status(context: &Context, _args: StatusArgs) -> Result<()> {
    let status = context.session().await?.call(Status {}).await?;
    let address = &status.address;
    let value = json!({
        "event": "status",
        "address": address.as_str(),
        "stopped": status.stopped,
        "stopped_at": status.stopped_at,
        "goes_back_to": status.goes_back_to,
        "outbox": status.outbox,
        "unconfirmed": status.unconfirmed,
        "unopened": status.unopened,
        "forged": status.forged,
        "forged_names": status.forged_names.iter().map(Address::as_str).collect::<Vec<_>>(),
        "strangers": status.strangers,
    });
    let mut lines = vec![format!("you are {address}")];
    if let Some(since) = status.goes_back_to.filter(|_| status.stopped) {
        let at = status
            .stopped_at
            .map_or_else(String::new, |at| format!(" at {}", os::local(at)));
        lines.push(format!(
            "stopped{at}: a second copy of these keys is in use, or the relay lies; {}",
            goes_back(since)
        ));
        lines.push("`hostchat account resume` goes on with this home".into());
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    lines.push(format!(
        "{} in the outbox, {} not confirmed",
        counted(count(status.outbox), "text", "texts"),
        counted(count(status.unconfirmed), "message", "messages")
    ));
    if status.unopened > 0 {
        lines.push(format!(
            "{} could not be opened yet; the senders are asked",
            counted(
                count(status.unopened),
                "message or receipt",
                "messages or receipts"
            )
        ));
    }
    if status.forged > 0 {
        lines.push(format!(
            "{} in the name of {} were forged",
            counted(status.forged, "message", "messages"),
            named(&status.forged_names)
        ));
    }
    if status.strangers > 0 {
        lines.push(format!(
            "{} so far could not be opened and came from nobody who is a contact",
            counted(
                status.strangers,
                "message or receipt",
                "messages or receipts"
            )
        ));
    }
    context.output.data(&value, &lines.join("\n"))
}
