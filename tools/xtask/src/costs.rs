//! What the token's operations cost in instructions, counted by the emulator: a regression shows as a number.
//!
//! The counts of one image never differ; those of two compilers do, hence the tolerance.

use std::fs;
use std::path::Path;

use crate::step::{Failed, root};
use crate::target::{SNAPSHOTS, emulate, failed, is_regenerating};

/// Percent that a count may differ from its snapshot, up or down.
const TOLERANCE: u64 = 10;

/// Counts; a line for each operation.
pub(crate) fn measure(image: &Path) -> Result<String, Failed> {
    let (output, text) = emulate(image, "costs", &root(), &["-icount", "shift=0"])?;
    if !output.status.success() {
        return Err(Failed(format!(
            "costs on qemu ({}):\n{text}",
            output.status
        )));
    }
    let costs = text.lines().filter(|line| line.starts_with("cost of "));
    Ok(costs.map(|line| format!("{line}\n")).collect())
}

/// Compares with the committed snapshot.
pub(crate) fn compare(measured: &str) -> Result<(), Failed> {
    let path = root().join(SNAPSHOTS).join("costs.txt");
    if is_regenerating() {
        fs::write(&path, measured).map_err(failed("write the costs"))?;
    }
    let snapshot = fs::read_to_string(&path).map_err(failed("read the costs"))?;
    let problems = differences(&snapshot, measured);
    if problems.is_empty() {
        println!(
            "{} operations: within {TOLERANCE}% of the instructions in the snapshot",
            measured.lines().count()
        );
        return Ok(());
    }
    Err(Failed(format!(
        "costs on qemu:\n{}HOSTCHAT_REGENERATE=1 cargo xtask test --on qemu writes the snapshot anew",
        problems.concat()
    )))
}

/// A line for each operation whose count is missing, new, or outside the tolerance.
fn differences(snapshot: &str, measured: &str) -> Vec<String> {
    let (was, is) = (counts(snapshot), counts(measured));
    let near = |was: u64, is: u64| was.abs_diff(is) * 100 <= was * TOLERANCE;
    let mut lines: Vec<String> = is
        .iter()
        .filter_map(|(name, is)| {
            let was = was.iter().find(|(of, _)| of == name).map(|(_, was)| *was);
            match was {
                Some(was) if near(was, *is) => None,
                Some(was) => Some(format!("  {name}: was {was}, is {is} thousand\n")),
                None => Some(format!(
                    "  {name}: is {is} thousand, and not in the snapshot\n"
                )),
            }
        })
        .collect();
    let gone = was
        .iter()
        .filter(|(name, _)| is.iter().all(|(of, _)| of != name));
    lines.extend(gone.map(|(name, _)| format!("  {name}: not measured\n")));
    lines
}

/// Names and thousands of instructions.
fn counts(text: &str) -> Vec<(&str, u64)> {
    let lines = text.lines().filter_map(|line| {
        let (name, count) = line.strip_prefix("cost of ")?.split_once(": ")?;
        Some((name, count.split(' ').next()?.parse().ok()?))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::{counts, differences};

    #[test]
    fn a_count_outside_the_tolerance_a_missing_and_a_new_one_are_told() {
        let snapshot =
            "cost of a: 1000 thousand instructions\ncost of b: 50 thousand instructions\n";
        assert_eq!(counts(snapshot), [("a", 1000), ("b", 50)]);
        assert!(differences(snapshot, snapshot).is_empty());
        let near = "cost of a: 1100 thousand\ncost of b: 45 thousand\n";
        assert!(differences(snapshot, near).is_empty());
        let more = "cost of a: 1101 thousand\ncost of b: 50 thousand\n";
        assert_eq!(differences(snapshot, more).len(), 1);
        let less = "cost of a: 899 thousand\ncost of b: 50 thousand\n";
        assert_eq!(differences(snapshot, less).len(), 1);
        let other = "cost of a: 1000 thousand\ncost of c: 50 thousand\n";
        assert_eq!(differences(snapshot, other).len(), 2);
    }
}
