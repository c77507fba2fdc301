//! Forged frames, again and again for days: they move nobody (attack 28 of the security notes).
//!
//! The forger has no key: it reads what passes the relay and what lies there, and has the relay deliver what it makes.

use std::time::Duration;

use hostchat::model::{Note, Sent};
use hostchat_core::icd::SessionInfo;
use hostchat_core::wire::PrekeyRef;
use hostchat_tests::simulation::{Forgery, What, World, run};

use crate::friends;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Who gets the forged frames, and in whose name: the peer has written a first message once, which anybody can repeat.
const ME: &str = "b";
const PEER: &str = "a";
const FORGERIES: [Forgery; 5] = [
    Forgery::BadTag,
    Forgery::FarAhead,
    Forgery::UnknownSession,
    Forgery::First,
    Forgery::Invented,
];

/// What a forger would like to change: somebody's sessions with the other, and the prekeys of the token and at the relay.
#[derive(Debug, PartialEq, Eq)]
struct Keys {
    sessions: Vec<SessionInfo>,
    one_time: Vec<PrekeyRef>,
    at_relay: usize,
    begun: usize,
}

fn keys(world: &mut World, who: &str, other: &str) -> Keys {
    let peer = World::address(other);
    let (sessions, one_time) = world.look(who, async |client| {
        let sessions = client.token().sessions(peer).await?;
        Ok((sessions, client.token().prekeys().await?.one_time))
    });
    Keys {
        sessions: sessions.to_vec(),
        one_time,
        at_relay: world.relay().prekeys(who),
        begun: world.relay().taken(who, other),
    }
}

/// What somebody was told besides texts.
fn told<'w>(world: &'w World, who: &str) -> Vec<&'w What> {
    let of = world.seen().iter().filter(|seen| seen.who == who);
    of.map(|seen| &seen.what)
        .filter(|what| match what {
            // Whoever follows is told that nothing more waits, whatever anybody forges.
            What::Note(note) => !matches!(note, Note::Listening { .. }),
            What::Request { .. } => true,
            _ => false,
        })
        .collect()
}

/// Texts that were shown to somebody, in order.
fn shown(world: &World, who: &str) -> Vec<String> {
    let texts = world.texts(who).into_iter();
    texts.map(|(_, text)| text.to_owned()).collect()
}

/// What somebody has sent and what became of it, as `history` says.
fn sent(world: &mut World, who: &str, other: &str) -> Vec<(String, Option<Sent>)> {
    let peer = World::address(other);
    world.look(who, async |client| {
        let history = client.vault().history(Some(&peer), usize::MAX)?.into_iter();
        let own = history.filter(|message| message.sent.is_some());
        Ok(own.map(|m| (m.text.to_string(), m.sent)).collect())
    })
}

/// How many frames somebody still asks about, and how many were found to be forged.
fn asked(world: &mut World, who: &str) -> (usize, u32) {
    world.look(who, async |client| {
        let open = client.vault().unopened()?.len();
        let forged = client.vault().generations()?.map_or(0, |g| g.forged);
        Ok((open, forged))
    })
}

/// Both look into their mailboxes until questions, answers and receipts have come to rest.
fn settle(world: &mut World) {
    for _ in 0..6 {
        world.receive(ME).unwrap();
        world.receive(PEER).unwrap();
    }
}

#[test]
fn one_forged_frame_an_hour_for_ten_days_moves_nobody_while_the_peer_answers() {
    run(|| {
        let mut world = World::like(28, friends());
        settle(&mut world);
        let before = [keys(&mut world, ME, PEER), keys(&mut world, PEER, ME)];
        let (mut to_me, mut to_peer) = (Vec::new(), Vec::new());
        for hour in 0..240 {
            assert!(world.forge(ME, PEER, FORGERIES[hour % FORGERIES.len()]));
            // The relay is of the forger's party, or the frame is a stranger's: the name that it gives is a hint at most.
            let misnamed = hour % 3 == 1;
            let of_session = hour % FORGERIES.len() < 2;
            if misnamed && of_session {
                assert!(world.misname(ME, 0, "stranger"));
            }
            if hour % 7 == 0 {
                let texts = [format!("to me {hour}"), format!("to the peer {hour}")];
                world.send(PEER, ME, &texts[0]).unwrap();
                world.send(ME, PEER, &texts[1]).unwrap();
                let [of_me, of_peer] = texts;
                to_me.push(of_me);
                to_peer.push(of_peer);
            }
            if hour < 120 {
                // Both programs run all the time.
                let ended = world.some_together(&[ME.into(), PEER.into()], HOUR);
                assert!(ended.is_empty(), "{ended:?}");
            } else {
                // Both look in now and then.
                for who in [ME, PEER, ME] {
                    world.leave(who);
                    world.receive(who).unwrap();
                    world.wait(20 * MINUTE);
                }
            }
        }
        settle(&mut world);
        let after = [keys(&mut world, ME, PEER), keys(&mut world, PEER, ME)];
        assert_eq!(after, before, "no renewal, no eviction, no prekey spent");
        assert_eq!(
            (shown(&world, ME), shown(&world, PEER)),
            (to_me.clone(), to_peer.clone())
        );
        assert_eq!(told(&world, ME), [] as [&What; 0]);
        assert_eq!(told(&world, PEER), [] as [&What; 0]);
        for (who, other, texts) in [(ME, PEER, to_peer), (PEER, ME, to_me)] {
            let sent = sent(&mut world, who, other);
            let sent = &sent[sent.len() - texts.len()..];
            let wanted = texts.into_iter().map(|text| (text, Some(Sent::Confirmed)));
            assert_eq!(sent, wanted.collect::<Vec<_>>(), "{who}");
        }
        assert_eq!(asked(&mut world, ME), (0, 240), "all were asked about");
        assert_eq!(asked(&mut world, PEER), (0, 0));
    });
}

/// The peer is away for 14 days and the relay holds back what it sent before; one forged frame a day. Gives the renewals.
fn absence(forgeries: impl Fn(&mut World, usize) -> Forgery + Send + 'static) -> usize {
    run(move || {
        let mut world = World::like(29, friends());
        settle(&mut world);
        let old: Vec<String> = (0..5).map(|n| format!("before {n}")).collect();
        for text in &old {
            world.send(PEER, ME, text).unwrap();
        }
        world.leave(PEER);
        let held = world.relay().mailbox(ME);
        assert_eq!(held.len(), old.len());
        for _ in &held {
            assert!(world.drop_mail(ME, 0));
        }
        let before = world.relay().taken(ME, PEER);
        let mut to_peer = Vec::new();
        for day in 0..14 {
            let how = forgeries(&mut world, day);
            assert!(world.forge(ME, PEER, how), "{how:?}");
            let text = format!("day {day}");
            world.send(ME, PEER, &text).unwrap();
            to_peer.push(text);
            let ended = world.some_together(&[ME.into()], 24 * HOUR);
            assert!(ended.is_empty(), "{ended:?}");
        }
        let renewals = world.relay().taken(ME, PEER) - before;
        for mail in held {
            world.relay().leave(ME, mail);
        }
        settle(&mut world);
        assert_eq!(shown(&world, ME), old, "they open as if nothing was");
        assert_eq!(shown(&world, PEER), to_peer);
        world.send(ME, PEER, "at last").unwrap();
        world.send(PEER, ME, "back").unwrap();
        settle(&mut world);
        assert_eq!(world.texts(PEER).last(), Some(&(ME, "at last")));
        assert_eq!(world.texts(ME).last(), Some(&(PEER, "back")));
        let sent = [sent(&mut world, ME, PEER), sent(&mut world, PEER, ME)].concat();
        let lost: Vec<_> = sent
            .iter()
            .filter(|s| s.1 != Some(Sent::Confirmed))
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!(told(&world, ME), [] as [&What; 0]);
        assert_eq!(told(&world, PEER), [] as [&What; 0]);
        assert_eq!(asked(&mut world, ME), (0, 14));
        renewals
    })
}

#[test]
fn one_forged_frame_a_day_for_14_days_renews_nine_times_at_most_while_the_peer_is_away() {
    for how in FORGERIES {
        let renewals = absence(move |_, _| how);
        println!("{how:?}: {renewals} renewals");
        assert!((1..=9).contains(&renewals), "{how:?}: {renewals}");
    }
    // A first message that is refused may hurry a renewal.
    for first in 0..14 {
        let renewals = absence(move |_, day| match day < first {
            true => Forgery::BadTag,
            false => Forgery::First,
        });
        println!("first messages from day {first} on: {renewals} renewals");
        assert!(
            (1..=9).contains(&renewals),
            "from day {first} on: {renewals}"
        );
    }
    // And one who sees which prekeys the last renewal took.
    let renewals = absence(|world, _| {
        let peer = World::address(PEER);
        let alone = world.look(ME, async |client| {
            Ok(client.vault().conversation(&peer)?.renewed_alone)
        });
        if alone {
            Forgery::BadTag
        } else {
            Forgery::First
        }
    });
    assert!((1..=9).contains(&renewals), "in turns: {renewals}");
}
