//! A whole conversation, and then a thief with the flash and the PIN: what is over is nowhere.

use std::collections::{BTreeMap, BTreeSet};

use hostchat_token::testing::thief::{Effort, Loot};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::mirror::{Past, Side, State, pair, renew};
use super::support::PIN;

/// A text that was kept back on its way.
struct Held {
    from: usize,
    envelope: Vec<u8>,
    key: [u8; 32],
}

/// Two people, everything secret that occurred between them, and what has not arrived.
struct Talk {
    sides: [Side; 2],
    past: Past,
    held: Vec<Held>,
    rng: ChaCha20Rng,
    sent: usize,
    late: usize,
}

impl Talk {
    fn new(seed: u64) -> Self {
        let sides = [Side::new("alice", 1), Side::new("bob", 2)];
        let mut talk = Self {
            sides,
            past: Past::default(),
            held: Vec::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            sent: 0,
            late: 0,
        };
        let [a, b] = &mut talk.sides;
        pair(a, b, &mut talk.past);
        talk
    }

    /// Draws a number below `n`.
    fn below(&mut self, n: u32) -> usize {
        (self.rng.next_u32() % n) as usize
    }

    fn send(&mut self, from: usize) {
        let peer = self.sides[1 - from].person.address.clone();
        let content = vec![0x5A; self.below(90)];
        let (envelope, key) = self.sides[from].seal(&peer, &content, &mut self.past);
        self.sent += 1;
        if self.below(6) == 0 {
            let held = Held {
                from,
                envelope,
                key,
            };
            self.held.push(held);
        } else {
            assert!(self.sides[1 - from].read(&envelope, &mut self.past));
        }
    }

    /// One that was kept back arrives after all; its session may be gone by then.
    fn deliver_late(&mut self) {
        if self.held.len() < 4 {
            return;
        }
        let at = self.below(self.held.len() as u32);
        let held = self.held.remove(at);
        if self.sides[1 - held.from].read(&held.envelope, &mut self.past) {
            self.late += 1;
        }
    }

    /// So many texts, in runs of one direction.
    fn go_on(&mut self, texts: usize) {
        let mut from = 0;
        for _ in 0..texts {
            if self.below(3) == 0 {
                from = 1 - from;
            }
            self.send(from);
            if self.below(8) == 0 {
                self.deliver_late();
            }
        }
    }
}

/// Every run of 16 bytes: half a key is found as well.
fn halves(bytes: &[u8]) -> BTreeSet<[u8; 16]> {
    let windows = bytes.windows(16);
    windows
        .map(|window| *window.first_chunk().unwrap())
        .collect()
}

/// Whether any half of a secret is there.
fn is_in(all: &BTreeSet<[u8; 16]>, secret: &[u8; 32]) -> bool {
    let (parts, _) = secret.as_chunks::<16>();
    parts.iter().any(|part| all.contains(part))
}

#[test]
fn after_a_whole_conversation_no_secret_that_is_over_is_on_the_flash_or_in_what_the_pin_opens() {
    let mut talk = Talk::new(1_701);
    talk.go_on(80);
    let [a, b] = &mut talk.sides;
    renew(a, b, &mut talk.past);
    talk.go_on(60);
    let [a, b] = &mut talk.sides;
    a.person.restart();
    renew(b, a, &mut talk.past);
    talk.go_on(60);
    let Talk { held, past, .. } = &talk;
    println!(
        "{} texts, {} of them late, {} lost; {} secrets",
        talk.sent,
        talk.late,
        held.len(),
        past.0.len()
    );
    assert!(talk.sent == 200 && talk.late >= 5 && past.0.len() > 1_000);

    for side in &talk.sides {
        let flash = side.person.bench.flash.snapshot();
        let named = side.loot(Effort::Named);
        let all = Loot::of(flash.dump(), &PIN.wrap, Effort::Everything);
        // Older versions lie there, and no key that lies there opens one.
        assert!(
            all.versions > 2 * all.records.len(),
            "{} versions, {} of which open",
            all.versions,
            all.records.len()
        );
        assert_eq!(all.records, named.records);
        let mut numbers: Vec<_> = all.records.iter().map(|record| record.number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), all.records.len(), "one version of each");

        // Sealed, nothing of it shows, neither what is over nor what is in use.
        let raw = halves(flash.dump());
        let shown = past.0.iter().filter(|(secret, _)| is_in(&raw, secret));
        assert_eq!(shown.collect::<BTreeMap<_, _>>(), BTreeMap::new());

        // Opened, exactly what is in use.
        let mut opened = BTreeSet::new();
        for record in &all.records {
            opened.extend(halves(&record.content));
        }
        let mut in_use: BTreeSet<_> = side.states.values().flat_map(State::secrets).collect();
        in_use.extend(side.prekeys());
        let names = |secrets: &BTreeSet<[u8; 32]>| {
            let names = secrets.iter().map(|secret| past.0.get(secret));
            names.flatten().copied().collect::<Vec<_>>()
        };
        let found: BTreeSet<_> = past
            .0
            .keys()
            .filter(|secret| is_in(&opened, secret))
            .copied()
            .collect();
        let over: BTreeSet<_> = found.difference(&in_use).copied().collect();
        assert_eq!(names(&over), Vec::<&str>::new(), "over, and still there");
        let kinds: BTreeSet<_> = names(&found).into_iter().collect();
        for kind in ["root key", "ratchet key", "chain key", "message key"] {
            assert!(
                kinds.contains(kind),
                "the search misses a {kind}: {kinds:?}"
            );
        }
        assert!(
            !kinds.contains("used one-time prekey"),
            "a used prekey is still there"
        );
        assert!(kinds.contains("last-resort prekey"));

        // Of the texts that never came, the keys that are still waited for are there, and those that were given up are not.
        let waiting: BTreeSet<_> = side.states.values().flat_map(|s| &s.skipped).collect();
        let (kept, gone): (Vec<_>, Vec<_>) = held
            .iter()
            .partition(|held| found.contains(&held.key) && waiting.contains(&held.key));
        assert_eq!(kept.len(), waiting.len());
        assert!(!kept.is_empty() && !gone.is_empty());
        assert!(gone.iter().all(|held| !is_in(&opened, &held.key)));

        // The same for everything that the token ever drew: slot keys, ephemeral and ratchet keys, prekeys, its own keys.
        let drawn = side.drawn();
        let on_flash: BTreeSet<_> = drawn.iter().filter(|block| is_in(&raw, block)).collect();
        let mut live: BTreeSet<_> = all.slots.iter().map(|slot| &slot.key).collect();
        assert!(live.is_subset(&on_flash));
        live.retain(|key| !drawn.contains(key));
        assert_eq!(live, BTreeSet::new(), "every slot key was drawn");
        let slots: BTreeSet<_> = all.slots.iter().map(|slot| &slot.key).collect();
        // Beside them only the token's id and salt, of which the first half of a block was drawn.
        let others: Vec<_> = on_flash.difference(&slots).collect();
        assert_eq!(others.len(), 2, "{others:?}");
        println!(
            "{} drawn, {} slot keys, {} secrets in use",
            drawn.len(),
            slots.len(),
            found.len()
        );
    }
}
