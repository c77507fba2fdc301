//! Where a fuzzer begins: the golden values of the core, and `corpus/NAME.txt`, which has a case in hexadecimal on each
//! line, behind its name. Found cases are added there and stay.

use crate::decode_core::DECODERS;
use crate::pair_of_sessions::{paired, unpaired};

/// One encoded value for each variant of each enum that travels.
const WIRE: &str = include_str!("../../../core/tests/golden/wire.txt");

/// The cases that are kept for each target.
const KEPT: &[(&str, &str)] = &[
    ("decode_core", include_str!("../corpus/decode_core.txt")),
    ("deframer", include_str!("../corpus/deframer.txt")),
    (
        "relay_requests",
        include_str!("../corpus/relay_requests.txt"),
    ),
    (
        "client_decoders",
        include_str!("../corpus/client_decoders.txt"),
    ),
    ("who_asks", include_str!("../corpus/who_asks.txt")),
    ("who_asks_full", include_str!("../corpus/who_asks_full.txt")),
    (
        "token_requests",
        include_str!("../corpus/token_requests.txt"),
    ),
    ("two_peers", include_str!("../corpus/two_peers.txt")),
    ("two_tokens", include_str!("../corpus/two_tokens.txt")),
];

/// An input and its name.
pub type Seed = (String, Vec<u8>);

/// All seeds of a target.
#[must_use]
pub fn of(target: &str) -> Vec<Seed> {
    let mut seeds: Vec<Seed> = KEPT
        .iter()
        .filter(|(name, _)| *name == target)
        .flat_map(|(_, text)| text.lines().filter_map(line))
        .collect();
    if target == "decode_core" {
        seeds.extend(WIRE.lines().filter_map(golden));
        seeds.extend(stored());
    }
    seeds
}

/// A line of a corpus: name, hexadecimal. Other lines are comments.
fn line(line: &str) -> Option<Seed> {
    let (name, digits) = line.split_once(' ')?;
    Some((name.to_owned(), unhex(digits)?))
}

/// A line of the golden values, for the decoder of its type.
fn golden(line: &str) -> Option<Seed> {
    let (kind, rest) = line.split_once(' ')?;
    let (name, digits) = rest.split_once(' ')?;
    let name = name.replace("::", "-");
    let name = name.trim_end_matches(|c: char| !c.is_alphanumeric());
    let kind = kind.split('<').next().unwrap_or_default();
    for_decoder(kind, name, unhex(digits)?)
}

/// What is stored, of which the golden values have nothing.
fn stored() -> Vec<Seed> {
    let ends = [paired(), unpaired()];
    let ends = ends.into_iter().flatten();
    ends.enumerate()
        .flat_map(|(at, ends)| {
            [
                for_decoder(
                    "session",
                    &format!("initiator-{at}"),
                    ends.initiator.clone(),
                ),
                for_decoder(
                    "session",
                    &format!("responder-{at}"),
                    ends.responder.clone(),
                ),
                for_decoder("frame", &format!("frame-{at}"), ends.frame.clone()),
            ]
        })
        .flatten()
        .collect()
}

fn for_decoder(decoder: &str, name: &str, bytes: Vec<u8>) -> Option<Seed> {
    let number = DECODERS.iter().position(|(name, _)| *name == decoder)?;
    let number = u8::try_from(number).ok()?;
    Some((name.to_owned(), [&[number], bytes.as_slice()].concat()))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim();
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}
