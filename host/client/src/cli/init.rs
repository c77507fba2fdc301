//! `hostchat init`

use serde_json::json;

use super::InitArgs;
use super::prompt;
use super::run::Context;
use super::secret::Secret;
use crate::agent::{Begun, NewAccount};
use crate::error::{Error, Result};
use crate::model::address::{RelayAddress, account_name, hex};

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
    let check = begun.check(name.clone(), relay.clone(), !invitation.is_empty());
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
    let mut output = context.output;
    let client = context.stoppable(begun.finish(account, pin, &mut output).await?);
    let (address, fingerprint) = (client.address(), hex(&client.identity().fingerprint()));
    let value =
        json!({"event": "account", "address": address.as_str(), "fingerprint": fingerprint});
    output.data(
        &value,
        &format!("you are {address}\nfingerprint {fingerprint}"),
    )
}
