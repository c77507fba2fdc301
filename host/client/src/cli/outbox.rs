//! `hostchat outbox`

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use crate::error::{Error, Result};
use crate::escape::{escape, escape_lines};
use crate::model::Removed;
use crate::model::answer::{OutboxEntry, OutboxState};
use crate::model::call::{Outbox, Remove};
use crate::os;

/// `outbox`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat outbox
  hostchat outbox remove 3fa9c1d2
  hostchat outbox --json | jq -r 'select(.state==\"unconfirmed\") | .peer'

A message is confirmed when the recipient's hostchat says that it has stored it. Until then you keep it for 45 days, \
also with --no-history, and send it again when a new session makes that necessary. What you remove is not sent, or not sent again; nobody can take \
back what has left.")]
pub struct OutboxArgs {
    /// What to do; nothing lists
    #[command(subcommand)]
    pub action: Option<OutboxAction>,
}

/// What `outbox` can do.
#[derive(Debug, Subcommand)]
pub enum OutboxAction {
    /// Removes a message: it is not sent, or not sent again
    Remove {
        /// Its id as listed, or the beginning of it
        id: String,
    },
}

/// So many digits of an id are listed.
const SHOWN: usize = 8;
/// As few name one.
const FEWEST: usize = 4;

pub(super) async fn run(context: &Context, args: OutboxArgs) -> Result<()> {
    let mut session = context.session().await?;
    let texts = session.call(Outbox {}).await?;
    let output = context.output;
    if let Some(OutboxAction::Remove { id }) = args.action {
        let text = chosen(&texts, &id)?;
        let content = text.content.clone();
        let (what, words) = match session.call(Remove { content }).await? {
            Some(Removed::NotAgain) => (
                "not_again",
                "removed: it is not sent again. It may have left before",
            ),
            Some(Removed::Unsent) | None => ("unsent", "removed: it was not sent"),
        };
        let (peer, content) = (text.peer.as_str(), &text.content);
        let value = json!({"event": "done", "what": what, "peer": peer, "content": content});
        return output.data(&value, words);
    }
    if texts.is_empty() {
        output.empty("the outbox is empty; `hostchat history` shows what was sent");
    }
    for text in texts {
        let id = &text.content;
        let value = json!({
            "event": "outbox",
            "peer": text.peer.as_str(),
            "state": text.state,
            "content": id,
            "sent_at": text.sent_at,
            "text": text.text.as_str(),
        });
        let line = format!(
            "{} [{}] to {}: {} ({})",
            id.get(..SHOWN).unwrap_or(id),
            os::local(text.sent_at),
            text.peer,
            escape_lines(&text.text),
            state(text.state)
        );
        output.data(&value, &line)?;
    }
    Ok(())
}

fn state(state: OutboxState) -> &'static str {
    match state {
        OutboxState::Unconfirmed => "not confirmed",
        OutboxState::Again => "to be sent again",
        OutboxState::Queued => "not sent",
        OutboxState::Held => "not sent: leaves after a code",
    }
}

fn chosen<'a>(texts: &'a [OutboxEntry], id: &str) -> Result<&'a OutboxEntry> {
    let wanted = id.to_ascii_lowercase();
    if wanted.len() < FEWEST || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Usage(format!(
            "\"{}\" is no id: `hostchat outbox` lists them in front of each message",
            escape(id)
        )));
    }
    let mut found = texts
        .iter()
        .filter(|text| text.content.starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::Nothing(format!(
            "nothing in the outbox has the id {wanted}; `hostchat outbox` lists what is there"
        ))),
        (Some(_), Some(_)) => Err(Error::Usage(format!(
            "several messages have an id that begins with {wanted}: give more of it (--json shows all of it)"
        ))),
    }
}
