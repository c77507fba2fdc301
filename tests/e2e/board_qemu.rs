//! The firmware image of the QEMU board, in the emulator, as somebody's token.

use hostchat_tests::World;

use crate::boards::{
    Board, Kind, fit_the_stack, lose_its_power_at_random_instants,
    make_no_keys_from_a_stuck_source, pair_talk_kill_and_go_on,
};

const QEMU: Kind = Kind {
    name: "qemu",
    image: "thumbv7em-none-eabihf/firmware/token-qemu",
    variable: "HOSTCHAT_QEMU_IMAGE",
};

#[test]
fn power_that_goes_at_random_instants_loses_and_repeats_nothing() {
    lose_its_power_at_random_instants(QEMU);
}

#[test]
fn the_image_pairs_talks_is_killed_and_goes_on_from_its_flash() {
    pair_talk_kill_and_go_on(QEMU);
}

#[test]
fn everything_fits_the_stack_of_a_microcontroller() {
    fit_the_stack(QEMU);
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
