//! Relays to test against: in this process with a clock of its own, or as the real program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use hostchat_core::wire::RelayName;
use hostchat_relay::clock::ManualClock;
use hostchat_relay::{Config, Server};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A wall time to begin with: some day in 2026.
pub const WALL: u64 = 1_790_000_000_000;

/// A relay in this process.
pub struct TestRelay {
    pub folder: TempDir,
    pub clock: ManualClock,
    pub place: Place,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Where a relay is found.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: RelayName,
    pub fingerprint: String,
}

impl Place {
    pub fn parse(line: &str) -> Self {
        let (name, fingerprint) = line.trim().split_once('#').expect("host:port#fingerprint");
        Self {
            name: RelayName::parse(name).unwrap(),
            fingerprint: fingerprint.to_owned(),
        }
    }
}

impl TestRelay {
    /// Starts a fresh relay with `lines` added to its configuration.
    pub async fn start(lines: &str) -> Self {
        let folder = init(lines);
        Self::start_in(folder, ManualClock::new(WALL)).await
    }

    /// Starts a relay on a folder that exists.
    pub async fn start_in(folder: TempDir, clock: ManualClock) -> Self {
        let mut config = Config::load(folder.path()).unwrap();
        config.clock = Arc::new(clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::open(config, listener).unwrap();
        let place = Place::parse(&server.address());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            folder,
            clock,
            place,
            stop: Some(stop),
            task,
        }
    }

    /// Stops it in order and returns its folder.
    pub async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
        self.folder
    }
}

/// Makes a relay folder with the real `init`, listening on any port, with `lines` added.
pub fn init(lines: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("r");
    let output = program(&[
        "init",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        dir.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{output:?}");
    for entry in std::fs::read_dir(&dir).unwrap() {
        let from = entry.unwrap().path();
        std::fs::rename(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("relay.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{lines}\n")).unwrap();
    folder
}

/// Runs the program to its end.
pub fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hostchat-relay"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The real program, serving; killed when dropped.
pub struct Process {
    pub child: Child,
    pub place: Place,
}

impl Process {
    pub fn start(folder: &Path) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_hostchat-relay")), folder)
    }

    /// Starts it through another command, which gets the arguments appended.
    pub fn start_as(mut command: Command, folder: &Path) -> Self {
        let mut child = command
            .args(["run", "--log", "warn", "--dir", folder.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "the relay did not start");
        Self {
            child,
            place: Place::parse(&line),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
