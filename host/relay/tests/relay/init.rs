//! `init` as an operator meets it: what it asks, what it writes, and whether a second computer reaches the relay.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::client::{Client, Person};
use crate::harness::{Process, program};
use crate::network::{Host, beside_hosts};

/// Runs the program at a terminal, types a line after each of its questions, and returns all that it shows.
fn at_a_terminal(arguments: &[&str], answers: &[&str]) -> String {
    let mut master = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(slave).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"))
        .args(arguments)
        .stdin(slave.try_clone().unwrap())
        .stdout(slave)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut byte = [0];
    let mut answers = answers.iter();
    let mut asked = 0;
    // The end of a terminal that nobody has open is an error.
    while master.read(&mut byte).is_ok_and(|n| n == 1) {
        shown.push(char::from(byte[0]));
        if shown[asked..].ends_with("]: ") {
            asked = shown.len();
            let answer = answers.next().expect("no more questions");
            master.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    }
    assert!(child.wait().unwrap().success(), "{shown}");
    assert_eq!(answers.next(), None, "{shown}");
    shown.replace('\r', "")
}

fn listen(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("relay.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("listen = "));
    line.unwrap().replace("listen = ", "").replace('"', "")
}

/// What the relay in this folder logs as bound, and the line that it prints.
fn bound(folder: &Path) -> (SocketAddr, String) {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"))
        .args(["run", "--log-format", "json", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(relay.stderr.take().unwrap());
    let logged = stderr.lines().map(Result::unwrap).find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        (line["message"] == "listening").then_some(line)
    });
    relay.kill().unwrap();
    relay.wait().unwrap();
    let logged = logged.unwrap();
    let bound = logged["bound"].as_str().unwrap().parse().unwrap();
    (bound, logged["address"].as_str().unwrap().to_owned())
}

#[test]
fn init_asks_what_clients_dial_and_where_to_listen_and_run_logs_what_is_bound() {
    let free = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("r");
    let init = ["init", "--dir", dir.to_str().unwrap()];
    let name = format!("chat.example:{port}");
    let shown = at_a_terminal(&init, &[&name, ""]);
    assert!(shown.contains("What will clients dial?"), "{shown}");
    assert!(
        shown.contains("[127.0.0.1:7443, for this computer only]"),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("address:port [0.0.0.0:{port}]: ")),
        "{shown}"
    );
    assert!(
        shown.contains(&format!(
            "it listens on: 0.0.0.0:{port}\nclients dial:  {name}\n"
        )),
        "{shown}"
    );
    assert!(!shown.contains("note: "), "{shown}");
    assert_eq!(listen(&dir), format!("0.0.0.0:{port}"));
    let (bound, address) = bound(&dir);
    assert_eq!(bound, SocketAddr::from(([0, 0, 0, 0], port)));
    assert!(address.starts_with(&format!("{name}#")), "{address}");
}

#[test]
fn enter_makes_a_relay_for_this_computer_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("r");
    let shown = at_a_terminal(&["init", "--dir", dir.to_str().unwrap()], &[""]);
    assert!(shown.contains("it listens on: 127.0.0.1:7443\n"), "{shown}");
    assert!(
        shown.contains("note: only this computer can reach it"),
        "{shown}"
    );
    // Another place to listen is taken as it is typed.
    let dir = folder.path().join("s");
    let init = ["init", "--dir", dir.to_str().unwrap()];
    // Mistakes are asked about again.
    let answers = [
        "192.168.1.20",
        "chat.example:7443",
        "nowhere",
        "127.0.0.1:7000",
    ];
    let shown = at_a_terminal(&init, &answers);
    for told in [
        "\"192.168.1.20\" has no port: write it as in relay.example:7443. Try again.",
        "\"nowhere\" is not an address and a port, as in 0.0.0.0:7443. Try again.",
    ] {
        assert!(shown.contains(told), "{shown}");
    }
    assert!(
        shown.contains("note: it listens on 127.0.0.1:7000, which only this computer can reach"),
        "{shown}"
    );
    assert!(
        shown.contains("note: clients dial port 7443, but it listens on port 7000"),
        "{shown}"
    );
    assert_eq!(listen(&dir), "127.0.0.1:7000");
}

#[test]
fn init_listens_where_the_name_leads() {
    for (arguments, listens, note) in [
        (&[][..], "127.0.0.1:7443", Some("only this computer")),
        (&["--name", "chat.example:23200"], "0.0.0.0:23200", None),
        (&["--name", "192.0.2.7:7443"], "0.0.0.0:7443", None),
        (&["--name", "[2001:db8::7]:7443"], "[::]:7443", None),
        (
            &["--name", "localhost:7443"],
            "127.0.0.1:7443",
            Some("only this computer"),
        ),
        (
            &["--name", "127.0.0.5:81"],
            "127.0.0.5:81",
            Some("only this computer"),
        ),
        (
            &["--name", "[::1]:7443"],
            "[::1]:7443",
            Some("only this computer"),
        ),
        (&["--listen", "192.0.2.7:7443"], "192.0.2.7:7443", None),
        (
            &["--name", "chat.example:443", "--listen", "0.0.0.0:7443"],
            "0.0.0.0:7443",
            Some("clients dial port 443, but it listens on port 7443"),
        ),
        (
            &["--name", "chat.example:7443", "--listen", "127.0.0.1:7443"],
            "127.0.0.1:7443",
            Some("which only this computer can reach: clients that dial chat.example:7443"),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        let output = program(&[&["init", "--dir", dir], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(listen(folder.path()), listens, "{arguments:?}");
        assert!(
            shown.contains(&format!("it listens on: {listens}\n")),
            "{shown}"
        );
        match note {
            Some(note) => assert!(shown.contains("note: ") && shown.contains(note), "{shown}"),
            None => assert!(!shown.contains("note: "), "{shown}"),
        }
    }
}

/// The quick start of the README, with one computer for the relay and another one for its user.
#[test]
fn a_second_computer_reaches_a_relay_made_with_its_name_alone() {
    let test = "init::a_second_computer_reaches_a_relay_made_with_its_name_alone";
    beside_hosts(test, async || {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_hostchat-relay"));
        let host = Host(1);
        let name = format!("{}:7443", host.address());
        let init = host
            .command(program)
            .args(["init", "--dir", dir, "--name", &name])
            .output();
        let init = init.unwrap();
        assert!(init.status.success(), "{init:?}");
        let relay = Process::start_as(host.command(program), folder.path());
        assert_eq!(relay.place.name.as_str(), name);
        let (alice, bob) = (Person::new("alice"), Person::new("bob"));
        drop(Client::register(&relay.place, &bob).await);
        let mut from = Client::register(&relay.place, &alice).await;
        assert!(from.send(&bob, 1, b"from afar").await.is_stored());
    });
}
