//! `hostchat accept`

use std::path::PathBuf;

use clap::Args;
use hostchat_core::wire::Address;
use serde_json::json;

use super::context::Context;
use super::prompt::{self, Codes};
use super::requests::{grouped, list};
use super::session::Session;
use crate::error::{Error, Result};
use crate::model::answer::{Change, RequestEntry};
use crate::model::call::{
    AcceptChange, AcceptCode, AcceptFirst, AwaitRequest, Collect, Decline, HasForged, Requests,
    Resolve,
};
use crate::model::event::RequestKind;

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
    let mut session = context.session().await?;
    let output = context.output;
    let peer = match args.peer.clone() {
        Some(peer) => Some(session.call(Resolve { peer }).await?),
        None => None,
    };
    let gave_up = session.call(Collect {}).await?;
    let mut gave_up = gave_up.into_iter();
    let gave_up = gave_up.find(|who| peer.as_ref().is_none_or(|peer| peer == who));
    let mut requests = waiting(&mut session, peer.as_ref(), !args.decline).await?;
    if requests.is_empty() && args.wait > 0 {
        let wait = AwaitRequest {
            from: peer.clone(),
            seconds: args.wait,
        };
        session.call(wait).await?;
        requests = waiting(&mut session, peer.as_ref(), false).await?;
    }
    if requests.is_empty()
        && let Some(who) = gave_up
    {
        let peer = who.to_string();
        return Err(Error::PairingEnded { peer });
    }
    let wants_some = requests.is_empty() && !args.changed && !args.decline;
    if let Some(peer) = peer.as_ref().filter(|_| wants_some) {
        forged(&mut session, peer).await?;
    }
    let interactive = prompt::is_interactive() && !output.json;
    let chosen = match &peer {
        Some(peer) => peer.clone(),
        None if !interactive => {
            list(&requests, output)?;
            if !output.json {
                // The list itself is on standard output.
                eprintln!("{}", advice(&requests));
            }
            return Ok(());
        }
        None => match choose(context, &mut session, &requests).await? {
            Some(chosen) => {
                requests = waiting(&mut session, Some(&chosen), true).await?;
                if requests.is_empty() {
                    forged(&mut session, &chosen).await?;
                }
                chosen
            }
            None => return Ok(()),
        },
    };
    if args.decline {
        let from = chosen.clone();
        session.call(Decline { from }).await?;
        let value = json!({"event": "done", "what": "declined", "peer": chosen.as_str()});
        return output.data(&value, &format!("declined {chosen}"));
    }
    let of = |kind| {
        let mut of = requests.iter().filter(|r| r.request.peer == chosen);
        of.rfind(move |r| r.request.kind == kind)
    };
    let has_written = of(RequestKind::First).is_some();
    if let Some(request) = of(RequestKind::Code) {
        let can_type = interactive || args.code_file.is_some();
        // Without a way to type a code, what was written without one can still be read.
        if can_type || !has_written {
            session.answer_with(Codes::open(args.code_file.as_deref())?);
            let accept = AcceptCode {
                request: request.id,
                accept_changed: args.changed,
            };
            let typed = session.call(accept).await?;
            if !typed && args.code_file.is_some() {
                return Err(Error::Usage("no code was given".into()));
            }
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
        let accept = AcceptFirst {
            from: chosen.clone(),
            accept_changed: args.changed,
        };
        if !session.call(accept).await? {
            return Err(Error::AskedAgain(chosen.to_string()));
        }
        return Ok(());
    }
    if args.changed {
        let peer = chosen.clone();
        let (what, text) = match session.call(AcceptChange { peer }).await? {
            Change::Accepted => (
                "changed",
                format!("the new identity of {chosen} is accepted; it is not verified"),
            ),
            Change::Back => (
                "unchanged",
                format!("{chosen} has the identity that you know: nothing has changed"),
            ),
            Change::None => return nothing(&chosen),
        };
        let value = json!({"event": "done", "what": what, "peer": chosen.as_str()});
        return output.data(&value, &text);
    }
    nothing(&chosen)
}

fn nothing(peer: &Address) -> Result<()> {
    Err(Error::Nothing(format!("{peer} does not ask for anything")))
}

/// The requests that wait: of one address, whose relay is asked who it is if that is wished, or of all.
async fn waiting(
    session: &mut Session<'_>,
    peer: Option<&Address>,
    check: bool,
) -> Result<Vec<RequestEntry>> {
    let requests = Requests {
        from: peer.cloned(),
        check,
    };
    session.call(requests).await
}

/// Says so if requests in somebody's name were made by somebody else.
async fn forged(session: &mut Session<'_>, peer: &Address) -> Result<()> {
    let has_forged = HasForged { peer: peer.clone() };
    if session.call(has_forged).await? {
        return Err(Error::Binding(peer.to_string()));
    }
    Ok(())
}

/// What can be done about requests that were listed and not answered.
fn advice(requests: &[RequestEntry]) -> String {
    let Some(first) = requests.first() else {
        return format!("no pending requests; {}", Error::NobodyAsks.hint());
    };
    let from = &first.request.peer;
    let mut advice = format!("name the one whom you accept: `hostchat accept {from}`");
    if requests.iter().any(|r| r.request.kind == RequestKind::Code) {
        advice.push_str(" (a code is asked for on a terminal, or read with --code-file FILE)");
    }
    advice.push_str("; --decline declines");
    advice
}

async fn choose(
    context: &Context,
    session: &mut Session<'_>,
    requests: &[RequestEntry],
) -> Result<Option<Address>> {
    list(requests, context.output)?;
    match grouped(requests).as_slice() {
        [] => Err(Error::NobodyAsks),
        [(only, _)] => Ok(Some(only.request.peer.clone())),
        _ => {
            let question =
                "Whom do you accept? Type a name or an address as listed (Enter to cancel): ";
            let peer = context.ask(move || prompt::ask(question)).await?;
            if peer.is_empty() {
                Ok(None)
            } else {
                session.call(Resolve { peer }).await.map(Some)
            }
        }
    }
}
