//! The relay as a server: TLS under a certificate of its own, WebSocket, one task per connection.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use hostchat_core::crypto::hash::sha256;
use hostchat_core::wire::relay::{
    EXPORTER_LABEL, Event, Login, RELAY_VERSION, Request, SUBPROTOCOL, login_items,
};
use hostchat_core::wire::{Address, Bytes, Name, RelayName, codec};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{
    Request as HttpRequest, Response as HttpResponse,
};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

use super::hooks::{Adversary, Frame, Mail, event};
use super::state::State;
use crate::PATIENCE;

/// The challenge of every login: a relay that draws it at random gains nothing over one that does not.
const CHALLENGE: Bytes<32> = Bytes([0x5c; 32]);

struct Shared {
    relay: RelayName,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running hostile relay; gone when dropped.
pub struct HostileRelay {
    /// `host:port#fingerprint`, for `--relay`.
    pub address: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl HostileRelay {
    /// Starts it on a free port; honest until told otherwise.
    ///
    /// # Panics
    /// If there is no port or no certificate.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port");
        let relay = format!("{}", listener.local_addr().expect("an address"));
        let relay = RelayName::parse(&relay).expect("a relay name");

        let certified =
            rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("certificate");
        let der = certified.cert.der().clone();
        let fingerprint = sha256(&[der.as_ref()]);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
            certified.signing_key.serialize_der(),
        ));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![der], key)
            .expect("a certificate of ours");
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let shared = Arc::new(Shared {
            relay: relay.clone(),
            state: Mutex::new(State::new(relay.clone())),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&accepting)));
            }
        });
        let hex: String = fingerprint
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            address: format!("{relay}#{hex}"),
            shared,
            runtime: Some(runtime),
        }
    }

    /// The address of an account here.
    ///
    /// # Panics
    /// If `name` is none.
    pub fn address_of(&self, name: &str) -> Address {
        Address::new(&Name::parse(name).expect("a name"), &self.shared.relay)
    }

    /// Looks into the relay's memory, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.shared.lock());
        self.shared.changed.notify_all();
        result
    }

    /// Sets hooks; those that are not set stay as they are.
    pub fn attack(&self, set: impl FnOnce(&mut Adversary)) {
        self.with(|state| set(&mut state.adversary));
    }

    /// Takes all hooks away.
    pub fn behave(&self) {
        self.with(|state| state.adversary = Adversary::default());
    }

    /// Leaves mail in a mailbox, past the hooks.
    pub fn leave(&self, mail: Mail) {
        self.with(|state| state.leave(mail));
    }

    /// Puts something on every connection of an account.
    pub fn push(&self, name: &str, frame: &Frame) {
        self.with(|state| state.push(name, frame));
    }

    /// Waits until `find` gives something.
    ///
    /// # Panics
    /// When [`PATIENCE`] passes without it.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut find: impl FnMut(&mut State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = find(&mut state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the relay waited for {what}: {:?}",
                state.calls
            );
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until everything that was left for an account is acknowledged.
    #[track_caller]
    pub fn wait_emptied(&self, name: &str) {
        self.wait("an emptied mailbox", |state| {
            (state.waiting(name) == 0).then_some(())
        });
    }

    /// Waits until an account asks for deliveries.
    #[track_caller]
    pub fn wait_receiving(&self, name: &str) {
        self.wait("somebody to deliver to", |state| {
            (state.receiving(name) > 0).then_some(())
        });
    }
}

impl Drop for HostileRelay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves one connection until either end closes it.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let exported = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None);
    let (Ok(exporter), Ok(mut socket)) = (exported, accept_hdr_async(stream, subprotocol).await)
    else {
        return;
    };

    let (out, mut queue) = unbounded_channel();
    let challenge = event(&Event::Challenge {
        version: RELAY_VERSION,
        challenge: CHALLENGE,
        software: "0.0.0",
    });
    let connection = shared.lock().connect(out, challenge);
    loop {
        tokio::select! {
            frame = queue.recv() => {
                let message = match frame {
                    Some(Frame::Binary(bytes)) => Message::binary(bytes),
                    Some(Frame::Text(text)) => Message::text(text),
                    Some(Frame::Cut) | None => break,
                };
                if socket.send(message).await.is_err() {
                    break;
                }
            }
            message = socket.next() => {
                let bytes = match message {
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => continue,
                };
                let Ok(request) = codec::decode::<Request<'_>>(&bytes) else {
                    break;
                };
                let genuine = |login: &Login| is_genuine(login, &shared.relay, &exporter);
                shared.lock().request(connection, &request, genuine);
                shared.changed.notify_all();
            }
        }
    }
    shared.lock().disconnect(connection);
    shared.changed.notify_all();
}

#[expect(
    clippy::result_large_err,
    reason = "the callback's type is tungstenite's"
)]
fn subprotocol(
    _: &HttpRequest,
    mut response: HttpResponse,
) -> Result<HttpResponse, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    response.headers_mut().insert(
        SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    Ok(response)
}

/// Whether a login is signed for this connection to this relay: the hostile relay is right about its users.
fn is_genuine(login: &Login, relay: &RelayName, exporter: &[u8; 32]) -> bool {
    let Ok(identity) = login.identity.verify() else {
        return false;
    };
    login.dialled == *relay
        && login_items(
            login.account.signed_text(),
            &login.dialled,
            &CHALLENGE.0,
            exporter,
            &login.identity,
            |items| identity.verifying_key().verify(items, &login.signature.0),
        )
        .is_ok()
}
