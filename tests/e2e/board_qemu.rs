//! The firmware image of the QEMU board, in the emulator, as somebody's token.

use hostchat_tests::World;

use crate::boards::{Board, Kind, make_no_keys_from_a_stuck_source, pair_talk_kill_and_go_on};

const QEMU: Kind = Kind {
    name: "qemu",
    image: "thumbv7em-none-eabihf/firmware/token-qemu",
    variable: "HOSTCHAT_QEMU_IMAGE",
};

#[test]
fn the_image_pairs_talks_is_killed_and_goes_on_from_its_flash() {
    pair_talk_kill_and_go_on(QEMU);
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
    make_no_keys_from_a_stuck_source(QEMU);
}

#[test]
fn the_button_must_be_pressed_after_the_wait_began() {
    let world = World::new();
    let relay = world.relay();
    let button = world.path("button");
    // Held since before the power came on.
    std::fs::write(&button, "").expect("held");
    let board = Board::prepare(QEMU, &world, "dave", Some(button.clone())).on();
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
