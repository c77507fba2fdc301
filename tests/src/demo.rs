//! `cargo xtask demo`: the main job, with real processes, each step in words.
//!
//! Alice's keys are on a token (here a process behind a pseudo-terminal), bob's under a passphrase.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a step that fails ends the demo with its reason"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use hostchat_tests::{Home, Running, World, program};

const FIRST: &str = "meet at nine";
const SECOND: &str = "no code needed now";
const THIRD: &str = "see you there";
const FOURTH: &str = "shown in one terminal";
const FIFTH: &str = "written in another";

fn step(words: &str) {
    println!("\n▶ {words}");
}

fn show(output: &str) {
    for line in output.lines() {
        println!("    {line}");
    }
}

fn main() {
    let world = World::new();

    step("A relay starts on this computer: a SQLite database, TLS with a certificate of its own.");
    let mut relay = world.relay();
    show(&format!(
        "its address, with the fingerprint of its certificate:\n{}",
        relay.address
    ));

    step("Alice's key token starts: the firmware's application behind a serial port.");
    let token = world.sim("token");
    show(&format!("hostchat-sim on {}", token.link.display()));

    step(
        "Alice makes an account with her token, bob one with a software token under a passphrase.",
    );
    let alice = world.home_on("alice", &relay, &token);
    let bob = world.home("bob", &relay);
    show(&alice.run(&["whoami"]).ok().out);
    show(&bob.run(&["whoami"]).ok().out);

    step(
        "Alice writes to bob for the first time. Her token draws a code; the message waits in her outbox.",
    );
    let sending = alice.start(&["send", "bob", FIRST, "--code", "print"]);
    let code = code_of(&sending);
    show(&format!(
        "hostchat send bob \"{FIRST}\" --code print\ncode: {code}   (alice tells it to bob by SMS)"
    ));

    step("Bob sees who asks and types the code. Nobody who does not know it can be in between.");
    let code_file = world.path("code");
    std::fs::write(&code_file, &code).expect("code written");
    let accepted = bob
        .run(&[
            "accept",
            "alice",
            "--code-file",
            &code_file.to_string_lossy(),
        ])
        .ok();
    show(&format!("{}{}", accepted.err, accepted.out));
    assert!(
        accepted.out.contains(FIRST),
        "the message did not arrive: {accepted}"
    );
    let sent = sending.end().ok();
    show(&format!("at alice's: {}", sent.out));

    step("Bob is offline. Alice writes again, without a code; the relay keeps it.");
    show(&alice.run(&["send", "bob", SECOND]).ok().out);
    step("Bob comes back.");
    let received = bob.run(&["recv"]).ok();
    show(&received.out);
    assert!(
        received.out.contains(SECOND),
        "the message did not arrive: {received}"
    );

    step("Bob replies; alice waits for it with `recv --follow`.");
    let following = alice.start(&["recv", "--follow"]);
    show(&bob.run(&["reply", THIRD]).ok().out);
    show(&following.wait_out("bob's reply", |line| {
        line.contains(THIRD).then(|| line.to_owned())
    }));
    following.stop();

    step(
        "Bob starts an agent, unlocks it once, and works in two terminals: nobody asks for the passphrase again.",
    );
    let (agent, follower) = two_terminals(&bob);
    show(&alice.run(&["send", "bob", FOURTH]).ok().out);
    show(&follower.wait_out("alice's message", |line| {
        line.contains(FOURTH).then(|| line.to_owned())
    }));
    show(&beside(&bob, &["reply", FIFTH]).end().ok().out);
    show(&alice.run(&["recv"]).ok().out);
    show(&beside(&bob, &["lock"]).end().ok().out);
    follower.end();
    agent.stop();

    step("Both know that the other is verified.");
    show(&alice.run(&["contacts"]).ok().out);
    show(&bob.run(&["contacts"]).ok().out);

    step("What the relay's folder holds: searched for every text in the clear.");
    relay.stop().ok();
    let mut searched = 0;
    for text in [FIRST, SECOND, THIRD, FOURTH, FIFTH] {
        searched = search(relay.folder(), text);
    }
    assert!(searched > 10_000, "the relay's database was not found");
    show(&format!(
        "{searched} bytes in {}: none of the five texts",
        relay.folder().display()
    ));

    println!(
        "\nAll of it worked. Nothing is left running, and the folder of this demo is removed."
    );
}

/// A command that cannot ask for the passphrase.
fn beside(home: &Home, arguments: &[&str]) -> Running {
    let mut command = Command::new(program("hostchat"));
    command.arg("--home").arg(&home.folder).args(arguments);
    Running::start(command.stdin(Stdio::null()))
}

/// An agent that was unlocked, and a terminal that follows.
fn two_terminals(home: &Home) -> (Running, Running) {
    let agent = beside(home, &["agent", "run"]);
    show(&agent.wait_out("the agent", |line| Some(line.to_owned())));
    show(&home.run(&["unlock"]).ok().out);
    let follower = beside(home, &["recv", "--follow"]);
    follower.wait_err("the end of the mailbox", |line| {
        line.contains("listening at").then_some(())
    });
    (agent, follower)
}

/// The code that `send --code print` shows.
fn code_of(sending: &Running) -> String {
    sending.wait_err("the code", |line| {
        let code = line.trim().strip_prefix("code:")?.trim();
        (code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit())).then(|| code.to_owned())
    })
}

/// Searches every file of a folder for a text; gives the number of bytes looked at.
fn search(folder: &Path, text: &str) -> usize {
    let mut searched = 0;
    for entry in std::fs::read_dir(folder).expect("folder read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            searched += search(&path, text);
            continue;
        }
        // The administration's socket is no file.
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).expect("file read");
        let found = bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        if found {
            panic!("{text:?} stands in the clear in {}", path.display());
        }
        searched += bytes.len();
    }
    searched
}
