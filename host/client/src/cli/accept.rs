//! `hostchat accept`

use std::path::PathBuf;

use clap::Args;
use hostchat_core::wire::Address;
use serde_json::json;

use super::context::Context;
use super::output::Output;
use super::prompt::{self, Codes};
use super::requests::{grouped, list, waiting};
use crate::agent::{Change, Client, Confirmation, Observer};
use crate::error::{Error, Result};
use crate::model::{Asked, Event, Request};

/// `accept`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hostchat accept                             lists who asks; on a terminal asks for the code
  hostchat accept alice --code-file code.txt
  hostchat accept alice --decline
  hostchat accept alice --changed             accepts that the identity of alice has changed

Before you type a code make sure that it is from the person who asks. A code has three tries. Requests from another \
relay are listed as \"not checked\" until you name them: only then is that relay asked who they are. A first message \
without a code is shown after its sender's identity was compared with the sender's relay; the sender stays \
unverified.")]
pub struct AcceptArgs {
    /// Who; needed without a terminal
    pub peer: Option<String>,
    /// Reads codes from FILE, one per line, the next line after a wrong one; - is standard input
    #[arg(long, value_name = "FILE")]
    pub code_file: Option<PathBuf>,
    /// Declines the request
    #[arg(long, conflicts_with = "code_file")]
    pub decline: bool,
    /// Accepts that the identity of this contact has changed
    #[arg(long, conflicts_with = "decline")]
    pub changed: bool,
    /// Waits up to SECONDS for a request
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
}

pub(super) async fn run(context: &Context, args: AcceptArgs) -> Result<()> {
    let mut client = context.online().await?;
    let mut output = context.output;
    let peer = args
        .peer
        .as_deref()
        .map(|peer| client.resolve(peer))
        .transpose()?;
    let gave_up = client.collect(&mut Quiet(output)).await?;
    let mut gave_up = gave_up.into_iter();
    let gave_up = gave_up.find(|who| peer.as_ref().is_none_or(|peer| peer == who));
    if let Some(peer) = peer.as_ref().filter(|_| !args.decline) {
        client.check_requests(peer).await?;
    }
    if waiting(&mut client, peer.as_ref())?.is_empty() && args.wait > 0 {
        client
            .await_request(peer.as_ref(), args.wait, &mut output)
            .await?;
    }
    let mut requests = waiting(&mut client, peer.as_ref())?;
    if requests.is_empty()
        && let Some(who) = gave_up
    {
        let peer = who.to_string();
        return Err(Error::PairingEnded { peer });
    }
    let wants_some = requests.is_empty() && !args.changed && !args.decline;
    if let Some(peer) = peer.as_ref().filter(|_| wants_some)
        && client.has_dropped_forged(peer)
    {
        return Err(Error::Binding(peer.to_string()));
    }
    let interactive = prompt::is_interactive() && !output.json;
    let chosen = match &peer {
        Some(peer) => peer.clone(),
        None if !interactive => {
            list(&mut client, &requests, output)?;
            if !output.json {
                // The list itself is on standard output.
                eprintln!("{}", advice(&requests));
            }
            return Ok(());
        }
        None => match choose(context, &mut client, &requests).await? {
            Some(chosen) => {
                client.check_requests(&chosen).await?;
                requests = waiting(&mut client, Some(&chosen))?;
                if requests.is_empty() && client.has_dropped_forged(&chosen) {
                    return Err(Error::Binding(chosen.to_string()));
                }
                chosen
            }
            None => return Ok(()),
        },
    };
    if args.decline {
        client.decline(&chosen)?;
        let value = json!({"event": "done", "what": "declined", "peer": chosen.as_str()});
        return output.data(&value, &format!("declined {chosen}"));
    }
    let asked = || requests.iter().filter(|r| r.from == chosen);
    let has_written = asked().any(|r| r.asked == Asked::First);
    if let Some(request) = asked().rfind(|r| r.asked != Asked::First) {
        let can_type = interactive || args.code_file.is_some();
        // Without a way to type a code, what was written without one can still be read.
        if can_type || !has_written {
            let typed = with_code(context, &mut client, request.clone(), &args).await?;
            if typed || !has_written {
                return Ok(());
            }
        }
    }
    if has_written {
        let question = format!("Read what {chosen} writes? Nothing verifies who that is yet.");
        if peer.is_none() && !context.ask(move || prompt::confirm(&question)).await? {
            return Ok(());
        }
        let read = client
            .accept_first(&chosen, args.changed, &mut output)
            .await?;
        done(&mut client, &mut output).await?;
        if !read {
            return Err(Error::AskedAgain(chosen.to_string()));
        }
        return Ok(());
    }
    if args.changed {
        match client.accept_change(&chosen).await? {
            Change::Accepted => {
                let value = json!({"event": "done", "what": "changed", "peer": chosen.as_str()});
                let text = format!("the new identity of {chosen} is accepted; it is not verified");
                output.data(&value, &text)?;
                return done(&mut client, &mut output).await;
            }
            Change::Back => {
                let value = json!({"event": "done", "what": "unchanged", "peer": chosen.as_str()});
                let text = format!("{chosen} has the identity that you know: nothing has changed");
                return output.data(&value, &text);
            }
            Change::None => {}
        }
    }
    Err(Error::Nothing(format!(
        "{chosen} does not ask for anything"
    )))
}

/// Types codes until one is right, the code is dead, or there are no more; `false` if none was typed on the terminal.
async fn with_code(
    context: &Context,
    client: &mut Client,
    mut request: Request,
    args: &AcceptArgs,
) -> Result<bool> {
    let mut output = context.output;
    let mut codes = Codes::open(args.code_file.as_deref())?;
    let mut wrong = None;
    loop {
        if client.is_changed(&request)? && !args.changed {
            return Err(Error::IdentityChanged(request.from.to_string()));
        }
        client.check_answers(&request).await?;
        let peer = request.from.clone();
        let question = format!("Did {peer} tell you to expect a code? Type it (Enter to cancel): ");
        let typed;
        (codes, typed) = context
            .ask(move || {
                let typed = codes.next(&question)?;
                Ok((codes, typed))
            })
            .await?;
        let Some(code) = typed else {
            return match wrong {
                Some(runs_left) => Err(Error::WrongCode { runs_left }),
                None if args.code_file.is_none() => Ok(false),
                None => Err(Error::Usage("no code was given".into())),
            };
        };
        // The sender may have given up while the code was typed: that must not cost a try, and a code is used on the
        // request that it was typed for only.
        client.catch_up(&mut output).await?;
        if !client.is_open(&request)? {
            return Err(client.why_gone(&request));
        }
        let sid = client
            .answer_code(&request, code, args.changed, &mut output)
            .await?;
        match client
            .await_confirmation(&request, sid, &mut output)
            .await?
        {
            Confirmation::Paired => return done(client, &mut output).await.map(|()| true),
            Confirmation::WrongCode { runs_left: 0 } => {
                return Err(Error::WrongCode { runs_left: 0 });
            }
            Confirmation::WrongCode { runs_left } => {
                wrong = Some(runs_left);
                request = client.await_offer(&request, &mut output).await?;
            }
        }
    }
}

/// Shows what came, and sends what is due.
async fn done(client: &mut Client, output: &mut Output) -> Result<()> {
    client.show_new(output)?;
    client.settle(output).await
}

/// What can be done about requests that were listed and not answered.
fn advice(requests: &[Request]) -> String {
    let Some(first) = requests.first() else {
        return format!("no pending requests; {}", Error::NobodyAsks.hint());
    };
    let from = &first.from;
    let mut advice = format!("name the one whom you accept: `hostchat accept {from}`");
    if requests.iter().any(|r| r.asked != Asked::First) {
        advice.push_str(" (a code is asked for on a terminal, or read with --code-file FILE)");
    }
    advice.push_str("; --decline declines");
    advice
}

async fn choose(
    context: &Context,
    client: &mut Client,
    requests: &[Request],
) -> Result<Option<Address>> {
    list(client, requests, context.output)?;
    match grouped(requests).as_slice() {
        [] => Err(Error::NobodyAsks),
        [(only, _)] => Ok(Some(only.from.clone())),
        _ => {
            let question =
                "Whom do you accept? Type a name or an address as listed (Enter to cancel): ";
            let typed = context.ask(move || prompt::ask(question)).await?;
            if typed.is_empty() {
                Ok(None)
            } else {
                client.resolve(&typed).map(Some)
            }
        }
    }
}

/// Passes over the requests that are listed afterwards.
struct Quiet(Output);

impl Observer for Quiet {
    fn event(&mut self, event: Event) -> std::io::Result<()> {
        match event {
            Event::Request(_) => Ok(()),
            other => self.0.event(other),
        }
    }
}
