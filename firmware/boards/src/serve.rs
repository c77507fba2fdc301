//! The main loop of a board: requests from the port to the application, replies back.

use embassy_futures::block_on;
use heapless::Vec;
use hostchat_core::icd::link::{MAX_LINK, MAX_SERIAL, encode_serial_raw};
use hostchat_token::port::{Port, Work};
use hostchat_token::{App, Env};

/// How long a host may leave a reply unread before the token drops it.
const PATIENCE_MS: u64 = 2_000;

/// A board's serial port: a [`Port`] that interrupts fill and empty.
pub trait Line {
    /// Lets `work` use the port with interrupts off, and then sends what it left to send.
    fn with_port<T>(&self, work: impl FnOnce(&mut Port) -> T) -> T;

    /// Lets `ready` look at the port after each interrupt until it gives something; sleeps meanwhile.
    fn wait<T>(&self, ready: impl FnMut(&mut Port) -> Option<T>) -> T;

    /// Milliseconds since power-up.
    fn uptime_ms(&self) -> u64;
}

/// What a board does beside the application.
pub trait Watch {
    /// A request is about to be answered.
    fn begin(&mut self) {}
    /// It was answered.
    fn end(&mut self) {}
    /// The host went away, and the token is locked.
    fn locked(&mut self) {}
}

/// Serves requests for ever.
pub fn serve<E: Env>(app: &mut App<E>, line: &impl Line, watch: &mut impl Watch) -> ! {
    let mut request = Vec::<u8, MAX_LINK>::new();
    let mut reply = Vec::<u8, MAX_LINK>::new();
    let mut frame = Vec::<u8, MAX_SERIAL>::new();
    loop {
        match line.wait(|port| port.take_work(&mut request)) {
            Work::HangUp => {
                app.lock();
                watch.locked();
            }
            Work::Request(sequence) => {
                watch.begin();
                block_on(app.handle(&request, &mut reply));
                frame.clear();
                // Every reply fits a frame; one that did not would be left out, and the host would ask again.
                if !reply.is_empty() && encode_serial_raw(sequence, &reply, &mut frame).is_err() {
                    frame.clear();
                }
                finish(line, &frame);
                watch.end();
            }
        }
    }
}

/// Sends the reply to the request under way; a host that does not read it in time loses it.
fn finish(line: &impl Line, frame: &[u8]) {
    let (mut since, mut left) = (line.uptime_ms(), usize::MAX);
    line.wait(|port| {
        if port.finish(frame) {
            return Some(());
        }
        if port.pending() < left {
            (since, left) = (line.uptime_ms(), port.pending());
        } else if line.uptime_ms() - since >= PATIENCE_MS {
            port.give_up();
            return Some(());
        }
        None
    });
}
