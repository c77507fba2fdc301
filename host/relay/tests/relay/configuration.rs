//! `check --config`, the lines of the log about refusals and limits, and the sample alerts: what an operator looks at
//! before and after a start.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use hostchat_core::wire::relay::{Account, Call, Reason};
use serde_json::Value;

use crate::client::{Client, Person};
use crate::harness::{Process, TestRelay, configure, init, program};
use crate::operator::raw;
use crate::page::{PASSWORD, set_password};

fn check(folder: &Path) -> Output {
    program(&["check", "--config", "--dir", folder.to_str().unwrap()])
}

/// What it says where a relay could start.
#[track_caller]
fn good(folder: &Path) -> String {
    let output = check(folder);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.ends_with("good: a relay can start with this\n"),
        "{text}"
    );
    text
}

#[track_caller]
fn fails(output: &Output, code: i32, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(error.contains(says) && error.contains("hint: "), "{error}");
}

#[test]
fn check_config_says_what_a_relay_would_start_with_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let made = program(&["init", "--dir", dir, "--name", "chat.example:7443"]);
    assert!(made.status.success(), "{made:?}");
    let text = good(folder.path());
    for says in [
        "listens on: 0.0.0.0:7443\n",
        "clients dial: chat.example:7443\n",
        "registration: open\n",
        "certificate: self-signed, clients pin its fingerprint\n",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let fingerprint = program(&["fingerprint", "--dir", dir]).stdout;
    let fingerprint = String::from_utf8(fingerprint).unwrap();
    assert!(text.contains(fingerprint.trim()), "{text}");
    assert!(!text.contains("note: "), "{text}");
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["cert.pem", "key.pem", "relay.toml"]);
}

#[test]
fn check_config_refuses_what_run_would_refuse() {
    fails(&check(Path::new("/nowhere")), 3, "no relay in");
    let folder = init();
    let toml = folder.path().join("relay.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    for (line, says) in [
        ("listn = 1", "listn"),
        ("operator_names = [\"A\"]", "host name in lower case"),
        (
            "[nats]\nservers = [\"tls://h:1\", \"nats://h:2\"]",
            "begin all of them with tls://",
        ),
    ] {
        configure(folder.path(), line, "");
        fails(&check(folder.path()), 3, says);
        std::fs::write(&toml, &text).unwrap();
    }
    let nats = "store = \"nats\"\n[nats]\nservers = [\"tls://h:1\"]\n";
    for line in ["ca = \"nofile.pem\"", "credentials = \"nofile.pem\""] {
        configure(folder.path(), &format!("{nats}{line}"), "");
        fails(&check(folder.path()), 1, "nofile.pem");
        std::fs::write(&toml, &text).unwrap();
    }
    configure(folder.path(), "", "memory_mib = 1");
    fails(&check(folder.path()), 2, "no connection fits into 1 MiB");
    std::fs::write(&toml, text.replace("127.0.0.1:0", "0.0.0.0:7443")).unwrap();
    fails(&check(folder.path()), 2, "nobody can dial");
    std::fs::write(&toml, &text).unwrap();

    // A key that belongs to another certificate, and none.
    let other = init();
    let key = folder.path().join("key.pem");
    std::fs::copy(other.path().join("key.pem"), &key).unwrap();
    fails(&check(folder.path()), 6, "cert.pem");
    std::fs::remove_file(&key).unwrap();
    fails(&check(folder.path()), 6, "key.pem");
}

#[test]
fn check_config_notes_what_does_not_fit_together() {
    let folder = init();
    let noted = |before: &str, limits: &str, says: &[&str]| {
        let toml = folder.path().join("relay.toml");
        let text = std::fs::read_to_string(&toml).unwrap();
        configure(folder.path(), before, limits);
        let shown = good(folder.path());
        for note in says {
            assert!(shown.contains(&format!("note: {note}")), "{note}: {shown}");
        }
        std::fs::write(&toml, text).unwrap();
    };
    noted(
        "operator = \"0.0.0.0:9443\"",
        "",
        &["others can reach the operator's listener"],
    );
    noted("database = \"gone/relay.db\"", "", &["there is no folder"]);
    noted(
        "[audit]\nlog_days = 7",
        "",
        &["it is kept for 7 days who wrote to whom"],
    );
    noted("", "blobs_mib = 16384\n#", &["files may fill the database"]);
    noted("", "sender_percent = 300", &["a share of a mailbox"]);
    noted("", "connections = 100000\n#", &["only "]);
    let key = folder.path().join("key.pem");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    set_password(folder.path(), PASSWORD);
    noted(
        "",
        "",
        &[
            "others can read ",
            "there is an operator's password, but no page",
        ],
    );
    // `run` says it too.
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    let mut relay = Process::start_logging(command, folder.path(), "warn");
    let mut line = String::new();
    let mut log = BufReader::new(relay.child.stderr.take().unwrap());
    log.read_line(&mut line).unwrap();
    assert!(
        line.contains("others can read the key") && line.contains("chmod 600"),
        "{line}"
    );
}

/// Puts a certificate of an authority of this test into a relay's folder.
fn certify(folder: &Path, names: &[&str], from: (i32, u8, u8), until: (i32, u8, u8)) {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "an authority");
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    params
        .distinguished_name
        .push(DnType::CommonName, "a relay");
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn check_config_looks_at_the_names_and_the_end_of_a_certificate_of_an_authority() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let made = program(&["init", "--dir", dir, "--name", "chat.example:7443"]);
    assert!(made.status.success(), "{made:?}");
    let (past, far) = ((2020, 1, 1), (2090, 1, 1));
    for (names, from, until, note) in [
        (&["chat.example"][..], past, far, None),
        (&["*.example", "10.0.0.1"], past, far, None),
        (
            &["other.example"],
            past,
            far,
            Some("the certificate is not for chat.example"),
        ),
        (
            &["*.chat.example"],
            past,
            far,
            Some("the certificate is not for chat.example"),
        ),
        (
            &["chat.example"],
            past,
            (2021, 1, 1),
            Some("the certificate is over"),
        ),
        (
            &["chat.example"],
            (2089, 1, 1),
            far,
            Some("the certificate is valid only from"),
        ),
    ] {
        certify(folder.path(), names, from, until);
        let text = good(folder.path());
        assert!(
            text.contains("certificate: of an authority, valid until "),
            "{text}"
        );
        match note {
            Some(note) => assert!(text.contains(&format!("note: {note}")), "{note}: {text}"),
            None => assert!(!text.contains("the certificate is"), "{text}"),
        }
    }
}

#[tokio::test]
async fn refused_logins_and_limits_are_logged_at_info_without_a_flood_or_a_secret() {
    const TRIES: usize = 60;
    let folder = init();
    configure(
        folder.path(),
        "",
        "sends = { burst = 2, per_minute = 1 }\nconnections_per_address = 8\nregistrations = { burst = 1, per_minute = 0 }\n#",
    );
    let toml = folder.path().join("relay.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, text.replace("\"open\"", "\"invitation\"")).unwrap();
    let dir = folder.path().to_str().unwrap();
    let words = program(&["invite", "--dir", dir]).stdout;
    let words = String::from_utf8(words).unwrap().trim().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostchat-relay"));
    command.stderr(Stdio::piped());
    let began = Instant::now();
    let mut relay = Process::start_logging(command, folder.path(), "info");
    let log = BufReader::new(relay.child.stderr.take().unwrap());
    let log = std::thread::spawn(move || {
        let lines = log.lines().map_while(Result::ok);
        lines
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect::<Vec<Value>>()
    });
    let alice = Person::new("alice");
    let invited = |words: &str| Account::Register {
        name: alice.name.clone(),
        invitation: words.bytes().collect(),
    };
    let mut client = Client::connect(&relay.place).await;
    let login = client.bound.login(&alice, invited(&words));
    assert_eq!(client.call(Call::Login(login)).await.reason(), None);
    let bob = Person::new("bob");
    for n in 0..TRIES {
        // Not bound to the right key: what an invitation is worth nothing for.
        let mut other = Client::connect(&relay.place).await;
        let account = Account::Register {
            name: bob.name.clone(),
            invitation: b"canary-invitation".iter().copied().collect(),
        };
        let login = other.bound.login(&bob, account);
        let got = other.call(Call::Login(login)).await;
        assert_eq!(got.reason(), Some(Reason::RegistrationClosed));
        let got = client.send(&alice, n as u128, b"canary-body").await;
        assert_eq!(got.is_stored(), n < 2, "{got:?}");
    }
    // More than the relay takes from one address.
    let mut held = Vec::new();
    for _ in 0..TRIES {
        held.push(std::net::TcpStream::connect(relay.place.dial).unwrap());
    }
    let mut ended = 0;
    for stream in &mut held {
        // Those that are turned away end at once.
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_millis(200)))
            .unwrap();
        ended += usize::from(matches!(std::io::Read::read(stream, &mut [0; 1]), Ok(0)));
    }
    assert!(ended >= TRIES - 8, "{ended}");
    relay.child.kill().unwrap();
    let lines = log.join().unwrap();
    // Five of each kind, and one for each ten seconds that a slow machine took.
    let most = 6 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    for (message, reason, account) in [
        ("login refused", "RegistrationClosed", Some("bob")),
        ("limit reached", "RateLimited", Some("alice@")),
        (
            "limit reached: a connection is turned away",
            "TooManyConnections",
            None,
        ),
    ] {
        let of = |line: &&Value| line["message"] == message && line["reason"] == reason;
        let told: Vec<_> = lines.iter().filter(of).collect();
        assert!(told.len() >= 5 && told.len() <= most, "{message}: {told:?}");
        for line in told {
            assert_eq!(line["level"], "INFO");
            assert!(line["unlogged"].is_u64(), "{line}");
            let who = line["account"].as_str();
            assert!(account.is_none() == who.is_none(), "{line}");
            assert!(
                who.unwrap_or_default()
                    .starts_with(account.unwrap_or_default())
            );
        }
    }
    let all = format!("{lines:?}");
    for secret in ["canary", &words] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn every_metric_and_reason_of_the_sample_alerts_exists() {
    let relay = TestRelay::start(|config| {
        config.operator = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let metrics = raw(relay.operator.unwrap(), request).await;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("hostchat_relay_"));
    let there: BTreeSet<&str> = lines
        .filter_map(|line| line.split([' ', '{']).next())
        .collect();
    assert!(there.len() > 20, "{there:?}");
    let alerts = include_str!("../../packaging/alerts.yml");
    let rules: String = alerts
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<&str> = rules
        .split(|c| !is_name(c))
        .filter(|word| word.starts_with("hostchat_relay_"))
        .collect();
    assert!(named.len() >= 8, "{named:?}");
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for label in rules.split("reason=").skip(1) {
        let value = label.trim_start_matches('~').trim_start_matches('"');
        for reason in value.split('"').next().unwrap().split('|') {
            assert!(
                metrics.contains(&format!("{{reason=\"{reason}\"}}")),
                "{reason}"
            );
        }
    }
    assert_eq!(
        rules.matches("- alert: ").count(),
        rules.matches("action: ").count()
    );
}
