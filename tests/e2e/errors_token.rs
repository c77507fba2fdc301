//! PINs and tokens that fail: each with its message, hint and exit code, and nothing lost.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hostchat_core::icd::link::{Deframer, MAX_SERIAL, encode_serial};
use hostchat_core::icd::{FromToken, Hello, Lifecycle, TOKEN_VERSION};
use hostchat_core::wire::Bytes;
use hostchat_tests::{Ended, Home, Running, World};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::support::{code_of, events, pair, texts};

/// Runs `hostchat` in a home with another PIN than its own.
fn run_with_pin(world: &World, home: &Home, pin: &str, arguments: &[&str]) -> Ended {
    let file = world.path(&format!("{}.pin", home.name));
    let own = std::fs::read(&file).expect("PIN file");
    std::fs::write(&file, pin).expect("PIN file written");
    let ended = home.run(arguments);
    std::fs::write(&file, own).expect("PIN file written");
    ended
}

/// What the token says about its tries: in all, and now.
fn tries(home: &Home) -> (Option<u64>, Option<u64>) {
    let token = home.run(&["token", "--json"]).ok();
    let event = &events(&token, "token")[0];
    (event["tries"].as_u64(), event["tries_now"].as_u64())
}

#[test]
fn a_wrong_passphrase_is_refused_as_often_as_it_is_given_and_changes_nothing() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    let token = std::fs::read(alice.folder.join("token.flash")).expect("token file");
    for _ in 0..4 {
        let ended = run_with_pin(&world, &alice, "not it\n", &["whoami"])
            .refused(4, "error: wrong passphrase\n")
            .refused(
                4,
                "hint: try again; without the passphrase the keys are lost",
            );
        assert_eq!(ended.out, "");
    }
    let ended = run_with_pin(&world, &alice, "not it\n", &["whoami", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&ended.err).expect("one JSON line");
    assert_eq!(
        (&error["event"], &error["code"]),
        (&"error".into(), &4.into())
    );
    assert_eq!(
        std::fs::read(alice.folder.join("token.flash")).expect("token file"),
        token,
        "the token's file is as before"
    );
    run_with_pin(&world, &alice, "\n", &["whoami"]).refused(4, "the passphrase is empty");
    assert_eq!(tries(&alice), (None, None));
    alice.run(&["whoami"]).ok();
}

#[test]
fn a_wrong_pin_costs_tries_until_the_power_cycle_and_the_right_one_gives_them_back() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    assert_eq!(tries(&alice), (Some(8), Some(3)));
    for words in [
        "7 tries left, 2 of them before it has to be plugged in again",
        "6 tries left, 1 of them before it has to be plugged in again",
        "5 tries left, 0 of them before it has to be plugged in again",
    ] {
        run_with_pin(&world, &alice, "0000\n", &["whoami"])
            .refused(4, words)
            .refused(4, "hint: try again with care");
    }
    // Now not even the right one is tried.
    alice
        .run(&["whoami"])
        .refused(
            4,
            "no tries of the PIN are left until the token is plugged in again (5 in all)",
        )
        .refused(4, "hint: unplug the token, plug it in and try again");
    assert_eq!(tries(&alice), (Some(5), Some(0)));
    sim.unplug();
    sim.start_with("always");
    assert_eq!(tries(&alice), (Some(5), Some(3)));
    alice.run(&["whoami"]).ok();
    assert_eq!(tries(&alice), (Some(8), Some(3)));
}

#[test]
fn when_all_tries_are_spent_the_keys_are_gone_and_a_new_identity_begins_after_a_wipe() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let fingerprint = alice.run(&["whoami"]).ok().out;
    for wrong in 1..=8 {
        let ended = run_with_pin(&world, &alice, "0000\n", &["whoami"]);
        if wrong < 8 {
            ended.refused(4, &format!("; {} tr", 8 - wrong));
        } else {
            ended
                .refused(
                    4,
                    "no tries of the PIN are left: the token has erased its keys",
                )
                .refused(
                    4,
                    "`hostchat wipe` makes the token usable again, with a new identity",
                );
        }
        if wrong % 3 == 0 {
            sim.unplug();
            sim.start_with("always");
        }
    }
    sim.unplug();
    sim.start_with("always");
    alice.run(&["whoami"]).refused(5, "the token is blank");
    alice.run(&["wipe", "--yes", "--local"]).ok();
    alice
        .run(&["init", "--relay", &relay.address, "--name", "alice2"])
        .ok();
    let new = alice.run(&["whoami"]).ok().out;
    assert_ne!(new, fingerprint);
    assert!(new.contains("alice2@"), "{new}");
}

#[test]
fn a_token_that_is_blank_or_somebody_else_s_is_told_and_the_home_stays_as_it_is() {
    let world = World::new();
    let relay = world.relay();
    let (mut sim, other) = (world.sim("mine"), world.sim("other"));
    let alice = world.home_on("alice", &relay, &sim);
    let link = |home: &Home, to: &Path| {
        let mut command = home.command(&["whoami"]);
        command.env_remove("HOSTCHAT_TOKEN");
        let words: Vec<_> = command
            .get_args()
            .map(|word| {
                if Path::new(word) == sim.link {
                    to.as_os_str().to_owned()
                } else {
                    word.to_owned()
                }
            })
            .collect();
        let mut changed = std::process::Command::new(command.get_program());
        Running::start(changed.args(words).stdin(std::process::Stdio::null())).end()
    };
    link(&alice, &other.link)
        .refused(5, "the token is blank")
        .refused(5, "hint: plug in the token of this home");
    // The other token gets the same PIN, and is still not the one.
    let bob = world.home_on("bob", &relay, &other);
    let pin = std::fs::read_to_string(world.path("alice.pin")).expect("PIN");
    std::fs::write(world.path("new.pin"), &pin).expect("PIN written");
    let new = world.path("new.pin");
    let new = new.to_str().expect("UTF-8");
    bob.run(&["change-pin", "--new-pin-file", new]).ok();
    link(&alice, &other.link)
        .refused(12, "sealed by another token")
        .refused(12, "hint: plug in the right token");
    alice.run(&["whoami"]).ok();
    sim.unplug();
}

#[test]
fn a_token_unplugged_in_the_middle_loses_nothing() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    pair(&world, &alice, &bob);
    sim.unplug();
    sim.start_with("never");

    let sending = alice.start(&["send", "bob", "before the cable was cut", "--code", "print"]);
    sending.wait_err("the wait for a press", |line| {
        line.contains("press the button of the token").then_some(())
    });
    sim.unplug();
    sending.end().refused(5, "was unplugged").refused(
        5,
        "hint: plug the token in; the message waits in the outbox: ",
    );
    alice
        .run(&["send", "bob", "no token"])
        .refused(5, "cannot open the token at")
        .refused(5, "hint: is it plugged in?");
    sim.start_with("always");
    alice.run(&["send", "bob", "plugged in again"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["before the cable was cut", "plugged in again"]
    );
}

#[test]
fn a_press_that_does_not_come_ends_the_command_and_keeps_the_message() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    sim.unplug();
    sim.start_with("never");

    // Ctrl-C cancels the wait.
    let sending = alice.start(&["send", "bob", "one", "--code", "print"]);
    sending.wait_err("the wait for a press", |line| {
        line.contains("press the button of the token").then_some(())
    });
    sending.signal(Signal::INT);
    sending.end().refused(130, "interrupted");
    alice
        .run(&["send", "bob", "two", "--code", "print"])
        .refused(13, "the token was not touched in time")
        .refused(13, "press the token's button when its light shows waiting");
    sim.unplug();
    sim.start_with("always");
    let sending = alice.start(&["send", "bob", "three", "--code", "print"]);
    let accepted = bob
        .run_with_input(
            &["accept", "alice", "--code-file", "-", "--json"],
            &code_of(&sending),
        )
        .ok();
    sending.end().ok();
    let mut all = texts(&accepted);
    all.extend(texts(&bob.run(&["recv", "--json"]).ok()));
    assert_eq!(all, ["one", "two", "three"]);
}

#[test]
fn a_home_tells_which_kind_of_token_it_belongs_to() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    let link = sim.link.to_str().expect("UTF-8");
    bob.run(&["whoami", "--token", link])
        .refused(5, "this home belongs to its own software token")
        .refused(5, "leave --token out and unset HOSTCHAT_TOKEN");
    // An empty variable says the same as none.
    let mut without = bob.command(&["whoami"]);
    for name in ["HOSTCHAT_HOME", "HOSTCHAT_TOKEN", "HOSTCHAT_RELAY"] {
        without.env(name, "");
    }
    Running::start(&mut without).end().ok();
    let mut command = std::process::Command::new(hostchat_tests::program("hostchat"));
    command
        .arg("whoami")
        .env("HOSTCHAT_HOME", &alice.folder)
        .env_remove("HOSTCHAT_TOKEN")
        .stdin(std::process::Stdio::null());
    Running::start(&mut command)
        .end()
        .refused(5, "this home belongs to a hardware token")
        .refused(5, "hint: name its port with --token or HOSTCHAT_TOKEN");
}

/// The token's end of a pseudo-terminal, and the path of the other.
pub(crate) fn port() -> (OwnedFd, PathBuf) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("a pseudo-terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let mut modes = tcgetattr(&master).expect("modes");
    modes.make_raw();
    tcsetattr(&master, OptionalActions::Now, &modes).expect("raw");
    let path = ptsname(&master, Vec::new()).expect("a name");
    (master, PathBuf::from(path.to_string_lossy().into_owned()))
}

/// Runs `hostchat init` on a token that answers every frame with what `answer` makes of its sequence number.
fn init_on(answer: impl Fn(u8) -> Vec<u8> + Send + 'static) -> Ended {
    let world = World::new();
    let (master, path) = port();
    let mut reader = std::fs::File::from(master);
    let mut writer = reader.try_clone().expect("cloned");
    std::thread::spawn(move || {
        let mut deframer = Deframer::new();
        let mut byte = [0];
        loop {
            match reader.read(&mut byte) {
                Ok(1..) => {}
                // Nobody has the other end open yet, or any more.
                Err(error) if error.raw_os_error() == Some(5) => std::thread::yield_now(),
                _ => return,
            }
            if let Some(Ok((sequence, _))) = deframer.push(byte[0]) {
                let _ = writer.write_all(&answer(sequence));
            }
        }
    });
    let home = world.bare_home("alice", Some(path));
    let ended = home.run(&["init", "--relay", "127.0.0.1:9", "--name", "alice"]);
    assert!(!home.folder.join("config.toml").exists(), "{ended}");
    ended
}

fn hello(version: u8) -> impl Fn(u8) -> Vec<u8> {
    move |sequence| {
        let hello = FromToken::Hello(Hello {
            version,
            lifecycle: Lifecycle::Blank,
            token_id: Bytes([0; 16]),
            salt: Bytes([0; 16]),
            tries: 8,
            tries_now: 3,
            firmware: heapless::String::new(),
            board: heapless::String::new(),
        });
        let mut frame = heapless::Vec::<u8, MAX_SERIAL>::new();
        encode_serial(sequence, &hello, &mut frame).expect("encodes");
        frame.to_vec()
    }
}

#[test]
fn a_token_of_another_version_is_refused_with_what_to_update() {
    init_on(hello(TOKEN_VERSION + 1))
        .refused(5, "the token speaks protocol version 3, this program 2")
        .refused(5, "hint: update hostchat");
    init_on(hello(TOKEN_VERSION - 1))
        .refused(5, "the token speaks protocol version 1, this program 2")
        .refused(5, "hint: update the token's firmware");
}

#[test]
fn what_answers_like_no_token_is_told() {
    // A frame with a message that no token sends.
    init_on(|sequence| {
        let mut frame = heapless::Vec::<u8, MAX_SERIAL>::new();
        encode_serial(sequence, &[0xff_u8; 32], &mut frame).expect("encodes");
        frame.to_vec()
    })
    .refused(5, "is not a hostchat token of protocol version 2")
    .refused(5, "hint: check --token");
    // A modem, perhaps: bytes, and never a frame.
    init_on(|_| b"\x1b]0;AT OK\r\n\0".to_vec())
        .refused(5, "does not answer")
        .refused(
            5,
            "hint: unplug it and plug it in again; is this port really the token's?",
        );
    init_on(|_| Vec::new()).refused(5, "does not answer");
}
