//! The real program: what it says and returns for usage errors, help, and homes that cannot be used.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program in an empty environment with `home` as its home, and `input` as standard input.
fn hostchat(home: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hostchat"))
        .env_clear()
        .env("HOSTCHAT_HOME", home)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input has ended perhaps.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn version_and_help_need_no_home() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("none");
    let version = hostchat(&home, &["--version"], "");
    assert_eq!(
        (code(&version), out(&version)),
        (
            0,
            format!(
                "hostchat {} (relay protocol 2, token protocol 2)\n",
                env!("CARGO_PKG_VERSION")
            )
        )
    );
    let help = hostchat(&home, &["help"], "");
    assert_eq!(code(&help), 0);
    for command in [
        "init",
        "send",
        "accept",
        "recv",
        "reply",
        "contacts",
        "history",
        "whoami",
        "who",
        "change-pin",
        "wipe",
    ] {
        assert!(out(&help).contains(command), "{command}");
        let help = hostchat(&home, &[command, "--help"], "");
        assert_eq!(code(&help), 0, "{command}");
        assert!(out(&help).contains("Example:"), "{command}");
    }
    assert!(out(&help).contains("token that was lost"));
    assert!(!home.exists());
}

#[test]
fn exit_codes_are_listed_by_the_program_itself() {
    let dir = tempfile::tempdir().unwrap();
    let list = hostchat(dir.path(), &["exit-codes"], "");
    let help = hostchat(dir.path(), &["help", "exit-codes"], "");
    assert_eq!((code(&list), code(&help)), (0, 0));
    for line in out(&list).lines() {
        let meaning = line.split_once("  ").unwrap().1.trim();
        let first: String = meaning.chars().take(30).collect();
        assert!(out(&help).contains(&first), "{first}");
    }
    let json = hostchat(dir.path(), &["exit-codes", "--json"], "");
    assert_eq!(out(&json).lines().count(), out(&list).lines().count());
    for line in out(&json).lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["code"].is_u64() && value["meaning"].is_string());
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("none");
    for args in [
        &[][..],
        &["nonsense"],
        &["send"],
        &["recv", "--nonsense"],
        &["init"],
        &["init", "--name", "alice"],
        &[
            "init",
            "--name",
            "Not A Name",
            "--relay",
            "h:1",
            "--pin-file",
            "-",
        ],
        &[
            "init",
            "--name",
            "alice",
            "--relay",
            "h:99999",
            "--pin-file",
            "-",
        ],
        &[
            "init",
            "--name",
            "alice",
            "--relay",
            "h:1#123",
            "--pin-file",
            "-",
        ],
        &["send", "bob", "hi", "--code", "sms"],
        &["accept", "bob", "--decline", "--changed"],
        &["recv", "--pin", "1234"],
        &["accept", "bob", "--code", "123456"],
    ] {
        let output = hostchat(&home, args, "");
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(out(&output).is_empty(), "{args:?}");
        assert!(!err(&output).is_empty(), "{args:?}");
    }
    assert!(!home.exists());
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for args in [
        ["--home", a.to_str().unwrap(), "--json", "recv"],
        ["recv", "--home", a.to_str().unwrap(), "--json"],
    ] {
        let output = hostchat(&b, &args, "");
        assert_eq!(code(&output), 3);
        let error: serde_json::Value = serde_json::from_str(err(&output).trim()).unwrap();
        assert_eq!(
            (&error["event"], &error["code"]),
            (&"error".into(), &3.into())
        );
        assert!(
            error["message"].as_str().unwrap().ends_with("/a"),
            "the option goes before the environment"
        );
        assert!(error["hint"].as_str().unwrap().contains("hostchat init"));
    }
}

#[test]
fn without_an_account_every_command_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["send", "bob", "hi"][..],
        &["recv"],
        &["reply", "x"],
        &["accept"],
        &["contacts"],
        &["history"],
        &["whoami"],
        &["who"],
        &["change-pin"],
        &["token"],
        &["wipe", "--yes"],
    ] {
        let output = hostchat(&dir.path().join("none"), args, "");
        assert_eq!(code(&output), 3, "{args:?}");
        assert!(
            err(&output).contains("hint: `hostchat init"),
            "{args:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn without_a_terminal_a_pin_has_to_come_from_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["init", "--name", "alice", "--relay", "127.0.0.1:1"];
    let output = hostchat(dir.path(), &args, "a long passphrase of alice\n");
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("--pin-file"));
    let missing = hostchat(
        dir.path(),
        &[&args[..], &["--pin-file", "/nowhere/pin"]].concat(),
        "",
    );
    assert_eq!(code(&missing), 14);
    for pin in ["", "\n", "123\n"] {
        let output = hostchat(dir.path(), &[&args[..], &["--pin-file", "-"]].concat(), pin);
        assert_eq!(code(&output), 4, "{pin:?}: {}", err(&output));
    }
}

#[test]
fn a_relay_that_is_down_leaves_an_init_that_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
    let args = [
        "init",
        "--name",
        "alice",
        "--relay",
        "127.0.0.1:1",
        "--pin-file",
        "-",
    ];
    for _ in 0..2 {
        let output = hostchat(dir.path(), &args, "correct horse battery staple\n");
        assert_eq!(code(&output), 6, "{}", err(&output));
        assert!(err(&output).contains("cannot reach the relay 127.0.0.1:1"));
    }
    assert!(!dir.path().join("config.toml").exists());
    let used = hostchat(
        dir.path(),
        &["recv", "--pin-file", "-"],
        "correct horse battery staple\n",
    );
    assert_eq!(
        code(&used),
        3,
        "an account is one only when the relay knows it"
    );
}

#[test]
fn files_that_cannot_be_used_have_their_message() {
    let dir = tempfile::tempdir().unwrap();
    let config = "format = 1\nname = \"alice\"\nrelay = \"127.0.0.1:1\"\ntoken = \"software\"\nregistered = true\nvisible = true\n";
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    let missing = hostchat(
        dir.path(),
        &["recv", "--pin-file", "-"],
        "a long passphrase of alice\n",
    );
    assert_eq!(code(&missing), 5, "{}", err(&missing));
    assert!(err(&missing).contains("token.flash is missing"));
    assert!(
        !dir.path().join("token.flash").exists(),
        "only init makes one"
    );
    std::fs::write(dir.path().join("token.flash"), "not a flash").unwrap();
    let damaged = hostchat(
        dir.path(),
        &["recv", "--pin-file", "-"],
        "a long passphrase of alice\n",
    );
    assert_eq!(code(&damaged), 5, "{}", err(&damaged));
    let kind = hostchat(
        dir.path(),
        &["--token", "/dev/null", "recv", "--pin-file", "-"],
        "a long passphrase of alice\n",
    );
    assert_eq!(code(&kind), 5);
    assert!(err(&kind).contains("its own software token"));
    std::fs::write(
        dir.path().join("config.toml"),
        config.replace("software", "serial"),
    )
    .unwrap();
    let absent = hostchat(dir.path(), &["--token", "/nowhere/tty", "token"], "");
    assert_eq!(code(&absent), 5);
    assert!(
        err(&absent).contains("cannot open the token at /nowhere/tty: No such file or directory"),
        "{}",
        err(&absent)
    );
    std::fs::write(dir.path().join("config.toml"), "format = 9\n").unwrap();
    assert_eq!(code(&hostchat(dir.path(), &["recv"], "")), 3);
    std::fs::write(dir.path().join("config.toml"), [0xff, 0xfe]).unwrap();
    assert_eq!(code(&hostchat(dir.path(), &["recv"], "")), 3);
}

#[test]
fn what_was_typed_comes_back_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let output = hostchat(
        dir.path(),
        &[
            "init",
            "--name",
            "a",
            "--relay",
            "h\u{1b}]0;x:1",
            "--pin-file",
            "-",
        ],
        "a long passphrase of alice\n",
    );
    assert_eq!(code(&output), 2);
    assert!(!err(&output).contains('\u{1b}'), "{:?}", err(&output));
}
