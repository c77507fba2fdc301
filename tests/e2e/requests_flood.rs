//! Requests by which others would block a pairing, fill a table, or choose what a computer dials: what both users see.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hostchat_core::wire::relay::{Account, Call, Kind};
use hostchat_core::wire::{Address, Envelope, IdentityClaim};
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{Call as Asked, Caller, Mallory};
use hostchat_tests::{Home, Relay, World};

use crate::hostile_support::{Scene, ended_well};
use crate::support::{code_of, events, texts};

pub(crate) fn address(name: &str, relay: &Relay) -> Address {
    Address::parse(&format!("{name}@{}", relay.host_port())).expect("an address")
}

/// A relay that limits nobody's rate or share of a mailbox, so that a flood reaches its receiver.
fn unlimited(world: &World, name: &str) -> Relay {
    with_limits(world, name, "sender_percent = 100\nguests_percent = 100\n")
}

/// A relay that limits nobody's rate, and the shares of a mailbox as `shares` says.
pub(crate) fn with_limits(world: &World, name: &str, shares: &str) -> Relay {
    let mut relay = world.relay_with(name, &[]);
    relay.stop().ok();
    let rates = [
        "calls",
        "sends",
        "pairings",
        "guest_pairings",
        "firsts",
        "prekeys_taken",
        "prekeys_given",
    ];
    let lines: String = rates
        .iter()
        .map(|rate| format!("{rate} = {{ burst = 1, per_minute = 0 }}\n"))
        .collect();
    let lines = lines + shares;
    std::fs::OpenOptions::new()
        .append(true)
        .open(relay.folder().join("relay.toml"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, lines.as_bytes()))
        .expect("limits written");
    relay.start();
    relay
}

/// Somebody who is logged in at bob's relay and leaves offers there, in whatever name: as many as are allowed so far.
pub(crate) struct Flood {
    allowed: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Seed of whoever leaves a flood.
pub(crate) const FLOODER: u64 = 77;
/// As many as the flood can send.
const NO_END: usize = usize::MAX - 1;
/// The flood is over.
const OVER: usize = usize::MAX;

impl Flood {
    fn start(relay: &Relay, login: Account, claimed: &Address, bob: &Address) -> Self {
        Self::start_with(relay, login, claimed, bob, None)
    }

    /// With the identity that the offers carry, if it is not that of who has logged in.
    pub(crate) fn start_with(
        relay: &Relay,
        login: Account,
        claimed: &Address,
        bob: &Address,
        copied: Option<IdentityClaim>,
    ) -> Self {
        let (allowed, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (limit, count) = (Arc::clone(&allowed), Arc::clone(&sent));
        let (at, claimed, bob) = (relay.host_port().to_owned(), claimed.clone(), bob.clone());
        let thread = std::thread::spawn(move || {
            let mut mallory = Mallory::new(FLOODER);
            let mut line = Caller::connect(&at);
            let signed = mallory.login(login, &line.relay, &line.challenge.0, &line.exporter);
            line.log_in(signed).expect("logged in");
            loop {
                let limit = limit.load(Ordering::SeqCst);
                if limit == OVER {
                    return;
                }
                if count.load(Ordering::SeqCst) < limit {
                    let (_, mut offer) = mallory.offer(&claimed, &bob, "111111");
                    offer.public.identity = copied.unwrap_or(offer.public.identity);
                    let body = encode(&Envelope::PairOffer(offer));
                    line.call(&Call::Send {
                        to: bob.name(),
                        message_id: mallory.bytes(),
                        kind: Kind::Pairing,
                        body: &body,
                    });
                    count.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let flood = Self {
            allowed,
            sent,
            thread: Some(thread),
        };
        flood.leave(25);
        flood
    }

    /// Leaves some more offers: a mailbox takes 64, so only as many as leave room for others where there are no shares.
    pub(crate) fn leave(&self, more: usize) {
        let all = self.sent.load(Ordering::SeqCst) + more;
        self.allowed.store(all, Ordering::SeqCst);
        while self.sent.load(Ordering::SeqCst) < all {
            assert!(self.thread.as_ref().is_some_and(|t| !t.is_finished()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn end(mut self) -> usize {
        self.allowed.store(OVER, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the flood ends");
        }
        self.sent.load(Ordering::SeqCst)
    }
}

/// Carol shows a code and bob types it, while offers come in under carol's address; nobody spends a try.
fn pairs_meanwhile(carol: &Home, bob: &Home, to: &str, from: &str, flood: Flood) {
    // Older than carol's, newer than carol's, and more while bob types.
    flood.leave(20);
    let sending = carol.start(&["send", to, "through the flood", "--code", "print"]);
    let code = code_of(&sending);
    flood.leave(20);
    flood.allowed.store(NO_END, Ordering::SeqCst);
    let accepting = ["accept", from, "--wait", "60", "--code-file", "-", "--json"];
    let accepted = ended_well(bob.run_with_input(&accepting, &code)).ok();
    assert_eq!(texts(&accepted), ["through the flood"], "{accepted}");
    assert_eq!(events(&accepted, "wrong_code").len(), 0, "{accepted}");
    let sent = ended_well(sending.end()).ok();
    assert!(!sent.err.contains("wrong code"), "{sent}");
    let offers = flood.end();
    println!("{offers} offers under carol's address");
    assert!(offers >= 65, "{offers}");
    // Told once for all of them, and not one by one.
    let told: Vec<_> = events(&accepted, "note")
        .into_iter()
        .filter(|note| note["kind"] == "forged")
        .collect();
    assert!((1..=2).contains(&told.len()), "{accepted}");
    let text = told[0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("in the name of carol@"), "{text}");
    assert!(told[0]["count"].as_u64().is_some_and(|count| count >= 1));
}

#[test]
fn a_guest_under_the_address_of_another_relay_cannot_block_a_pairing_by_code() {
    let world = World::new();
    let (here, there) = (unlimited(&world, "here"), world.relay_with("there", &[]));
    let (bob, carol) = (world.home("bob", &here), world.home("carol", &there));
    let carol_at = address("carol", &there);
    let guest = Account::Guest(carol_at.clone());
    let flood = Flood::start(&here, guest, &carol_at, &address("bob", &here));

    // Listed, and said not to be checked: nobody has dialled carol's relay for that.
    let listed = ended_well(bob.run(&["accept", "--json"])).ok();
    let requests = events(&listed, "request");
    assert_eq!(
        requests.len(),
        1,
        "one for each address and identity: {listed}"
    );
    assert_eq!(requests[0]["checked"], false);
    let (to, from) = (
        format!("bob@{}", here.address),
        format!("carol@{}", there.address),
    );
    pairs_meanwhile(&carol, &bob, &to, &from, flood);
    // What mallory left is gone: there is nothing to accept.
    let left = ended_well(bob.run(&["accept", "--json"])).ok();
    assert_eq!(events(&left, "request").len(), 0, "{left}");
    carol.run(&["send", &to, "and on"]).ok();
    assert_eq!(texts(&bob.run(&["recv", "--json"]).ok()), ["and on"]);
}

#[test]
fn an_account_of_the_same_relay_cannot_block_a_pairing_by_code() {
    let world = World::new();
    let here = unlimited(&world, "here");
    let (bob, carol) = (world.home("bob", &here), world.home("carol", &here));
    let login = Account::Register {
        name: address("mallory", &here).name(),
        invitation: heapless::Vec::new(),
    };
    let flood = Flood::start(
        &here,
        login,
        &address("carol", &here),
        &address("bob", &here),
    );
    // Refused at once, by what bob's own relay says: it is not even listed.
    let listed = ended_well(bob.run(&["accept", "--json"])).ok();
    assert_eq!(events(&listed, "request").len(), 0, "{listed}");
    pairs_meanwhile(&carol, &bob, "bob", "carol", flood);
}

#[test]
fn an_offer_under_an_identity_that_the_relay_does_not_know_is_never_listed() {
    let scene = Scene::new();
    let carol = scene.join("carol");
    let (carol_at, bob_at) = (
        scene.relay.address_of("carol"),
        scene.relay.address_of("bob"),
    );
    let mut mallory = Mallory::new(5);
    // The relay lies about who has sent it, but not about who carol is; and nobody is nobody.
    let nobody_at = scene.relay.address_of("nobody");
    for from in [&carol_at, &nobody_at] {
        for _ in 0..10 {
            let (_, offer) = mallory.offer(from, &bob_at, "111111");
            let body = encode(&Envelope::PairOffer(offer));
            let mail = mallory.mail(from, &bob_at, Kind::Pairing, body);
            scene.relay.leave(mail);
        }
    }
    let received = ended_well(scene.bob.run(&["recv"])).ok();
    assert!(!received.err.contains("asks to pair"), "{received}");
    assert!(
        received.err.contains(&format!(
            "note: dropped 20 requests in the name of {carol_at} and {nobody_at}: they do not come from there"
        )),
        "{received}"
    );
    scene.relay.wait_emptied("bob");
    drop(carol);
}

#[test]
fn a_stranger_cannot_make_a_computer_dial_an_address() {
    let scene = Scene::new();
    let bait = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = bait.local_addr().expect("an address").port();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    std::thread::spawn(move || {
        for caller in bait.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(caller);
        }
    });
    let from = Address::parse(&format!("carol@127.0.0.1:{port}")).expect("an address");
    let bob_at = scene.relay.address_of("bob");
    let mut mallory = Mallory::new(6);
    let (_, offer) = mallory.offer(&from, &bob_at, "111111");
    let body = encode(&Envelope::PairOffer(offer));
    let offer = mallory.mail(&from, &bob_at, Kind::Pairing, body);
    let bundle = scene.relay.with(|state| state.take_bundle(&bob_at.name()));
    mallory.begin(
        &from,
        &bob_at,
        &bundle.expect("prekeys"),
        crate::hostile_support::now(),
    );
    let body = mallory.write("dial me");
    let first = mallory.mail(&from, &bob_at, Kind::First, body);
    scene.relay.leave(offer);
    scene.relay.leave(first);

    let received = ended_well(scene.bob.run(&["recv"])).ok();
    for what in ["asks to pair with a code", "writes for the first time"] {
        let line = received.err.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("{what}: {received}"));
        assert!(line.contains("not checked with its relay yet"), "{line}");
    }
    let listed = ended_well(scene.bob.run(&["accept"])).ok();
    assert_eq!(listed.out.matches("not checked").count(), 2, "{listed}");
    let contacts = ended_well(scene.bob.run(&["contacts"])).ok();
    assert_eq!(contacts.out.matches("not checked").count(), 2, "{contacts}");
    assert_eq!(calls.load(Ordering::SeqCst), 0, "nobody was dialled");

    // The user names it: only now.
    ended_well(scene.bob.run(&["accept", from.as_str()])).refused(6, "cannot reach the relay");
    assert!(calls.load(Ordering::SeqCst) > 0);
    let before = calls.load(Ordering::SeqCst);
    ended_well(scene.bob.run(&["accept", from.as_str(), "--decline"])).ok();
    assert_eq!(calls.load(Ordering::SeqCst), before);
    let listed = ended_well(scene.bob.run(&["accept", "--json"])).ok();
    assert_eq!(events(&listed, "request").len(), 0);
}

#[test]
fn when_the_table_is_full_a_stranger_is_still_heard_and_the_user_is_told_how_many_had_to_go() {
    let scene = Scene::new();
    let (dave, mallory_at) = (scene.join("dave"), scene.relay.address_of("mallory"));
    let bob_at = scene.relay.address_of("bob");
    let mut mallory = Mallory::new(7);
    let bundle = scene.relay.with(|state| {
        state.register(&mallory_at.name(), mallory.claim());
        state.take_bundle(&bob_at.name())
    });
    mallory.begin(
        &mallory_at,
        &bob_at,
        &bundle.expect("prekeys"),
        crate::hostile_support::now(),
    );
    dave.run(&["send", "bob", "early and patient"]).ok();
    for n in 0..1_100 {
        let body = mallory.write(&format!("spam {n}"));
        let mail = mallory.mail(&mallory_at, &bob_at, Kind::First, body);
        scene.relay.leave(mail);
    }
    let carol = scene.join("carol");
    carol.run(&["send", "bob", "late and honest"]).ok();

    let received = ended_well(scene.bob.run(&["recv", "--json"])).ok();
    scene.relay.wait_emptied("bob");
    let removed: Vec<_> = events(&received, "note")
        .into_iter()
        .filter(|note| note["kind"] == "removed")
        .collect();
    // 1,024 fit: one of dave, one of carol, 1,022 of mallory.
    assert_eq!(removed.len(), 1, "{received}");
    assert_eq!(removed[0]["count"], 78, "{received}");
    let text = removed[0]["text"].as_str().unwrap_or_default();
    assert!(
        text.starts_with("removed 78 old requests because"),
        "{text}"
    );

    for (home, name, text) in [
        (&dave, "dave", "early and patient"),
        (&carol, "carol", "late and honest"),
    ] {
        let accepted = ended_well(scene.bob.run(&["accept", name, "--json"])).ok();
        assert_eq!(texts(&accepted), [text]);
        scene.bob.run(&["send", name, "heard"]).ok();
        assert_eq!(texts(&home.run(&["recv", "--json"]).ok()), ["heard"]);
    }
    // One look-up for each stranger, not one for each message.
    let looked = scene.relay.with(|state| state.called("bob", Asked::LookUp));
    assert!(looked < 20, "{looked}");
}

#[test]
fn three_hundred_deliveries_that_cannot_be_decoded_are_one_note() {
    let scene = Scene::paired();
    let mut mallory = Mallory::new(8);
    let (from, bob_at) = (
        scene.relay.address_of("mallory"),
        scene.relay.address_of("bob"),
    );
    for _ in 0..300 {
        let mail = mallory.mail(&from, &bob_at, Kind::Message, vec![0xff; 40]);
        scene.relay.leave(mail);
    }
    scene.alice.run(&["send", "bob", "from a friend"]).ok();
    let received = ended_well(scene.bob.run(&["recv"])).ok();
    scene.relay.wait_emptied("bob");
    assert!(received.out.contains("from a friend"), "{received}");
    let notes: Vec<_> = received.err.lines().collect();
    assert_eq!(
        notes,
        [format!(
            "note: dropped 300 messages that your relay attributes to {from}: cannot be decoded"
        )]
    );
    // In JSON with the number, also while receiving goes on.
    for _ in 0..3 {
        let mail = mallory.mail(&from, &bob_at, Kind::Message, vec![0xff; 40]);
        scene.relay.leave(mail);
    }
    let following = scene.bob.start(&["recv", "--follow", "--json"]);
    following.wait_out("the note", |line| {
        line.contains("\"count\":3").then_some(())
    });
    for _ in 0..5 {
        let mail = mallory.mail(&from, &bob_at, Kind::Message, vec![0xff; 40]);
        scene.relay.leave(mail);
    }
    scene.relay.wait_emptied("bob");
    following.signal(rustix::process::Signal::INT);
    let ended = following.end();
    let counts: Vec<_> = events(&ended, "note")
        .iter()
        .filter_map(|note| note["count"].as_u64())
        .collect();
    assert_eq!(counts, [3, 5], "{ended}");
}
