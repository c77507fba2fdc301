//! What the operator sees, and certificates that change under a running relay.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use hostchat_core::wire::relay::{Call, Reason};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, Got, Person, tls};
use crate::harness::{Place, Process, TestRelay, configure, init, program};
use crate::page::{PASSWORD, set_password};

async fn started() -> (TestRelay, SocketAddr) {
    let relay = TestRelay::start(|config| {
        config.operator = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let address = relay.operator.unwrap();
    (relay, address)
}

/// Sends `request` and returns everything that comes back.
pub async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn get(address: SocketAddr, path: &str) -> String {
    raw(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
    .await
}

/// The value of one sample.
fn sample(metrics: &str, name: &str) -> u64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&format!("hostchat_relay_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn metrics_count_what_happened_and_name_nobody() {
    let (relay, operator) = started().await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&relay.place, &alice).await;
    let mut to = Client::register(&relay.place, &bob).await;
    for id in 0..3 {
        assert!(from.send(&bob, id, b"12345").await.is_stored());
    }
    assert!(from.send(&bob, 0, b"12345").await.is_stored(), "a repeat");
    let nobody = Person::new("nobody");
    let refused = from.send(&nobody, 9, b"x").await;
    assert_eq!(refused.reason(), Some(Reason::UnknownName));
    assert_eq!(to.drain(false).await.len(), 3);

    let answer = get(operator, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("Content-Type: text/plain; version=0.0.4"));
    let (_, metrics) = answer.split_once("\r\n\r\n").unwrap();
    for (name, value) in [
        ("connections", 2),
        ("logged_in", 2),
        ("connections_accepted_total", 2),
        ("logins_total", 2),
        ("messages_stored_total", 3),
        ("message_stored_bytes_total", 15),
        ("messages_delivered_total", 3),
        ("message_delivered_bytes_total", 15),
        ("messages_expired_total", 0),
        ("write_queue", 0),
        ("refusals_total{reason=\"unknown_name\"}", 1),
        ("refusals_total{reason=\"rate_limited\"}", 0),
        ("commits_failed_total", 0),
    ] {
        assert_eq!(sample(metrics, name), value, "{name}");
    }
    assert!(sample(metrics, "disk_free_bytes") > 0);
    assert!(sample(metrics, "database_bytes") > 0);
    let commits = sample(metrics, "commit_seconds_count");
    assert!(commits >= 6, "{commits}");
    assert_eq!(
        sample(metrics, "commit_seconds_bucket{le=\"+Inf\"}"),
        commits
    );
    for who in ["alice", "bob", "nobody", "127.0.0.1"] {
        assert!(!metrics.contains(who), "{who}");
    }
    // Every sample stands below its type, once.
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split([' ', '{']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        let of = |line: &&str| line.starts_with(&format!("# TYPE {family} "));
        assert_eq!(metrics.lines().filter(of).count(), 1, "{line}");
    }

    // A month later they have expired.
    relay.clock.advance(31 * 24 * 3_600_000);
    loop {
        let metrics = get(operator, "/metrics").await;
        if sample(&metrics, "messages_expired_total") == 3 {
            break;
        }
    }
}

#[tokio::test]
async fn health_and_readiness_are_told_and_nothing_else() {
    let (relay, operator) = started().await;
    for path in ["/healthz", "/readyz"] {
        let answer = get(operator, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("ok\n"), "{answer}");
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        (
            "GET /administration HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404",
        ),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = raw(operator, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    let long = "x".repeat(20_000);
    let mut stream = TcpStream::connect(operator).await.unwrap();
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_ne!(&answer, b"HTTP/1.1 200");

    // Those who say nothing hold a few seats, and not for long.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(operator).await.unwrap());
    }
    loop {
        relay.clock.advance(6_000);
        let mut stream = TcpStream::connect(operator).await.unwrap();
        let _ = stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let mut text = String::new();
        if stream.read_to_string(&mut text).await.is_ok() && text.contains("200 OK") {
            break;
        }
    }

    // The store cannot write: alive for those who only look at the port, but not healthy.
    let path = relay.folder.path().join("relay.db");
    let holder = rusqlite::Connection::open(path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let clock = relay.clock.clone();
    let asked = tokio::spawn(async move { get(operator, "/healthz").await });
    while !asked.is_finished() {
        clock.advance(500);
        tokio::task::yield_now().await;
    }
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    holder.execute_batch("ROLLBACK").unwrap();
    let relay = relay.stop().await;
    assert!(
        TcpStream::connect(operator).await.is_err(),
        "ends with the relay"
    );
    drop(relay);
}

#[tokio::test]
async fn the_operators_listener_answers_only_to_its_own_names() {
    let relay = TestRelay::start(|config| {
        config.operator = Some("127.0.0.1:0".parse().unwrap());
        config.operator_names = vec!["relay.lan".to_owned()];
    })
    .await;
    let operator = relay.operator.unwrap();
    set_password(relay.folder.path(), PASSWORD);
    let own = operator.to_string();
    let login = "POST /admin/login HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n";
    let requests = [
        "GET /healthz HTTP/1.1\r\n",
        "GET /metrics HTTP/1.1\r\n",
        "GET /admin/login HTTP/1.1\r\n",
        "GET /other HTTP/1.1\r\n",
        login,
    ];
    for request in requests {
        for host in [
            "evil.example",
            "evil.example:9443",
            "10.1.2.3",
            "relay.lan.evil.example",
        ] {
            let answer = raw(operator, &format!("{request}Host: {host}\r\n\r\n")).await;
            assert!(
                answer.starts_with("HTTP/1.1 421"),
                "{request} {host}: {answer}"
            );
            assert!(answer.contains("operator_names in relay.toml"), "{answer}");
        }
        for none in ["", "Host: localhost\r\nHost: evil.example\r\n"] {
            let answer = raw(operator, &format!("{request}{none}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{request}: {answer}");
        }
        for host in [
            own.as_str(),
            "127.0.0.1",
            "localhost:19443",
            "[::1]",
            "Relay.lan:1",
        ] {
            let answer = raw(operator, &format!("{request}Host: {host}\r\n\r\n")).await;
            let known = ["HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 404"];
            assert!(
                known.iter().any(|k| answer.starts_with(k)),
                "{host}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_relay_that_ends_is_alive_but_not_ready() {
    let (relay, operator) = started().await;
    let client = Client::register(&relay.place, &Person::new("alice")).await;
    // It does not answer the farewell, and the clock stands still: the end waits for it.
    let stopped = tokio::spawn(relay.stop());
    loop {
        let answer = get(operator, "/readyz").await;
        if answer.ends_with("shutting down\n") {
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            break;
        }
    }
    let answer = get(operator, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(client);
    stopped.await.unwrap();
}

#[tokio::test]
async fn the_operators_port_is_closed_unless_asked_for_and_said_if_taken() {
    let relay = TestRelay::start(|_| {}).await;
    assert_eq!(relay.operator, None);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = init();
    configure(folder.path(), &format!("operator = \"{address}\""), "");
    let dir = folder.path().to_str().unwrap();
    let output = program(&["run", "--dir", dir]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains(&address.to_string()), "{error}");
}

/// Makes another certificate and its key, and returns its fingerprint.
fn another() -> (tempfile::TempDir, String) {
    let other = init();
    let dir = other.path().to_str().unwrap();
    let output = program(&["fingerprint", "--dir", dir]);
    let fingerprint = String::from_utf8(output.stdout).unwrap();
    (other, fingerprint.trim().to_owned())
}

fn put(from: &Path, to: &Path, file: &str) {
    let next = to.join("next");
    std::fs::copy(from.join(file), &next).unwrap();
    std::fs::rename(next, to.join(file)).unwrap();
}

fn with(place: &Place, fingerprint: &str) -> Place {
    Place {
        fingerprint: fingerprint.to_owned(),
        ..place.clone()
    }
}

/// Whether new connections are shown the certificate with this fingerprint.
async fn shown(place: &Place, fingerprint: &str) -> bool {
    let place = with(place, fingerprint);
    // The client of these tests panics at another certificate.
    let dialled =
        tokio::spawn(async move { tls(&place, &[&rustls::version::TLS13]).await.is_ok() });
    dialled.await.unwrap_or(false)
}

#[tokio::test]
async fn a_changed_certificate_is_served_and_connections_stay() {
    let relay = TestRelay::start(|_| {}).await;
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&relay.place, &alice).await;
    drop(Client::register(&relay.place, &bob).await);
    let (other, fingerprint) = another();
    let old = relay.place.fingerprint.clone();

    // Half of a pair changes nothing.
    put(other.path(), relay.folder.path(), "cert.pem");
    for _ in 0..5 {
        relay.clock.advance(11_000);
        assert!(shown(&relay.place, &old).await);
    }
    put(other.path(), relay.folder.path(), "key.pem");
    while !shown(&relay.place, &fingerprint).await {
        relay.clock.advance(11_000);
        let pong = from.call(Call::Ping).await;
        assert!(matches!(pong, Got::Done(_)), "{pong:?}");
    }
    assert!(from.send(&bob, 1, b"x").await.is_stored(), "still there");
    // Logins are bound to the connection, not to the certificate.
    let place = with(&relay.place, &fingerprint);
    let mut to = Client::login(&place, &bob).await;
    assert_eq!(to.drain(true).await.len(), 1);
}

#[tokio::test]
async fn sighup_reads_the_certificate_again_and_what_is_unusable_is_not_taken() {
    let folder = init();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    let mut process = Process::start_logging(command, folder.path(), "info");
    let stderr = process.child.stderr.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let mut wait_for = |what: &str| {
        lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(what))
            .unwrap_or_else(|| panic!("the log ended without {what}"))
    };
    let hang_up = || kill_process(Pid::from_child(&process.child), Signal::HUP).unwrap();
    let mut client = Client::register(&process.place, &Person::new("alice")).await;

    hang_up();
    wait_for("the same as before");
    let good = std::fs::read(folder.path().join("key.pem")).unwrap();
    std::fs::write(folder.path().join("key.pem"), "rubbish").unwrap();
    hang_up();
    assert!(wait_for("cannot be used").contains("key.pem"));
    assert!(shown(&process.place, &process.place.fingerprint).await);
    std::fs::write(folder.path().join("key.pem"), good).unwrap();

    let (other, fingerprint) = another();
    put(other.path(), folder.path(), "key.pem");
    put(other.path(), folder.path(), "cert.pem");
    hang_up();
    assert!(wait_for("another certificate").contains(&fingerprint));
    assert!(shown(&process.place, &fingerprint).await);
    assert!(matches!(client.call(Call::Ping).await, Got::Done(_)));
}
