//! Peers of the relay, as Debian packages them, under the same load: over TLS, each through its own Rust client.
//!
//! What their acknowledgement means is not what ours means: mosquitto answers before it writes, NATS before it syncs.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hostchat_tests::{Relay, Running, World};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration, Transport,
};

use crate::relay::{BODY, Load, PIPELINE, TOGETHER, any_certificate};

/// A server of another kind, with our relay's certificate.
pub(crate) struct Peer {
    process: Running,
    port: u16,
}

impl Peer {
    /// mosquitto in a folder of this name, with persistence, no limits, and the certificate of `relay`.
    pub(crate) fn mosquitto(world: &World, name: &str, relay: &Relay) -> Self {
        let (folder, port) = (world.path(name), free_port());
        let certificates = relay.folder().display();
        let text = format!(
            "listener {port} 127.0.0.1\ncertfile {certificates}/cert.pem\nkeyfile {certificates}/key.pem\n\
             allow_anonymous true\npersistence true\npersistence_location {}/\nuser root\n\
             max_inflight_messages 0\nmax_queued_messages 0\nlog_dest none\n",
            folder.display()
        );
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(config(&folder, &text));
        Self::start(&mut command, port)
    }

    /// One NATS server with JetStream in files, and the certificate of `relay`.
    pub(crate) fn nats(world: &World, relay: &Relay) -> Self {
        let (folder, port) = (world.path("nats"), free_port());
        let certificates = relay.folder().display();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n\
             tls {{ cert_file: \"{certificates}/cert.pem\", key_file: \"{certificates}/key.pem\" }}\n",
            folder.display()
        );
        let mut command = Command::new("/usr/sbin/nats-server");
        command.arg("-c").arg(config(&folder, &text));
        Self::start(&mut command, port)
    }

    /// Three NATS servers that keep copies for each other, without TLS, as behind a relay; and where they listen.
    pub(crate) fn nats_cluster(world: &World) -> (Vec<Self>, Vec<String>) {
        let ports = free_ports(6);
        let (clients, routes) = ports.split_at(3);
        let to_all = routes
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let servers = clients.iter().zip(routes).map(|(port, route)| {
            let folder = world.path(&format!("nats-{port}"));
            let text = format!(
                "server_name: \"n{port}\"\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n\
                 cluster {{ name: \"c\", listen: \"127.0.0.1:{route}\", routes: [{to_all}] }}\n",
                folder.display()
            );
            let mut command = Command::new("/usr/sbin/nats-server");
            command.arg("-c").arg(config(&folder, &text));
            Self::start(&mut command, *port)
        });
        let urls = clients
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"));
        (servers.collect(), urls.collect())
    }

    fn start(command: &mut Command, port: u16) -> Self {
        let process = Running::start(command.stdin(Stdio::null()));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "the peer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port }
    }

    pub(crate) fn process(&self) -> &Running {
        &self.process
    }

    /// Publishes with QoS 1 to topics whose subscribers are away, so that the server keeps what comes.
    pub(crate) async fn mqtt_load(&self, connections: usize, messages: usize) -> Load {
        let mut clients = Vec::new();
        for number in 0..connections {
            let topic = format!("m/{connections}-{number}");
            self.absent_subscriber(&topic).await;
            let (client, mut events) = self.mqtt(&format!("from-{topic}"), true);
            connected(&mut events).await;
            clients.push(mqtt_client(client, events, topic, messages / connections));
        }
        Load::of(clients).await
    }

    async fn absent_subscriber(&self, topic: &str) {
        let (client, mut events) = self.mqtt(&format!("to-{topic}"), false);
        client
            .subscribe(topic, QoS::AtLeastOnce)
            .await
            .expect("subscribed");
        loop {
            if let Event::Incoming(Packet::SubAck(_)) = events.poll().await.expect("an event") {
                return;
            }
        }
    }

    /// Opens connections that each publish one message, and keeps them.
    pub(crate) async fn mqtt_idle(&self, connections: usize) -> Vec<(AsyncClient, EventLoop)> {
        let connect = |number: usize| async move {
            let (client, mut events) = self.mqtt(&format!("idle{number}"), true);
            connected(&mut events).await;
            let topic = format!("idle/{number}");
            let sent = client.publish(topic, QoS::AtLeastOnce, false, [0x5a; BODY]);
            sent.await.expect("published");
            while !matches!(
                events.poll().await.expect("an event"),
                Event::Incoming(Packet::PubAck(_))
            ) {}
            (client, events)
        };
        let connecting = futures_util::stream::iter(0..connections).map(connect);
        connecting.buffer_unordered(TOGETHER).collect().await
    }

    fn mqtt(&self, id: &str, clean: bool) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.port);
        let tls = TlsConfiguration::Rustls(Arc::new(any_certificate()));
        options.set_transport(Transport::Tls(tls));
        options.set_clean_session(clean);
        options.set_keep_alive(Duration::from_secs(3600));
        options.set_inflight(u16::try_from(PIPELINE).unwrap_or(u16::MAX));
        AsyncClient::new(options, PIPELINE)
    }

    /// Publishes to a stream in files, with an acknowledgement for each message.
    pub(crate) async fn nats_load(&self, connections: usize, messages: usize) -> Load {
        let first = self.jetstream().await;
        let config = stream::Config {
            name: "MAIL".into(),
            subjects: vec!["m.>".into()],
            ..stream::Config::default()
        };
        first
            .get_or_create_stream(config)
            .await
            .expect("a stream in files");
        let mut clients = Vec::new();
        for number in 0..connections {
            let subject = format!("m.{connections}-{number}");
            let context = self.jetstream().await;
            clients.push(nats_client(context, subject, messages / connections));
        }
        Load::of(clients).await
    }

    async fn jetstream(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::new()
            .require_tls(true)
            .tls_client_config(any_certificate());
        let address = format!("tls://127.0.0.1:{}", self.port);
        let client = options.connect(address).await.expect("NATS reached");
        jetstream::new(client)
    }
}

async fn connected(events: &mut EventLoop) {
    loop {
        if let Event::Incoming(Packet::ConnAck(_)) = events.poll().await.expect("an event") {
            return;
        }
    }
}

async fn mqtt_client(
    client: AsyncClient,
    mut events: EventLoop,
    topic: String,
    count: usize,
) -> Vec<Duration> {
    let publishing = tokio::spawn(async move {
        for _ in 0..count {
            let sent = client.publish(&topic, QoS::AtLeastOnce, false, [0x5a; BODY]);
            sent.await.expect("published");
        }
        client
    });
    let mut began = vec![Instant::now(); usize::from(u16::MAX) + 1];
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        match events.poll().await.expect("an event") {
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(began) = began.get_mut(usize::from(id)) {
                    *began = Instant::now();
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let began = began.get(usize::from(ack.pkid)).expect("an id");
                latencies.push(began.elapsed());
            }
            _ => {}
        }
    }
    publishing.await.expect("all published");
    latencies
}

async fn nats_client(context: jetstream::Context, subject: String, count: usize) -> Vec<Duration> {
    let mut waiting = FuturesUnordered::new();
    let (mut sent, mut latencies) = (0, Vec::with_capacity(count));
    while latencies.len() < count {
        while sent < count && waiting.len() < PIPELINE {
            let began = Instant::now();
            let body = vec![0x5a; BODY].into();
            let ack = context.publish(subject.clone(), body).await;
            waiting.push(acknowledged(began, ack.expect("published").into_future()));
            sent += 1;
        }
        latencies.push(waiting.next().await.expect("one waits"));
    }
    latencies
}

async fn acknowledged<T, E: std::fmt::Debug>(
    began: Instant,
    ack: impl Future<Output = Result<T, E>>,
) -> Duration {
    ack.await.expect("acknowledged");
    began.elapsed()
}

fn config(folder: &Path, text: &str) -> std::path::PathBuf {
    std::fs::create_dir_all(folder).expect("folder");
    let path = folder.join("server.conf");
    std::fs::write(&path, text).expect("configuration written");
    path
}

fn free_port() -> u16 {
    free_ports(1).first().copied().expect("one")
}

fn free_ports(count: usize) -> Vec<u16> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    // All held at once: each another one.
    let held: Vec<_> = (0..count).map(|_| bind()).collect();
    let port = |held: &TcpListener| held.local_addr().expect("an address").port();
    held.iter().map(port).collect()
}
