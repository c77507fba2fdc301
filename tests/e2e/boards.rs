//! Boards in emulators: their own firmware images as somebody's token.
//!
//! `cargo xtask test` builds the images and installs the emulators; `HOSTCHAT_QEMU_IMAGE` and `HOSTCHAT_PICO_IMAGE` name
//! others.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostchat_tests::{Control, Ended, Running, World, program};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::support::{events, number, pair, texts};

/// A kind of board.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// What `cargo xtask` calls it.
    pub(crate) name: &'static str,
    /// Its image, beside the folder of the host's programs.
    pub(crate) image: &'static str,
    /// The variable that names another image.
    pub(crate) variable: &'static str,
}

impl Kind {
    fn image(self) -> PathBuf {
        let path = std::env::var_os(self.variable).map_or_else(
            || {
                // Beside the host's programs: target/<profile>/xtask, target/<chip>/firmware/<image>.
                let mut target = program("xtask");
                target.pop();
                target.pop();
                target.join(self.image)
            },
            PathBuf::from,
        );
        assert!(
            path.is_file(),
            "{} is missing: run `cargo xtask firmware --board {}` first",
            path.display(),
            self.name
        );
        path
    }
}

/// An emulated board with a flash file of its own; killed when dropped.
pub(crate) struct Board {
    pub(crate) link: PathBuf,
    pub(crate) folder: PathBuf,
    kind: Kind,
    button: Option<PathBuf>,
    running: Option<Running>,
}

impl Board {
    /// A board whose button is pressed by itself.
    pub(crate) fn start(kind: Kind, world: &World, name: &str) -> Self {
        Self::prepare(kind, world, name, None).on()
    }

    /// A board that is not switched on yet.
    pub(crate) fn prepare(kind: Kind, world: &World, name: &str, button: Option<PathBuf>) -> Self {
        Self {
            link: world.path(&format!("{name}.tty")),
            folder: world.path(&format!("{name}.board")),
            kind,
            button,
            running: None,
        }
    }

    /// Switches it on, with the flash that it had.
    pub(crate) fn on(mut self) -> Self {
        let mut command = Command::new(program("xtask"));
        command
            .args(["token", "--board", self.kind.name, "--image"])
            .arg(self.kind.image())
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

    /// Asks it to end; it takes its link with it.
    fn stop(mut self) -> Ended {
        let ended = self.running.take().expect("it runs").stop();
        assert!(ended.status.success(), "{ended}");
        assert!(!self.link.exists(), "the link is gone with the token");
        ended
    }

    /// Cuts its power: `kill -9`, which takes the emulator with it.
    pub(crate) fn kill(mut self) -> Self {
        if let Some(running) = self.running.take() {
            running.kill();
        }
        self
    }

    /// Whether its emulator has not ended yet.
    fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::is_running)
    }
}

/// A board pairs with a software token, talks, is killed, and goes on from its flash.
pub(crate) fn pair_talk_kill_and_go_on(kind: Kind) {
    let world = World::new();
    let relay = world.relay();
    let board = Board::start(kind, &world, "alice");
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
    assert!(shown.contains(kind.name), "{shown}");
    board.stop();
}

/// A board whose power goes at random instants, as often as `HOSTCHAT_KILLS` says: nothing is lost and nothing comes twice.
pub(crate) fn lose_its_power_at_random_instants(kind: Kind) {
    lose_its_power(kind, 4, |board, command, rng, usual| {
        let command = command();
        // Not in the stretch of the PIN, which the board has no part in; some get to their end.
        let part = 0.5 + 0.8 * f64::from(rng.next_u32()) / f64::from(u32::MAX);
        std::thread::sleep(usual.mul_f64(part));
        let board = board.kill();
        (board, command.end())
    });
}

/// The most flash operations that a command is let do before the power goes; an unlock and a message need about as many.
const MOST_OPERATIONS: u32 = 16;

/// As [`lose_its_power_at_random_instants`], in the middle of flash operations: pages and sectors are half written.
pub(crate) fn lose_its_power_in_flash_operations(kind: Kind) {
    let mut torn = 0;
    lose_its_power(kind, 8, |mut board, command, rng, _| {
        let count = 1 + rng.next_u32() % MOST_OPERATIONS;
        Control::open(&board.folder).cut(count, rng.next_u32());
        let ended = command().end();
        torn += u32::from(!board.is_running());
        (board.kill(), ended)
    });
    println!("{torn} flash operations were torn");
    assert!(torn > 0, "no cut came to pass");
}

/// So many cuts in a row leave enough of the eight tries of a PIN.
const SPARED: u64 = 4;
/// So often everything is compared, so that a long run tells how far it came.
const LOOK: u64 = 50;

/// Alice's board loses its power `kills` times, or as often as `HOSTCHAT_KILLS` says, each time while a command is run by
/// `cut`, which also gets the time that one usually takes.
fn lose_its_power(
    kind: Kind,
    kills: u64,
    mut cut: impl FnMut(Board, &dyn Fn() -> Running, &mut ChaCha20Rng, Duration) -> (Board, Ended),
) {
    let (kills, seed) = (number("HOSTCHAT_KILLS", kills), number("HOSTCHAT_SEED", 1));
    println!("{}: {kills} kills, HOSTCHAT_SEED={seed}", kind.name);
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let world = World::new();
    let relay = world.relay();
    let mut board = Board::start(kind, &world, "alice");
    let alice = world.bare_home("alice", Some(board.link.clone()));
    alice.init(&relay);
    let bob = world.home("bob", &relay);
    pair(&world, &alice, &bob);
    // From the start of the board on, which is what every command finds below.
    board = board.kill().on();
    let begin = Instant::now();
    alice.run(&["send", "bob", "how long?"]).ok();
    let mut usual = begin.elapsed();

    let (mut to_bob, mut to_alice, mut at_alice) = (vec!["how long?".to_owned()], vec![], vec![]);
    let (mut tried, mut said, mut at_bob) = (to_bob.clone(), vec![], vec![]);
    for kill in 0..kills {
        let text = format!("number {kill}");
        let sends = rng.next_u32().is_multiple_of(2);
        let (cut_off, ended) = if sends {
            tried.push(text.clone());
            let command = || alice.start(&["send", "bob", &text, "--json"]);
            cut(board, &command, &mut rng, usual)
        } else {
            bob.run(&["send", "alice", &text]).ok();
            to_alice.push(text.clone());
            let command = || alice.start(&["recv", "--json"]);
            cut(board, &command, &mut rng, usual)
        };
        at_alice.extend(texts(&ended));
        // Without a token to open the vault the text was not taken. A receipt tells what it sends of the outbox as well.
        let told = |kind: &&str| !events(&ended, kind).is_empty();
        if sends && ["sent", "queued"].iter().any(told) {
            to_bob.push(text.clone());
        }
        said.push((text, ended));
        board = cut_off.on();
        // A cut in the check of the PIN costs a try: before they are spent, which erases the token, one is let through.
        if kill % SPARED == SPARED - 1 {
            let begin = Instant::now();
            at_alice.extend(texts(&alice.run(&["recv", "--json"]).ok()));
            usual = begin.elapsed();
        }
        if kill % LOOK != LOOK - 1 && kill + 1 != kills {
            continue;
        }
        // What was cut off leaves now.
        let last = alice.run(&["recv", "--json"]).ok();
        at_alice.extend(texts(&last));
        assert_eq!(at_alice, to_alice, "HOSTCHAT_SEED={seed}");
        let received = bob.run(&["recv", "--json"]).ok();
        at_bob.extend(texts(&received));
        let once: Vec<_> = tried.iter().filter(|text| at_bob.contains(text)).collect();
        assert!(at_bob.iter().eq(once), "HOSTCHAT_SEED={seed}: {at_bob:?}");
        let lost = to_bob.iter().find(|text| !at_bob.contains(text));
        let told: Vec<_> = said
            .drain(..)
            .map(|(text, ended)| format!("{text}: {ended}"))
            .collect();
        assert!(
            lost.is_none(),
            "HOSTCHAT_SEED={seed}: {lost:?} is lost\n{}\nat last {last}\nreceived {received}",
            told.join("\n")
        );
        println!(
            "{} kills: {} of {} messages got as far as the outbox, none was lost or doubled",
            kill + 1,
            at_bob.len(),
            tried.len()
        );
    }
}

/// A board whose source of random numbers is stuck makes no keys.
pub(crate) fn make_no_keys_from_a_stuck_source(kind: Kind) {
    let world = World::new();
    let relay = world.relay();
    let board = Board::prepare(kind, &world, "carol", None);
    std::fs::create_dir(&board.folder).expect("folder");
    // What rp2040js's ring oscillator gives: ones, for ever. Longer than any test reads.
    std::fs::write(board.folder.join("entropy"), vec![0xFF; 1 << 20]).expect("source");
    let board = board.on();
    let carol = world.bare_home("carol", Some(board.link.clone()));
    let refused = carol.run(&["init", "--relay", &relay.address, "--name", "carol"]);
    assert!(!refused.status.success(), "{refused}");
    assert!(refused.err.contains("random"), "{refused}");
}

/// The stack of the image, less what an interrupt at the wrong moment needs. It was 52 KiB when this was written, 36 of them
/// ML-KEM's.
const MOST_STACK: usize = 55 * 1024;

/// Two boards do everything that takes much stack: each shows a code and types one, begins a session without a code and
/// accepts one, seals, opens, commits and makes prekeys.
pub(crate) fn fit_the_stack(kind: Kind) {
    let world = World::new();
    let relay = world.relay();
    let boards = ["alice", "bob"].map(|name| Board::start(kind, &world, name));
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
        let ended = board.stop();
        let used = ended.err.lines().filter_map(stack_used).max();
        println!("{}: stack {used:?} bytes", kind.name);
        assert!(used.is_some_and(|used| used <= MOST_STACK), "{ended}");
    }
}

/// Reads `stack: USED of SIZE bytes`, which the image or its emulator prints when a host goes away.
fn stack_used(line: &str) -> Option<usize> {
    let (used, _) = line.strip_prefix("stack: ")?.split_once(' ')?;
    used.parse().ok()
}
