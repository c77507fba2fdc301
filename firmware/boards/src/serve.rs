//! The main loop of a board: requests from the port to the application, replies back.

use core::borrow::BorrowMut;
use core::pin::pin;

use embassy_futures::block_on;
use heapless::Vec;
use hostchat_core::icd::link::MAX_LINK;
use hostchat_token::Env;
use hostchat_token::app::{App, Memory};
use hostchat_token::port::{Port, Work};

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

/// Serves requests for ever; each is copied to `request`.
pub fn serve<E: Env, M: BorrowMut<Memory>>(
    app: &mut App<E, M>,
    request: &mut Vec<u8, MAX_LINK>,
    line: &impl Line,
    watch: &mut impl Watch,
) -> ! {
    loop {
        match line.wait(|port| port.take_work(request)) {
            Work::HangUp => {
                app.lock();
                watch.locked();
            }
            Work::Request(_) => {
                watch.begin();
                let reply = block_on(pin!(app.answer(request)));
                finish(line, reply);
                watch.end();
            }
        }
    }
}

/// Sends the reply to the request under way; a host that does not read it in time loses it.
fn finish(line: &impl Line, reply: &[u8]) {
    let (mut since, mut left) = (line.uptime_ms(), usize::MAX);
    line.wait(|port| {
        if port.finish(reply) {
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
