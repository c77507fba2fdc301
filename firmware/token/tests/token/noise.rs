//! A noisy line: damaged frames are never taken for others, and the port is back in step with the frame after the next.
//!
//! A checksum of 16 bits lets one in 65,536 random errors pass. What passes must then be refused by the token itself, which
//! decodes strictly and opens nothing that the host did not seal.

use alloc::vec::Vec;

use hostchat_core::icd::Command;
use hostchat_core::icd::link::{FromToken, MAX_LINK, MAX_SERIAL, encode_serial_raw};
use hostchat_core::icd::{LinkError, ToToken};
use hostchat_core::wire::{MAX_CONTENT, codec};
use hostchat_token::port::{Port, Work};

use super::noisy_frames;
use super::support::{PIN, Person, paired};

/// xorshift64 (G. Marsaglia, "Xorshift RNGs").
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.draw() >> 11) as usize % end.max(1)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = 1 + self.below(most);
        (0..length).map(|_| (self.draw() >> 23) as u8).collect()
    }

    /// What a line can do to a frame.
    fn damage(&mut self, frame: &mut Vec<u8>) {
        let at = self.below(frame.len());
        match self.below(8) {
            0 => (0..1 + self.below(8)).for_each(|_| {
                let bit = self.below(frame.len() * 8);
                frame[bit / 8] ^= 1 << (bit % 8);
            }),
            1 => {
                let burst = self.bytes(32);
                frame[at..]
                    .iter_mut()
                    .zip(burst)
                    .for_each(|(byte, noise)| *byte = noise);
            }
            2 => {
                let end = (at + 1 + self.below(16)).min(frame.len());
                frame.drain(at..end);
            }
            3 => {
                let noise = self.bytes(16);
                frame.splice(at..at, noise);
            }
            4 => frame.truncate(at),
            5 => {
                let end = (at + 1 + self.below(16)).min(frame.len());
                let again = frame[at..end].to_vec();
                frame.splice(at..at, again);
            }
            6 => *frame = self.bytes(96),
            _ => {
                // Two frames without the zeros between them.
                frame.retain(|byte| *byte != 0);
                frame.extend_from_within(..at.min(frame.len()));
            }
        }
    }
}

fn framed(sequence: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = heapless::Vec::<u8, MAX_SERIAL>::new();
    encode_serial_raw(sequence, message, &mut frame).unwrap();
    frame.to_vec()
}

/// Feeds bytes, and gives every request that comes out of the port.
fn requests(port: &mut Port, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut request, mut all) = (heapless::Vec::<u8, MAX_LINK>::new(), Vec::new());
    for byte in bytes {
        port.handle_byte(*byte);
        while let Some(work) = port.take_work(&mut request) {
            if let Work::Request(sequence) = work {
                all.push((sequence, request.to_vec()));
            }
            assert!(port.finish(&[]));
        }
        while port.poll_output().is_some() {}
    }
    all
}

/// Commands of all lengths, sealed for the token and never delivered whole.
fn sealed(person: &mut Person, peer: &Person) -> Vec<Vec<u8>> {
    let lengths = [0, 1, 16, 100, 253, 254, 255, 600, MAX_CONTENT];
    let content = [0x5A; MAX_CONTENT];
    lengths
        .map(|length| {
            let peer = peer.address.clone();
            let content = &content[..length];
            person.bench.seal_command(&Command::Seal { peer, content })
        })
        .to_vec()
}

#[cfg_attr(test, test)]
pub(crate) fn noisy_frames_are_never_taken_for_others_and_the_port_is_soon_in_step() {
    let count = noisy_frames();
    let (mut a, b) = paired();
    let (identity, contacts) = (a.identity(), a.contacts());
    let messages = sealed(&mut a, &b);
    let flash = a.bench.flash.snapshot().dump().to_vec();
    let good = codec::encode_vec::<_, 16>(&ToToken::Hello).unwrap();
    let (mut port, mut noise) = (Port::new(), Noise(0x5EED));
    let (mut passed, mut cost) = (0, 0);
    for round in 0..count {
        // Long ones are rare, as they are on a real line.
        let which = match round % 64 {
            0 => messages.len() - 1,
            _ => noise.below(messages.len() - 1),
        };
        let (sequence, message) = (round as u8, &messages[which]);
        let mut frame = framed(sequence, message);
        noise.damage(&mut frame);
        let mut out = requests(&mut port, &frame);

        let (first, second) = (sequence.wrapping_add(1), sequence.wrapping_add(2));
        let after_first = requests(&mut port, &framed(first, &good));
        let after_second = requests(&mut port, &framed(second, &good));
        assert!(
            after_second.contains(&(second, good.to_vec())),
            "round {round}: out of step"
        );
        cost += u64::from(!after_first.contains(&(first, good.to_vec())));

        out.extend(after_first);
        out.extend(after_second);
        for (sent, request) in out {
            let known = (sent == sequence && request == *message)
                || ((sent == first || sent == second) && request == *good);
            if known {
                continue;
            }
            passed += 1;
            let reply = a.bench.send_raw(&request);
            let answer = codec::decode::<FromToken<'_>>(&reply).unwrap();
            assert!(
                matches!(answer, FromToken::Refused(LinkError::BadRequest)),
                "round {round}: {answer:?}"
            );
        }
    }
    // It has neither done nor written anything.
    assert!(a.bench.flash.snapshot().dump() == flash);
    a.bench.lock();
    a.bench.unlock(PIN).unwrap();
    assert_eq!((a.identity(), a.contacts()), (identity, contacts));
    println!(
        "{count} noisy frames: {passed} passed the checksum and were refused by the token, {cost} cost the next frame too"
    );
}
