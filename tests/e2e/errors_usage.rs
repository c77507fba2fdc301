//! The command line: help, wrong usage, variables, secrets that are no arguments, broken outputs.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World, program};

use crate::support::{events, pair, texts};

/// `hostchat` with nothing but these arguments, at a home that is not there.
fn bare(world: &World, arguments: &[&str]) -> Ended {
    let mut command = Command::new(program("hostchat"));
    for name in ["HOSTCHAT_TOKEN", "HOSTCHAT_RELAY"] {
        command.env_remove(name);
    }
    command
        .env("HOSTCHAT_HOME", world.path("nobody"))
        .args(arguments)
        .stdin(Stdio::null());
    Running::start(&mut command).end()
}

/// The commands that the help lists.
fn commands(world: &World) -> Vec<String> {
    let help = bare(world, &["help"]).ok();
    let list = help.out.split("Commands:").nth(1).unwrap_or_default();
    let names: Vec<_> = list
        .lines()
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 13, "{names:?}");
    names
}

#[test]
fn every_command_has_help_with_an_example_and_knows_the_global_options() {
    let world = World::new();
    for name in commands(&world) {
        let help = bare(&world, &[&name, "--help"]).ok();
        let example = format!("hostchat {name}");
        let after = help.out.split("Example:").nth(1).unwrap_or_default();
        assert!(after.contains(&example), "{name}: {help}");
        for option in ["--home", "--token", "--relay", "--pin-file", "--json"] {
            assert!(help.out.contains(option), "{name}: {help}");
        }
        let same = bare(&world, &["help", &name]).ok();
        assert_eq!(same.out, help.out, "{name}");
    }
    let help = bare(&world, &["--help"]).ok();
    for words in ["whose tries are spent", "history", "exit-codes"] {
        assert!(help.out.to_lowercase().contains(words), "{words}: {help}");
    }
    assert!(!world.path("nobody").exists());
}

#[test]
fn versions_and_exit_codes_are_told() {
    let world = World::new();
    let version = bare(&world, &["--version"]).ok();
    let expected = format!(
        "hostchat {} (relay protocol {}, token protocol {})\n",
        env!("CARGO_PKG_VERSION"),
        hostchat_core::wire::relay::RELAY_VERSION,
        hostchat_core::icd::TOKEN_VERSION
    );
    assert_eq!(version.out, expected);
    let codes = bare(&world, &["exit-codes", "--json"]).ok();
    let codes: Vec<_> = events(&codes, "exit_code")
        .iter()
        .filter_map(|event| event["code"].as_u64())
        .collect();
    assert_eq!(codes, (0..=18).chain([130]).collect::<Vec<_>>());
    let help = bare(&world, &["help", "exit-codes"]).ok();
    assert!(help.out.contains("130  interrupted"), "{help}");
}

#[test]
fn wrong_usage_of_every_command_is_refused_before_anything_is_done() {
    let world = World::new();
    let wrong: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["--frobnicate", "recv"],
        &["init"],
        &["init", "--name", "alice"],
        &["init", "--relay", "127.0.0.1:1", "--name", "alice", "more"],
        &["send"],
        &["send", "bob", "text", "more"],
        &["send", "bob", "text", "--code"],
        &["send", "bob", "text", "--code", "sms"],
        &["accept", "alice", "bob"],
        &["accept", "alice", "--decline", "--code-file", "-"],
        &["accept", "alice", "--decline", "--changed"],
        &["accept", "--wait", "soon"],
        &["recv", "alice"],
        &["recv", "--follow=2"],
        &["reply", "a", "b"],
        &["contacts", "frobnicate"],
        &["contacts", "verify"],
        &["contacts", "rename", "alice"],
        &["contacts", "delete"],
        &["contacts", "block"],
        &["contacts", "unblock", "alice", "bob"],
        &["contacts", "blocked", "alice"],
        &["contacts", "import"],
        &["history", "--last", "-1"],
        &["history", "alice", "bob"],
        &["outbox", "bob"],
        &["status", "now"],
        &["account"],
        &["account", "stop"],
        &["agent"],
        &["agent", "rest"],
        &["unlock", "now"],
        &["lock", "now"],
        &["whoami", "alice"],
        &["who", "--visible", "perhaps"],
        &["change-pin", "1234"],
        &["token", "/dev/ttyACM0"],
        &["wipe", "--now"],
        &["exit-codes", "2"],
    ];
    for arguments in wrong {
        let ended = bare(&world, arguments);
        assert_eq!(ended.code(), 2, "{arguments:?}: {ended}");
        assert_eq!(ended.out, "", "{arguments:?}: {ended}");
        assert!(
            ended.err.contains("--help")
                || ended.err.contains("hint: ")
                || ended.err.contains("Usage"),
            "{arguments:?}: {ended}"
        );
        let ended = bare(&world, &[&["--json"], *arguments].concat());
        let told: serde_json::Value = serde_json::from_str(&ended.err)
            .unwrap_or_else(|why| panic!("{arguments:?}: {why}: {ended}"));
        assert_eq!(
            (told["event"].as_str(), told["code"].as_u64()),
            (Some("error"), Some(2))
        );
        assert!(
            ["message", "hint"]
                .iter()
                .all(|key| told[key].as_str().is_some_and(|text| !text.is_empty())),
            "{arguments:?}: {ended}"
        );
    }
    for name in commands(&world) {
        assert!(
            wrong
                .iter()
                .any(|arguments| arguments.first() == Some(&name.as_str())),
            "{name} is not in the list"
        );
    }
    assert!(!world.path("nobody").exists());
}

#[test]
fn pins_and_codes_are_never_arguments_and_without_a_terminal_the_option_is_named() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    for arguments in [
        &["recv", "--pin", "1234"][..],
        &["--pin", "1234", "recv"],
        &["recv", "--passphrase", "1234"],
        &["accept", "alice", "--code", "123456"],
        &["accept", "alice", "123456"],
        &["send", "bob", "text", "--code", "123456"],
        &["change-pin", "--new-pin", "1234"],
        &["init", "--name", "x", "--invitation-text", "1234"],
    ] {
        let ended = bare(&world, arguments);
        assert_eq!(ended.code(), 2, "{arguments:?}: {ended}");
    }
    let home = bob.folder.to_str().expect("UTF-8");
    bare(&world, &["--home", home, "recv"])
        .refused(
            2,
            "the passphrase is needed, and there is no terminal to ask on",
        )
        .refused(
            2,
            "hint: give it with --pin-file FILE, or --pin-file - for standard input",
        );
    bare(&world, &["--home", home, "wipe"]).refused(2, "`wipe` needs --yes");
    let alice = world.home("alice", &relay);
    let sending = alice.start(&["send", "bob", "hi", "--code", "print"]);
    crate::support::code_of(&sending);
    bob.run(&["accept", "alice"])
        .refused(2, "the code is needed, and there is no terminal to ask on")
        .refused(2, "--code-file");
    for bad in [
        "12345",
        "1234567",
        "12345a",
        "12345 and 78 more",
        "\u{1b}[2J",
    ] {
        let refused = bob
            .run_with_input(&["accept", "alice", "--code-file", "-"], bad)
            .refused(2, "a code has six digits");
        assert!(!refused.err.contains('\u{1b}'), "{refused}");
    }
    bob.run_with_input(&["accept", "alice", "--code-file", "-"], "")
        .refused(2, "no code was given");
    assert_eq!(
        events(&bob.run(&["accept", "--json"]).ok(), "request").len(),
        1,
        "none of that was a try"
    );
}

#[test]
fn options_stand_before_or_after_the_command_and_variables_stand_in_for_them() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (home, token) = (text(&alice.folder), text(&sim.link));
    let pin = text(&world.path("alice.pin"));
    let expected = alice.run(&["whoami"]).ok().out;

    let before = [
        "--home",
        &home,
        "--token",
        &token,
        "--pin-file",
        &pin,
        "whoami",
    ];
    let after = [
        "whoami",
        "--pin-file",
        &pin,
        "--token",
        &token,
        "--home",
        &home,
    ];
    let between = [
        "--home",
        &home,
        "whoami",
        "--token",
        &token,
        "--pin-file",
        &pin,
    ];
    for arguments in [&before, &after, &between] {
        assert_eq!(bare(&world, arguments).ok().out, expected, "{arguments:?}");
    }
    let with = |home: &str, token: &str, relay: &str, arguments: &[&str]| {
        let mut command = Command::new(program("hostchat"));
        command
            .env("HOSTCHAT_HOME", home)
            .env("HOSTCHAT_TOKEN", token)
            .env("HOSTCHAT_RELAY", relay)
            .args(arguments)
            .args(["--pin-file", &pin]);
        Running::start(command.stdin(Stdio::null())).end()
    };
    assert_eq!(
        with(&home, &token, &relay.address, &["whoami"]).ok().out,
        expected
    );
    // An option wins over its variable.
    let options = [
        "whoami",
        "--home",
        &home,
        "--token",
        &token,
        "--relay",
        &relay.address,
    ];
    let won = with("/nowhere", "/dev/nowhere", "127.0.0.1:1", &options).ok();
    assert_eq!(won.out, expected);
    // The relay of a new account comes from the variable, too.
    let bob = text(&world.path("bob"));
    let made = with(&bob, "", &relay.address, &["init", "--name", "bob"]).ok();
    assert!(made.out.contains("you are bob@"), "{made}");
}

#[test]
fn what_cannot_be_a_message_or_a_contact_is_refused_and_not_queued() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);

    alice
        .run(&["send", "bob", ""])
        .refused(2, "the message is empty");
    alice
        .run(&["send", "bob"])
        .refused(2, "the message is empty");
    alice.run(&["send", "bob", &"x".repeat(4001)]).refused(
        2,
        "the message has 4001 bytes, which is 1 too many: 4000 bytes fit",
    );
    alice
        .run_with_input(&["send", "bob", "-"], &"x".repeat(100_000))
        .refused(
            2,
            "the message has 100000 bytes, which is 96000 too many: 4000 bytes fit",
        );
    for blanks in [" ", " \n \t", "\u{3000}"] {
        alice
            .run_with_input(&["send", "bob"], blanks)
            .refused(2, "the message consists of blanks only");
    }
    let latin = world.path("latin1");
    fs::write(&latin, b"gr\xfc\xdfe").expect("written");
    let mut command = alice.command(&["send", "bob"]);
    Running::start(command.stdin(File::open(&latin).expect("opened")))
        .end()
        .refused(2, "not UTF-8");
    alice
        .run(&["send", "alice", "to myself"])
        .refused(2, "your own address");
    for bad in [
        "bob@",
        "@relay:1",
        "bob@@h:1",
        "b o b",
        "bob@h:99999",
        "\u{1b}c",
    ] {
        let ended = alice.run(&["send", bad, "x"]);
        assert!(matches!(ended.code(), 2 | 10), "{bad:?}: {ended}");
        assert!(!ended.err.contains('\u{1b}'), "{bad:?}: {ended}");
    }
    for arguments in [
        &["contacts", "verify", "nobody"][..],
        &["contacts", "rename", "nobody", "x"],
        &["contacts", "delete", "nobody"],
        &["contacts", "export", "nobody"],
    ] {
        alice
            .run(arguments)
            .refused(10, "nobody")
            .refused(10, "hint: `hostchat contacts` lists them");
    }
    alice
        .run_with_input(&["contacts", "import", "-"], "not an identity\u{1b}[2J\n")
        .refused(10, "this is not an exported identity")
        .refused(10, "hint: `hostchat whoami --export` makes one");
    let carol = world.home("carol", &relay);
    carol
        .run(&["reply", "to whom?"])
        .refused(15, "no message to reply to");
    carol
        .run(&["accept", "alice"])
        .refused(15, "does not ask for anything")
        .refused(15, "hint: `hostchat recv` looks for new messages");
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
    let contacts = alice.run(&["contacts", "--json"]).ok();
    let contacts = events(&contacts, "contact");
    assert_eq!(contacts.len(), 1, "{contacts:?}");
    assert_eq!(contacts[0]["outbox"], 0);
}

/// Runs `hostchat` with its standard output going to `/dev/full`, where nothing can be written.
fn run_into_full(home: &Home, arguments: &[&str]) -> Ended {
    let plain = home.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" > /dev/full", "sh"]);
    shell.arg(plain.get_program()).args(plain.get_args());
    Running::start(shell.stdin(Stdio::null())).end()
}

#[test]
fn a_message_that_could_not_be_printed_is_shown_again() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["send", "bob", "one"]).ok();
    alice.run(&["send", "bob", "two"]).ok();
    run_into_full(&bob, &["recv"])
        .refused(14, "error: ")
        .refused(14, "hint: make room on the disk");
    let received = bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["one", "two"]);
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
}
