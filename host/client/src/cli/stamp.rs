//! The time of a message as people see it: the relay's, with the sender's claim only where the two differ.
//!
//! ```text
//!  [2026-11-21 09:05:13] alice: ...
//!  [2026-11-21 09:05:13, sender's clock says 2031-01-01 00:00:00] alice: ...
//!  [sender's clock says 2026-11-21 09:05:13] alice: ...           the relay's time was not kept
//!  [2026-11-21 09:05:13, written 2026-11-20 18:00:00 by this computer's clock] to alice: ...
//! ```
//!
//! Invariant: nothing that a sender claims stands where the relay's time stands.

use crate::os;

/// A sender's clock that is off by no more than this is not worth a word, in milliseconds.
const TOLERANCE_MS: u64 = 5 * 60 * 1000;

/// The time of a received message: `claim` by its sender's clock, `stored_at` by the relay's, both in milliseconds since
/// 1970; `None` if the relay's time is not known.
pub(super) fn received(claim: u64, stored_at: Option<u64>) -> String {
    match stored_at {
        Some(stored) if claims_otherwise(claim, stored) => {
            format!("{}, sender's clock says {}", date(stored), date(claim))
        }
        Some(stored) => date(stored),
        None => format!("sender's clock says {}", date(claim)),
    }
}

/// The time of a sent message: `written` by this computer's clock, `stored_at` by the relay's when it left, both in
/// milliseconds since 1970; `None` if that is not known.
pub(super) fn sent(written: u64, stored_at: Option<u64>) -> String {
    match stored_at {
        Some(stored) if claims_otherwise(written, stored) => {
            let (stored, written) = (date(stored), date(written));
            format!("{stored}, written {written} by this computer's clock")
        }
        stored => date(stored.unwrap_or(written)),
    }
}

/// Whether the sender's clock differs so much from the relay's that its claim is shown.
pub(super) fn claims_otherwise(claim: u64, stored_at: u64) -> bool {
    claim.abs_diff(stored_at) > TOLERANCE_MS
}

/// A date in the user's zone; one that no working clock shows is not spelled out.
pub(super) fn date(ms: u64) -> String {
    if ms <= os::LAST_DATE_MS {
        os::local(ms)
    } else {
        "a date after the year 9999".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 09:05:13.
    const STORED: u64 = 1_795_251_913_000;

    #[test]
    fn the_relays_time_is_shown_and_a_claim_close_to_it_is_not() {
        for claim in [STORED, STORED - TOLERANCE_MS, STORED + TOLERANCE_MS] {
            assert_eq!(received(claim, Some(STORED)), date(STORED));
        }
    }

    #[test]
    fn a_claim_that_differs_is_shown_and_marked() {
        assert_eq!(
            received(STORED + TOLERANCE_MS + 1, Some(STORED)),
            format!(
                "{}, sender's clock says {}",
                date(STORED),
                date(STORED + TOLERANCE_MS + 1)
            )
        );
        assert_eq!(
            received(0, Some(STORED)),
            format!("{}, sender's clock says {}", date(STORED), date(0))
        );
    }

    #[test]
    fn a_date_that_no_clock_shows_is_not_printed() {
        for claim in [os::LAST_DATE_MS + 1, u64::MAX] {
            assert_eq!(
                received(claim, Some(STORED)),
                format!(
                    "{}, sender's clock says a date after the year 9999",
                    date(STORED)
                )
            );
        }
        assert!(date(os::LAST_DATE_MS).starts_with("9999-12-3"));
        assert_eq!(date(os::LAST_DATE_MS + 1), "a date after the year 9999");
    }

    #[test]
    fn a_sent_message_shows_when_it_left_and_when_it_was_written_if_that_differs() {
        let minute = 60 * 1000;
        assert_eq!(sent(STORED - minute, Some(STORED)), date(STORED));
        assert_eq!(sent(STORED, None), date(STORED));
        assert_eq!(
            sent(STORED - 10 * minute, Some(STORED)),
            format!(
                "{}, written {} by this computer's clock",
                date(STORED),
                date(STORED - 10 * minute)
            )
        );
    }

    #[test]
    fn without_the_relays_time_the_claim_is_called_one() {
        assert_eq!(
            received(STORED, None),
            format!("sender's clock says {}", date(STORED))
        );
    }
}
