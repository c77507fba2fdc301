//! The serial line: any stream of bytes, then a good frame.
//!
//! An oracle of a few lines, which looks at a whole block at once, says what each block between two zeros is. Nothing
//! else may come out of the deframer, and after whatever came before, a zero brings it into step.

use hostchat_core::icd::link::{Deframer, MAX_SERIAL, encode_serial_raw};
use hostchat_core::icd::{MAX_LINK, ToToken};
use hostchat_core::wire::codec;
use hostchat_token::port::{Port, Work};

use crate::input::Input;

/// Takes a length and a message off the front; the rest is what the line carries before the frame of the message.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sequence = input.byte();
    let length = match input.byte() {
        // Long messages, of one byte each: more than a fuzzer likes to write.
        255 => {
            let (length, byte) = (input.index(MAX_LINK + 1), input.byte());
            (length, Some(byte))
        }
        length => (usize::from(length), None),
    };
    let message = match length {
        (length, Some(byte)) => vec![byte; length],
        (length, None) => input.bytes(length).to_vec(),
    };
    let noise = input.rest();

    let mut frame = heapless::Vec::<u8, MAX_SERIAL>::new();
    assert_eq!(encode_serial_raw(sequence, &message, &mut frame), Ok(()));
    let inside = frame
        .strip_prefix(&[0])
        .and_then(|rest| rest.strip_suffix(&[0]));
    let inside = inside.unwrap_or_default();
    assert!(!inside.contains(&0), "a zero inside a frame");
    assert_eq!(oracle(inside), Some((sequence, message.clone())));

    let mut deframer = Deframer::new();
    let mut wanted = noise.split(|byte| *byte == 0);
    let mut at = 0;
    for block in noise.split(|byte| *byte == 0) {
        at += block.len() + 1;
        if at > noise.len() {
            break;
        }
        let wanted = wanted.next().unwrap_or_default();
        let mut got = None;
        for byte in block.iter().chain(&[0]) {
            let frame = deframer.push(*byte);
            assert!(*byte == 0 || frame.is_none(), "a frame without an end");
            got = frame.map(|frame| frame.ok().map(|(s, m)| (s, m.to_vec())));
        }
        if wanted.is_empty() {
            assert_eq!(got, None, "something out of nothing");
        } else {
            assert_eq!(got, Some(oracle(wanted)));
        }
    }
    // In step at the next zero, whatever came before.
    let mut last = None;
    for byte in [0].iter().chain(&frame) {
        if let Some(frame) = deframer.push(*byte) {
            last = frame.ok().map(|(s, m)| (s, m.to_vec()));
        }
    }
    assert_eq!(last, Some((sequence, message.clone())), "out of step");
    assert_eq!(deframer.message(), Some(message.as_slice()));

    port(noise, &frame, sequence, &message);
}

/// The token's port behind the same line: every request that comes out was on the line, and the good one comes out.
fn port(noise: &[u8], frame: &[u8], sequence: u8, message: &[u8]) {
    let mut port = Box::new(Port::new());
    let mut request = heapless::Vec::<u8, MAX_LINK>::new();
    let sent: Vec<_> = noise
        .split(|byte| *byte == 0)
        .filter_map(oracle)
        .chain([(sequence, message.to_vec())])
        .collect();
    let mut got = Vec::new();
    for byte in noise.iter().chain(&[0]).chain(frame).chain(frame) {
        port.handle_byte(*byte);
        while let Some(work) = port.take_work(&mut request) {
            if let Work::Request(sequence) = work {
                got.push((sequence, request.to_vec()));
            }
            assert!(port.finish(&[]));
        }
        while port.poll_output().is_some() {}
    }
    for request in &got {
        assert!(sent.contains(request), "a request that nobody sent");
    }
    // A `Cancel` concerns the request under way, and is none itself.
    if !matches!(codec::decode(message), Ok(ToToken::Cancel)) {
        let good = (sequence, message.to_vec());
        assert_eq!(got.last(), Some(&good), "the good request is lost");
    }
}

/// COBS as of Cheshire and Baker, sequence and CRC, for one whole block without zeros.
fn oracle(block: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = block;
    while let Some((code, behind)) = rest.split_first() {
        let (bytes, behind) = behind.split_at_checked(usize::from(*code) - 1)?;
        out.extend_from_slice(bytes);
        if *code != 255 && !behind.is_empty() {
            out.push(0);
        }
        rest = behind;
    }
    let crc = out.split_off(out.len().checked_sub(2)?);
    let (sequence, message) = out.split_first()?;
    let good = crc == crc16(&out).to_be_bytes() && message.len() <= MAX_LINK;
    good.then(|| (*sequence, message.to_vec()))
}

/// CRC-16/IBM-3740, bit by bit.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let carry = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ carry
        })
    })
}
