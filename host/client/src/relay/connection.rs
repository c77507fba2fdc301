//! The connection itself: login, two tasks, replies matched by id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hostchat_core::wire::relay::{self, Delivery};
use hostchat_core::wire::relay::{
    Answer, Call, Event, MAX_RELAY_MESSAGE, RELAY_VERSION, Reason, Refusal, Request, WINDOW,
};
use hostchat_core::wire::{
    Account, Address, Bytes, IdentityClaim, MessageId, Name, RelayName, codec,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::Line;
use crate::error::{Error, Result};

use crate::token::Token;
use crate::transport::words;

/// How long a relay may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// After so long without a byte from the relay a ping is sent; after twice as long the connection is given up.
const QUIET: Duration = Duration::from_secs(20);

/// As whom to log in.
pub struct Login<'a> {
    /// Signs.
    pub token: &'a Token,
    /// User, registration or guest.
    pub account: Account,
    /// The own identity.
    pub identity: IdentityClaim,
    /// Whether others may see the account in `who`.
    pub visible: bool,
}

/// One body from the mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Number within the mailbox.
    pub number: u64,
    /// Who left it, as the relay claims: a hint.
    pub sender: Address,
    /// When the relay stored it, milliseconds since 1970 by its clock.
    pub stored_at: u64,
    /// As sent, as the relay claims.
    pub message_id: MessageId,
    /// An encoded envelope, or anything.
    pub body: Vec<u8>,
    /// The fingerprint of the identity that its sender proved to the relay, as the relay claims; `None` if it does not say.
    pub fingerprint: Option<Bytes<32>>,
}

/// What comes without being asked for.
#[derive(Debug)]
pub enum Pushed {
    /// One body from the mailbox.
    Deliver(Box<Delivered>),
    /// Everything that lay in the mailbox has been delivered.
    Drained,
}

/// A logged-in connection; dropping it closes it.
pub struct Connection {
    relay: RelayName,
    line: Box<dyn Line>,
    relay_time: Option<u64>,
}

/// The line of a WebSocket.
struct Wire {
    relay: RelayName,
    out: mpsc::Sender<Message>,
    pushed: mpsc::Receiver<Pushed>,
    shared: Arc<Mutex<Shared>>,
    tasks: [AbortHandle; 2],
}

#[derive(Default)]
struct Shared {
    next_id: u32,
    waiting: HashMap<u32, oneshot::Sender<Vec<u8>>>,
    gone: Option<Gone>,
}

/// Why a connection is over.
#[derive(Clone, Debug)]
enum Gone {
    Ended(String),
    Refused(Refusal),
    Broke(&'static str),
}

impl Gone {
    fn error(&self, relay: &RelayName) -> Error {
        let relay = relay.clone();
        match self {
            Self::Ended(why) => Error::RelayGone {
                relay: relay.to_string(),
                why: why.clone(),
            },
            Self::Refused(refusal) => Error::RelayRefused {
                relay: relay.to_string(),
                refusal: *refusal,
            },
            Self::Broke(why) => Error::RelayProtocol {
                relay: relay.to_string(),
                why,
            },
        }
    }
}

/// What a relay sends first.
async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    relay: &RelayName,
) -> Result<Bytes<32>> {
    let first = next_binary(socket, relay).await?;
    match codec::decode::<Event<'_>>(&first) {
        Ok(Event::Challenge { version, .. }) if version != RELAY_VERSION => {
            Err(Error::RelayVersion {
                relay: relay.to_string(),
                theirs: version,
            })
        }
        Ok(Event::Challenge { challenge, .. }) => Ok(challenge),
        Ok(Event::Closing(refusal)) => Err(refused(relay.clone(), refusal)),
        Err(_) => Err(Error::RelayProtocol {
            relay: relay.to_string(),
            why: "its first message cannot be decoded or is longer than allowed",
        }),
        Ok(_) => Err(Error::RelayProtocol {
            relay: relay.to_string(),
            why: "no challenge at first",
        }),
    }
}

/// Asks over a fresh socket whether a name could be registered.
pub(super) async fn may_register<S: AsyncRead + AsyncWrite + Unpin>(
    relay: RelayName,
    mut socket: WebSocketStream<S>,
    name: Name,
    invited: bool,
) -> Result<()> {
    challenge(&mut socket, &relay).await?;
    let call = Call::MayRegister { name, invited };
    match ask_first(&mut socket, &relay, &call).await {
        // An older relay, which does not know the question.
        Err(Error::RelayRefused { refusal, .. }) if refusal.reason == Reason::BadRequest => Ok(()),
        other => other,
    }
}

/// Makes the first call of a connection, which the relay does or refuses.
async fn ask_first<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    relay: &RelayName,
    call: &Call<'_>,
) -> Result<()> {
    socket
        .send(encode(0, call)?)
        .await
        .map_err(|error| gone(relay, &error))?;
    let answer = next_binary(socket, relay).await?;
    match codec::decode::<Event<'_>>(&answer) {
        Ok(Event::Reply {
            id: 0,
            answer: Answer::Done,
        }) => Ok(()),
        Ok(Event::Reply {
            id: 0,
            answer: Answer::Refused(refusal),
        })
        | Ok(Event::Closing(refusal)) => Err(refused(relay.clone(), refusal)),
        _ => Err(Error::RelayProtocol {
            relay: relay.to_string(),
            why: "no answer to the first call",
        }),
    }
}

impl Connection {
    /// Logs in over a fresh socket.
    ///
    /// # Errors
    /// `RelayVersion`, `RelayRefused`, `RelayProtocol`, `RelayGone`; those of the token.
    pub async fn login<S>(
        relay: RelayName,
        mut socket: WebSocketStream<S>,
        exporter: [u8; 32],
        login: Login<'_>,
    ) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let challenge = challenge(&mut socket, &relay).await?;
        let signature = login
            .token
            .login(
                login.account.clone(),
                relay.clone(),
                challenge,
                Bytes(exporter),
            )
            .await?;
        let call = Call::Login(relay::Login {
            version: RELAY_VERSION,
            account: login.account,
            identity: login.identity,
            dialled: relay.clone(),
            signature,
            visible: login.visible,
        });
        ask_first(&mut socket, &relay, &call).await?;
        Ok(Self::over(
            relay.clone(),
            Box::new(Wire::start(relay, socket)),
        ))
    }

    /// Calls over a line that is logged in.
    pub fn over(relay: RelayName, line: Box<dyn Line>) -> Self {
        Self {
            relay,
            line,
            relay_time: None,
        }
    }

    /// Notes what the relay's clock showed when the connection was made, milliseconds since 1970.
    pub fn at_time(self, relay_time: Option<u64>) -> Self {
        Self { relay_time, ..self }
    }

    /// What the relay's clock showed when the connection was made, milliseconds since 1970; `None` if it did not say.
    pub fn relay_time(&self) -> Option<u64> {
        self.relay_time
    }

    /// The relay.
    pub fn relay(&self) -> &RelayName {
        &self.relay
    }

    /// Whether the connection stands as far as is known.
    pub fn is_alive(&self) -> bool {
        self.line.is_alive()
    }

    /// Waits for the next delivery.
    ///
    /// # Errors
    /// `RelayGone`, `RelayRefused` or `RelayProtocol` when the connection is over and everything before was handed out.
    pub async fn next(&mut self) -> Result<Pushed> {
        self.line.next().await
    }

    /// A delivery that has arrived already.
    pub fn try_next(&mut self) -> Option<Pushed> {
        self.line.try_next()
    }

    /// Calls, and lets `take` make a value of the answer; `None` means that it is not the expected one.
    ///
    /// # Errors
    /// `RelayRefused`; `RelayProtocol`; `RelayGone`, also when no answer comes in time.
    pub async fn call<T>(
        &self,
        call: &Call<'_>,
        take: impl FnOnce(Answer<'_>) -> Option<T>,
    ) -> Result<T> {
        let bytes = self.line.ask(call).await?;
        match codec::decode::<Event<'_>>(&bytes) {
            Ok(Event::Reply {
                answer: Answer::Refused(refusal),
                ..
            }) => Err(refused(self.relay.clone(), refusal)),
            Ok(Event::Reply { answer, .. }) => take(answer).ok_or_else(|| Error::RelayProtocol {
                relay: self.relay.to_string(),
                why: "the answer to another question",
            }),
            _ => Err(Error::RelayProtocol {
                relay: self.relay.to_string(),
                why: "not an answer",
            }),
        }
    }

    /// Says that a delivery is safe here, without waiting for the answer: if it is lost, the delivery comes again and is
    /// known then. [`Connection::ping`] afterwards makes sure that the relay has read it.
    ///
    /// # Errors
    /// `RelayGone` and others if the connection is over.
    pub async fn acknowledge(&self, number: u64) -> Result<()> {
        self.line.tell(&Call::Acknowledge { number }).await
    }
}

impl Wire {
    /// Begins to read and write on a socket that is logged in.
    fn start<S>(relay: RelayName, socket: WebSocketStream<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sink, stream) = socket.split();
        let (out, queue) = mpsc::channel(WINDOW);
        // A relay that delivers more than the window without an acknowledgement breaks the protocol.
        let (push, pushed) = mpsc::channel(WINDOW + 1);
        let shared = Arc::new(Mutex::new(Shared {
            next_id: 1,
            ..Shared::default()
        }));
        let reader =
            tokio::spawn(read(stream, push, Arc::clone(&shared), out.clone())).abort_handle();
        let writer = tokio::spawn(write(sink, queue, Arc::clone(&shared))).abort_handle();
        Self {
            relay,
            out,
            pushed,
            shared,
            tasks: [reader, writer],
        }
    }

    fn new_id(&self) -> Result<u32> {
        let mut shared = lock(&self.shared);
        if let Some(gone) = &shared.gone {
            return Err(gone.error(&self.relay));
        }
        let id = shared.next_id;
        shared.next_id = id
            .checked_add(1)
            .ok_or(Error::Internal("request ids are used up"))?;
        Ok(id)
    }

    fn gone(&self) -> Error {
        let shared = lock(&self.shared);
        let unknown = Gone::Ended("closed".into());
        shared.gone.as_ref().unwrap_or(&unknown).error(&self.relay)
    }
}

impl Line for Wire {
    fn ask<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            let id = self.new_id()?;
            lock(&self.shared).waiting.insert(id, done);
            let _forget = Forget {
                shared: &self.shared,
                id,
            };
            let exchange = async {
                self.out
                    .send(encode(id, call)?)
                    .await
                    .map_err(|_| self.gone())?;
                answer.await.map_err(|_| self.gone())
            };
            match timeout(ANSWER_TIMEOUT, exchange).await {
                Ok(bytes) => bytes,
                Err(_) => Err(Error::RelayGone {
                    relay: self.relay.to_string(),
                    why: "no answer in time".into(),
                }),
            }
        })
    }

    fn tell<'a>(&'a self, call: &'a Call<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let message = encode(self.new_id()?, call)?;
            self.out.send(message).await.map_err(|_| self.gone())
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Pushed>> {
        Box::pin(async move {
            match self.pushed.recv().await {
                Some(pushed) => Ok(pushed),
                None => Err(self.gone()),
            }
        })
    }

    fn try_next(&mut self) -> Option<Pushed> {
        self.pushed.try_recv().ok()
    }

    fn is_alive(&self) -> bool {
        lock(&self.shared).gone.is_none()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Takes a call that nobody waits for any more out of the table.
struct Forget<'a> {
    shared: &'a Mutex<Shared>,
    id: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.shared).waiting.remove(&self.id);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing panics while it holds the lock; the table is sound in any case.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(shared: &Mutex<Shared>, gone: Gone) {
    let mut shared = lock(shared);
    shared.gone.get_or_insert(gone);
    shared.waiting.clear();
}

async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<Message>,
    shared: Arc<Mutex<Shared>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = queue.recv().await {
        if let Err(error) = sink.send(message).await {
            return end(&shared, Gone::Ended(words::socket(&error)));
        }
    }
}

async fn read<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    push: mpsc::Sender<Pushed>,
    shared: Arc<Mutex<Shared>>,
    out: mpsc::Sender<Message>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut heard = Instant::now();
    loop {
        let message = match timeout(QUIET, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                return end(&shared, Gone::Ended(words::socket(&error)));
            }
            Ok(None) => return end(&shared, Gone::Ended("closed by the relay".into())),
            Err(_) if heard.elapsed() >= 2 * QUIET => {
                return end(&shared, Gone::Ended("no sign of life".into()));
            }
            Err(_) => {
                // A full queue means that something is on its way already.
                let _ = out.try_send(Message::Ping(Vec::new().into()));
                continue;
            }
        };
        heard = Instant::now();
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return end(&shared, Gone::Ended("closed by the relay".into())),
            Message::Text(_) | Message::Frame(_) => {
                return end(&shared, Gone::Broke("a text message"));
            }
        };
        let event = match codec::decode::<Event<'_>>(&bytes) {
            Ok(Event::Reply { id, .. }) => {
                // An answer that nobody waits for any more is passed over.
                if let Some(done) = lock(&shared).waiting.remove(&id) {
                    let _ = done.send(bytes.to_vec());
                }
                continue;
            }
            Ok(Event::Deliver(delivery)) => Pushed::Deliver(Box::new(owned(&delivery))),
            Ok(Event::Drained) => Pushed::Drained,
            Ok(Event::Closing(refusal)) => return end(&shared, Gone::Refused(refusal)),
            Ok(Event::Challenge { .. }) => return end(&shared, Gone::Broke("a second challenge")),
            Err(_) => return end(&shared, Gone::Broke("a message that cannot be decoded")),
        };
        match push.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return end(&shared, Gone::Broke("more deliveries than allowed"));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

fn owned(delivery: &Delivery<'_>) -> Delivered {
    Delivered {
        number: delivery.number,
        sender: delivery.sender.clone(),
        stored_at: delivery.stored_at,
        message_id: delivery.message_id,
        body: delivery.body.to_vec(),
        fingerprint: delivery.fingerprint,
    }
}

/// The next binary message of a socket that has no tasks yet.
async fn next_binary<S>(socket: &mut WebSocketStream<S>, relay: &RelayName) -> Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wait = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Error::RelayGone {
                        relay: relay.to_string(),
                        why: "closed by the relay".into(),
                    });
                }
                Some(Ok(_)) => {
                    return Err(Error::RelayProtocol {
                        relay: relay.to_string(),
                        why: "a text message",
                    });
                }
                Some(Err(error)) => return Err(gone(relay, &error)),
            }
        }
    };
    match timeout(ANSWER_TIMEOUT, wait).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Error::RelayGone {
            relay: relay.to_string(),
            why: "no answer in time".into(),
        }),
    }
}

fn encode(id: u32, call: &Call<'_>) -> Result<Message> {
    let mut buffer = vec![0; MAX_RELAY_MESSAGE];
    let request = Request {
        id,
        call: call.clone(),
    };
    let length = codec::encode(&request, &mut buffer)
        .map_err(|_| Error::Internal("request too long"))?
        .len();
    buffer.truncate(length);
    Ok(Message::Binary(buffer.into()))
}

fn gone(relay: &RelayName, why: &WsError) -> Error {
    Error::RelayGone {
        relay: relay.to_string(),
        why: words::socket(why),
    }
}

fn refused(relay: RelayName, refusal: Refusal) -> Error {
    match refusal.reason {
        Reason::Version => Error::RelayVersion {
            relay: relay.to_string(),
            theirs: 0,
        },
        _ => Error::RelayRefused {
            relay: relay.to_string(),
            refusal,
        },
    }
}
