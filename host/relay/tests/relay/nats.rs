//! The store in NATS: servers of the tests' own, from Debian's packages, on free ports and in folders that go away.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// A server, killed when dropped.
pub struct NatsServer {
    child: Child,
    program: PathBuf,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

/// How long a cluster may take to be one: some seconds are usual.
const READY: Duration = Duration::from_secs(20);

/// Ports that are free now, and that no connection takes for its own end meanwhile: from below those.
fn free_ports(count: usize) -> Vec<u16> {
    let random = RandomState::new();
    let drawn = (0u32..).map(|n| 10_000 + (random.hash_one(n) % 20_000) as u16);
    let held: Vec<_> = drawn
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(count)
        .collect();
    held.iter()
        .map(|held| held.local_addr().unwrap().port())
        .collect()
}

/// The one that Debian installs, which is not on everybody's path.
fn installed() -> PathBuf {
    let debian = Path::new("/usr/sbin/nats-server");
    let name = Path::new("nats-server");
    if debian.exists() { debian } else { name }.to_owned()
}

/// One of 2.10 or later, if `cargo xtask test` has found or unpacked one.
pub fn newer() -> Option<PathBuf> {
    let relay = Path::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    let program = relay
        .ancestors()
        .nth(2)?
        .join("nats-server/usr/sbin/nats-server");
    program.is_file().then_some(program)
}

impl NatsServer {
    /// Starts one that is alone.
    pub fn start() -> Self {
        Self::start_on(installed(), free_ports(1)[0], &[])
    }

    fn start_on(program: PathBuf, port: u16, more: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let port_text = port.to_string();
        let mut arguments: Vec<String> = ["-a", "127.0.0.1", "-p", &port_text, "-js", "-sd", store]
            .map(String::from)
            .into();
        arguments.extend_from_slice(more);
        let mut server = Self {
            child: spawn(&program, &arguments, &folder),
            program,
            port,
            arguments,
            folder,
        };
        server.wait();
        server
    }

    /// Starts three that keep copies for each other, over links of the test's own.
    pub async fn cluster(program: &Path) -> (Vec<Self>, Vec<Link>) {
        // Of twenty that are started at once on a busy machine, one does not come together, however long one waits (2.10).
        for _ in 0..5 {
            let (servers, links) = Self::three(program).await;
            if servers[0].keeps_three_copies().await {
                return (servers, links);
            }
        }
        panic!("no cluster of three nats-servers came together");
    }

    async fn three(program: &Path) -> (Vec<Self>, Vec<Link>) {
        let ports = free_ports(6);
        let (clients, routes) = ports.split_at(3);
        let (mut solicited, mut links) = (vec![Vec::new(); 3], Vec::new());
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            let link = Link::between([routes[one], routes[other]]).await;
            // Each has a route to both others: or it would take a cluster of two for a whole one.
            for (server, to) in [(one, link.ports[1]), (other, link.ports[0])] {
                solicited[server].push(format!("nats://127.0.0.1:{to}"));
            }
            links.push(link);
        }
        let start = |n: usize| {
            let (name, listen) = (format!("n{n}"), format!("nats://127.0.0.1:{}", routes[n]));
            let more = [
                "-n",
                &name,
                "--cluster_name",
                "c",
                "--cluster",
                &listen,
                "--routes",
                &solicited[n].join(","),
                // Where nobody is: or they would tell each other ways around the links.
                "--cluster_advertise",
                "127.0.0.1:9",
            ];
            Self::start_on(program.to_owned(), clients[n], &more.map(String::from))
        };
        ((0..3).map(start).collect(), links)
    }

    /// Whether a stream of three copies can be made, soon.
    async fn keeps_three_copies(&self) -> bool {
        let client = async_nats::connect(self.url()).await.unwrap();
        let context = jetstream::new(client);
        let start = Instant::now();
        let made = || {
            context.create_stream(jetstream::stream::Config {
                name: "ready".to_owned(),
                num_replicas: 3,
                ..jetstream::stream::Config::default()
            })
        };
        while made().await.is_err() {
            if start.elapsed() > READY {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        context.delete_stream("ready").await.is_ok()
    }

    /// Ends it as a loss of power would, but for what its disk has taken.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it had.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, &self.arguments, &self.folder);
        self.wait();
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn wait(&mut self) {
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert_eq!(self.child.try_wait().unwrap(), None, "nats-server ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The network between two servers of a cluster, which can be cut.
pub struct Link {
    /// Where each of them is reached.
    ports: [u16; 2],
    cut: watch::Sender<bool>,
}

impl Link {
    /// Forwards from ports of its own.
    async fn between(servers: [u16; 2]) -> Self {
        let cut = watch::Sender::new(false);
        let mut ports = servers;
        for port in &mut ports {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = std::mem::replace(port, listener.local_addr().unwrap().port());
            tokio::spawn(forward_all(listener, server, cut.subscribe()));
        }
        Self { ports, cut }
    }

    /// Lets nothing through, in either direction; neither end is told. What was sent arrives once it is mended.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

async fn forward_all(
    listener: tokio::net::TcpListener,
    server: u16,
    is_cut: watch::Receiver<bool>,
) {
    while let Ok((from, _)) = listener.accept().await {
        let Ok(to) = tokio::net::TcpStream::connect(("127.0.0.1", server)).await else {
            continue;
        };
        let ((from_in, from_out), (to_in, to_out)) = (from.into_split(), to.into_split());
        tokio::spawn(forward(from_in, to_out, is_cut.clone()));
        tokio::spawn(forward(to_in, from_out, is_cut.clone()));
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&bytes[..length]).await.is_err()
        {
            return;
        }
    }
}

fn spawn(program: &Path, arguments: &[String], folder: &TempDir) -> Child {
    let log = folder.path().join("log");
    let log = std::env::var_os("NATS_LOGS").map_or(log, |dir| Path::new(&dir).join(&arguments[3]));
    Command::new(program)
        .args(arguments)
        .args(["-l", log.to_str().unwrap()])
        .stdin(Stdio::null())
        .spawn()
        .expect("nats-server, which `cargo xtask test` installs")
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
