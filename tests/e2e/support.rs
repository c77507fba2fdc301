//! What several tests do: pair two people, read events.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World, program};
use rustix::process::geteuid;
use serde_json::Value;

/// The code that `send --code print` shows.
pub(crate) fn code_of(sending: &Running) -> String {
    sending.wait_err("the code", |line| {
        let code = line.trim().strip_prefix("code:")?.trim();
        (code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit())).then(|| code.to_owned())
    })
}

/// Pairs by code; the message that carries it is `hello`.
pub(crate) fn pair(_world: &World, alice: &Home, bob: &Home) {
    let sending = alice.start(&["send", &bob.name, "hello", "--code", "print"]);
    let code = code_of(&sending);
    let accepted = bob
        .run_with_input(
            &["accept", &alice.name, "--code-file", "-", "--json"],
            &code,
        )
        .ok();
    assert_eq!(texts(&accepted), ["hello"]);
    sending.end().ok();
}

/// The events of one kind that a program printed with `--json`.
pub(crate) fn events(ended: &Ended, kind: &str) -> Vec<Value> {
    ended
        .json()
        .into_iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

/// The texts of the messages that a program printed with `--json`.
pub(crate) fn texts(ended: &Ended) -> Vec<String> {
    events(ended, "message")
        .iter()
        .map(|event| event["text"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// A six-digit code that is not `code`.
pub(crate) fn other_code(code: &str) -> String {
    let number: u32 = code.parse().unwrap_or_default();
    format!("{:06}", (number + 1) % 1_000_000)
}

/// A number that a variable of the environment sets.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Texts in the history of a home, each with `in`, or with what became of it: `confirmed`, `not confirmed`, `never confirmed`.
pub(crate) fn history(home: &Home, peer: &str) -> Vec<(String, String)> {
    let shown = home.run(&["history", peer, "--json"]).ok();
    let events = events(&shown, "history").into_iter();
    events
        .map(|event| {
            let text = event["text"].as_str().unwrap_or_default().to_owned();
            let state = match event["state"].as_str() {
                Some(state) => state,
                None if event["direction"] == "in" => "in",
                None => "confirmed",
            };
            (text, state.to_owned())
        })
        .collect()
}

/// Those texts with that state, as [`history`] gives them.
pub(crate) fn all(state: &str, texts: &[&str]) -> Vec<(String, String)> {
    let texts = texts.iter();
    texts
        .map(|text| ((*text).to_owned(), state.to_owned()))
        .collect()
}

/// Runs `hostchat` as nobody, from a copy in a folder that nobody can reach; where the tests do not run as root, as who runs them.
pub(crate) fn as_nobody(arguments: &[&str]) -> Ended {
    let folder = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o777))
        .tempdir()
        .expect("a folder");
    let copy = folder.path().join("hostchat");
    std::fs::copy(program("hostchat"), &copy).expect("a copy of the program");
    let mut command = Command::new(&copy);
    command
        .args(arguments)
        .env("HOSTCHAT_HOME", folder.path().join("home"))
        .env_remove("HOSTCHAT_TOKEN")
        .current_dir(folder.path())
        .stdin(Stdio::null());
    if geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    Running::start(&mut command).end()
}
