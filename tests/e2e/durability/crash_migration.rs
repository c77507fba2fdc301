//! The client dies while it brings up a home of format 1.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hostchat_tests::{Running, World};

use super::stage::KILLED;
use crate::support::events;

/// What this file cuts.
pub(super) const POINTS: &[&[&str]] = &[&["vault-migrated"]];

/// Bytes of a software token's file; in the golden home the blank end is left out.
const FLASH: usize = 1024 * 1024;

#[test]
fn a_home_whose_migration_was_killed_is_brought_up_by_the_next_program() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/client/tests/golden/v1");
    let world = World::new();
    let alice = world.bare_home("alice", None);
    std::fs::create_dir(&alice.folder).expect("a folder");
    for name in ["config.toml", "vault.db", "token.flash"] {
        let mut bytes = std::fs::read(golden.join(name)).expect("golden");
        if name == "token.flash" {
            bytes.resize(FLASH, 0xFF);
        }
        let copy = alice.folder.join(name);
        std::fs::write(&copy, bytes).expect("copied");
        std::fs::set_permissions(&copy, Permissions::from_mode(0o600)).expect("closed");
    }
    std::fs::write(world.path("alice.pin"), "a golden passphrase\n").expect("the passphrase");
    for _ in 0..2 {
        let mut command = alice.command(&["history", "--json"]);
        command.env("HOSTCHAT_CRASH_AT", "vault-migrated");
        let ended = Running::start(&mut command).end();
        assert_eq!((ended.code(), ended.out.as_str()), (KILLED, ""), "{ended}");
    }
    let texts = |command: &[&str], event| -> Vec<String> {
        let ended = alice.run(command).ok();
        let lines = events(&ended, event);
        let text = |line: &serde_json::Value| line["text"].as_str().expect("a text").to_owned();
        lines.iter().map(text).collect()
    };
    for _ in 0..2 {
        assert_eq!(
            texts(&["history", "--json"], "history"),
            [
                "first, with a code",
                "an answer from bob",
                "hello carol, without a code",
                "hello alice",
                "for the first gina",
                "ivan writes first",
            ]
        );
    }
    assert_eq!(
        texts(&["outbox", "--json"], "outbox"),
        [
            "for whoever gina is now",
            "sealed, never sent",
            "neither sealed nor sent",
            "to somebody not known yet",
        ]
    );
}
