//! Two key tokens pair over a hostile relay: every field of every message is altered in turn, and every guess is charged.

use hostchat_core::icd::{Command, OpenedKind, TokenError};
use hostchat_core::wire::{Address, Bytes, Content, Envelope, PairAnswer, PairOffer, codec};
use hostchat_tests::hostile::alter::{self, Foreign};
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{Device, Mallory};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const TEN_MINUTES_MS: u64 = 10 * 60 * 1000;

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@relay.example:7443")).expect("an address")
}

fn device(name: &str, seed: u64) -> Device {
    Device::new(address(name).as_str(), seed)
}

fn offer_in(body: &[u8]) -> Option<PairOffer> {
    match codec::decode(body) {
        Ok(Envelope::PairOffer(offer)) => Some(offer),
        _ => None,
    }
}

fn answer_in(body: &[u8]) -> Option<PairAnswer> {
    match codec::decode(body) {
        Ok(Envelope::PairAnswer(answer)) => Some(answer),
        _ => None,
    }
}

fn text(text: &str) -> Vec<u8> {
    let content = Content::Text {
        id: Bytes([7; 16]),
        sent_at: 1,
        text,
    };
    codec::encode_vec::<_, 4096>(&content)
        .expect("a content")
        .to_vec()
}

/// Alice's side of a run, held by hostchat-core so that it can be repeated for each alteration; she knows the code.
fn alice_offers(
    seed: u64,
) -> (
    Mallory,
    hostchat_core::handshake::pair::Initiator,
    PairOffer,
) {
    let mut alice = Mallory::new(seed);
    let (run, offer) = alice.offer(&address("alice"), &address("bob"), "493027");
    (alice, run, offer)
}

#[test]
fn no_altered_field_of_an_offer_gives_a_session() {
    let mut bob = device("bob", 1);
    let (mut alice, _, honest) = alice_offers(2);
    let foreign = Foreign::of(&mut Mallory::new(3), &address("alice"), &address("bob"));
    let body = encode(&Envelope::PairOffer(honest.clone()));
    let all = alter::fields(&body, &foreign)
        .into_iter()
        .chain(alter::bits(&body, 24))
        .chain(alter::lengths(&body, 200));
    let (mut refused, mut answered) = (0, 0);
    for altered in all {
        // Each time a token that has not seen this run yet.
        let answer =
            offer_in(&altered.bytes).map(|offer| bob.restarted(1).answer(&offer, "493027"));
        let Some(Ok((mut answer, _))) = answer else {
            refused += 1;
            continue;
        };
        answered += 1;
        // The relay repairs what the answer repeats of the alteration.
        for repair in [false, true] {
            if repair {
                answer.sid = honest.sid;
                answer.public.initiator = honest.public.initiator.clone();
                answer.public.responder = honest.public.responder.clone();
            }
            let (_, run, _) = alice_offers(2);
            assert!(!alice.guessed(run, &answer), "{}", altered.what);
        }
    }
    println!("offer: {refused} altered forms refused, {answered} answered in vain");
    assert!(refused > 20 && answered > 40, "{refused} and {answered}");
    assert!(bob.contacts().is_empty());
    let (answer, _) = bob.answer(&honest, "493027").expect("the honest offer");
    let (_, run, _) = alice_offers(2);
    assert!(alice.guessed(run, &answer), "the way is open");
}

#[test]
fn no_altered_field_of_an_answer_gives_a_session() {
    let mut alice = device("alice", 4);
    let mut bob = Mallory::new(5);
    let foreign = Foreign::of(&mut Mallory::new(6), &address("bob"), &address("alice"));
    let mut code = alice.begin(&address("bob")).expect("a code");
    let forms = |body: &[u8]| -> Vec<_> {
        alter::fields(body, &foreign)
            .into_iter()
            .chain(alter::bits(body, 48))
            .chain(alter::lengths(body, 400))
            .collect()
    };
    let (mut at, mut tried) = (0, 0);
    loop {
        let offered = match alice.offer() {
            Err(TokenError::NoCode) => {
                code = alice.begin(&address("bob")).expect("a code");
                continue;
            }
            offered => offered.expect("a run"),
        };
        let (_, honest) = bob.answer(&address("bob"), &code, &offered.offer);
        let body = encode(&Envelope::PairAnswer(honest.clone()));
        let Some(altered) = forms(&body).into_iter().nth(at) else {
            assert_eq!(alice.confirm(&honest), Ok(bob.claim()), "the way is open");
            break;
        };
        at += 1;
        let Some(answer) = answer_in(&altered.bytes) else {
            continue;
        };
        tried += 1;
        let refused = alice.confirm(&answer).expect_err(&altered.what);
        assert!(alice.contacts().is_empty(), "{}", altered.what);
        if answer.sid == honest.sid {
            let runs_left = offered.runs_left;
            assert_eq!(
                refused,
                TokenError::WrongCode { runs_left },
                "{}",
                altered.what
            );
            // The first answer to a run is the last one, even if the honest one comes after it.
            assert_eq!(
                alice.confirm(&honest),
                Err(TokenError::NoCode),
                "{}",
                altered.what
            );
        } else {
            assert_eq!(refused, TokenError::UnknownSession, "{}", altered.what);
        }
    }
    println!("answer: {at} altered forms, {tried} of them reached the token");
    assert!(tried > 60, "{tried}");
}

/// Alice's token and bob's, paired as far as bob's answer, with alice's message 3.
fn third_message() -> (Device, Device, Vec<u8>) {
    let (mut alice, mut bob) = (device("alice", 10), device("bob", 11));
    let code = alice.begin(&address("bob")).expect("a code");
    let offered = alice.offer().expect("a run");
    let (answer, _) = bob.answer(&offered.offer, &code).expect("an answer");
    alice.confirm(&answer).expect("paired");
    let third = alice.seal(&address("bob"), &text("hello")).expect("sealed");
    (alice, bob, third)
}

#[test]
fn no_altered_field_of_message_3_gives_a_session_or_changes_the_token() {
    let (mut alice, mut bob, third) = third_message();
    let foreign = Foreign::of(&mut Mallory::new(12), &address("alice"), &address("bob"));
    let before = bob.dump();
    let all = alter::fields(&third, &foreign)
        .into_iter()
        .chain(alter::bits(&third, 1))
        .chain(alter::lengths(&third, 1));
    let mut count = 0;
    for altered in all {
        count += 1;
        assert!(bob.open(&altered.bytes).is_err(), "{}", altered.what);
        let nothing = bob.done(&Command::Commit {
            hash: Bytes([0; 32]),
        });
        assert_eq!(nothing, Err(TokenError::NothingToCommit));
    }
    println!("message 3: {count} altered forms refused");
    assert!(bob.contacts().is_empty());
    assert!(bob.dump() == before, "a refused message was written down");

    let opened = bob.take(&third).expect("the honest message");
    assert_eq!((opened.kind, opened.verified), (OpenedKind::Paired, true));
    assert_eq!(opened.content, text("hello"));
    assert_eq!(opened.identity, alice.identity());
    // Replayed: refused, and nothing is written.
    let before = bob.dump();
    assert_eq!(bob.open(&third), Err(TokenError::Replayed));
    assert!(bob.dump() == before);
    // Reflected to its sender.
    assert_eq!(alice.open(&third), Err(TokenError::PeerMisbehaved));
}

#[test]
fn messages_of_a_pairing_replayed_reflected_or_given_to_another_are_refused() {
    let (mut alice, mut bob, mut carol) =
        (device("alice", 20), device("bob", 21), device("carol", 22));
    let code = alice.begin(&address("bob")).expect("a code");
    let first = alice.offer().expect("a run").offer;

    // Reflected, as it is and with the addresses exchanged; delivered to the wrong mailbox.
    assert_eq!(alice.answer(&first, &code), Err(TokenError::WrongAddress));
    let mut turned = first.clone();
    std::mem::swap(&mut turned.public.initiator, &mut turned.public.responder);
    assert_eq!(
        alice.answer(&turned, &code),
        Err(TokenError::PeerMisbehaved)
    );
    assert_eq!(carol.answer(&first, &code), Err(TokenError::WrongAddress));

    let (answer, left) = bob.answer(&first, &code).expect("an answer");
    assert_eq!(left, 2);
    // Replayed, also to a token that was restarted: no second guess for one offer.
    assert_eq!(bob.answer(&first, &code), Err(TokenError::Replayed));
    assert_eq!(
        bob.restarted(23).answer(&first, &code),
        Err(TokenError::Replayed)
    );

    // Alice's own share, identity and tag come back to her.
    let mut mirror = answer.clone();
    mirror.share = first.share;
    mirror.public.identity = first.public.identity;
    mirror.public.ephemeral = first.public.ephemeral;
    assert_eq!(
        alice.confirm(&mirror),
        Err(TokenError::WrongCode { runs_left: 2 })
    );

    // Bob's answer to the first run for the second one, as it is and under the second one's name.
    let second = alice.offer().expect("a run").offer;
    assert_eq!(alice.confirm(&answer), Err(TokenError::UnknownSession));
    let mut renamed = answer.clone();
    renamed.sid = second.sid;
    assert_eq!(
        alice.confirm(&renamed),
        Err(TokenError::WrongCode { runs_left: 1 })
    );

    let third = alice.offer().expect("a run").offer;
    let (answer, _) = bob.answer(&third, &code).expect("an answer");
    assert_eq!(
        alice.confirm(&answer),
        Ok(bob.identity()),
        "the way is open"
    );
    assert_eq!(alice.confirm(&answer), Err(TokenError::NoCode), "replayed");
    assert_eq!(alice.contacts().len(), 1);
    // Message 3 to somebody else.
    let envelope = alice.seal(&address("bob"), &text("x")).expect("sealed");
    assert_eq!(carol.open(&envelope), Err(TokenError::UnknownSession));
    assert!(carol.contacts().is_empty());
}

#[test]
fn a_relay_in_between_has_one_guess_for_each_run_against_each_end() {
    let (mut alice, mut bob) = (device("alice", 30), device("bob", 31));
    let mut mallory = Mallory::new(32);
    let code = alice.begin(&address("bob")).expect("a code");
    let wrong = |n: u32| format!("{:06}", (code.parse::<u32>().unwrap_or(0) + n) % 1_000_000);
    for (run, runs_left) in [(1, 2), (2, 1), (3, 0)] {
        let offered = alice.offer().expect("a run");
        assert_eq!(offered.runs_left, runs_left);
        let (_, answer) = mallory.answer(&address("bob"), &wrong(run), &offered.offer);
        assert_eq!(
            alice.confirm(&answer),
            Err(TokenError::WrongCode { runs_left })
        );

        // At the other end: bob, who thinks it is alice, types the right code.
        let (guess, offer) = mallory.offer(&address("alice"), &address("bob"), &wrong(run));
        let (answer, left) = bob.answer(&offer, &code).expect("an answer");
        assert_eq!(u32::from(left), 3 - run);
        assert!(!mallory.guessed(guess, &answer));
    }
    // The code is dead at the one end, and at the other no answer leaves any more.
    assert_eq!(alice.offer().map(|_| ()), Err(TokenError::NoCode));
    let (_, offer) = mallory.offer(&address("alice"), &address("bob"), &code);
    assert_eq!(
        bob.answer(&offer, &code),
        Err(TokenError::TooManyAnswers { seconds: 600 })
    );
    assert!(alice.contacts().is_empty() && bob.contacts().is_empty());

    // The same with the right code: the code is what makes the difference.
    let code = alice.begin(&address("bob")).expect("a code");
    let offered = alice.offer().expect("a run");
    let (_, answer) = mallory.answer(&address("bob"), &code, &offered.offer);
    assert_eq!(alice.confirm(&answer), Ok(mallory.claim()));
}

#[test]
fn whoever_reads_message_2_and_hangs_up_is_charged_and_a_restart_gives_nothing_back() {
    let mut bob = device("bob", 40);
    let code = "808808";
    // Three callers, each under another name and identity.
    for (n, caller) in ["alice", "carol", "dave"].into_iter().enumerate() {
        let mut mallory = Mallory::new(41 + n as u64);
        let (guess, offer) = mallory.offer(&address(caller), &address("bob"), "111111");
        let (answer, left) = bob.answer(&offer, code).expect("an answer");
        assert_eq!(usize::from(left), 2 - n);
        assert!(
            !mallory.guessed(guess, &answer),
            "the answer says that the guess was wrong"
        );
        bob.pass(60_000);
    }
    let mut mallory = Mallory::new(50);
    let (_, offer) = mallory.offer(&address("erin"), &address("bob"), "222222");
    let refused = Err(TokenError::TooManyAnswers { seconds: 420 });
    assert_eq!(bob.answer(&offer, code), refused);
    // Neither a new channel nor a restart of the program.
    bob.relock();
    assert_eq!(bob.answer(&offer, code), refused);
    assert_eq!(bob.restarted(51).answer(&offer, code), refused);
    // Nor a power cycle: the answers count as made when the power came on.
    let mut cycled = bob.restarted(52);
    cycled.power_cycle();
    assert_eq!(
        cycled.answer(&offer, code),
        Err(TokenError::TooManyAnswers { seconds: 600 })
    );
    cycled.pass(TEN_MINUTES_MS - 1);
    assert_eq!(
        cycled.answer(&offer, code),
        Err(TokenError::TooManyAnswers { seconds: 1 })
    );

    // After ten minutes the three answers still wait for their confirmation; three at most do.
    bob.pass(7 * 60_000);
    assert_eq!(bob.answer(&offer, code), Err(TokenError::TooManyPending));
    bob.pass(31 * DAY_MS);
    bob.answer(&offer, code).expect("an answer after 30 days");
}

#[test]
fn refused_offers_are_not_charged() {
    let mut bob = device("bob", 60);
    let mut mallory = Mallory::new(61);
    let before = bob.dump();
    for _ in 0..5 {
        let (_, offer) = mallory.offer(&address("alice"), &address("carol"), "111111");
        assert_eq!(bob.answer(&offer, "808808"), Err(TokenError::WrongAddress));
        let (_, mut offer) = mallory.offer(&address("alice"), &address("bob"), "111111");
        offer.public.kem = Bytes([0xff; 1184]);
        assert!(bob.answer(&offer, "808808").is_err());
        offer.share = Bytes([0; 32]);
        assert!(bob.answer(&offer, "808808").is_err());
    }
    assert!(bob.dump() == before, "a refused offer was written down");
    let (_, offer) = mallory.offer(&address("alice"), &address("bob"), "111111");
    let (_, left) = bob.answer(&offer, "808808").expect("an answer");
    assert_eq!(left, 2, "only this one is charged");
}

#[test]
fn a_code_dies_with_its_runs_its_time_and_its_token() {
    let mut alice = device("alice", 70);
    let mut bob = Mallory::new(71);
    let bob_at = address("bob");

    // Runs that nobody answers are runs.
    let code = alice.begin(&bob_at).expect("a code");
    let mut answers = Vec::new();
    for _ in 0..3 {
        let offered = alice.offer().expect("a run");
        answers.push(bob.answer(&bob_at, &code, &offered.offer).1);
    }
    assert_eq!(alice.offer().map(|_| ()), Err(TokenError::NoCode));
    // Only the answer to the last run counts, and the dead code took it along.
    for answer in &answers {
        assert!(alice.confirm(answer).is_err());
    }
    assert!(alice.contacts().is_empty());

    // Ten minutes, to the millisecond.
    let code = alice.begin(&bob_at).expect("a code");
    let offered = alice.offer().expect("a run");
    let (_, answer) = bob.answer(&bob_at, &code, &offered.offer);
    alice.pass(TEN_MINUTES_MS + 1);
    assert_eq!(alice.confirm(&answer), Err(TokenError::NoCode));
    assert_eq!(alice.offer().map(|_| ()), Err(TokenError::NoCode));

    // A restart, a lock, the end of the sender's program.
    for ends in 0..3 {
        let code = alice.begin(&bob_at).expect("a code");
        let offered = alice.offer().expect("a run");
        let (_, answer) = bob.answer(&bob_at, &code, &offered.offer);
        match ends {
            0 => alice = alice.restarted(72),
            1 => alice.relock(),
            _ => alice.done(&Command::PairEnd).expect("ended"),
        }
        assert_eq!(alice.confirm(&answer), Err(TokenError::NoCode));
        assert_eq!(alice.offer().map(|_| ()), Err(TokenError::NoCode));
    }
    assert!(alice.contacts().is_empty());
}

#[test]
fn a_pairing_with_another_identity_does_not_take_a_contacts_place_by_itself() {
    let (mut alice, mut bob, third) = third_message();
    bob.take(&third).expect("paired");
    let known = alice.identity();

    // Somebody who learnt a new code, in alice's name: bob's token asks first, and its answer is not charged.
    let mut mallory = Mallory::new(80);
    let (_, offer) = mallory.offer(&address("alice"), &address("bob"), "123123");
    assert_eq!(
        bob.answer(&offer, "123123"),
        Err(TokenError::IdentityChanged)
    );
    // And in bob's name towards alice, who shows a code to whom she takes for bob.
    let code = alice.begin(&address("bob")).expect("a code");
    let offered = alice.offer().expect("a run");
    let (_, answer) = mallory.answer(&address("bob"), &code, &offered.offer);
    assert_eq!(alice.confirm(&answer), Err(TokenError::IdentityChanged));

    let contact = bob.contacts().remove(0);
    assert_eq!((contact.identity, contact.verified), (known, true));
    let contact = alice.contacts().remove(0);
    assert_eq!((contact.identity, contact.verified), (bob.identity(), true));
    // The session that there was still works.
    let more = alice.seal(&address("bob"), &text("more")).expect("sealed");
    assert_eq!(bob.take(&more).expect("opened").content, text("more"));
}
