//! `hostchat outbox`

use serde_json::json;

use super::OutboxArgs;
use super::run::Context;
use crate::address::hex;
use crate::error::Result;
use crate::escape::escape_lines;
use crate::os;
use crate::vault::Payload;

pub(super) async fn run(context: &Context, _args: OutboxArgs) -> Result<()> {
    let mut client = context.client().await?;
    let output = context.output;
    for sent in client.vault().unconfirmed()? {
        if sent.queued {
            continue;
        }
        let message = sent.message;
        let value = json!({
            "event": "outbox",
            "peer": message.peer.as_str(),
            "state": "unconfirmed",
            "content": hex(&message.content.0),
            "sent_at": message.sent_at,
            "text": message.text.as_str(),
        });
        let text = line(
            message.sent_at,
            message.peer.as_str(),
            &message.text,
            "not confirmed",
        );
        output.data(&value, &text)?;
    }
    for entry in client.vault().outbox()? {
        let Payload::Note {
            id,
            sent_at,
            again,
            text,
            ..
        } = &entry.payload
        else {
            continue;
        };
        let (state, words) = if *again {
            ("again", "to be sent again")
        } else {
            ("queued", "not sent")
        };
        let value = json!({
            "event": "outbox",
            "peer": entry.to.as_str(),
            "state": state,
            "content": hex(&id.0),
            "sent_at": sent_at,
            "text": text.as_str(),
        });
        output.data(&value, &line(*sent_at, entry.to.as_str(), text, words))?;
    }
    Ok(())
}

fn line(sent_at: u64, peer: &str, text: &str, state: &str) -> String {
    format!(
        "[{}] to {peer}: {} ({state})",
        os::utc(sent_at),
        escape_lines(text)
    )
}
