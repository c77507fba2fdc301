//! Changed identities, forgotten contacts, listings, login.

use hostchat_core::icd::{Command, Reply, TokenError};
use hostchat_core::wire::relay::login_items;
use hostchat_core::wire::{Account, Bytes, Name, RelayName};
use hostchat_token::TouchReason;

use super::support::{Person, address, exchange, failed, pair_up_to_message_3, paired};

/// Bob lost his token and has a new one at the same address.
fn new_bob() -> Person {
    Person::new("bob", 77)
}

#[cfg_attr(test, test)]
pub(crate) fn a_changed_identity_stops_a_first_message_both_ways_until_accepted_with_a_press() {
    let (mut a, mut b) = paired();
    let mut other = new_bob();
    let bundle = other.bundle(true);
    assert_eq!(
        a.start(&b.address, &bundle, false),
        failed(TokenError::IdentityChanged)
    );
    exchange(&mut a, &mut b, b"nothing changed");

    let of_a = a.bundle(true);
    other.start(&a.address, &of_a, false).unwrap();
    let first = other.seal(&a.address, b"it is me, bob").unwrap();
    assert_eq!(a.open(&first, false), failed(TokenError::IdentityChanged));
    exchange(&mut b, &mut a, b"still the old bob");

    a.bench.env.control().asked.clear();
    let read = a.open(&first, true).unwrap();
    assert_eq!(a.bench.env.control().asked, [TouchReason::AcceptChangedKey]);
    assert!(!read.verified);
    a.commit(read.hash).unwrap();
    assert_eq!(
        a.contacts(),
        [(b.address.clone(), false, 1)],
        "the old identity's sessions are gone"
    );
    let late = b.seal(&a.address, b"from the old token").unwrap();
    assert_eq!(a.open(&late, false), failed(TokenError::UnknownSession));
    exchange(&mut a, &mut other, b"welcome back");
}

#[cfg_attr(test, test)]
pub(crate) fn a_changed_identity_needs_acceptance_in_a_pairing_as_well() {
    let (mut a, b) = paired();
    let mut other = new_bob();
    let code = a.show_code(&b.address, false).unwrap();
    let (offer, _) = a.offer().unwrap();
    let (answer, _) = other.answer(&offer, code, false).unwrap();
    assert_eq!(a.confirm(&answer), failed(TokenError::IdentityChanged));
    assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);

    let code = a.show_code(&b.address, true).unwrap();
    let (offer, _) = a.offer().unwrap();
    let (answer, _) = other.answer(&offer, code, false).unwrap();
    assert_eq!(a.confirm(&answer).unwrap().0, other.identity());
    let hello = a.seal(&b.address, b"new key, same bob").unwrap();
    assert_eq!(other.read(&hello).unwrap().content, b"new key, same bob");
    assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);
}

#[cfg_attr(test, test)]
pub(crate) fn the_responder_accepts_a_changed_identity_when_it_answers() {
    let (mut a, mut b) = paired();
    let mut other = new_bob();
    let code = other.show_code(&a.address, false).unwrap();
    let (offer, _) = other.offer().unwrap();
    assert_eq!(
        a.answer(&offer, code, false),
        failed(TokenError::IdentityChanged)
    );
    assert_eq!(a.status().pending, 0, "a refusal is not charged");
    let (answer, left) = a.answer(&offer, code, true).unwrap();
    assert_eq!(left, 2);
    other.confirm(&answer).unwrap();
    exchange(&mut b, &mut a, b"until message 3 the old bob counts");
    let hello = other.seal(&a.address, b"hello again").unwrap();
    let read = a.read(&hello).unwrap();
    assert!(read.verified);
    assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);
}

#[cfg_attr(test, test)]
pub(crate) fn an_identity_change_without_a_press_is_refused() {
    let (mut a, b) = paired();
    let mut other = new_bob();
    let bundle = other.bundle(true);
    a.bench.env.control().finger = hostchat_token::Touch::TimedOut;
    assert_eq!(
        a.start(&b.address, &bundle, true),
        failed(TokenError::NoTouch)
    );
    a.bench.env.control().finger = hostchat_token::Touch::Cancelled;
    assert_eq!(
        a.start(&b.address, &bundle, true),
        failed(TokenError::Cancelled)
    );
    assert_eq!(a.contacts(), [(b.address.clone(), true, 1)]);
}

#[cfg_attr(test, test)]
pub(crate) fn forgetting_a_contact_leaves_the_others_and_pending_answers_can_be_forgotten() {
    let (mut a, mut b) = paired();
    let mut carol = Person::new("carol", 5);
    let hello = pair_up_to_message_3(&mut a, &mut carol);
    carol.read(&hello).unwrap();
    let mut listed = a.contacts();
    listed.sort();
    assert_eq!(
        listed,
        [
            (b.address.clone(), true, 1),
            (carol.address.clone(), true, 1)
        ]
    );
    a.bench
        .done(&Command::Forget {
            peer: b.address.clone(),
        })
        .unwrap();
    assert_eq!(
        a.bench.done(&Command::Forget {
            peer: b.address.clone()
        }),
        failed(TokenError::UnknownContact)
    );
    assert_eq!(a.seal(&b.address, b"x"), failed(TokenError::UnknownContact));
    exchange(&mut carol, &mut a, b"still here");
    assert_eq!(a.contacts(), [(carol.address.clone(), true, 1)]);

    let code = b.show_code(&carol.address, false).unwrap();
    let (offer, _) = b.offer().unwrap();
    carol.answer(&offer, code, false).unwrap();
    assert_eq!(carol.status().pending, 1);
    carol
        .bench
        .done(&Command::Forget {
            peer: b.address.clone(),
        })
        .unwrap();
    assert_eq!(carol.status().pending, 0);
}

#[cfg_attr(test, test)]
pub(crate) fn what_lasts_is_the_same_after_a_restart() {
    let (mut a, mut b) = paired();
    let key = |person: &mut Person| match person.bench.call(&Command::StorageKey).unwrap() {
        Reply::StorageKey(key) => key,
        other => panic!("{other:?}"),
    };
    let (identity, storage, status) = (a.identity(), key(&mut a), a.status());
    assert_ne!(storage, key(&mut b));
    a.restart();
    assert_eq!(
        (a.identity(), key(&mut a), a.status()),
        (identity, storage, status)
    );
    a.bench.reset().unwrap();
    a.bench.init(super::support::PIN).unwrap();
    assert_ne!(a.identity(), identity);
    assert_ne!(key(&mut a), storage);
    assert_eq!(a.contacts(), []);
}

#[cfg_attr(test, test)]
pub(crate) fn a_login_signs_what_the_token_built_itself() {
    let mut a = Person::new("alice", 1);
    let identity = a.identity();
    let dialled = RelayName::parse("relay.example:7443").unwrap();
    for account in [
        Account::User(Name::parse("alice").unwrap()),
        Account::Guest(address("alice")),
    ] {
        let command = Command::Login {
            account: account.clone(),
            dialled: dialled.clone(),
            challenge: Bytes([1; 32]),
            exporter: Bytes([2; 32]),
        };
        let signature = a.ask(&command, |reply| match reply {
            Reply::Signature(signature) => Some(signature),
            _ => None,
        });
        let signature = signature.unwrap();
        let checked = identity.verify().unwrap();
        let right = login_items(
            account.signed_text(),
            &dialled,
            &[1; 32],
            &[2; 32],
            &identity,
            |items| checked.verifying_key().verify(items, &signature.0),
        );
        assert_eq!(right, Ok(()));
    }
}

#[cfg_attr(test, test)]
pub(crate) fn random_numbers_differ() {
    let mut a = Person::new("alice", 1);
    let mut draw = || {
        a.ask(&Command::Random, |reply| match reply {
            Reply::Random(random) => Some(random),
            _ => None,
        })
        .unwrap()
    };
    assert_ne!(draw(), draw());
}
