//! A client of the relay protocol, small and able to misbehave.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hostchat_core::crypto::hash::sha256;
use hostchat_core::crypto::label;
use hostchat_core::crypto::sign::SigningKey;
use hostchat_core::wire::relay::{
    Account, Answer, Call, EXPORTER_LABEL, Event, Kind, Login, PATH, RELAY_VERSION, Reason,
    Refusal, Request, SUBPROTOCOL, login_items,
};
use hostchat_core::wire::{
    Address, Bytes, Generation, IdentityClaim, Name, Prekey, PrekeyBundle, PrekeyKind, PrekeyRef,
    RelayName, SUITE, codec,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::harness::Place;

/// Somebody with keys.
pub struct Person {
    pub name: Name,
    pub key: SigningKey,
    pub claim: IdentityClaim,
}

impl Person {
    pub fn new(name: &str) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        Self::with_seed(name, seed)
    }

    /// The same person each time.
    pub fn with_seed(name: &str, seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let dh = sha256(&[&seed]);
        let signature = key.sign(&[label::IDENTITY.as_bytes(), &[SUITE], &dh]);
        let claim = IdentityClaim {
            sign: Bytes(*key.verifying_key().as_bytes()),
            dh: Bytes(dh),
            signature: Bytes(signature),
        };
        Self {
            name: Name::parse(name).unwrap(),
            key,
            claim,
        }
    }

    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        Some(self.claim.fingerprint())
    }

    pub fn prekey(&self, kind: PrekeyKind, id: u32) -> Prekey {
        self.prekey_of(kind, id, 1_700_000_000 + u64::from(id))
    }

    pub fn prekey_of(&self, kind: PrekeyKind, id: u32, issued: u64) -> Prekey {
        let mut prekey = Prekey {
            kind,
            id,
            issued,
            dh: Bytes([7; 32]),
            kem: Bytes([9; 1184]),
            signature: Bytes([0; 64]),
        };
        let signature = prekey.signed_items(&self.claim, |items| self.key.sign(items));
        prekey.signature = Bytes(signature);
        prekey
    }

    pub fn register(&self) -> Account {
        Account::Register {
            name: self.name.clone(),
            invitation: heapless::Vec::new(),
        }
    }

    pub fn user(&self) -> Account {
        Account::User(self.name.clone())
    }
}

/// An event with everything owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    Done(u32),
    Stored(u32),
    Stock(u32, u16, u64, u32),
    Binding(u32, IdentityClaim),
    Bundle(u32, Box<PrekeyBundle>),
    Online(u32, Vec<String>, bool),
    Policy(u32, u16),
    Blocked(u32, Vec<String>, bool),
    /// Size, parts, seconds left.
    Blob(u32, u64, u32, u32),
    Part(u32, Vec<u8>),
    Generation(u32, Generation),
    Prekeys(u32, Vec<PrekeyRef>, Option<PrekeyRef>),
    Refused(u32, Refusal),
    Deliver(Delivered),
    Drained,
    Closing(Refusal),
    /// The connection ended.
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    pub number: u64,
    pub sender: Address,
    pub stored_at: u64,
    pub message_id: [u8; 16],
    pub body: Vec<u8>,
    pub fingerprint: Option<[u8; 32]>,
}

/// One connection.
pub struct Client {
    pub ws: WebSocketStream<TlsStream<TcpStream>>,
    pub bound: Bound,
    next_id: u32,
}

/// What a login on a connection is bound to.
#[derive(Clone)]
pub struct Bound {
    pub challenge: [u8; 32],
    pub exporter: [u8; 32],
    pub dialled: RelayName,
}

impl Bound {
    /// A correct login for what is bound.
    pub fn login(&self, person: &Person, account: Account) -> Login {
        let signature = login_items(
            account.signed_text(),
            &self.dialled,
            &self.challenge,
            &self.exporter,
            &person.claim,
            |items| person.key.sign(items),
        );
        Login {
            version: RELAY_VERSION,
            account,
            identity: person.claim,
            dialled: self.dialled.clone(),
            signature: Bytes(signature),
            visible: true,
        }
    }
}

impl Client {
    /// Connects and reads the challenge.
    pub async fn connect(place: &Place) -> Self {
        let tls = tls(place, &[&rustls::version::TLS13]).await.unwrap();
        let mut exporter = [0; 32];
        let (_, connection) = tls.get_ref();
        exporter = connection
            .export_keying_material(exporter, EXPORTER_LABEL, None)
            .unwrap();
        let mut request = format!("wss://{}{PATH}", place.name)
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert(
            "sec-websocket-protocol",
            HeaderValue::from_static(SUBPROTOCOL),
        );
        let (mut ws, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
        let bytes = ws.next().await.unwrap().unwrap().into_data();
        let Ok(Event::Challenge {
            version, challenge, ..
        }) = codec::decode(&bytes)
        else {
            panic!("no challenge");
        };
        assert_eq!(version, RELAY_VERSION);
        Self {
            ws,
            bound: Bound {
                challenge: challenge.0,
                exporter,
                dialled: place.name.clone(),
            },
            next_id: 0,
        }
    }

    /// Connects, registers and logs in.
    pub async fn register(place: &Place, person: &Person) -> Self {
        Self::enter(place, person, person.register()).await
    }

    /// Connects and logs in as a registered user.
    pub async fn login(place: &Place, person: &Person) -> Self {
        Self::enter(place, person, person.user()).await
    }

    /// Connects and logs in as a guest with this address.
    pub async fn guest(place: &Place, person: &Person, address: &str) -> Self {
        let account = Account::Guest(Address::parse(address).unwrap());
        Self::enter(place, person, account).await
    }

    async fn enter(place: &Place, person: &Person, account: Account) -> Self {
        let mut client = Self::connect(place).await;
        let login = client.bound.login(person, account);
        let got = client.call(Call::Login(login)).await;
        assert!(matches!(got, Got::Done(_)), "{got:?}");
        client
    }

    /// Sends a request and returns its id.
    pub async fn ask(&mut self, call: Call<'_>) -> u32 {
        self.next_id += 1;
        let request = Request {
            id: self.next_id,
            call,
        };
        let mut buf = vec![0; 20_000];
        let bytes = codec::encode(&request, &mut buf).unwrap().to_vec();
        // The relay may have closed meanwhile; the next event tells.
        let _ = self.ws.send(Message::Binary(bytes.into())).await;
        self.next_id
    }

    /// Sends a request and returns the next event, which must be its answer or the end.
    pub async fn call(&mut self, call: Call<'_>) -> Got {
        let id = self.ask(call).await;
        let got = self.next().await;
        assert!(got.id().is_none_or(|got| got == id), "{got:?} to {id}");
        got
    }

    /// Sends a message and returns what the relay answers.
    pub async fn send(&mut self, to: &Person, message_id: u128, body: &[u8]) -> Got {
        self.call(message(to, message_id, Kind::Message, body))
            .await
    }

    /// The next event.
    pub async fn next(&mut self) -> Got {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Binary(bytes))) => return owned(&bytes),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Got::End,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Starts deliveries and collects what lies in the mailbox, acknowledging if so asked.
    pub async fn drain(&mut self, acknowledge: bool) -> Vec<Delivered> {
        self.ask(Call::Receive).await;
        let (mut delivered, mut open) = (Vec::new(), 0);
        let mut drained = false;
        loop {
            match self.next().await {
                Got::Deliver(delivery) => {
                    if acknowledge {
                        let number = delivery.number;
                        self.ask(Call::Acknowledge { number }).await;
                        open += 1;
                    }
                    delivered.push(delivery);
                }
                Got::Drained => drained = true,
                Got::Done(_) => open -= 1,
                got => panic!("{got:?}"),
            }
            // Receive itself is answered with Done, and counts -1 without an acknowledgement.
            if drained && open == -1 {
                return delivered;
            }
        }
    }
}

impl Got {
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::Done(id)
            | Self::Stored(id)
            | Self::Stock(id, ..)
            | Self::Binding(id, _)
            | Self::Bundle(id, _)
            | Self::Online(id, ..)
            | Self::Blob(id, ..)
            | Self::Part(id, _)
            | Self::Generation(id, _)
            | Self::Prekeys(id, ..)
            | Self::Refused(id, _) => Some(*id),
            _ => None,
        }
    }

    /// The reason, if this refuses or closes.
    pub fn reason(&self) -> Option<Reason> {
        self.refusal().map(|refusal| refusal.reason)
    }

    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(_, refusal) | Self::Closing(refusal) => Some(*refusal),
            _ => None,
        }
    }

    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    pub fn delivered(self) -> Delivered {
        match self {
            Self::Deliver(delivered) => delivered,
            other => panic!("no delivery: {other:?}"),
        }
    }
}

/// A message as a call.
pub fn message<'a>(to: &Person, message_id: u128, kind: Kind, body: &'a [u8]) -> Call<'a> {
    Call::Send {
        to: to.name.clone(),
        message_id: Bytes(message_id.to_be_bytes()),
        kind,
        body,
    }
}

fn owned(bytes: &[u8]) -> Got {
    match codec::decode::<Event<'_>>(bytes).unwrap() {
        Event::Challenge { .. } => panic!("a second challenge"),
        Event::Drained => Got::Drained,
        Event::Closing(refusal) => Got::Closing(refusal),
        Event::Deliver(d) => Got::Deliver(Delivered {
            number: d.number,
            sender: d.sender,
            stored_at: d.stored_at,
            message_id: d.message_id.0,
            body: d.body.to_vec(),
            fingerprint: d.fingerprint.map(|f| f.0),
        }),
        Event::Reply { id, answer } => match answer {
            Answer::Done => Got::Done(id),
            Answer::Stored => Got::Stored(id),
            Answer::Refused(refusal) => Got::Refused(id, refusal),
            Answer::Policy { log_days } => Got::Policy(id, log_days),
            Answer::Binding(claim) => Got::Binding(id, claim),
            Answer::Blob {
                size,
                parts,
                expires_in,
            } => Got::Blob(id, size, parts, expires_in),
            Answer::Part { bytes } => Got::Part(id, bytes.to_vec()),
            Answer::Bundle(bundle) => Got::Bundle(id, Box::new(bundle)),
            Answer::Online { names, more } => {
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                Got::Online(id, names, more)
            }
            Answer::Blocked { addresses, more } => {
                let addresses = addresses.iter().map(|who| (*who).to_owned()).collect();
                Got::Blocked(id, addresses, more)
            }
            Answer::PrekeyStock {
                one_time,
                last_resort_issued,
                last_resort_id,
            } => Got::Stock(id, one_time, last_resort_issued, last_resort_id),
            Answer::Generation(there) => Got::Generation(id, there),
            Answer::Prekeys {
                one_time,
                last_resort,
            } => Got::Prekeys(id, one_time.to_vec(), last_resort),
        },
    }
}

/// Opens TLS to a relay with the given versions, pinned by its fingerprint.
pub async fn tls(
    place: &Place,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned {
        fingerprint: place.fingerprint.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let socket = TcpSocket::new_v4()?;
    socket.bind((place.from, 0).into())?;
    let tcp = socket.connect(place.dial).await?;
    tcp.set_nodelay(true)?;
    let host = ServerName::try_from(place.name.host().to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(host, tcp)
        .await
}

#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = sha256(&[certificate]);
        let text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, self.fingerprint, "another certificate");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Asks `count` times for the prekeys of `name`, pipelined, and gives the ids of the one-time keys that came.
pub async fn take_one_time(client: &mut Client, name: &Name, count: usize) -> Vec<u32> {
    for _ in 0..count {
        client.ask(Call::TakePrekeys(name.clone())).await;
    }
    let mut ids = Vec::new();
    for _ in 0..count {
        let Got::Bundle(_, bundle) = client.next().await else {
            panic!("no bundle");
        };
        assert_eq!(bundle.last_resort.id, 100);
        ids.extend(bundle.one_time.map(|prekey| prekey.id));
    }
    ids
}
