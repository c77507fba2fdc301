//! Histories on the real core, token application and client, in one thread and in virtual time.
//!
//! `cargo test -p hostchat-tests --features simulation --test simulation`; a failed history names its seed.
#![expect(clippy::panic, reason = "a wrong variable ends the tests")]

use std::sync::OnceLock;

use hostchat_tests::simulation::{Template, World, run};

mod forgeries;
mod histories;
mod lost;
mod world;

/// Three people who know each other.
fn friends() -> &'static Template {
    static FRIENDS: OnceLock<Template> = OnceLock::new();
    FRIENDS.get_or_init(|| run(|| World::of(0, &["a", "b", "c"]).template()))
}
