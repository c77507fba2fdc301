//! Intel HEX, the format that Nordic's programs take.

use std::fmt::Write as _;

use super::elf::Segment;

/// Bytes of the image in one record.
const RECORD: u32 = 16;
const DATA: u8 = 0;
const END: u8 = 1;
/// The upper half of the addresses that follow.
const UPPER: u8 = 4;

/// What segments put into a chip's flash, as Intel HEX.
pub(crate) fn from_segments(segments: &[Segment<'_>]) -> String {
    let mut hex = String::new();
    let mut upper = 0;
    for segment in segments {
        let (mut at, mut rest) = (segment.stored, segment.bytes);
        while !rest.is_empty() {
            if at >> 16 != upper {
                upper = at >> 16;
                record(&mut hex, 0, UPPER, &(upper as u16).to_be_bytes());
            }
            // Up to the next multiple of RECORD: no record reaches into the next 64 KiB.
            let room = (RECORD - at % RECORD) as usize;
            let (part, later) = rest.split_at(rest.len().min(room));
            record(&mut hex, at as u16, DATA, part);
            at += part.len() as u32;
            rest = later;
        }
    }
    record(&mut hex, 0, END, &[]);
    hex
}

fn record(hex: &mut String, address: u16, kind: u8, data: &[u8]) {
    let [high, low] = address.to_be_bytes();
    let head = [data.len() as u8, high, low, kind];
    let bytes = head.iter().chain(data);
    let sum = bytes
        .clone()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    hex.push(':');
    for byte in bytes.chain(&[sum.wrapping_neg()]) {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02X}");
    }
    hex.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::elf::segments;
    use super::super::elf::tests::elf;
    use super::*;

    #[test]
    fn records_are_those_that_the_format_prescribes() {
        let image = elf(&[(0x1000, b"\x01\x02\x03"), (0x1_FFFE, b"\xAA\xBB\xCC")]);
        let hex = from_segments(&segments(&image).ok().expect("an image"));
        let expected = [
            ":03100000010203E7",
            ":020000040001F9",
            ":02FFFE00AABB9C",
            ":020000040002F8",
            ":01000000CC33",
            ":00000001FF",
        ];
        assert_eq!(hex.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_byte_of_an_image_comes_back_at_its_place() {
        let bytes: Vec<u8> = (0..70_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let image = elf(&[(0x1004, &bytes)]);
        let hex = from_segments(&segments(&image).ok().expect("an image"));
        let (mut upper, mut read) = (0, Vec::new());
        for line in hex.lines() {
            let record: Vec<u8> = (1..line.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("digits"))
                .collect();
            let sum = record
                .iter()
                .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!(sum, 0, "{line}");
            let data = &record[4..record.len() - 1];
            match record[3] {
                DATA => {
                    let low = usize::from(record[1]) << 8 | usize::from(record[2]);
                    assert_eq!((upper << 16) + low, 0x1004 + read.len());
                    read.extend_from_slice(data);
                }
                UPPER => upper = usize::from(data[0]) << 8 | usize::from(data[1]),
                kind => assert_eq!(kind, END),
            }
        }
        assert_eq!(read, bytes);
    }
}
