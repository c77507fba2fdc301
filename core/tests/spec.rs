//! SPEC.md keeps step with the code: every label, every variant with its number, every vector file, every limit.

use std::collections::BTreeMap;

use hostchat_core::crypto::label;
use hostchat_core::{icd, ratchet, wire};

const SPEC: &str = include_str!("../SPEC.md");
const GOLDEN: &str = include_str!("golden/wire.txt");

#[test]
fn every_label_is_in_the_table_and_no_other() {
    let rows = SPEC
        .lines()
        .filter_map(|line| line.strip_prefix("| `hostchat/1 "));
    let mut listed: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
    let mut known: Vec<_> = label::ALL
        .iter()
        .filter_map(|label| label.as_str().strip_prefix("hostchat/1 "))
        .collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn every_variant_of_every_enum_is_listed_with_its_number() {
    let mut enums: BTreeMap<&str, usize> = BTreeMap::new();
    for line in GOLDEN.lines() {
        let Some((_, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((name, bytes)) = rest.split_once(' ') else {
            continue;
        };
        let Some((kind, variant)) = name.split_once("::") else {
            continue;
        };
        let variant = variant.trim_end_matches("(_)").trim_end_matches("{..}");
        let number = u8::from_str_radix(&bytes[..2], 16);
        assert!(number.is_ok(), "{line}");
        *enums.entry(kind).or_default() += 1;
        if kind == "PrekeyKind" {
            continue;
        }
        let Ok(number) = number else { continue };
        // From the enum's heading to the next one.
        let heading = format!("**`{kind}`**");
        let part = SPEC.split_once(&heading).map_or("", |(_, rest)| rest);
        let part = part.split_once("**`").map_or(part, |(part, _)| part);
        // A row of a table, or an item of a list: `, 7 \`Name\``.
        let item = format!("{number} `{variant}`");
        let row = format!("| {number} | `{variant}` |");
        let listed = [" ", "\n"].map(|before| format!("{before}{item}"));
        assert!(
            part.contains(&row) || listed.iter().any(|item| part.contains(item)),
            "SPEC lacks {kind}: {item}"
        );
    }
    assert!(enums.len() > 15, "{enums:?}");
}

#[test]
fn every_vector_file_is_named_and_exists() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/own");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let section = SPEC
        .split_once("## 17 Vectors")
        .map_or("", |(_, rest)| rest);
    let mut named: Vec<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect();
    files.sort();
    named.sort();
    assert!(!files.is_empty());
    assert_eq!(files, named);
}

#[test]
fn limits_are_those_of_the_code() {
    let with_commas = |number: usize| {
        let (thousands, rest) = (number / 1000, number % 1000);
        if thousands == 0 {
            rest.to_string()
        } else {
            format!("{thousands},{rest:03}")
        }
    };
    let section = SPEC.split_once("## 14 Limits").map_or("", |(_, rest)| rest);
    let section = section
        .split_once("## 15")
        .map_or("", |(section, _)| section);
    for row in [
        format!(
            "| content of a message | {} bytes; padded {} |",
            with_commas(wire::MAX_CONTENT),
            with_commas(wire::MAX_PADDED)
        ),
        format!(
            "| frame, envelope | {} and {} bytes |",
            with_commas(wire::MAX_FRAME),
            with_commas(wire::MAX_ENVELOPE)
        ),
        format!(
            "| message between host and token | {} bytes |",
            with_commas(icd::MAX_LINK)
        ),
        format!(
            "| message between client and relay | {} bytes |",
            with_commas(wire::relay::MAX_RELAY_MESSAGE)
        ),
        format!(
            "| jump within a chain | {} messages",
            with_commas(ratchet::MAX_JUMP as usize)
        ),
        format!("| skipped keys of a session | {} |", ratchet::MAX_SKIPPED),
        format!(
            "| life of a skipped key | {} steps of the root chain |",
            ratchet::MAX_SKIPPED_STEPS
        ),
        format!("| sessions of a contact | {} |", icd::MAX_SESSIONS),
        format!("| one-time prekeys of a token | {};", icd::MAX_ONE_TIME),
        format!(
            "| last-resort prekeys of a token | {} |",
            icd::MAX_LAST_RESORT
        ),
        format!(
            "| tries of a PIN | {}; {} in a power cycle; the last {} with a touch |",
            icd::MAX_TRIES,
            icd::MAX_TRIES_PER_POWER_CYCLE,
            icd::TRIES_THAT_NEED_TOUCH
        ),
    ] {
        assert!(section.contains(&row), "SPEC section 14 lacks: {row}");
    }
}

#[test]
fn a_challenge_names_a_software_of_at_most_the_bytes_that_the_spec_says() {
    use wire::relay::{Event, MAX_SOFTWARE, RELAY_VERSION};

    let bound = format!("software text (for people, at most {MAX_SOFTWARE} bytes)");
    assert!(SPEC.contains(&bound), "{bound}");
    let text = "x".repeat(MAX_SOFTWARE + 1);
    for (software, fits) in [("", true), (&text[1..], true), (&text[..], false)] {
        let challenge = Event::Challenge {
            version: RELAY_VERSION,
            challenge: wire::Bytes([1; 32]),
            software,
        };
        let encoded = wire::codec::encode_vec::<_, 200>(&challenge).expect("it fits");
        let decoded = wire::codec::decode::<Event<'_>>(&encoded);
        assert_eq!(decoded.is_ok_and(|same| same == challenge), fits);
    }
}
