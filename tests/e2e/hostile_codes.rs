//! The chance of a guess, measured: with a hundred codes and three runs against each end it is six in a hundred.
//!
//! `HOSTCHAT_CODES` sets how many codes are attacked (1,000 if unset). The seeds are fixed: the same number of codes
//! always gives the same result.

use std::thread;

use hostchat_core::wire::Address;
use hostchat_tests::hostile::Mallory;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Codes that are drawn here: a real one is one of a million.
const SPACE: u64 = 100;
/// Runs of one code at the end that shows it, and answers at the end that types it.
const RUNS: usize = 3;
/// Threads, each with a seed of its own.
const THREADS: u64 = 2;

fn address(name: &str) -> Address {
    Address::parse(&format!("{name}@relay.example:7443")).expect("an address")
}

/// One code, attacked as often as both ends allow; says whether the relay in between got a session with anybody.
fn attacked(people: &mut [Mallory; 3], rng: &mut ChaCha20Rng) -> bool {
    let [alice, bob, relay] = people;
    let (at_alice, at_bob) = (address("alice"), address("bob"));
    let code = format!("{:06}", rng.next_u64() % SPACE);
    // Six different guesses: none is worth a second try.
    let first = rng.next_u64() % SPACE;
    let mut guesses = (0..).map(|n| format!("{:06}", (first + n) % SPACE));
    let mut won = false;
    for _ in 0..RUNS {
        // Against the end that shows the code: its own check of the answer decides.
        let (run, offer) = alice.offer(&at_alice, &at_bob, &code);
        let guess = guesses.next().unwrap_or_default();
        let (_, answer) = relay.answer(&at_bob, &guess, &offer);
        won |= alice.guessed(run, &answer);
        // Against the end that types it: its answer tells the relay.
        let guess = guesses.next().unwrap_or_default();
        let (run, offer) = relay.offer(&at_alice, &at_bob, &guess);
        let (_, answer) = bob.answer(&at_bob, &code, &offer);
        won |= relay.guessed(run, &answer);
    }
    won
}

#[test]
fn three_runs_against_each_end_guess_six_codes_in_a_hundred() {
    let codes = std::env::var("HOSTCHAT_CODES").map_or(1_000, |codes| {
        codes.parse().expect("HOSTCHAT_CODES is a number")
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|seed| {
            thread::spawn(move || {
                let mut people = [1, 2, 3].map(|n| Mallory::new(100 * seed + n));
                let mut rng = ChaCha20Rng::seed_from_u64(seed);
                let mine = codes / THREADS + u64::from(seed < codes % THREADS);
                (0..mine)
                    .filter(|_| attacked(&mut people, &mut rng))
                    .count()
            })
        })
        .collect();
    let won: usize = threads
        .into_iter()
        .map(|thread| thread.join().expect("a thread ends"))
        .sum();

    // Binomial with p = 6 in 100: four standard deviations to each side.
    let (n, p) = (codes as f64, 6.0 / SPACE as f64);
    let (expected, spread) = (n * p, 4.0 * (n * p * (1.0 - p)).sqrt());
    println!("{won} of {codes} codes guessed; {expected:.0} +- {spread:.0} expected");
    assert!(
        (won as f64 - expected).abs() <= spread,
        "{won} of {codes} codes guessed, {expected:.0} +- {spread:.0} expected"
    );
}
