//! The power goes at each flash operation of each step that writes; words are torn and pages half-erased.

use alloc::format;

use hostchat_core::icd::link::Lifecycle;
use hostchat_core::icd::{Command, OpenedKind, TokenError, UnlockKind};
use hostchat_core::wire::{Bytes, Envelope, Frame, PrekeyKind, codec};
use hostchat_token::testing::{Bench, Refusal, Tear, TestPin};

use super::is_cut;
use super::support::{PIN, Person, TODAY, exchange, failed, pair_up_to_message_3, paired, two};

/// Runs `step` on copies of `before`, cutting the power at each flash operation in turn; turns it on again and lets
/// `check` look at the token together with what the step had shown before the cut.
pub(super) fn cut_everywhere<T>(
    name: &str,
    before: &Bench,
    unlocked: bool,
    step: impl Fn(&mut Bench) -> T,
    check: impl Fn(&mut Bench, T, &str),
) {
    let fresh = || {
        let mut bench = before.fork();
        if unlocked {
            bench.unlock(PIN).unwrap();
        }
        bench
    };
    let mut whole = fresh();
    let start = whole.flash.lock().operations();
    step(&mut whole);
    let operations = whole.flash.lock().operations() - start;
    assert!(operations > 0, "{name} writes nothing");
    let mut cuts = 0;
    let erases = whole.flash.lock().erases_since(start);
    for at in (0..operations).filter(|at| is_cut(*at, &erases)) {
        let seed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for tear in [
            Tear::Pulse,
            Tear::Complete,
            Tear::Bits(seed),
            Tear::Bits(!seed),
        ] {
            let mut bench = fresh();
            bench.flash.lock().cut_after(at, tear);
            let shown = step(&mut bench);
            assert!(bench.flash.lock().is_off());
            bench.note_first_cut();
            assert!(
                bench.power_cycle(),
                "{name}: dead after a cut at {at} with {tear:?}"
            );
            check(
                &mut bench,
                shown,
                &format!("{name} cut at {at} of {operations} with {tear:?}"),
            );
            cuts += 1;
        }
    }
    println!("{name}: {operations} flash operations, {cuts} cuts");
}

/// As [`cut_everywhere`], and the power goes a second time at each flash operation of the boot after the first cut.
fn cut_twice<T: Copy>(
    name: &str,
    before: &Bench,
    unlocked: bool,
    step: impl Fn(&mut Bench) -> T,
    check: impl Fn(&mut Bench, T, &str),
) {
    let second_cuts = core::cell::Cell::new(0);
    cut_everywhere(name, before, unlocked, step, |bench, shown, place| {
        // This boot was whole; play it again from the first cut, and cut it.
        let at_first_cut = bench.take_first_cut();
        let torn = place.contains("Bits");
        for at in (0..).take_while(|_| torn) {
            let mut again = Bench::off(at_first_cut.clone(), bench.env.fork());
            again.flash.lock().restart();
            again.flash.lock().cut_after(at, Tear::Bits(at ^ 0x5EED));
            let started = again.power_on();
            if !again.flash.lock().is_off() {
                assert!(started, "{place}");
                break;
            }
            assert!(!started);
            assert!(
                again.power_cycle(),
                "{place}, then at {at} of the boot: dead"
            );
            check(
                &mut again,
                shown,
                &format!("{place}, then at {at} of the boot"),
            );
            second_cuts.set(second_cuts.get() + 1);
        }
        check(bench, shown, place);
    });
    println!("{name}: {} second cuts", second_cuts.get());
}

pub(super) fn person(bench: &mut Bench, address: &hostchat_core::wire::Address) -> Person {
    bench.unlock(PIN).unwrap();
    let bench = core::mem::replace(bench, Bench::blank(0));
    Person {
        bench,
        address: address.clone(),
    }
}

fn tries(bench: &mut Bench) -> u8 {
    bench.hello().unwrap().tries
}

#[cfg_attr(test, test)]
pub(crate) fn a_guess_that_saw_message_2_is_charged_wherever_the_power_goes() {
    let mut before = Bench::blank(1);
    before.init(PIN).unwrap();
    cut_twice(
        "first guess",
        &before,
        false,
        |bench| {
            bench
                .begin_unlock(UnlockKind::Unlock, TestPin::new(9))
                .is_ok()
        },
        |bench, shown, place| {
            let left = tries(bench);
            assert!(
                left == 7 || (left == 8 && !shown),
                "{place}: {left} tries left, message 2 left: {shown}"
            );
            bench.unlock(PIN).unwrap();
            assert_eq!(tries(bench), 8);
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn the_last_guess_ends_in_a_wipe_or_is_still_there() {
    let mut before = Bench::blank(1);
    before.init(PIN).unwrap();
    for _ in 0..7 {
        if before.hello().unwrap().tries_now == 0 {
            assert!(before.power_cycle());
        }
        assert!(before.unlock(TestPin::new(9)).is_err());
    }
    cut_twice(
        "last guess",
        &before,
        false,
        |bench| {
            let shown = bench
                .begin_unlock(UnlockKind::Unlock, TestPin::new(9))
                .is_ok();
            // The guess is wrong: the token wipes itself.
            if shown {
                bench.send(&hostchat_core::icd::ToToken::UnlockFinish {
                    tag: Bytes([0; 32]),
                    body: &[0; 48],
                });
            }
            shown
        },
        |bench, shown, place| {
            let hello = bench.hello().unwrap();
            match hello.lifecycle {
                Lifecycle::Blank => {
                    assert!(
                        bench
                            .flash
                            .snapshot()
                            .dump()
                            .iter()
                            .all(|byte| *byte == 0xFF),
                        "{place}"
                    );
                    bench.init(PIN).unwrap();
                }
                Lifecycle::Ready => {
                    assert_eq!((hello.tries, shown), (1, false), "{place}");
                    bench.unlock(PIN).unwrap();
                }
                Lifecycle::Damaged => panic!("{place}: damaged"),
            }
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn the_right_pin_survives() {
    let mut before = Bench::blank(1);
    before.init(PIN).unwrap();
    let _ = before.unlock(TestPin::new(9));
    cut_twice(
        "right PIN",
        &before,
        false,
        |bench| bench.unlock(PIN).is_ok(),
        |bench, shown, place| {
            let left = tries(bench);
            assert!((6..=8).contains(&left), "{place}: {left}");
            assert!(!shown || left == 8, "{place}: {left}");
            bench.unlock(PIN).unwrap();
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn an_initialisation_is_whole_or_not_begun() {
    let before = Bench::blank(1);
    cut_twice(
        "init",
        &before,
        false,
        |bench| bench.init(PIN).is_ok(),
        |bench, shown, place| {
            match bench.hello().unwrap().lifecycle {
                Lifecycle::Blank => {
                    assert!(!shown, "{place}");
                    bench.init(PIN).unwrap();
                }
                Lifecycle::Ready => bench.unlock(PIN).unwrap(),
                Lifecycle::Damaged => panic!("{place}: damaged"),
            }
            bench.lock();
            bench.unlock(PIN).unwrap();
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_change_of_pin_leaves_exactly_one_pin() {
    let a = Person::new("alice", 1);
    let new = TestPin::new(5);
    cut_twice(
        "change PIN",
        &a.bench,
        true,
        |bench| {
            let change = Command::ChangePin {
                wrap: Bytes(PIN.wrap),
                new_salt: Bytes([3; 16]),
                new_prs: Bytes(new.prs),
                new_wrap: Bytes(new.wrap),
            };
            bench.done(&change).is_ok()
        },
        |bench, shown, place| {
            let old_works = bench.unlock(PIN).is_ok();
            bench.lock();
            let new_works = bench.unlock(new).is_ok();
            assert!(
                old_works != new_works,
                "{place}: old {old_works}, new {new_works}"
            );
            assert!(!shown || new_works, "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_wipe_happens_or_does_not() {
    let (a, _) = paired();
    cut_everywhere(
        "wipe",
        &a.bench,
        true,
        |bench| bench.done(&Command::Wipe).is_ok(),
        |bench, shown, place| match bench.hello().unwrap().lifecycle {
            Lifecycle::Blank => {
                assert!(
                    bench
                        .flash
                        .snapshot()
                        .dump()
                        .iter()
                        .all(|byte| *byte == 0xFF),
                    "{place}"
                );
            }
            Lifecycle::Ready => {
                assert!(!shown, "{place}");
                bench.unlock(PIN).unwrap();
            }
            Lifecycle::Damaged => panic!("{place}: damaged"),
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn an_answer_that_left_is_charged_and_can_be_confirmed() {
    let (mut a, b) = two();
    let code = a.show_code(&b.address, false).unwrap();
    let (offer, _) = a.offer().unwrap();
    let own = b.address.clone();
    cut_everywhere(
        "answer a code",
        &b.bench,
        true,
        |bench| {
            let mut b = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: own.clone(),
            };
            let shown = b.answer(&offer, code, false);
            *bench = b.bench;
            shown.is_ok()
        },
        |bench, shown, place| {
            let mut b = person(bench, &own);
            let pending = b.status().pending;
            assert!(
                pending == 1 || (pending == 0 && !shown),
                "{place}: {pending}"
            );
            let again = b.answer(&offer, code, false);
            if pending == 1 {
                assert_eq!(again, failed(TokenError::Replayed), "{place}");
            } else {
                assert_eq!(again.unwrap().1, 2, "{place}");
            }
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_confirmed_pairing_is_there_once_it_was_shown() {
    let (a, mut b) = two();
    // The code lives in RAM: each copy of the initiator makes its own, and the answer comes from a copy of Bob.
    let bob = b.identity();
    let (alice, to) = (a.address.clone(), b.address.clone());
    let b_before = &b;
    cut_everywhere(
        "confirm a pairing",
        &a.bench,
        true,
        |bench| {
            let mut a = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: alice.clone(),
            };
            let code = a.show_code(&to, false).unwrap();
            let (offer, _) = a.offer().unwrap();
            let mut b = b_before.fork();
            let (answer, _) = b.answer(&offer, code, false).unwrap();
            let shown = a.confirm(&answer).is_ok();
            *bench = a.bench;
            (shown, b)
        },
        |bench, (shown, mut b), place| {
            let mut a = person(bench, &alice);
            match a.contacts().as_slice() {
                [] => assert!(!shown, "{place}"),
                [(peer, true, 1)] => {
                    assert_eq!(*peer, to);
                    let hello = a.seal(&to, b"after the cut").unwrap();
                    let read = b.read(&hello).unwrap();
                    assert_eq!(
                        (read.kind, read.verified),
                        (OpenedKind::Paired, true),
                        "{place}"
                    );
                    assert_eq!(b.identity(), bob);
                }
                other => panic!("{place}: {other:?}"),
            }
        },
    );
}

/// Cuts during open and commit of `envelope`; afterwards it opens again or is known, and is never lost.
fn cut_open_and_commit(
    name: &str,
    reader: &Person,
    envelope: &[u8],
    content: &[u8],
    check: impl Fn(&mut Person, &str),
) {
    let own = reader.address.clone();
    cut_everywhere(
        name,
        &reader.bench,
        true,
        |bench| {
            let mut reader = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: own.clone(),
            };
            let read = reader.open(envelope, false).unwrap();
            assert_eq!(read.content, content);
            let shown = reader.commit(read.hash).is_ok();
            *bench = reader.bench;
            shown
        },
        |bench, shown, place| {
            let mut reader = person(bench, &own);
            match reader.open(envelope, false) {
                Ok(read) => {
                    assert!(!shown, "{place}: committed and opens again");
                    assert_eq!(read.content, content, "{place}");
                    reader.commit(read.hash).unwrap();
                }
                Err(error) => assert_eq!(failed::<()>(TokenError::Replayed), Err(error), "{place}"),
            }
            assert_eq!(
                reader.open(envelope, false),
                failed(TokenError::Replayed),
                "{place}"
            );
            check(&mut reader, place);
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn message_3_makes_its_session_and_ends_the_pending_answer_together() {
    let (mut a, mut b) = two();
    let hello = pair_up_to_message_3(&mut a, &mut b);
    let alice = a.address.clone();
    cut_open_and_commit("commit message 3", &b, &hello, b"hello", |b, place| {
        assert_eq!(b.status().pending, 0, "{place}");
        assert_eq!(b.contacts(), [(alice.clone(), true, 1)], "{place}");
        // The charge went with the confirmation.
        let mut c = Person::new("carol", 3);
        let code = c.show_code(&b.address, false).unwrap();
        let (offer, _) = c.offer().unwrap();
        assert_eq!(b.answer(&offer, code, false).unwrap().1, 2, "{place}");
    });
}

#[cfg_attr(test, test)]
pub(crate) fn a_first_message_uses_its_prekey_its_mark_and_its_session_together() {
    for one_time in [true, false] {
        let (mut a, mut b) = two();
        let bundle = b.bundle(one_time);
        a.start(&b.address, &bundle, false).unwrap();
        let first = a.seal(&b.address, b"first").unwrap();
        let alice = a.address.clone();
        cut_open_and_commit(
            "commit a first message",
            &b,
            &first,
            b"first",
            |b, place| {
                assert_eq!(b.status().one_time_prekeys, 0, "{place}");
                assert_eq!(b.contacts(), [(alice.clone(), false, 1)], "{place}");
                b.bench
                    .done(&Command::Forget {
                        peer: alice.clone(),
                    })
                    .unwrap();
                let error = if one_time {
                    TokenError::Prekey
                } else {
                    TokenError::Replayed
                };
                assert_eq!(b.open(&first, false), failed(error), "{place}");
            },
        );
    }
}

#[cfg_attr(test, test)]
pub(crate) fn a_message_is_opened_again_or_known_after_a_cut() {
    let (mut a, mut b) = paired();
    exchange(&mut a, &mut b, b"one");
    a.seal(&b.address, b"lost on the way").unwrap();
    let envelope = a.seal(&b.address, b"two").unwrap();
    cut_open_and_commit("commit a message", &b, &envelope, b"two", |_, _| {});
}

/// Ratchet key and number of a frame: together they name its message key.
fn key_name(envelope: &[u8]) -> (Bytes<32>, u32) {
    let envelope = codec::decode::<Envelope<'_>>(envelope).unwrap();
    let header = Frame::parse(envelope.frame().unwrap()).unwrap().header;
    (header.ratchet_key, header.n)
}

#[cfg_attr(test, test)]
pub(crate) fn no_message_key_is_used_for_two_frames() {
    let (a, mut b) = paired();
    let (alice, to) = (a.address.clone(), b.address.clone());
    b.status();
    let b_before = &b;
    cut_everywhere(
        "seal",
        &a.bench,
        true,
        |bench| {
            let mut a = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: alice.clone(),
            };
            let shown: Result<_, Refusal> = a.seal(&to, b"before the cut");
            *bench = a.bench;
            shown.ok()
        },
        |bench, shown, place| {
            let mut a = person(bench, &alice);
            let mut b = b_before.fork();
            let after = a.seal(&to, b"after the cut").unwrap();
            if let Some(before) = &shown {
                assert_ne!(key_name(before), key_name(&after), "{place}");
                assert_eq!(
                    b.read(before).unwrap().content,
                    b"before the cut",
                    "{place}"
                );
            }
            assert_eq!(b.read(&after).unwrap().content, b"after the cut", "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_prekey_that_was_shown_works_and_its_id_is_not_given_again() {
    let mut b = Person::new("bob", 2);
    let last_resort = b.bundle(false);
    let own = b.address.clone();
    cut_everywhere(
        "new prekey",
        &b.bench,
        true,
        |bench| {
            let mut b = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: own.clone(),
            };
            let shown = b.prekey(PrekeyKind::OneTime, TODAY);
            *bench = b.bench;
            shown.ok()
        },
        |bench, shown, place| {
            let mut b = person(bench, &own);
            let next = b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
            let Some(prekey) = shown else { return };
            assert_ne!(next.id, prekey.id, "{place}");
            let bundle = hostchat_core::wire::PrekeyBundle {
                one_time: Some(prekey),
                ..last_resort.clone()
            };
            let mut a = Person::new("alice", 1);
            a.start(&b.address, &bundle, false).unwrap();
            let first = a.seal(&b.address, b"it works").unwrap();
            assert_eq!(b.read(&first).unwrap().content, b"it works", "{place}");
        },
    );
}

#[cfg_attr(test, test)]
pub(crate) fn a_started_session_is_there_once_it_was_shown() {
    let (mut a, mut b) = two();
    let bundle = b.bundle(true);
    let (alice, to) = (a.address.clone(), b.address.clone());
    a.status();
    let b_before = &b;
    cut_everywhere(
        "start",
        &a.bench,
        true,
        |bench| {
            let mut a = Person {
                bench: core::mem::replace(bench, Bench::blank(0)),
                address: alice.clone(),
            };
            let shown = a.start(&to, &bundle, false).is_ok();
            *bench = a.bench;
            shown
        },
        |bench, shown, place| {
            let mut a = person(bench, &alice);
            if a.contacts().is_empty() {
                assert!(!shown, "{place}");
                a.start(&to, &bundle, false).unwrap();
            }
            let first = a.seal(&to, b"hi").unwrap();
            assert_eq!(
                b_before.fork().read(&first).unwrap().content,
                b"hi",
                "{place}"
            );
        },
    );
}
