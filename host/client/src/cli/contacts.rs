//! `hostchat contacts`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::output::Output;
use super::session::Session;
use super::{prompt, requests, words};
use crate::error::Result;
use crate::model::Event;
use crate::model::answer::{self, BlockedEntry, ContactEntry};
use crate::model::call::{
    Block, Blocked, Contacts, Delete, Export, Import, Rename, Requests, SafetyNumber,
};

/// `contacts`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat contacts
  hostchat contacts verify alice
  hostchat contacts rename alice ally
  hostchat contacts export alice > alice.txt
  hostchat contacts import bob.txt
  hostchat contacts block mallory
  hostchat contacts unblock mallory@relay.example:7443
  hostchat contacts blocked

A block is kept by your relay, which then refuses what they send to you and gives them no keys to begin with; what it \
had before still arrives. `contacts` marks whom this home has blocked; `contacts blocked` asks the relay. It is of one account: somebody of another relay can come back under another address, and \
where anybody may register, at yours with another name. Whoever is blocked can find out, by writing to you. They need \
not be contacts: NAME is that of a contact or of an account at your relay, or NAME@HOST:PORT.")]
pub struct ContactsArgs {
    /// What to do; nothing lists
    #[command(subcommand)]
    pub action: Option<ContactsAction>,
}

/// What `contacts` can do.
#[derive(Debug, Subcommand)]
pub enum ContactsAction {
    /// Lists contacts and who asks to be one
    List,
    /// Shows the safety number to compare, and notes that it was compared
    Verify {
        /// The contact
        name: String,
        /// Notes that both of you see the same number; without it a terminal asks
        #[arg(long)]
        compared: bool,
    },
    /// Gives a contact another name, on this computer only
    Rename {
        /// The contact
        name: String,
        /// The new name
        new_name: String,
    },
    /// Deletes a contact, its sessions and what waits for it in the outbox; its history stays
    Delete {
        /// The contact
        name: String,
        /// Deletes the messages exchanged with it too
        #[arg(long)]
        history: bool,
    },
    /// Lets your relay refuse what somebody sends to you, and says so to them
    Block {
        /// Contact, NAME at the own relay, or NAME@HOST:PORT
        name: String,
    },
    /// Lets your relay take again what somebody sends to you
    Unblock {
        /// Contact, NAME at the own relay, or NAME@HOST:PORT
        name: String,
    },
    /// Lists whom you block
    Blocked,
    /// Prints the public identity of a contact as text
    Export {
        /// The contact
        name: String,
    },
    /// Adds a contact from an exported identity
    Import {
        /// The file; - is standard input
        file: PathBuf,
    },
}

pub(super) async fn run(context: &Context, args: ContactsArgs) -> Result<()> {
    let mut session = context.session().await?;
    let output = context.output;
    match args.action.unwrap_or(ContactsAction::List) {
        ContactsAction::List => list(&mut session, output).await,
        ContactsAction::Verify { name, compared } => {
            verify(context, &mut session, name, compared).await
        }
        ContactsAction::Rename { name, new_name } => {
            let rename = Rename {
                peer: name,
                name: new_name,
            };
            let contact = session.call(rename).await?;
            let (address, name) = (contact.address.as_str(), &contact.name);
            let value = json!({"event": "done", "what": "renamed", "peer": address, "name": name});
            output.data(&value, &format!("{address} is now {name}"))
        }
        ContactsAction::Delete { name, history } => {
            let delete = Delete {
                peer: name,
                history,
            };
            let deleted = session.call(delete).await?;
            let (unsent, unconfirmed) = (deleted.unsent, deleted.unconfirmed);
            let peer = deleted.peer.as_str();
            let value = json!({
                "event": "done", "what": "deleted", "peer": peer,
                "unsent": unsent, "unconfirmed": unconfirmed,
            });
            let told = |count: usize, of: &str, end: &str| match count {
                0 => String::new(),
                1 => format!("; 1 {of} message is {end}"),
                n => format!("; {n} {of} messages are {end}"),
            };
            let also = told(unsent, "waiting", "dropped unsent")
                + &told(unconfirmed, "unconfirmed", "not sent again");
            output.data(&value, &format!("{peer} is deleted{also}"))
        }
        ContactsAction::Block { name } => block(&mut session, name, true, output).await,
        ContactsAction::Unblock { name } => block(&mut session, name, false, output).await,
        ContactsAction::Blocked => blocked(&mut session, output).await,
        ContactsAction::Export { name } => {
            let exported = session.call(Export { peer: Some(name) }).await?;
            print_export(&exported, output)
        }
        ContactsAction::Import { file } => {
            let text = context.ask(move || prompt::file_text(&file)).await?;
            let contact = session.call(Import { text }).await?;
            let text = format!("{} is a contact: {}", contact.address, contact.status);
            output.data(&described(&contact), &text)
        }
    }
}

async fn block(
    session: &mut Session<'_>,
    peer: String,
    blocked: bool,
    output: Output,
) -> Result<()> {
    let address = session.call(Block { peer, blocked }).await?;
    let (what, text) = if blocked {
        let text = "is blocked: your relay takes nothing from there any more";
        ("blocked", format!("{address} {text}"))
    } else {
        ("unblocked", format!("{address} may write to you"))
    };
    let value = json!({"event": "done", "what": what, "peer": address.as_str()});
    output.data(&value, &text)
}

async fn blocked(session: &mut Session<'_>, output: Output) -> Result<()> {
    let blocked = session.call(Blocked {}).await?;
    if blocked.is_empty() {
        output.empty("you block nobody; `hostchat contacts block NAME` blocks someone");
    }
    for BlockedEntry { address, name } in blocked {
        let value = json!({"event": "blocked", "address": address.as_str(), "name": name});
        let text = match name {
            Some(name) => format!("{name}  {address}"),
            None => address.to_string(),
        };
        output.data(&value, &text)?;
    }
    Ok(())
}

/// Prints an exported identity.
pub(super) fn print_export(exported: &answer::Export, output: Output) -> Result<()> {
    let (address, text) = (exported.address.as_str(), &exported.export);
    output.data(
        &json!({"event": "identity", "address": address, "export": text}),
        text,
    )
}

async fn list(session: &mut Session<'_>, output: Output) -> Result<()> {
    let contacts = session.call(Contacts {}).await?;
    let all = Requests {
        from: None,
        check: false,
    };
    let requests = session.call(all).await?;
    if contacts.is_empty() && requests.is_empty() {
        output.empty("no contacts yet; `hostchat send NAME --code print` writes to someone and pairs with them");
    }
    for contact in contacts {
        let mut line = format!("{}  {}  {}", contact.name, contact.address, contact.status);
        if contact.changed {
            line.push_str("; IDENTITY CHANGED, nothing is sent");
        }
        if contact.blocked {
            line.push_str("; blocked");
        }
        if contact.outbox > 0 {
            line.push_str(&format!("; {} in the outbox", contact.outbox));
        }
        output.data(&described(&contact), &line)?;
    }
    for (request, _) in requests::grouped(&requests) {
        let line = words::request_line(&request.request);
        output.event_data(&Event::Request(request.request.clone()), &line)?;
    }
    Ok(())
}

fn described(contact: &ContactEntry) -> Value {
    json!({
        "event": "contact",
        "name": contact.name,
        "address": contact.address.as_str(),
        "status": contact.status,
        "verified": contact.verified,
        "changed": contact.changed,
        "fingerprint": contact.fingerprint,
        "outbox": contact.outbox,
        "blocked": contact.blocked,
    })
}

async fn verify(
    context: &Context,
    session: &mut Session<'_>,
    peer: String,
    compared: bool,
) -> Result<()> {
    let output = context.output;
    let known = SafetyNumber { peer, compared };
    let number = session.call(known.clone()).await?;
    let groups: Vec<&str> = number
        .number
        .as_bytes()
        .chunks(5)
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    let rows: Vec<String> = groups
        .chunks(4)
        .map(|row| format!("  {}", row.join(" ")))
        .collect();
    let mut text = format!("safety number with {}:\n{}", number.peer, rows.join("\n"));
    if compared {
        text.push_str("\nnoted: compared");
    }
    let value = json!({
        "event": "safety_number",
        "peer": number.peer.as_str(),
        "number": number.number,
        "verified": number.verified,
    });
    output.data(&value, &text)?;
    if !compared && !output.json && !number.verified && prompt::is_interactive() {
        eprintln!(
            "Compare it with what {} sees, by another way than this program.",
            number.name
        );
        if context
            .ask(|| prompt::confirm("Are the two equal?"))
            .await?
        {
            let compared = true;
            session.call(SafetyNumber { compared, ..known }).await?;
            eprintln!("noted: compared");
        }
    }
    Ok(())
}
