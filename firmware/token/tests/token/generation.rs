//! The generation that a token holds, and what superseding everything does.

use alloc::vec::Vec;

use hostchat_core::icd::{Act, Command, Generations, Reply, TokenError};
use hostchat_core::wire::Generation;

use super::support::{Person, begin, exchange, failed, generation, paired};

fn plan(person: &mut Person, number: u64) {
    let next = generation(number);
    person
        .bench
        .done(&Command::PlanGeneration { next })
        .unwrap();
}

#[cfg_attr(test, test)]
pub(crate) fn a_generation_is_planned_adopted_and_kept() {
    let mut a = Person::new("alice", 1);
    let mut expected = Generations {
        current: Generation::NONE,
        next: None,
        sessions_lost: 0,
    };
    assert_eq!(a.generations(), expected);
    plan(&mut a, 1);
    expected.next = Some(generation(1));
    assert_eq!(a.generations(), expected);
    a.restart();
    assert_eq!(a.generations(), expected);
    plan(&mut a, 2);
    expected.next = Some(generation(2));
    assert_eq!(a.generations(), expected, "another plan takes its place");
    // Also a generation that was never planned: the relay's.
    a.adopt(7, false);
    (expected.current, expected.next) = (generation(7), None);
    assert_eq!(a.generations(), expected);
    a.restart();
    assert_eq!(a.generations(), expected);
    a.bench.reset().unwrap();
    a.bench.init(super::support::PIN).unwrap();
    assert_eq!(a.generations().current, Generation::NONE);
}

#[cfg_attr(test, test)]
pub(crate) fn the_same_again_writes_nothing() {
    let (mut a, _) = paired();
    plan(&mut a, 2);
    a.adopt(2, false);
    let operations = a.bench.flash.lock().operations();
    a.adopt(2, false);
    assert_eq!(a.bench.flash.lock().operations(), operations);
}

#[cfg_attr(test, test)]
pub(crate) fn superseding_discards_the_open_that_waits_and_adopting_alone_does_not() {
    let (mut a, mut b) = paired();
    let envelope = b.seal(&a.address, b"once").unwrap();
    let read = a.open(&envelope, false).unwrap();
    a.adopt(1, false);
    a.commit(read.hash).unwrap();

    let envelope = b.seal(&a.address, b"twice").unwrap();
    let read = a.open(&envelope, false).unwrap();
    a.adopt(2, true);
    assert_eq!(a.commit(read.hash), failed(TokenError::NothingToCommit));
    assert_eq!(a.open(&envelope, false).unwrap(), read);
    a.commit(read.hash).unwrap();
    assert_eq!(a.open(&envelope, false), failed(TokenError::Replayed));
    assert_eq!(a.current(&b.address), None, "a commit makes nothing live");

    // A first message that waits becomes a session above the floor only when it is opened again.
    let first = begin(&mut b, &mut a, true, b"new");
    let read = a.open(&first, false).unwrap();
    a.adopt(3, true);
    assert_eq!(a.commit(read.hash), failed(TokenError::NothingToCommit));
    a.read(&first).unwrap();
    exchange(&mut a, &mut b, b"live");
}

#[cfg_attr(test, test)]
pub(crate) fn superseding_reaches_every_contact_and_crosses_nothing() {
    let (mut a, mut b) = paired();
    let mut carol = Person::new("carol", 5);
    begin(&mut a, &mut carol, true, b"no answer yet");
    let from_carol = begin(&mut carol, &mut a, true, b"crossing");
    a.adopt(1, true);
    for peer in [&b.address, &carol.address] {
        assert_eq!(a.seal(peer, b"x"), failed(TokenError::NoLiveSession));
    }
    // The own session is superseded already, so that nothing crosses it.
    a.read(&from_carol).unwrap();
    let sessions = a.sessions(&carol.address);
    assert!(sessions[0].superseded && sessions[0].own);
    assert!(sessions[1].current);
    exchange(&mut a, &mut carol, b"in hers");
    let first = begin(&mut b, &mut a, true, b"renewed");
    a.read(&first).unwrap();
    exchange(&mut a, &mut b, b"again");
}

#[cfg_attr(test, test)]
pub(crate) fn the_log_tells_generations_from_superseding() {
    let mut a = Person::new("alice", 1);
    plan(&mut a, 1);
    a.adopt(1, false);
    a.adopt(2, true);
    a.bench.done(&Command::DropPrekeys).unwrap();
    let Ok(Reply::Log(log)) = a.bench.call(&Command::Log) else {
        panic!("no log")
    };
    let acts: Vec<_> = log.entries.iter().map(|entry| entry.act).collect();
    assert_eq!(
        acts[acts.len() - 3..],
        [Act::Generation, Act::Supersede, Act::DropPrekeys]
    );
}
