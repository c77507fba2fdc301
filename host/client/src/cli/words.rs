//! What the program says about what happens: every sentence about an event stands here.

use hostchat_core::wire::Address;

use super::stamp;
use crate::error::{Error, goes_back};
use crate::escape::{escape, escape_lines};
use crate::model::event::{MessageEvent, RequestEvent, RequestKind, WaitingFor};
use crate::model::{Event, Held, Names, Note, Sent, Stays, Useless};
use crate::os;

/// So much of a text tells which one it is, in characters.
const EXCERPT: usize = 60;
/// What a message that cannot be shown is called; its mark is the field `unknown`, since a text can say the same.
pub(super) const SENT_UNKNOWN: &str = "sent a message of a kind that this version does not know";

/// A note as one sentence.
pub(super) fn note(note: &Note) -> String {
    match note {
        Note::KeysOld { since } => format!(
            "these keys are older than keys that were used: {}. Messages since then may be missing here; new sessions are begun with all contacts",
            goes_back(*since)
        ),
        Note::HistoryOld { since: 0 } => {
            "this home has no history before now: what was shown before, and what waited in the outbox, is not here; the keys \
             are in order"
                .into()
        }
        Note::HistoryOld { since } => format!(
            "the history goes back to {}: what was shown since then is missing here; the keys are in order",
            os::local(*since)
        ),
        Note::Stopped { since } => format!(
            "stopped: a second copy of this home is in use, or the relay lies; {}",
            goes_back(*since)
        ),
        Note::SessionsLost { count } => format!(
            "{} of the token had to be dropped because of damage; new ones are begun",
            counted(*count, "session", "sessions")
        ),
        Note::LostFrom { peer, count } => format!(
            "{} from {peer} could not be opened, and {peer} has no copy any more",
            counted(*count, "message", "messages")
        ),
        Note::LostTo { peer, count } => format!(
            "{} to {peer} could not be opened there, and no copy is left here",
            counted(*count, "message", "messages")
        ),
        Note::UnknownTo { peer, count } => format!(
            "{} in the name of {peer} could not be opened, and {peer} does not know of {}. {peer} has restored a copy, or \
             somebody else has made {}",
            counted(*count, "message", "messages"),
            if *count == 1 { "it" } else { "them" },
            if *count == 1 { "it" } else { "them" },
        ),
        Note::NeverConfirmed { peer, count } => format!(
            "{peer} has not confirmed {} within 45 days; `hostchat history` says which, if it is kept",
            counted(*count, "message", "messages")
        ),
        Note::Missing { peer, count } => format!(
            "{} from {peer} {} missing here: not arrived yet, lost on the way and perhaps sent again, or shown before a copy of \
             this home was restored",
            counted(*count, "message", "messages"),
            if *count == 1 { "is" } else { "are" }
        ),
        Note::RegisteredAgain => {
            "your relay had forgotten your account, which is registered there again. What lay there for you may be lost: \
             `recv` says what has not arrived"
                .into()
        }
        Note::GoneFrom { peer, count } => {
            let one = *count == 1;
            format!(
                "{} from {peer} {} not here: this home was restored from a backup, or a copy of it has {}. Ask {peer} to repeat {}",
                counted(*count, "message", "messages"),
                if one { "is" } else { "are" },
                if one { "it" } else { "them" },
                if one { "it" } else { "them" },
            )
        }
        Note::Dropped { why, names, count } => format!(
            "dropped {} that your relay attributes to {}: {}",
            counted(*count, "message", "messages"),
            listed(names),
            useless(why)
        ),
        Note::Forged { names, count } => format!(
            "dropped {} in the name of {}: {} not come from there",
            counted(*count, "request", "requests"),
            listed(names),
            if *count == 1 { "it does" } else { "they do" }
        ),
        Note::Removed { count } => format!(
            "removed {} because too many are waiting; accept or decline some",
            counted(*count, "old request", "old requests")
        ),
        Note::Expired { count } => format!(
            "removed {} that you did not accept within 30 days",
            counted(*count, "first message", "first messages")
        ),
        Note::Strangers {
            names,
            asking,
            count,
        } => strangers(names, *asking, *count),
        Note::Changed { peer } => Error::IdentityChanged(peer.to_string()).to_string(),
        Note::ChangedBack { peer } => format!(
            "{} names the identity again that you know {peer} by: messages leave as before",
            peer.relay()
        ),
        Note::Held { peer, why } => format!("a first message of {peer} waits: {}", held(why)),
        Note::SessionEnded { peer } => {
            format!("{peer} has ended its sessions: it erased its keys, or replaced its token")
        }
        Note::AskedAgain { peer, count } => format!(
            "{} of {peer} cannot be opened: the key that {} written for is used up. {peer} is asked to send {} again",
            counted(*count, "first message", "first messages"),
            if *count == 1 { "it was" } else { "they were" },
            if *count == 1 { "it" } else { "them" }
        ),
        Note::BadAnswer { fault } => {
            format!("an answer that is none was passed over: {}", fault.message)
        }
        Note::CodeEnded { peer } => format!("{peer} has ended that code meanwhile"),
        Note::CrossedCodes { fault } => fault.message.clone(),
        Note::Token => "the token has an identity already: the account uses it".into(),
        Note::NoNewAccount { fault } => format!(
            "a new account would fail ({}): this goes on only if the token's identity has that account already",
            fault.message
        ),
        Note::Log { relay, days } => format!(
            "{relay} keeps for {days} days who wrote to whom, when, and how much; never what"
        ),
        Note::Wipe { fault } => format!(
            "could not take leave of contacts and relay: {}",
            fault.message
        ),
        Note::Broke { fault } | Note::Reconnecting { fault } => {
            format!("{}; trying again", fault.message)
        }
        Note::NotDrained { relay, minutes } => format!(
            "{relay} has not said for {minutes} minutes that your mailbox is empty: there may be more, run `hostchat recv` again"
        ),
        Note::Listening { relay } => format!("listening at {relay}; Ctrl-C ends it"),
        Note::Prekeys { fault } => format!("prekeys are not up to date: {}", fault.message),
        Note::Outbox { peer, why } => {
            let why = match why {
                Stays::NoSession => format!(
                    "there is no session yet. `hostchat send {peer}` without a text sends them; with --code print, after a code"
                ),
                Stays::WantsCode => format!(
                    "they were written to leave after a code. `hostchat send {peer} --code print` without a text makes one; \
                     --code none sends them without a code"
                ),
                Stays::Fault(fault) => fault.message.clone(),
            };
            format!("messages for {peer} stay in the outbox: {why}")
        }
        Note::Session { peer, fault } => {
            format!("no new session with {peer} yet: {}", fault.message)
        }
        Note::Permissions { path, mode, closed } => {
            let path = path.display();
            if *closed {
                format!("other users could open {path} (mode {mode:o}); it is closed to them now")
            } else {
                format!(
                    "other users can change {path} (mode {mode:o}): close it with `chmod go-w {path}`"
                )
            }
        }
        Note::Unplugged { fault } => format!("{}; plug it in again to go on", fault.message),
        Note::TouchNeeded => "press the button of the token".into(),
        Note::NothingNew { unopened: 0 } => "no new messages".into(),
        Note::NothingNew { unopened } => format!(
            "no new messages; {} could not be opened yet, and the senders are asked",
            counted(*unopened, "message or receipt", "messages or receipts")
        ),
    }
}

fn useless(why: &Useless) -> &str {
    match why {
        Useless::Undecodable => "cannot be decoded",
        Useless::Offer => "not a valid request to pair",
        Useless::First => "not a valid first message",
        Useless::OtherKeys => {
            "written for keys that your token does not have; it is sent again when you write there"
        }
        Useless::Held(why) => held(why),
        Useless::Refused(fault) => &fault.message,
    }
}

fn held(why: &Held) -> &str {
    match why {
        Held::MemoryFull => "the token's memory of first messages is full",
        Held::NoPlace => "the token has no place for another session",
        Held::Changed => "the identity of its sender has changed",
        Held::Fault(fault) => &fault.message,
    }
}

fn strangers(names: &Names, asking: bool, count: u64) -> String {
    let them = names.names.first().filter(|_| names.names.len() == 1);
    let them = them.map_or("NAME", Address::as_str);
    let advice = if asking {
        let they = if count == 1 {
            "it belongs to a session"
        } else {
            "they belong to sessions"
        };
        format!(
            "{they} that these keys do not have. `hostchat accept {them}` asks for what has not arrived"
        )
    } else {
        format!(
            "you have no such contact here. If you know who that is, write to them (`hostchat send {them}`): what has not arrived is then sent again"
        )
    };
    format!(
        "{} that your relay attributes to {} could not be opened: {advice}",
        counted(count, "message or receipt", "messages or receipts"),
        listed(names)
    )
}

/// A number with its noun.
pub(super) fn counted(count: impl Into<u64>, one: &str, many: &str) -> String {
    let count = count.into();
    let noun = if count == 1 { one } else { many };
    format!("{count} {noun}")
}

/// Names that a sentence lists; of others it says how many.
const NAMES_SHOWN: usize = 3;

fn list(names: &[Address]) -> String {
    let names: Vec<&str> = names.iter().map(Address::as_str).collect();
    names.join(", ")
}

/// Names, as they stand in a sentence.
pub(super) fn named(names: &[Address]) -> String {
    match names {
        [] => "nobody".into(),
        [one] => one.to_string(),
        [first @ .., last] if names.len() <= NAMES_SHOWN => format!("{} and {last}", list(first)),
        _ => {
            let (shown, others) = names.split_at(NAMES_SHOWN);
            let other = if others.len() == 1 { "other" } else { "others" };
            format!("{} and {} {other}", list(shown), others.len())
        }
    }
}

/// Names of which there may be more than were counted.
fn listed(names: &Names) -> String {
    if !names.more {
        return named(&names.names);
    }
    let shown = names.names.get(..NAMES_SHOWN).unwrap_or_default();
    let others = names.names.len() - shown.len();
    format!("{} and more than {others} others", list(shown))
}

/// What is told of an event, in one or more lines.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::Code { code, .. } => format!("code: {}", code.as_str()),
        Event::Waiting { peer, what } => waiting_line(peer.as_ref(), *what),
        Event::WrongCode { peer, runs_left: 0 } => {
            format!("wrong code for {peer}, or somebody is in between: this code is dead")
        }
        Event::WrongCode { peer, runs_left } => {
            format!(
                "wrong code for {peer}, or somebody is in between; {runs_left} left of three tries"
            )
        }
        Event::Paired { peer, .. } => format!("paired with {peer}: verified by code"),
        // The error says why.
        Event::Queued { peer, .. } => format!("the message for {peer} stays in the outbox"),
        Event::Request(request) => request_line(request),
        Event::CrossedCodes {
            peer, types: true, ..
        } => format!(
            "{peer} has made a code too, and one is enough: type the code of {peer}. Press Ctrl-C and run \
             `hostchat accept {peer}`. Your message stays in the outbox and leaves after that"
        ),
        Event::CrossedCodes { peer, .. } => format!(
            "{peer} has made a code too, and one is enough: {peer} is told to type yours. Let this command wait, and do not \
             type the code of {peer}"
        ),
        Event::PeerMustWait { peer, minutes } => format!(
            "{peer} has typed too many codes and cannot type yours for about {minutes} minutes. If your code expires before \
             that, make a new one later: your message stays in the outbox"
        ),
        Event::Note(Note::TouchNeeded) => format!("{} ...", note(&Note::TouchNeeded)),
        Event::Note(of) => format!("note: {}", note(of)),
        Event::Message(message) => message_line(message),
        Event::Sent {
            peer,
            again,
            waited,
            ..
        } => {
            let again = if *again { " again" } else { "" };
            let which = waited.as_ref().map(|text| format!(": {}", excerpt(text)));
            format!(
                "sent to {peer}{again}, not confirmed yet{}",
                which.unwrap_or_default()
            )
        }
    }
}

/// A request as it is told when it comes.
pub(super) fn request_line(request: &RequestEvent) -> String {
    let what = match request.kind {
        RequestKind::Code => "asks to pair with a code",
        RequestKind::First => "writes for the first time, without a code",
    };
    let mut notes = String::new();
    if request.changed {
        notes.push_str("; its identity is another one than before");
    }
    if !request.checked {
        notes.push_str("; not checked with its relay yet");
    }
    let from = &request.peer;
    format!("{from} {what}{notes}: `hostchat accept {from}`")
}

/// A received message. What the program says about it stands before the text, where no text can imitate it.
fn message_line(message: &MessageEvent) -> String {
    let name = &message.name;
    let mut about = Vec::new();
    if !message.verified {
        about.push("unverified".to_owned());
    }
    if message.missing > 0 {
        about.push(format!("{} before it missing", message.missing));
    }
    if message.maybe_repeat {
        about.push("may have been shown already".to_owned());
    }
    let about = if about.is_empty() {
        String::new()
    } else {
        format!(" ({})", about.join("; "))
    };
    let stored = (message.stored_at > 0).then_some(message.stored_at);
    let time = stamp::received(message.sent_at, stored);
    if message.unknown {
        return format!("{}{about}", unknown_line(&time, name));
    }
    let text = escape_lines(&message.text);
    format!("[{time}] {name}{about}: {text}")
}

/// A message that cannot be shown. Without a colon behind the name: no text makes such a line.
pub(super) fn unknown_line(time: &str, name: &str) -> String {
    format!("[{time}] {name} {SENT_UNKNOWN}")
}

/// The beginning of a text, in one line.
fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let begin: String = chars.by_ref().take(EXCERPT).collect();
    let more = if chars.next().is_some() { "..." } else { "" };
    format!("{}{more}", escape(&begin))
}

fn waiting_line(peer: Option<&Address>, what: WaitingFor) -> String {
    let who = peer.map_or_else(|| "somebody".to_owned(), Address::to_string);
    match what {
        WaitingFor::Code => {
            format!(
                "give the code to {who} by SMS or aloud; waiting until it is typed (10 minutes; Ctrl-C keeps the message) ..."
            )
        }
        WaitingFor::Confirmation => {
            format!(
                "waiting for the confirmation of {who} (until the code expires; Ctrl-C ends it) ..."
            )
        }
        WaitingFor::NextOffer => format!("waiting until {who} offers the next try ..."),
        WaitingFor::Request => format!("waiting until {who} asks ..."),
    }
}

/// What `history` says of a sent message that is not confirmed.
pub(super) fn sent(sent: Sent) -> Option<&'static str> {
    match sent {
        Sent::Confirmed => None,
        Sent::Unconfirmed => Some("not confirmed"),
        Sent::Never => Some("never confirmed"),
    }
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::Bytes;
    use zeroize::Zeroizing;

    use super::*;

    fn names(of: &[&str]) -> Names {
        Names {
            names: of.iter().map(|n| Address::parse(n).unwrap()).collect(),
            more: false,
        }
    }

    #[test]
    fn a_count_is_a_sentence() {
        let dropped = |of: &[&str], count| {
            let why = Useless::Undecodable;
            note(&Note::Dropped {
                why,
                names: names(of),
                count,
            })
        };
        assert_eq!(
            dropped(&["m@h:1"], 1),
            "dropped 1 message that your relay attributes to m@h:1: cannot be decoded"
        );
        assert_eq!(
            dropped(&["m@h:1", "n@h:1"], 300),
            "dropped 300 messages that your relay attributes to m@h:1 and n@h:1: cannot be decoded"
        );
        let forged = |count| {
            note(&Note::Forged {
                names: names(&["carol@h:1"]),
                count,
            })
        };
        assert_eq!(
            forged(1),
            "dropped 1 request in the name of carol@h:1: it does not come from there"
        );
        assert_eq!(
            forged(12),
            "dropped 12 requests in the name of carol@h:1: they do not come from there"
        );
        assert_eq!(
            note(&Note::Removed { count: 2 }),
            "removed 2 old requests because too many are waiting; accept or decline some"
        );
        let strangers = |asking, count| {
            note(&Note::Strangers {
                names: names(&["m@h:1"]),
                asking,
                count,
            })
        };
        assert_eq!(
            strangers(false, 1),
            "1 message or receipt that your relay attributes to m@h:1 could not be opened: you have no such contact here. If you know who that is, write to them (`hostchat send m@h:1`): what has not arrived is then sent again"
        );
        assert_eq!(
            strangers(true, 2),
            "2 messages or receipts that your relay attributes to m@h:1 could not be opened: they belong to sessions that these keys do not have. `hostchat accept m@h:1` asks for what has not arrived"
        );
        assert_eq!(
            note(&Note::Expired { count: 1 }),
            "removed 1 first message that you did not accept within 30 days"
        );
    }

    #[test]
    fn a_sentence_names_a_few_and_counts_the_others() {
        let all = ["a@h:1", "b@h:1", "c@h:1", "d@h:1", "e@h:1"];
        let first = |n: usize| listed(&names(all.get(..n).unwrap()));
        assert_eq!(first(1), "a@h:1");
        assert_eq!(first(2), "a@h:1 and b@h:1");
        assert_eq!(first(3), "a@h:1, b@h:1 and c@h:1");
        assert_eq!(first(4), "a@h:1, b@h:1, c@h:1 and 1 other");
        assert_eq!(first(5), "a@h:1, b@h:1, c@h:1 and 2 others");
        let many = Names {
            more: true,
            ..names(&["a@h:1"; 16])
        };
        assert_eq!(listed(&many), "a@h:1, a@h:1, a@h:1 and more than 13 others");
    }

    fn message(text: &str) -> MessageEvent {
        MessageEvent {
            id: 1,
            peer: Address::parse("alice@h:1").unwrap(),
            name: "alice".into(),
            text: Zeroizing::new(text.into()),
            unknown: false,
            sent_at: 0,
            received_at: 0,
            stored_at: 0,
            message_id: Bytes([7; 16]),
            verified: true,
            missing: 0,
            maybe_repeat: false,
        }
    }

    #[test]
    fn no_text_reaches_the_terminal_raw() {
        let hostile: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain(['\u{feff}', '\u{e0041}'])
            .collect();
        let line = message_line(&message(&hostile));
        assert!(
            !line
                .chars()
                .any(|c| c != '\n' && crate::escape::is_hostile(c))
        );
    }

    #[test]
    fn a_message_says_what_is_uncertain_about_it() {
        let mut message = message("hi");
        assert_eq!(
            message_line(&message),
            "[sender's clock says 1970-01-01 00:00:00] alice: hi"
        );
        message.verified = false;
        message.missing = 2;
        message.maybe_repeat = true;
        assert_eq!(
            message_line(&message),
            "[sender's clock says 1970-01-01 00:00:00] alice (unverified; 2 before it missing; may have been shown already): hi"
        );
    }

    #[test]
    fn a_kind_that_is_not_known_is_marked_and_no_text_imitates_that() {
        let unknown = MessageEvent {
            unknown: true,
            ..message("")
        };
        let line = message_line(&unknown);
        assert_eq!(
            line,
            "[sender's clock says 1970-01-01 00:00:00] alice sent a message of a kind that this version does not know"
        );
        assert_ne!(message_line(&message(SENT_UNKNOWN)), line);
    }

    #[test]
    fn no_text_looks_like_what_the_program_says_about_it() {
        let marked = MessageEvent {
            missing: 2,
            verified: false,
            maybe_repeat: true,
            ..message("hi")
        };
        let marked = message_line(&marked);
        for text in [
            "hi (2 before it missing) (may have been shown already)",
            "(unverified; 2 before it missing; may have been shown already): hi",
            "hi\n[1970-01-01 00:00:00] alice: hi",
        ] {
            let line = message_line(&message(text));
            assert_ne!(line, marked);
            let (head, shown) = line.split_once(": ").unwrap();
            assert_eq!(head, "[sender's clock says 1970-01-01 00:00:00] alice");
            assert!(shown.lines().skip(1).all(|line| line.starts_with("    ")));
        }
    }

    #[test]
    fn what_was_not_checked_is_told_so() {
        let request = |kind, checked, changed| RequestEvent {
            peer: Address::parse("carol@h:1").unwrap(),
            kind,
            changed,
            checked,
            fingerprint: String::new(),
            received_at: 0,
            stored_at: 0,
        };
        assert_eq!(
            request_line(&request(RequestKind::Code, true, false)),
            "carol@h:1 asks to pair with a code: `hostchat accept carol@h:1`"
        );
        assert_eq!(
            request_line(&request(RequestKind::First, false, true)),
            "carol@h:1 writes for the first time, without a code; its identity is another one than before; \
             not checked with its relay yet: `hostchat accept carol@h:1`"
        );
    }
}
