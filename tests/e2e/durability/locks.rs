//! What a dead program held is free at once.

use hostchat_tests::{Running, program};
use std::process::Command;

use super::stage::{Memory, On, Stage};

#[test]
fn a_killed_client_leaves_home_and_port_free() {
    for on in [On::Software, On::Sim] {
        let stage = Stage::new(Memory::Good);
        let mut alice = stage.person("alice", On::Software);
        let mut bob = stage.person("bob", on);
        for n in 0..3 {
            let following = bob.home.start(&["recv", "--follow", "--json"]);
            alice.send("bob", &format!("are you there? {n}"));
            if n == 0 {
                following.wait_out("the request", |line| {
                    line.contains("\"request\"").then_some(())
                });
            } else {
                // The program holds its home from before it asks its relay.
                following.wait_out("the message", |line| {
                    line.contains(&format!("there? {n}")).then_some(())
                });
            }
            let pid = following.pid().to_string();
            bob.home.run(&["wipe", "--yes"]).refused(18, &pid);
            let killed = following.kill();
            bob.shown.take(&killed);
            if n == 0 {
                bob.run(&["accept", "alice", "--json"]).ok();
            }
            bob.recv();
        }
        let expected: Vec<String> = (0..3).map(|n| format!("are you there? {n}")).collect();
        assert_eq!(bob.shown.texts(), expected);
    }
}

#[test]
fn a_killed_relay_and_a_killed_token_start_again_at_once() {
    let mut stage = Stage::new(Memory::Good);
    let mut alice = stage.person("alice", On::Sim);
    let mut bob = stage.person("bob", On::Software);
    alice.send("bob", "0");
    bob.run(&["accept", "alice", "--json"]).ok();
    for n in 1..4 {
        let second = Running::start(
            Command::new(program("hostchat-relay"))
                .args(["run", "--dir"])
                .arg(stage.relay.folder()),
        )
        .end();
        assert!(
            !second.status.success(),
            "two relays on one database: {second}"
        );
        stage.relay.kill();
        stage.relay.start();

        let token = alice.sim.as_mut().expect("alice has a token");
        let second = Running::start(
            Command::new(program("hostchat-sim"))
                .arg("--dir")
                .arg(token.folder())
                .arg("--link")
                .arg(stage.world.path("second.tty")),
        )
        .end();
        assert!(
            !second.status.success(),
            "two tokens on one flash: {second}"
        );
        token.kill();
        assert!(
            token.link.is_symlink(),
            "a killed token leaves its link behind"
        );
        token.start_with("always");

        alice.send("bob", &n.to_string());
        bob.recv();
    }
    assert_eq!(bob.shown.texts(), ["0", "1", "2", "3"]);
}
