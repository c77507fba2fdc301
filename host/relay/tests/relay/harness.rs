//! Relays to test against: in this process with a clock of its own, or as the real program.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use hostchat_core::wire::RelayName;
use hostchat_relay::clock::ManualClock;
use hostchat_relay::store::nats::Servers;
use hostchat_relay::{Config, Server, Storage};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::nats::NatsServer;

/// A wall time to begin with: some day in 2026.
pub const WALL: u64 = 1_790_000_000_000;

thread_local! {
    /// Set while a test of this thread runs on NATS.
    static NATS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How many times a test does a thing: as often as the variable `name` says, which `cargo xtask nightly` sets.
pub fn rounds(name: &str, usual: u32) -> u32 {
    let more = std::env::var(name).ok();
    more.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Runs a test on NATS: its relays keep everything on a server of the test's own.
pub fn run_on_nats(test: impl FnOnce()) {
    let server = NatsServer::start();
    NATS.set(Some(server.url()));
    test();
    NATS.set(None);
}

/// Whether the test runs on NATS.
pub fn on_nats() -> bool {
    NATS.with_borrow(Option::is_some)
}

/// Where the server of the test is.
pub fn nats_url() -> String {
    NATS.with_borrow(Clone::clone).expect("a test on NATS")
}

/// Runs tests of this module on NATS as well.
macro_rules! also_on_nats {
    ($($test:ident),+ $(,)?) => {
        mod nats {
            $(
                #[test]
                fn $test() {
                    crate::harness::run_on_nats(super::$test);
                }
            )+
        }
    };
}
pub(crate) use also_on_nats;

/// A relay in this process.
pub struct TestRelay {
    pub folder: TempDir,
    pub clock: ManualClock,
    pub place: Place,
    pub operator: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Where a relay is found.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: RelayName,
    pub fingerprint: String,
    pub dial: SocketAddr,
    /// Of this machine's addresses, that from which clients come.
    pub from: Ipv4Addr,
}

impl Place {
    pub fn parse(line: &str, dial: Option<SocketAddr>) -> Self {
        let (name, fingerprint) = line.trim().split_once('#').expect("host:port#fingerprint");
        Self {
            dial: dial.unwrap_or_else(|| name.parse().unwrap()),
            name: RelayName::parse(name).unwrap(),
            fingerprint: fingerprint.to_owned(),
            from: Ipv4Addr::UNSPECIFIED,
        }
    }

    /// The same, for clients of another network.
    pub fn from(&self, last: u8) -> Self {
        Self {
            from: Ipv4Addr::new(127, 0, 0, last),
            ..self.clone()
        }
    }
}

impl TestRelay {
    /// Starts a fresh relay, with what `change` makes of the usual configuration.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(init(), ManualClock::new(WALL), change).await
    }

    /// Starts a relay on a folder that exists.
    pub async fn start_in(
        folder: TempDir,
        clock: ManualClock,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::load(folder.path()).unwrap();
        config.clock = Arc::new(clock.clone());
        if let Some(url) = NATS.with_borrow(Clone::clone) {
            config.store = Storage::Nats;
            config.nats = Some(servers(folder.path(), vec![url]));
        }
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = listener.local_addr().unwrap();
        let server = Server::open(config, listener).await.unwrap();
        let place = Place::parse(&server.address(), Some(dial));
        let operator = server.operator_address();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            folder,
            clock,
            place,
            operator,
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

/// Where a relay in this folder finds its store: streams of its own.
pub fn servers(folder: &Path, urls: Vec<String>) -> Servers {
    let name = folder.file_name().unwrap().as_encoded_bytes();
    Servers {
        replicas: if urls.len() < 3 { 1 } else { 3 },
        servers: urls,
        credentials: None,
        ca: None,
        name: name.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

/// Makes a relay folder with the real `init`, listening on any port.
pub fn init() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let output = program(&["init", "--listen", "127.0.0.1:0", "--dir", dir]);
    assert!(output.status.success(), "{output:?}");
    folder
}

/// Adds lines to the end of relay.toml, which is its `[limits]`; `before` goes before that.
pub fn configure(folder: &Path, before: &str, limits: &str) {
    let path = folder.join("relay.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (top, rest) = text.split_once("[limits]").unwrap();
    std::fs::write(&path, format!("{top}{before}\n[limits]{rest}\n{limits}\n")).unwrap();
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

    /// Starts it through another command, which gets the arguments appended. `HOSTCHAT_RELAY_LOG=debug` shows more.
    pub fn start_as(command: Command, folder: &Path) -> Self {
        let level = std::env::var("HOSTCHAT_RELAY_LOG");
        Self::start_logging(command, folder, level.as_deref().unwrap_or("error"))
    }

    /// As [`Process::start_as`], with JSON logs from this level on.
    pub fn start_logging(command: Command, folder: &Path, level: &str) -> Self {
        Self::try_start(command, folder, level).expect("a relay that starts")
    }

    /// As [`Process::start_logging`]; the exit code if it does not start.
    pub fn try_start(
        mut command: Command,
        folder: &Path,
        level: &str,
    ) -> Result<Self, Option<i32>> {
        let mut child = command
            .args(["run", "--log", level, "--log-format", "json"])
            .args(["--dir", folder.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.is_empty() {
            return Err(child.wait().unwrap().code());
        }
        let place = Place::parse(&line, None);
        Ok(Self { child, place })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
