//! Renewals that cross, from both sides at once and again and again: both ends go on in one session (SPEC section 9.7).
//!
//! ```text
//!  Alice: renew, seal x3, read x3 in any order ──┐   those two orders that can both be lived: frames arrive as they were sealed
//!  Bob:   renew, seal x3, read x3 in any order ──┘
//! ```
//!
//! Two histories in which both people do and meet the same in the same order are the same history, however their steps lie
//! between each other in time. So all pairs of such orders are all interleavings.
//!
//! `HOSTCHAT_CROSSINGS=n` lives n random histories; `HOSTCHAT_CROSSING=seed` lives one of them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hostchat_core::icd::TokenError;
use hostchat_core::wire::{PrekeyBundle, SessionId};
use hostchat_token::testing::Refusal;

use super::support::{Person, exchange, paired};

/// What somebody does or meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Begins a new session.
    Renew,
    /// Seals a frame, which goes on its way.
    Seal,
    /// Reads the next frame.
    Read,
}

const STEPS: usize = 7;

/// Every order of one renewal, three frames sealed and three frames read.
fn orders() -> Vec<[Step; STEPS]> {
    let mut orders = Vec::new();
    for renews in 0..STEPS {
        for reads in 0..1u32 << STEPS {
            if reads.count_ones() != 3 || reads >> renews & 1 == 1 {
                continue;
            }
            let mut order = [Step::Seal; STEPS];
            for (at, step) in order.iter_mut().enumerate() {
                if reads >> at & 1 == 1 {
                    *step = Step::Read;
                }
            }
            order[renews] = Step::Renew;
            orders.push(order);
        }
    }
    orders
}

/// The steps of two people in an order in time, if both orders can be lived: a frame is read after it was sealed.
fn in_time(orders: [&[Step; STEPS]; 2]) -> Option<Vec<(usize, Step)>> {
    let (mut at, mut on_its_way) = ([0; 2], [0; 2]);
    let mut steps = Vec::new();
    while steps.len() < 2 * STEPS {
        let possible = |who: &usize| match orders[*who].get(at[*who]) {
            None => false,
            Some(Step::Read) => on_its_way[*who] > 0,
            Some(_) => true,
        };
        let who = (0..2).find(possible)?;
        let step = orders[who][at[who]];
        match step {
            Step::Renew => {}
            Step::Seal => on_its_way[1 - who] += 1,
            Step::Read => on_its_way[who] -= 1,
        }
        at[who] += 1;
        steps.push((who, step));
    }
    Some(steps)
}

/// Two people, what is on its way to each, and the prekeys that lie at their relay.
struct Two {
    people: [Person; 2],
    inbox: [VecDeque<(Vec<u8>, u8)>; 2],
    bundles: [Vec<PrekeyBundle>; 2],
    sealed: u8,
}

impl Two {
    /// Alice and Bob, who are paired; `bundles` of each lie at the relay, the last one without a one-time prekey.
    fn new(bundles: usize) -> Self {
        let (a, b) = paired();
        let mut people = [a, b];
        let bundles = [0, 1].map(|who: usize| {
            let last = people[who].bundle(false);
            let mut made: Vec<_> = (1..bundles)
                .map(|_| {
                    let bundle = people[who].bundle(true);
                    PrekeyBundle {
                        last_resort: last.last_resort,
                        ..bundle
                    }
                })
                .collect();
            made.push(last);
            made.reverse();
            made
        });
        Self {
            people,
            inbox: Default::default(),
            bundles,
            sealed: 0,
        }
    }

    fn fork(&self) -> Self {
        Self {
            people: [self.people[0].fork(), self.people[1].fork()],
            inbox: self.inbox.clone(),
            bundles: self.bundles.clone(),
            sealed: self.sealed,
        }
    }

    fn address(&self, who: usize) -> hostchat_core::wire::Address {
        self.people[who].address.clone()
    }

    fn renew(&mut self, who: usize) {
        let of = &mut self.bundles[1 - who];
        // What has no one-time prekey may be given as often as one likes.
        let bundle = match of.len() {
            1 => of[0].clone(),
            _ => of.pop().unwrap(),
        };
        let peer = self.address(1 - who);
        self.people[who].start(&peer, &bundle, false).unwrap();
    }

    fn seal(&mut self, who: usize) {
        let peer = self.address(1 - who);
        self.sealed += 1;
        let frame = self.people[who].seal(&peer, &[self.sealed]).unwrap();
        self.inbox[1 - who].push_back((frame, self.sealed));
    }

    /// Reads the `at`-th frame that is on its way; `false` if its session had to make room, or its first message was used.
    fn read(&mut self, who: usize, at: usize) -> bool {
        let (frame, content) = self.inbox[who].remove(at).unwrap();
        match self.people[who].read(&frame) {
            Ok(read) => {
                assert_eq!(read.content, [content]);
                true
            }
            Err(Refusal::Failed(
                TokenError::UnknownSession | TokenError::Prekey | TokenError::Replayed,
            )) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn current(&mut self) -> [Option<SessionId>; 2] {
        let [a, b] = [self.address(0), self.address(1)];
        [self.people[0].current(&b), self.people[1].current(&a)]
    }

    /// Says something in both directions, and that opens.
    fn talk(&mut self) {
        let [a, b] = &mut self.people;
        exchange(a, b, b"to b");
        exchange(b, a, b"to a");
    }

    /// Reads everything that is on its way; gives how much did not open.
    fn read_all(&mut self) -> usize {
        let mut unread = 0;
        for who in 0..2 {
            while !self.inbox[who].is_empty() {
                unread += usize::from(!self.read(who, 0));
            }
        }
        unread
    }
}

/// Lives `count` histories on all processors; each thread begins with people of its own.
fn live(count: usize, bundles: usize, history: impl Fn(&Two, usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let two = Two::new(bundles);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    history(&two, at);
                }
            });
        }
    });
}

#[test]
fn two_renewals_with_three_frames_each_way_end_in_one_session_however_they_lie_in_time() {
    let orders = orders();
    let pairs = orders
        .iter()
        .flat_map(|a| orders.iter().map(move |b| (a, b)));
    let histories: Vec<_> = pairs.filter_map(|(a, b)| in_time([a, b])).collect();
    assert_eq!(orders.len(), 140);
    let ended = [(); 3].map(|()| AtomicUsize::new(0));
    live(histories.len(), 2, |two, at| {
        let (mut two, steps) = (two.fork(), &histories[at]);
        let mut renewed = [None; 2];
        for (who, step) in steps {
            match step {
                Step::Renew => {
                    two.renew(*who);
                    renewed[*who] = two.current()[*who];
                }
                Step::Seal => two.seal(*who),
                Step::Read => assert!(two.read(*who, 0), "{steps:?}"),
            }
        }
        two.talk();
        two.talk();
        let [a, b] = two.current();
        assert_eq!(a, b, "{steps:?}");
        let of = renewed.iter().position(|session| *session == a);
        ended[of.unwrap_or(2)].fetch_add(1, Ordering::Relaxed);
    });
    let [a, b, neither] = ended.map(AtomicUsize::into_inner);
    println!(
        "{} interleavings: {a} end in Alice's session, {b} in Bob's, {neither} in the one before",
        histories.len()
    );
    assert!(a > 1000 && b > 1000, "{a} {b}");
    assert_eq!(neither, 0);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % bound
    }
}

/// What the random histories were like.
#[derive(Debug, Default)]
struct Found {
    renewals: usize,
    frames: usize,
    unread: usize,
    apart: usize,
}

fn random_history(two: &Two, seed: usize) -> Found {
    let (mut two, mut random) = (two.fork(), Random(seed as u64));
    let mut found = Found::default();
    // In every second history the relay delivers in any order; then 9.7 promises less.
    let shuffles = seed % 2 == 1;
    for _ in 0..10 + random.below(30) {
        let who = random.below(2);
        let waiting = two.inbox[who].len();
        match random.below(8) {
            0 => {
                // As a client does: a new session carries at least one frame.
                two.renew(who);
                two.seal(who);
                found.renewals += 1;
                found.frames += 1;
            }
            1..=3 => {
                two.seal(who);
                found.frames += 1;
            }
            _ if waiting > 0 => {
                let at = if shuffles { random.below(waiting) } else { 0 };
                found.unread += usize::from(!two.read(who, at));
            }
            _ => {}
        }
    }
    // Whoever was the last to hear of something says so.
    for _ in 0..3 {
        found.unread += two.read_all();
        two.seal(0);
        two.seal(1);
    }
    let unread = two.read_all();
    let [a, b] = two.current();
    if shuffles && (unread > 0 || a != b) {
        // One may go on in a session that had to make room at the other. Its host asks, and begins a new one after an hour.
        found.apart += 1;
        found.unread += unread;
        two.renew(seed / 2 % 2);
        two.seal(seed / 2 % 2);
        assert_eq!(two.read_all(), 0, "seed {seed}");
    } else {
        assert_eq!((unread, a), (0, b), "seed {seed}");
    }
    two.talk();
    two.talk();
    let [a, b] = two.current();
    assert_eq!(a, b, "seed {seed}");
    found
}

#[test]
fn renewals_that_cross_again_and_again_end_in_one_session() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<usize>().unwrap())
    };
    if let Some(seed) = number("HOSTCHAT_CROSSING") {
        println!("{:?}", random_history(&Two::new(6), seed));
        return;
    }
    let count = number("HOSTCHAT_CROSSINGS").unwrap_or(2000);
    let sum = Mutex::new(Found::default());
    live(count, 6, |two, seed| {
        let found = random_history(two, seed);
        let mut sum = sum.lock().unwrap();
        sum.renewals += found.renewals;
        sum.frames += found.frames;
        sum.unread += found.unread;
        sum.apart += found.apart;
    });
    let found = sum.into_inner().unwrap();
    println!("{count} random histories: {found:?}");
    assert!(found.renewals > 2 * count, "{found:?}");
}
