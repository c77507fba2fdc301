//! A relay that keeps everything in NATS promises what the servers do: these sync before they answer if they are told to, and
//! are 2.10 or later.

use std::path::PathBuf;

use hostchat_tests::{Running, program};

use super::stage::{Memory, On, Stage};
use super::sync::{MESSAGES, send_one_by_one};
use super::trace;

/// nats-server 2.10 or later, if `cargo xtask test` has found or unpacked one.
fn server() -> Option<PathBuf> {
    let target = program("hostchat").ancestors().nth(2)?.to_owned();
    let path = target.join("nats-server/usr/sbin/nats-server");
    path.is_file().then_some(path)
}

/// Sends messages by a relay on a server under strace with `setting` in its configuration; gives for each whether it was
/// synced before the server answered.
fn synced_first(setting: &str) -> Option<Vec<Option<bool>>> {
    let Some(server) = server() else {
        println!("LEFT OUT: there is no nats-server 2.10 or later. `cargo xtask test` says why");
        return None;
    };
    let mut stage = Stage::new(Memory::Good);
    let (output, config) = (
        stage.world.path("nats.trace"),
        stage.world.path("nats.conf"),
    );
    let (store, port) = (stage.world.path("nats"), hostchat_tests::free_port());
    let text =
        format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}\n{setting} }}\n");
    std::fs::write(&config, text).expect("a configuration");
    let mut command = trace::strace(&output);
    let nats = Running::start(command.arg(server).arg("-c").arg(&config));
    nats.wait_err("the server", |line| {
        line.contains("Server is ready").then_some(())
    });

    stage.relay.stop().ok();
    let path = stage.relay.folder().join("relay.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let (top, limits) = text.split_once("[limits]").expect("limits");
    let store = format!("store = \"nats\"\n[nats]\nservers = [\"nats://127.0.0.1:{port}\"]\n");
    std::fs::write(&path, format!("{top}{store}\n[limits]{limits}")).expect("written");
    stage.relay.start();
    let (mut alice, _bob) = (
        stage.person("alice", On::Software),
        stage.person("bob", On::Software),
    );
    let ids = send_one_by_one(&mut alice);
    stage.relay.stop().ok();
    nats.stop();
    let steps = trace::read(&output);
    let first = |id: &String| trace::is_durable_first(&steps, ".blk", id.as_bytes(), b"\"seq\":");
    Some(ids.iter().map(first).collect())
}

#[test]
fn a_server_that_always_syncs_does_so_before_the_relay_says_stored() {
    if let Some(synced) = synced_first("sync_interval: always") {
        assert_eq!(synced, [Some(true); MESSAGES]);
    }
}

#[test]
fn a_server_as_it_comes_does_not_sync_first() {
    if let Some(synced) = synced_first("") {
        assert_eq!(synced, [Some(false); MESSAGES]);
    }
}
