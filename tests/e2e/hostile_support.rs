//! A hostile relay and two or three people who trust it with their mail.

use hostchat_core::wire::{Envelope, PairAnswer, PairOffer, codec};
use hostchat_tests::hostile::mallory::encode;
use hostchat_tests::hostile::{HostileRelay, Mail};
use hostchat_tests::{Ended, Home, World};
use serde_json::Value;

use crate::support::{events, pair};

/// What a hostile relay is asked to serve.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) relay: HostileRelay,
    pub(crate) alice: Home,
    pub(crate) bob: Home,
}

impl Scene {
    /// Alice and bob have accounts at the relay and do not know each other.
    pub(crate) fn new() -> Self {
        let (world, relay) = (World::new(), HostileRelay::start());
        let (alice, bob) = (join(&world, &relay, "alice"), join(&world, &relay, "bob"));
        Self {
            world,
            relay,
            alice,
            bob,
        }
    }

    /// Alice and bob have paired with a code while the relay behaved, and both have said something.
    pub(crate) fn paired() -> Self {
        let scene = Self::new();
        pair(&scene.world, &scene.alice, &scene.bob);
        scene.bob.run(&["send", "alice", "hello alice"]).ok();
        scene.alice.run(&["recv"]).ok();
        scene
    }

    /// Another account.
    pub(crate) fn join(&self, name: &str) -> Home {
        join(&self.world, &self.relay, name)
    }

    /// Everything that was left in mailboxes so far.
    pub(crate) fn sent(&self) -> Vec<Mail> {
        self.relay.with(|state| state.sent.clone())
    }

    /// How many of the mails so far carry a frame: a session was used.
    pub(crate) fn frames(&self) -> usize {
        let has_frame = |mail: &&Mail| {
            codec::decode::<Envelope<'_>>(&mail.body)
                .is_ok_and(|envelope| envelope.frame().is_some())
        };
        self.sent().iter().filter(has_frame).count()
    }
}

fn join(world: &World, relay: &HostileRelay, name: &str) -> Home {
    let home = world.bare_home(name, None);
    home.run(&["init", "--relay", &relay.address, "--name", name])
        .ok();
    home
}

/// What a home says about a contact.
pub(crate) fn contact(home: &Home, name: &str) -> Option<Value> {
    events(&home.run(&["contacts", "--json"]).ok(), "contact")
        .into_iter()
        .find(|contact| contact["name"] == name)
}

/// How many messages for a contact wait in the outbox.
pub(crate) fn outbox(home: &Home, name: &str) -> u64 {
    contact(home, name).map_or(0, |contact| contact["outbox"].as_u64().unwrap_or_default())
}

/// The offer in a mail.
pub(crate) fn offer_in(mail: &Mail) -> Option<PairOffer> {
    match codec::decode(&mail.body) {
        Ok(Envelope::PairOffer(offer)) => Some(offer),
        _ => None,
    }
}

/// The answer in a mail.
pub(crate) fn answer_in(mail: &Mail) -> Option<PairAnswer> {
    match codec::decode(&mail.body) {
        Ok(Envelope::PairAnswer(answer)) => Some(answer),
        _ => None,
    }
}

/// Whether a mail carries message 3 of a pairing.
pub(crate) fn is_confirmed(mail: &Mail) -> bool {
    matches!(codec::decode(&mail.body), Ok(Envelope::Confirmed { .. }))
}

/// The same mail with another envelope in it, of which the relay does not say who has logged in.
pub(crate) fn with(mail: &Mail, envelope: &Envelope<'_>) -> Mail {
    Mail {
        body: encode(envelope),
        fingerprint: None,
        ..mail.clone()
    }
}

/// A program that met an attack ended by itself, not by a panic or a signal, and drove no terminal.
#[track_caller]
pub(crate) fn ended_well(ended: Ended) -> Ended {
    let code = ended.code();
    assert!((0..=17).contains(&code), "{ended}");
    assert!(!ended.err.contains("panicked"), "{ended}");
    let raw = |c: char| c.is_control() && c != '\n';
    assert!(
        !ended.out.contains(raw) && !ended.err.contains(raw),
        "{ended:?}"
    );
    ended
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_secs()
}
