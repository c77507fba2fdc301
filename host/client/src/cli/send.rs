//! `hostchat send`

use clap::Args;

use super::context::Context;
use super::prompt;
use crate::error::Result;
use crate::model::call::{HasWaiting, How, Resolve, Send};

/// How a code reaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CodeBy {
    /// Shows it here, to be given on by SMS or aloud
    Print,
    /// Sends what waits for a code without one
    None,
}

/// `send`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat send bob \"meet at nine\" --code print
  hostchat send bob \"no code needed now\"
  echo \"from a script\" | hostchat send bob@relay.example:7443 - --pin-file pin.txt

With --code a six-digit code is shown. Give it to the other by SMS or aloud, never through the relay; the other \
types it into `hostchat accept`. The command waits until the code was typed, for ten minutes at most and three \
tries; the message stays in the outbox until then, and after Ctrl-C too. `hostchat send bob --code print`, without a \
text, makes a code for what waits: do not write it again. It leaves after a code only; `--code none` sends it without one.
Without --code a contact that is not known yet gets a request, and stays unverified until safety numbers are \
compared (`hostchat contacts verify bob`) or a code is used.
A message that the relay cannot take now stays in the outbox (exit code 8) and leaves with the next send or recv. One \
for somebody who blocks you stays there as well (exit code 7), until they do not; `hostchat contacts delete` deletes it.")]
pub struct SendArgs {
    /// Contact, NAME at the own relay, or NAME@HOST:PORT (the first time with #FINGERPRINT, if the relay has no public certificate)
    pub peer: String,
    /// The message, at most 4000 bytes; - or nothing reads standard input. If that is empty, what waits in the outbox is sent
    pub text: Option<String>,
    /// Pairs with a one-time code first
    #[arg(long, value_name = "HOW", value_enum)]
    pub code: Option<CodeBy>,
    /// Accepts that the contact's identity has changed
    #[arg(long)]
    pub changed: bool,
}

pub(super) async fn run(context: &Context, args: SendArgs) -> Result<()> {
    let mut session = context.session().await?;
    let to = session.call(Resolve { peer: args.peer }).await?;
    let with_code = args.code == Some(CodeBy::Print);
    let how = How {
        with_code,
        without_code: args.code == Some(CodeBy::None),
        accept_changed: args.changed,
    };
    // Without a text, what waits is sent; nobody has to write it again.
    let waits = args.text.is_none() && session.call(HasWaiting { to: to.clone() }).await?;
    let text = if waits && with_code && prompt::has_keyboard() {
        None
    } else {
        let read_nothing = args.text.is_none();
        let text = context.text(args.text, waits).await?;
        Some(text).filter(|text| !(read_nothing && text.is_empty()))
    };
    session.call(Send { to, text, how }).await
}
