//! `hostchat outbox`

use clap::{Args, Subcommand};
use hostchat_core::wire::content::ContentId;
use serde_json::json;

use super::context::Context;
use crate::error::{Error, Result};
use crate::escape::{escape, escape_lines};
use crate::model::Removed;
use crate::model::address::hex;
use crate::os;
use crate::vault::{Payload, Vault};

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
    let mut client = context.client().await?;
    let texts = texts(client.vault())?;
    let output = context.output;
    if let Some(OutboxAction::Remove { id }) = args.action {
        let text = chosen(&texts, &id)?;
        let removed = client.vault().remove_text(text.content)?;
        let (what, words) = match removed {
            Some(Removed::NotAgain) => (
                "not_again",
                "removed: it is not sent again. It may have left before",
            ),
            Some(Removed::Unsent) | None => ("unsent", "removed: it was not sent"),
        };
        let content = hex(&text.content.0);
        let value = json!({"event": "done", "what": what, "peer": text.peer, "content": content});
        return output.data(&value, words);
    }
    if texts.is_empty() {
        output.empty("the outbox is empty; `hostchat history` shows what was sent");
    }
    for text in texts {
        let id = hex(&text.content.0);
        let value = json!({
            "event": "outbox",
            "peer": text.peer,
            "state": text.state,
            "content": id,
            "sent_at": text.sent_at,
            "text": text.text,
        });
        let line = format!(
            "{} [{}] to {}: {} ({})",
            id.get(..SHOWN).unwrap_or(&id),
            os::local(text.sent_at),
            text.peer,
            escape_lines(&text.text),
            text.words
        );
        output.data(&value, &line)?;
    }
    Ok(())
}

/// A text that waits, or that nobody has confirmed.
struct Text {
    content: ContentId,
    peer: String,
    sent_at: u64,
    text: String,
    state: &'static str,
    words: &'static str,
}

fn texts(vault: &mut Vault) -> Result<Vec<Text>> {
    let sent = vault.unconfirmed()?.into_iter();
    let mut texts: Vec<Text> = sent
        .filter(|sent| !sent.queued)
        .map(|sent| Text {
            content: sent.message.content,
            peer: sent.message.peer.to_string(),
            sent_at: sent.message.sent_at,
            text: sent.message.text.to_string(),
            state: "unconfirmed",
            words: "not confirmed",
        })
        .collect();
    for entry in vault.outbox()? {
        if let Payload::Note {
            id,
            sent_at,
            again,
            with_code,
            text,
            ..
        } = &entry.payload
        {
            let is_held = *with_code && !vault.is_verified(&entry.to)?;
            let (state, words) = match (*again, is_held) {
                (true, _) => ("again", "to be sent again"),
                (false, false) => ("queued", "not sent"),
                (false, true) => ("held", "not sent: leaves after a code"),
            };
            texts.push(Text {
                content: *id,
                peer: entry.to.to_string(),
                sent_at: *sent_at,
                text: text.to_string(),
                state,
                words,
            });
        }
    }
    Ok(texts)
}

fn chosen<'a>(texts: &'a [Text], id: &str) -> Result<&'a Text> {
    let wanted = id.to_ascii_lowercase();
    if wanted.len() < FEWEST || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Usage(format!(
            "\"{}\" is no id: `hostchat outbox` lists them in front of each message",
            escape(id)
        )));
    }
    let mut found = texts
        .iter()
        .filter(|text| hex(&text.content.0).starts_with(&wanted));
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
