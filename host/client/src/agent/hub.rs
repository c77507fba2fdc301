//! The hub: who sits where, who has asked for what, and who is told. It never waits for token, vault or network.
//!
//! ```text
//!  seat (a face) ──call──▶ hub ──order──▶ engine        one answer for each call
//!       ◀──answer, event, ask── hub ◀──report── engine   events of a call go to its seat, others to those who show them
//! ```
//!
//! Invariant: a message is shown at one seat only, which claims it before it draws it.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::engine::Stop;
use crate::error::{Error, Fault};
use crate::model::Event;
use crate::model::call::{Ask, Call, Shown};

/// A face.
pub(super) type SeatId = u64;

/// What was typed as the answer to a question; nothing if nobody will.
pub(super) type Answered = Option<Zeroizing<Vec<u8>>>;

/// A call of a seat, by the number that the seat gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallId {
    /// Whose.
    pub(super) seat: SeatId,
    /// Its number there.
    pub(super) id: u64,
}

/// What a face gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Out {
    /// The answer to a call, which ends it.
    Answer {
        /// The number that the call was made with.
        id: u64,
        /// What came of it.
        result: Result<Value, Fault>,
    },
    /// Something happened.
    Event {
        /// The call of this face that it belongs to.
        call: Option<u64>,
        /// What.
        event: Event,
    },
    /// A question, which a call of this face waits for.
    Ask {
        /// Its number.
        ask: u64,
        /// What is wanted.
        what: Ask,
    },
    /// A question needs no answer any more.
    Withdrawn {
        /// Its number.
        ask: u64,
    },
    /// The holder ends. It has begun nothing that it has not answered.
    Gone,
}

/// What a face is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manners {
    /// Somebody can be asked at any time.
    pub asks: bool,
    /// Calls of this face keep no history.
    pub no_history: bool,
}

/// A call on its way to the engine.
#[derive(Debug)]
pub(super) struct Order {
    /// Whose.
    pub(super) of: CallId,
    /// What.
    pub(super) call: Call,
    /// What its face is good for.
    pub(super) manners: Manners,
    /// Ends it.
    pub(super) stop: Stop,
}

/// What the engine is told.
#[derive(Debug)]
pub(super) enum ToEngine {
    /// To do something.
    Order(Box<Order>),
    /// A call is to end.
    Cancel(CallId),
    /// A question was answered, or will not be.
    Typed(CallId, Answered),
    /// Messages that a face was about to show were perhaps not shown.
    Unclaimed,
    /// To end.
    Close,
}

/// What the hub is told.
#[derive(Debug)]
pub(super) enum ToHub {
    /// A face comes.
    Join {
        /// What it is good for.
        manners: Manners,
        /// What it gets goes there.
        to: mpsc::UnboundedSender<Out>,
        /// Its number.
        seat: oneshot::Sender<SeatId>,
    },
    /// A face has gone.
    Left(SeatId),
    /// A face calls.
    Call(CallId, Box<Call>),
    /// A face makes a call that this program does not know.
    Unknown(CallId),
    /// The engine has something to say.
    Report(Box<Report>),
    /// The process of this face ends: what is open is finished, and nothing is begun any more.
    Close,
}

/// What the engine says.
#[derive(Debug)]
pub(super) enum Report {
    /// A call is over.
    Done(CallId, Result<Value, Fault>),
    /// Something happened, in a call or by itself.
    Event(Option<CallId>, Event),
    /// Somebody has to be asked.
    Ask(CallId, Ask, oneshot::Sender<Answered>),
}

/// A face, and what it waits for.
struct Seat {
    manners: Manners,
    to: mpsc::UnboundedSender<Out>,
    calls: HashMap<u64, Open>,
}

/// A call that has no answer yet.
struct Open {
    stop: Stop,
    /// What happens by itself is told there.
    hears: bool,
    /// Messages are shown at this seat while it lasts.
    receives: bool,
}

/// A question that has no answer yet.
struct Question {
    of: CallId,
    answer: oneshot::Sender<Answered>,
}

/// The hub.
pub(super) struct Hub {
    inbox: mpsc::UnboundedReceiver<ToHub>,
    engine: mpsc::UnboundedSender<ToEngine>,
    seats: HashMap<SeatId, Seat>,
    questions: HashMap<u64, Question>,
    /// Messages that are being shown, and where.
    claims: HashMap<i64, SeatId>,
    next: u64,
    closing: bool,
    /// An agent, which a call may end.
    serves: bool,
}

impl Hub {
    pub(super) fn new(
        inbox: mpsc::UnboundedReceiver<ToHub>,
        engine: mpsc::UnboundedSender<ToEngine>,
        serves: bool,
    ) -> Self {
        Self {
            inbox,
            engine,
            seats: HashMap::new(),
            questions: HashMap::new(),
            claims: HashMap::new(),
            next: 0,
            closing: false,
            serves,
        }
    }

    /// Works until everybody has gone, or the engine has.
    pub(super) async fn run(mut self) {
        while let Some(news) = self.inbox.recv().await {
            match news {
                ToHub::Join { manners, to, seat } => {
                    let id = self.number();
                    let calls = HashMap::new();
                    self.seats.insert(id, Seat { manners, to, calls });
                    // Whoever is gone already says so in a moment.
                    let _ = seat.send(id);
                }
                ToHub::Left(seat) => self.leave(seat),
                ToHub::Call(of, call) => self.call(of, *call),
                ToHub::Unknown(of) => {
                    let error = Error::Usage(
                        "the program that holds the home does not know this call: restart it"
                            .into(),
                    );
                    self.answer(of, Err(Fault::from(&error)));
                }
                ToHub::Report(report) => self.report(*report),
                ToHub::Close => self.close(),
            }
            let open = |seat: &Seat| !seat.calls.is_empty();
            if self.closing && !self.seats.values().any(open) {
                break;
            }
        }
        self.seats.values().for_each(|seat| {
            let _ = seat.to.send(Out::Gone);
        });
        let _ = self.engine.send(ToEngine::Close);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn call(&mut self, of: CallId, call: Call) {
        let Some(seat) = self.seats.get_mut(&of.seat) else {
            return;
        };
        if seat.calls.contains_key(&of.id) {
            let error = Error::Usage("a call with this number is open already".into());
            return self.answer(of, Err(Fault::from(&error)));
        }
        match call {
            Call::Cancel(cancel) => {
                let whose = CallId {
                    seat: of.seat,
                    id: cancel.id,
                };
                self.cancel(whose);
                return self.answer(of, Ok(Value::Null));
            }
            Call::Answer(answer) => {
                let open = self.questions.get(&answer.ask);
                let result = if open.is_some_and(|question| question.of.seat == of.seat) {
                    let question = self.questions.remove(&answer.ask);
                    // The call may have ended meanwhile.
                    let _ = question.map(|question| {
                        let bytes = answer.answer.and_then(|typed| typed.bytes());
                        question.answer.send(bytes)
                    });
                    Ok(Value::Null)
                } else {
                    let error = Error::Nothing("this question is not open any more".into());
                    Err(Fault::from(&error))
                };
                return self.answer(of, result);
            }
            Call::Stop(_) if self.serves => {
                self.answer(of, Ok(Value::Null));
                return self.close();
            }
            Call::Stop(_) => {
                let text = format!(
                    "process {} holds this home for as long as it runs, and is no agent: end it",
                    std::process::id()
                );
                return self.answer(of, Err(Fault::from(&Error::Usage(text))));
            }
            _ => {}
        }
        if self.closing {
            return self.answer(of, Err(Fault::from(&Error::HolderGone)));
        }
        let stop = Stop::default();
        let open = Open {
            stop: stop.clone(),
            hears: hears(&call),
            receives: matches!(call, Call::Receive(_)),
        };
        seat.calls.insert(of.id, open);
        let manners = seat.manners;
        let call = match call {
            Call::Showing(mut showing) => {
                let claims = &mut self.claims;
                showing.ids.retain(|id| !claims.contains_key(id));
                claims.extend(showing.ids.iter().map(|id| (*id, of.seat)));
                Call::Showing(showing)
            }
            Call::Shown(Shown { mut ids }) => {
                let claims = &mut self.claims;
                ids.retain(|id| claims.get(id) == Some(&of.seat));
                ids.iter().for_each(|id| {
                    claims.remove(id);
                });
                Call::Shown(Shown { ids })
            }
            other => other,
        };
        let order = Box::new(Order {
            of,
            call,
            manners,
            stop,
        });
        if self.engine.send(ToEngine::Order(order)).is_err() {
            let gone = Error::Internal("the engine has ended");
            self.answer(of, Err(Fault::from(&gone)));
        }
    }

    /// Whoever follows finds another holder, or becomes it.
    fn close(&mut self) {
        self.closing = true;
        let mut follow = Vec::new();
        for (seat, open) in &self.seats {
            let receives = open.calls.iter().filter(|(_, open)| open.receives);
            follow.extend(receives.map(|(id, _)| CallId {
                seat: *seat,
                id: *id,
            }));
        }
        // Nor is anybody waited for who has been asked something.
        follow.extend(self.questions.values().map(|question| question.of));
        for of in follow {
            self.cancel(of);
            self.answer(of, Err(Fault::from(&Error::HolderGone)));
        }
    }

    fn cancel(&mut self, of: CallId) {
        let seat = self.seats.get(&of.seat);
        if let Some(open) = seat.and_then(|seat| seat.calls.get(&of.id)) {
            open.stop.wish();
            let _ = self.engine.send(ToEngine::Cancel(of));
        }
        self.withdraw(|question| question.of == of);
    }

    fn leave(&mut self, id: SeatId) {
        let Some(seat) = self.seats.remove(&id) else {
            return;
        };
        for (call, open) in &seat.calls {
            open.stop.wish();
            let of = CallId {
                seat: id,
                id: *call,
            };
            let _ = self.engine.send(ToEngine::Cancel(of));
        }
        self.withdraw(|question| question.of.seat == id);
        self.claims.retain(|_, seat| *seat != id);
        // It may have been told of messages that it has not shown.
        let _ = self.engine.send(ToEngine::Unclaimed);
    }

    fn withdraw(&mut self, which: impl Fn(&Question) -> bool) {
        let gone: HashSet<u64> = self
            .questions
            .iter()
            .filter(|(_, question)| which(question))
            .map(|(id, _)| *id)
            .collect();
        for ask in gone {
            if let Some(question) = self.questions.remove(&ask) {
                self.tell(question.of.seat, Out::Withdrawn { ask });
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Done(of, result) => {
                self.withdraw(|question| question.of == of);
                let seat = self.seats.get(&of.seat);
                if seat.is_some_and(|seat| seat.calls.contains_key(&of.id)) {
                    self.answer(of, result);
                }
            }
            Report::Event(of, event) => match of {
                Some(of) => {
                    let call = Some(of.id);
                    self.tell(of.seat, Out::Event { call, event });
                }
                None => {
                    let is_message = matches!(event, Event::Message(_));
                    let wants = |open: &Open| {
                        if is_message {
                            open.receives
                        } else {
                            open.hears
                        }
                    };
                    let seats = self.seats.values();
                    for seat in seats.filter(|seat| seat.calls.values().any(wants)) {
                        let event = event.clone();
                        let _ = seat.to.send(Out::Event { call: None, event });
                    }
                }
            },
            Report::Ask(of, what, answer) => {
                // A question that nobody can hear is answered by its end.
                if self.seats.contains_key(&of.seat) {
                    let ask = self.number();
                    self.questions.insert(ask, Question { of, answer });
                    self.tell(of.seat, Out::Ask { ask, what });
                }
            }
        }
    }

    fn answer(&mut self, of: CallId, result: Result<Value, Fault>) {
        if let Some(seat) = self.seats.get_mut(&of.seat) {
            seat.calls.remove(&of.id);
            let id = of.id;
            let _ = seat.to.send(Out::Answer { id, result });
        }
    }

    fn tell(&self, seat: SeatId, out: Out) {
        if let Some(seat) = self.seats.get(&seat) {
            // A face that is gone says so by itself.
            let _ = seat.to.send(out);
        }
    }
}

/// Whether what happens by itself is told at the seat of a call while it lasts.
fn hears(call: &Call) -> bool {
    match call {
        Call::Receive(_)
        | Call::AwaitRequest(_)
        | Call::Collect(_)
        | Call::AcceptCode(_)
        | Call::AcceptFirst(_)
        | Call::AcceptChange(_) => true,
        Call::Send(send) => send.how.with_code,
        _ => false,
    }
}
