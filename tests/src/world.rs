//! A relay, homes and tokens in one temporary folder, all real processes.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Ended, Running, program};

/// The folder that everything of one test lives in; removed at the end.
pub struct World {
    folder: TempDir,
}

/// A relay process; killed when dropped.
pub struct Relay {
    /// `host:port#fingerprint`.
    pub address: String,
    folder: PathBuf,
    running: Option<Running>,
}

/// One person's home folder and the way to run `hostchat` in it.
#[derive(Clone)]
pub struct Home {
    /// Account name.
    pub name: String,
    /// `--home`.
    pub folder: PathBuf,
    pin_file: PathBuf,
    token: Option<PathBuf>,
}

/// A `hostchat-sim` process; killed when dropped.
pub struct Sim {
    /// The pseudo-terminal, for `--token`.
    pub link: PathBuf,
    folder: PathBuf,
    running: Option<Running>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty folder.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    pub fn new() -> Self {
        Self {
            folder: tempfile::Builder::new()
                .prefix("hostchat-")
                .tempdir()
                .expect("temporary folder"),
        }
    }

    /// A path inside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets up and starts a relay on a free port.
    pub fn relay(&self) -> Relay {
        self.relay_with("relay", &[])
    }

    /// As [`World::relay`], in the folder `name`, with further arguments of `hostchat-relay init`.
    ///
    /// # Panics
    /// If the relay cannot be set up.
    pub fn relay_with(&self, name: &str, init: &[&str]) -> Relay {
        let folder = self.path(name);
        let port = free_port();
        let mut command = Command::new(program("hostchat-relay"));
        command
            .arg("init")
            .arg("--dir")
            .arg(&folder)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(init);
        Running::start(command.stdin(Stdio::null())).end().ok();
        let mut relay = Relay {
            address: String::new(),
            folder,
            running: None,
        };
        relay.start();
        relay
    }

    /// Sets up a home with a software token.
    pub fn home(&self, name: &str, relay: &Relay) -> Home {
        let home = self.bare_home(name, None);
        home.init(relay);
        home
    }

    /// Sets up a home on the token at `sim`.
    pub fn home_on(&self, name: &str, relay: &Relay, sim: &Sim) -> Home {
        let home = self.bare_home(name, Some(sim.link.clone()));
        home.init(relay);
        home
    }

    /// A home that has not seen `hostchat init` yet.
    ///
    /// # Panics
    /// If its PIN file cannot be written.
    pub fn bare_home(&self, name: &str, token: Option<PathBuf>) -> Home {
        let pin_file = self.path(&format!("{name}.pin"));
        std::fs::write(&pin_file, format!("a long passphrase of {name}\n"))
            .expect("PIN file written");
        Home {
            name: name.to_owned(),
            folder: self.path(name),
            pin_file,
            token,
        }
    }

    /// Starts a simulated token that is touched by itself.
    pub fn sim(&self, name: &str) -> Sim {
        self.sim_with(name, "always")
    }

    /// Starts a simulated token with the given `--presence`.
    pub fn sim_with(&self, name: &str, presence: &str) -> Sim {
        let mut sim = Sim {
            link: self.path(&format!("{name}.tty")),
            folder: self.path(&format!("{name}.flash")),
            running: None,
        };
        sim.start_with(presence);
        sim
    }
}

/// A port that was free a moment ago, and that no connection takes for its own end while the relay starts again: from
/// below those.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let random = RandomState::new();
    (0u32..)
        .map(|n| 10_000 + (random.hash_one(n) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

impl Relay {
    /// Starts it (again) on its folder and port.
    pub fn start(&mut self) {
        self.start_through(&mut Command::new(program("hostchat-relay")));
    }

    /// As [`Relay::start`], with a command that wraps the program and has it as its last argument.
    pub fn start_through(&mut self, command: &mut Command) {
        command
            .arg("run")
            .arg("--dir")
            .arg(&self.folder)
            .stdin(Stdio::null());
        let running = Running::start(command);
        self.address = running.wait_out("the relay's address", |line| {
            line.split_whitespace()
                .find(|word| word.contains('#'))
                .map(str::to_owned)
        });
        self.running = Some(running);
    }

    /// The folder with configuration and database.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `host:port` without the fingerprint.
    pub fn host_port(&self) -> &str {
        self.address.split('#').next().unwrap_or_default()
    }

    /// The process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process(&self) -> &Running {
        self.running.as_ref().expect("the relay runs")
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Stops it as an operator does, and returns how it ended.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) -> Ended {
        self.running.take().expect("the relay runs").stop()
    }
}

impl Sim {
    /// Starts it (again) with the given `--presence`.
    pub fn start_with(&mut self, presence: &str) {
        let mut command = Command::new(program("hostchat-sim"));
        command
            .arg("--dir")
            .arg(&self.folder)
            .arg("--link")
            .arg(&self.link)
            .args(["--presence", presence]);
        let running = Running::start(command.stdin(Stdio::null()));
        running.wait_out("the token's port", |line| {
            line.starts_with("ready").then_some(())
        });
        self.running = Some(running);
    }

    /// The folder with the flash file.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills it as `kill -9` does: its link stays, and the number of its pseudo-terminal may soon be that of another
    /// test.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Takes it away at any instant: the device goes with its plug.
    pub fn unplug(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.link);
    }
}

impl Home {
    /// `hostchat` with the options of this home and the arguments given; PIN from its file.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("hostchat"));
        command
            .arg("--home")
            .arg(&self.folder)
            .arg("--pin-file")
            .arg(&self.pin_file);
        if let Some(token) = &self.token {
            command.arg("--token").arg(token);
        }
        for name in [
            "HOSTCHAT_HOME",
            "HOSTCHAT_TOKEN",
            "HOSTCHAT_RELAY",
            "XDG_RUNTIME_DIR",
        ] {
            command.env_remove(name);
        }
        // So that what is shown is the same everywhere.
        command.env("TZ", "UTC0");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `hostchat` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Running::start(&mut self.command(arguments)).end()
    }

    /// Runs `hostchat` to its end with `input` on standard input.
    ///
    /// # Panics
    /// If the input cannot be given.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(input.as_bytes()).expect("input written");
        std::io::Seek::rewind(&mut file).expect("input rewound");
        Running::start(self.command(arguments).stdin(file)).end()
    }

    /// Starts `hostchat` beside the test.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(arguments))
    }

    /// `hostchat init`.
    pub fn init(&self, relay: &Relay) {
        self.run(&["init", "--relay", &relay.address, "--name", &self.name])
            .ok();
    }

    /// Starts `hostchat` with a pipe as standard input, which the test writes to.
    pub fn start_with_pipe(&self, arguments: &[&str]) -> (Running, std::process::ChildStdin) {
        Running::start_with_pipe(&mut self.command(arguments))
    }
}
