//! The chance of a guess, measured on two tokens: a code gives a relay in between three runs against each end, and no more.
//!
//! The relay knows all of a code but two digits, so that six runs are worth six in a hundred. `HOSTCHAT_CODES` sets how many
//! codes are attacked (300 if unset). The seeds are fixed: the same number of codes always gives the same result.

use std::thread;

use hostchat_core::icd::TokenError;
use hostchat_core::wire::Address;
use hostchat_tests::hostile::{Device, Mallory};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Codes that the relay takes for possible: a real one is one of a million.
const SPACE: u32 = 100;
/// Threads, each with a seed of its own.
const THREADS: u64 = 2;
/// More runs than any end may allow: to look for more would take too long.
const ENOUGH: usize = 50;
/// Ten minutes and a bit, in milliseconds: an end that types is ready for the next code.
const LATER_MS: u64 = 601_000;

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@relay.example:7443")).expect("an address")
}

/// What became of one code.
#[derive(Default)]
struct Attack {
    /// Runs that the end that shows it has taken part in.
    shows: usize,
    /// Runs that the end that types it has taken part in.
    types: usize,
    /// The relay got a session with one of them.
    won: bool,
}

/// Two people with tokens, and a relay in between.
struct Scene {
    alice: Device,
    bob: Device,
    relay: Mallory,
    rng: ChaCha20Rng,
}

impl Scene {
    fn new(seed: u64) -> Self {
        Self {
            alice: Device::new(address("alice").as_str(), 3 * seed),
            bob: Device::new(address("bob").as_str(), 3 * seed + 1),
            relay: Mallory::new(3 * seed + 2),
            rng: ChaCha20Rng::seed_from_u64(seed),
        }
    }

    /// One code, attacked until both ends refuse.
    fn attack(&mut self) -> Attack {
        let (at_alice, at_bob) = (address("alice"), address("bob"));
        let code = self.alice.begin(&at_bob).expect("a code");
        let known = code.parse::<u32>().expect("digits") / SPACE * SPACE;
        // Different guesses: none is worth a second try.
        let first = self.rng.next_u32() % SPACE;
        let mut guesses = (0..SPACE).map(|n| format!("{:06}", known + (first + n) % SPACE));
        let mut found = Attack::default();
        // Against the end that shows the code: its own check of the answer decides.
        while found.shows < ENOUGH {
            let offered = match self.alice.offer() {
                Err(TokenError::NoCode) => break,
                offered => offered.expect("a run"),
            };
            found.shows += 1;
            let guess = guesses.next().expect("a guess");
            let (_, answer) = self.relay.answer(&at_bob, &guess, &offered.offer);
            match self.alice.confirm(&answer) {
                Ok(_) => {
                    found.won = true;
                    break;
                }
                Err(refusal) => {
                    let wrong =
                        matches!(refusal, TokenError::WrongCode { .. } | TokenError::NoCode);
                    assert!(wrong, "{refusal:?}");
                }
            }
        }
        // Against the end that types it: its answer tells the relay.
        while found.types < ENOUGH {
            let guess = guesses.next().expect("a guess");
            let (run, offer) = self.relay.offer(&at_alice, &at_bob, &guess);
            let answer = match self.bob.answer(&offer, &code) {
                Err(TokenError::TooManyAnswers { .. } | TokenError::TooManyPending) => break,
                answered => answered.expect("an answer").0,
            };
            found.types += 1;
            found.won |= self.relay.guessed(run, &answer);
        }
        self.bob.pass(LATER_MS);
        found
    }
}

#[test]
fn three_runs_against_each_end_guess_six_codes_in_a_hundred() {
    let codes = std::env::var("HOSTCHAT_CODES").map_or(300, |codes| {
        codes.parse().expect("HOSTCHAT_CODES is a number")
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|seed| {
            thread::spawn(move || {
                let mut scene = Scene::new(seed);
                let mine = codes / THREADS + u64::from(seed < codes % THREADS);
                (0..mine).map(|_| scene.attack()).collect::<Vec<_>>()
            })
        })
        .collect();
    let all: Vec<Attack> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("a thread ends"))
        .collect();
    for attack in &all {
        assert!(
            attack.shows == 3 || attack.won && attack.shows < 3,
            "{}",
            attack.shows
        );
        assert_eq!(attack.types, 3);
    }
    let won = all.iter().filter(|attack| attack.won).count();

    // Binomial with p = 6 in 100: four standard deviations to each side.
    let (n, p) = (codes as f64, 6.0 / f64::from(SPACE));
    let (expected, spread) = (n * p, 4.0 * (n * p * (1.0 - p)).sqrt());
    println!("{won} of {codes} codes guessed; {expected:.0} +- {spread:.0} expected");
    assert!(
        (won as f64 - expected).abs() <= spread,
        "{won} of {codes} codes guessed, {expected:.0} +- {spread:.0} expected"
    );
}
