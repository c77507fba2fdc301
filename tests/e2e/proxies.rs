//! Ways out through a proxy: a SOCKS5 one is used for everything, others are named and not used.

use std::process::{Child, Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World, free_port};

use crate::support::{pair, texts};

/// Microsocks, which ends with this value.
struct Proxy {
    process: Child,
    port: u16,
}

impl Proxy {
    fn start(login: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("microsocks");
        command
            .args(["-i", "127.0.0.1", "-p", &port.to_string()])
            .args(login);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("microsocks");
        let deadline = std::time::Instant::now() + hostchat_tests::PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "microsocks does not listen"
            );
            std::thread::yield_now();
        }
        Self { process, port }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `hostchat` with a variable of the environment set.
fn with(home: &Home, name: &str, value: &str, arguments: &[&str]) -> Ended {
    let mut command = home.command(arguments);
    for other in [
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        command.env_remove(other);
    }
    Running::start(command.env(name, value)).end()
}

#[test]
fn a_socks_proxy_carries_everything_and_without_it_nothing_goes_around_it() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let proxy = Proxy::start(&[]);
    let at = format!("socks5h://127.0.0.1:{}", proxy.port);
    with(
        &alice,
        "ALL_PROXY",
        &at,
        &["send", "bob", "through the proxy"],
    )
    .ok();
    drop(proxy);
    with(&alice, "ALL_PROXY", &at, &["send", "bob", "not around it"])
        .refused(8, "kept in the outbox")
        .refused(
            8,
            &format!("through the proxy {}: no proxy answers there", &at[10..]),
        );
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["through the proxy"]
    );
    // A relay that is away is told as one.
    let proxy = Proxy::start(&["-u", "user", "-P", "word"]);
    let at = format!("127.0.0.1:{}", proxy.port);
    with(
        &alice,
        "all_proxy",
        &format!("socks5://{at}"),
        &["send", "bob"],
    )
    .refused(8, "it wants a name and a password");
    with(
        &alice,
        "all_proxy",
        &format!("socks5://user:word@{at}"),
        &["send", "bob"],
    )
    .ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["not around it"]);
    relay.kill();
    let refused = with(
        &alice,
        "ALL_PROXY",
        &format!("socks5://user:word@{at}"),
        &["recv"],
    )
    .refused(6, "the relay refuses the connection");
    assert!(!refused.err.contains("word@"), "{refused}");
}

#[test]
fn a_proxy_of_another_kind_is_told_when_the_relay_is_not_reached_without_it() {
    let world = World::new();
    let mut relay = world.relay();
    let alice = world.home("alice", &relay);
    let http = "http://127.0.0.1:9";
    // Who sets ALL_PROXY wants everything to go through it.
    with(&alice, "ALL_PROXY", http, &["recv"])
        .refused(6, "the variable ALL_PROXY does not name a SOCKS5 proxy");
    with(&alice, "HTTPS_PROXY", http, &["recv"]).ok();
    relay.kill();
    with(&alice, "HTTPS_PROXY", http, &["recv"]).refused(
        6,
        "the proxy in HTTPS_PROXY was not used, since it is not a SOCKS5 one",
    );
}
