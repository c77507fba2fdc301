//! The one HTTP request that begins a connection: a WebSocket upgrade, or a look at the health.

use hostchat_core::wire::relay::{PATH, SUBPROTOCOL, TIME_HEADER};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Method};
use zeroize::Zeroizing;

use crate::limits::MAX_HTTP_HEAD;

/// Path of the health check.
const HEALTH: &str = "/healthz";
/// What most answers are.
const TEXT: &str = "text/plain";

/// What a connection begins with.
pub(crate) enum Opening {
    /// A WebSocket, accepted; these bytes were read beyond the head.
    Socket(Vec<u8>),
    /// Somebody asks how the relay is.
    Health,
    /// Answered with an error, or gone.
    Done,
}

/// A request head; `rest` was read beyond it, and may hold a password: it is wiped.
pub(crate) struct Head<R> {
    pub(crate) request: R,
    pub(crate) rest: Zeroizing<Vec<u8>>,
}

/// Reads one request head of at most `most` bytes; what is none is answered with an error, and `None` returned.
pub(crate) async fn read_head<S: AsyncRead + AsyncWrite + Unpin, R, E>(
    stream: &mut S,
    most: usize,
    parse: impl Fn(&[u8]) -> Result<Option<(usize, R)>, E>,
) -> std::io::Result<Option<Head<R>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    loop {
        if bytes.len() == bytes.capacity() {
            // Growing by itself it would leave its old place as it is.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * bytes.len()));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        if bytes.len() >= most {
            respond(stream, "431 Request Header Fields Too Large", TEXT, "").await?;
            return Ok(None);
        }
        let room = (most - bytes.len()).min(bytes.capacity() - bytes.len());
        if (&mut *stream)
            .take(room as u64)
            .read_buf(&mut *bytes)
            .await?
            == 0
        {
            return Ok(None);
        }
        // No parser sees what is behind the head: `httparse` reads 32 bytes at once and leaves them on the stack.
        let blank = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let head = blank.map_or(bytes.len(), |at| at + 4);
        match parse(bytes.get(..head).unwrap_or_default()) {
            Ok(Some((size, request))) => {
                let rest = Zeroizing::new(bytes.split_off(size));
                return Ok(Some(Head { request, rest }));
            }
            Ok(None) => {}
            Err(_) => {
                respond(
                    stream,
                    "400 Bad Request",
                    TEXT,
                    "not a request to a relay\n",
                )
                .await?;
                return Ok(None);
            }
        }
    }
}

/// Reads one request head and answers everything but a health check; `now_ms` is the relay's time, milliseconds since 1970.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    now_ms: u64,
) -> std::io::Result<Opening> {
    let head = read_head(stream, MAX_HTTP_HEAD, Request::try_parse).await?;
    let Some(Head { request, mut rest }) = head else {
        return Ok(Opening::Done);
    };
    let rest = std::mem::take(&mut *rest);
    match request.uri().path() {
        HEALTH if request.method() == Method::GET => Ok(Opening::Health),
        PATH => upgrade(stream, &request, rest, now_ms).await,
        _ => {
            let hint = "this is a hostchat relay: dial it with the hostchat program\n";
            respond(stream, "404 Not Found", TEXT, hint).await?;
            Ok(Opening::Done)
        }
    }
}

async fn upgrade<S: AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    rest: Vec<u8>,
    now_ms: u64,
) -> std::io::Result<Opening> {
    let offered = request.headers().get_all("sec-websocket-protocol");
    let ours = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL);
    let Ok(mut response) = create_response(request) else {
        respond(
            stream,
            "400 Bad Request",
            TEXT,
            "a WebSocket upgrade is wanted here\n",
        )
        .await?;
        return Ok(Opening::Done);
    };
    if !ours {
        let hint =
            format!("this relay speaks {SUBPROTOCOL}: update the older of the two programs\n");
        respond(stream, "400 Bad Request", TEXT, &hint).await?;
        return Ok(Opening::Done);
    }
    let headers = response.headers_mut();
    headers.insert(
        "sec-websocket-protocol",
        HeaderValue::from_static(SUBPROTOCOL),
    );
    headers.insert(TIME_HEADER, HeaderValue::from(now_ms));
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(std::io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(Opening::Socket(rest))
}

/// Answers a health check.
pub(crate) async fn health<S: AsyncWrite + Unpin>(
    stream: &mut S,
    healthy: bool,
) -> std::io::Result<()> {
    if healthy {
        respond(stream, "200 OK", TEXT, "ok\n").await
    } else {
        respond(
            stream,
            "503 Service Unavailable",
            TEXT,
            "the store does not answer\n",
        )
        .await
    }
}

/// Answers in full and ends the connection.
pub(crate) async fn respond<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: &str,
    kind: &str,
    body: &str,
) -> std::io::Result<()> {
    respond_with(stream, status, kind, "", body).await
}

/// As [`respond`], with more headers, each with its end of line.
pub(crate) async fn respond_with<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: &str,
    kind: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
