//! `hostchat token`

use hostchat_core::icd::Lifecycle;
use serde_json::json;

use super::run::Context;
use crate::error::Result;
use crate::escape::escape;

pub(super) async fn run(context: &Context) -> Result<()> {
    let hello = context.locked().await?.hello().await?;
    let counted = |n: u8| (n != u8::MAX).then_some(n);
    let (board, firmware) = (escape(&hello.board), escape(&hello.firmware));
    let lifecycle = match hello.lifecycle {
        Lifecycle::Blank => "blank",
        Lifecycle::Ready => "ready",
        Lifecycle::Damaged => "damaged",
    };
    let value = json!({
        "event": "token",
        "board": board,
        "firmware": firmware,
        "protocol": hello.version,
        "lifecycle": lifecycle,
        "tries": counted(hello.tries),
        "tries_now": counted(hello.tries_now),
    });
    let tries = match (counted(hello.tries), counted(hello.tries_now)) {
        (Some(all), Some(now)) => {
            format!("{all} in all, {now} before it has to be plugged in again")
        }
        _ => "not counted".to_owned(),
    };
    let text = format!(
        "board     {board}\nfirmware  {firmware}\nprotocol  {}\nstate     {lifecycle}\nPIN tries {tries}",
        hello.version
    );
    context.output.data(&value, &text)
}
