//! How events and data are printed: for people, or as JSON with one object per line.
//!
//! Invariant: whatever a peer or a relay chose is escaped before it gets here or here; JSON escapes it once more.

use std::io::{self, Write as _};

use hostchat_core::wire::Address;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::notice::{notice_json, notice_text};
use super::prompt::{self, Codes};
use super::{requests, stamp};
use crate::agent::{Event, Observer, TypedCode, WaitingFor};
use crate::error::{Error, Result};
use crate::escape::{escape, escape_lines};
use crate::model::address::hex;
use crate::model::{Direction, Message, Sent, What};
use crate::os;
use crate::token::Notice;

/// Prints for one command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// As JSON.
    pub(super) json: bool,
}

impl Output {
    /// Prints data: `value` as JSON, else `text`, which is escaped already.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn data(self, value: &Value, text: &str) -> Result<()> {
        let line = if self.json {
            json_line(value)
        } else {
            text.to_owned()
        };
        line_out(&line).map_err(|why| Error::io("cannot write the output", why))
    }

    /// Prints an error with its hint.
    pub(super) fn error(self, error: &Error) {
        // Whoever reads our output has enough: the exit code says so.
        if matches!(error, Error::Io { why, .. } if why.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
        let (message, hint) = (error.to_string(), error.hint());
        let text = if self.json {
            json_line(
                &json!({"event": "error", "code": error.exit() as u8, "message": message, "hint": hint}),
            )
        } else {
            format!("error: {message}\nhint: {hint}")
        };
        // Nothing can be done where even this fails.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Prints what a token waits for; called on the token's thread.
    pub(super) fn notice(self, notice: Notice) {
        if notice == Notice::TouchNeeded {
            let text = "press the button of the token";
            let _ = if self.json {
                line_out(&json_line(
                    &json!({"event": "note", "kind": "touch_needed", "text": text}),
                ))
            } else {
                writeln!(io::stderr(), "{text} ...")
            };
        }
    }

    /// Prints a message of the history.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn history(self, message: &Message, name: &str) -> Result<()> {
        let incoming = message.direction == Direction::In;
        let value = json!({
            "event": "history",
            "id": message.id,
            "peer": message.peer.as_str(),
            "name": name,
            "direction": if incoming { "in" } else { "out" },
            "text": text_of(message),
            "unknown": message.what == What::Unknown,
            "sent_at": message.sent_at,
            "received_at": message.received_at,
            "stored_at": message.stored_at,
            "time": os::rfc3339(message.ordered_at()),
            "message_id": hex(&message.message_id.0),
            "verified": message.verified,
            "confirmed": message.sent.map(|sent| sent == Sent::Confirmed),
            "state": message.sent.and_then(sent_word),
        });
        let who = if incoming {
            format!("{name}:")
        } else {
            format!("to {name}:")
        };
        if message.what == What::Unknown {
            return self.data(&value, &unknown_line(message, name));
        }
        let text = escape_lines(&message.text);
        let state = message
            .sent
            .and_then(sent_word)
            .map_or_else(String::new, |word| format!(" ({word})"));
        self.data(&value, &format!("[{}] {who} {text}{state}", time(message)))
    }
}

impl Observer for Output {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        if self.json {
            return line_out(&json_line(&to_json(event)));
        }
        match event {
            Event::Message {
                message,
                name,
                maybe_repeat,
            } => line_out(&message_line(message, name, *maybe_repeat)),
            Event::Sent { .. } => line_out(&progress_line(event)),
            // The question says it.
            Event::CrossedCodes { asks: true, .. } => Ok(()),
            other => writeln!(io::stderr(), "{}", progress_line(other)),
        }
    }

    fn ask_code(&mut self, peer: &Address, types: bool) -> Option<TypedCode> {
        if self.json || !prompt::is_interactive() {
            return None;
        }
        let question = if types {
            format!(
                "{peer} has made a code too, and one is enough. Type the code of {peer} here (Enter to wait until {peer} types \
                 yours):\n"
            )
        } else {
            format!(
                "{peer} has made a code too, and one is enough. {peer} is told to type yours; you may type the code of {peer} \
                 here (Enter to wait):\n"
            )
        };
        let (typed, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _ = typed.send(Codes::Typed.next(&question).ok().flatten());
        });
        Some(answer)
    }
}

/// One line of one object; `\u` for everything that is not printable, so that a terminal cannot be driven by it.
fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(crate::escape::is_hostile) {
        return text;
    }
    // serde_json escapes only C0 controls; outside of strings nothing else can stand.
    text.chars()
        .fold(String::with_capacity(text.len() + 16), |mut out, c| {
            use std::fmt::Write as _;

            if crate::escape::is_hostile(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            } else {
                out.push(c);
            }
            out
        })
}

fn line_out(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// When a message was sent, and what speaks for that.
fn time(message: &Message) -> String {
    let stored = (message.stored_at > 0).then_some(message.stored_at);
    match message.direction {
        Direction::In => stamp::received(message.sent_at, stored),
        Direction::Out => stamp::sent(message.sent_at, stored),
    }
}

/// A received message. What the program says about it stands before the text, where no text can imitate it.
fn message_line(message: &Message, name: &str, maybe_repeat: bool) -> String {
    let mut about = Vec::new();
    if !message.verified {
        about.push("unverified".to_owned());
    }
    if message.missing > 0 {
        about.push(format!("{} before it missing", message.missing));
    }
    if maybe_repeat {
        about.push("may have been shown already".to_owned());
    }
    let about = if about.is_empty() {
        String::new()
    } else {
        format!(" ({})", about.join("; "))
    };
    if message.what == What::Unknown {
        return format!("{}{about}", unknown_line(message, name));
    }
    let text = escape_lines(&message.text);
    format!("[{}] {name}{about}: {text}", time(message))
}

/// A message that cannot be shown. Without a colon behind the name: no text makes such a line.
fn unknown_line(message: &Message, name: &str) -> String {
    format!("[{}] {name} {SENT_UNKNOWN}", time(message))
}

/// So much of a text tells which one it is, in characters.
const EXCERPT: usize = 60;
/// What a message that cannot be shown is called; its mark is the field `unknown`, since a text can say the same.
const SENT_UNKNOWN: &str = "sent a message of a kind that this version does not know";

fn text_of(message: &Message) -> &str {
    if message.what == What::Unknown {
        SENT_UNKNOWN
    } else {
        &message.text
    }
}

fn progress_line(event: &Event<'_>) -> String {
    match event {
        Event::Code { code, .. } => format!("code: {code}"),
        Event::Waiting { peer, what } => waiting_line(*peer, *what),
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
        Event::Request { request, changed } => requests::line(request, *changed),
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
        Event::Note { text, .. } | Event::Counted { text, .. } => format!("note: {text}"),
        Event::Message {
            message,
            name,
            maybe_repeat,
        } => message_line(message, name, *maybe_repeat),
        Event::Sent {
            peer,
            again,
            waited,
            ..
        } => {
            let again = if *again { " again" } else { "" };
            let which = waited.map(|text| format!(": {}", excerpt(text)));
            format!(
                "sent to {peer}{again}, not confirmed yet{}",
                which.unwrap_or_default()
            )
        }
        Event::Notice(notice) => format!("note: {}", notice_text(notice)),
    }
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
fn sent_word(sent: Sent) -> Option<&'static str> {
    match sent {
        Sent::Confirmed => None,
        Sent::Unconfirmed => Some("not confirmed"),
        Sent::Never => Some("never confirmed"),
    }
}

fn to_json(event: &Event<'_>) -> Value {
    match event {
        Event::Code {
            peer,
            code,
            seconds,
        } => {
            json!({"event": "code", "peer": peer.as_str(), "code": code, "seconds": seconds})
        }
        Event::Waiting { peer, what } => {
            let what = match what {
                WaitingFor::Code => "code",
                WaitingFor::Confirmation => "confirmation",
                WaitingFor::NextOffer => "next offer",
                WaitingFor::Request => "request",
            };
            json!({"event": "waiting", "peer": peer.map(Address::as_str), "for": what})
        }
        Event::WrongCode { peer, runs_left } => {
            json!({"event": "wrong_code", "peer": peer.as_str(), "runs_left": runs_left})
        }
        Event::Paired {
            peer,
            safety_number,
        } => {
            json!({"event": "paired", "peer": peer.as_str(), "verified": true, "safety_number": safety_number})
        }
        Event::Sent {
            peer,
            message_id,
            content,
            again,
            verified,
            ..
        } => json!({
            "event": "sent",
            "peer": peer.as_str(),
            "message_id": hex(&message_id.0),
            "content": hex(&content.0),
            "again": again,
            "verified": verified,
            "confirmed": false,
        }),
        Event::Queued { peer, why } => {
            json!({"event": "queued", "peer": peer.as_str(), "reason": why.to_string()})
        }
        Event::Message {
            message,
            name,
            maybe_repeat,
        } => json!({
            "event": "message",
            "id": message.id,
            "peer": message.peer.as_str(),
            "name": name,
            "text": text_of(message),
            "unknown": message.what == What::Unknown,
            "sent_at": message.sent_at,
            "received_at": message.received_at,
            "stored_at": message.stored_at,
            "time": os::rfc3339(message.ordered_at()),
            "message_id": hex(&message.message_id.0),
            "verified": message.verified,
            "missing": message.missing,
            "maybe_repeat": maybe_repeat,
        }),
        Event::Notice(notice) => notice_json(notice),
        Event::Request { request, changed } => requests::to_json(request, *changed),
        Event::CrossedCodes { peer, asks, types } => {
            json!({"event": "crossed_codes", "peer": peer.as_str(), "asks": asks, "types": types})
        }
        Event::PeerMustWait { peer, minutes } => {
            json!({"event": "peer_must_wait", "peer": peer.as_str(), "minutes": minutes})
        }
        Event::Counted { kind, text, count } => {
            json!({"event": "note", "kind": kind, "text": escape(text), "count": count})
        }
        Event::Note { kind, text } => json!({"event": "note", "kind": kind, "text": escape(text)}),
    }
}

#[cfg(test)]
mod tests {
    use hostchat_core::wire::Bytes;
    use zeroize::Zeroizing;

    use super::*;
    use crate::model::What;

    fn message(text: &str) -> Message {
        Message {
            id: 1,
            direction: Direction::In,
            peer: Address::parse("alice@h:1").unwrap(),
            message_id: Bytes([7; 16]),
            sent_at: 0,
            received_at: 0,
            stored_at: 0,
            missing: 0,
            verified: true,
            content: Bytes([8; 16]),
            number: 1,
            session: None,
            identity: None,
            what: What::Text,
            sent: None,
            text: Zeroizing::new(text.into()),
        }
    }

    #[test]
    fn no_text_reaches_the_terminal_raw() {
        let hostile: String = (0..0x3000)
            .filter_map(char::from_u32)
            .chain(['\u{feff}', '\u{e0041}'])
            .collect();
        let message = message(&hostile);
        let line = message_line(&message, "alice", false);
        assert!(
            !line
                .chars()
                .any(|c| c != '\n' && crate::escape::is_hostile(c))
        );
        let event = Event::Message {
            message: &message,
            name: "alice",
            maybe_repeat: false,
        };
        let line = json_line(&to_json(&event));
        assert!(!line.chars().any(crate::escape::is_hostile));
        let back: Result<Value, _> = serde_json::from_str(&line);
        assert!(back.is_ok_and(|v| v.get("text").and_then(Value::as_str) == Some(&hostile)));
    }

    #[test]
    fn a_message_says_what_is_uncertain_about_it() {
        let mut message = message("hi");
        assert_eq!(
            message_line(&message, "alice", false),
            "[sender's clock says 1970-01-01 00:00:00] alice: hi"
        );
        message.verified = false;
        message.missing = 2;
        assert_eq!(
            message_line(&message, "alice", true),
            "[sender's clock says 1970-01-01 00:00:00] alice (unverified; 2 before it missing; may have been shown already): hi"
        );
    }

    #[test]
    fn a_kind_that_is_not_known_is_marked_and_no_text_imitates_that() {
        let unknown = Message {
            what: What::Unknown,
            ..message("")
        };
        let line = message_line(&unknown, "alice", false);
        assert_eq!(
            line,
            "[sender's clock says 1970-01-01 00:00:00] alice sent a message of a kind that this version does not know"
        );
        let forged = message(SENT_UNKNOWN);
        assert_ne!(message_line(&forged, "alice", false), line);
        for (message, is_unknown) in [(&unknown, true), (&forged, false)] {
            let value = to_json(&Event::Message {
                message,
                name: "alice",
                maybe_repeat: false,
            });
            assert_eq!(value["unknown"], is_unknown);
            assert_eq!(value["text"], SENT_UNKNOWN);
        }
    }

    #[test]
    fn no_text_looks_like_what_the_program_says_about_it() {
        let marked = Message {
            missing: 2,
            verified: false,
            ..message("hi")
        };
        let marked = message_line(&marked, "alice", true);
        for text in [
            "hi (2 before it missing) (may have been shown already)",
            "(unverified; 2 before it missing; may have been shown already): hi",
            "hi\n[1970-01-01 00:00:00] alice: hi",
        ] {
            let line = message_line(&message(text), "alice", false);
            assert_ne!(line, marked);
            let (head, shown) = line.split_once(": ").unwrap();
            assert_eq!(head, "[sender's clock says 1970-01-01 00:00:00] alice");
            assert!(shown.lines().skip(1).all(|line| line.starts_with("    ")));
        }
    }
}
