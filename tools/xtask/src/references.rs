//! References from one file to another document, or to a section of the SPEC, lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

/// Where the sections are.
pub(crate) const SPEC: &str = "core/SPEC.md";

/// Numbers of the sections of a document, as its headings say: `9`, `9.8`.
pub(crate) fn sections(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with("##"));
    let numbers =
        headings.filter_map(|line| line.trim_start_matches('#').split_whitespace().next());
    numbers
        .filter(|word| is_number(word))
        .map(str::to_owned)
        .collect()
}

/// What a text refers to that is not there; `exists` knows the documents, by their paths as they are written.
pub(crate) fn dead(
    text: &str,
    sections: &BTreeSet<String>,
    exists: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let mut dead = Vec::new();
    for line in text.lines() {
        let words = line.split(|c: char| c.is_whitespace() || "\"'`()[]<>,;:".contains(c));
        for word in words.map(|word| word.trim_end_matches('.')) {
            // An address on the web is none of ours, nor is a pattern.
            let is_document = word.ends_with(".md") && !word.starts_with(['*', '.', '/']);
            if is_document && !exists(Path::new(word)) {
                dead.push(word.to_owned());
            }
        }
        for after in ["SPEC section ", "SPEC sections ", "SPEC §"] {
            for (at, _) in line.match_indices(after) {
                let rest = line.get(at + after.len()..).unwrap_or_default();
                let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
                let number = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                let number = number.trim_end_matches('.');
                if is_number(number) && !sections.contains(number) {
                    dead.push(format!("SPEC section {number}"));
                }
            }
        }
    }
    dead
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_found() {
        let sections = sections("# SPEC\n## 9 Sessions\n### 9.8 Healing\n## Notes\n");
        assert_eq!(sections.iter().collect::<Vec<_>>(), ["9", "9.8"]);
        let found = |text| dead(text, &sections, |path| path == Path::new("core/SPEC.md"));
        assert_eq!(
            found("see SPEC section 9.8, SPEC §9 and [it](core/SPEC.md); *.md"),
            [""; 0]
        );
        assert_eq!(
            found("//! as `design.md` says (SPEC section 9.9).\n// SPEC §19"),
            ["design.md", "SPEC section 9.9", "SPEC section 19"]
        );
    }
}
