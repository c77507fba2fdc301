//! The serial port of a board: what its interrupts do between the wire and the application.
//!
//! ```text
//!  receive interrupt ── handle_byte ──▶ Port ── take_work ──▶ main: App::handle
//!  timer, every TICK_MS ─ handle_tick ─▶ │ ◀─────── finish ───┘
//!  DTR dropped ────── handle_hang_up ──▶ │
//!  transmit interrupt ◀── poll_output ── ┘
//! ```
//!
//! Invariant: one request at a time is under way; while it is, a keepalive leaves at every tick, `Cancel` is taken and
//! anything else but a repeat of the request is answered `Busy`. All buffers are bounded: a host that stops reading loses
//! keepalives first, then the reply, which it will ask for again.

use heapless::{Deque, Vec};
use hostchat_core::icd::link::{Deframer, MAX_LINK, MAX_SERIAL, SerialFrame};
use hostchat_core::icd::{Activity, FromToken, LinkError, ToToken};
use hostchat_core::wire::codec;

/// Milliseconds between two ticks: twice as fast as the host expects keepalives.
pub const TICK_MS: u32 = 50;

/// Bytes on their way out: the longest frame and a few keepalives.
const OUT: usize = MAX_SERIAL + 128;

/// What the main loop is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The host is gone: lock the token.
    HangUp,
    /// Answer the request, whose sequence number this is.
    Request(u8),
}

/// Bytes that are kept while a request waits for the main loop, which is at once: a `Cancel` or two.
const EARLY: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A request waits in the deframer for the main loop.
    Waiting(u8),
    /// The main loop works on it.
    UnderWay(u8),
}

/// The port. Interrupts and the main loop share it behind a critical section.
pub struct Port {
    deframer: Deframer,
    state: State,
    /// What came while a request waits in the deframer.
    early: Deque<u8, EARLY>,
    out: Deque<u8, OUT>,
    touch_needed: bool,
    cancelled: bool,
    hung_up: bool,
}

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}

impl Port {
    /// A port that nobody has opened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deframer: Deframer::new(),
            state: State::Idle,
            early: Deque::new(),
            out: Deque::new(),
            touch_needed: false,
            cancelled: false,
            hung_up: false,
        }
    }

    /// Takes a byte from the host. Noise and damaged frames are dropped: the host asks again.
    pub fn handle_byte(&mut self, byte: u8) {
        if matches!(self.state, State::Waiting(_)) {
            // A host that sends more than fits does not keep to one request at a time.
            let _ = self.early.push_back(byte);
            return;
        }
        let Some(Ok((sequence, message))) = self.deframer.push(byte) else {
            return;
        };
        if matches!(codec::decode(message), Ok(ToToken::Cancel)) {
            self.cancelled = true;
        } else if self.state == State::Idle {
            self.state = State::Waiting(sequence);
            self.cancelled = false;
        } else if self.hung_up || self.state != State::UnderWay(sequence) {
            self.send(sequence, &FromToken::Refused(LinkError::Busy));
        }
        // A host that was held up repeats what is under way already; the next keepalive tells it so.
    }

    /// The host closed the port: what was half received or not yet sent is dropped, a wait for a press ends.
    pub fn handle_hang_up(&mut self) {
        self.deframer.reset();
        self.early.clear();
        self.out.clear();
        self.cancelled = true;
        self.hung_up = true;
        if matches!(self.state, State::Waiting(_)) {
            self.state = State::Idle;
        }
    }

    /// To be called every [`TICK_MS`]: sends a keepalive while a request is under way.
    pub fn handle_tick(&mut self) {
        if let State::Waiting(sequence) | State::UnderWay(sequence) = self.state
            && !self.hung_up
        {
            let activity = if self.touch_needed {
                Activity::TouchNeeded
            } else {
                Activity::Processing
            };
            self.send(sequence, &FromToken::Keepalive(activity));
        }
    }

    /// The next byte for the host.
    pub fn poll_output(&mut self) -> Option<u8> {
        self.out.pop_front()
    }

    /// What to do next; copies the request to `request` if it is one.
    pub fn take_work(&mut self, request: &mut Vec<u8, MAX_LINK>) -> Option<Work> {
        if self.state == State::Idle || matches!(self.state, State::Waiting(_)) {
            if core::mem::take(&mut self.hung_up) {
                return Some(Work::HangUp);
            }
            if let State::Waiting(sequence) = self.state {
                request.clear();
                // A deframed message is never longer than MAX_LINK.
                let message = self.deframer.message().unwrap_or_default();
                let _ = request.extend_from_slice(message);
                self.state = State::UnderWay(sequence);
                while let Some(byte) = self.early.pop_front() {
                    self.handle_byte(byte);
                }
                return Some(Work::Request(sequence));
            }
        }
        None
    }

    /// Ends the request under way with its reply, an encoded [`FromToken`] (empty: no reply). `false` if there is no room
    /// for it yet: then nothing has changed.
    pub fn finish(&mut self, reply: &[u8]) -> bool {
        // A host that is gone gets no reply, nor does the next one get the reply of the last.
        if let State::UnderWay(sequence) = self.state
            && !self.hung_up
            && !reply.is_empty()
            && !self.queue(sequence, reply)
        {
            return false;
        }
        self.state = State::Idle;
        true
    }

    /// Gives up on a host that does not read: drops what it has not read, the reply as well.
    pub fn give_up(&mut self) {
        self.out.clear();
        self.state = State::Idle;
    }

    /// Bytes on their way out.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// The application begins or ends to wait for a press: keepalives say so.
    pub fn set_touch_needed(&mut self, needed: bool) {
        self.touch_needed = needed;
    }

    /// Whether the host gave the request under way up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Queues a short message if there is room for all of it.
    fn send(&mut self, sequence: u8, message: &FromToken<'_>) {
        if let Ok(encoded) = codec::encode_vec::<_, 16>(message) {
            self.queue(sequence, &encoded);
        }
    }

    fn queue(&mut self, sequence: u8, message: &[u8]) -> bool {
        let left = self.out.capacity() - self.out.len();
        let fits = left >= SerialFrame::longest(message.len());
        if fits {
            for byte in SerialFrame::new(sequence, message) {
                let _ = self.out.push_back(byte);
            }
        }
        fits
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
    use hostchat_core::icd::link::encode_serial_raw;

    use super::*;

    const REQUEST: &[u8] = b"\x00";

    fn frame(sequence: u8, message: &[u8]) -> Vec<u8, MAX_SERIAL> {
        let mut frame = Vec::new();
        encode_serial_raw(sequence, message, &mut frame).unwrap();
        frame
    }

    fn feed(port: &mut Port, sequence: u8, message: &[u8]) {
        for &byte in &frame(sequence, message) {
            port.handle_byte(byte);
        }
    }

    /// What the host sees: sequence numbers and first bytes of the frames.
    fn seen(port: &mut Port) -> alloc::vec::Vec<(u8, alloc::vec::Vec<u8>)> {
        let mut deframer = Deframer::new();
        let mut frames = alloc::vec::Vec::new();
        while let Some(byte) = port.poll_output() {
            if let Some(frame) = deframer.push(byte) {
                let (sequence, message) = frame.unwrap();
                frames.push((sequence, message.to_vec()));
            }
        }
        frames
    }

    fn encoded(message: &FromToken<'_>) -> alloc::vec::Vec<u8> {
        codec::encode_vec::<_, 16>(message).unwrap().to_vec()
    }

    fn cancel() -> Vec<u8, 16> {
        codec::encode_vec(&ToToken::Cancel).unwrap()
    }

    #[cfg_attr(test, test)]
    pub fn a_request_is_answered_with_its_sequence_and_keepalives_stop_at_the_reply() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        port.handle_tick();
        assert!(seen(&mut port).is_empty(), "nothing is under way");
        assert_eq!(port.take_work(&mut request), None);
        feed(&mut port, 9, b"what is it");
        assert_eq!(port.take_work(&mut request), Some(Work::Request(9)));
        assert_eq!(request, b"what is it");
        assert_eq!(port.take_work(&mut request), None, "one at a time");
        port.handle_tick();
        port.set_touch_needed(true);
        port.handle_tick();
        assert!(port.finish(b"answer"));
        port.handle_tick();
        assert_eq!(
            seen(&mut port),
            [
                (9, encoded(&FromToken::Keepalive(Activity::Processing))),
                (9, encoded(&FromToken::Keepalive(Activity::TouchNeeded))),
                (9, b"answer".to_vec())
            ]
        );
    }

    #[cfg_attr(test, test)]
    pub fn a_second_request_is_refused_and_a_cancel_reaches_the_first() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        feed(&mut port, 1, REQUEST);
        feed(&mut port, 2, REQUEST);
        assert_eq!(port.take_work(&mut request), Some(Work::Request(1)));
        feed(&mut port, 3, REQUEST);
        let busy = encoded(&FromToken::Refused(LinkError::Busy));
        assert_eq!(seen(&mut port), [(2, busy.clone()), (3, busy)]);
        assert!(!port.is_cancelled());
        feed(&mut port, 4, &cancel());
        assert!(port.is_cancelled());
        assert!(port.finish(b"cancelled"));
        feed(&mut port, 5, REQUEST);
        assert!(
            !port.is_cancelled(),
            "a new request is not cancelled by the old cancel"
        );
    }

    #[cfg_attr(test, test)]
    pub fn a_repeat_of_the_request_under_way_is_no_second_request() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        feed(&mut port, 1, REQUEST);
        assert_eq!(port.take_work(&mut request), Some(Work::Request(1)));
        feed(&mut port, 1, REQUEST);
        assert!(seen(&mut port).is_empty(), "neither refused nor answered");
        assert!(port.finish(b"answer"));
        assert_eq!(seen(&mut port), [(1, b"answer".to_vec())]);
        assert_eq!(port.take_work(&mut request), None, "executed once");
    }

    #[cfg_attr(test, test)]
    pub fn a_cancel_right_behind_its_request_reaches_it() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        feed(&mut port, 1, REQUEST);
        feed(&mut port, 2, &cancel());
        for _ in 0..2 * EARLY {
            port.handle_byte(0xA5);
        }
        assert_eq!(port.take_work(&mut request), Some(Work::Request(1)));
        assert_eq!(request, REQUEST);
        assert!(port.is_cancelled());
    }

    #[cfg_attr(test, test)]
    pub fn a_host_that_goes_gets_no_reply_and_the_next_one_neither() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        feed(&mut port, 1, REQUEST);
        assert_eq!(port.take_work(&mut request), Some(Work::Request(1)));
        port.handle_tick();
        port.handle_hang_up();
        assert!(port.is_cancelled());
        port.handle_tick();
        assert!(port.finish(b"late"));
        feed(&mut port, 2, REQUEST);
        assert_eq!(
            port.take_work(&mut request),
            Some(Work::HangUp),
            "locked first"
        );
        assert_eq!(port.take_work(&mut request), Some(Work::Request(2)));
        assert!(seen(&mut port).is_empty());
    }

    #[cfg_attr(test, test)]
    pub fn a_request_that_nobody_waits_for_any_more_is_not_executed() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        feed(&mut port, 1, REQUEST);
        port.handle_hang_up();
        assert_eq!(port.take_work(&mut request), Some(Work::HangUp));
        assert_eq!(port.take_work(&mut request), None);
        let half = frame(2, REQUEST);
        half[..3].iter().for_each(|&byte| port.handle_byte(byte));
        port.handle_hang_up();
        feed(&mut port, 3, REQUEST);
        assert_eq!(port.take_work(&mut request), Some(Work::HangUp));
        assert_eq!(port.take_work(&mut request), Some(Work::Request(3)));
    }

    #[cfg_attr(test, test)]
    pub fn a_host_that_does_not_read_fills_a_bounded_buffer_and_whole_frames_are_dropped() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        feed(&mut port, 1, REQUEST);
        assert_eq!(port.take_work(&mut request), Some(Work::Request(1)));
        for _ in 0..2 * OUT {
            port.handle_tick();
        }
        let full = port.pending();
        assert!(full <= OUT);
        assert!(!port.finish(&[7; MAX_LINK]), "no room");
        port.give_up();
        assert_eq!(port.pending(), 0);
        feed(&mut port, 2, REQUEST);
        assert_eq!(port.take_work(&mut request), Some(Work::Request(2)));
        assert!(port.finish(&[7; MAX_LINK]));
        assert_eq!(seen(&mut port), [(2, [7; MAX_LINK].to_vec())]);
    }

    #[cfg_attr(test, test)]
    pub fn the_longest_request_arrives_and_noise_before_it_does_not_matter() {
        let (mut port, mut request) = (Port::new(), Vec::new());
        for at in 0..100_000_u32 {
            port.handle_byte((at.wrapping_mul(2_654_435_761) >> 24) as u8);
        }
        assert_eq!(port.take_work(&mut request), None);
        feed(&mut port, 3, &[0xA5; MAX_LINK]);
        assert_eq!(port.take_work(&mut request), Some(Work::Request(3)));
        assert_eq!(request, [0xA5; MAX_LINK]);
    }
}
