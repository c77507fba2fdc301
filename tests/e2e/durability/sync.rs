//! A kill leaves the page cache; a power cut does not. So the order of the system calls is looked at: what was
//! acknowledged was synced first.

use hostchat_tests::{Running, program};
use std::process::Command;

use super::stage::{Memory, On, Person, Stage};
use super::trace::{self, Did, Step};
use crate::support::events;

/// Messages in each trace.
pub(super) const MESSAGES: usize = 12;

/// Sends messages one at a time, so that everything that is sent in answer belongs to the write before it; gives their ids.
pub(super) fn send_one_by_one(alice: &mut Person) -> Vec<String> {
    (0..MESSAGES)
        .map(|n| {
            let ended = alice
                .run(&["send", "bob", &format!("number {n}"), "--json"])
                .ok();
            let id = events(&ended, "sent")[0]["message_id"]
                .as_str()
                .map(str::to_owned);
            id.expect("an id")
        })
        .collect()
}

/// Sends messages by a relay under strace; gives their ids and what the relay did.
fn traced_relay(stage: &mut Stage, alice: &mut Person) -> (Vec<Vec<u8>>, Vec<Step>) {
    stage.relay.stop().ok();
    let output = stage.world.path("relay.trace");
    let mut command = trace::strace(&output);
    stage
        .relay
        .start_through(command.arg(program("hostchat-relay")));
    let ids = send_one_by_one(alice)
        .iter()
        .map(|id| {
            (0..id.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("hexadecimal"))
                .collect()
        })
        .collect();
    stage.relay.stop().ok();
    (ids, trace::read(&output))
}

#[test]
fn the_relay_syncs_each_message_before_it_says_stored() {
    let mut stage = Stage::new(Memory::Good);
    let (mut alice, _bob) = (
        stage.person("alice", On::Software),
        stage.person("bob", On::Software),
    );
    let (ids, steps) = traced_relay(&mut stage, &mut alice);
    for id in &ids {
        assert_eq!(
            trace::is_durable_first(&steps, "relay.db-wal", id, b""),
            Some(true),
            "{id:02x?}"
        );
    }
    // What a relay tidies up at its start may be written while it greets whoever comes.
    let first = steps
        .iter()
        .position(|step| matches!(&step.did, Did::Write(bytes) if trace::holds(bytes, &ids[0])))
        .expect("the first message");
    assert_eq!(trace::leaks(&steps[first..], &["relay.db-wal"]), [""; 0]);
    let syncs = steps.iter().filter(|step| step.did == Did::Sync).count();
    println!(
        "{} messages, {syncs} syncs, {} steps",
        ids.len(),
        steps.len()
    );
}

#[test]
fn a_relay_that_does_not_sync_is_found_out() {
    let mut stage = Stage::new(Memory::Good);
    let (mut alice, _bob) = (
        stage.person("alice", On::Software),
        stage.person("bob", On::Software),
    );
    let path = stage.relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, format!("danger_synchronous_off = true\n{text}")).expect("written");
    let (ids, steps) = traced_relay(&mut stage, &mut alice);
    for id in &ids {
        assert_eq!(
            trace::is_durable_first(&steps, "relay.db-wal", id, b""),
            Some(false),
            "{id:02x?}"
        );
    }
    assert!(trace::leaks(&steps, &["relay.db-wal"]).len() >= MESSAGES);
}

const VAULT: &str = "vault.db-wal";
const TOKEN: &str = "token.flash";

/// What a client does.
fn traced_client(stage: &Stage, person: &mut Person, name: &str, arguments: &[&str]) -> Vec<Step> {
    let output = stage.world.path(name);
    let mut command: Command = trace::under_strace(&person.home.command(arguments), &output);
    let ended = Running::start(&mut command).end().ok();
    person.shown.take(&ended);
    trace::read(&output)
}

#[test]
fn the_client_syncs_token_and_vault_before_a_frame_leaves() {
    let stage = Stage::new(Memory::Good);
    let (mut alice, mut bob) = (
        stage.person("alice", On::Software),
        stage.person("bob", On::Software),
    );
    for n in 0..3 {
        let steps = traced_client(
            &stage,
            &mut alice,
            &format!("send{n}"),
            &["send", "bob", &format!("{n}"), "--json"],
        );
        assert_eq!(trace::leaks(&steps, &[VAULT, TOKEN]), [""; 0]);
        // The token's state, synced as often as it takes, then the frame; then the frame leaves.
        let shapes = trace::shape(&steps, VAULT, TOKEN);
        let sealed = shapes
            .iter()
            .filter(|shape| shape.ends_with("bBaA"))
            .count();
        assert!(sealed >= 1, "no seal before a send: {shapes:?}");
        let unsynced: Vec<Step> = steps
            .into_iter()
            .filter(|step| !(step.did == Did::Sync && step.file.ends_with(TOKEN)))
            .collect();
        assert!(
            !trace::leaks(&unsynced, &[TOKEN]).is_empty(),
            "the check sees the token's writes"
        );
    }
    bob.run(&["accept", "alice", "--json"]).ok();
    assert_eq!(bob.shown.texts(), ["0", "1", "2"]);
}

/// Sends that may be acknowledgements of messages that are not safe yet: the n-th send after the first commit began
/// must follow n commits, each synced and followed by its mark.
fn acknowledged_early(steps: &[Step]) -> usize {
    let first = first_commit(steps);
    let sends = (first..steps.len()).filter(|&place| steps[place].did.is_send());
    sends
        .take(MESSAGES)
        .enumerate()
        .filter(|(n, place)| order(&steps[first..*place]).matches("Ba").count() <= *n)
        .count()
}

/// Where the token first commits a message: before that it notes the next generation, and after the relay's answer adopts it.
fn first_commit(steps: &[Step]) -> usize {
    let mut groups = 0;
    let mut sent = true;
    for (place, step) in steps.iter().enumerate() {
        if step.did.is_send() {
            sent = true;
        } else if matches!(step.did, Did::Write(_)) && step.file.ends_with(TOKEN) {
            groups += u32::from(sent);
            sent = false;
            if groups == 3 {
                return place;
            }
        }
    }
    unreachable!("the token commits nothing: {}", order(steps))
}

/// What happened to vault and token, whatever was sent meanwhile.
fn order(steps: &[Step]) -> String {
    let files: Vec<Step> = steps
        .iter()
        .filter(|step| !step.did.is_send())
        .cloned()
        .collect();
    trace::shape(&files, VAULT, TOKEN).concat()
}

#[test]
fn the_client_syncs_plaintext_then_token_before_it_acknowledges() {
    let stage = Stage::new(Memory::Good);
    let (mut alice, mut bob) = (
        stage.person("alice", On::Software),
        stage.person("bob", On::Software),
    );
    alice.send("bob", "hello");
    bob.run(&["accept", "alice", "--json"]).ok();
    bob.recv();
    alice.recv();

    // One message: all of it lies between the request for deliveries and the acknowledgement.
    alice.send("bob", "alone");
    let steps = traced_client(&stage, &mut bob, "one", &["recv", "--json"]);
    let shapes = trace::shape(&steps, VAULT, TOKEN);
    let commits = shapes
        .iter()
        .filter(|shape| shape.contains("aAb") && shape.contains("Ba"));
    assert_eq!(
        commits.count(),
        1,
        "something left in the middle: {shapes:?}"
    );
    assert_eq!(trace::leaks(&steps, &[TOKEN]), [""; 0]);

    // Many: acknowledgements may leave while the next message is worked on.
    for n in 0..MESSAGES {
        alice.send("bob", &format!("number {n}"));
    }
    let steps = traced_client(&stage, &mut bob, "many", &["recv", "--json"]);
    assert_eq!(bob.shown.texts().len(), MESSAGES + 2);
    let done = order(&steps);
    // One for each message, and those of the generation and of the receipts.
    assert_eq!(done.matches("aAb").count(), MESSAGES + 2, "{done}");
    assert_eq!(done.matches("Ba").count(), MESSAGES + 2, "{done}");
    assert!(
        !done.contains("ab"),
        "a commit while the plaintext is not synced: {done}"
    );
    assert!(
        !done.contains("ba"),
        "a mark while the commit is not synced: {done}"
    );
    assert_eq!(acknowledged_early(&steps), 0, "{done}");
    let unsynced: Vec<Step> = steps
        .into_iter()
        .filter(|step| !(step.did == Did::Sync && step.file.ends_with(TOKEN)))
        .collect();
    assert!(
        acknowledged_early(&unsynced) > 0,
        "the check sees the token's syncs"
    );
}
