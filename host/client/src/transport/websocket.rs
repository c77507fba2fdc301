//! WebSocket over TLS over TCP: from a relay's address to a stream of binary messages.

use std::time::Duration;

use hostchat_core::wire::RelayName;
use hostchat_core::wire::relay::{
    EXPORTER_LABEL, MAX_RELAY_MESSAGE, PATH, SUBPROTOCOL, TIME_HEADER,
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{tls, words};
use crate::error::{Error, Result};
use crate::model::address::RelayAddress;

/// How long making a connection may take in all, short of the login.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A stream of messages.
pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// A connection that nobody has logged in on yet.
pub struct Opened {
    /// The messages.
    pub socket: Socket,
    /// The TLS exporter value, to which a login is bound.
    pub exporter: [u8; 32],
    /// The relay's time, milliseconds since 1970; `None` if it does not say.
    pub relay_time: Option<u64>,
}

/// Connects.
///
/// # Errors
/// `RelayUnreachable`, `RelayCertificate`, `RelayVersion`.
pub async fn connect(relay: &RelayAddress) -> Result<Opened> {
    match timeout(CONNECT_TIMEOUT, connect_unbounded(relay)).await {
        Ok(connected) => connected,
        Err(_) => Err(unreachable(&relay.name, "no answer in time")),
    }
}

async fn connect_unbounded(relay: &RelayAddress) -> Result<Opened> {
    let name = &relay.name;
    let config = tls::config(relay.pin).map_err(|error| tls_error(relay, &error))?;
    let server = ServerName::try_from(name.host().to_owned())
        .map_err(|_| unreachable(name, "not a host name"))?;
    let tcp = super::proxy::connect(name)
        .await
        .map_err(|why| unreachable(name, &why))?;
    // Small messages that wait for each other: delay nothing.
    let _ = tcp.set_nodelay(true);
    let tls = TlsConnector::from(config)
        .connect(server, tcp)
        .await
        .map_err(|why| {
            match why
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(error) => tls_error(relay, error),
                None => unreachable(name, &words::io(&why)),
            }
        })?;
    let mut exporter = [0; 32];
    tls.get_ref()
        .1
        .export_keying_material(&mut exporter, EXPORTER_LABEL, None)
        .map_err(|_| Error::RelayProtocol {
            relay: name.to_string(),
            why: "no TLS exporter",
        })?;
    let uri = format!("wss://{name}{PATH}")
        .parse()
        .map_err(|_| unreachable(name, "not a host name"))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let (socket, response) =
        tokio_tungstenite::client_async_with_config(request, tls, Some(socket_config()))
            .await
            .map_err(|error| upgrade_error(name, error))?;
    Ok(Opened {
        socket,
        exporter,
        relay_time: time(response.headers()),
    })
}

/// What the relay's clock shows, as its answer to the upgrade says.
fn time(headers: &HeaderMap) -> Option<u64> {
    headers.get(TIME_HEADER)?.to_str().ok()?.parse().ok()
}

/// Small buffers, and caps that hold before anything is kept.
pub fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(8 * MAX_RELAY_MESSAGE)
        .max_message_size(Some(MAX_RELAY_MESSAGE))
        .max_frame_size(Some(MAX_RELAY_MESSAGE))
}

fn upgrade_error(name: &RelayName, error: WsError) -> Error {
    match error {
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => Error::RelayVersion {
            relay: name.to_string(),
            theirs: 0,
        },
        WsError::Http(response) => {
            let status = response.status().as_u16();
            if status == 503 || status == 429 {
                unreachable(name, "it has too many connections now")
            } else {
                unreachable(
                    name,
                    &format!("it answers with HTTP status {status}, not as a hostchat relay"),
                )
            }
        }
        other => unreachable(name, &words::socket(&other)),
    }
}

fn tls_error(relay: &RelayAddress, error: &rustls::Error) -> Error {
    let name = relay.name.clone();
    match error {
        rustls::Error::InvalidCertificate(_) if relay.pin.is_some() => Error::RelayCertificate {
            relay: name.to_string(),
            why: "its fingerprint is not the one given".into(),
        },
        rustls::Error::InvalidCertificate(why) if words::is_date(why) => {
            Error::RelayCertificateDate {
                relay: name.to_string(),
                why: words::certificate(why),
            }
        }
        rustls::Error::InvalidCertificate(why) => Error::RelayCertificate {
            relay: name.to_string(),
            why: words::certificate(why),
        },
        other => unreachable(&relay.name, &words::tls(other)),
    }
}

fn unreachable(name: &RelayName, why: &str) -> Error {
    Error::RelayUnreachable {
        relay: name.to_string(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    use super::*;

    #[test]
    fn a_time_is_read_and_anything_else_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(time(&headers), None);
        for (text, wanted) in [
            ("1795251913000", Some(1_795_251_913_000)),
            ("-1", None),
            ("yesterday", None),
            ("99999999999999999999", None),
        ] {
            headers.insert(TIME_HEADER, HeaderValue::from_static(text));
            assert_eq!(time(&headers), wanted, "{text}");
        }
    }
}
