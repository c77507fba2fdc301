//! `hostchat who`

use clap::Args;
use serde_json::json;

use super::context::Context;
use crate::error::Result;
use crate::model::call::{SetVisible, Who};

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// `who`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat who
  hostchat who --visible off")]
pub struct WhoArgs {
    /// Lets others see that this account is connected, or not
    #[arg(long, value_enum)]
    pub visible: Option<Switch>,
}

pub(super) async fn run(context: &Context, args: WhoArgs) -> Result<()> {
    let mut session = context.session().await?;
    if let Some(switch) = args.visible {
        let visible = switch == Switch::On;
        session.call(SetVisible { visible }).await?;
        let text = if visible {
            "others may see that you are connected"
        } else {
            "others do not see that you are connected"
        };
        return context
            .output
            .data(&json!({"event": "visible", "visible": visible}), text);
    }
    let online = session.call(Who {}).await?;
    if online.is_empty() {
        context.output.empty(
            "nobody who is connected to your relay lets others see it; `hostchat send` reaches them all the same",
        );
    }
    for name in online {
        context.output.data(
            &json!({"event": "online", "name": name.as_str()}),
            name.as_str(),
        )?;
    }
    Ok(())
}
