//! The link: messages outside the channel, and their frames on a serial line (SPEC §10).
//!
//! Serial frame: `0x00 COBS(sequence ‖ postcard message ‖ CRC-16) 0x00`. The CRC (CRC-16/IBM-3740, big-endian) finds
//! line noise; what is inside a channel is authenticated besides. A zero byte always ends a frame, so a reader that
//! joins in the middle is in step at the next one. `sequence` is drawn by the host and comes back in the reply.

use crc::{CRC_16_IBM_3740, Crc};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::error::{Decode, Error, Misuse};
use crate::icd::LinkError;
use crate::wire::{Bytes, codec};

/// Longest encoded [`ToToken`] or [`FromToken`], in bytes.
pub const MAX_LINK: usize = 6656;
/// Longest serial frame, in bytes: sequence, message, CRC, COBS overhead, two delimiters.
pub const MAX_SERIAL: usize = SerialFrame::longest(MAX_LINK);

/// What a token is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifecycle {
    /// No PIN and no keys yet, or wiped.
    Blank,
    /// PIN set; keys sealed.
    Ready,
    /// Storage cannot be read; only a wipe helps.
    Damaged,
}

/// Answer to [`ToToken::Hello`]; everything here is public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version of the token.
    pub version: u8,
    /// Blank, ready or damaged.
    pub lifecycle: Lifecycle,
    /// Random at each initialisation.
    pub token_id: Bytes<16>,
    /// Salt of the PIN stretch; for a blank token the salt that its PIN will have.
    pub salt: Bytes<16>,
    /// Tries of the PIN left in all; 255 on a software token, which does not count.
    pub tries: u8,
    /// Tries left before the next power cycle; 255 on a software token.
    pub tries_now: u8,
    /// Version of the firmware, `major.minor.patch`.
    pub firmware: heapless::String<16>,
    /// What it runs on, for people: `software`, `sim`, `pico`, ...
    pub board: heapless::String<16>,
}

/// Host to token, outside the channel. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToToken<'a> {
    /// Who are you?
    Hello,
    /// Unlock or initialise, message 1.
    UnlockStart {
        /// Whether this sets the first PIN (blank token only, needs a touch).
        init: bool,
        /// Fresh for each run.
        sid: Bytes<16>,
        /// CPace share.
        share: Bytes<32>,
        /// Protocol version of the host, in ADa.
        version: u8,
    },
    /// Unlock or initialise, message 3.
    UnlockFinish {
        /// HMAC-SHA-256(k_a, TH).
        tag: Bytes<32>,
        /// SIV output over W, or over PRS ‖ W for an initialisation: counter 0 of the channel.
        body: &'a [u8],
    },
    /// A command inside the channel.
    Sealed {
        /// Exact, from 1.
        counter: u64,
        /// SIV output over an encoded [`crate::icd::Command`].
        body: &'a [u8],
    },
    /// Gives up the touch that is waited for. It has no reply of its own: the request under way answers.
    Cancel,
    /// Erases everything without a PIN, for a forgotten PIN or a damaged store; needs a touch. All keys are lost.
    Reset,
}

/// What a busy token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// It computes or writes.
    Processing,
    /// It waits for a touch.
    TouchNeeded,
}

/// Token to host, outside the channel. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromToken<'a> {
    /// Answer to `Hello`.
    Hello(Hello),
    /// Unlock, message 2.
    UnlockAnswer {
        /// CPace share.
        share: Bytes<32>,
        /// Protocol version of the token, in ADb.
        version: u8,
        /// HMAC-SHA-256(k_b, TH).
        tag: Bytes<32>,
    },
    /// A reply inside the channel; also message 4 of an unlock (counter 0).
    Sealed {
        /// Exact.
        counter: u64,
        /// SIV output over an encoded [`crate::icd::Reply`].
        body: &'a [u8],
    },
    /// Sign of life; the reply is still to come.
    Keepalive(Activity),
    /// The request was refused outside the channel.
    Refused(LinkError),
    /// Answer to `Reset`.
    Done,
}

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);

/// Writes `message` as one serial frame, with both delimiters, in place of what `out` held.
///
/// # Errors
/// `ApiMisuse(BufferTooSmall)` if it does not fit.
pub fn encode_serial<T: Serialize, const N: usize>(
    sequence: u8,
    message: &T,
    out: &mut Vec<u8, N>,
) -> Result<(), Error> {
    let encoded: Vec<u8, MAX_LINK> = codec::encode_vec(message)?;
    encode_serial_raw(sequence, &encoded, out)
}

/// As [`encode_serial`], for a message that is already encoded.
///
/// # Errors
/// `ApiMisuse(BufferTooSmall)` if it does not fit.
pub fn encode_serial_raw<const N: usize>(
    sequence: u8,
    message: &[u8],
    out: &mut Vec<u8, N>,
) -> Result<(), Error> {
    out.clear();
    for byte in SerialFrame::new(sequence, message) {
        out.push(byte)
            .map_err(|_| Error::ApiMisuse(Misuse::BufferTooSmall))?;
    }
    Ok(())
}

/// The bytes of a serial frame, one after the other: COBS (Cheshire and Baker, 1999) with both delimiters.
pub struct SerialFrame<'m> {
    sequence: u8,
    message: &'m [u8],
    crc: [u8; 2],
    /// What comes next.
    part: Part,
    /// How much of sequence, message and CRC is done.
    at: usize,
}

#[derive(Clone, Copy)]
enum Part {
    Begin,
    /// The code of a block.
    Code,
    /// So many bytes of a block; the last bit says whether a zero, or the end, stands behind it.
    Block(usize, bool),
    Done,
}

/// Bytes of the longest block, behind which no zero stands.
const FULL_BLOCK: usize = 254;

impl<'m> SerialFrame<'m> {
    /// Puts an encoded message into a frame.
    #[must_use]
    pub fn new(sequence: u8, message: &'m [u8]) -> Self {
        let mut crc = CRC.digest();
        crc.update(&[sequence]);
        crc.update(message);
        Self {
            sequence,
            message,
            crc: crc.finalize().to_be_bytes(),
            part: Part::Begin,
            at: 0,
        }
    }

    /// The longest frame of a message of so many bytes.
    #[must_use]
    pub const fn longest(message: usize) -> usize {
        let content = message + 3;
        content + content / FULL_BLOCK + 1 + 2
    }

    fn content(&self, at: usize) -> Option<u8> {
        match at.checked_sub(1) {
            None => Some(self.sequence),
            Some(at) => {
                let behind = at.checked_sub(self.message.len());
                behind
                    .map_or_else(|| self.message.get(at), |at| self.crc.get(at))
                    .copied()
            }
        }
    }
}

impl Iterator for SerialFrame<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match self.part {
            Part::Begin => {
                self.part = Part::Code;
                Some(0)
            }
            Part::Block(0, ends) => {
                if ends && self.content(self.at).is_none() {
                    self.part = Part::Done;
                    return Some(0);
                }
                self.at += usize::from(ends);
                self.part = Part::Code;
                self.next()
            }
            Part::Code => {
                let length = (self.at..self.at + FULL_BLOCK)
                    .take_while(|at| self.content(*at).is_some_and(|byte| byte != 0))
                    .count();
                self.part = Part::Block(length, length < FULL_BLOCK);
                u8::try_from(length + 1).ok()
            }
            Part::Block(left, ends) => {
                let byte = self.content(self.at);
                self.at += 1;
                self.part = Part::Block(left - 1, ends);
                byte
            }
            Part::Done => None,
        }
    }
}

/// Reassembles serial frames from bytes in any portions; never holds more than one decoded message.
pub struct Deframer {
    /// Decoded bytes: sequence, message, CRC.
    buffer: Vec<u8, { MAX_LINK + 3 }>,
    /// Bytes left in the current COBS block; 0 when the next byte is a code.
    left: u8,
    /// The current block stood for a zero byte after it (its code was not 0xff).
    zero_follows: bool,
    /// Something of the current frame has been seen.
    begun: bool,
    /// The last frame was handed over; its bytes go at the next push.
    handed_over: bool,
    fault: Option<Decode>,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    /// Waits for the first frame.
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            left: 0,
            zero_follows: false,
            begun: false,
            handed_over: false,
            fault: None,
        }
    }

    /// Drops what was received of a frame, in place: a deframer is large.
    pub fn reset(&mut self) {
        self.buffer.clear();
        (self.left, self.begun, self.handed_over) = (0, false, false);
        (self.zero_follows, self.fault) = (false, None);
    }

    /// Takes one byte; when it ends a frame, returns the sequence and the message.
    ///
    /// `None` while no frame is complete. A frame that is too long or damaged gives its error once, at its end, and
    /// the next one is read from its first byte.
    pub fn push(&mut self, byte: u8) -> Option<Result<(u8, &[u8]), Error>> {
        if core::mem::take(&mut self.handed_over) {
            self.buffer.clear();
        }
        if byte != 0 {
            self.take(byte);
            return None;
        }
        if !core::mem::take(&mut self.begun) {
            return None;
        }
        let unfinished = self.left != 0;
        let fault = self.fault.take();
        (self.left, self.zero_follows, self.handed_over) = (0, false, true);
        Some(match fault {
            Some(fault) => Err(Error::Decode(fault)),
            None if unfinished => Err(Error::Decode(Decode::Truncated)),
            None => Self::check(&self.buffer),
        })
    }

    /// The message that the last push returned, until the next one.
    #[must_use]
    pub fn message(&self) -> Option<&[u8]> {
        let (_, message) = Self::check(&self.buffer).ok()?;
        self.handed_over.then_some(message)
    }

    fn take(&mut self, byte: u8) {
        self.begun = true;
        if self.fault.is_some() {
            return;
        }
        if self.left == 0 {
            let zero = core::mem::replace(&mut self.zero_follows, byte != 0xff);
            self.left = byte - 1;
            if zero {
                self.store(0);
            }
        } else {
            self.left -= 1;
            self.store(byte);
        }
    }

    fn store(&mut self, byte: u8) {
        if self.buffer.push(byte).is_err() {
            self.fault = Some(Decode::TooLong);
        }
    }

    fn check(decoded: &[u8]) -> Result<(u8, &[u8]), Error> {
        let malformed = Error::Decode(Decode::Malformed);
        let (body, crc) = decoded.split_last_chunk::<2>().ok_or(malformed)?;
        let (sequence, message) = body.split_first().ok_or(malformed)?;
        if CRC.checksum(body) == u16::from_be_bytes(*crc) {
            Ok((*sequence, message))
        } else {
            Err(malformed)
        }
    }
}

#[cfg(any(test, feature = "units"))]
#[doc(hidden)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; a chip runs them too"
)]
pub mod tests {
    use super::*;

    type Out = alloc::vec::Vec<Result<(u8, alloc::vec::Vec<u8>), Error>>;

    fn feed(deframer: &mut Deframer, bytes: &[u8]) -> Out {
        bytes
            .iter()
            .filter_map(|&b| deframer.push(b).map(|r| r.map(|(s, m)| (s, m.to_vec()))))
            .collect()
    }

    fn framed(sequence: u8, message: &[u8]) -> Vec<u8, MAX_SERIAL> {
        let mut out = Vec::new();
        encode_serial_raw(sequence, message, &mut out).unwrap();
        out
    }

    #[cfg_attr(test, test)]
    pub fn every_length_and_pattern_comes_back() {
        let mut deframer = Deframer::new();
        for length in (0..1100).chain([MAX_LINK - 1, MAX_LINK]) {
            for pattern in 0..4u8 {
                let message: alloc::vec::Vec<u8> = (0..length)
                    .map(|i| match pattern {
                        0 => 0,
                        1 => 0xff,
                        2 => i as u8,
                        _ => u8::from(i % 254 != 253),
                    })
                    .collect();
                let frame = framed(7, &message);
                assert!(frame[1..frame.len() - 1].iter().all(|&b| b != 0));
                assert_eq!(feed(&mut deframer, &frame), [Ok((7, message))]);
            }
        }
    }

    #[cfg_attr(test, test)]
    pub fn a_frame_is_byte_for_byte_what_cobs_says() {
        // Cheshire and Baker: a full block stands for no zero, and something always follows it.
        let mut content = alloc::vec![9u8; 2 + 254];
        content[0] = 0;
        let out = framed(5, &content);
        assert_eq!(out[..3], [0, 2, 5], "a zero ends the first block");
        assert_eq!(out[3], 0xff);
        assert_eq!(out[4..258], [9; 254]);
        assert_eq!(out[out.len() - 1], 0);
        for length in 0..600 {
            let message = alloc::vec![1u8; length];
            assert!(
                framed(1, &message).len() <= SerialFrame::longest(length),
                "{length}"
            );
        }
    }

    #[cfg_attr(test, test)]
    pub fn noise_is_refused_and_the_next_frame_is_read() {
        let mut deframer = Deframer::new();
        let good = framed(1, b"hello");
        for at in 1..good.len() - 1 {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let mut stream = bad.to_vec();
                stream.extend_from_slice(&good);
                let got = feed(&mut deframer, &stream);
                assert_eq!(
                    got.last(),
                    Some(&Ok((1, b"hello".to_vec()))),
                    "at {at} bit {bit}"
                );
                assert_eq!(
                    got.iter().filter(|r| r.is_ok()).count(),
                    1,
                    "at {at} bit {bit}"
                );
            }
        }
    }

    #[cfg_attr(test, test)]
    pub fn an_endless_frame_takes_no_memory_and_ends_in_one_error() {
        let mut deframer = Deframer::new();
        let noise = alloc::vec![0x41u8; 3 * MAX_SERIAL];
        assert!(feed(&mut deframer, &noise).is_empty());
        let got = feed(&mut deframer, &framed(3, b"x"));
        assert_eq!(
            got,
            [Err(Error::Decode(Decode::TooLong)), Ok((3, b"x".to_vec()))]
        );
    }
}
