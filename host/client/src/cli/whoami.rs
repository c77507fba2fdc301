//! `hostchat whoami`

use serde_json::json;

use super::WhoamiArgs;
use super::contacts::print_export;
use super::run::Context;
use crate::error::Result;
use crate::model::address::hex;

pub(super) async fn run(context: &Context, args: WhoamiArgs) -> Result<()> {
    let client = context.client().await?;
    if args.export {
        return print_export(&client.export_own(), context.output);
    }
    let (address, fingerprint) = (client.address(), hex(&client.identity().fingerprint()));
    let value = json!({
        "event": "account",
        "address": address.as_str(),
        "fingerprint": fingerprint,
        "visible": client.is_visible(),
        "relay": client.relay().to_string(),
    });
    context.output.data(
        &value,
        &format!(
            "you are {address}\nfingerprint {fingerprint}\nrelay {}",
            client.relay()
        ),
    )
}
