//! Flash that has forgotten: what a token does about a record that it cannot read.

use alloc::vec::Vec;
use core::cell::Cell;

use hostchat_core::icd::link::Lifecycle;
use hostchat_core::icd::{Command, TokenError};
use hostchat_core::wire::{Address, Generation};
use hostchat_token::testing::{Bench, Refusal};

use super::support::{PIN, Person, TODAY, begin, exchange, failed, generation, two};

/// Bytes that differ between two images.
fn differences(before: &[u8], after: &[u8]) -> Vec<usize> {
    (0..after.len())
        .filter(|at| before[*at] != after[*at])
        .collect()
}

/// The token with one bit turned over, and the power cycled. `None` if its flash as a whole is called damaged.
fn damaged(of: &Bench, at: usize, address: &Address) -> Option<Person> {
    let mut bench = of.fork();
    bench.flash.lock().dump_mut()[at] ^= 1 << (at % 8);
    assert!(bench.power_cycle());
    if bench.hello().unwrap().lifecycle != Lifecycle::Ready {
        return None;
    }
    bench.unlock(PIN).ok()?;
    let address = address.clone();
    Some(Person { bench, address })
}

/// Bob, who has read a first message of Alice; the message; and where a bit of his session's record lies, for each bit
/// that decides whether the record can be read.
pub(super) fn with_a_session(one_time: bool) -> (Person, Person, Vec<u8>, Vec<usize>) {
    let (mut a, mut b) = two();
    // The record that names the sessions is there before: what is written below is the session first of all.
    b.adopt(1, false);
    let first = begin(&mut a, &mut b, one_time, b"first");
    let before = b.bench.flash.snapshot().dump().to_vec();
    b.read(&first).unwrap();
    let written = differences(&before, b.bench.flash.snapshot().dump());
    (a, b, first, written)
}

/// Refused, whatever the reason: a first message that was used.
fn is_refused(b: &mut Person, first: &[u8], place: usize) {
    match b.open(first, false) {
        Err(Refusal::Failed(TokenError::Replayed | TokenError::Prekey)) => {}
        other => panic!("bit of byte {place}: {other:?}"),
    }
}

#[cfg_attr(test, test)]
pub(crate) fn a_used_first_message_is_refused_whatever_bit_of_its_session_is_damaged() {
    for one_time in [false, true] {
        let (a, b, first, written) = with_a_session(one_time);
        let (mut lost, mut kept, mut refused_as_a_whole) = (0, 0, 0);
        for at in written {
            let Some(mut b) = damaged(&b.bench, at, &b.address) else {
                refused_as_a_whole += 1;
                continue;
            };
            is_refused(&mut b, &first, at);
            let generations = b.generations();
            if b.contacts().is_empty() {
                assert_eq!(generations.sessions_lost, 1, "{at}");
                assert_eq!(b.status().last_resort_id, 0, "{at}");
                assert_eq!(b.prekeys().1, [], "{at}");
                assert_eq!(generations.current, generation(1), "{at}");
                lost += 1;
            } else {
                assert_eq!(generations.sessions_lost, 0, "{at}");
                assert_eq!(b.contacts(), [(a.address.clone(), false, 1)]);
                kept += 1;
            }
            // Once is enough.
            b.restart();
            assert_eq!(b.generations().sessions_lost, generations.sessions_lost);
            is_refused(&mut b, &first, at);
        }
        assert!(lost > 200, "{lost}");
        println!(
            "{lost} bits took a session with them, {kept} did not, {refused_as_a_whole} the flash"
        );
    }
}

#[cfg_attr(test, test)]
pub(crate) fn lost_sessions_are_counted_until_a_generation_is_adopted_and_a_new_one_goes_on() {
    let (mut a, b, first, written) = with_a_session(false);
    let mut b = written
        .iter()
        .filter_map(|at| damaged(&b.bench, *at, &b.address))
        .find_map(|mut b| b.contacts().is_empty().then_some(b))
        .unwrap();
    b.restart();
    assert_eq!(b.generations().sessions_lost, 1);
    b.adopt(2, false);
    assert_eq!(b.generations().sessions_lost, 0);
    b.restart();
    assert_eq!(b.generations().sessions_lost, 0);
    // The next last-resort prekey is another one; with it a new session begins.
    let bundle = b.bundle(false);
    assert_eq!(b.status().last_resort_issued, TODAY);
    assert_eq!(b.open(&first, false), failed(TokenError::Prekey));
    a.start(&b.address, &bundle, false).unwrap();
    exchange(&mut a, &mut b, b"renewed");
    exchange(&mut b, &mut a, b"renewed");
}

#[cfg_attr(test, test)]
pub(crate) fn a_deleted_session_is_not_missed() {
    let (a, mut b, _, _) = with_a_session(false);
    b.bench
        .done(&Command::Forget {
            peer: a.address.clone(),
        })
        .unwrap();
    b.restart();
    assert_eq!(b.generations().sessions_lost, 0);
    assert_ne!(b.status().last_resort_id, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn without_its_generation_record_every_session_is_superseded() {
    let (mut a, mut b, _, _) = with_a_session(true);
    exchange(&mut b, &mut a, b"answer");
    exchange(&mut a, &mut b, b"fine");
    b.adopt(2, false);
    let before = b.bench.flash.snapshot().dump().to_vec();
    b.adopt(3, false);
    let written = differences(&before, b.bench.flash.snapshot().dump());
    let mut lost = 0;
    for at in written {
        let Some(mut b) = damaged(&b.bench, at, &b.address) else {
            continue;
        };
        let generations = b.generations();
        assert_eq!(generations.sessions_lost, 0, "{at}");
        assert_eq!(b.contacts(), [(a.address.clone(), false, 1)]);
        if generations.current == Generation::NONE {
            // No host takes these keys for the newest, and they seal nothing.
            assert_eq!(b.seal(&a.address, b"x"), failed(TokenError::NoLiveSession));
            b.restart();
            assert_eq!(b.current(&a.address), None);
            lost += 1;
        } else {
            assert_eq!(generations.current, generation(3), "{at}");
            b.seal(&a.address, b"x").unwrap();
        }
    }
    assert!(lost > 50, "{lost}");
}

#[cfg_attr(test, test)]
pub(crate) fn without_its_replay_marks_a_token_retires_its_last_resort_prekeys() {
    let (mut a, mut b, first, _) = with_a_session(false);
    // Another mark is there already: the next version leaves the one before without its key.
    let mut carol = Person::new("carol", 3);
    let bundle = b.bundle(false);
    carol.start(&b.address, &bundle, false).unwrap();
    let of_carol = carol.seal(&b.address, b"hi").unwrap();
    b.read(&of_carol).unwrap();
    let forget = |b: &mut Person, peer: &Person| {
        b.bench
            .done(&Command::Forget {
                peer: peer.address.clone(),
            })
            .unwrap();
    };
    forget(&mut b, &carol);
    let before = b.bench.flash.snapshot().dump().to_vec();
    forget(&mut b, &a);
    let written = differences(&before, b.bench.flash.snapshot().dump());
    let mut retired = 0;
    for at in written {
        let Some(mut b) = damaged(&b.bench, at, &b.address) else {
            continue;
        };
        is_refused(&mut b, &first, at);
        is_refused(&mut b, &of_carol, at);
        retired += usize::from(b.status().last_resort_id == 0);
    }
    assert!(retired > 50, "{retired}");
    let again = begin(&mut a, &mut b, false, b"again");
    b.read(&again).unwrap();
}

/// What stays usable when any bit of the record that `write` makes is turned over: `see` is called on each token that says
/// it is ready, after it was unlocked.
fn with_each_bit_damaged(
    b: &mut Person,
    write: impl FnOnce(&mut Person),
    mut see: impl FnMut(Person, usize),
) {
    let before = b.bench.flash.snapshot().dump().to_vec();
    write(b);
    for at in differences(&before, b.bench.flash.snapshot().dump()) {
        let mut bench = b.bench.fork();
        bench.flash.lock().dump_mut()[at] ^= 1 << (at % 8);
        assert!(bench.power_cycle());
        if bench.hello().unwrap().lifecycle == Lifecycle::Ready {
            assert_eq!(bench.unlock(PIN), Ok(()), "{at}");
            let address = b.address.clone();
            see(Person { bench, address }, at);
        }
    }
}

#[cfg_attr(test, test)]
pub(crate) fn without_its_count_of_prekeys_a_token_gives_no_id_twice() {
    let (_, mut b) = two();
    let (mut counted, mut lost) = (0, 0);
    let newest = |b: &mut Person| b.bundle(true).one_time.unwrap().id;
    let given = Cell::new(0);
    let write = |b: &mut Person| given.set(newest(b));
    with_each_bit_damaged(&mut b, write, |mut b, at| {
        let (given, next) = (given.get(), newest(&mut b));
        assert!(next > given, "{at}: {next}");
        if next > given + 1000 {
            assert_eq!(b.prekeys().0.len(), 1, "{at}: those of before are gone");
            lost += 1;
        } else {
            counted += 1;
        }
        b.restart();
        assert!(newest(&mut b) > next, "{at}");
    });
    assert!(lost > 20, "{lost}");
    println!("{lost} bits took the count, {counted} did not");
}

#[cfg_attr(test, test)]
pub(crate) fn without_its_record_of_answers_a_token_makes_the_next_one_wait() {
    let (mut a, mut b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    let (offer, _) = a.offer().unwrap();
    let (mut made_to_wait, mut forgotten) = (0, 0);
    let write = |b: &mut Person| {
        b.answer(&offer, code, false).unwrap();
    };
    with_each_bit_damaged(&mut b, write, |mut b, at| {
        if b.status().pending == 1 {
            return;
        }
        let mut carol = Person::new("carol", 3);
        let code = carol.show_code(&b.address, false).unwrap();
        let (offer, _) = carol.offer().unwrap();
        match b.answer(&offer, code, false) {
            // The item that names the record is gone as a whole: nobody knows that there was one.
            Ok(_) => forgotten += 1,
            refused => {
                let seconds = 600;
                assert_eq!(
                    refused,
                    failed(TokenError::TooManyAnswers { seconds }),
                    "{at}"
                );
                made_to_wait += 1;
            }
        }
        if made_to_wait == 1 {
            b.bench.env.control().now.ms += 600_000;
            let code = carol.show_code(&b.address, false).unwrap();
            let (offer, _) = carol.offer().unwrap();
            let (answer, _) = b.answer(&offer, code, false).unwrap();
            carol.confirm(&answer).unwrap();
            let hello = carol.seal(&b.address, b"hello").unwrap();
            b.read(&hello).unwrap();
        }
    });
    assert!(made_to_wait > 30, "{made_to_wait}");
    println!("{made_to_wait} bits made the next answer wait, {forgotten} were forgotten");
}
