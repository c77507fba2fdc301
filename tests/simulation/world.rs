//! The simulated world itself: people can talk in it, its faults are real, and it is the same for the same seed.

use std::time::Duration;

use hostchat::model::Note;
use hostchat_tests::simulation::{Forgery, Outcome, Part, Seen, What, World, run};

use crate::friends;

#[test]
fn people_exchange_first_messages_and_texts() {
    run(|| {
        let mut world = World::of(1, &["a", "b"]);
        assert_eq!(world.texts("b"), [("a", "a says hello")]);
        assert_eq!(world.texts("a"), [("b", "b says hello")]);
        let began = world.now_ms();
        for n in 0..20 {
            world.send("a", "b", &format!("a {n}")).unwrap();
            world.send("b", "a", &format!("b {n}")).unwrap();
        }
        // Texts, receipts, and once more to see that nothing answers them.
        for _ in 0..3 {
            world.receive("a").unwrap();
            world.receive("b").unwrap();
        }
        let wanted: Vec<String> = (0..20).map(|n| format!("a {n}")).collect();
        let shown: Vec<&str> = world.texts("b").iter().skip(1).map(|t| t.1).collect();
        assert_eq!(shown, wanted);
        assert_eq!(world.texts("a").len(), 21);
        assert_eq!(world.relay().waiting("a") + world.relay().waiting("b"), 0);
        assert_eq!(world.relay().reused(), 0);
        assert_eq!(world.now_ms(), began, "nobody had to wait");
    });
}

#[test]
fn people_pair_with_a_code() {
    run(|| {
        let mut world = World::new(2);
        world.join("a");
        world.join("b");
        world.pair("a", "b", "with a code");
        world.receive("b").unwrap();
        assert_eq!(world.texts("b"), [("a", "with a code")]);
        world.send("b", "a", "and back").unwrap();
        world.receive("a").unwrap();
        assert_eq!(world.texts("a"), [("b", "and back")]);
    });
}

#[test]
fn a_program_that_goes_on_takes_deliveries_one_by_one() {
    run(|| {
        let mut world = World::of(3, &["a", "b"]);
        for n in 0..3 {
            world.send("a", "b", &format!("{n}")).unwrap();
        }
        for n in 1..=3 {
            world.step("b", 1).unwrap();
            assert_eq!(world.texts("b").len(), 1 + n);
            assert_eq!(world.relay().waiting("b"), 3 - n);
        }
    });
}

#[test]
fn programs_that_run_together_hear_each_other_and_look_after_their_prekeys() {
    run(|| {
        let mut world = World::of(7, &["a", "b", "c"]);
        world.send("a", "b", "are you there").unwrap();
        world.drain("c");
        let began = world.now_ms();
        let ended = world.together(Duration::from_secs(2 * 3600));
        assert!(ended.is_empty(), "{ended:?}");
        assert_eq!(world.now_ms() - began, 2 * 3600 * 1000);
        assert_eq!(world.texts("b").last(), Some(&("a", "are you there")));
        assert!(world.relay().prekeys("c") > 0);
        assert_eq!(world.relay().waiting("a") + world.relay().waiting("b"), 0);
    });
}

#[test]
fn a_world_goes_on_where_another_one_was() {
    run(|| {
        let mut world = World::like(8, friends());
        let began = world.now_ms();
        assert!(world.seen().is_empty(), "the world before is not seen");
        world.send("a", "b", "in the world after").unwrap();
        world.receive("b").unwrap();
        assert_eq!(world.texts("b"), [("a", "in the world after")]);
        assert!(world.forge("b", "a", Forgery::FarAhead));
        assert_eq!((world.now_ms(), world.relay().reused()), (began, 0));
    });
}

/// What everybody saw in a history with crashes, a restored home, and a relay that reorders.
fn history(seed: u64) -> Vec<Seen> {
    let mut world = World::like(seed, friends());
    let names = ["a", "b", "c"];
    let old = world.image("a");
    world.reorder(20);
    world.crash(30_000);
    for n in 0..60 {
        let [one, other] = [world.draw(3), world.draw(3)];
        let (one, other) = (names[one as usize], names[other as usize]);
        // Whatever comes of it.
        let _ = match world.draw(6) {
            0 => world.receive(one),
            1 => world.step(one, 2),
            2 if n > 40 => {
                world.restore("a", &old, Part::Vault);
                world.receive("a")
            }
            3 => {
                world.forge(one, other, Forgery::BadTag);
                world.wait(Duration::from_secs(60));
                world.receive(one)
            }
            _ if one != other => world.send(one, other, &format!("{one} {n}")),
            _ => {
                world.leave(one);
                Outcome::Done(())
            }
        };
    }
    world.seen().to_vec()
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..3 {
        let (one, other) = (run(move || history(seed)), run(move || history(seed)));
        assert!(one.len() > 10);
        assert_eq!(one, other, "seed {seed}");
        assert_ne!(one, run(move || history(seed + 100)));
    }
}

#[test]
fn a_crash_at_any_point_loses_nothing_and_shows_nothing_twice_unsaid() {
    for point in [
        "outbox-stored",
        "token-sealed",
        "frame-stored",
        "relay-stored",
        "sent-marked",
        "delivered",
        "token-opened",
        "plaintext-stored",
        "token-committed",
        "commit-marked",
        "acknowledged",
        "showing-marked",
        "printed",
        "shown-marked",
    ] {
        run(move || {
            let mut world = World::of(4, &["a", "b"]);
            world.crash_at(point, 0);
            let sent = world.send("a", "b", "only once");
            let got = world.receive("b");
            assert!(!(sent.is_done() && got.is_done()), "{point} was not passed");
            for _ in 0..3 {
                world.receive("a").unwrap();
                world.receive("b").unwrap();
            }
            let shown = world
                .texts("b")
                .iter()
                .filter(|t| t.1 == "only once")
                .count();
            let twice = point == "printed";
            assert_eq!(shown, 1 + usize::from(twice), "{point}");
        });
    }
}

#[test]
fn a_restored_vault_and_a_twin_are_copies_of_what_was() {
    run(|| {
        let mut world = World::of(5, &["a", "b"]);
        let old = world.image("b");
        world.send("a", "b", "before").unwrap();
        world.receive("b").unwrap();
        world.restore("b", &old, Part::Vault);
        world.send("a", "b", "after").unwrap();
        world.receive("b").unwrap();
        assert_eq!(world.texts("b").last(), Some(&("a", "after")));
        world.twin("b", &old);
        assert_eq!(world.copies("b"), 2);
        world.twin("b", &old);
        assert_eq!((world.copies("b"), world.copy("b").number), (2, 0));
    });
}

/// A relay that delivers, and then neither delivers nor says that there is no more.
#[test]
fn a_mailbox_that_never_becomes_empty_ends_a_recv_with_a_note() {
    run(|| {
        let mut world = World::like(61, friends());
        for text in ["one", "two"] {
            world.send("a", "b", text).unwrap();
        }
        world.relay().allow("b", 1);
        let before = world.now_ms();
        world.receive("b").unwrap();
        assert_eq!(world.texts("b"), [("a", "one")]);
        assert!(world.now_ms() - before >= 10 * 60 * 1000);
        let told = |seen: &Seen| matches!(&seen.what, What::Note(Note::NotDrained { .. }));
        let told = world.seen().iter().any(told);
        assert!(told, "{:?}", world.seen());
        world.relay().allow("b", 99);
        world.send("a", "b", "three").unwrap();
        world.receive("b").unwrap();
        assert_eq!(
            world.texts("b"),
            [("a", "one"), ("a", "two"), ("a", "three")]
        );
    });
}
