//! What people meet every day: times in their zone, scripts with joiners, an empty mailbox, a text taken back.

use hostchat_tests::{Running, World};
use rustix::process::Signal;

use crate::support::{all, events, history, pair, texts};

#[test]
fn times_are_those_of_the_users_zone_and_json_says_the_offset() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let shown = |zone: &str, arguments: &[&str]| {
        let mut command = bob.command(arguments);
        Running::start(command.env("TZ", zone)).end().ok()
    };
    for (zone, offset, seconds) in [
        ("UTC0", "+00:00", 0),
        ("IST-5:30", "+05:30", 19_800),
        ("MART+9:30", "-09:30", -34_200),
    ] {
        let json = shown(zone, &["history", "alice", "--json"]);
        let event = &events(&json, "history")[0];
        let time = event["time"].as_str().expect("a time");
        let ms = event["stored_at"].as_i64().expect("milliseconds");
        assert!(time.ends_with(offset), "{time}");
        // The same instant: seconds since 1970 of the day's time, as shown, less the offset.
        let clock: Vec<i64> = time[11..19]
            .split(':')
            .map(|n| n.parse().expect("a number"))
            .collect();
        let of_day = (clock[0] * 60 + clock[1]) * 60 + clock[2];
        assert_eq!((ms / 1000 + seconds).rem_euclid(86_400), of_day, "{time}");
        let text = shown(zone, &["history", "alice"]).out;
        let expected = format!("[{} {}]", &time[..10], &time[11..19]);
        assert!(text.starts_with(&expected), "{text}: {expected}");
    }
}

#[test]
fn persian_hindi_and_emoji_of_several_people_are_shown_as_they_are_written() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let written = [
        "می\u{200c}خواهم",
        "क्\u{200d}ष",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    ];
    for text in written {
        alice.run(&["send", "bob", text]).ok();
    }
    alice.run(&["send", "bob", "hid\u{200d}den"]).ok();
    let shown = bob.run(&["recv"]).ok().out;
    for text in written {
        assert!(shown.contains(&format!(" alice: {text}\n")), "{shown}");
    }
    assert!(shown.contains(" alice: hid\\u{200d}den\n"), "{shown}");
}

#[test]
fn an_empty_mailbox_is_told_and_so_is_a_relay_that_is_lost_and_comes_back() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["recv"]).ok();
    let empty = bob.run(&["recv"]).ok();
    assert_eq!(
        (empty.out.as_str(), empty.err.as_str()),
        ("", "note: no new messages\n")
    );
    assert_eq!(bob.run(&["recv", "--json"]).ok().out, "");
    let following = bob.start(&["recv", "--follow"]);
    let listening = format!("note: listening at {}; Ctrl-C ends it", relay.host_port());
    following.wait_err("the end of the mailbox", |line| {
        (line == listening).then_some(())
    });
    relay.kill();
    following.wait_err("the loss", |line| {
        line.contains("trying again").then_some(())
    });
    relay.start();
    alice.run(&["send", "bob", "are you back?"]).ok();
    following.wait_out("the message", |line| {
        line.contains("are you back?").then_some(())
    });
    following.signal(Signal::INT);
    let ended = following.end().refused(130, "interrupted");
    assert_eq!(ended.err.matches(&listening).count(), 2, "{ended}");
    assert!(!ended.err.contains("http"), "{ended}");
}

#[test]
fn a_text_is_taken_back_out_of_the_outbox_and_nobody_misses_it() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["recv"]).ok();
    relay.kill();
    for text in ["first", "a mistake", "last"] {
        alice
            .run(&["send", "bob", text])
            .refused(8, "kept in the outbox");
    }
    let listed = alice.run(&["outbox"]).ok().out;
    let id = |text: &str| {
        let line = listed.lines().find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("{text} is not in {listed}"));
        line.split(' ').next().unwrap_or_default().to_owned()
    };
    alice.run(&["outbox", "remove", "x"]).refused(2, "is no id");
    alice
        .run(&["outbox", "remove", "00000000"])
        .refused(15, "nothing in the outbox has the id 00000000");
    let removed = alice.run(&["outbox", "remove", &id("a mistake")]).ok();
    assert_eq!(removed.out, "removed: it was not sent\n");
    relay.start();
    let received = {
        alice.run(&["send", "bob", "and one more"]).ok();
        bob.run(&["recv", "--json"]).ok()
    };
    assert_eq!(texts(&received), ["first", "last", "and one more"]);
    for event in events(&received, "message") {
        assert_eq!(event["missing"], 0, "{event}");
    }
    assert!(!received.out.contains("missing\":1"), "{received}");
    alice.run(&["recv"]).ok();
    let sent = ["hello", "first", "last", "and one more"];
    assert_eq!(history(&alice, "bob"), all("confirmed", &sent));
    assert_eq!(alice.run(&["outbox"]).ok().out, "");
    // What has left is not sent again, and the history says that nobody has confirmed it.
    alice.run(&["send", "bob", "it has left"]).ok();
    let listed = alice.run(&["outbox"]).ok().out;
    let left = listed.split(' ').next().unwrap_or_default();
    let removed = alice.run(&["outbox", "remove", left]).ok();
    assert_eq!(
        removed.out,
        "removed: it is not sent again. It may have left before\n"
    );
    assert_eq!(alice.run(&["outbox"]).ok().out, "");
    let last = history(&alice, "bob").pop();
    assert_eq!(last, Some(("it has left".into(), "never confirmed".into())));
    // It arrives all the same, and its receipt is believed.
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["it has left"]);
    alice.run(&["recv"]).ok();
    let last = history(&alice, "bob").pop();
    assert_eq!(last, Some(("it has left".into(), "confirmed".into())));
}

#[test]
fn whoami_says_the_relay_with_its_fingerprint_as_others_need_it() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    let shown = alice.run(&["whoami"]).ok().out;
    assert!(
        shown.ends_with(&format!("\nrelay {}\n", relay.address)),
        "{shown}"
    );
    let json = alice.run(&["whoami", "--json"]).ok();
    assert_eq!(events(&json, "account")[0]["relay"], relay.address);
}

#[test]
fn a_token_that_was_asked_the_same_again_and_again_says_so_in_one_line() {
    let world = World::new();
    let relay = world.relay();
    let sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    for _ in 0..3 {
        alice.run(&["whoami"]).ok();
    }
    let log = alice.run(&["token", "log"]).ok().out;
    let lines: Vec<&str> = log.lines().collect();
    let words = |line: &&str| line.split("ago  ").nth(1).unwrap_or_default().to_owned();
    for two in lines.windows(2) {
        let kind = |line: &&str| {
            words(line)
                .split(" (")
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        assert_ne!(kind(&two[0]), kind(&two[1]), "{log}");
    }
    let counted = events(&alice.run(&["token", "log", "--json"]).ok(), "request");
    let unlocks = counted.iter().filter(|event| event["kind"] == "unlock");
    let all: u64 = unlocks.filter_map(|event| event["count"].as_u64()).sum();
    assert!(all >= 5, "{counted:?}");
}

#[test]
fn the_history_says_of_each_message_whether_its_other_end_was_verified_then() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    alice.run(&["send", "bob", "before"]).ok();
    bob.run(&["accept", "alice"]).ok();
    alice.run(&["recv"]).ok();
    pair(&world, &alice, &bob);
    bob.run(&["send", "alice", "after"]).ok();
    alice.run(&["recv"]).ok();
    for (home, peer, verified) in [
        (&alice, "bob", [false, true, true]),
        (&bob, "alice", [false, true, true]),
    ] {
        let history = home.run(&["history", peer, "--json"]).ok();
        let shown: Vec<_> = events(&history, "history")
            .iter()
            .map(|event| event["verified"].as_bool())
            .collect();
        assert_eq!(shown, verified.map(Some), "{history}");
    }
}

#[test]
fn a_deleted_contact_gets_nothing_more_of_what_was_written_before() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["recv"]).ok();
    alice.run(&["send", "bob", "sent before"]).ok();
    assert!(alice.run(&["outbox"]).ok().out.contains("sent before"));
    let deleted = alice.run(&["contacts", "delete", "bob"]).ok();
    let told = "is deleted; 1 unconfirmed message is not sent again";
    assert!(deleted.out.contains(told), "{deleted}");
    assert_eq!(alice.run(&["outbox"]).ok().out, "");
    let last = history(&alice, &format!("bob@{}", relay.host_port())).pop();
    assert_eq!(last, Some(("sent before".into(), "never confirmed".into())));
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["sent before"]);
    // They pair again: only what is written then is sent.
    let sending = alice.start(&["send", "bob", "a new beginning", "--code", "print"]);
    let code = crate::support::code_of(&sending);
    let accepted = bob.run_with_input(&["accept", "alice", "--code-file", "-", "--json"], &code);
    assert_eq!(texts(&accepted.ok()), ["a new beginning"]);
    sending.end().ok();
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
}

#[test]
fn a_list_without_entries_says_so_beside_the_output_and_to_programs_nothing() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    alice.run(&["who", "--visible", "off"]).ok();
    for (list, said) in [
        (&["contacts"][..], "note: no contacts yet; `hostchat send"),
        (
            &["contacts", "blocked"],
            "note: you block nobody; `hostchat",
        ),
        (&["outbox"], "note: the outbox is empty; `hostchat history`"),
        (&["history"], "note: no history yet; `hostchat send`"),
        (&["who"], "note: nobody who is connected to your relay"),
        (&["accept"], "no pending requests; "),
    ] {
        let shown = alice.run(list).ok();
        assert_eq!(shown.out, "", "{shown}");
        assert!(shown.err.starts_with(said), "{shown}");
        assert_eq!(shown.err.lines().count(), 1, "{shown}");
        let shown = alice.run(&[list, &["--json"]].concat()).ok();
        assert_eq!((&*shown.out, &*shown.err), ("", ""), "{shown}");
    }
}
