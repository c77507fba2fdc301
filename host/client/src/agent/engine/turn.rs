//! The engine: owns token and vault, on a thread of its own, and does one thing at a time.
//!
//! ```text
//!  order ─▶ locked? ask for the PIN, unlock ─▶ execute (calls.rs) ─▶ done        messages go out as events;
//!  mailbox, clock ─▶ Receiving ─▶ take in, heal, send what is due                faces claim and show them
//! ```

use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hostchat_core::wire::Address;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};
use zeroize::Zeroizing;

use super::event::note;
use super::incoming::Handled;
use super::open::{Locked, Options};
use super::pairing::ShowStep;
use super::receive::at;
use super::receiving::{Mode, Progress, Receiving, Woken};
use super::waiting::Waiting as Waits;
use super::{Client, Observer, Stop, TypedCode};
use crate::agent::hub::{CallId, Order, Report, ToEngine, ToHub};
use crate::agent::socket;
use crate::error::{Error, Fault, Result, Waiting};
use crate::model::call::{Ask, Call};
use crate::model::{Event, Note, Pin, TokenKind};
use crate::token;

/// How long an agent waits after an error that is not one of the connection.
const PAUSE: Duration = Duration::from_secs(60);

/// Whoever holds a home.
pub(in crate::agent) struct Engine {
    pub(super) state: State,
    orders: mpsc::UnboundedReceiver<ToEngine>,
    pub(super) hub: Mouth,
    pub(super) receiving: Option<Receiving>,
    pub(super) receivers: Vec<Receiver>,
    pub(super) waiting: Waits,
    options: Options,
    /// An agent: it receives whenever it is unlocked.
    serves: bool,
    /// After an error, an agent connects again then.
    pause: Option<Instant>,
}

pub(super) enum State {
    Locked(Box<Locked>),
    Open(Box<Client>),
    /// Between the two, and after an unlock that failed half way.
    Gone,
}

/// A call that receives.
pub(super) struct Receiver {
    of: CallId,
    follow: bool,
    no_history: bool,
}

/// What there is to do next.
enum Next {
    Told(Option<ToEngine>),
    Woken(Box<Woken>),
    /// What somebody was asked for beside a code that is shown.
    Typed(Box<ShowStep>),
    /// Something is late.
    Late,
    /// It is time to connect again.
    Rested,
}

/// The way to the hub.
#[derive(Clone)]
pub(super) struct Mouth {
    hub: mpsc::UnboundedSender<ToHub>,
    /// The way to the engine itself.
    own: mpsc::UnboundedSender<ToEngine>,
    /// The call that is being done.
    present: Arc<Mutex<Option<CallId>>>,
}

impl Mouth {
    fn report(&self, report: Report) {
        // Without a hub nobody listens, and the engine is told to end.
        let _ = self.hub.send(ToHub::Report(Box::new(report)));
    }

    fn present(&self) -> Option<CallId> {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_present(&self, of: Option<CallId>) {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = of;
    }

    pub(super) fn done(&self, of: CallId, result: Result<Value>) {
        let result = result.map_err(|error| Fault::from(&error));
        self.report(Report::Done(of, result));
    }

    /// Tells the touch that a token waits for, in the present call.
    fn on_notice(&self) -> token::OnNotice {
        let mouth = self.clone();
        Box::new(move |notice| {
            if notice == token::Notice::TouchNeeded {
                let event = Event::Note(Note::TouchNeeded);
                mouth.report(Report::Event(mouth.present(), event));
            }
        })
    }

    /// Asks whoever has made a call.
    fn ask(&self, of: CallId, what: Ask) -> oneshot::Receiver<Option<Zeroizing<Vec<u8>>>> {
        let (answer, answered) = oneshot::channel();
        self.report(Report::Ask(of, what, answer));
        answered
    }

    /// As [`Self::ask`]; the engine is told the answer.
    pub(super) fn ask_for_later(&self, of: CallId, what: Ask) {
        let answered = self.ask(of, what);
        let own = self.own.clone();
        tokio::spawn(async move {
            let typed = answered.await.ok().flatten();
            // The engine may have ended meanwhile.
            let _ = own.send(ToEngine::Typed(of, typed));
        });
    }

    /// Tells what happens in a call, or by itself.
    pub(super) fn teller(&self, of: Option<CallId>, can_ask: bool) -> Teller {
        Teller {
            mouth: self.clone(),
            of,
            can_ask,
            quiet: false,
            only: None,
        }
    }
}

/// Tells the hub what happens in a call, or by itself.
pub(super) struct Teller {
    mouth: Mouth,
    of: Option<CallId>,
    can_ask: bool,
    /// Requests are not told: they are listed afterwards.
    pub(super) quiet: bool,
    /// Messages of this one are shown in the call; others are not told.
    pub(super) only: Option<Address>,
}

impl Observer for Teller {
    fn event(&mut self, event: Event) -> std::io::Result<()> {
        if self.quiet && matches!(event, Event::Request(_)) {
            return Ok(());
        }
        if let Event::Message(message) = &event
            && self.of.is_some()
            && self.only.as_ref() != Some(&message.peer)
        {
            return Ok(());
        }
        self.mouth.report(Report::Event(self.of, event));
        Ok(())
    }

    fn shows_later(&self) -> bool {
        true
    }

    fn ask_code(&mut self, peer: &Address, types: bool) -> Option<TypedCode> {
        if !self.can_ask {
            return None;
        }
        let of = self.of?;
        let peer = peer.clone();
        let answered = self.mouth.ask(of, Ask::CrossedCode { peer, types });
        let (typed, code) = oneshot::channel();
        tokio::spawn(async move {
            let digits = answered.await.ok().flatten();
            let _ = typed.send(digits.as_deref().and_then(|typed| code_of(typed)));
        });
        Some(code)
    }
}

/// Six digits.
pub(super) fn code_of(typed: &[u8]) -> Option<Zeroizing<[u8; 6]>> {
    let digits = <[u8; 6]>::try_from(typed).ok()?;
    let all = digits.iter().all(u8::is_ascii_digit);
    all.then(|| Zeroizing::new(digits))
}

impl Engine {
    /// Opens a home and its token, which stays locked; `own` leads to `orders`.
    pub(in crate::agent) async fn open(
        options: &Options,
        serves: bool,
        own: mpsc::UnboundedSender<ToEngine>,
        orders: mpsc::UnboundedReceiver<ToEngine>,
        hub: mpsc::UnboundedSender<ToHub>,
    ) -> Result<Self> {
        let hub = Mouth {
            hub,
            own,
            present: Arc::default(),
        };
        let locked = Locked::open(options, hub.on_notice()).await?;
        Ok(Self {
            state: State::Locked(Box::new(locked)),
            orders,
            hub,
            receiving: None,
            receivers: Vec::new(),
            waiting: Waits::default(),
            options: options.clone(),
            serves,
            pause: None,
        })
    }

    /// What other users could read or change in the home.
    pub(in crate::agent) fn opened(&self) -> Vec<Note> {
        let opened = match &self.state {
            State::Locked(locked) => locked.home().opened(),
            _ => &[],
        };
        let opened = opened.iter().map(|part| Note::Permissions {
            path: part.path.clone(),
            mode: part.mode,
            closed: part.closed,
        });
        opened.collect()
    }

    /// Where others can talk to whoever holds the home: the lock of the home says it too.
    pub(in crate::agent) fn socket(&self) -> Result<PathBuf> {
        let State::Locked(locked) = &self.state else {
            return Err(Error::Internal("the home is not locked"));
        };
        let path = socket::place(locked.home().path());
        locked.home().name_socket(&path)?;
        Ok(path)
    }

    /// Works until it is told to end.
    pub(in crate::agent) async fn run(mut self) {
        loop {
            let late = self.waiting.deadline();
            let next = match &mut self.state {
                State::Open(client) => tokio::select! {
                    biased;
                    told = self.orders.recv() => Next::Told(told),
                    typed = self.waiting.typed() => Next::Typed(Box::new(typed)),
                    () = at(late) => Next::Late,
                    () = at(self.pause) => Next::Rested,
                    woken = wait(&mut self.receiving, client) => Next::Woken(Box::new(woken)),
                },
                _ => Next::Told(self.orders.recv().await),
            };
            match next {
                Next::Told(None | Some(ToEngine::Close)) => return,
                Next::Told(Some(ToEngine::Order(order))) => self.take(*order).await,
                Next::Told(Some(ToEngine::Typed(of, typed))) => self.typed(of, typed).await,
                Next::Told(Some(ToEngine::Cancel(of))) => self.cancel(of).await,
                Next::Told(Some(ToEngine::Unclaimed)) => self.tell_again(),
                Next::Typed(step) => self.show(*step).await,
                Next::Late => self.late().await,
                Next::Rested => self.pause = None,
                Next::Woken(woken) => self.receive(*woken).await,
            }
            self.choose_mode();
        }
    }

    async fn take(&mut self, order: Order) {
        let of = order.of;
        if matches!(order.call, Call::Lock(_)) {
            self.lock(Error::Locked).await;
            return self.hub.done(of, Ok(Value::Null));
        }
        self.pause = None;
        self.hub.set_present(Some(of));
        let result = match self.unlock(&order).await {
            Err(error) => Err(error),
            Ok(()) if order.stop.is_wished() => Err(Error::Interrupted),
            Ok(()) => self.begin(&order).await,
        };
        self.hub.set_present(None);
        // Otherwise the answer comes later.
        if let Some(result) = result.transpose() {
            self.hub.done(of, result);
        }
    }

    /// Does what is asked for; `None` if it goes on.
    async fn begin(&mut self, order: &Order) -> Result<Option<Value>> {
        let of = order.of;
        let mut teller = self.hub.teller(Some(of), order.manners.asks);
        let is_receiving = self.receiving.is_some();
        let client = self.client()?;
        client.still_has_home()?;
        client.stop = order.stop.clone();
        client.no_history = order.manners.no_history;
        let done = match &order.call {
            Call::Receive(receive) => {
                let receiver = Receiver {
                    of,
                    follow: receive.follow,
                    no_history: order.manners.no_history,
                };
                self.begin_to_receive(receiver).await
            }
            Call::Send(send) if send.how.with_code => self.begin_showing(order, send).await,
            Call::Send(send) => {
                let sending = client.begin_to_send(&send.to, send.text_str(), send.how)?;
                let sent = client.go_on_sending(&sending, Ok(()), &mut teller).await;
                unless_ended(sent, order.stop.is_wished()).map(|()| Some(Value::Null))
            }
            Call::AwaitRequest(wait) => self.begin_to_await(of, wait).await,
            Call::AcceptCode(accept) => self.begin_typing(order, accept).await,
            // While others wait for what comes it is handled for them.
            Call::Collect(_) if is_receiving => {
                teller.quiet = true;
                let handled = client.arrived(&mut teller).await?;
                let gave_up = handled.iter().filter_map(Handled::gave_up).cloned();
                let gave_up = super::calls::value(gave_up.collect::<Vec<Address>>())?;
                for handled in handled {
                    self.route(handled).await;
                }
                Ok(Some(gave_up))
            }
            call => client.execute(call, &mut teller).await.map(Some),
        };
        if let State::Open(client) = &mut self.state {
            client.stop = Stop::default();
        }
        done
    }

    /// The open client.
    pub(super) fn client(&mut self) -> Result<&mut Client> {
        match &mut self.state {
            State::Open(client) => Ok(client),
            _ => Err(Error::Internal("the home is not open")),
        }
    }

    /// Unlocks the token and opens the vault, unless they are open.
    async fn unlock(&mut self, order: &Order) -> Result<()> {
        let locked = match &mut self.state {
            State::Open(_) => return Ok(()),
            State::Gone => return Err(Error::Internal("the home could not be opened")),
            State::Locked(locked) => locked,
        };
        locked.revive(&self.options, self.hub.on_notice()).await?;
        let hardware = locked.kind() == TokenKind::Serial;
        let mut wrong = None;
        loop {
            let again = wrong.is_some();
            let answered = self.hub.ask(order.of, Ask::Pin { hardware, again });
            let typed = tokio::select! {
                typed = answered => typed.ok().flatten(),
                () = order.stop.wished() => return Err(Error::Interrupted),
            };
            let Some(typed) = typed else {
                return Err(wrong.unwrap_or(Error::Interrupted));
            };
            let pin = Pin::new(typed)?;
            if order.call.needs_relay() {
                locked.connect_early();
            }
            match locked.try_pin(pin).await {
                // A PIN that was wrong has cost a try: nothing tries again by itself.
                Err(error @ Error::WrongPin { .. }) if !hardware => wrong = Some(error),
                other => {
                    other?;
                    break;
                }
            }
        }
        let State::Locked(locked) = std::mem::replace(&mut self.state, State::Gone) else {
            return Err(Error::Internal("the home is not locked"));
        };
        let mut client = locked.open_vault().await?;
        if !order.call.needs_relay() {
            let mut teller = self.hub.teller(Some(order.of), false);
            client.tell_of_new_vault(&mut teller).await?;
        }
        self.state = State::Open(Box::new(client));
        Ok(())
    }

    /// Locks; whatever goes on ends with the error.
    async fn lock(&mut self, why: Error) {
        self.receiving = None;
        self.end_receivers(Some(Fault::from(&why)), |_| true);
        self.give_up(why).await;
        let state = std::mem::replace(&mut self.state, State::Gone);
        self.state = match state {
            State::Open(client) => State::Locked(Box::new(client.lock().await)),
            other => other,
        };
    }

    /// Begins to receive, or tells what waits already where that goes on; `None` if the answer comes later.
    async fn begin_to_receive(&mut self, receiver: Receiver) -> Result<Option<Value>> {
        let (of, follow) = (receiver.of, receiver.follow);
        let listens = self.receiving.as_ref().is_some_and(Receiving::is_listening);
        self.receivers.push(receiver);
        self.tell_again();
        if !listens {
            return Ok(None);
        }
        let mut teller = self.hub.teller(Some(of), false);
        let client = self.client()?;
        if follow {
            let relay = client.home_relay();
            note(&mut teller, Note::Listening { relay })?;
            return Ok(None);
        }
        let caught_up = client.arrived(&mut teller).await;
        self.tell_again();
        self.receivers.retain(|receiver| receiver.of != of);
        for handled in caught_up? {
            self.route(handled).await;
        }
        Ok(Some(Value::Null))
    }

    /// Tells once more of everything that was not shown: somebody new can show it, or somebody has gone.
    fn tell_again(&mut self) {
        let mut teller = self.hub.teller(None, false);
        if let State::Open(client) = &mut self.state {
            client.told = 0;
            if self.receivers.is_empty() {
                return;
            }
            // What cannot be read now is told of when the next message comes.
            let _ = client.show_new(&mut teller);
        }
    }

    async fn receive(&mut self, woken: Woken) {
        let mut teller = self.hub.teller(None, false);
        let (State::Open(client), Some(receiving)) = (&mut self.state, &mut self.receiving) else {
            return;
        };
        client.no_history = self.receivers.iter().any(|receiver| receiver.no_history);
        let acted = match client.still_has_home() {
            Ok(()) => receiving.act(woken, client, &mut teller).await,
            // What comes is neither taken in nor acknowledged, and comes again on another connection.
            Err(error) => {
                client.disconnect();
                Err(error)
            }
        };
        match acted {
            Ok(Progress::Going) => {}
            Ok(Progress::Handled(handled)) => self.route(handled).await,
            Ok(Progress::Ended) => {
                let told = client.tell_drops(true, &mut teller);
                let fault = told.err().map(|error| Fault::from(&error));
                self.end_receivers(fault, |receiver| !receiver.follow);
                self.receiving = None;
            }
            Err(error) => {
                let _ = client.tell_drops(true, &mut teller);
                self.receiving = None;
                self.pause = Some(Instant::now() + PAUSE);
                if self.serves && matches!(error, Error::TokenUnplugged(_)) {
                    return self.lock(error).await;
                }
                self.end_receivers(Some(Fault::from(&error)), |_| true);
                self.give_up(error).await;
            }
        }
    }

    fn end_receivers(&mut self, fault: Option<Fault>, which: impl Fn(&Receiver) -> bool) {
        let all = std::mem::take(&mut self.receivers);
        let (ended, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(which);
        self.receivers = rest;
        for receiver in ended {
            let result = fault.clone().map_or(Ok(Value::Null), Err);
            self.hub.report(Report::Done(receiver.of, result));
        }
    }

    /// Is there for what is wanted now: somebody who follows, an empty mailbox, or what others wait for.
    fn choose_mode(&mut self) {
        let mode = if self.receivers.iter().any(|receiver| receiver.follow) {
            Mode::Follow
        } else if !self.receivers.is_empty() {
            Mode::Once
        } else if !self.waiting.is_empty() {
            Mode::Pairing
        } else if self.serves && self.pause.is_none() && matches!(self.state, State::Open(_)) {
            Mode::Follow
        } else {
            self.receiving = None;
            return;
        };
        match &mut self.receiving {
            Some(receiving) => receiving.set_mode(mode),
            None => self.receiving = Some(Receiving::new(mode)),
        }
    }

    /// Ends a call that goes on; others see their wish themselves.
    async fn cancel(&mut self, of: CallId) {
        if self.receivers.iter().any(|receiver| receiver.of == of) {
            let mut teller = self.hub.teller(None, false);
            if let State::Open(client) = &mut self.state {
                let _ = client.tell_drops(true, &mut teller);
            }
            self.receivers.retain(|receiver| receiver.of != of);
            self.hub.done(of, Err(Error::Interrupted));
        }
        self.interrupt(of).await;
    }
}

/// What a text that is kept says when the user has ended its sending.
pub(super) fn unless_ended<T>(sent: Result<T>, ended: bool) -> Result<T> {
    match sent {
        Err(Error::Queued(waiting)) if ended => Err(Error::Kept(Waiting {
            why: Box::new(Error::Interrupted),
            ..waiting
        })),
        other => other,
    }
}

/// Waits for what there is to receive; for ever if nobody receives. Dropping the future loses nothing.
async fn wait(receiving: &mut Option<Receiving>, client: &mut Client) -> Woken {
    match receiving {
        Some(receiving) => receiving.wait(client).await,
        None => pending().await,
    }
}
