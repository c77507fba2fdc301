//! Two key tokens begin without a code and talk over a hostile relay: bundles, first messages and frames altered in turn.

use hostchat_core::icd::{Command, OpenedKind, TokenError};
use hostchat_core::wire::{Address, Bytes, Envelope, PrekeyBundle, codec};
use hostchat_tests::hostile::alter::{self, Foreign};
use hostchat_tests::hostile::device::NOW;
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{Device, Mallory};

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@relay.example:7443")).expect("an address")
}

fn device(name: &str, seed: u64) -> Device {
    Device::new(address(name).as_str(), seed)
}

fn foreign(seed: u64) -> Foreign {
    Foreign::of(&mut Mallory::new(seed), &address("eve"), &address("bob"))
}

/// Alice's token and bob's after a first message, with what travelled.
fn begun(with_one_time: bool) -> (Device, Device, PrekeyBundle, Vec<u8>) {
    let (mut alice, mut bob) = (device("alice", 1), device("bob", 2));
    let bundle = bob.bundle(with_one_time);
    alice
        .begin_session(&address("bob"), &bundle, false)
        .expect("a session");
    let first = alice.seal(&address("bob"), b"hello").expect("sealed");
    (alice, bob, bundle, first)
}

/// Alice's token and bob's in the middle of a conversation.
fn talking() -> (Device, Device) {
    let (mut alice, mut bob, _, first) = begun(true);
    bob.take(&first).expect("opened");
    let reply = bob.seal(&address("alice"), b"reply").expect("sealed");
    alice.take(&reply).expect("opened");
    (alice, bob)
}

#[test]
fn no_altered_field_of_a_bundle_gives_a_session() {
    for with_one_time in [true, false] {
        let (mut alice, mut bob) = (device("alice", 3), device("bob", 4));
        let bundle = bob.bundle(with_one_time);
        let before = alice.dump();
        let mut count = 0;
        for (what, altered) in alter::bundles(&bundle, &foreign(5)) {
            count += 1;
            let refused = alice.begin_session(&address("bob"), &altered, false);
            assert!(refused.is_err(), "{what}");
        }
        println!("bundle: {count} altered forms refused");
        assert!(count > 20);
        assert!(alice.contacts().is_empty());
        assert!(alice.dump() == before, "a refused bundle was written down");
        let honest = alice.begin_session(&address("bob"), &bundle, false);
        assert_eq!(honest, Ok(bob.identity()), "the way is open");
    }
}

#[test]
fn prekeys_of_the_relay_in_a_known_contacts_name_are_refused_until_accepted() {
    let (mut alice, _) = talking();
    let mut mallory = Mallory::new(6);
    let bait = mallory.bait(NOW).bundle;
    let before = alice.dump();
    let refused = alice.begin_session(&address("bob"), &bait, false);
    assert_eq!(refused, Err(TokenError::IdentityChanged));
    // The right identity with the relay's prekeys, and the relay's identity with the right signature.
    let known = alice.contacts().remove(0).identity;
    for identity in [known, {
        let mut mixed = mallory.claim();
        mixed.signature = known.signature;
        mixed
    }] {
        let bait = PrekeyBundle {
            identity,
            ..bait.clone()
        };
        assert!(alice.begin_session(&address("bob"), &bait, false).is_err());
    }
    assert!(alice.dump() == before);
    assert_eq!(alice.contacts().remove(0).identity, known);
    // What is sealed still goes to bob and to nobody else.
    let accepted = alice.begin_session(&address("bob"), &bait, true);
    assert_eq!(accepted, Ok(mallory.claim()), "the user's decision");
    assert!(!alice.contacts().remove(0).verified);
}

#[test]
fn our_own_prekeys_and_our_own_address_are_refused() {
    let mut alice = device("alice", 7);
    let own = alice.bundle(true);
    let refused = alice.begin_session(&address("bob"), &own, false);
    assert_eq!(refused, Err(TokenError::PeerMisbehaved));
    let mut bob = device("bob", 8);
    let bundle = bob.bundle(true);
    let refused = alice.begin_session(&address("alice"), &bundle, false);
    assert_eq!(refused, Err(TokenError::WrongAddress));
    assert!(alice.contacts().is_empty());
}

#[test]
fn no_altered_field_of_a_first_message_gives_a_session_or_changes_the_token() {
    for with_one_time in [true, false] {
        let (mut alice, mut bob, _, first) = begun(with_one_time);
        let before = bob.dump();
        let all = alter::fields(&first, &foreign(9))
            .into_iter()
            .chain(alter::bits(&first, 3))
            .chain(alter::lengths(&first, 9));
        let mut count = 0;
        for altered in all {
            count += 1;
            assert!(bob.open(&altered.bytes).is_err(), "{}", altered.what);
        }
        println!("first message: {count} altered forms refused");
        assert!(bob.contacts().is_empty());
        assert!(bob.dump() == before, "a refused message was written down");

        let opened = bob.take(&first).expect("the honest message");
        assert_eq!((opened.kind, opened.verified), (OpenedKind::First, false));
        assert_eq!(opened.content, b"hello");
        // Reflected to its sender, given to somebody else.
        assert_eq!(alice.open(&first), Err(TokenError::PeerMisbehaved));
        assert!(device("carol", 10).open(&first).is_err());
    }
}

#[test]
fn a_replayed_first_message_never_makes_a_second_session() {
    for with_one_time in [true, false] {
        let (mut alice, mut bob, bundle, first) = begun(with_one_time);
        bob.take(&first).expect("opened");
        assert_eq!(bob.open(&first), Err(TokenError::Replayed));
        // The same secrets with an altered header, so that its mark is another one.
        let forms = alter::fields(&first, &foreign(11));
        for altered in forms
            .iter()
            .filter(|altered| altered.what.starts_with("first."))
        {
            assert!(bob.open(&altered.bytes).is_err(), "{}", altered.what);
        }
        // The user deletes the contact; the token restarts. The first message is still a used one.
        let mut bob = bob.restarted(12);
        bob.done(&Command::Forget {
            peer: address("alice"),
        })
        .expect("forgotten");
        let used = if with_one_time {
            TokenError::Prekey
        } else {
            TokenError::Replayed
        };
        assert_eq!(bob.open(&first), Err(used));
        assert_eq!(bob.restarted(13).open(&first), Err(used));
        assert!(bob.contacts().is_empty());
        if with_one_time {
            // The relay gives the one-time prekey a second time: the second sender's message is refused, not confused.
            let mut carol = device("carol", 14);
            carol
                .begin_session(&address("bob"), &bundle, false)
                .expect("a session");
            let second = carol.seal(&address("bob"), b"me too").expect("sealed");
            assert_eq!(bob.open(&second), Err(TokenError::Prekey));
        }
        drop(alice.dump());
    }
}

#[test]
fn a_first_message_in_a_known_contacts_name_is_refused_until_accepted() {
    let (_, mut bob) = talking();
    let known = bob.contacts().remove(0).identity;
    let bundle = bob.bundle(true);
    let mut mallory = Mallory::new(15);
    mallory.begin(&address("alice"), &address("bob"), &bundle, NOW);
    let forged = mallory.write("this is alice, with a new key");
    let before = bob.dump();
    assert_eq!(bob.open(&forged), Err(TokenError::IdentityChanged));
    assert!(bob.dump() == before);
    assert_eq!(bob.contacts().remove(0).identity, known);
    // Under the identity of alice it does not open at all.
    let Ok(Envelope::First { mut header, frame }) = codec::decode(&forged) else {
        unreachable!("mallory wrote a first message")
    };
    header.identity = known;
    let claimed = encode(&Envelope::First { header, frame });
    assert!(bob.open(&claimed).is_err());
}

#[test]
fn no_altered_field_of_a_message_opens_or_changes_the_token() {
    let (mut alice, mut bob) = talking();
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        let (sender, receiver) = match from {
            "alice" => (&mut alice, &mut bob),
            _ => (&mut bob, &mut alice),
        };
        let message = sender.seal(&address(to), b"the text").expect("sealed");
        let before = receiver.dump();
        let all = alter::fields(&message, &foreign(16))
            .into_iter()
            .chain(alter::bits(&message, 1))
            .chain(alter::lengths(&message, 1));
        let mut count = 0;
        for altered in all {
            count += 1;
            assert!(receiver.open(&altered.bytes).is_err(), "{}", altered.what);
        }
        println!("message: {count} altered forms refused");
        assert!(
            receiver.dump() == before,
            "a refused message was written down"
        );
        assert_eq!(
            sender.open(&message),
            Err(TokenError::PeerMisbehaved),
            "reflected"
        );
        let opened = receiver.take(&message).expect("the honest message");
        assert_eq!(
            (opened.kind, opened.peer),
            (OpenedKind::Message, address(from))
        );
        assert_eq!(opened.content, b"the text");
        assert_eq!(receiver.open(&message), Err(TokenError::Replayed));
    }
}

#[test]
fn messages_reordered_doubled_and_crossed_arrive_once_each() {
    let (mut alice, mut bob) = talking();
    let sent: Vec<_> = (0u8..40)
        .map(|n| alice.seal(&address("bob"), &[n]).expect("sealed"))
        .collect();
    let mut got = Vec::new();
    // Every seventh first, each twice, then all of them again, backwards.
    let order = (0..sent.len())
        .map(|n| (n * 7) % sent.len())
        .chain((0..sent.len()).rev());
    for at in order {
        for _ in 0..2 {
            match bob.take(&sent[at]) {
                Ok(opened) => got.push(opened.content),
                Err(error) => assert_eq!(error, TokenError::Replayed),
            }
        }
    }
    got.sort();
    assert_eq!(got, (0u8..40).map(|n| vec![n]).collect::<Vec<_>>());
}

#[test]
fn a_frame_of_one_contact_is_never_taken_for_anothers() {
    let (mut alice, mut bob) = talking();
    // Carol begins with bob, and with alice.
    let mut carol = device("carol", 17);
    for peer in [&mut alice, &mut bob] {
        let bundle = peer.bundle(true);
        let to = peer.address.clone();
        carol.begin_session(&to, &bundle, false).expect("a session");
        let first = carol.seal(&to, b"carol here").expect("sealed");
        peer.take(&first).expect("opened");
    }
    let to_alice = carol.seal(&address("alice"), b"for alice").expect("sealed");
    assert!(bob.open(&to_alice).is_err());
    let to_bob = carol.seal(&address("bob"), b"for bob").expect("sealed");
    assert!(alice.open(&to_bob).is_err());
    // Whoever the relay says has sent it, the token names the one who wrote it.
    assert_eq!(bob.take(&to_bob).expect("opened").peer, address("carol"));
    assert_eq!(
        alice.take(&to_alice).expect("opened").peer,
        address("carol")
    );
    // Carol's session id on alice's frame.
    let frame_of_alice = alice.seal(&address("bob"), b"alice here").expect("sealed");
    let session = bob
        .contacts()
        .into_iter()
        .find(|contact| contact.address == address("carol"))
        .map(|contact| contact.session)
        .expect("carol");
    let Ok(Envelope::Message { frame }) = codec::decode(&frame_of_alice) else {
        unreachable!("alice's session is confirmed")
    };
    let mut moved = frame.to_vec();
    moved[2..18].copy_from_slice(&session.0);
    assert!(
        bob.open(&encode(&Envelope::Message { frame: &moved }))
            .is_err()
    );
    assert_eq!(
        bob.take(&frame_of_alice).expect("opened").peer,
        address("alice")
    );
}

#[test]
fn a_commit_of_something_else_than_what_was_opened_is_refused() {
    let (mut alice, mut bob) = talking();
    let one = alice.seal(&address("bob"), b"one").expect("sealed");
    let two = alice.seal(&address("bob"), b"two").expect("sealed");
    let first = bob.open(&one).expect("opened");
    let second = bob.open(&two).expect("opened");
    for hash in [first.hash, Bytes([0; 32])] {
        let refused = bob.done(&Command::Commit { hash });
        assert_eq!(refused, Err(TokenError::NothingToCommit));
    }
    bob.done(&Command::Commit { hash: second.hash })
        .expect("committed");
    assert_eq!(bob.take(&one).expect("opened").content, b"one");
}
