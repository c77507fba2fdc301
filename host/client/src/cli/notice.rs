//! What the user has to be told once, in words and as JSON.

use hostchat_core::wire::Address;
use serde_json::{Value, json};

use crate::agent::counted;
use crate::error::goes_back;
use crate::model::Notice;
use crate::os;

/// One sentence for people.
pub(super) fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::KeysOld { since } => format!(
            "these keys are older than keys that were used: {}. Messages since then may be missing here; new sessions are begun with all contacts",
            goes_back(*since)
        ),
        Notice::HistoryOld { since: 0 } => {
            "this home has no history before now: what was shown before, and what waited in the outbox, is not here; the keys \
             are in order"
                .into()
        }
        Notice::HistoryOld { since } => format!(
            "the history goes back to {}: what was shown since then is missing here; the keys are in order",
            os::local(*since)
        ),
        Notice::Stopped { since } => format!(
            "stopped: a second copy of this home is in use, or the relay lies; {}",
            goes_back(*since)
        ),
        Notice::SessionsLost { count } => format!(
            "{} of the token had to be dropped because of damage; new ones are begun",
            counted(*count, "session", "sessions")
        ),
        Notice::LostFrom { peer, count } => format!(
            "{} from {peer} could not be opened, and {peer} has no copy any more",
            counted(*count, "message", "messages")
        ),
        Notice::LostTo { peer, count } => format!(
            "{} to {peer} could not be opened there, and no copy is left here",
            counted(*count, "message", "messages")
        ),
        Notice::UnknownTo { peer, count } => format!(
            "{} in the name of {peer} could not be opened, and {peer} does not know of {}. {peer} has restored a copy, or \
             somebody else has made {}",
            counted(*count, "message", "messages"),
            if *count == 1 { "it" } else { "them" },
            if *count == 1 { "it" } else { "them" },
        ),
        Notice::NeverConfirmed { peer, count } => format!(
            "{peer} has not confirmed {} within 45 days; `hostchat history` says which, if it is kept",
            counted(*count, "message", "messages")
        ),
        Notice::Missing { peer, count } => format!(
            "{} from {peer} {} missing here: not arrived yet, lost on the way and perhaps sent again, or shown before a copy of \
             this home was restored",
            counted(*count, "message", "messages"),
            if *count == 1 { "is" } else { "are" }
        ),
        Notice::RegisteredAgain => {
            "your relay had forgotten your account, which is registered there again. What lay there for you may be lost: \
             `recv` says what has not arrived"
                .into()
        }
        Notice::GoneFrom { peer, count } => {
            let one = *count == 1;
            format!(
                "{} from {peer} {} not here: this home was restored from a backup, or a copy of it has {}. Ask {peer} to repeat {}",
                counted(*count, "message", "messages"),
                if one { "is" } else { "are" },
                if one { "it" } else { "them" },
                if one { "it" } else { "them" },
            )
        }
    }
}

/// The same for programs.
pub(super) fn notice_json(notice: &Notice) -> Value {
    let (kind, peer, count, since) = match notice {
        Notice::KeysOld { since } => ("keys_old", None, None, Some(since)),
        Notice::HistoryOld { since } => ("history_old", None, None, Some(since)),
        Notice::Stopped { since } => ("stopped", None, None, Some(since)),
        Notice::SessionsLost { count } => ("sessions_lost", None, Some(u64::from(*count)), None),
        Notice::LostFrom { peer, count } => {
            ("lost_from", Some(peer), Some(u64::from(*count)), None)
        }
        Notice::LostTo { peer, count } => ("lost_to", Some(peer), Some(u64::from(*count)), None),
        Notice::UnknownTo { peer, count } => {
            ("unknown_to", Some(peer), Some(u64::from(*count)), None)
        }
        Notice::NeverConfirmed { peer, count } => {
            ("never_confirmed", Some(peer), Some(u64::from(*count)), None)
        }
        Notice::Missing { peer, count } => ("missing", Some(peer), Some(*count), None),
        Notice::RegisteredAgain => ("registered_again", None, None, None),
        Notice::GoneFrom { peer, count } => {
            ("gone_from", Some(peer), Some(u64::from(*count)), None)
        }
    };
    let text = notice_text(notice);
    json!({"event": "note", "kind": kind, "peer": peer.map(Address::as_str), "count": count, "since": since, "text": text})
}
