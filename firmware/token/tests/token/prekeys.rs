//! Prekeys in stock: listed, dropped, forgotten.

use alloc::vec::Vec;

use hostchat_core::icd::{Command, TokenError};
use hostchat_core::wire::{Prekey, PrekeyBundle, PrekeyKind};

use super::support::{DAY, Person, TODAY, begin, failed, two};

fn one_time(person: &mut Person, count: u64) -> Vec<Prekey> {
    (0..count)
        .map(|n| person.prekey(PrekeyKind::OneTime, TODAY + n).unwrap())
        .collect()
}

#[cfg_attr(test, test)]
pub(crate) fn the_stock_is_listed_by_id_with_the_time_of_each() {
    let mut b = Person::new("bob", 2);
    assert_eq!(b.prekeys(), (Vec::new(), Vec::new()));
    let made = one_time(&mut b, 16);
    let last_resort: Vec<_> = (0..3)
        .map(|week| {
            b.prekey(PrekeyKind::LastResort, TODAY + 7 * week * DAY)
                .unwrap()
        })
        .collect();
    let listed = |prekeys: &[Prekey]| prekeys.iter().map(Prekey::reference).collect::<Vec<_>>();
    let expected = (listed(&made), listed(&last_resort));
    assert_eq!(b.prekeys(), expected);
    b.restart();
    assert_eq!(b.prekeys(), expected);
    assert_eq!(
        b.status().last_resort_id,
        expected.1[2].id,
        "the newest is in use"
    );
}

#[cfg_attr(test, test)]
pub(crate) fn dropped_prekeys_are_gone_and_their_ids_never_come_again() {
    let (mut a, mut b) = two();
    let used = begin(&mut a, &mut b, true, b"with a one-time prekey");
    let made = one_time(&mut b, 5);
    let last_resort = b.prekeys().1;
    // A copy of the flash goes on, and gives the ids to other keys.
    let mut copy = b.fork();
    let of_copy = one_time(&mut copy, 9);

    b.bench.done(&Command::DropPrekeys).unwrap();
    assert_eq!(b.prekeys(), (Vec::new(), last_resort));
    assert_eq!(b.status().one_time_prekeys, 0);
    assert_eq!(b.open(&used, false), failed(TokenError::Prekey));
    let next = b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    let highest = made.iter().chain(&of_copy).map(|prekey| prekey.id).max();
    assert!(next.id > highest.unwrap() && next.id >= made[4].id + 65_536);
    b.restart();
    let after = b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    assert!(after.id > next.id);
    // Also when there is nothing to drop.
    b.bench.done(&Command::DropPrekeys).unwrap();
    b.bench.done(&Command::DropPrekeys).unwrap();
    let last = b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    assert!(last.id >= after.id + 2 * 65_536);
}

#[cfg_attr(test, test)]
pub(crate) fn a_forgotten_prekey_makes_room_and_the_others_work() {
    let (mut a, mut b) = two();
    let bundle = b.bundle(true);
    let forgotten = bundle.one_time.unwrap().id;
    a.start(&b.address, &bundle, false).unwrap();
    let late = a.seal(&b.address, b"too late").unwrap();
    let kept = one_time(&mut b, 15);
    assert_eq!(
        b.prekey(PrekeyKind::OneTime, TODAY),
        failed(TokenError::PrekeysFull)
    );
    b.bench
        .done(&Command::ForgetPrekey { id: forgotten })
        .unwrap();
    b.bench
        .done(&Command::ForgetPrekey { id: forgotten })
        .unwrap();
    b.bench
        .done(&Command::ForgetPrekey {
            id: bundle.last_resort.id,
        })
        .unwrap();
    let ids: Vec<_> = b.prekeys().0.iter().map(|prekey| prekey.id).collect();
    assert_eq!(ids, kept.iter().map(|prekey| prekey.id).collect::<Vec<_>>());
    assert_eq!(b.prekeys().1.len(), 1, "one-time prekeys only");
    assert_eq!(b.open(&late, false), failed(TokenError::Prekey));
    b.prekey(PrekeyKind::OneTime, TODAY).unwrap();
    let mut carol = Person::new("carol", 3);
    let bundle = PrekeyBundle {
        one_time: Some(kept[7]),
        ..bundle
    };
    carol.start(&b.address, &bundle, false).unwrap();
    let first = carol.seal(&b.address, b"in time").unwrap();
    assert_eq!(b.read(&first).unwrap().content, b"in time");
}
