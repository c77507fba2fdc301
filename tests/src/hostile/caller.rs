//! A caller that speaks to a relay without any of the client's care: to pass on what others signed.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use hostchat_core::wire::relay::{
    Answer, Call, EXPORTER_LABEL, Event, Login, MAX_RELAY_MESSAGE, PATH, Reason, Request,
    SUBPROTOCOL,
};
use hostchat_core::wire::{Bytes, RelayName, codec};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{WebSocketStream, client_async};

/// One connection of the adversary to a relay.
pub struct Caller {
    /// The relay as it was dialled.
    pub relay: RelayName,
    /// The relay's challenge.
    pub challenge: Bytes<32>,
    /// Keying material exported from this TLS connection.
    pub exporter: [u8; 32],
    socket: WebSocketStream<TlsStream<TcpStream>>,
    runtime: Runtime,
    next_id: u32,
}

impl Caller {
    /// Connects to `host:port`, whoever answers there.
    ///
    /// # Panics
    /// If nobody does.
    pub fn connect(host_port: &str) -> Self {
        let relay = RelayName::parse(host_port).expect("a relay name");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (mut socket, exporter) = runtime.block_on(dial(&relay));
        let first = runtime.block_on(next_binary(&mut socket));
        let Ok(Event::Challenge { challenge, .. }) = codec::decode(&first) else {
            panic!("no challenge: {first:?}")
        };
        Self {
            relay,
            challenge,
            exporter,
            socket,
            runtime,
            next_id: 0,
        }
    }

    /// Logs in with whatever is given.
    ///
    /// # Errors
    /// What the relay says.
    ///
    /// # Panics
    /// If the relay says something else.
    pub fn log_in(&mut self, login: Login) -> Result<(), Reason> {
        let answer = self.call(&Call::Login(login));
        match codec::decode::<Event<'_>>(&answer) {
            Ok(Event::Reply {
                answer: Answer::Done,
                ..
            }) => Ok(()),
            Ok(
                Event::Reply {
                    answer: Answer::Refused(refusal),
                    ..
                }
                | Event::Closing(refusal),
            ) => Err(refusal.reason),
            other => panic!("another answer to a login: {other:?}"),
        }
    }

    /// Asks, and gives the next encoded event.
    ///
    /// # Panics
    /// If the connection ends.
    pub fn call(&mut self, call: &Call<'_>) -> Vec<u8> {
        let request = Request {
            id: self.next_id,
            call: call.clone(),
        };
        self.next_id += 1;
        let bytes = codec::encode_vec::<_, MAX_RELAY_MESSAGE>(&request).expect("a request fits");
        let message = Message::binary(bytes.to_vec());
        self.runtime.block_on(async {
            self.socket.send(message).await.expect("a connection");
            next_binary(&mut self.socket).await
        })
    }
}

async fn dial(relay: &RelayName) -> (WebSocketStream<TlsStream<TcpStream>>, [u8; 32]) {
    let provider = Arc::new(ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let tcp = TcpStream::connect((relay.host(), relay.port()))
        .await
        .expect("a relay");
    let server = ServerName::try_from(relay.host().to_owned()).expect("a host");
    let tls = TlsConnector::from(Arc::new(config))
        .connect(server, tcp)
        .await
        .expect("TLS");
    let exporter = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .expect("an exporter");
    let uri = format!("wss://{relay}{PATH}").parse().expect("an address");
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let (socket, _) = client_async(request, tls).await.expect("a WebSocket");
    (socket, exporter)
}

async fn next_binary(socket: &mut WebSocketStream<TlsStream<TcpStream>>) -> Vec<u8> {
    loop {
        match socket.next().await.expect("a message").expect("a message") {
            Message::Binary(bytes) => return bytes.to_vec(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("another message: {other:?}"),
        }
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
