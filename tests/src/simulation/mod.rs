//! A world in one thread: real clients over the real token application, a relay in memory, virtual time.
//!
//! ```text
//!  World ── send, receive, step ──▶ Copy: hostchat::Client ──▶ Token::local ──▶ SimLink: hostchat_token::App ──▶ SimFlash
//!    │                                        │     └──▶ Vault in a folder in memory
//!    │                                        └──▶ SimRelay (Dial, Line)
//!    └── restore, twin, relay_restore, lie, drain, drop_mail, misname, forge, crash       the faults
//! ```
//!
//! Invariant: everything follows from the seed. Time is tokio's, paused: it passes when everybody waits, or when the world
//! says so. Chance is drawn from the seed, and is never part of what is copied or restored.

mod computer;
mod copy;
mod faults;
mod forge;
mod history;
mod judge;
mod ledger;
mod line;
mod relay;
mod token;
mod watch;
mod world;

pub use computer::{Clock, SimOs};
pub use copy::{Copy, Image, Part};
pub use forge::Forgery;
pub use history::{PEOPLE, history, history_in};
pub use judge::{Verdict, row};
pub use ledger::{Ledger, Moved};
pub use relay::{Books, Lie, Mail, SimRelay};
pub use token::{SimFlash, SimLink};
pub use watch::{Seen, What};
pub use world::{Outcome, Template, World};

/// Stack of the thread that a world lives in: the token application computes ML-KEM there.
const STACK: usize = 64 * 1024 * 1024;

/// Runs `work` on a thread whose stack is large enough for a world.
///
/// # Panics
/// As `work` does.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
    match thread.expect("a thread").join() {
        Ok(value) => value,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}
