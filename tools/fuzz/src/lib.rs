//! Fuzzing: what must hold for any bytes.
//!
//! ```text
//!  fuzz/targets/NAME.rs ──libFuzzer, nightly──▶ TARGETS[NAME](bytes) ──▶ panics if an invariant is broken
//!  tests/corpus.rs ─────────stable────────────▶      │
//!        └── corpus/NAME/*: seeds, and every case that was ever found
//! ```
//!
//! One invariant of its own: **a target is a function of its input**; randomness and time are fixed, so that a found case
//! stays found. It becomes a line of `corpus/NAME.txt`, which `cargo test` runs from then on.
//!
//! `cargo xtask nightly` fuzzes each target for a minute; `cargo xtask fuzz NAME --seconds N` one for longer. There is no
//! sanitizer: ours is code without `unsafe`, and without one it is several times as fast. Where it has been:
//!
//! ```text
//! cd tools/fuzz && cargo +nightly fuzz coverage NAME ../../target/fuzz/NAME
//! ```

#[cfg(feature = "hosts")]
pub mod client_decoders;
pub mod decode_core;
pub mod deframer;
pub mod pair_of_sessions;
#[cfg(feature = "hosts")]
pub mod relay_requests;
pub mod seeds;
pub mod token_requests;
pub mod two_peers;
pub mod two_tokens;
#[cfg(feature = "hosts")]
pub mod who_asks;

#[cfg(feature = "hosts")]
mod bob;
mod input;
#[cfg(feature = "hosts")]
mod small_relay;
mod tokens;
#[cfg(feature = "hosts")]
mod vault;

/// A target.
pub struct Target {
    /// Its name, here and for `cargo fuzz`.
    pub name: &'static str,
    /// What it does with an input.
    pub body: fn(&[u8]),
    /// Inputs that a plain test makes for it.
    pub inputs: u64,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "decode_core",
        body: decode_core::run,
        inputs: 5_000,
    },
    Target {
        name: "deframer",
        body: deframer::run,
        inputs: 300,
    },
    #[cfg(feature = "hosts")]
    Target {
        name: "relay_requests",
        body: relay_requests::run,
        inputs: 2_000,
    },
    #[cfg(feature = "hosts")]
    Target {
        name: "client_decoders",
        body: client_decoders::run,
        inputs: 1_000,
    },
    #[cfg(feature = "hosts")]
    Target {
        name: "who_asks",
        body: who_asks::run,
        inputs: 200,
    },
    #[cfg(feature = "hosts")]
    Target {
        name: "who_asks_full",
        body: who_asks::run_with_floods,
        inputs: 20,
    },
    Target {
        name: "token_requests",
        body: token_requests::run,
        inputs: 50,
    },
    Target {
        name: "two_peers",
        body: two_peers::run,
        inputs: 50,
    },
    Target {
        name: "two_tokens",
        body: two_tokens::run,
        inputs: 10,
    },
];
