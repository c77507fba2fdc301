//! Clocks that are wrong: what is sent still arrives, once and in order, and what cannot work says that it is the clock.

use std::process::{Command, Stdio};

use hostchat_tests::{Ended, Home, Running, World};

use crate::support::{code_of, history, pair, texts};

/// Runs `hostchat` in a home with its clock off by `offset`, as `faketime` takes it. Waits go on as they are.
pub(crate) fn with_clock(offset: &str, home: &Home, arguments: &[&str]) -> Ended {
    let inner = home.command(arguments);
    let mut command = Command::new("faketime");
    command
        .args(["--exclude-monotonic", "-f", offset])
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Running::start(&mut command).end()
}

#[test]
fn messages_arrive_once_and_in_order_while_both_clocks_jump() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let mut sent = Vec::new();
    for (number, (of_alice, of_bob)) in [
        ("+400d", "-3d"),
        ("-400d", "+90d"),
        ("+0", "-400d"),
        ("+40d", "+0"),
    ]
    .into_iter()
    .enumerate()
    {
        for part in ["one", "two"] {
            let text = format!("{part} of {number}");
            with_clock(of_alice, &alice, &["send", "bob", &text]).ok();
            sent.push(text);
        }
        let got = texts(&with_clock(of_bob, &bob, &["recv", "--json"]).ok());
        assert_eq!(got, sent[sent.len() - 2..]);
        with_clock(of_bob, &bob, &["send", "alice", &format!("reply {number}")]).ok();
        let got = texts(&with_clock(of_alice, &alice, &["recv", "--json"]).ok());
        assert_eq!(got, [format!("reply {number}")]);
    }
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        Vec::<String>::new()
    );
}

#[test]
fn own_texts_stand_in_the_history_where_they_were_sent_whatever_the_clock_said() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let mut expected = vec!["hello".to_owned()];
    for (number, of_alice) in ["+400d", "-400d", "+5m", "+0"].into_iter().enumerate() {
        let (question, answer) = (format!("question {number}"), format!("answer {number}"));
        with_clock(of_alice, &alice, &["send", "bob", &question]).ok();
        bob.run(&["recv"]).ok();
        bob.run(&["send", "alice", &answer]).ok();
        alice.run(&["recv"]).ok();
        expected.extend([question, answer]);
    }
    for (home, peer) in [(&alice, "bob"), (&bob, "alice")] {
        let shown: Vec<String> = history(home, peer)
            .into_iter()
            .map(|(text, _)| text)
            .collect();
        assert_eq!(shown, expected);
    }
}

#[test]
fn a_clock_that_is_ahead_makes_keys_look_old_and_the_message_waits_for_the_right_time() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    with_clock("+60d", &alice, &["send", "bob", "from the future"])
        .refused(
            8,
            "are older than 45 days, or from the future, by this computer's clock",
        )
        .refused(8, "is this computer's clock right?");
    alice.run(&["send", "bob", "from now"]).ok();
    let accepted = bob.run(&["accept", "alice", "--json"]).ok();
    assert_eq!(texts(&accepted), ["from the future", "from now"]);
}

#[test]
fn keys_that_were_left_with_a_wrong_clock_are_replaced_when_it_is_right() {
    let world = World::new();
    let relay = world.relay();
    let alice = world.home("alice", &relay);
    for offset in ["-400d", "+400d"] {
        let name = if offset.starts_with('-') {
            "bob"
        } else {
            "carol"
        };
        let receiver = world.bare_home(name, None);
        with_clock(
            offset,
            &receiver,
            &["init", "--relay", &relay.address, "--name", name],
        )
        .ok();
        alice
            .run(&["send", name, "too early"])
            .refused(8, "are older than 45 days, or from the future");
        receiver.run(&["recv"]).ok();
        alice.run(&["send", name, "now"]).ok();
        let accepted = receiver.run(&["accept", "alice", "--json"]).ok();
        assert_eq!(texts(&accepted), ["too early", "now"]);
    }
}

#[test]
fn a_clock_that_jumps_ends_a_request_for_a_code_but_no_pairing_under_way() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    for offset in ["+1d", "-1d"] {
        let sending = alice.start(&["send", "bob", "hello", "--code", "print"]);
        let code = code_of(&sending);
        bob.run(&["recv"]).ok();
        with_clock(offset, &bob, &["accept", "alice"]).refused(15, "does not ask for anything");
        drop(code);
        sending.signal(rustix::process::Signal::INT);
        sending.end().refused(130, "interrupted");
        bob.run(&["recv"]).ok();
    }
    // Whatever the clocks of the two say, as long as each keeps its own.
    let sending = alice.start(&["send", "bob", "at last", "--code", "print"]);
    let code = code_of(&sending);
    let file = world.path("code");
    std::fs::write(&file, &code).expect("written");
    let arguments = [
        "accept",
        "alice",
        "--json",
        "--code-file",
        &file.to_string_lossy(),
    ];
    let accepted = with_clock("+400d", &bob, &arguments).ok();
    sending.end().ok();
    let mut got = texts(&accepted);
    got.extend(texts(&bob.run(&["recv", "--json"]).ok()));
    assert_eq!(got, ["hello", "hello", "at last"]);
}

#[test]
fn a_clock_before_1970_is_one_that_is_wrong_and_nothing_more() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let before = "@1960-01-01 00:00:00";
    with_clock(before, &alice, &["send", "bob", "from the past"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["from the past"]);
    bob.run(&["send", "alice", "to the past"]).ok();
    let received = with_clock(before, &alice, &["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["to the past"]);
    let carol = world.bare_home("carol", None);
    let init = ["init", "--relay", &relay.address, "--name", "carol"];
    with_clock(before, &carol, &init).ok();
    for arguments in [
        &["history"][..],
        &["status"],
        &["outbox"],
        &["contacts"],
        &["who"],
    ] {
        with_clock(before, &alice, arguments).ok();
    }
}
