//! Relays that are away, foreign, of another version, full or strict: each with its message, and nothing lost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use hostchat_core::wire::Bytes;
use hostchat_core::wire::relay::{Event, RELAY_VERSION};
use hostchat_tests::hostile::{Frame, HostileRelay};
use hostchat_tests::{Ended, Running, World, program};

use crate::support::{events, pair, texts};

/// Adds lines to `[limits]`, which is the end of relay.toml; gives what it was.
fn limit(folder: &Path, lines: &str) -> String {
    let path = folder.join("relay.toml");
    let text = fs::read_to_string(&path).expect("relay.toml");
    assert!(text.contains("[limits]"));
    fs::write(&path, format!("{text}\n{lines}\n")).expect("written");
    text
}

/// How many messages wait in an outbox, over all contacts.
fn waiting(contacts: &Ended) -> u64 {
    events(contacts, "contact")
        .iter()
        .filter_map(|contact| contact["outbox"].as_u64())
        .sum()
}

#[test]
fn a_relay_with_another_certificate_gets_nothing_until_its_new_fingerprint_is_given() {
    let world = World::new();
    let mut relay = world.relay();
    let other = world.relay_with("other", &[]);
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);

    relay.stop();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(other.folder().join(name), relay.folder().join(name)).expect("copied");
    }
    relay.start();
    alice
        .run(&["send", "bob", "to whom?"])
        .refused(
            8,
            "shows a certificate that is not to be trusted: its fingerprint is not the one given",
        )
        .refused(8, "if it should not have changed, somebody is in between");
    bob.run(&["recv"])
        .refused(6, "shows a certificate that is not to be trusted")
        .refused(
            6,
            "hint: ask the operator for the address with its present fingerprint",
        );
    // Once the operator has told the new one, it is given once.
    alice.run(&["recv", "--relay", &relay.address]).ok();
    alice.run(&["send", "bob", "known again"]).ok();
    let received = bob.run(&["recv", "--json", "--relay", &relay.address]).ok();
    assert_eq!(texts(&received), ["to whom?", "known again"]);

    let nowhere = world.bare_home("carol", None);
    let without = relay.host_port();
    nowhere
        .run(&["init", "--relay", without, "--name", "carol"])
        .refused(6, "shows a certificate that is not to be trusted")
        .refused(6, "no fingerprint was given");
}

#[test]
fn a_relay_of_another_version_is_refused_with_what_to_update() {
    let world = World::new();
    let relay = HostileRelay::start();
    let alice = world.bare_home("alice", None);
    let init = ["init", "--relay", &relay.address, "--name", "alice"];
    for (version, hint) in [
        (RELAY_VERSION + 1, "hint: update hostchat"),
        (RELAY_VERSION - 1, "hint: the relay has to be updated"),
    ] {
        relay.attack(|adversary| {
            adversary.challenge = Box::new(move |_| {
                let event = Event::Challenge {
                    version,
                    challenge: Bytes([7; 32]),
                    software: "9.9.9",
                };
                vec![Frame::Binary(hostchat_tests::hostile::event(&event))]
            });
        });
        alice
            .run(&init)
            .refused(
                6,
                &format!("speaks protocol version {version}, this program {RELAY_VERSION}"),
            )
            .refused(6, hint);
    }
    for frame in [
        Frame::Text("hello".into()),
        Frame::Binary(vec![0xff; 64]),
        Frame::Cut,
    ] {
        let shown = frame.clone();
        relay.attack(|adversary| {
            adversary.challenge = Box::new(move |_| vec![frame.clone()]);
        });
        let ended = alice.run(&init);
        assert_eq!(ended.code(), 6, "{shown:?}: {ended}");
        assert!(ended.err.contains("hint: "), "{shown:?}: {ended}");
    }
    relay.behave();
    alice.run(&init).ok();
}

#[test]
fn what_is_no_relay_is_told() {
    let world = World::new();
    let alice = world.bare_home("alice", None);
    // Something that does not speak TLS.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"220 mail.example ESMTP \x1b]0;x\x07\r\n");
    });
    let relay = format!("127.0.0.1:{port}#{}", "0".repeat(64));
    let ended = alice
        .run(&["init", "--relay", &relay, "--name", "alice"])
        .refused(6, "cannot reach the relay 127.0.0.1:")
        .refused(6, "hint: is the relay running and the address right?");
    assert!(!ended.err.contains('\u{1b}'), "{ended}");
    serving.join().expect("served");

    alice
        .run(&[
            "init",
            "--relay",
            "no-such-host.invalid:1",
            "--name",
            "alice",
        ])
        .refused(6, "cannot reach the relay no-such-host.invalid:1");
    for bad in [
        "",
        "#",
        "host:0x1",
        "127.0.0.1:7443#12",
        "http://relay.example",
        "-",
        "a b:1",
    ] {
        let ended = alice.run(&["init", &format!("--relay={bad}"), "--name", "alice"]);
        assert_eq!(ended.code(), 2, "{bad:?}: {ended}");
    }
    for bad in ["", "a b", "a@b", "\u{1b}[2J", &"a".repeat(33)] {
        let ended = alice.run(&["init", "--relay", &relay, &format!("--name={bad}")]);
        assert_eq!(ended.code(), 2, "{bad:?}: {ended}");
        assert!(!ended.err.contains('\u{1b}'), "{bad:?}: {ended}");
    }
}

#[test]
fn a_full_relay_takes_nothing_and_the_sender_keeps_it() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["send", "bob", "while there was room"]).ok();

    relay.stop();
    let before = limit(relay.folder(), "disk_floor_mib = 1000000000");
    relay.start();
    alice
        .run(&["send", "bob", "no room"])
        .refused(8, "kept in the outbox: the relay")
        .refused(8, "refused: its disk is full")
        .refused(8, "before that");
    // What is there comes out of a full relay.
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["while there was room"]
    );
    relay.stop();
    fs::write(relay.folder().join("relay.toml"), before).expect("written");
    relay.start();
    alice.run(&["send", "bob", "room again"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["no room", "room again"]
    );
}

#[test]
fn a_full_mailbox_keeps_the_rest_with_the_sender_and_in_order() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    relay.stop();
    limit(relay.folder(), "mailbox_messages = 2\nsender_percent = 100");
    relay.start();

    alice.run(&["send", "bob", "1"]).ok();
    alice.run(&["send", "bob", "2"]).ok();
    for text in ["3", "4"] {
        alice
            .run(&["send", "bob", text])
            .refused(8, "the mailbox of the receiver is full")
            .refused(8, "hint: it leaves with the next");
    }
    assert_eq!(waiting(&alice.run(&["contacts", "--json"]).ok()), 2);
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["1", "2"]);
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["3", "4"]);
    assert_eq!(waiting(&alice.run(&["contacts", "--json"]).ok()), 0);
}

#[test]
fn who_is_blocked_is_told_and_keeps_the_message_until_it_is_taken() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["send", "bob", "before"]).ok();

    let at_alice = format!("alice@{}", relay.host_port());
    let done = events(
        &bob.run(&["contacts", "block", "alice", "--json"]).ok(),
        "done",
    );
    assert_eq!(done[0]["what"], "blocked");
    assert_eq!(done[0]["peer"], at_alice.as_str());
    let blocked = || {
        let listed = bob.run(&["contacts", "blocked", "--json"]).ok();
        events(&listed, "blocked")
    };
    let marked = || {
        let json = bob.run(&["contacts", "--json"]).ok();
        let text = bob.run(&["contacts"]).ok().out;
        let is_marked = text.contains(&format!("alice  {at_alice}  verified by code; blocked"));
        assert_eq!(events(&json, "contact")[0]["blocked"], is_marked, "{text}");
        is_marked
    };
    assert!(marked());
    assert_eq!(blocked().len(), 1);
    assert_eq!(blocked()[0]["name"], "alice");
    assert_eq!(blocked()[0]["address"], at_alice.as_str());
    alice
        .run(&["send", "bob", "unwanted"])
        .refused(7, "refused: the receiver takes nothing from you")
        .refused(7, "hint: what you wrote stays in the outbox")
        .refused(7, "`hostchat contacts delete NAME`");
    let contacts = alice.run(&["contacts", "--json"]).ok();
    assert_eq!(waiting(&contacts), 1);
    let contact = &events(&contacts, "contact")[0];
    assert_eq!(contact["status"], "verified by code");
    let received = alice.run(&["recv"]).ok();
    let notes = received.err.matches("takes nothing from you").count();
    assert_eq!(notes, 1, "{received}");
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["before"]);

    // A stranger gets no keys to begin with.
    let carol = world.home("carol", &relay);
    bob.run(&["contacts", "block", "carol"]).ok();
    carol
        .run(&["send", "bob", "hello"])
        .refused(7, "the receiver takes nothing from you");
    carol
        .run(&["send", "bob", "hello", "--code", "print"])
        .refused(7, "the receiver takes nothing from you");
    assert_eq!(waiting(&carol.run(&["contacts", "--json"]).ok()), 2);
    carol.run(&["contacts", "delete", "bob"]).ok();
    assert_eq!(waiting(&carol.run(&["contacts", "--json"]).ok()), 0);
    bob.run(&["contacts", "block", "eve@elsewhere.example:1"])
        .ok();
    let listed = bob.run(&["contacts", "blocked"]).ok();
    let lines: Vec<_> = listed.out.lines().collect();
    let carol_at = format!("carol@{}", relay.host_port());
    assert_eq!(
        lines,
        [
            &format!("alice  {at_alice}"),
            carol_at.as_str(),
            "eve@elsewhere.example:1"
        ]
    );

    assert!(marked());
    bob.run(&["contacts", "unblock", &at_alice]).ok();
    assert!(!marked());
    assert_eq!(blocked().len(), 2);
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["unwanted"]);
    assert_eq!(waiting(&alice.run(&["contacts", "--json"]).ok()), 0);
    for wrong in ["bob", "", "b b", "\u{1b}[2J"] {
        let ended = bob.run(&["contacts", "block", wrong]);
        assert_eq!(ended.code(), 2, "{wrong:?}: {ended}");
        assert!(!ended.err.contains('\u{1b}'), "{wrong:?}: {ended}");
    }
}

#[test]
fn a_rate_limit_tells_when_to_try_again_and_keeps_the_message() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    relay.stop();
    let before = limit(relay.folder(), "sends = { burst = 1, per_minute = 1 }");
    relay.start();
    alice.run(&["send", "bob", "within"]).ok();
    alice
        .run(&["send", "bob", "beyond"])
        .refused(8, "too many requests")
        .refused(8, "recv`; wait ");
    relay.stop();
    fs::write(relay.folder().join("relay.toml"), before).expect("written");
    relay.start();
    alice.run(&["recv"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["within", "beyond"]
    );
}

#[test]
fn a_relay_that_does_not_know_or_admit_somebody_says_so() {
    let world = World::new();
    let relay = world.relay();
    let closed = world.relay_with("closed", &["--registration", "closed"]);
    let alice = world.home("alice", &relay);

    alice
        .run(&["send", "nobody", "hello?"])
        .refused(7, "no such account")
        .refused(7, "hint: check the name");
    alice
        .run(&["send", "nobody", "hello?", "--code", "print"])
        .refused(7, "no such account");
    let contacts = alice.run(&["contacts", "--json"]).ok();
    assert!(events(&contacts, "contact").is_empty(), "{contacts}");
    world
        .bare_home("bob", None)
        .run(&["init", "--relay", &closed.address, "--name", "bob"])
        .refused(7, "registration is closed")
        .refused(7, "hint: ask the operator for an account or an invitation");
    world
        .bare_home("alice2", None)
        .run(&["init", "--relay", &relay.address, "--name", "alice"])
        .refused(7, "the name belongs to another identity");
    alice.run(&["whoami"]).ok();
    alice
        .run(&["whoami", "--relay", &closed.address])
        .refused(2, "leave --relay out, or give another --home");
}

#[test]
fn of_two_copies_of_a_home_the_one_that_came_first_ends_and_says_why() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let mut copy = bob.clone();
    copy.folder = world.path("copy of bob");
    fs::create_dir(&copy.folder).expect("folder");
    for name in ["config.toml", "token.flash", "vault.db"] {
        fs::copy(bob.folder.join(name), copy.folder.join(name)).expect("copied");
    }
    let following = bob.start(&["recv", "--follow"]);
    alice.run(&["send", "bob", "are you there?"]).ok();
    following.wait_out("the message", |line| {
        line.contains("are you there?").then_some(())
    });

    let mut second = copy.start(&["recv", "--follow"]);
    following
        .end()
        .refused(7, "too many connections")
        .refused(7, "another program receives for this account");
    assert!(second.is_running(), "the copy goes on");
    second.stop();
}

#[test]
fn who_is_suspended_is_told_loses_nothing_and_goes_on_when_the_operator_has_resumed_the_account() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["recv"]).ok();
    let admin = |what: &str| {
        let mut command = Command::new(program("hostchat-relay"));
        command.args(["admin", "--dir"]).arg(relay.folder());
        Running::start(command.args([what, "alice"])).end().ok();
    };
    bob.run(&["send", "alice", "before"]).ok();
    admin("suspend");
    for command in [&["send", "bob", "while suspended"][..], &["recv"]] {
        let ended = alice.run(command);
        assert!(
            ended
                .err
                .contains("its operator has suspended your account"),
            "{ended}"
        );
        assert!([7, 8].contains(&ended.code()), "{ended}");
    }
    assert_eq!(waiting(&alice.run(&["contacts", "--json"]).ok()), 1);
    // Bob learns nothing of it, and what he writes is kept.
    let sent = bob.run(&["send", "alice", "meanwhile"]).ok();
    assert!(!sent.err.contains("suspended"), "{sent}");
    admin("resume");
    let received = alice.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["before", "meanwhile"]);
    let received = bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["while suspended"]);
    assert_eq!(waiting(&alice.run(&["contacts", "--json"]).ok()), 0);
}
