//! What the token was asked since the power came on: kinds and times, for its owner.

use heapless::{HistoryBuf, Vec};
use hostchat_core::icd::{Act, LOG_ENTRIES, Log, LogEntry};

/// The last requests; the oldest gives way.
pub(super) struct Requests(HistoryBuf<LogEntry, LOG_ENTRIES>);

impl Requests {
    pub(super) const fn new() -> Self {
        Self(HistoryBuf::new())
    }

    /// Notes that a request was answered.
    pub(super) fn note(&mut self, at_ms: u64, act: Act, done: bool) {
        self.0.write(LogEntry { at_ms, act, done });
    }

    pub(super) fn show(&self, now_ms: u64) -> Log {
        let entries: Vec<_, LOG_ENTRIES> = self.0.oldest_ordered().copied().collect();
        Log { now_ms, entries }
    }
}
