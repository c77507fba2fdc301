//! Ports: held by others, forbidden, no ports at all, and tokens that are unplugged while nothing is asked of them.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hostchat_tests::{Running, World};
use rustix::process::Signal;

use crate::support::{as_nobody, pair, texts};

#[test]
fn a_port_that_another_program_holds_is_told_with_the_program() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    pair(&world, &bob, &alice);
    let following = alice.start(&["recv", "--follow", "--json"]);
    bob.run(&["send", "alice", "are you there?"]).ok();
    following.wait_out("the message", |line| {
        line.contains("are you there?").then_some(())
    });

    let carol = world.bare_home("carol", Some(sim.link.clone()));
    let holder = format!("is held by hostchat (process {})", following.pid());
    carol
        .run(&["init", "--relay", &relay.address, "--name", "carol"])
        .refused(5, &holder)
        .refused(5, "hint: end that program and try again");
    following.signal(Signal::INT);
    following.end().refused(130, "interrupted");
    alice.run(&["whoami"]).ok();
}

#[test]
fn a_port_that_is_none_is_told() {
    let world = World::new();
    let file = world.path("a file");
    std::fs::write(&file, "no port").expect("written");
    for (port, words) in [
        (PathBuf::from("/dev/hostchat-is-not-here"), "No such file"),
        (file, "it is not a serial port"),
        (PathBuf::from("/dev/null"), "it is not a serial port"),
        (world.path(""), "cannot open the token at"),
    ] {
        let home = world.bare_home("alice", Some(port));
        home.run(&["init", "--relay", "127.0.0.1:9", "--name", "alice"])
            .refused(5, words)
            .refused(5, "hint: is it plugged in? --token names its port");
    }
}

#[test]
fn a_program_that_takes_what_the_token_says_is_named_and_nothing_hangs() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    pair(&world, &bob, &alice);
    let port = File::open(&sim.link).expect("the port");
    // A shell, since `cat` ends at the first read that finds nothing.
    let thief = Running::start(
        Command::new("sh")
            .args(["-c", "while :; do read -r stolen; done"])
            .stdin(Stdio::from(port)),
    );

    // Now and then the thief comes too late.
    let ended = std::iter::repeat_with(|| alice.run(&["send", "bob", "with a thief"]))
        .take(20)
        .find(|ended| ended.code() != 0)
        .expect("a thief that always comes too late");
    ended
        .refused(5, "the token at ")
        .refused(
            5,
            &format!("sh (process {}) has this port open as well", thief.pid()),
        )
        .refused(5, "end that program");
    thief.kill();
    alice.run(&["send", "bob", "without a thief"]).ok();
    let all = texts(&bob.run(&["recv", "--json"]).ok());
    assert_eq!(all.last().map(String::as_str), Some("without a thief"));
}

#[test]
fn a_token_that_is_unplugged_while_nothing_happens_is_noticed_and_the_next_plug_goes_on() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    pair(&world, &bob, &alice);
    let following = alice.start(&["recv", "--follow"]);
    following.wait_err("the end of its mailbox", |line| {
        line.contains("listening at").then_some(())
    });
    sim.unplug();
    following.wait_err("the note", |line| {
        line.contains("was unplugged; plug it in again to go on")
            .then_some(())
    });
    bob.run(&["send", "alice", "after"]).ok();
    sim.start_with("always");
    following.wait_out("the next message", |line| {
        line.contains("after").then_some(())
    });
    following.signal(Signal::INT);
    following.end().refused(130, "interrupted");
}

#[test]
fn a_token_that_is_unplugged_while_a_code_is_waited_for_ends_the_wait_and_keeps_the_message() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    let sending = alice.start(&["send", "bob", "hello", "--code", "print"]);
    sending.wait_err("the code", |line| {
        line.contains("waiting until it is typed").then_some(())
    });
    sim.unplug();
    sending
        .end()
        .refused(5, "was unplugged")
        .refused(5, "the message waits in the outbox");
    sim.start_with("always");
    let sending = alice.start(&["send", "bob", "--code", "print"]);
    let code = crate::support::code_of(&sending);
    let accepted = bob.run_with_input(&["accept", "alice", "--code-file", "-", "--json"], &code);
    assert_eq!(texts(&accepted.ok()), ["hello"]);
    sending.end().ok();
}

#[test]
fn a_port_that_may_not_be_opened_names_the_rule_that_helps() {
    let (_master, slave) = crate::errors_token::port();
    std::fs::set_permissions(&slave, Permissions::from_mode(0o000)).expect("permissions");
    let port = slave.to_str().expect("UTF-8");
    as_nobody(&["--token", port, "token", "info"])
        .refused(5, "you may not open the token's port")
        .refused(5, "permission denied")
        .refused(
            5,
            "hint: install hostchat's udev rule (70-hostchat-token.rules)",
        );
}
