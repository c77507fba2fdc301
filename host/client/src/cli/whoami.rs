//! `hostchat whoami`

use clap::Args;
use serde_json::json;

use super::contacts::print_export;
use super::context::Context;
use crate::error::Result;
use crate::model::call::{Export, Whoami};

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
    let mut session = context.session().await?;
    if args.export {
        let exported = session.call(Export { peer: None }).await?;
        return print_export(&exported, context.output);
    }
    let account = session.call(Whoami {}).await?;
    let (address, fingerprint) = (&account.address, &account.fingerprint);
    let value = json!({
        "event": "account",
        "address": address.as_str(),
        "fingerprint": fingerprint,
        "visible": account.visible,
        "relay": account.relay,
    });
    let relay = &account.relay;
    let text = format!("you are {address}\nfingerprint {fingerprint}\nrelay {relay}");
    context.output.data(&value, &text)
}
