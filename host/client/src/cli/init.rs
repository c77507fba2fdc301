//! `hostchat init`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::prompt;
use super::secret::Secret;
use crate::agent::{Begun, NewAccount};
use crate::error::{Error, Result};
use crate::model::address::{RelayAddress, account_name, hex};

/// `init`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat init --relay relay.example:7443 --name alice
  hostchat init --relay 127.0.0.1:7443#3b5f... --name alice --pin-file pin.txt
  hostchat init --relay relay.example --name alice --token /dev/ttyACM0

The relay prints its address with fingerprint. Without a fingerprint its certificate has to be a public one. \
The software token's file is sealed under the passphrase; it counts no tries, since a copied file would not \
count them either: choose a passphrase that cannot be guessed. For a hardware token the cable is trusted while \
it is initialised; do it on a computer of your own, and press its button when its light shows waiting. \
An init that was interrupted can be repeated.")]
pub struct InitArgs {
    /// Name wanted at the relay: 1 to 32 of a-z 0-9 . _ -
    #[arg(long)]
    pub name: String,
    /// Reads an invitation from the first line of FILE, where the relay asks for one; - is standard input
    #[arg(long, value_name = "FILE")]
    pub invitation: Option<PathBuf>,
    /// Does not let others see in `who` that this account is connected
    #[arg(long)]
    pub hidden: bool,
}

pub(super) async fn run(context: &Context, args: InitArgs) -> Result<()> {
    let relay = context.global.relay.as_deref().ok_or_else(|| {
        Error::Usage(
            "a relay is needed: --relay HOST:PORT[#FINGERPRINT], as the relay prints it".into(),
        )
    })?;
    let (name, relay) = (account_name(&args.name)?, RelayAddress::parse(relay)?);
    let begun = Begun::open(&context.options()?, context.on_notice()).await?;
    context.tell_opened(begun.home())?;
    let new = begun.is_blank();
    let secret = match context.global.token {
        Some(_) => Secret::Pin,
        None => Secret::Passphrase,
    };
    let file = context.global.pin_file.clone();
    let get = move || {
        if new {
            secret.choose(file.as_deref(), "--pin-file")
        } else {
            secret.present(file.as_deref())
        }
    };
    let invitation = match &args.invitation {
        Some(file) => prompt::first_line(file)?.to_vec(),
        None => Vec::new(),
    };
    let mut output = context.output;
    let invited = !invitation.is_empty();
    let check = begun.check(name.clone(), relay.clone(), invited, &mut output);
    // Nobody types a secret for a registration that cannot succeed; a file costs nobody anything.
    let pin = if prompt::has_keyboard() && context.global.pin_file.is_none() {
        context.unless_stopped(check).await?;
        context.ask(get).await?
    } else {
        let pin = context.ask(get).await?;
        context.unless_stopped(check).await?;
        pin
    };
    let account = NewAccount {
        name,
        relay,
        invitation,
        visible: !args.hidden,
    };
    let client = context.stoppable(begun.finish(account, pin, &mut output).await?);
    let (address, fingerprint) = (client.address(), hex(&client.identity().fingerprint()));
    let value =
        json!({"event": "account", "address": address.as_str(), "fingerprint": fingerprint});
    output.data(
        &value,
        &format!("you are {address}\nfingerprint {fingerprint}"),
    )
}
