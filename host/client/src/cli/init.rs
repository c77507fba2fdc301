//! `hostchat init`

use serde_json::json;

use super::InitArgs;
use super::prompt;
use super::run::Context;
use crate::address::{RelayAddress, account_name, hex};
use crate::client::{Client, NewAccount};
use crate::error::{Error, Result};

pub(super) async fn run(context: &Context, args: InitArgs) -> Result<()> {
    let relay = context.global.relay.as_deref().ok_or_else(|| {
        Error::Usage(
            "a relay is needed: --relay HOST:PORT[#FINGERPRINT], as the relay prints it".into(),
        )
    })?;
    let (name, relay) = (account_name(&args.name)?, RelayAddress::parse(relay)?);
    let question = if context.global.token.is_some() {
        "PIN of the token: "
    } else {
        "New passphrase: "
    };
    let new = context.global.token.is_none();
    let file = context.global.pin_file.clone();
    let pin = context
        .ask(move || prompt::pin(file.as_deref(), question, "--pin-file", new))
        .await?;
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
    let client = Client::init(
        &context.options()?,
        account,
        pin,
        context.on_notice(),
        &mut output,
    )
    .await?;
    let (address, fingerprint) = (client.address(), hex(&client.identity().fingerprint()));
    let value =
        json!({"event": "account", "address": address.as_str(), "fingerprint": fingerprint});
    output.data(
        &value,
        &format!("you are {address}\nfingerprint {fingerprint}"),
    )
}
