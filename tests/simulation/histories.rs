//! Random histories with everything that may go wrong, judged as the model judges them.
//!
//! `HOSTCHAT_HISTORIES=n` lives n of them, from seed `HOSTCHAT_FIRST` on; `HOSTCHAT_SEED=n` replays one and prints what
//! happens in it (with `-- --nocapture histories`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hostchat::model::Note;
use hostchat_tests::simulation::{Verdict, What, World, history, history_in, row, run};

use crate::friends;

/// As many as a run of all tests can afford: four minutes of a processor.
const USUAL: u64 = 300;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

#[test]
fn in_all_histories_nothing_is_lost_silently_or_shown_twice_and_nothing_stays_dead() {
    if let Some(seed) = number("HOSTCHAT_SEED") {
        let verdict = run(move || history(seed, friends(), true));
        println!("{verdict:?}");
        assert!(verdict.broken().is_empty(), "{:?}", verdict.broken());
        return;
    }
    let first = number("HOSTCHAT_FIRST").unwrap_or_default();
    let count = number("HOSTCHAT_HISTORIES").unwrap_or(USUAL);
    let next = AtomicU64::new(first);
    let found: Mutex<Vec<(u64, Verdict)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..number("HOSTCHAT_THREADS").map_or(threads, |n| n as usize) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let lived =
                        std::panic::catch_unwind(|| run(move || history(seed, friends(), false)));
                    let verdict = lived.unwrap_or_else(|_| panic!("HOSTCHAT_SEED={seed} panics"));
                    let broken = verdict.broken();
                    if !broken.is_empty() {
                        println!("HOSTCHAT_SEED={seed}: {}", broken.join(", "));
                    }
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((seed, verdict));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(seed, _)| *seed);
    let verdicts: Vec<Verdict> = found.iter().map(|(_, verdict)| verdict.clone()).collect();
    println!("{}", row(&verdicts));
    let broken: Vec<String> = found
        .iter()
        .filter(|(_, verdict)| !verdict.broken().is_empty())
        .map(|(seed, verdict)| format!("HOSTCHAT_SEED={seed}: {}", verdict.broken().join(", ")))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What the judge would not see, the histories above could not show.
#[test]
fn the_judge_sees_keys_used_twice_where_a_relay_takes_any_generation() {
    let found = (0..40).any(|seed| {
        run(move || {
            let world = World::like(seed, friends());
            world.believe_all();
            let verdict = history_in(world, false);
            verdict.reused > 0 && !verdict.broken().is_empty()
        })
    });
    assert!(found);
}

/// Seed 24: power fails when the token alone has adopted the next generation, and again when the vault has noted another one.
#[test]
fn two_crashes_while_a_generation_moves_on_are_not_taken_for_a_restored_vault() {
    run(|| {
        let mut world = World::like(24, friends());
        for point in ["generation-adopted", "generation-noted"] {
            world.crash_at(point, 0);
            assert!(!world.receive("a").is_done(), "{point} was not passed");
        }
        world.receive("a").unwrap();
        let told = |what: &What| matches!(what, What::Note(Note::HistoryOld { .. }));
        assert!(!world.seen().iter().any(|seen| told(&seen.what)));
    });
}
