//! `hostchat init`

use serde_json::json;

use super::InitArgs;
use super::prompt;
use super::run::Context;
use crate::address::{RelayAddress, account_name, hex};
use crate::client::{Begun, NewAccount};
use crate::error::{Error, Result};

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
    let question = match (&context.global.token, new) {
        (Some(_), true) => "New PIN of the token: ",
        (Some(_), false) => "PIN of the token: ",
        (None, true) => "New passphrase: ",
        (None, false) => "Passphrase: ",
    };
    let file = context.global.pin_file.clone();
    let ask = move || prompt::pin(file.as_deref(), question, "--pin-file", new);
    let pin = context.ask(ask).await?;
    let invitation = match &args.invitation {
        Some(file) => prompt::first_line(file)?.to_vec(),
        None => Vec::new(),
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
