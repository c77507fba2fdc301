//! What gets lost on the way and comes all the same, and what a wrong clock must not make of it.

use std::time::Duration;

use hostchat::model::{Note, Sent};
use hostchat_tests::simulation::{Mail, Part, What, World, run};

use crate::friends;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAY_MS: i64 = 24 * 3600 * 1000;

/// How the texts stand that `who` sent, by their text.
fn sent(world: &mut World, who: &str) -> Vec<(String, Option<Sent>)> {
    let history = world.look(who, async |client| client.vault().history(None, 99));
    let own = history.into_iter().filter(|m| m.sent.is_some());
    own.map(|m| (m.text.to_string(), m.sent)).collect()
}

fn last(world: &mut World, who: &str, count: usize) -> Vec<(String, Option<Sent>)> {
    let mut all = sent(world, who);
    all.split_off(all.len().saturating_sub(count))
}

fn notices<'w>(world: &'w World, who: &str) -> Vec<&'w Note> {
    let of = world.seen().iter().filter(|seen| seen.who == who);
    of.filter_map(|seen| match &seen.what {
        What::Note(note) => Some(note),
        _ => None,
    })
    .collect()
}

fn confirmed(text: &str) -> (String, Option<Sent>) {
    (text.into(), Some(Sent::Confirmed))
}

/// Both receive, twice: texts, and what comes back for them.
fn settle(world: &mut World) {
    world.wait(Duration::from_secs(1));
    for who in ["b", "a", "b", "a"] {
        world.receive(who).unwrap();
    }
}

#[test]
fn a_text_that_a_relay_loses_arrives_when_a_later_one_is_confirmed() {
    run(|| {
        let mut world = World::like(41, friends());
        let books = world.relay_copy();
        world.send("a", "b", "lost on the way").unwrap();
        world.relay_restore(&books);
        world.receive("b").unwrap();
        assert!(world.texts("b").is_empty());
        world.wait(Duration::from_secs(1));
        world.send("a", "b", "later").unwrap();
        world.receive("b").unwrap();
        assert_eq!(world.texts("b"), [("a", "later")]);
        settle(&mut world);
        let shown = [("a", "later"), ("a", "lost on the way")];
        assert_eq!(world.texts("b"), shown, "once");
        let wanted = [confirmed("lost on the way"), confirmed("later")];
        assert_eq!(last(&mut world, "a", 2), wanted);
    });
}

#[test]
fn a_receipt_that_a_relay_loses_is_given_again_and_nothing_is_shown_twice() {
    run(|| {
        let mut world = World::like(42, friends());
        world.send("a", "b", "one").unwrap();
        let books = world.relay_copy();
        world.receive("b").unwrap();
        world.relay_restore(&books);
        settle(&mut world);
        assert_eq!(world.texts("b"), [("a", "one")]);
        world.send("a", "b", "two").unwrap();
        settle(&mut world);
        assert_eq!(world.texts("b"), [("a", "one"), ("a", "two")]);
        let wanted = [confirmed("one"), confirmed("two")];
        assert_eq!(last(&mut world, "a", 2), wanted);
        // Nothing goes back and forth from now on.
        let passed = |world: &World| {
            let relay = world.relay();
            relay.sent("a", "b").len() + relay.sent("b", "a").len()
        };
        let before = passed(&world);
        settle(&mut world);
        assert_eq!(passed(&world), before);
    });
}

#[test]
fn a_clock_that_is_weeks_ahead_or_back_gives_up_nothing() {
    run(|| {
        for ahead in [46 * DAY_MS, -46 * DAY_MS] {
            let mut world = World::like(43, friends());
            world.send("a", "b", "before").unwrap();
            world.clocks_ahead(ahead);
            world.leave("a");
            world.receive("a").unwrap();
            world.send("a", "b", "with a wrong clock").unwrap();
            world.leave("a");
            world.clocks_ahead(0);
            world.receive("a").unwrap();
            let waits = |text: &str| (text.to_owned(), Some(Sent::Unconfirmed));
            let wanted = [waits("before"), waits("with a wrong clock")];
            assert_eq!(last(&mut world, "a", 2), wanted, "{ahead}");
            world.send("a", "b", "after").unwrap();
            settle(&mut world);
            assert_eq!(world.texts("b").len(), 3);
            let wanted = ["before", "with a wrong clock", "after"].map(confirmed);
            assert_eq!(last(&mut world, "a", 3), wanted, "in the order of writing");
            assert!(
                notices(&world, "a").is_empty(),
                "{:?}",
                notices(&world, "a")
            );
        }
    });
}

#[test]
fn a_receipt_that_comes_after_45_days_counts() {
    run(|| {
        let mut world = World::like(44, friends());
        world.send("a", "b", "slow").unwrap();
        let books = world.relay_copy();
        world.receive("b").unwrap();
        let late = world.relay().mailbox("a");
        world.relay_restore(&books);
        world.wait(DAY * 46);
        world.receive("a").unwrap();
        let never = [("slow".to_owned(), Some(Sent::Never))];
        assert_eq!(last(&mut world, "a", 1), never);
        assert!(matches!(
            notices(&world, "a")[..],
            [Note::NeverConfirmed { count: 1, .. }]
        ));
        // The receipt turns up: an operator found the relay's old disk.
        let stored_at = world.now_ms();
        for mail in late {
            world.relay().leave("a", Mail { stored_at, ..mail });
        }
        world.receive("a").unwrap();
        assert_eq!(last(&mut world, "a", 1), [confirmed("slow")]);
    });
}

#[test]
fn a_first_message_that_these_keys_confirmed_before_a_restore_is_told_as_gone() {
    run(|| {
        let mut world = World::new(45);
        world.join("a");
        world.join("b");
        world.send("a", "b", "hello, stranger").unwrap();
        world.receive("b").unwrap();
        let image = world.image("b");
        world.accept_first("b", "a").unwrap();
        settle(&mut world);
        assert_eq!(world.texts("b"), [("a", "hello, stranger")]);
        assert_eq!(last(&mut world, "a", 1), [confirmed("hello, stranger")]);
        world.restore("b", &image, Part::Whole);
        world.receive("b").unwrap();
        world.accept_first("b", "a").unwrap();
        settle(&mut world);
        settle(&mut world);
        assert_eq!(world.texts("b").len(), 1, "it is not sealed again");
        let gone = |notice: &&&Note| matches!(notice, Note::GoneFrom { count: 1, .. });
        assert_eq!(notices(&world, "b").iter().filter(gone).count(), 1);
        world.send("a", "b", "are you back").unwrap();
        settle(&mut world);
        assert_eq!(world.texts("b").last(), Some(&("a", "are you back")));
    });
}
