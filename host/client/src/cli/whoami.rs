//! `hostchat whoami`

use clap::Args;
use serde_json::json;

use super::contacts::print_export;
use super::context::Context;
use crate::error::Result;
use crate::model::address::hex;

/// `whoami`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat whoami
  hostchat whoami --export > me.txt")]
pub struct WhoamiArgs {
    /// Prints the public identity as text that others import
    #[arg(long)]
    pub export: bool,
}

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
