//! Fuzzing by libFuzzer: `tools/fuzz` has the targets, their bodies and their seeds.

use crate::setup;
use crate::step::{Failed, Step, cargo, program, root};

/// Fuzzes each target, or one, for so many seconds. What it learns stays in `target/fuzz/NAME`, so that the next run goes on
/// from there; a case that breaks an invariant is in `tools/fuzz/fuzz/artifacts/NAME`.
pub(crate) fn fuzz(only: Option<&str>, seconds: u32) -> Result<(), Failed> {
    setup::c_compiler()?;
    setup::debian_packages(&[("c++", "g++")])?;
    setup::nightly_rust()?;
    setup::cargo_program("cargo-fuzz", "cargo-fuzz")?;
    let bodies = |arguments: &[&str]| {
        let run = ["run", "--quiet", "--package", "hostchat-fuzz", "--"];
        cargo("seeds", &run).args(arguments)
    };
    let corpora = root().join("target/fuzz").display().to_string();
    bodies(&["seeds", &corpora]).run()?;
    let targets = bodies(&["list"]).output()?;
    let chosen: Vec<&str> = targets
        .lines()
        .filter(|name| only.is_none_or(|only| only == *name))
        .collect();
    if chosen.is_empty() {
        return Err(Failed(format!("no target is called {only:?}")));
    }
    for target in chosen {
        run(target, &format!("{corpora}/{target}"), seconds)?;
    }
    Ok(())
}

/// Without a sanitizer: ours is code without `unsafe`, and it is several times as fast.
fn run(target: &str, corpus: &str, seconds: u32) -> Result<(), Failed> {
    let time = format!("-max_total_time={seconds}");
    let fuzz = ["+nightly", "fuzz", "run", "--sanitizer", "none", target];
    let step: Step = program(format!("fuzz {target}"), "cargo", &fuzz);
    step.args(&[corpus, "--", &time, "-verbosity=0", "-print_final_stats=1"])
        .at(&root().join("tools/fuzz"))
        .run()
}
