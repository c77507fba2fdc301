//! NATS over TLS: what is asked for is what happens, whoever stands between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::client::{Client, Person};
use crate::harness::{Process, configure, init, program};
use crate::nats::NatsServer;

/// What a middleman does with those who come.
#[derive(Clone, Copy)]
enum Does {
    PassesOn = 0,
    /// Ends every connection at once.
    Refuses = 1,
    /// Lets them connect, and passes nothing on after that.
    IsHollow = 2,
}

/// Somebody between a relay and its servers.
struct Middleman {
    address: SocketAddr,
    /// The first bytes of everybody who came.
    began: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Those who are connected now, to be cut off.
    open: Arc<Mutex<Vec<TcpStream>>>,
    came: Arc<AtomicUsize>,
    does: Arc<AtomicUsize>,
}

impl Middleman {
    /// Passes everything on, but for what `change` makes of the server's first line.
    fn start(server: SocketAddr, change: impl Fn(String) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let middleman = Self {
            address: listener.local_addr().unwrap(),
            began: Arc::default(),
            open: Arc::default(),
            came: Arc::default(),
            does: Arc::default(),
        };
        let does = Arc::clone(&middleman.does);
        let (began, open) = (Arc::clone(&middleman.began), Arc::clone(&middleman.open));
        let came = Arc::clone(&middleman.came);
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let how = does.load(Ordering::SeqCst);
                if how == Does::Refuses as usize {
                    came.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let hollow = how == Does::IsHollow as usize;
                let Ok(up) = TcpStream::connect(server) else {
                    return;
                };
                let mut up_reader = BufReader::new(up.try_clone().unwrap());
                let mut info = String::new();
                let _ = up_reader.read_line(&mut info);
                let _ = client.write_all(change(info).as_bytes());
                open.lock().unwrap().push(client.try_clone().unwrap());
                came.fetch_add(1, Ordering::SeqCst);
                let (mut from, mut to) = (client.try_clone().unwrap(), up);
                let began = Arc::clone(&began);
                thread::spawn(move || {
                    let mut first = vec![0; 512];
                    let read = from.read(&mut first).unwrap_or(0);
                    first.truncate(read);
                    let _ = to.write_all(&first);
                    began.lock().unwrap().push(first);
                    if hollow {
                        let _ = std::io::copy(&mut from, &mut std::io::sink());
                    } else {
                        let _ = std::io::copy(&mut from, &mut to);
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                thread::spawn(move || {
                    let _ = std::io::copy(&mut up_reader, &mut client);
                    let _ = client.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        middleman
    }

    fn does(&self, does: Does) {
        self.does.store(does as usize, Ordering::SeqCst);
    }

    /// Waits until somebody comes once more.
    async fn visited(&self) {
        let before = self.came.load(Ordering::SeqCst);
        while self.came.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn write_config(folder: &Path, servers: &[String], more: &str) {
    let listed: Vec<String> = servers.iter().map(|s| format!("{s:?}")).collect();
    let listed = listed.join(", ");
    configure(
        folder,
        &format!("store = \"nats\"\n[nats]\nservers = [{listed}]\n{more}\n"),
        "",
    );
}

fn run(folder: &Path) -> Output {
    program(&["run", "--dir", folder.to_str().unwrap(), "--log", "error"])
}

#[track_caller]
fn fails(output: &Output, code: i32, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(says) && error.contains("hint: "), "{error}");
    for words in [
        "os error",
        "InvalidContentType",
        "UnknownIssuer",
        "IO error",
    ] {
        assert!(!error.contains(words), "{error}");
    }
}

/// What makes TLS required, for a server at this address.
fn ways(address: SocketAddr) -> [(String, bool); 3] {
    [
        (format!("tls://{address}"), true),
        (format!("nats://{address}"), true),
        // The system's authorities would do.
        (format!("tls://{address}"), false),
    ]
}

#[tokio::test]
async fn a_relay_works_on_nats_over_tls() {
    for scheme in ["tls", "nats"] {
        let folder = init();
        let pem = |file: &str| folder.path().join(file);
        let server = NatsServer::start_tls(&pem("cert.pem"), &pem("key.pem"));
        let url = format!("{scheme}://{}", server.address());
        write_config(folder.path(), &[url], "ca = \"cert.pem\"");
        let relay = Process::start(folder.path());
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        let mut to = Client::register(&relay.place, &bob).await;
        let mut from = Client::register(&relay.place, &alice).await;
        assert!(from.send(&bob, 1, b"over TLS").await.is_stored());
        assert_eq!(to.drain(true).await[0].body, b"over TLS");
    }
}

#[test]
fn where_tls_is_asked_for_nothing_is_said_to_a_server_without_it() {
    // A server, or somebody who poses as one, that offers no TLS.
    let server = NatsServer::start();
    let plain = Middleman::start(server.address(), |info| info);
    for (url, ca) in ways(plain.address) {
        let folder = init();
        write_config(
            folder.path(),
            &[url],
            if ca { "ca = \"cert.pem\"" } else { "" },
        );
        fails(&run(folder.path()), 10, "TLS is required");
        fails(
            &program(&["check", "--dir", folder.path().to_str().unwrap()]),
            10,
            "TLS is required",
        );
    }
    // A server that offers it, and somebody between who says that it does not.
    let folder = init();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let server = NatsServer::start_tls(&certificate, &key);
    let strip = Middleman::start(server.address(), |info| {
        assert!(info.contains("\"tls_required\":true"), "{info}");
        info.replace("\"tls_required\":true", "\"tls_required\":false")
    });
    let url = format!("nats://{}", strip.address);
    write_config(folder.path(), &[url], "ca = \"cert.pem\"");
    // TLS all the same, end to end.
    drop(Process::start(folder.path()));
    for middleman in [plain, strip] {
        let began = middleman.began.lock().unwrap();
        assert!(!began.is_empty());
        for bytes in began.iter().filter(|bytes| !bytes.is_empty()) {
            assert_eq!(bytes[0], 0x16, "a TLS handshake: {bytes:?}");
        }
    }
}

#[test]
fn servers_of_another_authority_are_refused() {
    let (theirs, ours) = (init(), init());
    let pem = |file: &str| theirs.path().join(file);
    let server = NatsServer::start_tls(&pem("cert.pem"), &pem("key.pem"));
    write_config(
        ours.path(),
        &[format!("tls://{}", server.address())],
        "ca = \"cert.pem\"",
    );
    fails(
        &run(ours.path()),
        10,
        "NATS does not answer: the certificate of the server",
    );
}

#[test]
fn lists_of_servers_that_mix_tls_with_none_are_refused() {
    for (servers, says) in [
        (
            &["tls://h:1", "nats://h:2"][..],
            "begin all of them with tls://",
        ),
        (
            &["nats://h:1", "tls://h:2"],
            "begin all of them with tls://",
        ),
        (&["ws://h:1"], "begin with nats:// or tls://"),
        (&["h:1"], "nats://host:port or tls://host:port"),
        (
            &["nats://user:canary-pass@h:1", "tls://h:2"],
            "begin all of them",
        ),
        (&[], "nats://host:port or tls://host:port"),
    ] {
        let folder = init();
        let servers: Vec<String> = servers.iter().map(|s| (*s).to_owned()).collect();
        write_config(folder.path(), &servers, "");
        for command in ["run", "check"] {
            let output = program(&[command, "--dir", folder.path().to_str().unwrap()]);
            fails(&output, 3, says);
            assert!(!String::from_utf8_lossy(&output.stderr).contains("canary"));
        }
    }
}

#[tokio::test]
async fn servers_that_a_server_names_are_not_used() {
    let server = NatsServer::start();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let named = trap.local_addr().unwrap();
    let middleman = Middleman::start(server.address(), move |info| {
        info.replacen('{', &format!("{{\"connect_urls\":[\"{named}\"],"), 1)
    });
    let folder = init();
    write_config(
        folder.path(),
        &[format!("nats://{}", middleman.address)],
        "",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.env_remove("HOSTCHAT_RELAY_LOG");
    let relay = Process::start_as(command, folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    drop(Client::register(&relay.place, &bob).await);
    let mut from = Client::register(&relay.place, &alice).await;
    for id in 0..6 {
        middleman.cut();
        // It comes back to the server that it was given, and goes on there.
        middleman.visited().await;
        assert!(from.send(&bob, id, b"x").await.is_stored());
    }
    let caught = trap.accept();
    assert!(caught.is_err(), "{caught:?}");
}

/// Each host goes down for a while, one after the other, and then the one that is left is connected to and does nothing: the
/// node has to leave it for those that had failed before.
#[tokio::test]
async fn a_node_leaves_a_server_that_does_nothing_for_those_that_failed_before() {
    let server = NatsServer::start();
    let [one, other] = [(); 2].map(|()| Middleman::start(server.address(), |info| info));
    let folder = init();
    let urls = [&one, &other].map(|middleman| format!("nats://{}", middleman.address));
    write_config(folder.path(), &urls, "");
    let relay = Process::start(folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut to = Client::register(&relay.place, &bob).await;
    let mut from = Client::register(&relay.place, &alice).await;
    // Both fail a few times; then one can be reached again, and everything goes through it.
    for middleman in [&one, &other] {
        middleman.does(Does::Refuses);
        middleman.cut();
    }
    for middleman in [&one, &other, &one, &other] {
        middleman.visited().await;
    }
    one.does(Does::PassesOn);
    while !from.send(&bob, 0, b"through one").await.is_stored() {}
    // The first one becomes no more than a shell of a server, and then the other one is back.
    one.does(Does::IsHollow);
    one.cut();
    one.visited().await;
    other.does(Does::PassesOn);
    while !from.send(&bob, 1, b"through the other").await.is_stored() {}
    drop(to);
    to = Client::login(&relay.place, &bob).await;
    let bodies: Vec<_> = to.drain(true).await.into_iter().map(|d| d.body).collect();
    assert_eq!(bodies, [&b"through one"[..], b"through the other"]);
}
