//! The whole path: what two people do with hostchat, from init to reply.

use hostchat_tests::{Home, Relay, World};
use serde_json::Value;

use crate::support::{code_of, events, pair, texts};

#[test]
fn a_message_sent_with_a_code_arrives_when_the_code_is_typed_and_both_are_verified() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    let sending = alice.start(&["send", "bob", "meet at nine", "--code", "print"]);
    let code = code_of(&sending);
    let asking = bob.run(&["accept"]).ok();
    assert!(
        asking.out.contains("alice@"),
        "bob is told who asks: {asking}"
    );
    let accepted = bob
        .run_with_input(&["accept", "alice", "--code-file", "-", "--json"], &code)
        .ok();
    assert_eq!(texts(&accepted), ["meet at nine"]);
    let paired = events(&accepted, "paired");
    assert_eq!(paired[0]["verified"], true);
    sending.end().ok();

    for home in [&alice, &bob] {
        let contacts = home.run(&["contacts", "--json"]).ok();
        assert_eq!(
            events(&contacts, "contact")[0]["status"],
            "verified by code",
            "{contacts}"
        );
    }
    let number = |home: &Home, of: &str| {
        let shown = home.run(&["contacts", "verify", of, "--json"]).ok();
        events(&shown, "safety_number")[0]["number"]
            .as_str()
            .expect("a number")
            .to_owned()
    };
    assert_eq!(number(&alice, "bob"), number(&bob, "alice"));
    assert_eq!(number(&alice, "bob").len(), 60);
}

#[test]
fn messages_go_both_ways_and_wait_for_a_receiver_who_is_offline() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);

    for n in 0..5 {
        alice.run(&["send", "bob", &format!("to bob {n}")]).ok();
    }
    let received = bob.run(&["recv", "--json"]).ok();
    assert_eq!(
        texts(&received),
        ["to bob 0", "to bob 1", "to bob 2", "to bob 3", "to bob 4"]
    );
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        [""; 0],
        "nothing is shown twice"
    );
    bob.run(&["reply", "to alice"]).ok();
    assert_eq!(texts(&alice.run(&["recv", "--json"]).ok()), ["to alice"]);
    let history = events(&alice.run(&["history", "bob", "--json"]).ok(), "history");
    assert_eq!(
        history.len(),
        7,
        "one with the code, five, one reply: {history:?}"
    );
}

#[test]
fn a_first_message_without_a_code_is_a_request_that_makes_an_unverified_contact() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));

    alice.run(&["send", "bob", "we met at the fair"]).ok();
    alice.run(&["send", "bob", "do you remember?"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        [""; 0],
        "a stranger's text is not shown unasked"
    );
    let accepted = bob.run(&["accept", "alice", "--json"]).ok();
    let mut all = texts(&accepted);
    all.extend(texts(&bob.run(&["recv", "--json"]).ok()));
    assert_eq!(all, ["we met at the fair", "do you remember?"]);
    let contact = &events(&bob.run(&["contacts", "--json"]).ok(), "contact")[0];
    assert_eq!(contact["status"], "unverified");
    bob.run(&["reply", "I do"]).ok();
    let reply = events(&alice.run(&["recv", "--json"]).ok(), "message");
    assert_eq!(
        (&reply[0]["text"], &reply[0]["verified"]),
        (&Value::from("I do"), &Value::from(false))
    );

    pair(&world, &alice, &bob);
    let contact = &events(&bob.run(&["contacts", "--json"]).ok(), "contact")[0];
    assert_eq!(contact["status"], "verified by code");
}

#[test]
fn a_declined_stranger_gets_no_session_and_shows_no_text() {
    let world = World::new();
    let relay = world.relay();
    let (mallory, bob) = (world.home("mallory", &relay), world.home("bob", &relay));
    mallory.run(&["send", "bob", "buy now"]).ok();
    bob.run(&["accept", "mallory", "--decline"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
    assert!(events(&bob.run(&["contacts", "--json"]).ok(), "contact").is_empty());
}

#[test]
fn a_token_on_a_serial_port_pairs_sends_and_receives() {
    let world = World::new();
    let relay = world.relay();
    let mut sim = world.sim("token");
    let alice = world.home_on("alice", &relay, &sim);
    let bob = world.home("bob", &relay);
    pair(&world, &alice, &bob);
    alice.run(&["send", "bob", "from a token"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["from a token"]);

    sim.unplug();
    sim.start_with("always");
    bob.run(&["send", "alice", "after its restart"]).ok();
    assert_eq!(
        texts(&alice.run(&["recv", "--json"]).ok()),
        ["after its restart"]
    );
    alice.run(&["send", "bob", "and back"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["and back"]);
}

#[test]
fn people_at_two_relays_write_to_each_other() {
    let world = World::new();
    let (here, there) = (
        world.relay_with("here", &[]),
        world.relay_with("there", &[]),
    );
    let (alice, bob) = (world.home("alice", &here), world.home("bob", &there));
    let full = |name: &str, relay: &Relay| format!("{name}@{}", relay.address);

    let sending = alice.start(&[
        "send",
        &full("bob", &there),
        "hello over there",
        "--code",
        "print",
    ]);
    let code = code_of(&sending);
    // Bob has never heard of alice's relay: its fingerprint comes with the address that alice told him.
    let accepted = bob
        .run_with_input(
            &[
                "accept",
                &full("alice", &here),
                "--code-file",
                "-",
                "--json",
            ],
            &code,
        )
        .ok();
    assert_eq!(texts(&accepted), ["hello over there"]);
    sending.end().ok();
    bob.run(&["reply", "hello back"]).ok();
    assert_eq!(texts(&alice.run(&["recv", "--json"]).ok()), ["hello back"]);
}

#[test]
fn who_lists_the_connected_and_respects_those_who_hide() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob, carol) = (
        world.home("alice", &relay),
        world.home("bob", &relay),
        world.home("carol", &relay),
    );
    carol.run(&["who", "--visible", "off"]).ok();
    let listening = [
        bob.start(&["recv", "--follow", "--json"]),
        carol.start(&["recv", "--follow", "--json"]),
    ];
    // Both follow once a message of each kind has come through.
    for (name, running) in [("bob", &listening[0]), ("carol", &listening[1])] {
        alice.run(&["send", name, "are you there?"]).ok();
        running.wait_out("the request", |line| {
            line.contains("\"request\"").then_some(())
        });
    }
    let online = events(&alice.run(&["who", "--json"]).ok(), "online");
    let names: Vec<_> = online
        .iter()
        .map(|event| event["name"].as_str().unwrap_or_default())
        .collect();
    assert!(
        names.contains(&"bob") && !names.contains(&"carol"),
        "{names:?}"
    );
}

#[test]
fn an_identity_travels_as_text_and_contacts_are_renamed_and_deleted() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice.run(&["contacts", "rename", "bob", "bobby"]).ok();
    alice.run(&["send", "bobby", "by your new name"]).ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--json"]).ok()),
        ["by your new name"]
    );
    alice.run(&["contacts", "delete", "bobby"]).ok();
    assert!(events(&alice.run(&["contacts", "--json"]).ok(), "contact").is_empty());

    let export = events(&bob.run(&["whoami", "--export", "--json"]).ok(), "identity");
    let text = export[0]["export"].as_str().expect("text").to_owned();
    alice
        .run_with_input(&["contacts", "import", "-"], &text)
        .ok();
    let contact = &events(&alice.run(&["contacts", "--json"]).ok(), "contact")[0];
    assert_eq!(contact["status"], "imported");
    let mut altered = text.clone();
    let last = altered.pop().expect("not empty");
    altered.push(if last == '0' { '1' } else { '0' });
    assert!(
        !alice
            .run_with_input(&["contacts", "import", "-"], &altered)
            .status
            .success()
    );
}

#[test]
fn without_history_nothing_of_a_text_stays() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    alice
        .run(&["send", "bob", "forget me", "--no-history"])
        .ok();
    assert_eq!(
        texts(&bob.run(&["recv", "--no-history", "--json"]).ok()),
        ["forget me"]
    );
    // The receipt: until it comes the sender keeps the text, to send it again.
    assert!(alice.run(&["outbox"]).ok().out.contains("forget me"));
    alice.run(&["recv", "--no-history"]).ok();
    for home in [&alice, &bob] {
        for command in ["history", "outbox"] {
            let shown = home.run(&[command, "--json"]).ok();
            assert!(!shown.out.contains("forget me"), "{shown}");
        }
        // Nor under its seal: of what is kept, the text of the pairing is all.
        assert_eq!(rows(home, "messages"), 1, "{}", home.name);
        assert_eq!(rows(home, "outbox"), 0, "{}", home.name);
    }
}

/// How many rows a table of somebody's vault has.
fn rows(home: &Home, table: &str) -> i64 {
    let vault = rusqlite::Connection::open(home.folder.join("vault.db")).expect("the vault");
    let count = format!("SELECT count(*) FROM {table}");
    vault
        .query_row(&count, [], |row| row.get(0))
        .expect("a number")
}

#[test]
fn a_relay_that_keeps_who_wrote_to_whom_says_so_to_its_users() {
    let world = World::new();
    let mut relay = world.relay();
    let alice = world.home("alice", &relay);
    let kept = "keeps for 14 days who wrote to whom";
    let who = alice.run(&["who"]).ok();
    assert!(!who.err.contains("who wrote to whom"), "{who}");
    relay.stop().ok();
    let path = relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("relay.toml");
    std::fs::write(&path, format!("{text}\n[audit]\nlog_days = 14\n")).expect("written");
    relay.start();
    let who = alice.run(&["who"]).ok();
    assert!(who.err.contains(kept), "{who}");
    let bob = world.bare_home("bob", None);
    let init = bob
        .run(&["init", "--relay", &relay.address, "--name", "bob"])
        .ok();
    assert!(init.err.contains(kept), "{init}");
}
