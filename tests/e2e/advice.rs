//! What hostchat advises can be followed, and nothing is sent twice or lost by doing so.

use hostchat_tests::{Ended, Home, World};
use rustix::process::Signal;

use crate::support::{code_of, events, pair, texts};
use crate::terminal::Terminal;

/// Types a code at the other end; gives the texts that came with it and after it.
fn accept(home: &Home, sender: &str, code: &str) -> Vec<String> {
    let arguments = ["accept", sender, "--code-file", "-", "--json"];
    let accepted = home.run_with_input(&arguments, code).ok();
    let mut all = texts(&accepted);
    all.extend(texts(&home.run(&["recv", "--json"]).ok()));
    all
}

/// The command in a hint that makes a new code for what waits.
fn advised(ended: &Ended) -> Vec<String> {
    let hint = ended.err.lines().find(|line| line.starts_with("hint: "));
    let hint = hint.expect("a hint");
    assert!(hint.contains("the message waits in the outbox"), "{hint}");
    assert!(!hint.contains("repeat"), "{hint}");
    let command = hint.split('`').find(|part| part.contains("--code print"));
    let words = command.expect("a command").split(' ').skip(1);
    words.map(str::to_owned).collect()
}

fn run_words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn after_ctrl_c_the_advised_command_pairs_for_what_waits_and_sends_it_once() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let sending = alice.start(&["send", "bob", "once only", "--code", "print"]);
    code_of(&sending);
    sending.signal(Signal::INT);
    let ended = sending.end().refused(130, "error: interrupted");
    let advice = advised(&ended);
    assert_eq!(advice.first().map(String::as_str), Some("send"));

    // Nothing on standard input, as in a script.
    let sending = alice.start(&run_words(&advice));
    let code = code_of(&sending);
    assert_eq!(accept(&bob, "alice", &code), ["once only"]);
    sending.end().ok();
    let outbox = alice.run(&["outbox", "--json"]).ok();
    let states: Vec<_> = events(&outbox, "outbox");
    assert!(
        states.iter().all(|entry| entry["state"] == "unconfirmed"),
        "nothing waits: {outbox}"
    );
    // Now there is nothing that waits, and an empty text is an error as before.
    alice
        .run(&run_words(&advice))
        .refused(2, "the message is empty")
        .refused(2, "waits in the outbox");
}

#[test]
fn on_a_terminal_the_advised_command_asks_for_no_text() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let sending = alice.start(&["send", "bob", "once only", "--code", "print"]);
    code_of(&sending);
    sending.signal(Signal::INT);
    let advice = advised(&sending.end());
    let terminal = Terminal::start(&alice.command(&run_words(&advice)), false);
    let shown = terminal.wait("the code", |shown| {
        shown.contains("waiting until it is typed")
    });
    assert!(!shown.contains("Type the message"), "{shown}");
    let code = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("code: "));
    assert_eq!(
        accept(&bob, "alice", code.expect("a code").trim()),
        ["once only"]
    );
    assert_eq!(terminal.end().1, 0);
}

#[test]
fn a_text_for_somebody_who_was_never_reached_leaves_with_the_advised_command() {
    let world = World::new();
    let (mut relay, elsewhere) = (world.relay(), world.relay_with("elsewhere", &[]));
    let alice = world.home("alice", &elsewhere);
    let bob = world.home("bob", &relay);
    let to = format!("bob@{}", relay.address);
    relay.stop();
    let ended = alice.run(&["send", &to, "no code"]);
    let advice = format!(
        "`hostchat send bob@{}` without a text sends it",
        relay.host_port()
    );
    let ended = ended.refused(8, "kept in the outbox").refused(8, &advice);
    assert!(!ended.err.contains("it leaves with"), "{ended}");
    // Receiving says so as well: by itself it would wait for ever.
    let received = alice.run(&["recv"]).ok();
    assert!(
        received.err.contains("there is no session yet"),
        "{received}"
    );
    relay.start();
    alice
        .run(&["send", &format!("bob@{}", relay.host_port())])
        .ok();
    let accepted = bob.run(&["accept", &format!("alice@{}", elsewhere.address), "--json"]);
    assert_eq!(texts(&accepted.ok()), ["no code"]);
}

#[test]
fn a_reachable_contact_s_relay_that_is_down_is_told_by_recv() {
    let world = World::new();
    let (mut relay, elsewhere) = (world.relay(), world.relay_with("elsewhere", &[]));
    let alice = world.home("alice", &elsewhere);
    let bob = world.home("bob", &relay);
    let to = format!("bob@{}", relay.address);
    let sending = alice.start(&["send", &to, "hello", "--code", "print"]);
    let code = code_of(&sending);
    let from = format!("alice@{}", elsewhere.address);
    assert_eq!(accept(&bob, &from, &code), ["hello"]);
    sending.end().ok();
    relay.stop();
    alice
        .run(&["send", "bob", "later"])
        .refused(8, "hint: it leaves with the next `hostchat send` or `recv`");
    let received = alice.run(&["recv"]).ok();
    assert!(
        received
            .err
            .contains("stay in the outbox: cannot reach the relay"),
        "{received}"
    );
    relay.start();
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["later"]);
}

#[test]
fn a_bare_accept_says_what_to_do_with_no_request_one_and_several() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let carol = world.home("carol", &relay);
    let shown = bob.run(&["accept"]).ok();
    assert_eq!(shown.out, "");
    assert!(shown.err.contains("no pending requests"), "{shown}");
    assert!(
        shown.err.contains("`hostchat accept --wait 600`"),
        "{shown}"
    );
    let in_terminal = || Terminal::start(&bob.command(&["accept"]), false);
    let (screen, code) = in_terminal().end();
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert_eq!(code, 15, "{screen}");
    assert!(screen.contains("`hostchat accept --wait 600`"), "{screen}");

    alice.run(&["send", "bob", "first"]).ok();
    let shown = bob.run(&["accept"]).ok();
    assert!(shown.err.contains("`hostchat accept alice@"), "{shown}");
    assert!(!shown.err.contains("--code-file"), "{shown}");
    let sending = carol.start(&["send", "bob", "second", "--code", "print"]);
    code_of(&sending);
    let shown = bob.run(&["accept"]).ok();
    assert_eq!(shown.out.lines().count(), 2, "{shown}");
    assert!(
        shown.err.contains("name the one whom you accept"),
        "{shown}"
    );
    assert!(shown.err.contains("--code-file FILE"), "{shown}");
    let mut terminal = in_terminal();
    terminal.wait("the question", |shown| {
        shown.contains("Type a name or an address as listed")
    });
    terminal.type_line("");
    assert_eq!(terminal.end().1, 0);
    let shown = bob.run(&["accept", "--json"]).ok();
    assert_eq!(events(&shown, "request").len(), 2, "{shown}");
    assert!(!shown.err.contains("name the one"), "{shown}");
}

#[test]
fn a_text_that_was_written_to_leave_after_a_code_never_leaves_without_one_by_itself() {
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    let sending = alice.start(&["send", "bob", "for bob alone", "--code", "print"]);
    code_of(&sending);
    sending.signal(Signal::INT);
    sending.end().refused(130, "error: interrupted");
    let outbox = alice.run(&["outbox"]).ok();
    assert!(outbox.out.contains("leaves after a code"), "{outbox}");

    // A later text without a code, a session with bob who is unverified, and receiving: it stays, and what is behind it.
    let held = alice.run(&["send", "bob", "and this one"]);
    held.refused(10, "waits for a code")
        .refused(10, "--code print` without a text");
    bob.run(&["send", "alice", "from bob"]).ok();
    let received = alice.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["from bob"]);
    let words = "they were written to leave after a code";
    assert!(received.out.contains(words), "{received}");
    let received = bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), [""; 0]);
    // Receipts are not kept back.
    let history = bob.run(&["history", "alice"]).ok();
    assert!(!history.out.contains("not confirmed"), "{history}");

    // Nor does a script that has nothing to say send it; the user's word does.
    let nothing = alice.run_with_input(&["send", "bob"], "");
    nothing
        .refused(10, "waits for a code")
        .refused(10, "--code print");
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
    alice
        .run_with_input(&["send", "bob", "--code", "none"], "")
        .ok();
    let received = bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["for bob alone", "and this one"]);
}

#[test]
fn a_contact_that_was_verified_before_gets_such_a_text_without_another_code_and_the_outbox_says_so()
{
    let world = World::new();
    let relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    pair(&world, &alice, &bob);
    let sending = alice.start(&["send", "bob", "it is you", "--code", "print"]);
    code_of(&sending);
    sending.signal(Signal::INT);
    let ended = sending.end().refused(130, "error: interrupted");
    assert!(ended.err.contains("it leaves with the next"), "{ended}");
    let outbox = events(&alice.run(&["outbox", "--json"]).ok(), "outbox");
    assert_eq!(outbox[0]["state"], "queued");
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["it is you"]);
}

#[test]
fn a_code_that_is_made_for_what_waits_is_needed_for_it_from_then_on() {
    let world = World::new();
    let mut relay = world.relay();
    let (alice, bob) = (world.home("alice", &relay), world.home("bob", &relay));
    relay.kill();
    alice
        .run(&["send", "bob", "waits"])
        .refused(8, "kept in the outbox");
    relay.start();
    let sending = alice.start(&["send", "bob", "--code", "print"]);
    code_of(&sending);
    sending.signal(Signal::INT);
    sending.end().refused(130, "error: interrupted");
    bob.run(&["send", "alice", "from bob"]).ok();
    alice.run(&["accept", "bob"]).ok();
    alice.run(&["recv"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), [""; 0]);
    let outbox = events(&alice.run(&["outbox", "--json"]).ok(), "outbox");
    assert_eq!(outbox[0]["state"], "held");
}
