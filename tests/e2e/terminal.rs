//! What a peer writes cannot drive the terminal; what is asked on a terminal works, and secrets are not echoed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use hostchat_tests::{Home, PATIENCE, World, program};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use crate::support::{code_of, events, pair};

/// What a terminal was given so far, and whether that is all.
#[derive(Default)]
struct Screen {
    shown: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

/// A program with a pseudo-terminal as its standard input, output and error, and as its controlling terminal.
pub(crate) struct Terminal {
    screen: Arc<Screen>,
    keyboard: File,
    child: Child,
}

impl Terminal {
    /// Starts a program in it; `raw` leaves every byte as it is.
    pub(crate) fn start(words: &Command, raw: bool) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        if raw {
            let mut modes = tcgetattr(&master).expect("modes");
            modes.make_raw();
            tcsetattr(&master, OptionalActions::Now, &modes).expect("raw");
        }
        let name = ptsname(&master, Vec::new()).expect("a name");
        let slave: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open(PathBuf::from(name.to_string_lossy().into_owned()))
            .expect("the other end")
            .into();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(words.get_program());
        command.args(words.get_args());
        for name in ["HOSTCHAT_HOME", "HOSTCHAT_TOKEN", "HOSTCHAT_RELAY"] {
            command.env_remove(name);
        }
        let child = command
            .stdin(slave.try_clone().expect("cloned"))
            .stdout(slave.try_clone().expect("cloned"))
            .stderr(slave)
            .spawn()
            .expect("program starts");
        drop(command);
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().expect("cloned");
        let screen = Arc::new(Screen::default());
        let filled = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO: nobody has the other end open any more.
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                let mut shown = filled.shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown
                    .0
                    .extend_from_slice(bytes.get(..n).unwrap_or_default());
                filled.changed.notify_all();
            }
            filled
                .shown
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .1 = true;
            filled.changed.notify_all();
        });
        Self {
            screen,
            keyboard,
            child,
        }
    }

    /// Waits until `enough` is true of what was shown, or everything was; gives what was shown.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self
            .screen
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let text = String::from_utf8_lossy(&shown.0).into_owned();
            if enough(&text) {
                return text;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!shown.1 && !left.is_zero(), "waited for {what}:\n{text}");
            shown = self
                .screen
                .changed
                .wait_timeout(shown, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The process of the program, a child of ours that has become another session's leader.
    pub(crate) fn program(&self) -> u32 {
        let of = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(of).expect("children");
        let child = children.split_whitespace().next().map(str::parse);
        child.map_or(self.child.id(), |pid| pid.expect("a process"))
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        self.keyboard
            .write_all(format!("{line}\n").as_bytes())
            .expect("typed");
    }

    /// Everything that was shown, and the exit code.
    pub(crate) fn end(mut self) -> (Vec<u8>, i32) {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self
            .screen
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !shown.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the program does not end");
            shown = self
                .screen
                .changed
                .wait_timeout(shown, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let status = self.child.wait().expect("a child of ours");
        (shown.0.clone(), status.code().unwrap_or(-1))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The hang-up of the terminal ends what runs in it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Characters that a terminal must never get from outside: controls (C0, DEL, C1), and those that change the direction.
fn drives_a_terminal(c: char) -> bool {
    matches!(u32::from(c),
        0..=0x1f | 0x7f..=0x9f | 0x61c | 0x200e | 0x200f | 0x2028..=0x202e | 0x2066..=0x2069)
}

fn hostile_texts() -> Vec<String> {
    let controls = (0..=0x1f)
        .chain(0x7f..=0x9f)
        .filter_map(char::from_u32)
        .flat_map(|c| ['<', c, '>'])
        .collect();
    let directions = [0x61c, 0x200e, 0x200f]
        .into_iter()
        .chain(0x2028..=0x202e)
        .chain(0x2066..=0x2069)
        .filter_map(char::from_u32)
        .flat_map(|c| ['<', c, '>'])
        .collect();
    let sequences = concat!(
        "\u{1b}[2J\u{1b}[H\u{1b}]0;owned\u{7}\u{1b}]52;c;cm0gLXJm\u{7}\u{1b}]8;;http://x\u{1b}\\click\u{1b}]8;;\u{1b}\\",
        "\u{9b}31mred\u{9d}0;title\u{9c}\u{1b}P$q\"p\u{1b}\\\u{1b}[6n\u{1b}[c\u{5}\u{1b}#8\u{1b}c",
        "\r[2026-11-21 09:00:00] bob: forged\u{8}\u{8}\u{b}\u{c}\u{e}"
    );
    vec![
        controls,
        directions,
        sequences.to_owned(),
        "two lines\n[2026-11-21 09:00:00] carol: forged line\n\n".to_owned(),
        "x".repeat(4000),
        "\u{1b}".repeat(4000),
        format!("a{}", "\u{301}".repeat(1999)),
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}".repeat(200),
        "\\u{1b}[2J \\\\ C:\\temp".to_owned(),
    ]
}

#[test]
fn nothing_that_a_peer_writes_drives_the_terminal_and_all_of_it_is_in_the_json() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let sent = hostile_texts();
    let send_all = || {
        for text in &sent {
            // A line end at the very end belongs to the input, not to the text.
            let input = format!("{text}\n");
            alice.run_with_input(&["send", "bob", "-"], &input).ok();
        }
    };
    let harmless = |(shown, code): (Vec<u8>, i32)| {
        assert_eq!(
            code,
            0,
            "{}",
            String::from_utf8_lossy(&shown).escape_debug()
        );
        let shown = String::from_utf8(shown).expect("UTF-8");
        let bad: Vec<char> = shown
            .chars()
            .filter(|c| *c != '\n' && drives_a_terminal(*c))
            .collect();
        assert!(bad.is_empty(), "{bad:?} in {}", shown.escape_debug());
        shown
    };

    send_all();
    let shown = harmless(Terminal::start(&bob.command(&["recv"]), true).end());
    let heads = shown.lines().filter(|line| line.starts_with('['));
    assert_eq!(
        heads.count(),
        sent.len(),
        "no text makes a line that looks like another message: {shown}"
    );
    assert!(
        shown.contains("\\u{1b}[2J\\u{1b}[H\\u{1b}]0;owned\\u{7}"),
        "{shown}"
    );
    assert!(
        shown.contains("<\\u{9b}>") && shown.contains("<\\u{202e}>"),
        "{shown}"
    );

    send_all();
    let json = harmless(Terminal::start(&bob.command(&["recv", "--json"]), true).end());
    let received: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|event| event["event"] == "message")
        .map(|event| event["text"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(received, sent);

    for arguments in [
        &["history", "alice"][..],
        &["history", "--json"],
        &["contacts"],
        &["contacts", "verify", "alice", "--json"],
    ] {
        harmless(Terminal::start(&bob.command(arguments), true).end());
    }
    let history = events(&bob.run(&["history", "--json"]).ok(), "history");
    assert_eq!(history.len(), 1 + 2 * sent.len());
}

/// `hostchat` in a home, without a file for its PIN.
fn asking(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("hostchat"));
    command.arg("--home").arg(&home.folder).args(arguments);
    command
}

#[test]
fn on_a_terminal_pin_and_code_are_asked_for_and_the_pin_is_not_echoed() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    let bob = world.bare_home("bob", None);
    let init = ["init", "--relay", &relay.address, "--name", "bob"];
    let pin = "correct horse battery staple";

    let mut terminal = Terminal::start(&asking(&bob, &init), false);
    terminal.wait("the first question", |shown| {
        shown.contains("New passphrase: ")
    });
    terminal.type_line(pin);
    terminal.wait("the second question", |shown| {
        shown.contains("The same again: ")
    });
    terminal.type_line("something else");
    terminal.wait("the first question, again", |shown| {
        shown.contains("The two are not equal. Try again.\r\nNew passphrase: ")
    });
    terminal.type_line(pin);
    terminal.wait("the second question, again", |shown| {
        shown.matches("The same again: ").count() == 2
    });
    terminal.type_line(pin);
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("you are bob@") && !shown.contains(pin),
        "{shown}"
    );

    let sending = alice.start(&["send", "bob", "meet at nine", "--code", "print"]);
    let typed = code_of(&sending);
    let mut terminal = Terminal::start(&asking(&bob, &["accept"]), false);
    terminal.wait("the question for the PIN", |shown| {
        shown.contains("Passphrase: ")
    });
    terminal.type_line(pin);
    terminal.wait("the question for the code", |shown| {
        shown.contains("alice@") && shown.contains("Type it")
    });
    terminal.type_line("12345");
    terminal.wait("the second question", |shown| {
        shown.contains("A code has six digits")
    });
    terminal.type_line(&typed);
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("alice: meet at nine") && !shown.contains(pin),
        "{shown}"
    );
    sending.end().ok();

    // Ctrl-C and Ctrl-D at the question give the terminal back with its echo.
    for (key, words) in [
        (b"\x03", "interrupted"),
        (b"\x04", "the input ended before an answer"),
    ] {
        let mut terminal = Terminal::start(&asking(&bob, &["recv"]), false);
        terminal.wait("the question for the PIN", |shown| {
            shown.contains("Passphrase: ")
        });
        let keyboard = terminal.keyboard.try_clone().expect("cloned");
        terminal.keyboard.write_all(key).expect("typed");
        let (shown, code) = terminal.end();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert_eq!(code, 130, "{shown}");
        assert!(shown.contains(&format!("error: {words}")), "{shown}");
        let modes = tcgetattr(&keyboard).expect("modes");
        assert!(modes.local_modes.contains(LocalModes::ECHO));
    }
}

#[test]
fn ctrl_z_at_a_hidden_question_does_not_bring_back_a_shell_without_echo() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.home("bob", &relay);
    let mut shell = Command::new("sh");
    let (program, home) = (program("hostchat"), bob.folder.display());
    let words = format!("{} --home {home} whoami; echo back", program.display());
    let mut terminal = Terminal::start(shell.args(["-mc", &words]), false);
    terminal.wait("the question", |shown| shown.contains("Passphrase: "));
    terminal.keyboard.write_all(b"\x1a").expect("typed");
    terminal.type_line("a long passphrase of bob");
    let keyboard = terminal.keyboard.try_clone().expect("cloned");
    let shown = String::from_utf8_lossy(&terminal.end().0).into_owned();
    let told = shown.find("bob@").expect("who bob is");
    assert!(shown[told..].contains("back"), "{shown}");
    let modes = tcgetattr(&keyboard).expect("modes");
    assert!(modes.local_modes.contains(LocalModes::ECHO));
    assert_eq!(modes.special_codes[SpecialCodeIndex::VSUSP], 0x1a);
}

#[test]
fn a_new_passphrase_shows_its_strength_and_a_weak_one_is_asked_for_again() {
    let world = World::new();
    let relay = world.relay();
    let bob = world.bare_home("bob", None);
    let init = ["init", "--relay", &relay.address, "--name", "bob"];
    let mut terminal = Terminal::start(&asking(&bob, &init), false);
    let asked = |shown: &str| shown.matches("New passphrase: ").count();
    for (n, weak) in ["1234", "password1", "hostchat"].into_iter().enumerate() {
        terminal.wait("the question", |shown| asked(shown) == n + 1);
        terminal.type_line(weak);
    }
    terminal.wait("the question", |shown| asked(shown) == 4);
    terminal.type_line("seven lazy herons under a weir");
    terminal.wait("its strength", |shown| {
        shown.contains("Strength: somebody with your files")
    });
    terminal.type_line("seven lazy herons under a weir");
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 0, "{shown}");
    for words in [
        "the passphrase has fewer than 6 characters: choose a longer one",
        "the passphrase is too weak: somebody with your files guesses it within a minute",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    // The same from a file, and on a hardware token.
    let sim = world.sim("token");
    let carol = world.bare_home("carol", Some(sim.link.clone()));
    let dave = world.bare_home("dave", None);
    for (home, weak, words) in [
        (&dave, "1234", "the passphrase has fewer than 6 characters"),
        (&dave, "password1", "the passphrase is too weak"),
        (&carol, "98413", "the PIN has fewer than 6 characters"),
        (
            &carol,
            "123456",
            "the PIN is one of the first that anybody tries",
        ),
    ] {
        let init = [
            "init",
            "--relay",
            &relay.address,
            "--name",
            &home.name,
            "--pin-file",
            "-",
        ];
        let mut command = home.command(&[]);
        let words_of: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let own = words_of
            .iter()
            .position(|word| word == "--pin-file")
            .expect("a PIN file");
        let others = [&words_of[..own], &words_of[own + 2..]].concat();
        let file = world.path("weak");
        std::fs::write(&file, format!("{weak}\n")).expect("written");
        command = Command::new(program("hostchat"));
        command
            .args(others)
            .args(init)
            .stdin(File::open(&file).expect("opened"));
        hostchat_tests::Running::start(&mut command)
            .end()
            .refused(4, words);
        assert!(!home.folder.join("config.toml").exists(), "{weak}");
    }
}

#[test]
fn a_registration_that_cannot_succeed_is_told_before_a_passphrase_is_asked_for() {
    let world = World::new();
    let mut relay = world.relay();
    world.home("bob", &relay);
    let eve = world.bare_home("eve", None);
    let address = relay.address.clone();
    let init = |name: &str, code: i32, told: &str| {
        let init = ["init", "--relay", &address, "--name", name];
        let (shown, ended) = Terminal::start(&asking(&eve, &init), false).end();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert_eq!(ended, code, "{shown}");
        assert!(shown.contains(told), "{shown}");
        assert!(!shown.contains("passphrase"), "{shown}");
        assert!(!eve.folder.join("config.toml").exists(), "{shown}");
    };
    init("bob", 7, "the name belongs to another identity");
    relay.kill();
    let config = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&config).expect("configuration");
    let (open, invited) = (r#"registration = "open""#, r#"registration = "invitation""#);
    assert!(text.contains(open), "{text}");
    std::fs::write(&config, text.replace(open, invited)).expect("written");
    init("eve", 6, "cannot reach the relay");
    relay.start();
    init(
        "eve",
        7,
        "hint: ask the operator for an account or an invitation",
    );
}

#[test]
fn what_speaks_against_an_account_on_a_token_with_keys_is_told_before_its_passphrase_is_asked_for()
{
    let world = World::new();
    let mut relay = world.relay();
    world.home("bob", &relay);
    let eve = world.bare_home("eve", None);
    relay.kill();
    let config = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&config).expect("configuration");
    let text = text.replace(r#"registration = "open""#, r#"registration = "invitation""#);
    std::fs::write(&config, text).expect("written");
    relay.start();
    // A wrong invitation: the keys are made by then.
    let invitation = world.path("invitation");
    std::fs::write(&invitation, "none\n").expect("written");
    let invitation = invitation.to_string_lossy().into_owned();
    let address = relay.address.clone();
    let wanted = ["init", "--relay", &address, "--name", "bob"];
    let invited = ["init", "--relay", &address, "--name", "eve"];
    let refused = eve.run(&[&invited[..], &["--invitation", &invitation]].concat());
    assert_eq!(refused.code(), 7, "{refused}");
    assert!(!refused.err.contains("has an identity"), "{refused}");

    let mut terminal = Terminal::start(&asking(&eve, &wanted), false);
    let shown = terminal.wait("the question", |shown| shown.contains("Passphrase: "));
    let told = "note: the token has an identity already: the account uses it\r\nnote: a new account would fail (";
    assert!(shown.starts_with(told), "{shown}");
    assert!(shown.contains("this goes on only if"), "{shown}");
    terminal.type_line("a long passphrase of eve");
    assert_eq!(terminal.end().1, 7);
    relay.kill();
    let (shown, code) = Terminal::start(&asking(&eve, &wanted), false).end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 6, "{shown}");
    assert!(!shown.contains("Passphrase"), "{shown}");
}

#[test]
fn a_passphrase_may_be_wrong_twice_and_is_asked_for_where_standard_input_leads_elsewhere() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let letter = world.path("letter");
    std::fs::write(&letter, "from a file\n").expect("written");
    let home = bob.folder.display();
    let mut redirected = Command::new("sh");
    redirected.arg("-c").arg(format!(
        "exec {} --home {home} send alice < {} 2> {}",
        program("hostchat").display(),
        letter.display(),
        world.path("errors").display(),
    ));
    let mut terminal = Terminal::start(&redirected, false);
    let asked = |shown: &str| shown.matches("Passphrase: ").count();
    for n in 1..=2 {
        terminal.wait("the question", |shown| asked(shown) == n);
        terminal.type_line("not it");
    }
    terminal.wait("the question", |shown| asked(shown) == 3);
    terminal.type_line("a long passphrase of bob");
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(
        shown.matches("Wrong passphrase. Try again.").count(),
        2,
        "{shown}"
    );
    let received = alice.run(&["recv", "--json"]).ok();
    assert_eq!(crate::support::texts(&received), ["from a file"]);
    // The third wrong one is the last.
    let mut terminal = Terminal::start(&asking(&bob, &["recv"]), false);
    for n in 1..=3 {
        terminal.wait("the question", |shown| asked(shown) == n);
        terminal.type_line("not it");
    }
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 4, "{shown}");
    assert!(shown.contains("error: wrong passphrase\r\n"), "{shown}");
    // A line that was typed ahead is no try. Who types before the next question is not seen either; Ctrl-U takes it back
    // where it was not forgotten.
    let mut terminal = Terminal::start(&asking(&bob, &["recv"]), false);
    terminal.wait("the question", |shown| asked(shown) == 1);
    terminal.type_line("not it\nnor this");
    terminal.wait("the end of its line", |shown| {
        shown.contains("Passphrase: \r\n")
    });
    terminal
        .keyboard
        .write_all(b"early bird\x15")
        .expect("typed");
    terminal.wait("the question", |shown| asked(shown) == 2);
    terminal.type_line("a long passphrase of bob");
    let (shown, code) = terminal.end();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(shown.matches("Wrong passphrase").count(), 1, "{shown}");
    for typed in ["nor this", "early bird", "a long passphrase"] {
        assert!(!shown.contains(typed), "{shown}");
    }
}

#[test]
fn a_reply_names_whom_it_goes_to_before_it_is_typed() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let mut terminal = Terminal::start(&bob.command(&["reply"]), false);
    terminal.wait("the receiver", |shown| {
        shown.contains(&format!("To alice (alice@{}):", relay.host_port()))
    });
    terminal.type_line("to you");
    terminal.keyboard.write_all(b"\x04").expect("typed");
    assert_eq!(terminal.end().1, 0);
    let received = alice.run(&["recv", "--json"]).ok();
    assert_eq!(crate::support::texts(&received), ["to you"]);
}
