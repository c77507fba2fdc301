//! Pairing with the real program over a hostile relay: answering as the peer, asking as the peer, altering what passes.

use std::sync::{Arc, Mutex};

use hostchat_core::wire::relay::Kind;
use hostchat_core::wire::{Address, Bytes, Envelope, IdentityClaim, codec};
use hostchat_tests::hostile::alter::{self, Foreign};
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{Mail, Mallory};

use crate::hostile_support::{
    Scene, answer_in, contact, ended_well, is_confirmed, offer_in, outbox, with,
};
use crate::support::{code_of, events, other_code, texts};

/// The runs that a sender was told were wrong.
fn runs_left(ended: &hostchat_tests::Ended) -> Vec<u64> {
    let wrong = events(ended, "wrong_code");
    wrong
        .iter()
        .filter_map(|event| event["runs_left"].as_u64())
        .collect()
}

/// The code in the output of a sender that prints JSON.
fn json_code(sending: &hostchat_tests::Running) -> String {
    sending.wait_out("the code", |line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event["event"] == "code").then(|| event["code"].as_str().map(str::to_owned))?
    })
}

#[test]
fn a_relay_that_answers_as_the_peer_gets_three_guesses_and_no_session() {
    let scene = Scene::new();
    let bob_at = scene.relay.address_of("bob");
    let mut mallory = Mallory::new(1);
    // Whatever alice offers is answered by the relay, under a guess, and never reaches bob.
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(move |mail| {
            let Some(offer) = offer_in(&mail) else {
                return Vec::new();
            };
            let (_, answer) = mallory.answer(&bob_at, "314159", &offer);
            let body = encode(&Envelope::PairAnswer(answer));
            vec![mallory.mail(&bob_at, &offer.public.initiator, Kind::Pairing, body)]
        });
    });
    let secret = "for bob's eyes only";
    let sending = scene
        .alice
        .start(&["send", "bob", secret, "--code", "print", "--json"]);
    let ended = ended_well(sending.end()).refused(9, "dead");
    assert_eq!(runs_left(&ended), [2, 1, 0]);
    assert_eq!(events(&ended, "queued").len(), 1, "{ended}");
    assert_eq!(scene.frames(), 0, "nothing was sealed for anybody");
    assert_eq!(outbox(&scene.alice, "bob"), 1);
    assert_eq!(
        contact(&scene.alice, "bob").expect("bob")["status"],
        "not reached"
    );

    // A new code, and a relay that behaves: both messages arrive, in order, once each.
    scene.relay.behave();
    let sending = scene
        .alice
        .start(&["send", "bob", "and this", "--code", "print"]);
    let code = code_of(&sending);
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let mut got = texts(&scene.bob.run_with_input(&accepting, &code).ok());
    sending.end().ok();
    got.extend(texts(&scene.bob.run(&["recv", "--json"]).ok()));
    assert_eq!(got, [secret, "and this"]);
}

#[test]
fn a_relay_that_asks_in_a_friends_name_and_hangs_up_is_charged_and_a_restart_gives_nothing_back() {
    let scene = Scene::new();
    let (alice_at, bob_at) = (
        scene.relay.address_of("alice"),
        scene.relay.address_of("bob"),
    );
    let mallory = Arc::new(Mutex::new(Mallory::new(2)));
    let ask = {
        let (mallory, from, to) = (Arc::clone(&mallory), alice_at.clone(), bob_at.clone());
        move |guess: &str| {
            let mut mallory = mallory.lock().expect("mallory");
            let (run, offer) = mallory.offer(&from, &to, guess);
            let mail = mallory.mail(
                &from,
                &to,
                Kind::Pairing,
                encode(&Envelope::PairOffer(offer)),
            );
            (run, mail)
        }
    };
    // To each answer of bob the relay says "wrong, but there are runs left", and asks again.
    // It says the same of alice's identity as it claims in the offers: otherwise nobody would be asked for a code.
    let claim = mallory.lock().expect("mallory").claim();
    let (first_run, first) = ask("000000");
    let mut run = Some(first_run);
    let guesses = Arc::new(Mutex::new(Vec::new()));
    let (guessed, again) = (Arc::clone(&guesses), ask.clone());
    scene.relay.attack(|adversary| {
        adversary.binding = Box::new(move |(name, honest)| {
            if name.as_str() == "alice" {
                Some(claim)
            } else {
                honest
            }
        });
        adversary.mail = Box::new(move |mail| {
            let (Some(answer), Some(before)) = (answer_in(&mail), run.take()) else {
                return Vec::new();
            };
            let right = mallory.lock().expect("mallory").guessed(before, &answer);
            guessed.lock().expect("guesses").push(right);
            let (next, offer) = again("000001");
            run = Some(next);
            let sid = answer.sid;
            let ended = Mail {
                message_id: Bytes([9; 16]),
                ..with(&offer, &Envelope::PairEnded { sid, runs_left: 2 })
            };
            vec![ended, offer]
        });
    });
    scene.relay.leave(first);
    let codes = "777777\n777777\n777777\n777777\n777777\n";
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let ended = ended_well(scene.bob.run_with_input(&accepting, codes));
    let ended = ended.refused(9, "three codes were typed within ten minutes");
    assert_eq!(runs_left(&ended), [2, 2, 2], "{ended}");
    assert_eq!(
        *guesses.lock().expect("guesses"),
        [false; 3],
        "three answers, no more"
    );

    // The program starts anew: the token has not forgotten.
    for _ in 0..2 {
        let ended = ended_well(scene.bob.run_with_input(&accepting, codes));
        ended.refused(9, "three codes were typed within ten minutes");
    }
    assert_eq!(guesses.lock().expect("guesses").len(), 3);
    assert!(contact(&scene.bob, "alice").is_none_or(|alice| alice["fingerprint"].is_null()));
    assert_eq!(scene.frames(), 0);
}

/// Lets alice and bob pair while `alter` alters one kind of message in each of the three runs of a code.
fn three_altered_runs(alter: impl Fn(usize, &Mail) -> Option<Mail> + Send + 'static) {
    three_altered_runs_under(None, alter);
}

/// As [`three_altered_runs`], at a relay that may say that alice has another identity.
fn three_altered_runs_under(
    alice: Option<IdentityClaim>,
    alter: impl Fn(usize, &Mail) -> Option<Mail> + Send + 'static,
) {
    let scene = Scene::new();
    let mut run = 0;
    scene.relay.attack(|adversary| {
        adversary.binding = Box::new(move |(name, honest)| match alice {
            Some(claim) if name.as_str() == "alice" => Some(claim),
            _ => honest,
        });
        adversary.mail = Box::new(move |mail| match alter(run, &mail) {
            Some(altered) => {
                run += 1;
                vec![altered]
            }
            None => vec![mail],
        });
    });
    let sending = scene
        .alice
        .start(&["send", "bob", "secret", "--code", "print", "--json"]);
    let code = json_code(&sending);
    // Bob types the right code each time.
    let codes = format!("{code}\n{code}\n{code}\n");
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let accepted = ended_well(scene.bob.run_with_input(&accepting, &codes));
    let accepted = accepted.refused(9, "wrong code, or somebody is in between");
    assert_eq!(runs_left(&accepted), [2, 1, 0], "{accepted}");
    let sent = ended_well(sending.end()).refused(9, "dead");
    assert_eq!(runs_left(&sent), [2, 1, 0]);
    assert_eq!(scene.frames(), 0);
    assert_eq!(outbox(&scene.alice, "bob"), 1);
    for (home, name) in [(&scene.alice, "bob"), (&scene.bob, "alice")] {
        let known = contact(home, name);
        assert!(
            known.is_none_or(|known| known["fingerprint"].is_null()),
            "{name}"
        );
    }
}

#[test]
fn an_offer_altered_on_its_way_gives_neither_end_a_session() {
    let mut mallory = Mallory::new(3);
    let (alice_at, bob_at) = (address("alice"), address("bob"));
    let share = mallory.offer(&alice_at, &bob_at, "111111").1.share;
    let ephemeral = mallory.bytes::<32>();
    three_altered_runs(move |run, mail| {
        let mut offer = offer_in(mail)?;
        match run {
            0 => offer.share = share,
            1 => offer.public.ephemeral = ephemeral,
            // The seed of the matrix: still a sound key, but another one.
            _ => offer.public.kem.0[1183] ^= 1,
        }
        Some(with(mail, &Envelope::PairOffer(offer)))
    });
}

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@relay.example:7443")).expect("an address")
}

#[test]
fn an_offer_under_the_relays_identity_gives_neither_end_a_session() {
    let claim = Mallory::new(3).claim();
    three_altered_runs_under(Some(claim), move |_, mail| {
        let mut offer = offer_in(mail)?;
        offer.public.identity = claim;
        Some(with(mail, &Envelope::PairOffer(offer)))
    });
}

#[test]
fn an_offer_under_another_identity_than_the_relay_says_asks_nobody_for_a_code() {
    let scene = Scene::new();
    let claim = Mallory::new(3).claim();
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(move |mail| match offer_in(&mail) {
            Some(mut offer) => {
                offer.public.identity = claim;
                vec![with(&mail, &Envelope::PairOffer(offer))]
            }
            None => vec![mail],
        });
    });
    let sending = scene
        .alice
        .start(&["send", "bob", "secret", "--code", "print", "--json"]);
    let code = json_code(&sending);
    let accepting = ["accept", "alice", "--code-file", "-"];
    ended_well(scene.bob.run_with_input(&accepting, &code))
        .refused(10, "someone else made this request")
        .refused(10, "the request was deleted");
    assert!(scene.sent().iter().all(|mail| answer_in(mail).is_none()));
    sending.stop();
    assert_eq!(outbox(&scene.alice, "bob"), 1);
}

#[test]
fn an_offer_that_no_token_can_answer_is_told_and_deleted() {
    let scene = Scene::new();
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(|mail| match offer_in(&mail) {
            Some(mut offer) => {
                // A coefficient of the encapsulation key that is not below q.
                offer.public.kem.0[..3].fill(0xFF);
                vec![with(&mail, &Envelope::PairOffer(offer))]
            }
            None => vec![mail],
        });
    });
    let sending = scene
        .alice
        .start(&["send", "bob", "secret", "--code", "print", "--json"]);
    let code = json_code(&sending);
    let accepting = ["accept", "alice", "--code-file", "-"];
    ended_well(scene.bob.run_with_input(&accepting, &code))
        .refused(9, "cannot be answered")
        .refused(9, "ask the sender for a new code");
    ended_well(scene.bob.run(&["accept", "alice"])).refused(15, "does not ask");
    sending.stop();
    assert_eq!(outbox(&scene.alice, "bob"), 1);
    assert_eq!(scene.frames(), 0);
}

#[test]
fn an_answer_altered_on_its_way_gives_neither_end_a_session() {
    let claim = Mallory::new(4).claim();
    three_altered_runs(move |run, mail| {
        let mut answer = answer_in(mail)?;
        match run {
            0 => answer.public.identity = claim,
            1 => answer.public.kem.0[0] ^= 1,
            _ => answer.tag.0[31] ^= 0x80,
        }
        Some(with(mail, &Envelope::PairAnswer(answer)))
    });
}

#[test]
fn every_altered_form_of_message_3_is_passed_over_and_the_honest_one_counts_once() {
    let scene = Scene::new();
    let (alice_at, bob_at) = (
        scene.relay.address_of("alice"),
        scene.relay.address_of("bob"),
    );
    let foreign = Foreign::of(&mut Mallory::new(5), &alice_at, &bob_at);
    let forms = Arc::new(Mutex::new(0));
    let count = Arc::clone(&forms);
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(move |mail| {
            if !is_confirmed(&mail) {
                return vec![mail];
            }
            let altered = alter::fields(&mail.body, &foreign)
                .into_iter()
                .chain(alter::lengths(&mail.body, 40));
            let mut all: Vec<_> = altered
                .map(|altered| Mail {
                    body: altered.bytes,
                    fingerprint: None,
                    ..mail.clone()
                })
                .collect();
            *count.lock().expect("count") += all.len();
            // The honest one last, and three times.
            all.extend([mail.clone(), mail.clone(), mail]);
            all
        });
    });
    let sending = scene
        .alice
        .start(&["send", "bob", "the third", "--code", "print"]);
    let code = code_of(&sending);
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let accepted = ended_well(scene.bob.run_with_input(&accepting, &code)).ok();
    sending.end().ok();
    let mut got = texts(&accepted);
    got.extend(texts(&ended_well(scene.bob.run(&["recv", "--json"])).ok()));
    assert_eq!(got, ["the third"]);
    let forms = *forms.lock().expect("count");
    println!("message 3: {forms} altered forms passed over");
    assert!(forms > 40);
    scene.relay.wait_emptied("bob");
    for (home, name) in [(&scene.alice, "bob"), (&scene.bob, "alice")] {
        assert_eq!(
            contact(home, name).expect(name)["status"],
            "verified by code"
        );
    }
}

#[test]
fn replayed_reflected_and_doubled_messages_of_a_pairing_change_nothing() {
    let scene = Scene::new();
    // Everything goes to its receiver twice and back to its sender, under other names.
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(|mail| {
            let back = Mail {
                to: mail.sender.name(),
                ..mail.clone()
            };
            vec![mail.clone(), back, mail]
        });
    });
    let sending = scene
        .alice
        .start(&["send", "bob", "once", "--code", "print"]);
    let code = code_of(&sending);
    // A wrong code first: the second offer comes on top of all that lies there.
    let codes = format!("{}\n{code}\n", other_code(&code));
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let accepted = ended_well(scene.bob.run_with_input(&accepting, &codes)).ok();
    let sent = ended_well(sending.end()).ok();
    assert!(sent.out.contains("sent to bob@"), "{sent}");
    let mut got = texts(&accepted);

    // All of it once more.
    for mail in scene.sent() {
        scene.relay.leave(mail);
    }
    for home in [&scene.bob, &scene.alice, &scene.bob] {
        let received = ended_well(home.run(&["recv", "--json"])).ok();
        got.extend(texts(&received));
        assert_eq!(events(&received, "paired").len(), 0, "{received}");
    }
    assert_eq!(got, ["once"]);
    scene.alice.run(&["send", "bob", "it still works"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["it still works"]);
    let used = scene.sent();
    let answers = used.iter().filter(|mail| answer_in(mail).is_some());
    assert_eq!(
        answers.count(),
        2,
        "one answer for each code that was typed"
    );
    assert!(
        used.iter()
            .all(|mail| codec::decode::<Envelope<'_>>(&mail.body).is_ok())
    );
}

#[test]
fn a_code_dies_with_the_senders_program_and_an_answer_that_comes_later_makes_no_session() {
    let scene = Scene::new();
    let sending = scene
        .alice
        .start(&["send", "bob", "kept", "--code", "print"]);
    let code = code_of(&sending);
    sending.kill();
    let code_file = scene.world.path("code");
    std::fs::write(&code_file, &code).expect("code written");
    let code_file = code_file.to_string_lossy();
    let answering = scene
        .bob
        .start(&["accept", "alice", "--code-file", &code_file]);
    let answered = |mails: &[Mail]| mails.iter().any(|mail| answer_in(mail).is_some());
    scene
        .relay
        .wait("bob's answer", |state| answered(&state.sent).then_some(()));
    answering.kill();
    // The right answer to a code that nobody holds any more.
    let received = ended_well(scene.alice.run(&["recv"])).ok();
    assert!(!received.out.contains("paired"), "{received}");
    let known = contact(&scene.alice, "bob").expect("bob");
    assert_eq!(
        (&known["status"], &known["outbox"]),
        (&"not reached".into(), &1.into())
    );
    assert_eq!(scene.frames(), 0);

    let sending = scene
        .alice
        .start(&["send", "bob", "and more", "--code", "print"]);
    let code = code_of(&sending);
    let accepting = ["accept", "alice", "--code-file", "-", "--json"];
    let mut got = texts(&ended_well(scene.bob.run_with_input(&accepting, &code)).ok());
    sending.end().ok();
    got.extend(texts(&ended_well(scene.bob.run(&["recv", "--json"])).ok()));
    assert_eq!(got, ["kept", "and more"]);
}
