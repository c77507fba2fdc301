//! What tests need to torment a token: a flash that loses its power, surroundings under control, the host's half of
//! the language.

mod bench;
mod env;
mod flash;
mod shared;
pub mod thief;

use core::pin::pin;
use core::task::{Context, Poll, Waker};

pub use bench::{Bench, Refusal, Silence, TestPin};
pub use env::{Control, TestEnv, TestRng};
pub use flash::{PAGE, RamFlash, RamFlashError, Tear, WORD};
pub use shared::SharedFlash;

/// Runs a future that never waits, as all futures over a RAM flash and a [`TestEnv`] are.
///
/// # Panics
///
/// If it waits after all.
#[expect(clippy::panic, reason = "a future that waits here would wait for ever")]
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here may wait"),
    }
}
