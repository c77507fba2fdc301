//! One WebSocket: whole events out, whole requests in, both bounded.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hostchat_core::wire::codec;
use hostchat_core::wire::relay::{Answer, Event, MAX_RELAY_MESSAGE, Reason, Refusal};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};

use crate::clock::{self, Clock};
use crate::limits::WRITE_TIMEOUT_MS;

/// Reads are small: the default of 128 KiB would be held by every idle connection.
const READ_BUFFER: usize = 1024;
/// Replies that are ready together leave in one TLS record of up to this size.
const WRITE_BUFFER: usize = 8 * 1024;

/// The WebSocket of one client.
pub(crate) struct Socket {
    /// Boxed: it is two kibibytes, and a connection is moved between the states of its task.
    stream: Box<WebSocketStream<TlsStream<TcpStream>>>,
    clock: Arc<dyn Clock>,
}

/// What came in.
pub(crate) enum Incoming {
    /// One request, not decoded yet.
    Request(Bytes),
    /// A sign of life.
    Alive,
    /// Something that no client of ours sends.
    Misuse(Reason),
    /// The client is gone.
    Gone,
}

/// The connection is of no use any more.
#[derive(Debug)]
pub(crate) struct Broken;

impl From<WsError> for Broken {
    fn from(_: WsError) -> Self {
        Self
    }
}

impl Socket {
    pub(crate) async fn new(
        stream: TlsStream<TcpStream>,
        rest: Vec<u8>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER + 2 * MAX_RELAY_MESSAGE)
            .max_message_size(Some(MAX_RELAY_MESSAGE))
            .max_frame_size(Some(MAX_RELAY_MESSAGE));
        let stream =
            WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await;
        Self {
            stream: Box::new(stream),
            clock,
        }
    }

    /// Waits for the next message; may be dropped without losing one.
    pub(crate) async fn next(&mut self) -> Incoming {
        match self.stream.next().await {
            Some(Ok(Message::Binary(bytes))) => Incoming::Request(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Incoming::Alive,
            Some(Ok(Message::Text(_) | Message::Frame(_))) => Incoming::Misuse(Reason::BadRequest),
            Some(Err(WsError::Capacity(_))) => Incoming::Misuse(Reason::TooLarge),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Incoming::Gone,
        }
    }

    /// Queues an encoded event; [`Socket::flush`] sends it.
    pub(crate) fn feed(&mut self, event: Encoded) -> impl Future<Output = Result<(), Broken>> {
        self.feed_message(Message::Binary(event.0))
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self) -> impl Future<Output = Result<(), Broken>> {
        self.feed_message(Message::Ping(Bytes::new()))
    }

    async fn feed_message(&mut self, message: Message) -> Result<(), Broken> {
        let room = poll_fn(|cx| self.stream.poll_ready_unpin(cx));
        clock::timeout(&*self.clock, WRITE_TIMEOUT_MS, room)
            .await
            .ok_or(Broken)??;
        Ok(self.stream.start_send_unpin(message)?)
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        let flush = self.stream.flush();
        clock::timeout(&*self.clock, WRITE_TIMEOUT_MS, flush)
            .await
            .ok_or(Broken)??;
        Ok(())
    }

    /// Says why, closes, and waits a moment for the client to close as well.
    pub(crate) async fn close(mut self, refusal: Refusal) {
        if let Ok(closing) = encode(&Event::Closing(refusal)) {
            let _ = self.feed(closing).await;
        }
        let clock = Arc::clone(&self.clock);
        let farewell = async {
            // Not the one of `Sink`, which a box has as well.
            let _ = WebSocketStream::close(&mut self.stream, None).await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        clock::timeout(&*clock, 1_000, farewell).await;
    }
}

/// An event as it travels.
pub(crate) struct Encoded(Bytes);

/// Encodes an event into a buffer of about the right size: most are small.
///
/// Apart from the sending, so that no connection holds room for the largest event while it waits.
pub(crate) fn encode(event: &Event<'_>) -> Result<Encoded, Broken> {
    let most = match event {
        Event::Deliver(delivery) => delivery.body.len() + 256,
        Event::Reply {
            answer: Answer::Part { bytes },
            ..
        } => bytes.len() + 256,
        Event::Reply {
            answer: Answer::Bundle(_) | Answer::Online { .. } | Answer::Blocked { .. },
            ..
        } => MAX_RELAY_MESSAGE,
        _ => 256,
    };
    let mut buf = vec![0; most];
    let used = codec::encode(event, &mut buf).map_err(|_| Broken)?.len();
    buf.truncate(used);
    Ok(Encoded(Bytes::from(buf)))
}
