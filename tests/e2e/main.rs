//! Whole conversations between real processes.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod advice;
mod board_pico;
mod board_qemu;
mod boards;
mod certificates;
mod clock;
mod codes;
mod conversation;
mod durability;
mod errors_home;
mod errors_relay;
mod errors_secrets;
mod errors_token;
mod errors_usage;
mod healing;
mod healing_before;
mod healing_damage;
mod healing_relay;
mod hostile_codes;
mod hostile_first;
mod hostile_pairing;
mod hostile_peer;
mod hostile_relay_identity;
mod hostile_relay_messages;
mod hostile_relay_pairing;
mod hostile_support;
mod ports;
mod requests;
mod requests_codes;
mod requests_flood;
mod requests_identity;
mod support;
mod terminal;
mod token;
