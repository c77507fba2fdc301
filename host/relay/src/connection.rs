//! One connection from TLS to its end: a single task that reads, answers, delivers and watches the clock.
//!
//! ```text
//!            ┌──────────────── select ────────────────┐
//!  requests ─┤ at most IN_FLIGHT waiting for the store ├─▶ replies, as they become durable
//!  news ─────┤ at most WINDOW unacknowledged           ├─▶ deliveries, in order
//!  closing ──┤ shutdown, takeover, silence             ├─▶ Closing
//!            └─────────────────────────────────────────┘
//! ```

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hostchat_core::wire::relay::{
    Call, Delivery, EXPORTER_LABEL, Event, MAX_SOFTWARE, RELAY_VERSION, Reason, Refusal, Request,
    WINDOW,
};
use hostchat_core::wire::{Bytes, codec};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::calls::{self, Answered, InFlight, Step};
use crate::clock;
use crate::http::{self, Opening};
use crate::hub::{Network, Seat};
use crate::inbox::{Next, Outbox};
use crate::limits::{HANDSHAKE_MS, IN_FLIGHT, TLS_BUFFER};
use crate::login::{self, Binding, Member, refused};
use crate::notices::{self, What};
use crate::operator;
use crate::server::Relay;
use crate::socket::{self, Broken, Encoded, Incoming, Socket};
use crate::store::Message;

/// What a relay says that it is.
const SOFTWARE: &str = env!("CARGO_PKG_VERSION");
const _: () = assert!(SOFTWARE.len() <= MAX_SOFTWARE);

/// Serves one TCP connection to its end.
pub(crate) async fn serve(
    relay: Arc<Relay>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    network: Network,
    seat: Seat,
) {
    // Boxed, here and below: what a connection needs once would otherwise be part of it for its whole life.
    let entering = Box::pin(enter(relay, acceptor, stream, network, seat));
    let Some(connection) = entering.await else {
        return;
    };
    if let Some((socket, refusal)) = connection.run().await {
        say_farewell(socket, refusal).await;
    }
}

/// From TLS to the login; `None` if it ends there.
async fn enter(
    relay: Arc<Relay>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    network: Network,
    seat: Seat,
) -> Option<Box<Connection>> {
    let login_ms = u64::from(relay.limits.login_seconds) * 1000;
    let opening = Box::pin(open(&relay, acceptor, stream));
    let opened = tokio::select! {
        biased;
        _ = seat.ordered_to_close() => None,
        opened = clock::timeout(&*relay.clock, HANDSHAKE_MS, opening) => opened.flatten(),
    };
    let (mut socket, binding) = opened?;
    let logging_in = Box::pin(log_in(&relay, &mut socket, &seat, network, &binding));
    let member = tokio::select! {
        biased;
        refusal = seat.ordered_to_close() => Err(Some(refusal)),
        done = clock::timeout(&*relay.clock, login_ms, logging_in) => {
            done.unwrap_or(Err(Some(refused(Reason::Timeout))))
        }
    };
    match member {
        Ok(member) => {
            tracing::debug!(account = %member.address, "logged in");
            let connection = Connection::new(relay, socket, seat, member);
            Some(Box::new(connection))
        }
        Err(refusal) => {
            say_farewell(socket, refusal?).await;
            None
        }
    }
}

async fn say_farewell(socket: Socket, refusal: Refusal) {
    tracing::debug!(reason = ?refusal.reason, "closing");
    Box::pin(socket.close(refusal)).await;
}

/// TLS, the HTTP head, the WebSocket; `None` if it ends there.
async fn open(
    relay: &Relay,
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Option<(Socket, Binding)> {
    let accepting = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)));
    let mut stream: TlsStream<TcpStream> = accepting.await.ok()?;
    let (_, tls) = stream.get_ref();
    let exporter = tls
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .ok()?;
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge).ok()?;
    match http::open(&mut stream, relay.clock.wall_ms()).await.ok()? {
        Opening::Socket(rest) => {
            let socket = Socket::new(stream, rest, Arc::clone(&relay.clock)).await;
            let binding = Binding {
                challenge,
                exporter,
            };
            Some((socket, binding))
        }
        Opening::Health => {
            let healthy = operator::healthy(relay).await;
            // Whoever asked may have gone.
            let _ = http::health(&mut stream, healthy).await;
            None
        }
        Opening::Done => None,
    }
}

/// Sends the challenge and checks the first request, which must be a login, or whether one is worth while. A refused login
/// ends the connection.
async fn log_in(
    relay: &Arc<Relay>,
    socket: &mut Socket,
    seat: &Seat,
    network: Network,
    binding: &Binding,
) -> Result<Member, Option<Refusal>> {
    let gone = |Broken| None;
    let challenge = Event::Challenge {
        version: RELAY_VERSION,
        challenge: Bytes(binding.challenge),
        software: SOFTWARE,
    };
    let challenge = socket::encode(&challenge).map_err(gone)?;
    socket.feed(challenge).await.map_err(gone)?;
    socket.flush().await.map_err(gone)?;
    let mut asked = false;
    let (id, login) = loop {
        let bytes = match socket.next().await {
            Incoming::Request(bytes) => bytes,
            Incoming::Alive => continue,
            Incoming::Misuse(reason) => return Err(Some(refused(reason))),
            Incoming::Gone => return Err(None),
        };
        match codec::decode(&bytes) {
            Ok(Request {
                id,
                call: Call::Login(login),
            }) => break (id, login),
            Ok(Request {
                id,
                call: Call::MayRegister { name, invited },
            }) if !std::mem::replace(&mut asked, true) => {
                let answer = match login::may_register(relay, name, invited).await {
                    Ok(()) => Answered::Done(id),
                    Err(refusal) => {
                        relay.metrics.refused(refusal.reason);
                        Answered::Refused(id, refusal)
                    }
                };
                let answer = answer.encode().map_err(gone)?;
                socket.feed(answer).await.map_err(gone)?;
                socket.flush().await.map_err(gone)?;
            }
            _ => return Err(Some(refused(Reason::BadRequest))),
        }
    };
    let result = login::check(relay, seat, network, binding, &login).await;
    let answer = match &result {
        Ok(_) => {
            relay.metrics.logins.add(1);
            Answered::Done(id)
        }
        Err(refusal) => {
            relay.metrics.refused(refusal.reason);
            let (reason, now) = (refusal.reason, relay.clock.uptime_ms());
            if let Some(unlogged) = relay.notices.take(What::Login, reason, now) {
                let account = login.account.signed_text();
                tracing::info!(?reason, account, unlogged, "login refused");
            }
            Answered::Refused(id, *refusal)
        }
    };
    let answer = answer.encode().map_err(gone)?;
    socket.feed(answer).await.map_err(gone)?;
    socket.flush().await.map_err(gone)?;
    result.map_err(Some)
}

/// A connection that has logged in.
struct Connection {
    relay: Arc<Relay>,
    socket: Socket,
    seat: Seat,
    member: Member,
    in_flight: FuturesUnordered<InFlight>,
    outbox: Option<Outbox>,
    unacknowledged: Vec<u64>,
    drained: bool,
}

/// A call on its way: boxed, since most kinds are rare and the largest would be part of every connection.
type Starting<'c> = Pin<Box<dyn Future<Output = Result<Step, Refusal>> + Send + 'c>>;

/// Encodes a delivery; apart, as [`socket::encode`] is.
fn encode(message: &Message) -> Result<Encoded, Broken> {
    socket::encode(&Event::Deliver(Delivery {
        number: message.number,
        sender: message.sender.clone(),
        stored_at: message.stored_at,
        message_id: message.message_id,
        body: &message.body,
        fingerprint: message.fingerprint,
    }))
}

/// Why a connection's loop ends.
enum End {
    /// The client is gone.
    Gone,
    /// The relay closes, with a reason.
    Close(Refusal),
}

impl From<Broken> for End {
    fn from(Broken: Broken) -> Self {
        Self::Gone
    }
}

impl Connection {
    fn new(relay: Arc<Relay>, socket: Socket, seat: Seat, member: Member) -> Self {
        Self {
            relay,
            socket,
            seat,
            member,
            in_flight: FuturesUnordered::new(),
            outbox: None,
            unacknowledged: Vec::new(),
            drained: false,
        }
    }

    /// Runs until the client goes or the relay closes; then gives back the socket and the reason.
    async fn run(mut self: Box<Self>) -> Option<(Socket, Refusal)> {
        let refusal = match self.turns().await {
            Ok(never) => match never {},
            Err(End::Gone) => return None,
            Err(End::Close(refusal)) => refusal,
        };
        // What was taken is answered before the end, so that nobody has to guess.
        while let Some(answered) = self.in_flight.next().await {
            self.send(answered).await.ok()?;
        }
        Some((self.socket, refusal))
    }

    async fn turns(&mut self) -> Result<std::convert::Infallible, End> {
        let idle_ms = u64::from(self.relay.limits.idle_seconds) * 1000;
        let clock = Arc::clone(&self.relay.clock);
        let mut alive = clock.uptime_ms();
        let mut tick = clock.sleep_until(alive + idle_ms / 3);
        loop {
            let inbox = self.outbox.as_ref().map(|outbox| Arc::clone(&outbox.inbox));
            let news = async {
                match &inbox {
                    Some(inbox) => inbox.news().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                refusal = self.seat.ordered_to_close() => return Err(End::Close(refusal)),
                Some(answered) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.send(answered).await?;
                    self.send_ready().await?;
                }
                incoming = self.socket.next(), if self.in_flight.len() < IN_FLIGHT => {
                    alive = clock.uptime_ms();
                    self.take(incoming).await?;
                }
                () = news => self.deliver().await?,
                () = &mut tick => {
                    if clock.uptime_ms().saturating_sub(alive) >= idle_ms {
                        return Err(End::Close(refused(Reason::Timeout)));
                    }
                    self.socket.ping().await?;
                    self.socket.flush().await?;
                    tick = clock.sleep_until(clock.uptime_ms() + idle_ms / 3);
                }
            }
        }
    }

    /// Sends every reply that is ready now in one go.
    async fn send_ready(&mut self) -> Result<(), Broken> {
        use futures_util::FutureExt as _;
        while let Some(Some(answered)) = self.in_flight.next().now_or_never() {
            self.send(answered).await?;
        }
        self.socket.flush().await
    }

    async fn take(&mut self, incoming: Incoming) -> Result<(), End> {
        let bytes = match incoming {
            Incoming::Request(bytes) => bytes,
            Incoming::Alive => return Ok(()),
            Incoming::Misuse(reason) => return Err(End::Close(refused(reason))),
            Incoming::Gone => return Err(End::Gone),
        };
        let Some((id, starting)) = self.start(&bytes) else {
            return Err(End::Close(refused(Reason::BadRequest)));
        };
        let started = starting.await;
        match started.unwrap_or_else(|refusal| Step::Now(Answered::Refused(id, refusal))) {
            Step::Later(in_flight) => {
                self.in_flight.push(in_flight);
                self.deliver().await?;
            }
            Step::Now(answered) => self.answer(answered).await?,
            Step::Receive(inbox) => {
                self.answer(Answered::Done(id)).await?;
                self.outbox = Some(Outbox::new(inbox));
                self.deliver().await?;
            }
        }
        Ok(())
    }

    /// Starts what is asked for; `None` if it is no request. Not `async`: a request takes two kibibytes while it is decoded.
    fn start<'c>(&'c mut self, bytes: &'c [u8]) -> Option<(u32, Starting<'c>)> {
        let Request { id, call } = codec::decode(bytes).ok()?;
        if let Call::Acknowledge { number } = call {
            let before = self.unacknowledged.len();
            self.unacknowledged.retain(|n| *n != number);
            if before == self.unacknowledged.len() {
                // Not one of ours: perhaps of an earlier connection. It counts as a call.
                if let Err(refusal) = calls::charge(&self.relay, &self.member) {
                    return Some((id, Box::pin(ready(Err(refusal)))));
                }
            }
        }
        let (relay, seat, member) = (&self.relay, &self.seat, &self.member);
        if matches!(call, Call::Receive) && self.outbox.is_some() {
            // This connection has its deliveries already, and may not take them back from a newer one (SPEC 12.3).
            let again = calls::charge(relay, member).map(|()| Step::Now(Answered::Done(id)));
            return Some((id, Box::pin(ready(again))));
        }
        let starting: Starting<'c> = match call {
            Call::Send {
                to,
                message_id,
                kind,
                body,
            } => Box::pin(calls::send(relay, member, id, (to, message_id, kind), body)),
            other => Box::pin(calls::start(relay, seat, member, id, other)),
        };
        Some((id, starting))
    }

    async fn answer(&mut self, answered: Answered) -> Result<(), Broken> {
        self.send(answered).await?;
        self.socket.flush().await
    }

    async fn send(&mut self, answered: Answered) -> Result<(), Broken> {
        if let Answered::Refused(_, refusal) = &answered {
            self.relay.metrics.refused(refusal.reason);
            let account = &self.member.address;
            let (reason, now) = (refusal.reason, self.relay.clock.uptime_ms());
            tracing::debug!(%account, ?reason, "refused");
            if notices::is_limit(reason)
                && let Some(unlogged) = self.relay.notices.take(What::Call, reason, now)
            {
                tracing::info!(%account, ?reason, unlogged, "limit reached");
            }
        }
        self.socket.feed(answered.encode()?).await
    }

    /// Hands out what the window allows.
    async fn deliver(&mut self) -> Result<(), End> {
        let (Some(outbox), Some(user)) = (&mut self.outbox, &self.member.user) else {
            return Ok(());
        };
        let mut sent = false;
        while self.unacknowledged.len() < WINDOW {
            match outbox.next() {
                Next::Deliver(message) => {
                    self.socket.feed(encode(&message)?).await?;
                    self.unacknowledged.push(message.number);
                    let metrics = &self.relay.metrics;
                    metrics.delivered.add(1);
                    metrics.delivered_bytes.add(message.body.len() as u64);
                    sent = true;
                }
                Next::ReadAfter(number) => {
                    let page = self.relay.store.page(user.id, number, WINDOW).await;
                    let page = page.map_err(|error| End::Close(self.relay.internal(&error)))?;
                    outbox.take_page(page);
                }
                Next::Wait => break,
            }
        }
        if outbox.is_drained() && !self.drained {
            self.drained = true;
            self.socket.feed(socket::encode(&Event::Drained)?).await?;
            sent = true;
        }
        if sent {
            self.socket.flush().await?;
        }
        Ok(())
    }
}
