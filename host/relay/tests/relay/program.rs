//! The program itself: what it prints, how it refuses, how it ends.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hostchat_core::wire::relay::{Call, Reason};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Person};
use crate::harness::{Process, configure, init, program};

fn run(folder: &Path) -> Output {
    program(&["run", "--dir", folder.to_str().unwrap()])
}

#[track_caller]
fn fails(output: &Output, code: i32, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(says), "{error}");
    assert!(!error.contains("os error"), "{error}");
    assert!(error.contains("hint: "), "{error}");
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn terminate(process: &Process) {
    let pid = Pid::from_child(&process.child);
    kill_process(pid, Signal::TERM).unwrap();
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "init",
        "run",
        "invite",
        "fingerprint",
        "check",
        "backup",
        "restore",
        "migrate",
        "admin",
    ] {
        let help = text(&program(&[command, "--help"]));
        assert!(help.contains("Example"), "{help}");
        assert!(
            help.contains(&format!("hostchat-relay {command} --dir")),
            "{help}"
        );
    }
    assert!(text(&program(&["--help"])).contains("Exit codes"));
    let version = text(&program(&["--version"]));
    assert_eq!(
        version.trim(),
        concat!("hostchat-relay ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(program(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn nobody_reads_its_memory_and_it_leaves_no_core_dump() {
    let folder = init();
    let is_root = rustix::process::geteuid().is_root();
    // Root may read everything: what matters is another program of the relay's own user.
    let (copied, command) = if is_root {
        let copied = tempfile::tempdir().unwrap();
        let program = copied.path().join("hostchat-relay");
        std::fs::copy(env!("CARGO_BIN_EXE_hostchat-relay"), &program).unwrap();
        std::fs::set_permissions(copied.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(65534), Some(65534)).unwrap();
        }
        let mut command = as_nobody();
        command.arg(program);
        (Some(copied), command)
    } else {
        let own = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
        (None, own)
    };
    let process = Process::start_as(command, folder.path());
    let proc = format!("/proc/{}", process.child.id());
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"], "{limits}");
    // What a process that is not dumpable has in /proc belongs to root.
    for name in ["mem", "environ", "maps"] {
        let path = format!("{proc}/{name}");
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), 0, "{name}");
        let mut reader = if is_root {
            as_nobody()
        } else {
            Command::new("env")
        };
        let read = reader.args(["head", "-c1", &path]).output().unwrap();
        assert!(!read.status.success(), "{read:?}");
    }
    drop(copied);
}

/// Runs what follows as a user without rights.
fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command
}

#[test]
fn init_makes_a_private_key_and_overwrites_nothing() {
    let folder = init();
    let dir = folder.path().to_str().unwrap();
    let key = folder.path().join("key.pem");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    for missing in [None, Some("relay.toml"), Some("cert.pem")] {
        if let Some(missing) = missing {
            std::fs::remove_file(folder.path().join(missing)).unwrap();
        }
        fails(&program(&["init", "--dir", dir]), 3, "exists already");
    }
    assert_eq!(std::fs::read(&key).unwrap(), before);

    let nowhere = folder.path().join("n");
    let output = program(&[
        "init",
        "--listen",
        "0.0.0.0:1",
        "--dir",
        nowhere.to_str().unwrap(),
    ]);
    fails(&output, 2, "--name");
    assert!(!nowhere.exists());
    fails(
        &program(&[
            "init",
            "--name",
            "Upper:1",
            "--dir",
            nowhere.to_str().unwrap(),
        ]),
        2,
        "lower case",
    );
}

#[test]
fn what_cannot_run_says_why_with_its_own_exit_code() {
    let folder = init();
    fails(&run(&folder.path().join("other")), 3, "no relay in");

    let toml = folder.path().join("relay.toml");
    let good = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, format!("{good}\nmailbox_mesages = 1\n")).unwrap();
    fails(&run(folder.path()), 3, "mailbox_mesages");
    std::fs::write(&toml, &good).unwrap();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = folder.path().to_str().unwrap();
    fails(
        &program(&["run", "--dir", dir, "--listen", &address]),
        4,
        "cannot listen on",
    );

    let process = Process::start(folder.path());
    fails(&run(folder.path()), 7, "another relay runs");
    drop(process);

    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::copy(init().path().join("key.pem"), &key).unwrap();
    let says = "cert.pem: the key does not belong to this certificate";
    fails(&run(folder.path()), 6, says);
    std::fs::remove_file(&key).unwrap();
    fails(
        &run(folder.path()),
        6,
        "key.pem: No such file or directory\n",
    );
    std::fs::write(&certificate, "nothing").unwrap();
    fails(&run(folder.path()), 6, "cert.pem: no certificate in it");
}

#[test]
fn a_database_that_is_damaged_newer_or_not_ours_is_refused_untouched() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 4] = [
        ("damaged", |path| {
            std::fs::write(path, vec![0x5a; 8192]).unwrap()
        }),
        ("damaged", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            for at in (4096..bytes.len()).step_by(512) {
                bytes[at] ^= 0xff;
            }
            std::fs::write(path, bytes).unwrap();
        }),
        ("format 999", |path| {
            let db = rusqlite::Connection::open(path).unwrap();
            db.pragma_update(None, "user_version", 999).unwrap();
        }),
        ("not the database of a hostchat relay", |path| {
            std::fs::remove_file(path).unwrap();
            let db = rusqlite::Connection::open(path).unwrap();
            db.execute_batch("CREATE TABLE other (x)").unwrap();
        }),
    ];
    for (says, spoil) in cases {
        let folder = init();
        let process = Process::start(folder.path());
        stop(process);
        let path = folder.path().join("relay.db");
        spoil(&path);
        let before = std::fs::read(&path).unwrap();
        fails(&run(folder.path()), 5, says);
        assert!(std::fs::read(&path).unwrap() == before, "changed: {says}");
    }
}

fn stop(mut process: Process) {
    terminate(&process);
    assert!(process.child.wait().unwrap().success());
}

#[tokio::test]
async fn sigterm_tells_the_clients_and_leaves_a_clean_database() {
    let folder = init();
    let mut process = Process::start(folder.path());
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&process.place, &alice).await;
    drop(Client::register(&process.place, &bob).await);
    assert!(from.send(&bob, 1, b"kept").await.is_stored());
    terminate(&process);
    assert_eq!(from.next().await.reason(), Some(Reason::ShuttingDown));
    drop(from);
    assert!(process.child.wait().unwrap().success());
    assert!(
        !folder.path().join("relay.db-wal").exists(),
        "copied into the database"
    );

    let process = Process::start(folder.path());
    let mut to = Client::login(&process.place, &bob).await;
    assert_eq!(to.drain(true).await[0].body, b"kept");
}

#[tokio::test]
async fn the_log_says_at_the_end_how_many_are_connected_and_counts_nobody_who_has_left() {
    let folder = init();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    let mut process = Process::start_logging(command, folder.path(), "info");
    let dir = folder.path().to_str().unwrap().to_owned();
    let mut stays = Client::register(&process.place, &Person::new("alice")).await;
    drop(Client::register(&process.place, &Person::new("bob")).await);
    let connected = || {
        let status = text(&program(&["admin", "--dir", &dir, "status", "--json"]));
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["connections"].clone()
    };
    // The relay notices soon that bob has gone.
    assert!((0..200).any(|_| connected() == 1));
    terminate(&process);
    assert_eq!(stays.next().await.reason(), Some(Reason::ShuttingDown));
    drop(stays);
    let mut log = String::new();
    let mut errors = process.child.stderr.take().unwrap();
    errors.read_to_string(&mut log).unwrap();
    let mut ends = log.lines().filter(|line| line.contains("shutting down"));
    let end: serde_json::Value = serde_json::from_str(ends.next().unwrap()).unwrap();
    let said = end.to_string();
    assert!(said.contains(r#""connections":1"#), "{said}");
}

#[tokio::test]
async fn the_fingerprint_is_the_one_that_clients_pin() {
    let folder = init();
    let process = Process::start(folder.path());
    let dir = folder.path().to_str().unwrap();
    let printed = text(&program(&["fingerprint", "--dir", dir]));
    assert_eq!(printed.trim(), process.place.fingerprint);
    assert_eq!(printed.trim().len(), 64);
    // The client of these tests checks it against the certificate that it is shown.
    Client::connect(&process.place).await;
}

#[tokio::test]
async fn logs_are_json_if_wanted_and_never_show_contents() {
    let folder = init();
    configure(folder.path(), "", "mailbox_messages = 2");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    let mut process = Process::start_logging(command, folder.path(), "trace");
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut from = Client::register(&process.place, &alice).await;
    let mut to = Client::register(&process.place, &bob).await;
    let marker = b"canary-5d1c9e02";
    for id in 0..3 {
        from.send(&bob, id, marker).await;
    }
    assert!(!to.drain(true).await.is_empty());
    from.call(Call::DeleteAccount).await;
    let signature = from.bound.login(&alice, alice.user()).signature.0;
    drop((from, to));
    terminate(&process);
    let mut log = Vec::new();
    process
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut log)
        .unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(log.lines().count() > 5, "{log}");
    for line in log.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value.get("level").is_some(), "{line}");
    }
    assert!(
        log.contains("alice") && log.contains("refused"),
        "it does say what happens"
    );
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let list = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
    for secret in [&marker[..], &signature[..32], &alice.claim.sign.0] {
        for form in [
            hex(secret),
            list(secret),
            String::from_utf8_lossy(secret).into_owned(),
        ] {
            assert!(!log.contains(&form), "{form}");
        }
    }
}

#[test]
fn the_relay_is_built_without_what_could_open_a_message() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "hostchat-relay", "-e", "normal"])
        .args(["--prefix", "none", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let tree = text(&tree);
    let has = |name: &str| {
        tree.lines()
            .any(|line| line.split(' ').next() == Some(name))
    };
    assert!(has("hostchat-core") && has("ed25519-dalek"), "{tree}");
    for forbidden in [
        "aes",
        "aes-siv",
        "ctr",
        "cmac",
        "hkdf",
        "x25519-dalek",
        "ml-kem",
        "hostchat-token",
    ] {
        assert!(!has(forbidden), "{forbidden}");
    }
}
