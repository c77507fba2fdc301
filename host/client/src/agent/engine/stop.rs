//! How a waiting command is told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A wish to end, shared between whoever wishes and whoever waits; once made it stays.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wished: AtomicBool,
    news: Notify,
}

impl Stop {
    /// Wishes the command to end.
    pub fn wish(&self) {
        self.0.wished.store(true, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }

    /// Whether the command shall end.
    pub fn is_wished(&self) -> bool {
        self.0.wished.load(Ordering::SeqCst)
    }

    /// Waits for the wish.
    pub async fn wished(&self) {
        loop {
            let news = self.0.news.notified();
            tokio::pin!(news);
            // Listens before it looks, so that no wish falls in between.
            news.as_mut().enable();
            if self.is_wished() {
                return;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_heard_before_and_while_somebody_waits() {
        let stop = Stop::default();
        let waiter = tokio::spawn({
            let stop = stop.clone();
            async move { stop.wished().await }
        });
        tokio::task::yield_now().await;
        assert!(!stop.is_wished());
        stop.wish();
        assert!(waiter.await.is_ok());
        stop.wished().await;
    }
}
