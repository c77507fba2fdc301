//! The store in NATS: servers of the tests' own, from Debian's packages, on free ports or hosts of the test, in folders that
//! go away.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use tempfile::TempDir;

use crate::network::Host;

/// A server, killed when dropped.
pub struct NatsServer {
    child: Child,
    program: PathBuf,
    host: Option<Host>,
    address: SocketAddr,
    arguments: Vec<String>,
    folder: TempDir,
}

/// How long a cluster may take to be one: some seconds are usual.
const READY: Duration = Duration::from_secs(20);

/// A port that is free now, and that no connection takes for its own end meanwhile: from below those.
fn free_address() -> SocketAddr {
    let random = RandomState::new();
    let mut drawn = (0u32..).map(|n| 10_000 + (random.hash_one(n) % 20_000) as u16);
    let held = drawn.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    held.unwrap().local_addr().unwrap()
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
        Self::start_on(installed(), None, free_address(), &[])
    }

    /// Starts one that is alone and speaks TLS only, with this certificate and its key.
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let more = ["--tls", "--tlscert", certificate, "--tlskey", key];
        Self::start_on(installed(), None, free_address(), &more)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn start_on(program: PathBuf, host: Option<Host>, address: SocketAddr, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let store = folder.path().to_str().unwrap();
        let arguments = [&["-a", &ip, "-p", &port, "-js", "-sd", store], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(String::from).collect();
        let mut server = Self {
            child: spawn(&program, host, &arguments, &folder),
            program,
            host,
            address,
            arguments,
            folder,
        };
        server.wait();
        server
    }

    /// Starts three that keep copies for each other, one at each host.
    pub async fn cluster(program: &Path) -> Vec<Self> {
        // Of twenty that are started at once on a busy machine, one does not come together, however long one waits (2.10).
        for _ in 0..5 {
            let servers: Vec<Self> = Host::ALL.map(|host| Self::start_at(host, program)).into();
            if servers[0].keeps_three_copies().await {
                return servers;
            }
        }
        panic!("no cluster of three nats-servers came together");
    }

    fn start_at(host: Host, program: &Path) -> Self {
        let route = |host: Host| format!("nats://{}:6222", host.address());
        let routes: Vec<String> = host.others().map(route).collect();
        let more = [
            "-n",
            &format!("n{}", host.0),
            "--cluster_name",
            "c",
            "--cluster",
            &route(host),
            "--routes",
            &routes.join(","),
        ];
        let address = SocketAddr::from((host.address(), 4222));
        Self::start_on(program.to_owned(), Some(host), address, &more)
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
        self.child = spawn(&self.program, self.host, &self.arguments, &self.folder);
        self.wait();
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    fn wait(&mut self) {
        while TcpStream::connect(self.address).is_err() {
            assert_eq!(self.child.try_wait().unwrap(), None, "nats-server ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn spawn(program: &Path, host: Option<Host>, arguments: &[String], folder: &TempDir) -> Child {
    let log = folder.path().join("log");
    let name = format!("{}-{}", arguments[1], arguments[3]);
    let log = std::env::var_os("NATS_LOGS").map_or(log, |dir| Path::new(&dir).join(name));
    host.map_or_else(|| Command::new(program), |host| host.command(program))
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
