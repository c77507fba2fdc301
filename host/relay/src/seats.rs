//! Listeners beside the clients' one: so many connections at once, each for so long, and no more.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;

use crate::clock;
use crate::server::Relay;

/// Answers each connection once until this is aborted; `time_ms` is what one may take, and one too many is dropped.
pub(crate) async fn serve<C, A>(
    relay: Arc<Relay>,
    seats: usize,
    time_ms: u64,
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<C>>,
    answer: impl Fn(Arc<Relay>, C) -> A,
) where
    A: Future<Output = io::Result<()>> + Send + 'static,
{
    let seats = Arc::new(Semaphore::new(seats));
    loop {
        let Ok(connection) = poll_fn(&mut accept).await else {
            // No descriptors: the clients' accept loop says so.
            let pause = relay.clock.uptime_ms() + time_ms;
            relay.clock.sleep_until(pause).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            continue;
        };
        let answer = answer(Arc::clone(&relay), connection);
        let clock = Arc::clone(&relay.clock);
        tokio::spawn(async move {
            // Whoever asked may have gone, or take too long.
            let _ = clock::timeout(&*clock, time_ms, answer).await;
            drop(seat);
        });
    }
}
