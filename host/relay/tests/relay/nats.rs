//! The store in NATS: servers of the tests' own, from Debian's package, on free ports and in folders that go away.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

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

    /// Starts three that keep copies for each other.
    pub fn cluster() -> Vec<Self> {
        let ports = free_ports(6);
        let (clients, routes) = ports.split_at(3);
        let known: Vec<_> = routes
            .iter()
            .map(|p| format!("nats://127.0.0.1:{p}"))
            .collect();
        let start = |n: usize| {
            let (name, all) = (format!("n{n}"), known.join(","));
            let more = [
                "-n",
                &name,
                "--cluster_name",
                "c",
                "--cluster",
                &known[n],
                "--routes",
                &all,
            ];
            Self::start_on(clients[n], &more.map(String::from))
        };
        (0..3).map(start).collect()
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
