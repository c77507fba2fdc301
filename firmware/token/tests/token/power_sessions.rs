//! The power goes at each flash operation of what concerns all sessions: generations, prekeys, a session that is missed.

use alloc::vec::Vec;

use hostchat_core::icd::{Command, TokenError};
use hostchat_core::wire::{Address, Generation, PrekeyKind};
use hostchat_token::testing::Bench;

use super::damage::with_a_session;
use super::power::{cut_everywhere, person};
use super::support::{
    PIN, Person, TODAY, begin, exchange, failed, generation, paired, session_of, two,
};

#[cfg_attr(test, test)]
pub(crate) fn a_generation_and_its_floor_are_adopted_together_or_not_at_all() {
    let (mut a, b) = paired();
    let next = generation(1);
    a.bench.done(&Command::PlanGeneration { next }).unwrap();
    let (alice, to) = (a.address.clone(), b.address.clone());
    for supersede in [false, true] {
        cut_everywhere(
            "adopt a generation",
            &a.bench,
            true,
            |bench| {
                let current = next;
                let adopt = Command::AdoptGeneration { current, supersede };
                bench.done(&adopt).is_ok()
            },
            |bench, shown, place| {
                let mut a = person(bench, &alice);
                let generations = a.generations();
                let adopted = generations.current == next;
                assert!(adopted || !shown, "{place}");
                if adopted {
                    assert_eq!(generations.next, None, "{place}");
                } else {
                    assert_eq!(
                        (generations.current, generations.next),
                        (Generation::NONE, Some(next)),
                        "{place}"
                    );
                }
                assert_eq!(
                    a.current(&to).is_none(),
                    adopted && supersede,
                    "{place}: {adopted}"
                );
            },
        );
    }
}

#[cfg_attr(test, test)]
pub(crate) fn dropped_prekeys_are_gone_once_that_was_said_and_no_id_comes_again() {
    let mut b = Person::new("bob", 2);
    for _ in 0..3 {
        b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    }
    let own = b.address.clone();
    let highest = b.prekeys().0[2].id;
    cut_everywhere(
        "drop prekeys",
        &b.bench,
        true,
        |bench| bench.done(&Command::DropPrekeys).is_ok(),
        |bench, shown, place| {
            let mut b = person(bench, &own);
            let left = b.prekeys().0;
            assert!(left.is_empty() || !shown, "{place}");
            let next = b.prekey(PrekeyKind::OneTime, TODAY).unwrap().id;
            // Whoever sees one of them gone sees ids that lie beyond.
            assert!(next > highest, "{place}");
            assert!(left.len() == 3 || next > highest + 65_536, "{place}");
            b.bench.done(&Command::DropPrekeys).unwrap();
            assert_eq!(b.prekeys().0, [], "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_new_session_that_takes_a_place_takes_it_whole() {
    let (mut a, mut b) = paired();
    let answered = a.current(&b.address).unwrap();
    begin(&mut a, &mut b, true, b"no answer");
    let bundle = b.bundle(true);
    let (alice, to) = (a.address.clone(), b.address.clone());
    cut_everywhere(
        "start beside two sessions",
        &a.bench,
        true,
        |bench| {
            let mut a = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: alice.clone(),
            };
            let shown = a.start(&to, &bundle, false);
            *bench = a.bench;
            shown.ok().map(|(_, session)| session)
        },
        |bench, shown, place| {
            let mut a = person(bench, &alice);
            let sessions = a.sessions(&to);
            assert_eq!((sessions.len(), sessions[0].session), (2, answered));
            assert!(sessions[0].superseded && sessions[1].current, "{place}");
            if let Some(session) = shown {
                assert_eq!(sessions[1].session, session, "{place}");
            }
            assert_eq!(a.generations().sessions_lost, 0, "{place}");
            a.restart();
            assert_eq!(a.generations().sessions_lost, 0, "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_forgotten_contact_is_not_missed_wherever_the_power_goes() {
    let (mut a, b) = paired();
    a.adopt(1, false);
    a.prekey(PrekeyKind::LastResort, TODAY).unwrap();
    let (alice, to) = (a.address.clone(), b.address.clone());
    cut_everywhere(
        "forget a contact",
        &a.bench,
        true,
        |bench| bench.done(&Command::Forget { peer: to.clone() }).is_ok(),
        |bench, shown, place| {
            let mut a = person(bench, &alice);
            assert!(a.contacts().is_empty() || !shown, "{place}");
            assert_eq!(a.generations().sessions_lost, 0, "{place}");
            assert_ne!(a.status().last_resort_id, 0, "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn the_first_answer_and_what_follows_from_it_are_one_write() {
    let (mut a, mut b) = two();
    let (of_a, of_b) = (a.bundle(true), b.bundle(true));
    a.start(&b.address, &of_b, false).unwrap();
    b.start(&a.address, &of_a, false).unwrap();
    let (from_a, from_b) = (
        a.seal(&b.address, b"a1").unwrap(),
        b.seal(&a.address, b"b1").unwrap(),
    );
    a.read(&from_b).unwrap();
    b.read(&from_a).unwrap();
    exchange(&mut a, &mut b, b"in bob's");
    exchange(&mut b, &mut a, b"in the smaller");
    let mut own = a.fork();
    // A copy of Alice that has read nothing in her own session.
    let (alice, to) = (a.address.clone(), b.address.clone());
    let answer = b.seal(&alice, b"answer").unwrap();
    let smaller = core::cmp::min(session_of(&from_a), session_of(&from_b));
    assert_eq!(session_of(&answer), smaller);
    let read = own.open(&answer, false).unwrap();
    own.bench.done(&Command::Discard).unwrap();
    cut_everywhere(
        "commit an answer",
        &own.bench,
        true,
        |bench| {
            let mut a = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: alice.clone(),
            };
            a.open(&answer, false).unwrap();
            let shown = a.commit(read.hash).is_ok();
            *bench = a.bench;
            shown
        },
        |bench, shown, place| {
            let mut a = person(bench, &alice);
            match a.open(&answer, false) {
                Ok(_) => assert!(!shown, "{place}"),
                Err(error) => assert_eq!(Err::<(), _>(error), failed(TokenError::Replayed)),
            }
            assert_eq!(a.current(&to), Some(smaller), "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_lost_session_is_counted_and_its_first_message_refused_wherever_the_power_goes() {
    for one_time in [false, true] {
        let (_, b, first, written) = with_a_session(one_time);
        let own = b.address.clone();
        // One whose record cannot be read, and one whose record is not there at all.
        let mut kinds = Vec::new();
        for at in written {
            let mut bench = b.bench.fork();
            bench.flash.lock().dump_mut()[at] ^= 1 << (at % 8);
            assert!(bench.power_cycle());
            let before = bench.fork();
            let start = bench.flash.lock().operations();
            if bench.unlock(PIN).is_err() {
                continue;
            }
            let operations = bench.flash.lock().operations() - start;
            let mut b = person(&mut bench, &own);
            if b.contacts().is_empty() && !kinds.contains(&operations) {
                kinds.push(operations);
                miss(&before, &own, &first);
            }
        }
        assert!(!kinds.is_empty());
    }
}

fn miss(before: &Bench, own: &Address, first: &[u8]) {
    cut_everywhere(
        "unlock without a session",
        before,
        false,
        |bench| bench.unlock(PIN).is_ok(),
        |bench, _, place| {
            let mut b = person(bench, own);
            assert_eq!(b.status().last_resort_id, 0, "{place}");
            assert_eq!(b.open(first, false), failed(TokenError::Prekey), "{place}");
            let lost = b.generations().sessions_lost;
            assert!((1..=2).contains(&lost), "{place}: {lost}");
            b.restart();
            assert_eq!(b.generations().sessions_lost, lost, "{place}");
        },
    );
}
