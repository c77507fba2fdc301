//! `hostchat contacts`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::output::Output;
use super::{prompt, requests, words};
use crate::agent::{Client, Exported};
use crate::error::{Error, Result};
use crate::model::address::hex;
use crate::model::event::RequestEvent;
use crate::model::{Contact, Event, Trust};
use crate::vault::Outgoing;

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
    let action = args.action.unwrap_or(ContactsAction::List);
    let mut client = match action {
        ContactsAction::Block { .. } | ContactsAction::Unblock { .. } | ContactsAction::Blocked => {
            context.online().await?
        }
        _ => context.client().await?,
    };
    let output = context.output;
    match action {
        ContactsAction::List => list(&mut client, output),
        ContactsAction::Verify { name, compared } => {
            verify(context, &mut client, &name, compared).await
        }
        ContactsAction::Rename { name, new_name } => {
            let contact = client.contact(&name)?;
            let contact = client.rename(&contact, &new_name)?;
            let value = json!({"event": "done", "what": "renamed", "peer": contact.address.as_str(), "name": contact.name});
            output.data(
                &value,
                &format!("{} is now {}", contact.address, contact.name),
            )
        }
        ContactsAction::Delete { name, history } => {
            let contact = client.contact(&name)?;
            let (unsent, unconfirmed) = client.delete(&contact, history).await?;
            let peer = contact.address.as_str();
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
        ContactsAction::Block { name } => block(&mut client, &name, true, output).await,
        ContactsAction::Unblock { name } => block(&mut client, &name, false, output).await,
        ContactsAction::Blocked => blocked(&mut client, output).await,
        ContactsAction::Export { name } => {
            let contact = client.contact(&name)?;
            print_export(&client.export(&contact)?, output)
        }
        ContactsAction::Import { file } => {
            let text = context.ask(move || prompt::file_text(&file)).await?;
            let contact = client.import(&Exported::parse(&text)?)?;
            let address = [&contact.address];
            let is_blocked = !client.vault().blocked_among(address)?.is_empty();
            let value = describe(&contact, 0, is_blocked);
            output.data(
                &value,
                &format!("{} is a contact: {}", contact.address, status(&contact)),
            )
        }
    }
}

async fn block(client: &mut Client, name: &str, blocked: bool, output: Output) -> Result<()> {
    let address = client.resolve(name)?;
    client.set_blocked(&address, blocked).await?;
    let (what, text) = if blocked {
        let text = "is blocked: your relay takes nothing from there any more";
        ("blocked", format!("{address} {text}"))
    } else {
        ("unblocked", format!("{address} may write to you"))
    };
    let value = json!({"event": "done", "what": what, "peer": address.as_str()});
    output.data(&value, &text)
}

async fn blocked(client: &mut Client, output: Output) -> Result<()> {
    let contacts = client.vault().contacts()?;
    let blocked = client.blocked().await?;
    if blocked.is_empty() {
        output.empty("you block nobody; `hostchat contacts block NAME` blocks someone");
    }
    for address in blocked {
        let contact = contacts.iter().find(|c| c.address == address);
        let name = contact.map(|contact| contact.name.as_str());
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
pub(super) fn print_export(exported: &Exported, output: Output) -> Result<()> {
    let text = exported.to_text();
    output.data(
        &json!({"event": "identity", "address": exported.address.as_str(), "export": text}),
        &text,
    )
}

fn list(client: &mut Client, output: Output) -> Result<()> {
    let mut texts = client.vault().outbox()?;
    texts.retain(Outgoing::is_text);
    let contacts = client.vault().contacts()?;
    let requests = requests::waiting(client, None)?;
    if contacts.is_empty() && requests.is_empty() {
        output.empty("no contacts yet; `hostchat send NAME --code print` writes to someone and pairs with them");
    }
    let blocked = client
        .vault()
        .blocked_among(contacts.iter().map(|contact| &contact.address))?;
    for contact in contacts {
        let is_blocked = blocked.contains(&contact.address);
        let waiting = texts.iter().filter(|e| e.to == contact.address).count();
        let mut line = format!(
            "{}  {}  {}",
            contact.name,
            contact.address,
            status(&contact)
        );
        if contact.changed.is_some() {
            line.push_str("; IDENTITY CHANGED, nothing is sent");
        }
        if is_blocked {
            line.push_str("; blocked");
        }
        if waiting > 0 {
            line.push_str(&format!("; {waiting} in the outbox"));
        }
        output.data(&describe(&contact, waiting, is_blocked), &line)?;
    }
    for (request, _) in requests::grouped(&requests) {
        let changed = client.is_changed(request)?;
        let request = RequestEvent::new(request, changed);
        let line = words::request_line(&request);
        output.event_data(&Event::Request(request), &line)?;
    }
    Ok(())
}

fn describe(contact: &Contact, outbox: usize, blocked: bool) -> Value {
    let fingerprint = contact
        .identity
        .and_then(|claim| claim.verify().ok())
        .map(|identity| hex(&identity.fingerprint()));
    json!({
        "event": "contact",
        "name": contact.name,
        "address": contact.address.as_str(),
        "status": status(contact),
        "verified": contact.identity.is_some() && contact.changed.is_none() && contact.trust.is_verified(),
        "changed": contact.changed.is_some(),
        "fingerprint": fingerprint,
        "outbox": outbox,
        "blocked": blocked,
    })
}

fn status(contact: &Contact) -> &'static str {
    match (contact.identity, contact.trust) {
        (None, _) if contact.expected.is_some() => "imported",
        (None, _) => "not reached",
        (Some(_), Trust::Code) => "verified by code",
        (Some(_), Trust::Compared) => "compared",
        (Some(identity), Trust::Unverified) if contact.expected == Some(identity) => "imported",
        (Some(_), Trust::Unverified) => "unverified",
    }
}

async fn verify(context: &Context, client: &mut Client, name: &str, compared: bool) -> Result<()> {
    let output = context.output;
    let contact = client.contact(name)?;
    let number = client.safety_number(&contact)?;
    let groups: Vec<&str> = number
        .as_bytes()
        .chunks(5)
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    let rows: Vec<String> = groups
        .chunks(4)
        .map(|row| format!("  {}", row.join(" ")))
        .collect();
    let mut text = format!(
        "safety number with {}:\n{}",
        contact.address,
        rows.join("\n")
    );
    if contact.changed.is_some() {
        return Err(Error::IdentityChanged(contact.address.to_string()));
    }
    let mut verified = contact.trust.is_verified();
    if compared {
        client.mark_compared(&contact)?;
        (verified, text) = (true, format!("{text}\nnoted: compared"));
    }
    let value = json!({"event": "safety_number", "peer": contact.address.as_str(), "number": number, "verified": verified});
    output.data(&value, &text)?;
    if !compared && !output.json && !verified && prompt::is_interactive() {
        eprintln!(
            "Compare it with what {} sees, by another way than this program.",
            contact.name
        );
        if context
            .ask(|| prompt::confirm("Are the two equal?"))
            .await?
        {
            client.mark_compared(&contact)?;
            eprintln!("noted: compared");
        }
    }
    Ok(())
}
