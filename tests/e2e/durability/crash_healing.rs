//! The client dies while it moves its generation on, and while it finds that its keys went back in time.

use std::path::Path;

use super::stage::{Memory, On, Stage};
use crate::support::events;

/// What each part of this file cuts.
pub(super) const POINTS: &[&[&str]] = &[ADVANCE, SURPRISE];

const ADVANCE: &[&str] = &[
    "generation-noted",
    "generation-planned",
    "generation-asked",
    "generation-adopted",
];

const SURPRISE: &[&str] = &[
    "surprise-noted",
    "prekeys-dropped",
    "sessions-superseded",
    "unopened-stored",
];

#[test]
fn an_advance_that_was_cut_is_finished_and_is_no_surprise() {
    for on in [On::Software, On::Sim] {
        let stage = Stage::new(Memory::Good);
        let mut alice = stage.person("alice", On::Software);
        let mut bob = stage.person("bob", on);
        alice.send("bob", "hello");
        bob.run(&["accept", "alice", "--json"]).ok();
        let mut texts = vec!["hello".to_owned()];
        // A token on a port moves on at a login only a quarter of an hour after the last time.
        let cuts: &[&str] = if on == On::Software { ADVANCE } else { &[] };
        for point in cuts {
            bob.crash(&["recv", "--json"], (point, 0));
            alice.send("bob", point);
            texts.push((*point).to_owned());
            let ended = bob.recv();
            let notes = events(&ended, "note");
            assert!(notes.is_empty(), "{point}: {ended}");
            assert_eq!(bob.shown.texts(), texts, "{point}");
        }
        bob.send("alice", "thanks");
        alice.recv();
        assert_eq!(alice.shown.texts(), ["thanks"]);
        stage.no_key_was_used_twice();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a home").flatten() {
        if entry.file_type().expect("a file").is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

#[test]
fn a_restored_home_that_dies_at_any_point_of_its_repair_is_repaired_once() {
    for point in SURPRISE {
        let stage = Stage::new(Memory::Good);
        let mut alice = stage.person("alice", On::Software);
        let mut bob = stage.person("bob", On::Software);
        alice.send("bob", "hello");
        bob.run(&["accept", "alice", "--json"]).ok();
        bob.recv();
        alice.recv();
        let kept = bob.home.folder.with_extension("kept");
        copy(&bob.home.folder, &kept);
        // After a round trip the copy has none of the ratchet's new keys.
        bob.send("alice", "of the old home");
        alice.recv();
        alice.send("bob", "to the old home");
        bob.recv();
        alice.recv();
        alice.send("bob", "in flight");
        std::fs::remove_dir_all(&bob.home.folder).expect("deleted");
        copy(&kept, &bob.home.folder);
        bob.crash(&["recv", "--json"], (point, 0));
        let mut told = 0;
        for _ in 0..4 {
            let ended = bob.recv();
            let notes = events(&ended, "note");
            told += notes.iter().filter(|n| n["kind"] == "keys_old").count();
            alice.recv();
        }
        bob.send("alice", "of the restored home");
        alice.recv();
        let shown = bob.shown.texts().iter().filter(|t| *t == "in flight");
        assert_eq!(shown.count(), 1, "{point}: {:?}", bob.shown.texts());
        assert_eq!(
            alice.shown.texts(),
            ["of the old home", "of the restored home"],
            "{point}"
        );
        assert!(told <= 1, "{point}: told {told} times");
    }
}
