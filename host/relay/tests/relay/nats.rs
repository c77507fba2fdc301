//! The store in NATS: servers of the tests' own, from Debian's package, on free ports and in folders that go away.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// A server, killed when dropped.
pub struct NatsServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

/// Ports that are free now.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    held.iter()
        .map(|held| held.local_addr().unwrap().port())
        .collect()
}

impl NatsServer {
    /// Starts one that is alone.
    pub fn start() -> Self {
        Self::start_on(free_ports(1)[0], &[])
    }

    fn start_on(port: u16, more: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        let port_text = port.to_string();
        let mut arguments: Vec<String> = ["-a", "127.0.0.1", "-p", &port_text, "-js", "-sd", store]
            .map(String::from)
            .into();
        arguments.extend_from_slice(more);
        let mut server = Self {
            child: spawn(&arguments, &folder),
            port,
            arguments,
            folder,
        };
        server.wait();
        server
    }

    /// Starts three that keep copies for each other, over links of the test's own.
    pub async fn cluster() -> (Vec<Self>, Vec<Link>) {
        let ports = free_ports(6);
        let (clients, routes) = ports.split_at(3);
        let (mut solicited, mut links) = (vec![Vec::new(); 3], Vec::new());
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let link = Link::to(routes[to]).await;
            solicited[from].push(format!("nats://127.0.0.1:{}", link.port));
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
            Self::start_on(clients[n], &more.map(String::from))
        };
        ((0..3).map(start).collect(), links)
    }

    /// Ends it as a loss of power would, but for what its disk has taken.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it had.
    pub fn restart(&mut self) {
        self.child = spawn(&self.arguments, &self.folder);
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
    port: u16,
    cut: watch::Sender<bool>,
}

impl Link {
    /// Forwards from a port of its own.
    async fn to(server: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = watch::Sender::new(false);
        let is_cut = cut.subscribe();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let Ok(to) = tokio::net::TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                let ((from_in, from_out), (to_in, to_out)) = (from.into_split(), to.into_split());
                tokio::spawn(forward(from_in, to_out, is_cut.clone()));
                tokio::spawn(forward(to_in, from_out, is_cut.clone()));
            }
        });
        Self { port, cut }
    }

    /// Lets nothing through, in either direction; neither end is told. What was sent arrives once it is mended.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
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

fn spawn(arguments: &[String], folder: &TempDir) -> Child {
    let log = folder.path().join("log");
    let log = std::env::var_os("NATS_LOGS").map_or(log, |dir| Path::new(&dir).join(&arguments[3]));
    // Where Debian puts it, which is not on everybody's path.
    let debian = "/usr/sbin/nats-server";
    let program = if Path::new(debian).exists() {
        debian
    } else {
        "nats-server"
    };
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
