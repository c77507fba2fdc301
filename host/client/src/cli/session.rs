//! A command's talk with whoever holds the home: calls, events printed, questions answered, messages claimed and shown.
//!
//! ```text
//!  call ─▶ handle ─▶ .. events: printed   questions: prompt.rs   messages: claim ─▶ print ─▶ shown .. ─▶ answer
//! ```
//!
//! This is the only place in the command line that waits for a holder.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tokio::task::JoinHandle;

use super::context::Context;
use super::output::Output;
use super::prompt::Codes;
use super::secret::Secret;
use super::terminal::{Quiet, Terminal};
use crate::agent::{Handle, Out};
use crate::error::{Error, Fault, Result};
use crate::model::Event;
use crate::model::call::{Answer, Ask, Kind, Showing, Shown, Typed};
use crate::model::event::MessageEvent;

/// How often a passphrase that is typed may be wrong before the command ends with the next one.
const AGAIN: u8 = 2;

/// A talk with the holder of a home.
pub(super) struct Session<'c> {
    context: &'c Context,
    handle: Option<Handle>,
    /// Where codes that are asked for come from.
    codes: Option<Codes>,
    question: Option<Question>,
    /// Messages that were claimed and not printed yet, by the call that claims them.
    claimed: HashMap<u64, MessageEvent>,
    /// Calls that note what was shown.
    noting: HashSet<u64>,
    wrong: u8,
    /// While a passphrase is checked nobody sees what is typed.
    quiet: Option<Quiet>,
    /// Something was printed.
    seen: bool,
}

/// What was typed, and where the next code comes from.
type Answered = (Option<Codes>, Option<Typed>);

/// A question that somebody is answering.
struct Question {
    ask: u64,
    typed: JoinHandle<Result<Answered>>,
}

impl<'c> Session<'c> {
    pub(super) async fn open(context: &'c Context) -> Result<Self> {
        Self::over(context, context.handle().await?)
    }

    /// Talks at a seat that was taken.
    pub(super) fn over(context: &'c Context, handle: Handle) -> Result<Self> {
        context.tell(handle.opened())?;
        Ok(Self {
            context,
            handle: Some(handle),
            codes: None,
            question: None,
            claimed: HashMap::new(),
            noting: HashSet::new(),
            wrong: 0,
            quiet: None,
            seen: false,
        })
    }

    /// Answers codes that are asked for from here.
    pub(super) fn answer_with(&mut self, codes: Codes) {
        self.codes = Some(codes);
    }

    /// Whether something was printed.
    pub(super) fn has_printed(&self) -> bool {
        self.seen
    }

    /// Calls, and prints what happens until the answer comes.
    ///
    /// # Errors
    /// What the call ends with; those of questions and of the output.
    pub(super) async fn call<C: Kind>(&mut self, call: C) -> Result<C::Answer> {
        loop {
            match self.once(call.clone()).await {
                // It has not begun: whoever held the home was about to end.
                Err(Error::Fault(fault)) if fault.is("holder_gone") => {
                    self.leave();
                    self.handle = Some(self.context.handle().await?);
                }
                other => return other,
            }
        }
    }

    async fn once<C: Kind>(&mut self, call: C) -> Result<C::Answer> {
        let id = self.handle()?.call(call)?;
        let mut result = None;
        let mut ending = false;
        loop {
            if self.claimed.is_empty()
                && self.noting.is_empty()
                && let Some(result) = result.take()
            {
                self.quiet = None;
                let answer: serde_json::Value = result?;
                // Addresses are read from text only.
                return serde_json::from_str(&answer.to_string())
                    .map_err(|_| Error::Internal("an answer of another kind"));
            }
            tokio::select! {
                out = next(&mut self.handle) => match out? {
                    Out::Answer { id: of, result: given } if of == id => result = Some(given),
                    // What was not answered was not begun.
                    Out::Gone if result.is_none() => return Err(Fault::from(&Error::HolderGone).into()),
                    other => self.take(other)?,
                },
                typed = typed(&mut self.question) => self.answered(typed)?,
                () = self.context.stop.wished(), if !ending => {
                    ending = true;
                    self.handle()?.cancel(id)?;
                }
            }
        }
    }

    /// Leaves, so that the home can be opened again.
    pub(super) async fn close(mut self) {
        self.leave();
        self.context.let_go().await;
    }

    fn leave(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.context.left(handle);
        }
        self.question = None;
        self.claimed.clear();
        self.noting.clear();
    }

    fn handle(&mut self) -> Result<&mut Handle> {
        self.handle.as_mut().ok_or(Error::HolderGone)
    }

    fn take(&mut self, out: Out) -> Result<()> {
        match out {
            Out::Event {
                event: Event::Message(message),
                ..
            } => {
                let id = self.handle()?.call(Showing {
                    ids: vec![message.id],
                })?;
                self.claimed.insert(id, message);
            }
            Out::Gone => {}
            Out::Event { event, .. } => self.print(&event)?,
            Out::Ask { ask, what } => self.ask(ask, what)?,
            Out::Withdrawn { ask } => {
                if self.question.take_if(|open| open.ask == ask).is_some() {
                    // A hidden question has turned the echo off.
                    if let Some(terminal) = Terminal::open() {
                        terminal.restore();
                    }
                }
            }
            Out::Answer { id, result } => {
                if let Some(message) = self.claimed.remove(&id) {
                    let ids: Vec<i64> = serde_json::from_value(result?).unwrap_or_default();
                    if ids.contains(&message.id) {
                        let ids = vec![message.id];
                        self.print(&Event::Message(message))?;
                        let id = self.handle()?.call(Shown { ids })?;
                        self.noting.insert(id);
                    }
                } else if self.noting.remove(&id) {
                    result?;
                }
            }
        }
        Ok(())
    }

    fn print(&mut self, event: &Event) -> Result<()> {
        self.seen = true;
        let output: Output = self.context.output;
        output.event(event)
    }

    fn ask(&mut self, ask: u64, what: Ask) -> Result<()> {
        let file = self.context.global.pin_file.clone();
        let typed = match what {
            Ask::Pin { hardware, again } => {
                if again {
                    self.wrong += 1;
                    if file.is_some() || self.wrong > AGAIN {
                        return self.answer(ask, None);
                    }
                    if let Some(mut terminal) = Terminal::open() {
                        terminal.discard_typed();
                        terminal.say("Wrong passphrase. Try again.");
                    }
                } else if file.is_none() {
                    self.quiet = Terminal::open().map(Terminal::quiet);
                }
                let secret = if hardware {
                    Secret::Pin
                } else {
                    Secret::Passphrase
                };
                tokio::task::spawn_blocking(move || pin(secret, file.as_deref()))
            }
            Ask::Code { peer } => {
                let question =
                    format!("Did {peer} tell you to expect a code? Type it (Enter to cancel): ");
                let codes = self.codes.take().unwrap_or(Codes::Typed);
                tokio::task::spawn_blocking(move || code(codes, &question))
            }
            Ask::CrossedCode { peer, types } => {
                let question = if types {
                    format!(
                        "{peer} has made a code too, and one is enough. Type the code of {peer} here (Enter to wait until \
                         {peer} types yours):\n"
                    )
                } else {
                    format!(
                        "{peer} has made a code too, and one is enough. {peer} is told to type yours; you may type the code \
                         of {peer} here (Enter to wait):\n"
                    )
                };
                tokio::task::spawn_blocking(move || {
                    // At the end of the input the own code goes on.
                    Ok(code(Codes::Typed, &question).unwrap_or((None, None)))
                })
            }
        };
        self.question = Some(Question { ask, typed });
        Ok(())
    }

    fn answered(&mut self, (ask, typed): (u64, Result<Answered>)) -> Result<()> {
        let (codes, typed) = typed?;
        self.codes = codes.or(self.codes.take());
        self.answer(ask, typed)
    }

    fn answer(&mut self, ask: u64, answer: Option<Typed>) -> Result<()> {
        self.handle()?.call(Answer { ask, answer }).map(drop)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits for what the holder says next. Dropping the future loses nothing.
async fn next(handle: &mut Option<Handle>) -> Result<Out> {
    match handle {
        Some(handle) => handle.next().await,
        None => Err(Error::HolderGone),
    }
}

/// Waits for what is typed, for ever if nothing is asked. Dropping the future loses nothing.
async fn typed(question: &mut Option<Question>) -> (u64, Result<Answered>) {
    let Some(open) = question else {
        return std::future::pending().await;
    };
    let typed = (&mut open.typed).await;
    let ask = open.ask;
    *question = None;
    (ask, typed.unwrap_or(Err(Error::Internal("question"))))
}

fn pin(secret: Secret, file: Option<&Path>) -> Result<Answered> {
    let pin = secret.present(file)?;
    Ok((None, Some(Typed::of(pin.bytes()))))
}

fn code(mut codes: Codes, question: &str) -> Result<Answered> {
    let code = codes.next(question)?;
    let typed = code.map(|code| Typed::of(code.as_slice()));
    Ok((Some(codes), typed))
}
