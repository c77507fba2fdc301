//! What one receiving connection still has to be handed: a short live queue in memory, the store behind it.
//!
//! ```text
//!  writer ── push ──▶ [live queue] ──┐
//!                       │ full       ├──▶ next() in the order of numbers, each at most once per connection
//!                       ▼            │
//!                    lagging ── page of the store after the cursor
//! ```
//!
//! Invariant: whoever resets `lagging` reads the store afterwards. So what was dropped from the queue is in the page, and
//! what is in both is recognised by its number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use hostchat_core::wire::relay::WINDOW;
use tokio::sync::Notify;

use crate::limits::RECEIVER_BYTES;
use crate::store::Message;

/// The live end of a receiver, shared with the writer.
#[derive(Default)]
pub(crate) struct Inbox {
    live: Mutex<Live>,
    news: Notify,
}

#[derive(Default)]
struct Live {
    queue: VecDeque<Arc<Message>>,
    /// Of all in the queue.
    weight: usize,
    lagging: bool,
}

impl Inbox {
    /// Takes a message that has just become durable; beyond [`WINDOW`] or [`RECEIVER_BYTES`] the store is read instead.
    pub(crate) fn push(&self, message: Arc<Message>) {
        let mut live = crate::lock(&self.live);
        if live.lagging {
            return;
        }
        let weight = live.weight + message.weight();
        if live.queue.is_empty() || (live.queue.len() < WINDOW && weight <= RECEIVER_BYTES) {
            live.weight = weight;
            live.queue.push_back(message);
        } else {
            live.lagging = true;
        }
        drop(live);
        self.news.notify_one();
    }

    /// Completes when something was pushed since the last time; may complete for nothing.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    fn pop(&self) -> Option<Arc<Message>> {
        let mut live = crate::lock(&self.live);
        let message = live.queue.pop_front()?;
        live.weight -= message.weight();
        Some(message)
    }

    /// Whether messages were dropped since the last call; the caller reads the store if so.
    fn reset_lagging(&self) -> bool {
        std::mem::take(&mut crate::lock(&self.live).lagging)
    }
}

/// The receiving half of a connection: what was handed out, what comes next.
pub(crate) struct Outbox {
    pub(crate) inbox: Arc<Inbox>,
    page: VecDeque<Arc<Message>>,
    cursor: u64,
    backlog: bool,
}

/// What a connection does next for its receiver.
pub(crate) enum Next {
    /// Hand this out.
    Deliver(Arc<Message>),
    /// Read a page of the store after this number and give it to [`Outbox::take_page`].
    ReadAfter(u64),
    /// Nothing until [`Inbox::news`].
    Wait,
}

impl Outbox {
    /// Starts at the beginning of the mailbox; `inbox` gets what is stored from now on.
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            page: VecDeque::new(),
            cursor: 0,
            backlog: true,
        }
    }

    pub(crate) fn next(&mut self) -> Next {
        if let Some(message) = self.page.pop_front() {
            self.cursor = message.number;
            return Next::Deliver(message);
        }
        if self.backlog {
            return Next::ReadAfter(self.cursor);
        }
        while let Some(message) = self.inbox.pop() {
            if message.number > self.cursor {
                self.cursor = message.number;
                return Next::Deliver(message);
            }
        }
        if self.inbox.reset_lagging() {
            self.backlog = true;
            return Next::ReadAfter(self.cursor);
        }
        Next::Wait
    }

    /// Takes what the store had after the cursor; after the last page there is an empty one.
    pub(crate) fn take_page(&mut self, page: Vec<Arc<Message>>) {
        self.backlog = !page.is_empty();
        self.page.extend(page);
    }

    /// Whether everything that lay in the store at the last look was handed out.
    pub(crate) fn is_drained(&self) -> bool {
        self.page.is_empty() && !self.backlog
    }
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::{Address, Bytes};

    use super::*;

    fn message(number: u64) -> Arc<Message> {
        with_body(number, 0)
    }

    fn with_body(number: u64, length: usize) -> Arc<Message> {
        Arc::new(Message {
            number,
            sender: Address::parse("a@h:1").unwrap(),
            fingerprint: None,
            stored_at: 0,
            message_id: Bytes([0; 16]),
            body: vec![0; length].into(),
        })
    }

    /// Plays a store with `stored` numbers and returns what is handed out until it waits.
    fn drain(outbox: &mut Outbox, stored: &[u64]) -> Vec<u64> {
        let mut out = Vec::new();
        loop {
            match outbox.next() {
                Next::Deliver(message) => out.push(message.number),
                Next::ReadAfter(after) => {
                    let page = stored.iter().filter(|n| **n > after).take(4);
                    outbox.take_page(page.map(|n| message(*n)).collect());
                }
                Next::Wait => return out,
            }
        }
    }

    #[test]
    fn backlog_then_live_each_once_and_in_order() {
        let inbox = Arc::new(Inbox::default());
        let mut outbox = Outbox::new(Arc::clone(&inbox));
        // Stored while the backlog is read: in the page and in the live queue.
        for number in 5..=7 {
            inbox.push(message(number));
        }
        assert_eq!(
            drain(&mut outbox, &[1, 2, 3, 4, 5, 6, 7]),
            [1, 2, 3, 4, 5, 6, 7]
        );
        assert!(outbox.is_drained());
        inbox.push(message(9));
        assert_eq!(drain(&mut outbox, &[]), [9]);
    }

    #[test]
    fn large_messages_wait_in_the_store() {
        let inbox = Arc::new(Inbox::default());
        let mut outbox = Outbox::new(Arc::clone(&inbox));
        assert!(drain(&mut outbox, &[]).is_empty());
        for number in 1..=20 {
            inbox.push(with_body(number, RECEIVER_BYTES / 3));
        }
        assert_eq!(inbox.live.lock().unwrap().queue.len(), 2);
        let all: Vec<u64> = (1..=20).collect();
        assert_eq!(drain(&mut outbox, &all), all);
        // One that is larger than all of it, where nothing else waits.
        inbox.push(with_body(21, 2 * RECEIVER_BYTES));
        assert_eq!(drain(&mut outbox, &[]), [21]);
        assert_eq!(inbox.live.lock().unwrap().weight, 0);
    }

    #[test]
    fn a_full_live_queue_falls_back_to_the_store_and_loses_nothing() {
        let inbox = Arc::new(Inbox::default());
        let mut outbox = Outbox::new(Arc::clone(&inbox));
        assert!(drain(&mut outbox, &[]).is_empty());
        let all: Vec<u64> = (1..=WINDOW as u64 * 3).collect();
        for number in &all {
            inbox.push(message(*number));
        }
        assert_eq!(drain(&mut outbox, &all), all);
        inbox.push(message(1_000));
        assert_eq!(drain(&mut outbox, &[]), [1_000], "live again");
    }
}
