//! Hosts of a test's own: network namespaces, with cables between them that can be pulled.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// Set where a test runs beside its hosts.
const BESIDE: &str = "HOSTCHAT_BESIDE_HOSTS";

/// One of the three hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host(pub u8);

impl Host {
    pub const ALL: [Self; 3] = [Self(1), Self(2), Self(3)];

    /// Where the test and the other hosts reach it.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.0)
    }

    pub fn others(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |host| *host != self)
    }

    /// The other one of a pair, around the three.
    pub fn next(self) -> Self {
        Self(self.0 % 3 + 1)
    }

    fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// A program at this host.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name()]).arg(program);
        command
    }

    /// Pulls the cable to another host: what is sent is dropped, and nobody is told, but for a sender at this host.
    pub fn cut(self, other: Self) {
        ip(&["-n", &self.name(), "link", "set", &other.name(), "down"]);
    }

    /// The cable is in again. What was sent comes late, as TCP sends it again.
    pub fn mend(self, other: Self) {
        ip(&["-n", &self.name(), "link", "set", &other.name(), "up"]);
    }

    /// Pulls every cable of the host, as if its power were gone: nothing says that its connections are over.
    pub fn cut_off(self) {
        self.set_cable_to_test("down");
        self.others().for_each(|other| self.cut(other));
    }

    pub fn mend_all(self) {
        self.set_cable_to_test("up");
        self.others().for_each(|other| self.mend(other));
    }

    fn set_cable_to_test(self, state: &str) {
        ip(&["-n", &self.name(), "link", "set", "here", state]);
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().unwrap();
    assert!(done.success(), "ip {arguments:?}");
}

/// Runs the test that is called `name` beside three hosts: this program once more, in a network of its own. As root, or
/// where users may make namespaces, as on Debian; elsewhere it says that the test is left out.
pub fn beside_hosts(name: &str, test: impl AsyncFnOnce()) {
    if std::env::var_os(BESIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(test());
    }
    if let Err(why) = possible() {
        // Past the test runner, which shows nothing of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "LEFT OUT: {name}: no network of its own can be made here: {why}"
        );
        return;
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", name, "--nocapture"];
    let mut test = in_a_network(&program);
    let done = test.args(arguments).env(BESIDE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    println!("{text}{}", String::from_utf8_lossy(&done.stderr));
    assert!(
        done.status.success() && text.contains("1 passed"),
        "the test beside its hosts failed"
    );
}

/// Whether there can be the three hosts, or why not.
fn possible() -> Result<(), String> {
    let done = in_a_network(Path::new("true")).output();
    let done = done.map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).into_owned())
}

/// A program in namespaces that end with it, beside the three hosts.
fn in_a_network(program: &Path) -> Command {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", include_str!("network.sh"), "network"])
        .arg(program);
    unshare
}
