//! Codes that are wrong, late, or of somebody who has gone; an identity that has changed.

use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Relay, Running, World};
use rustix::process::Signal;

use crate::clock::with_clock;
use crate::support::{code_of, events, other_code, pair, texts};

/// Types codes for alice's request, each in turn.
fn accept(bob: &Home, codes: &[&str]) -> Ended {
    let lines: String = codes.iter().map(|code| format!("{code}\n")).collect();
    bob.run_with_input(&["accept", "alice", "--code-file", "-", "--json"], &lines)
}

/// How many messages wait in the outbox for a contact.
fn waiting_for(home: &Home, name: &str) -> u64 {
    let contacts = home.run(&["contacts", "--json"]).ok();
    events(&contacts, "contact")
        .iter()
        .find(|contact| contact["name"] == name)
        .and_then(|contact| contact["outbox"].as_u64())
        .unwrap_or_default()
}

fn status_of(home: &Home, name: &str) -> String {
    let contacts = home.run(&["contacts", "--json"]).ok();
    events(&contacts, "contact")
        .iter()
        .find(|contact| contact["name"] == name)
        .and_then(|contact| contact["status"].as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn start_sending(alice: &Home, text: &str) -> (Running, String) {
    let sending = alice.start(&["send", "bob", text, "--code", "print"]);
    let code = code_of(&sending);
    (sending, code)
}

/// What `accept` showed, and what came after it.
fn all_texts(accepted: &Ended, home: &Home) -> Vec<String> {
    let mut all = texts(accepted);
    all.extend(texts(&home.run(&["recv", "--json"]).ok()));
    all
}

/// The events `wrong_code` of a program: how many runs were left after each.
fn runs_left(ended: &Ended) -> Vec<u64> {
    events(ended, "wrong_code")
        .iter()
        .filter_map(|event| event["runs_left"].as_u64())
        .collect()
}

#[test]
fn after_a_wrong_code_both_ends_say_what_is_left_and_the_right_code_still_works() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let (sending, code) = start_sending(&alice, "second try");
    let accepted = accept(&bob, &[&other_code(&code), &code]).ok();
    assert_eq!(runs_left(&accepted), [2]);
    assert_eq!(texts(&accepted), ["second try"]);
    let sent = sending.end().ok();
    assert!(
        sent.err.contains("wrong code for bob@") && sent.err.contains("2 left of three tries"),
        "{sent}"
    );
    for (home, other) in [(&alice, "bob"), (&bob, "alice")] {
        assert_eq!(status_of(home, other), "verified by code");
    }
}

#[test]
fn a_wrong_code_ends_the_command_without_more_codes_and_the_next_command_has_one_run_less() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let (sending, code) = start_sending(&alice, "third try");
    let wrong = other_code(&code);
    for left in ["2 tries left for this code", "1 try left for this code"] {
        let refused = bob
            .run_with_input(
                &["accept", "alice", "--wait", "60", "--code-file", "-"],
                &wrong,
            )
            .refused(9, left)
            .refused(9, "hint: run `hostchat accept` again");
        assert_eq!(refused.out, "", "{refused}");
    }
    // Each `accept` was a program of its own: starting anew gives no try back.
    let accepted = bob
        .run_with_input(
            &[
                "accept",
                "alice",
                "--wait",
                "60",
                "--code-file",
                "-",
                "--json",
            ],
            &code,
        )
        .ok();
    assert_eq!(texts(&accepted), ["third try"]);
    sending.end().ok();
}

#[test]
fn three_wrong_codes_kill_a_code_and_a_new_one_delivers_what_waited() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let (sending, code) = start_sending(&alice, "kept");
    let wrong = other_code(&code);
    let refused = accept(&bob, &[&wrong, &wrong, &wrong, &code]);
    assert_eq!(runs_left(&refused), [2, 1, 0], "{refused}");
    refused
        .refused(9, "this code is dead")
        .refused(9, "ask the sender for a new code");
    sending
        .end()
        .refused(
            9,
            "wrong code, or somebody is in between: this code is dead",
        )
        .refused(9, "makes a code");
    assert_eq!(waiting_for(&alice, "bob"), 1);

    // Bob's token has given three answers that nobody confirmed: no fourth within ten minutes, restarted or not.
    let (sending, code) = start_sending(&alice, "with the second code");
    for _ in 0..2 {
        let refused = accept(&bob, &[&code]);
        assert_eq!(refused.code(), 9, "{refused}");
        assert!(
            refused
                .err
                .contains("three codes were typed within ten minutes"),
            "{refused}"
        );
        let hint = refused.err.split("\"wait ").nth(1).unwrap_or_default();
        let seconds: u32 = hint
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .expect("the seconds to wait");
        assert!((500..=600).contains(&seconds), "{refused}");
    }
    if !can_shift_time() {
        println!("no time namespaces here: the end of the ten minutes is tested in the token only");
        return;
    }
    // Ten minutes later.
    let code_file = world.path("code");
    std::fs::write(&code_file, &code).expect("code written");
    let accept = bob.command(&["accept", "alice", "--json", "--code-file"]);
    let accepted = Running::start(later(&accept, 601).arg(&code_file))
        .end()
        .ok();
    sending.end().ok();
    assert_eq!(all_texts(&accepted, &bob), ["kept", "with the second code"]);
    assert_eq!(waiting_for(&alice, "bob"), 0);
}

#[test]
fn when_the_sender_s_program_ends_the_code_is_dead_and_the_message_waits() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let (sending, code) = start_sending(&alice, "interrupted");
    // Bob's program has the request in hand when it opens the file with the code, which is a pipe.
    let fifo = world.path("code");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    let mut command = bob.command(&["accept", "alice", "--json", "--code-file"]);
    let accepting = Running::start(command.arg(&fifo));
    let mut typing = std::fs::OpenOptions::new()
        .write(true)
        .open(&fifo)
        .expect("the pipe is read");
    sending.signal(Signal::INT);
    let ended = sending.end().refused(130, "interrupted");
    assert!(
        ended.err.contains("the message for bob@") && ended.err.contains("stays in the outbox"),
        "{ended}"
    );
    std::io::Write::write_all(&mut typing, format!("{code}\n").as_bytes()).expect("code typed");
    drop(typing);
    accepting
        .end()
        .refused(9, "\"message\":\"alice@")
        .refused(9, "ended the pairing");
    assert_eq!(waiting_for(&alice, "bob"), 1);
    assert_eq!(status_of(&bob, "alice"), "", "no contact came of it");

    // As well when the request and its end are found together.
    let (sending, _) = start_sending(&alice, "and once more");
    sending.signal(Signal::INT);
    sending.end().refused(130, "interrupted");
    bob.run(&["accept"])
        .refused(9, "error: alice@")
        .refused(9, "ended the pairing")
        .refused(9, "hint: ask alice@");
    bob.run(&["accept", "alice"])
        .refused(15, "does not ask for anything");

    // The next code delivers all, in the order in which they were written.
    let (sending, second) = start_sending(&alice, "and again");
    let accepted = accept(&bob, &[&second]).ok();
    sending.end().ok();
    assert_eq!(
        all_texts(&accepted, &bob),
        ["interrupted", "and once more", "and again"]
    );
}

#[test]
fn a_code_whose_sender_was_killed_opens_nothing() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let (sending, code) = start_sending(&alice, "killed");
    sending.kill();
    // Nobody told bob: he types it and waits for a confirmation that cannot come, until he gives up.
    let accepting = {
        let (running, mut typing) =
            bob.start_with_pipe(&["accept", "alice", "--code-file", "-", "--json"]);
        std::io::Write::write_all(&mut typing, format!("{code}\n").as_bytes()).expect("typed");
        running
    };
    accepting.wait_out("the wait for a confirmation", |line| {
        line.contains("\"confirmation\"").then_some(())
    });
    // Alice's program does not know the code any more: with the answer in her mailbox nothing opens.
    alice.run(&["recv"]).ok();
    accepting.signal(Signal::INT);
    accepting.end().refused(130, "interrupted");
    assert_ne!(status_of(&alice, "bob"), "verified by code");
    assert_eq!(waiting_for(&alice, "bob"), 1);

    let (sending, second) = start_sending(&alice, "the new code");
    let accepted = accept(&bob, &[&second]).ok();
    sending.end().ok();
    assert_eq!(all_texts(&accepted, &bob), ["killed", "the new code"]);
}

#[test]
fn a_code_whose_sender_was_killed_is_waited_for_no_longer_than_it_can_live() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let (sending, code) = start_sending(&alice, "killed");
    bob.run(&["recv"]).ok();
    sending.kill();
    // Nine and a half minutes later bob types it: what is left of its life is waited for, and not ten minutes more.
    let file = world.path("code");
    std::fs::write(&file, &code).expect("written");
    let arguments = ["accept", "alice", "--code-file", &file.to_string_lossy()];
    let ended = with_clock("+570s", &bob, &arguments);
    ended
        .refused(9, "error: nothing came from alice@")
        .refused(9, "its code has expired by now")
        .refused(9, "hint: alice@")
        .refused(9, "Ask for a new one");
    // The text was kept, and a new code delivers it.
    let sending = alice.start(&["send", "bob", "--code", "print"]);
    let accepted = accept(&bob, &[&code_of(&sending)]).ok();
    sending.end().ok();
    assert_eq!(all_texts(&accepted, &bob), ["killed"]);
}

#[test]
fn a_message_for_a_relay_that_is_down_leaves_later_and_in_order() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);

    relay.stop();
    for text in ["first", "second"] {
        alice
            .run(&["send", "bob", text])
            .refused(
                8,
                "not sent yet, kept in the outbox: cannot reach the relay",
            )
            .refused(8, "hint: it leaves with the next `hostchat send` or `recv`");
    }
    bob.run(&["recv"])
        .refused(6, "cannot reach the relay")
        .refused(6, "is the relay running");
    assert_eq!(waiting_for(&alice, "bob"), 2);
    relay.start();
    alice.run(&["send", "bob", "third"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["first", "second", "third"]
    );

    relay.stop();
    alice.run(&["send", "bob", "fourth"]).refused(8, "outbox");
    relay.start();
    // Receiving sends what is due, too.
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["fourth"]);
}

/// Frees a name, as an operator does after the loss of a token.
fn free_name(relay: &mut Relay, name: &str) {
    relay.stop();
    let database = rusqlite::Connection::open(relay.folder().join("relay.db")).expect("database");
    let freed = database
        .execute("DELETE FROM account WHERE name = ?1", [name])
        .expect("a row deleted");
    assert_eq!(freed, 1);
    drop(database);
    relay.start();
}

#[test]
fn a_changed_identity_stops_sending_until_it_is_accepted() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);

    bob.run(&["wipe", "--yes", "--local"]).ok();
    bob.run(&["init", "--relay", &relay.address, "--name", "bob"])
        .refused(7, "the name belongs to another identity")
        .refused(7, "hint: choose another --name");
    assert!(
        !bob.folder.join("vault.db").exists() || !bob.run(&["whoami"]).status.success(),
        "a refused init is not an account"
    );
    free_name(&mut relay, "bob");
    bob.init(&relay);

    for _ in 0..2 {
        alice
            .run(&["send", "bob", "is it still you?"])
            .refused(11, "the identity of bob@")
            .refused(11, "has changed")
            .refused(11, "whether the token or computer was replaced");
    }
    assert_eq!(waiting_for(&alice, "bob"), 2);
    alice
        .run(&["send", "bob", "code?", "--code", "print"])
        .refused(11, "has changed");
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
    // To send it without a code is refused as well, and changes nothing of that.
    let refused = alice.run_with_input(&["send", "bob", "--code", "none"], "");
    refused.refused(11, "has changed");
    let contacts = alice.run(&["contacts", "--json"]).ok();
    assert_eq!(
        events(&contacts, "contact")[0]["changed"],
        true,
        "{contacts}"
    );

    // What was written to leave after a code stays, with what is behind it, until there is one or alice gives up the code.
    alice
        .run(&["send", "bob", "welcome back", "--changed"])
        .refused(10, "waits for a code");
    assert_eq!(waiting_for(&alice, "bob"), 2);
    alice
        .run_with_input(&["send", "bob", "--code", "none"], "")
        .ok();
    assert_eq!(status_of(&alice, "bob"), "unverified", "the mark is reset");
    let accepted = bob.run(&["accept", "alice", "--json"]).ok();
    assert_eq!(
        texts(&accepted),
        [
            "is it still you?",
            "is it still you?",
            "code?",
            "welcome back"
        ]
    );
    bob.run(&["reply", "it is me"]).ok();
    assert_eq!(texts(&alice.run(&["recv", "--json"]).ok()), ["it is me"]);
}

#[test]
fn a_changed_identity_can_be_accepted_with_a_code_and_is_verified_then() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    bob.run(&["wipe", "--yes", "--local"]).ok();
    free_name(&mut relay, "bob");
    bob.init(&relay);

    // Now bob asks, with a code: alice is told that this is another identity, and types nothing unasked.
    let sending = bob.start(&["send", "alice", "new token", "--code", "print"]);
    let code = code_of(&sending);
    alice
        .run_with_input(&["accept", "bob", "--code-file", "-"], &code)
        .refused(11, "the identity of bob@");
    let accepted = alice
        .run_with_input(
            &["accept", "bob", "--changed", "--code-file", "-", "--json"],
            &code,
        )
        .ok();
    assert_eq!(texts(&accepted), ["new token"]);
    sending.end().ok();
    assert_eq!(status_of(&alice, "bob"), "verified by code");
    alice.run(&["send", "bob", "fine"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["fine"]);
}

fn shifting(seconds: u32) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--time", "--boottime", &seconds.to_string(), "--"]);
    command
}

/// `command` with a clock (the time since boot) that is `seconds` ahead.
fn later(command: &Command, seconds: u32) -> Command {
    let mut shifted = shifting(seconds);
    shifted.arg(command.get_program()).args(command.get_args());
    shifted.stdin(Stdio::null());
    shifted
}

/// Whether this system lets us have a clock of our own.
fn can_shift_time() -> bool {
    shifting(1)
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
