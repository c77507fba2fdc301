//! `hostchat who`

use serde_json::json;

use super::run::Context;
use super::{Switch, WhoArgs};
use crate::error::Result;

pub(super) async fn run(context: &Context, args: WhoArgs) -> Result<()> {
    let mut client = context.online().await?;
    if let Some(switch) = args.visible {
        let visible = switch == Switch::On;
        client.set_visible(visible).await?;
        let text = if visible {
            "others may see that you are connected"
        } else {
            "others do not see that you are connected"
        };
        return context
            .output
            .data(&json!({"event": "visible", "visible": visible}), text);
    }
    let mut output = context.output;
    client.tell_policy(&mut output).await?;
    for name in client.who().await? {
        context.output.data(
            &json!({"event": "online", "name": name.as_str()}),
            name.as_str(),
        )?;
    }
    Ok(())
}
