//! The UF2 image of the Raspberry Pi Pico, in the emulator, as somebody's token.

use std::path::Path;

use hostchat_tests::{Button, Control, World};

use crate::boards::{
    Board, Kind, fit_the_stack, lose_its_power_at_random_instants,
    lose_its_power_in_flash_operations, make_no_keys_from_a_stuck_source, pair_talk_kill_and_go_on,
};

const PICO: Kind = Kind {
    name: "pico",
    image: "thumbv6m-none-eabi/firmware/token-pico.uf2",
    variable: "HOSTCHAT_PICO_IMAGE",
};

#[test]
fn power_that_goes_at_random_instants_loses_and_repeats_nothing() {
    lose_its_power_at_random_instants(PICO);
}

#[test]
fn flash_operations_that_are_torn_lose_and_repeat_nothing() {
    lose_its_power_in_flash_operations(PICO);
}

#[test]
fn the_uf2_image_pairs_talks_is_killed_and_goes_on_from_its_flash() {
    pair_talk_kill_and_go_on(PICO);
}

#[test]
fn everything_fits_the_stack_of_the_chip() {
    fit_the_stack(PICO);
}

#[test]
fn a_ring_oscillator_that_is_stuck_makes_no_keys() {
    make_no_keys_from_a_stuck_source(PICO);
}

#[test]
fn a_button_that_is_held_since_boot_is_no_press_until_it_is_let_go() {
    let world = World::new();
    let relay = world.relay();
    let button = world.path("button");
    let down = |down: bool| {
        let done = if down {
            std::fs::write(&button, "")
        } else {
            std::fs::remove_file(&button)
        };
        done.expect("button");
    };
    down(true);
    let board = Board::prepare(PICO, &world, "dave", Some(button.clone())).on();
    let dave = world.bare_home("dave", Some(board.link.clone()));
    let mut init = dave.start(&["init", "--relay", &relay.address, "--name", "dave"]);
    init.wait_err("the request for a press", |line| {
        line.contains("press the button").then_some(())
    });
    let mut control = Control::open(&board.folder);
    for _ in 0..50 {
        assert_eq!(control.look(), Button::Down);
    }
    assert!(init.is_running(), "a held button is no press");
    assert!(is_blank(&board.folder), "and nothing was written for it");
    down(false);
    assert_eq!(control.look(), Button::Up);
    down(true);
    init.end().ok();
    assert!(!is_blank(&board.folder));
}

/// Whether the token's half of the flash holds no PIN yet: hardly anything.
fn is_blank(folder: &Path) -> bool {
    let flash = std::fs::read(folder.join("token.flash")).expect("flash");
    let token = &flash[1 << 20..2 << 20];
    token.iter().filter(|byte| **byte != 0xFF).count() < 200
}
