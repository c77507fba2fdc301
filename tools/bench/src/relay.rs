//! The relay under load: pipelined, synced sends through real TLS connections.

pub(crate) mod attack;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use hostchat_core::crypto::label;
use hostchat_core::crypto::sign::SigningKey;
use hostchat_core::wire::relay::{
    Account, Answer, BLOB_PART, Call, EXPORTER_LABEL, Event, Kind, Login, MAX_RELAY_MESSAGE, PATH,
    RELAY_VERSION, Request, SUBPROTOCOL, login_items,
};
use hostchat_core::wire::{Bytes, IdentityClaim, Name, RelayName, SUITE, codec};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Size of a benchmark message: a short text after padding, with its frame and envelope.
pub(crate) const BODY: usize = 256;
/// Sends in flight per connection.
pub(crate) const PIPELINE: usize = 64;

/// Connections that are made at the same time.
pub(crate) const TOGETHER: usize = 16;

/// What one run of the load gave.
pub(crate) struct Load {
    /// Messages that the server said it has.
    pub(crate) messages: usize,
    /// From the first send to the last acknowledgement.
    pub(crate) elapsed: Duration,
    /// Times from a send to its acknowledgement, sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Load {
    /// Runs clients that give the latency of each of their messages.
    pub(crate) async fn of<C>(clients: Vec<C>) -> Self
    where
        C: Future<Output = Vec<Duration>> + Send + 'static,
    {
        let began = Instant::now();
        let tasks: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("a client ends"));
        }
        let elapsed = began.elapsed();
        latencies.sort_unstable();
        Self {
            messages: latencies.len(),
            elapsed,
            latencies,
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that the fraction `part` of the messages stays below.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let at = (self.latencies.len() as f64 * part) as usize;
        self.latencies
            .get(at.min(self.latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

/// A logged-in connection.
pub(crate) struct Connection {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    next: u32,
}

impl Connection {
    /// Dials `host:port` and registers `name` with an identity made from `seed`.
    pub(crate) async fn login(relay: &str, name: &str, seed: u64) -> Self {
        let dialled = RelayName::parse(relay).expect("canonical");
        let socket = connect(relay).await.expect("relay reached");
        let mut exporter = [0; 32];
        exporter = socket
            .get_ref()
            .get_ref()
            .1
            .export_keying_material(exporter, EXPORTER_LABEL, None)
            .expect("exporter");
        let mut connection = Self { socket, next: 0 };

        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = SigningKey::generate(&mut rng);
        let mut dh = [0; 32];
        rng.fill_bytes(&mut dh);
        let identity = IdentityClaim {
            sign: Bytes(*key.verifying_key().as_bytes()),
            dh: Bytes(dh),
            signature: Bytes(key.sign(&[label::IDENTITY.as_bytes(), &[SUITE], &dh])),
        };
        let challenge = connection
            .event(|event| match event {
                Event::Challenge { challenge, .. } => Some(challenge.0),
                _ => None,
            })
            .await;
        let account = Account::Register {
            name: name_of(name),
            invitation: heapless::Vec::new(),
        };
        let signature = login_items(name, &dialled, &challenge, &exporter, &identity, |items| {
            Bytes(key.sign(items))
        });
        let login = Login {
            version: RELAY_VERSION,
            account,
            identity,
            dialled,
            signature,
            visible: false,
        };
        connection.call(Call::Login(login)).await;
        assert!(
            matches!(connection.reply().await.1, Done::Other),
            "the relay refused the login"
        );
        connection
    }

    async fn call(&mut self, call: Call<'_>) -> u32 {
        let id = self.next;
        self.next += 1;
        let mut buffer = vec![0; MAX_RELAY_MESSAGE];
        let length = codec::encode(&Request { id, call }, &mut buffer)
            .expect("fits")
            .len();
        buffer.truncate(length);
        self.socket
            .feed(Message::binary(buffer))
            .await
            .expect("sent");
        id
    }

    async fn event<T>(&mut self, pick: impl Fn(&Event<'_>) -> Option<T>) -> T {
        loop {
            self.socket.flush().await.expect("flushed");
            let message = self
                .socket
                .next()
                .await
                .expect("still connected")
                .expect("a message");
            if let Message::Binary(bytes) = message {
                let event = codec::decode::<Event<'_>>(&bytes).expect("an event");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        }
    }

    async fn reply(&mut self) -> (u32, Done) {
        self.event(|event| match event {
            Event::Reply {
                id,
                answer: Answer::Stored,
            } => Some((*id, Done::Stored)),
            Event::Reply {
                answer: Answer::Refused(refusal),
                ..
            } => panic!("refused: {refusal:?}"),
            Event::Reply { id, .. } => Some((*id, Done::Other)),
            _ => None,
        })
        .await
    }

    /// Sends `count` messages to `to`, [`PIPELINE`] at a time, and gives the time of each to its `stored`.
    async fn send_many(&mut self, to: &str, count: usize) -> Vec<Duration> {
        let to = name_of(to);
        let mut random = [0; 16];
        let body = [0x5a; BODY];
        let first = self.next as usize;
        let (mut began, mut latencies) = (Vec::with_capacity(count), Vec::with_capacity(count));
        while latencies.len() < count {
            while began.len() < count && began.len() - latencies.len() < PIPELINE {
                getrandom::fill(&mut random).expect("random numbers");
                let call = Call::Send {
                    to: to.clone(),
                    message_id: Bytes(random),
                    kind: Kind::Message,
                    body: &body,
                };
                began.push(Instant::now());
                self.call(call).await;
            }
            let (id, done) = self.reply().await;
            assert!(matches!(done, Done::Stored), "not stored");
            let began = began
                .get(id as usize - first)
                .expect("a reply to a request of ours");
            latencies.push(began.elapsed());
        }
        latencies
    }
}

impl Connection {
    /// Leaves a file of `size` bytes, with up to [`PIPELINE`] parts on their way.
    pub(crate) async fn put_file(&mut self, size: usize) {
        let mut blob = [0; 16];
        getrandom::fill(&mut blob).expect("random numbers");
        let (blob, readers) = (Bytes(blob), heapless::Vec::from_slice(&[Bytes([1; 32])]));
        let call = Call::PutBlob {
            blob,
            size: size as u64,
            readers: readers.expect("one fits"),
        };
        self.call(call).await;
        assert!(matches!(self.reply().await.1, Done::Other), "not announced");
        let (bytes, parts) = ([0x5a; BLOB_PART], size / BLOB_PART);
        let (mut asked, mut stored) = (0, 0);
        while stored < parts {
            while asked < parts && asked - stored < PIPELINE {
                let index = u32::try_from(asked).expect("few parts");
                let bytes = bytes.as_slice();
                self.call(Call::PutPart { blob, index, bytes }).await;
                asked += 1;
            }
            assert!(matches!(self.reply().await.1, Done::Stored), "not stored");
            stored += 1;
        }
    }

    /// Receives and acknowledges `count` messages; gives the time to the first and to the answer to the last.
    pub(crate) async fn drain(&mut self, count: usize) -> (Duration, Duration) {
        let began = Instant::now();
        let mut first = None;
        self.call(Call::Receive).await;
        let (mut delivered, mut answered) = (0, 0);
        // The answer to `Receive` is one more.
        while answered <= count {
            let number = self.event(|event| match event {
                Event::Deliver(delivery) => Some(Some(delivery.number)),
                Event::Reply { answer, .. } => {
                    assert!(!matches!(answer, Answer::Refused(_)), "refused");
                    Some(None)
                }
                _ => None,
            });
            let Some(number) = number.await else {
                answered += 1;
                continue;
            };
            first.get_or_insert_with(|| began.elapsed());
            delivered += 1;
            assert!(delivered <= count, "more than was sent");
            self.call(Call::Acknowledge { number }).await;
        }
        (first.unwrap_or_default(), began.elapsed())
    }
}

/// Opens a WebSocket over TLS; `None` where the relay closes meanwhile.
async fn connect(relay: &str) -> Option<WebSocketStream<TlsStream<TcpStream>>> {
    let dialled = RelayName::parse(relay).expect("canonical");
    let tcp = TcpStream::connect((dialled.host(), dialled.port()))
        .await
        .ok()?;
    tcp.set_nodelay(true).expect("no delay");
    let server = ServerName::try_from(dialled.host().to_owned()).expect("server name");
    let tls = TlsConnector::from(Arc::new(any_certificate()));
    let tls = tls.connect(server, tcp).await.ok()?;
    let mut request = format!("wss://{relay}{PATH}")
        .into_client_request()
        .expect("request");
    let protocol = SUBPROTOCOL.parse().expect("header");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let (socket, _) = tokio_tungstenite::client_async(request, tls).await.ok()?;
    Some(socket)
}

enum Done {
    Stored,
    Other,
}

fn name_of(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

/// Sends `messages` in all over `connections` connections to as many mailboxes.
pub(crate) async fn load(relay: &str, connections: usize, messages: usize) -> Load {
    let mut clients = Vec::new();
    for number in 0..connections {
        let name = format!("load{connections}-{number}");
        let seed = (connections * 10_000 + number) as u64;
        clients.push((Connection::login(relay, &name, seed).await, name));
    }
    let each = messages / connections;
    let send = |(mut client, name): (Connection, String)| async move {
        client.send_many(&name, each).await
    };
    Load::of(clients.into_iter().map(send).collect()).await
}

/// Fills one mailbox with `messages`, sent over `connections` connections, and gives the connection of its owner.
pub(crate) async fn fill(relay: &str, connections: usize, messages: usize) -> (Connection, Load) {
    let owner = Connection::login(relay, "owner", 1).await;
    let mut clients = Vec::new();
    for number in 0..connections {
        let seed = (2 + number) as u64;
        clients.push(Connection::login(relay, &format!("filler{number}"), seed).await);
    }
    let each = messages / connections;
    let send = |mut client: Connection| async move { client.send_many("owner", each).await };
    (
        owner,
        Load::of(clients.into_iter().map(send).collect()).await,
    )
}

/// Opens connections that each send one message, and keeps them.
pub(crate) async fn idle(relay: &str, connections: usize) -> Vec<Connection> {
    let connect = |number: usize| async move {
        let name = format!("idle{number}");
        let mut connection = Connection::login(relay, &name, number as u64).await;
        connection.send_many(&name, 1).await;
        connection
    };
    let connecting = futures_util::stream::iter(0..connections).map(connect);
    connecting.buffer_unordered(TOGETHER).collect().await
}

/// Lets each of these connections leave a file of `size` bytes.
pub(crate) async fn files(connections: Vec<Connection>, size: usize) -> Vec<Connection> {
    let put = |mut connection: Connection| async move {
        connection.put_file(size).await;
        connection
    };
    let putting = futures_util::stream::iter(connections).map(put);
    putting.buffer_unordered(TOGETHER).collect().await
}

/// TLS 1.3 with whoever answers.
pub(crate) fn any_certificate() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// The relay of a benchmark is our own child on this machine: any certificate will do.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
