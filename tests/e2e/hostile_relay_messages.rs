//! Messages with the real program over a hostile relay: repeated, reordered, misdelivered, lied about, and rubbish.

use std::sync::{Arc, Mutex};

use hostchat_core::wire::relay::{
    Answer, Event, Kind, MAX_SOFTWARE, RELAY_VERSION, Reason, Refusal, WINDOW,
};
use hostchat_core::wire::{Bytes, PrekeyRef};
use hostchat_tests::hostile::alter::{self, Foreign};
use hostchat_tests::hostile::{Call, Frame, Mail, Mallory, event};

use crate::hostile_support::{Scene, contact, ended_well, outbox};
use crate::support::{events, texts};

#[test]
fn messages_doubled_reordered_misdelivered_and_under_false_names_are_shown_once_and_under_the_right_name()
 {
    let scene = Scene::paired();
    let carol = scene.join("carol");
    let carol_at = scene.relay.address_of("carol");
    let foreign = Foreign::of(
        &mut Mallory::new(1),
        &carol_at,
        &scene.relay.address_of("bob"),
    );
    // Held back until there are six; then all, backwards, each thrice, altered before, under another sender's name and
    // other ids, and to everybody.
    let mut held: Vec<Mail> = Vec::new();
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(move |mail| {
            if mail.to.as_str() != "bob" {
                return vec![mail];
            }
            held.push(mail);
            if held.len() < 6 {
                return Vec::new();
            }
            let mut all = Vec::new();
            for (n, mail) in (0u8..).zip(held.drain(..).rev()) {
                for altered in alter::fields(&mail.body, &foreign) {
                    all.push(Mail {
                        body: altered.bytes,
                        fingerprint: None,
                        ..mail.clone()
                    });
                }
                for copy in 0..3 {
                    all.push(Mail {
                        sender: carol_at.clone(),
                        message_id: Bytes([n * 3 + copy; 16]),
                        ..mail.clone()
                    });
                }
                for to in ["alice", "carol"] {
                    let to = hostchat_core::wire::Name::parse(to).expect("a name");
                    all.push(Mail { to, ..mail.clone() });
                }
            }
            all
        });
    });
    let sent: Vec<_> = (0..6).map(|n| format!("message {n}")).collect();
    for text in &sent {
        scene.alice.run(&["send", "bob", text]).ok();
    }
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    let again = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    let mut got = texts(&received);
    got.extend(texts(&again));
    got.sort();
    assert_eq!(got, sent);
    for message in events(&received, "message") {
        assert_eq!(message["peer"], scene.relay.address_of("alice").as_str());
        assert_eq!(message["verified"], true);
    }
    scene.relay.wait_emptied("bob");
    for home in [&scene.alice, &carol] {
        let received = ended_well(home.run(&["recv", "--json"])).ok();
        assert_eq!(texts(&received), [""; 0]);
    }
    assert!(contact(&carol, "alice").is_none());

    // Everything of the past once more, to a receiver that listens.
    let following = scene.bob.start(&["recv", "--follow", "--json"]);
    scene.relay.wait_receiving("bob");
    for mail in scene.sent() {
        scene.relay.leave(mail);
    }
    scene.relay.behave();
    scene.alice.run(&["send", "bob", "the last"]).ok();
    following.wait_out("the last message", |line| {
        line.contains("the last").then_some(())
    });
    let ended = following.stop();
    assert_eq!(texts(&ended), ["the last"], "{ended}");
}

#[test]
fn a_relay_that_says_stored_and_drops_is_found_out_by_the_gap() {
    let scene = Scene::paired();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    scene.relay.attack(|adversary| {
        adversary.mail = Box::new(move |mail| {
            keep.lock().expect("kept").push(mail);
            Vec::new()
        });
    });
    for n in 0..3 {
        let ended = scene
            .alice
            .run(&["send", "bob", &format!("dropped {n}")])
            .ok();
        assert!(ended.out.contains("sent to bob@"));
    }
    scene.relay.behave();
    scene.alice.run(&["send", "bob", "after the gap"]).ok();
    let received = scene.bob.run(&["recv", "--json"]).ok();
    let shown = events(&received, "message");
    assert_eq!(texts(&received), ["after the gap"]);
    assert_eq!(shown.len(), 1);
    let missing = events(&received, "note");
    assert_eq!(missing[0]["kind"], "missing", "{received}");
    assert_eq!(missing[0]["count"], 3);
    // What was kept is delivered after all: it opens with the keys that were kept for it.
    let kept: Vec<_> = kept.lock().expect("kept").drain(..).rev().collect();
    for mail in kept {
        scene.relay.leave(mail);
    }
    let received = scene.bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["dropped 2", "dropped 1", "dropped 0"]);
}

/// What a relay may answer to `Send` instead of `Stored`, and what is told then.
fn wrong_answers() -> Vec<(&'static str, Vec<Frame>)> {
    let binary = |answer| vec![Frame::Binary(event(&answer))];
    let reply = |id, answer| Event::Reply { id, answer };
    let refused = |reason| {
        Answer::Refused(Refusal {
            reason,
            retry_after_ms: u32::MAX,
        })
    };
    let claim = Mallory::new(2).claim();
    // The requests of a sender: the look-up of the receiver's identity is 1, the send 2.
    vec![
        ("done, not stored", binary(reply(2, Answer::Done))),
        ("an identity", binary(reply(2, Answer::Binding(claim)))),
        ("full", binary(reply(2, refused(Reason::MailboxFull)))),
        (
            "come back in 49 days",
            binary(reply(2, refused(Reason::RateLimited))),
        ),
        ("an answer to no question, then the end", {
            let mut frames = binary(reply(999, Answer::Stored));
            frames.push(Frame::Cut);
            frames
        }),
        (
            "closing",
            binary(Event::Closing(Refusal {
                reason: Reason::ShuttingDown,
                retry_after_ms: u32::MAX,
            })),
        ),
        ("text", vec![Frame::Text("stored".to_owned())]),
        ("rubbish", vec![Frame::Binary(vec![0xff; 40])]),
        ("nothing", vec![Frame::Binary(Vec::new())]),
        ("too much", vec![Frame::Binary(vec![1; 100_000])]),
        ("stored, and a byte more", {
            let mut bytes = event(&reply(2, Answer::Stored));
            bytes.push(0);
            vec![Frame::Binary(bytes)]
        }),
        ("the end", vec![Frame::Cut]),
    ]
}

#[test]
fn a_message_whose_store_is_not_confirmed_stays_in_the_outbox_and_arrives_once() {
    let scene = Scene::paired();
    let mut count = 0;
    for (what, frames) in wrong_answers() {
        // The relay keeps the message and delivers it, whatever it says.
        scene.relay.attack(|adversary| {
            adversary.reply = Box::new(move |answer| {
                if answer.call == Call::Send {
                    frames.clone()
                } else {
                    vec![Frame::Binary(answer.encoded)]
                }
            });
        });
        let ended = ended_well(scene.alice.run(&["send", "bob", what, "--json"]));
        assert_eq!(ended.code(), 8, "{what}: {ended}");
        assert_eq!(events(&ended, "sent").len(), 0, "{what}: {ended}");
        count += 1;
        assert_eq!(outbox(&scene.alice, "bob"), count, "{what}");
    }
    scene.relay.behave();
    let ended = scene
        .alice
        .run(&["send", "bob", "the end of it", "--json"])
        .ok();
    assert_eq!(events(&ended, "sent").len(), wrong_answers().len() + 1);
    assert_eq!(outbox(&scene.alice, "bob"), 0);
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    let mut expected: Vec<_> = wrong_answers().into_iter().map(|(what, _)| what).collect();
    expected.push("the end of it");
    assert_eq!(texts(&received), expected, "each once, in order");
    scene.relay.wait_emptied("bob");
}

#[test]
fn rubbish_in_place_of_events_ends_the_program_with_a_reason_and_loses_nothing() {
    let scene = Scene::paired();
    scene.alice.run(&["send", "bob", "still there"]).ok();
    let mut mallory = Mallory::new(3);
    let mail = mallory.mail(
        &scene.relay.address_of("alice"),
        &scene.relay.address_of("bob"),
        Kind::Message,
        vec![7; 100],
    );
    let many = |event: Vec<u8>, n: usize| vec![Frame::Binary(event); n];
    let challenge = event(&Event::Challenge {
        version: RELAY_VERSION,
        challenge: Bytes([1; 32]),
        software: "again",
    });
    let attacks: Vec<(&str, Vec<Frame>)> = vec![
        ("text", vec![Frame::Text("hello".into())]),
        ("empty", vec![Frame::Binary(Vec::new())]),
        ("unknown event", vec![Frame::Binary(vec![200, 1, 2, 3])]),
        ("overlong number", vec![Frame::Binary(vec![0x83, 0x00])]),
        (
            "half an event",
            vec![Frame::Binary(mail.delivery(1)[..20].to_vec())],
        ),
        ("too long", vec![Frame::Binary(vec![2; 20_000])]),
        ("far too long", vec![Frame::Binary(vec![2; 5_000_000])]),
        ("a second challenge", vec![Frame::Binary(challenge)]),
        ("more than the window", many(mail.delivery(1), 500)),
        ("drained without end", many(event(&Event::Drained), 500)),
    ];
    for (what, frames) in attacks {
        scene.relay.attack(|adversary| {
            adversary.reply = Box::new(move |answer| {
                if answer.call == Call::Receive {
                    frames.clone()
                } else {
                    vec![Frame::Binary(answer.encoded)]
                }
            });
        });
        let ended = ended_well(scene.bob.run(&["recv", "--json"]));
        assert_eq!(ended.code(), 6, "{what}: {ended}");
        assert!(ended.err.contains("the relay"), "{what}: {ended}");
        assert_eq!(texts(&ended), [""; 0], "{what}");
    }
    scene.relay.behave();
    let received = scene.bob.run(&["recv", "--json"]).ok();
    assert_eq!(texts(&received), ["still there"]);
}

#[test]
fn a_relay_with_more_deliveries_under_way_than_allowed_is_told_once_and_not_asked_again_and_again()
{
    let scene = Scene::paired();
    scene.alice.run(&["send", "bob", "still there"]).ok();
    let mut mallory = Mallory::new(7);
    let (alice, bob) = (
        scene.relay.address_of("alice"),
        scene.relay.address_of("bob"),
    );
    let mut frames: Vec<Frame> = (1001..=1000 + 4 * WINDOW as u64)
        .map(|number| {
            let mail = mallory.mail(&alice, &bob, Kind::Message, vec![7; 100]);
            Frame::Binary(mail.delivery(number))
        })
        .collect();
    frames.push(Frame::Binary(event(&Event::Drained)));
    scene.relay.attack(|adversary| {
        adversary.reply = Box::new(move |answer| {
            let mut all = vec![Frame::Binary(answer.encoded)];
            if answer.call == Call::Receive {
                all.extend(frames.clone());
            }
            all
        });
    });
    let logins = || scene.relay.with(|state| state.logins.len());
    let before = logins();
    let ended = ended_well(scene.bob.run(&["recv", "--json"]))
        .refused(6, "broke the protocol: more deliveries than allowed");
    assert_eq!(texts(&ended), [""; 0]);
    assert_eq!(logins() - before, 1, "{ended}");
    // Who follows is told once, and the relay is asked less and less often.
    let following = scene.bob.start(&["recv", "--follow"]);
    following.wait_err("the note", |line| {
        line.contains("more deliveries than allowed; trying again")
            .then_some(())
    });
    scene.relay.wait("a second try", |state| {
        (state.logins.len() >= before + 3).then_some(())
    });
    scene.relay.behave();
    following.wait_out("the message", |line| {
        line.contains("still there").then_some(())
    });
    following.signal(rustix::process::Signal::INT);
    let ended = following.end().refused(130, "interrupted");
    assert_eq!(
        ended.err.matches("more deliveries than allowed").count(),
        1,
        "{ended}"
    );
}

#[test]
fn rubbish_in_the_mailbox_is_passed_over_and_acknowledged() {
    let scene = Scene::paired();
    let mut mallory = Mallory::new(4);
    let (from, to) = (
        scene.relay.address_of("alice"),
        scene.relay.address_of("bob"),
    );
    let bodies = (0..150usize).map(|n| match n % 5 {
        0 => Vec::new(),
        1 => vec![0xff; n],
        2 => mallory.bytes::<64>().0.to_vec(),
        3 => vec![u8::try_from(n % 6).unwrap_or(0); 6_000],
        _ => vec![3, 1, 1],
    });
    let bodies: Vec<_> = bodies.collect();
    for body in bodies {
        let mail = mallory.mail(&from, &to, Kind::Message, body);
        scene.relay.leave(mail);
    }
    scene.alice.run(&["send", "bob", "behind the rubbish"]).ok();
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["behind the rubbish"]);
    scene.relay.wait_emptied("bob");
}

#[test]
fn what_a_relay_calls_things_cannot_drive_the_terminal() {
    let scene = Scene::paired();
    scene.relay.attack(|adversary| {
        adversary.challenge = Box::new(|_| {
            vec![Frame::Binary(event(&Event::Challenge {
                version: RELAY_VERSION,
                challenge: Bytes([0x5c; 32]),
                software: "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}",
            }))]
        });
        adversary.reply = Box::new(|answer| {
            let mut names = heapless::Vec::new();
            let _ = names.push("\u{1b}[2Jbob");
            let online = Event::Reply {
                id: answer.id,
                answer: Answer::Online { names, more: true },
            };
            vec![Frame::Binary(match answer.call {
                Call::Who => event(&online),
                _ => answer.encoded,
            })]
        });
    });
    for arguments in [&["who"][..], &["who", "--json"]] {
        ended_well(scene.bob.run(arguments)).refused(6, "broke the protocol");
    }
    // A list without end, and one that goes backwards.
    for backwards in [false, true] {
        scene.relay.attack(|adversary| {
            adversary.reply = Box::new(move |answer| {
                let mut names = heapless::Vec::new();
                if backwards {
                    let _ = names.push("b");
                    let _ = names.push("a");
                }
                let online = Event::Reply {
                    id: answer.id,
                    answer: Answer::Online { names, more: true },
                };
                vec![Frame::Binary(match answer.call {
                    Call::Who => event(&online),
                    _ => answer.encoded,
                })]
            });
        });
        ended_well(scene.bob.run(&["who"])).refused(6, "not in order");
    }
    // Another protocol version.
    scene.relay.attack(|adversary| {
        adversary.challenge = Box::new(|_| {
            vec![Frame::Binary(event(&Event::Challenge {
                version: RELAY_VERSION + 1,
                challenge: Bytes([0; 32]),
                software: "2.0.0",
            }))]
        });
    });
    ended_well(scene.bob.run(&["recv"])).refused(6, "update hostchat");
}

#[test]
fn a_challenge_with_a_longer_software_than_allowed_ends_the_program_with_a_reason() {
    let scene = Scene::paired();
    scene.alice.run(&["send", "bob", "still there"]).ok();
    // An override that turns a terminal's text around: three bytes.
    let name = |times: usize| {
        scene.relay.attack(|adversary| {
            adversary.challenge = Box::new(move |_| {
                vec![Frame::Binary(event(&Event::Challenge {
                    version: RELAY_VERSION,
                    challenge: Bytes([0x5c; 32]),
                    software: &"\u{202e}".repeat(times),
                }))]
            });
        });
    };
    for times in [MAX_SOFTWARE / 3 + 1, 1_000] {
        name(times);
        let ended = ended_well(scene.bob.run(&["recv"]));
        let why = "its first message cannot be decoded or is longer than allowed";
        let ended = ended.refused(6, why);
        assert!(!ended.err.contains('\u{202e}'), "{ended}");
    }
    // One that is as long as allowed is not shown either, and nothing was lost.
    name(MAX_SOFTWARE / 3);
    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    assert_eq!(texts(&received), ["still there"]);
}

#[test]
fn who_is_blocked_does_not_ask_again_for_every_message_that_comes() {
    let scene = Scene::paired();
    scene.relay.attack(|adversary| {
        adversary.reply = Box::new(|answer| {
            let blocked = Event::Reply {
                id: answer.id,
                answer: Answer::Refused(Refusal {
                    reason: Reason::Blocked,
                    retry_after_ms: 0,
                }),
            };
            let of_alice = |who: &hostchat_core::wire::Address| who.name().as_str() == "alice";
            let refuse = answer.call == Call::Send && answer.account.as_ref().is_some_and(of_alice);
            vec![Frame::Binary(if refuse {
                event(&blocked)
            } else {
                answer.encoded
            })]
        });
    });
    scene
        .alice
        .run(&["send", "bob", "unwanted"])
        .refused(7, "the receiver takes nothing from you");
    let asked = || scene.relay.with(|state| state.called("alice", Call::Send));
    let before = asked();
    let following = scene.alice.start(&["recv", "--follow", "--json"]);
    for text in ["one", "two", "three"] {
        scene.bob.run(&["send", "alice", text]).ok();
        following.wait_out(text, |line| line.contains(text).then_some(()));
    }
    following.stop();
    assert_eq!(asked(), before + 1);
    assert_eq!(outbox(&scene.alice, "bob"), 1, "receipts are no texts");
    scene.relay.behave();
    scene.alice.run(&["recv"]).ok();
    assert_eq!(outbox(&scene.alice, "bob"), 0);
}

#[test]
fn a_relay_that_lies_about_the_stock_of_prekeys_costs_bounded_work() {
    let scene = Scene::paired();
    scene.relay.attack(|adversary| {
        adversary.reply = Box::new(|answer| {
            let stock = Event::Reply {
                id: answer.id,
                answer: Answer::Prekeys {
                    one_time: heapless::Vec::new(),
                    last_resort: Some(PrekeyRef {
                        id: u32::MAX,
                        issued: u64::MAX,
                    }),
                },
            };
            vec![Frame::Binary(match answer.call {
                Call::Prekeys => event(&stock),
                _ => answer.encoded,
            })]
        });
    });
    for _ in 0..12 {
        ended_well(scene.bob.run(&["recv"])).ok();
    }
    let put = scene
        .relay
        .with(|state| state.called("bob", Call::PutPrekey));
    // Nine at first, and nine for each lie at most.
    assert!(
        (9 + 12..=9 + 12 * 9).contains(&put),
        "{put} prekeys were made"
    );
    scene.relay.behave();
    // What the relay kept from before is stale: the token has other keys by now.
    ended_well(scene.bob.run(&["recv"])).ok();
    // First messages still arrive under the keys that are there.
    let carol = scene.join("carol");
    carol.run(&["send", "bob", "hello, I am carol"]).ok();
    let accepting = ["accept", "carol", "--wait", "10", "--json"];
    let accepted = ended_well(scene.bob.run(&accepting)).ok();
    assert_eq!(texts(&accepted), ["hello, I am carol"]);
}
