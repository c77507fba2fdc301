//! Calls that wait for somebody else: a code that is shown, codes that are typed, and whoever waits to be asked.
//!
//! ```text
//!  send --code ─▶ Showing ─▶ answers come (route) ─▶ paired: go on sending       late, cancelled: the text stays
//!  accept ─▶ ask for the code ─▶ answer it ─▶ confirmed: show what came          wrong: the next offer, ask again
//! ```
//!
//! Invariant: everything else goes on meanwhile, and each of these calls is answered once.

use hostchat_core::wire::{Address, SessionStartId};
use serde_json::Value;
use tokio::time::{Duration, Instant};
use zeroize::Zeroizing;

use super::Client;
use super::event::tell;
use super::incoming::Handled;
use super::pairing::{ShowStep, Showing, code_over};
use super::send::Sending;
use super::stop::Stop;
use super::turn::{Engine, code_of, unless_ended};
use crate::agent::hub::{CallId, Order};
use crate::error::{Error, Fault, Result};
use crate::model::call::{AcceptCode, Ask, AwaitRequest, Send};
use crate::model::event::WaitingFor;
use crate::model::{Event, Request};

/// So many codes can be typed at once: as many as a token answers in ten minutes.
const TYPED: usize = 3;
/// The longest wait for somebody who asks: 30 days.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Everything that waits.
#[derive(Default)]
pub(super) struct Waiting {
    showing: Option<Shown>,
    typing: Vec<Typing>,
    awaiting: Vec<Awaiting>,
}

/// A code that is shown.
struct Shown {
    of: CallId,
    can_ask: bool,
    no_history: bool,
    stop: Stop,
    sending: Sending,
    showing: Showing,
}

/// A code that is typed.
struct Typing {
    of: CallId,
    no_history: bool,
    request: Request,
    accept_changed: bool,
    /// Runs that were left after the last wrong one.
    wrong: Option<u8>,
    step: Step,
}

/// How far a code is.
enum Step {
    /// Somebody is asked for it.
    Asking,
    /// It was answered.
    Confirming {
        sid: SessionStartId,
        deadline: Instant,
    },
    /// It was wrong, and the sender has not offered the next run yet.
    NextOffer { deadline: Instant },
}

impl Step {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Asking => None,
            Self::Confirming { deadline, .. } | Self::NextOffer { deadline } => Some(*deadline),
        }
    }
}

/// Somebody waits to be asked.
struct Awaiting {
    of: CallId,
    from: Option<Address>,
    deadline: Instant,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.showing.is_none() && self.typing.is_empty() && self.awaiting.is_empty()
    }

    /// When the first of it is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let showing = self.showing.iter().map(|shown| shown.showing.deadline);
        let typing = self.typing.iter().filter_map(|t| t.step.deadline());
        let awaiting = self.awaiting.iter().map(|awaiting| awaiting.deadline);
        showing.chain(typing).chain(awaiting).min()
    }

    /// Waits for what is typed beside a code that is shown; for ever if nobody is asked. Dropping the future loses nothing.
    pub(super) async fn typed(&mut self) -> ShowStep {
        match &mut self.showing {
            Some(shown) => shown.showing.typed().await,
            None => std::future::pending().await,
        }
    }

    fn take_typing(&mut self, which: impl FnMut(&Typing) -> bool) -> Option<Typing> {
        let found = self.typing.iter().position(which)?;
        Some(self.typing.remove(found))
    }
}

impl Engine {
    /// Shows a code for a text that is sent.
    pub(super) async fn begin_showing(
        &mut self,
        order: &Order,
        send: &Send,
    ) -> Result<Option<Value>> {
        if let Some(shown) = &self.waiting.showing {
            let peer = shown.showing.peer().to_string();
            return Err(Error::CodeUp { peer });
        }
        let mut teller = self.hub.teller(Some(order.of), order.manners.asks);
        let client = self.client()?;
        let sending = client.begin_to_send(&send.to, send.text_str(), send.how)?;
        let shown = client
            .show_code(&send.to, send.how.accept_changed, &mut teller)
            .await;
        match shown {
            Ok(showing) => {
                self.waiting.showing = Some(Shown {
                    of: order.of,
                    can_ask: order.manners.asks,
                    no_history: order.manners.no_history,
                    stop: order.stop.clone(),
                    sending,
                    showing,
                });
                Ok(None)
            }
            Err(why) => {
                let kept = client.go_on_sending(&sending, Err(why), &mut teller).await;
                unless_ended(kept, order.stop.is_wished()).map(|()| Some(Value::Null))
            }
        }
    }

    /// Goes on with the code that is shown.
    pub(super) async fn show(&mut self, step: ShowStep) {
        let Some(mut shown) = self.waiting.showing.take() else {
            return;
        };
        let mut teller = self.hub.teller(Some(shown.of), shown.can_ask);
        let Ok(client) = self.client() else { return };
        client.no_history = shown.no_history;
        client.stop = shown.stop.clone();
        let paired = client
            .show_step(&mut shown.showing, step, &mut teller)
            .await;
        client.stop = Stop::default();
        match paired {
            Ok(false) => self.waiting.showing = Some(shown),
            Ok(true) => self.end_showing(shown, Ok(())).await,
            Err(error) => self.end_showing(shown, Err(error)).await,
        }
    }

    /// Sends what a code was shown for, or says why not.
    async fn end_showing(&mut self, shown: Shown, paired: Result<()>) {
        let Shown {
            of,
            can_ask,
            no_history,
            stop,
            sending,
            showing,
        } = shown;
        let mut teller = self.hub.teller(Some(of), can_ask);
        let Ok(client) = self.client() else { return };
        client.no_history = no_history;
        client.end_showing(showing, paired.is_err()).await;
        // A first message that waited is shown as well.
        teller.only = Some(sending.to.clone());
        let sent = client.go_on_sending(&sending, paired, &mut teller).await;
        let sent = unless_ended(sent, stop.is_wished());
        self.hub.done(of, sent.map(|()| Value::Null));
    }

    /// Asks for the code of a request.
    pub(super) async fn begin_typing(
        &mut self,
        order: &Order,
        accept: &AcceptCode,
    ) -> Result<Option<Value>> {
        if self.waiting.typing.len() >= TYPED {
            let text = "three codes are being typed already: end one of those commands first";
            return Err(Error::Usage(text.into()));
        }
        let client = self.client()?;
        let request = client.request(accept.request)?;
        let typing = Typing {
            of: order.of,
            no_history: order.manners.no_history,
            request,
            accept_changed: accept.accept_changed,
            wrong: None,
            step: Step::Asking,
        };
        self.ask(typing).await.map(|()| None)
    }

    /// Asks for a code, if it can be answered now.
    async fn ask(&mut self, typing: Typing) -> Result<()> {
        let client = self.client()?;
        if client.is_changed(&typing.request)? && !typing.accept_changed {
            return Err(Error::IdentityChanged(typing.request.from.to_string()));
        }
        client.check_answers(&typing.request).await?;
        let peer = typing.request.from.clone();
        self.hub.ask_for_later(typing.of, Ask::Code { peer });
        let step = Step::Asking;
        self.waiting.typing.push(Typing { step, ..typing });
        Ok(())
    }

    /// Somebody has typed a code, or will not.
    pub(super) async fn typed(&mut self, of: CallId, typed: Option<Zeroizing<Vec<u8>>>) {
        let asked = |typing: &Typing| typing.of == of && matches!(typing.step, Step::Asking);
        let Some(typing) = self.waiting.take_typing(asked) else {
            return;
        };
        let Some(code) = typed.as_deref().and_then(|typed| code_of(typed)) else {
            let result = match typing.wrong {
                Some(runs_left) => Err(Error::WrongCode { runs_left }),
                None => Ok(Value::Bool(false)),
            };
            return self.hub.done(of, result);
        };
        if let Err(error) = self.answer(typing, code).await {
            self.hub.done(of, Err(error));
        }
    }

    async fn answer(&mut self, typing: Typing, code: Zeroizing<[u8; 6]>) -> Result<()> {
        let mut teller = self.hub.teller(Some(typing.of), false);
        let client = self.client()?;
        client.no_history = typing.no_history;
        // The sender may have given up while the code was typed: that must not cost a try, and a code is used on the
        // request that it was typed for only.
        let handled = client.arrived(&mut teller).await?;
        let request = &typing.request;
        let answered = if client.is_open(request)? {
            client
                .answer_code(request, code, typing.accept_changed, &mut teller)
                .await
        } else {
            Err(client.why_gone(request))
        };
        if let Ok(sid) = answered {
            let deadline = Instant::now() + client.life_left(request);
            Client::waiting(Some(&request.from), WaitingFor::Confirmation, &mut teller)?;
            let step = Step::Confirming { sid, deadline };
            self.waiting.typing.push(Typing { step, ..typing });
        }
        // Others may have waited for what came.
        for handled in handled {
            Box::pin(self.route(handled)).await;
        }
        answered.map(drop)
    }

    /// Waits until somebody asks, unless somebody does already.
    pub(super) async fn begin_to_await(
        &mut self,
        of: CallId,
        wait: &AwaitRequest,
    ) -> Result<Option<Value>> {
        let asks = match &wait.from {
            Some(from) => self.is_asked_by(from).await?,
            None => !self.client()?.vault().requests()?.is_empty(),
        };
        if asks {
            return Ok(Some(Value::Null));
        }
        let mut teller = self.hub.teller(Some(of), false);
        Client::waiting(wait.from.as_ref(), WaitingFor::Request, &mut teller)?;
        self.waiting.awaiting.push(Awaiting {
            of,
            from: wait.from.clone(),
            deadline: Instant::now() + Duration::from_secs(wait.seconds).min(LONGEST),
        });
        Ok(None)
    }

    /// Gives what was delivered to those who wait for it.
    pub(super) async fn route(&mut self, handled: Handled) {
        match &handled {
            Handled::Paired(who) => self.confirmed(who).await,
            Handled::Ended {
                sender,
                sid,
                runs_left,
                ..
            } => self.was_wrong(sender, sid, *runs_left).await,
            Handled::Asked { from, identity } => {
                let next = |typing: &Typing| {
                    matches!(typing.step, Step::NextOffer { .. })
                        && typing.request.from == *from
                        && typing.request.identity == *identity
                };
                if let Some(typing) = self.waiting.take_typing(next) {
                    self.next_run(typing).await;
                }
                self.asked(from).await;
            }
            Handled::Answer { .. } | Handled::Quiet => {}
        }
        if self.waiting.showing.is_some() {
            self.show(ShowStep::Handled(handled)).await;
        }
    }

    /// A pairing is complete: whoever has typed its code is shown what came.
    async fn confirmed(&mut self, who: &Address) {
        let this = |typing: &Typing| typing.request.from == *who;
        while let Some(typing) = self.waiting.take_typing(this) {
            let mut teller = self.hub.teller(Some(typing.of), false);
            let Ok(client) = self.client() else { return };
            client.no_history = typing.no_history;
            let shown = client.finish(who, &mut teller).await;
            self.hub.done(typing.of, shown.map(|()| Value::Bool(true)));
        }
    }

    /// The sender of a request says that its code was wrong.
    async fn was_wrong(&mut self, sender: &Address, ended: &SessionStartId, runs_left: u8) {
        let this = |typing: &Typing| {
            typing.request.from == *sender
                && matches!(&typing.step, Step::Confirming { sid, .. } if sid == ended)
        };
        let Some(mut typing) = self.waiting.take_typing(this) else {
            return;
        };
        let of = typing.of;
        let mut teller = self.hub.teller(Some(of), false);
        let peer = sender.clone();
        let told = tell(&mut teller, Event::WrongCode { peer, runs_left });
        if let Err(error) = told {
            return self.hub.done(of, Err(error));
        }
        if runs_left == 0 {
            return self.hub.done(of, Err(Error::WrongCode { runs_left }));
        }
        typing.wrong = Some(runs_left);
        self.next_run(typing).await;
    }

    /// Asks for a code again, if the sender has offered the next run; waits for that otherwise.
    async fn next_run(&mut self, mut typing: Typing) {
        let of = typing.of;
        let done = async {
            let mut teller = self.hub.teller(Some(of), false);
            let client = self.client()?;
            let requests = client.vault().requests()?;
            let mut requests = requests.into_iter();
            if let Some(request) = requests.rfind(|r| r.is_like(&typing.request)) {
                typing.request = request;
                return self.ask(typing).await;
            }
            let deadline = Instant::now() + client.life_left(&typing.request);
            let peer = &typing.request.from;
            Client::waiting(Some(peer), WaitingFor::NextOffer, &mut teller)?;
            typing.step = Step::NextOffer { deadline };
            self.waiting.typing.push(typing);
            Ok(())
        };
        if let Err(error) = done.await {
            self.hub.done(of, Err(error));
        }
    }

    /// Somebody asks: whoever waits for that is answered, if it is the one whose relay knows it.
    async fn asked(&mut self, from: &Address) {
        let all = std::mem::take(&mut self.waiting.awaiting);
        for awaiting in all {
            let result = match &awaiting.from {
                None => Ok(true),
                Some(wanted) if wanted == from => self.is_asked_by(from).await,
                Some(_) => Ok(false),
            };
            match result {
                Ok(false) => self.waiting.awaiting.push(awaiting),
                Ok(true) => self.hub.done(awaiting.of, Ok(Value::Null)),
                Err(error) => self.hub.done(awaiting.of, Err(error)),
            }
        }
    }

    async fn is_asked_by(&mut self, from: &Address) -> Result<bool> {
        let client = self.client()?;
        client.check_requests(from).await?;
        Ok(client.vault().requests()?.iter().any(|r| r.from == *from))
    }

    /// Ends what is late.
    pub(super) async fn late(&mut self) {
        let now = Instant::now();
        let is_late = |shown: &mut Shown| shown.showing.deadline <= now;
        if let Some(shown) = self.waiting.showing.take_if(is_late) {
            self.end_showing(shown, Err(Error::CodeExpired)).await;
        }
        let is_late = |typing: &Typing| typing.step.deadline().is_some_and(|at| at <= now);
        while let Some(typing) = self.waiting.take_typing(is_late) {
            self.hub.done(typing.of, Err(code_over(&typing.request)));
        }
        let all = std::mem::take(&mut self.waiting.awaiting);
        let (late, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| a.deadline <= now);
        self.waiting.awaiting = rest;
        for awaiting in late {
            self.hub.done(awaiting.of, Err(Error::NobodyAsks));
        }
    }

    /// Ends a call that waits, since its face wants it.
    pub(super) async fn interrupt(&mut self, of: CallId) {
        if let Some(shown) = self.waiting.showing.take_if(|shown| shown.of == of) {
            self.end_showing(shown, Err(Error::Interrupted)).await;
        }
        let typing = self.waiting.take_typing(|typing| typing.of == of);
        let before = self.waiting.awaiting.len();
        self.waiting.awaiting.retain(|awaiting| awaiting.of != of);
        if typing.is_some() || self.waiting.awaiting.len() < before {
            self.hub.done(of, Err(Error::Interrupted));
        }
    }

    /// Ends everything that waits: nothing comes any more.
    pub(super) async fn give_up(&mut self, error: Error) {
        let fault = Fault::from(&error);
        if let Some(shown) = self.waiting.showing.take() {
            self.end_showing(shown, Err(error)).await;
        }
        let typing = std::mem::take(&mut self.waiting.typing).into_iter();
        let awaiting = std::mem::take(&mut self.waiting.awaiting).into_iter();
        let all = typing.map(|t| t.of).chain(awaiting.map(|a| a.of));
        for of in all {
            self.hub.done(of, Err(fault.clone().into()));
        }
    }
}
