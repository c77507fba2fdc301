//! The firmware image of the QEMU board, in the emulator, as somebody's token.
//!
//! `cargo xtask test` builds the image and installs the emulator; `HOSTCHAT_QEMU_IMAGE` names another image.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use hostchat_tests::{Running, World, program};

use crate::support::{pair, texts};

/// The image under test.
fn image() -> PathBuf {
    let path = std::env::var_os("HOSTCHAT_QEMU_IMAGE").map_or_else(
        || {
            // Beside the host's programs: target/<profile>/xtask, target/<chip>/firmware/<image>.
            let mut target = program("xtask");
            target.pop();
            target.pop();
            target.join("thumbv7em-none-eabihf/firmware/token-qemu")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask firmware --board qemu` first",
        path.display()
    );
    path
}

/// An emulated board with a flash file of its own; killed when dropped.
struct Board {
    link: PathBuf,
    folder: PathBuf,
    button: Option<PathBuf>,
    running: Option<Running>,
}

impl Board {
    /// A board whose button is pressed by itself.
    fn start(world: &World, name: &str) -> Self {
        Self::prepare(world, name, None).on()
    }

    /// A board that is not switched on yet.
    fn prepare(world: &World, name: &str, button: Option<PathBuf>) -> Self {
        Self {
            link: world.path(&format!("{name}.tty")),
            folder: world.path(&format!("{name}.board")),
            button,
            running: None,
        }
    }

    /// Switches it on, with the flash that it had.
    fn on(mut self) -> Self {
        let mut command = Command::new(program("xtask"));
        command
            .args(["token", "--board", "qemu", "--image"])
            .arg(image())
            .arg("--link")
            .arg(&self.link)
            .arg("--dir")
            .arg(&self.folder);
        if let Some(button) = &self.button {
            command.arg("--button").arg(button);
        }
        let running = Running::start(command.stdin(Stdio::null()));
        running.wait_out("the token's port", |line| {
            line.starts_with("ready").then_some(())
        });
        self.running = Some(running);
        self
    }

    /// Cuts its power: `kill -9`, which takes the emulator with it.
    fn kill(mut self) -> Self {
        if let Some(running) = self.running.take() {
            running.kill();
        }
        self
    }
}

#[test]
fn the_image_pairs_talks_is_killed_and_goes_on_from_its_flash() {
    let world = World::new();
    let relay = world.relay();
    let board = Board::start(&world, "alice");
    let alice = world.bare_home("alice", Some(board.link.clone()));
    alice.init(&relay);
    let bob = world.home("bob", &relay);

    pair(&world, &alice, &bob);
    bob.run(&["send", "alice", "to the board"]).ok();
    assert_eq!(
        texts(&alice.run(&["recv", "--json"]).ok()),
        ["to the board"]
    );
    let long = "x".repeat(4000);
    alice.run(&["send", "bob", &long]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [long]);

    let board = board.kill();
    bob.run(&["send", "alice", "while you were off"]).ok();
    let board = board.on();
    assert_eq!(
        texts(&alice.run(&["recv", "--json"]).ok()),
        ["while you were off"]
    );
    alice.run(&["send", "bob", "here again"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["here again"]);

    let shown = alice.run(&["token"]).ok().out;
    assert!(shown.contains("qemu"), "{shown}");
    let ended = board.running.expect("it runs").stop();
    assert!(ended.status.success(), "{ended}");
    assert!(!board.link.exists(), "the link is gone with the token");
}

/// The stack of the image, less what an interrupt at the wrong moment needs. It was 52 KiB when this was written, 36 of them
/// ML-KEM's.
const MOST_STACK: usize = 55 * 1024;

/// Two boards do everything that takes much stack: each shows a code and types one, begins a session without a code and
/// accepts one, seals, opens, commits and makes prekeys.
#[test]
fn everything_fits_the_stack_of_a_microcontroller() {
    let world = World::new();
    let relay = world.relay();
    let boards = ["alice", "bob"].map(|name| Board::start(&world, name));
    let [alice, bob] = ["alice", "bob"].map(|name| {
        let home = world.bare_home(name, Some(world.path(&format!("{name}.tty"))));
        home.init(&relay);
        home
    });
    let (carol, dave) = (world.home("carol", &relay), world.home("dave", &relay));
    pair(&world, &alice, &bob);
    pair(&world, &bob, &carol);
    let long = "x".repeat(4000);
    for (from, to) in [(&alice, &bob), (&bob, &alice), (&alice, &dave)] {
        from.run(&["send", &to.name, &long]).ok();
        let accepting = ["accept", &from.name, "--json"];
        let told = if to.name == "dave" {
            to.run(&accepting).ok()
        } else {
            to.run(&["recv", "--json"]).ok()
        };
        assert_eq!(texts(&told), [long.as_str()]);
    }
    dave.run(&["send", "bob", "without a code"]).ok();
    let accepted = bob.run(&["accept", "dave", "--json"]).ok();
    assert_eq!(texts(&accepted), ["without a code"]);

    for board in boards {
        let ended = board.running.expect("it runs").stop();
        let used = ended.err.lines().filter_map(stack_used).max();
        println!("stack: {used:?} bytes");
        assert!(used.is_some_and(|used| used <= MOST_STACK), "{ended}");
    }
}

/// Reads `stack: USED of SIZE bytes`, which the image prints when a host goes away.
fn stack_used(line: &str) -> Option<usize> {
    let (used, _) = line.strip_prefix("stack: ")?.split_once(' ')?;
    used.parse().ok()
}

#[test]
fn a_broken_source_of_random_numbers_makes_no_keys() {
    let world = World::new();
    let relay = world.relay();
    let board = Board::prepare(&world, "carol", None);
    std::fs::create_dir(&board.folder).expect("folder");
    // What rp2040js's ring oscillator gives: ones, for ever. Longer than any test reads.
    std::fs::write(board.folder.join("entropy"), vec![0xFF; 1 << 20]).expect("source");
    let board = board.on();
    let carol = world.bare_home("carol", Some(board.link.clone()));
    let refused = carol.run(&["init", "--relay", &relay.address, "--name", "carol"]);
    assert!(!refused.status.success(), "{refused}");
    assert!(refused.err.contains("random"), "{refused}");
}

#[test]
fn the_button_must_be_pressed_after_the_wait_began() {
    let world = World::new();
    let relay = world.relay();
    let button = world.path("button");
    // Held since before the power came on.
    std::fs::write(&button, "").expect("held");
    let board = Board::prepare(&world, "dave", Some(button.clone())).on();
    let dave = world.bare_home("dave", Some(board.link.clone()));
    let mut init = dave.start(&["init", "--relay", &relay.address, "--name", "dave"]);
    init.wait_err("the request for a press", |line| {
        line.contains("press the button").then_some(())
    });
    // The token takes the old press away when the wait begins, and goes on waiting.
    wait_until("the held button is taken away", || !button.exists());
    assert!(init.is_running(), "a held button is no press");
    std::fs::write(&button, "").expect("pressed");
    init.end().ok();
    assert!(!button.exists(), "the token has taken the press");
}

/// Waits for a condition that no program prints.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(
            begin.elapsed() < hostchat_tests::PATIENCE,
            "waited for {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
