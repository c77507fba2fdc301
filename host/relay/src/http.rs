//! The one HTTP request that begins a connection: a WebSocket upgrade, or a look at the health.

use hostchat_core::wire::relay::{PATH, SUBPROTOCOL};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Method};

use crate::limits::MAX_HTTP_HEAD;

/// Path of the health check.
const HEALTH: &str = "/healthz";

/// What a connection begins with.
pub(crate) enum Opening {
    /// A WebSocket, accepted; these bytes were read beyond the head.
    Socket(Vec<u8>),
    /// Somebody asks how the relay is.
    Health,
    /// Answered with an error, or gone.
    Done,
}

/// Reads one request head and answers everything but a health check.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> std::io::Result<Opening> {
    let mut head = Vec::with_capacity(512);
    let (size, request) = loop {
        if head.len() >= MAX_HTTP_HEAD {
            respond(stream, "431 Request Header Fields Too Large", "").await?;
            return Ok(Opening::Done);
        }
        let room = (MAX_HTTP_HEAD - head.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut head).await? == 0 {
            return Ok(Opening::Done);
        }
        match Request::try_parse(&head) {
            Ok(Some(found)) => break found,
            Ok(None) => {}
            Err(_) => {
                respond(stream, "400 Bad Request", "not a request to a relay\n").await?;
                return Ok(Opening::Done);
            }
        }
    };
    match request.uri().path() {
        HEALTH if request.method() == Method::GET => Ok(Opening::Health),
        PATH => upgrade(stream, &request, head.split_off(size)).await,
        _ => {
            let hint = "this is a hostchat relay: dial it with the hostchat program\n";
            respond(stream, "404 Not Found", hint).await?;
            Ok(Opening::Done)
        }
    }
}

async fn upgrade<S: AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    rest: Vec<u8>,
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
            "a WebSocket upgrade is wanted here\n",
        )
        .await?;
        return Ok(Opening::Done);
    };
    if !ours {
        let hint =
            format!("this relay speaks {SUBPROTOCOL}: update the older of the two programs\n");
        respond(stream, "400 Bad Request", &hint).await?;
        return Ok(Opening::Done);
    }
    let headers = response.headers_mut();
    headers.insert(
        "sec-websocket-protocol",
        HeaderValue::from_static(SUBPROTOCOL),
    );
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
        respond(stream, "200 OK", "ok\n").await
    } else {
        respond(
            stream,
            "503 Service Unavailable",
            "the store does not answer\n",
        )
        .await
    }
}

async fn respond<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
