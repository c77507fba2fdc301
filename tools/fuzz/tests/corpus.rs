//! Every target over its seeds and found cases, and over inputs that a generator makes of them: fuzzing without nightly.
#![expect(clippy::panic, reason = "a test that fails panics")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use hostchat_fuzz::{TARGETS, Target, seeds};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// How many times as many inputs as usual are made: `HOSTCHAT_INPUTS`.
fn factor() -> u64 {
    let asked = std::env::var("HOSTCHAT_INPUTS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Runs one case; shows it in the form of the corpus if it fails.
fn run(target: &Target, name: &str, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.body)(bytes))).is_err() {
        panic!("{}: {name} {}", target.name, hex(bytes));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_case_of_the_corpora_holds() {
    for target in TARGETS {
        let seeds = seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for (name, bytes) in seeds {
            run(target, &name, &bytes);
        }
    }
}

#[test]
fn inputs_made_of_the_seeds_hold() {
    // One of them alone, for a long run.
    let only = std::env::var("HOSTCHAT_TARGET").ok();
    let wanted = |target: &&Target| only.as_ref().is_none_or(|only| only == target.name);
    for target in TARGETS.iter().filter(wanted) {
        let seeds = seeds::of(target.name);
        let mut rng = ChaCha20Rng::seed_from_u64(0x5eed);
        let mut below = |end: usize| (rng.next_u64() % end.max(1) as u64) as usize;
        for round in 0..target.inputs * factor() {
            let mut bytes = seeds[below(seeds.len())].1.clone();
            for _ in 0..below(4) {
                let at = below(bytes.len());
                match below(5) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, below(256) as u8),
                    2 => bytes.extend((0..below(32)).map(|_| below(256) as u8)),
                    3 => {
                        let other = &seeds[below(seeds.len())].1;
                        bytes.extend_from_slice(&other[below(other.len())..]);
                    }
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = below(256) as u8;
                        }
                    }
                }
            }
            run(target, &format!("made-{round}"), &bytes);
        }
    }
}

#[test]
fn names_of_seeds_are_distinct_and_the_corpora_small() {
    for target in TARGETS {
        let mut names: Vec<_> = seeds::of(target.name)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{}", target.name);
    }
}
