//! What the log tells at `info` of refused logins and limits reached: enough to see them, and no flood of lines.
//!
//! Each kind has a few lines at once and then six a minute. A line says how many of its kind were left out before it, and
//! the metrics count all of them. Lines have names and reasons, never an invitation, a key or a body.

use std::collections::HashMap;
use std::sync::Mutex;

use hostchat_core::wire::relay::Reason;

use crate::bucket::Buckets;
use crate::limits::NOTICES;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Login,
    Call,
    Connection,
}

/// Which kinds were told of how often.
pub(crate) struct Notices {
    lines: Buckets<(What, u8)>,
    unlogged: Mutex<HashMap<(What, u8), u64>>,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            lines: Buckets::new(NOTICES),
            unlogged: Mutex::default(),
        }
    }
}

impl Notices {
    /// Whether to write a line; then how many were left out since the last one.
    pub(crate) fn take(&self, what: What, reason: Reason, uptime_ms: u64) -> Option<u64> {
        let kind = (what, reason as u8);
        let mut unlogged = crate::lock(&self.unlogged);
        let left_out = unlogged.entry(kind).or_default();
        if self.lines.take(kind, uptime_ms).is_ok() {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }
}

/// Whether a refusal says that somebody has come to a limit.
pub(crate) fn is_limit(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::MailboxFull
            | Reason::RelayFull
            | Reason::RateLimited
            | Reason::TooManyConnections
            | Reason::QuotaFull
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_few_lines_and_tells_what_was_left_out() {
        let notices = Notices::default();
        let take = |now| notices.take(What::Login, Reason::NameTaken, now);
        for _ in 0..NOTICES.burst {
            assert_eq!(take(0), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(take(9_999), None);
        }
        assert_eq!(take(10_000), Some(1000));
        assert_eq!(take(10_000), None);
        assert_eq!(take(20_000), Some(1));
        // Others have their own.
        assert_eq!(notices.take(What::Call, Reason::NameTaken, 0), Some(0));
        assert_eq!(notices.take(What::Login, Reason::Suspended, 0), Some(0));
    }
}
