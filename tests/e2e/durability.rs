//! What a crash, a kill or a power cut may not do: lose what was acknowledged, show anything twice, use a key twice.
//!
//! ```text
//!  crash_*  the client dies at each of its crash points, once
//!  kills    client, relay and token die at random instants          HOSTCHAT_KILLS, HOSTCHAT_SEED
//!  sync     what outlives the page cache: an order of system calls  strace
//!  nats     the same of a server that the relay keeps all in       strace
//!  locks    nothing that a dead program held is in the way
//!
//!  stage    a relay that keeps a copy of every envelope             people, and what they were shown
//! ```

mod crash_agent;
mod crash_code;
mod crash_first;
mod crash_healing;
mod crash_messages;
mod crash_migration;
mod kills;
mod locks;
mod nats;
mod stage;
mod sync;
mod trace;

use std::collections::BTreeSet;

#[test]
fn every_crash_point_of_the_client_is_cut_by_a_test() {
    let cut: BTreeSet<&str> = crash_messages::POINTS
        .iter()
        .chain(crash_first::POINTS)
        .chain(crash_code::POINTS)
        .chain(crash_healing::POINTS)
        .chain(crash_migration::POINTS)
        .flat_map(|points| points.iter().copied())
        .collect();
    let all: BTreeSet<&str> = hostchat::crash::POINTS.iter().copied().collect();
    assert_eq!(cut, all);
    println!("{} crash points", all.len());
}
